//! A thread that nobody waits for borrows nothing.
fn main() {
    bast::run(|| {
        let text = String::from("borrowed");
        bast::spawn(|| text.len());
    });
}
