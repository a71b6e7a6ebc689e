//! What may hold a borrowed result does not leave its scope.
fn main() {
    bast::run(|| {
        let text = String::from("borrowed");
        let handle = bast::scope(|scope| scope.spawn(|| text.as_str()));
        drop(text);
        drop(handle.join());
    });
}
