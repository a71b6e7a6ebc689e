//! A lock is given back where it was taken.
use bast::sync::Mutex;

fn main() {
    bast::run(|| {
        let mutex = Mutex::new(1);
        let guard = mutex.lock();
        bast::scope(|scope| {
            scope.spawn(move || drop(guard));
        });
    });
}
