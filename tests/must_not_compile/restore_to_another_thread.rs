//! A masking state is restored by the thread whose it is.
fn main() {
    bast::run(|| {
        bast::mask(|restore| {
            bast::scope(|scope| {
                scope.spawn(|| restore.run(|| ()));
            });
        });
    });
}
