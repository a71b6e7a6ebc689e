//! A thread of a scope does not borrow from the scope's body, which ends before it.
fn main() {
    bast::run(|| {
        bast::scope(|scope| {
            let text = String::from("too short a life");
            scope.spawn(|| text.len());
        });
    });
}
