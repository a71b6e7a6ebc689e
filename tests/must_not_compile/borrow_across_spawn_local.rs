//! Not even on the same capability.
fn main() {
    bast::run(|| {
        let text = String::from("borrowed");
        bast::spawn_local(|| text.len());
    });
}
