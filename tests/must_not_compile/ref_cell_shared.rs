//! What only one OS thread may touch is not shared with threads of others.
use std::cell::RefCell;

fn main() {
    bast::run(|| {
        let cell = RefCell::new(1);
        bast::scope(|scope| {
            scope.spawn(|| *cell.borrow_mut() += 1);
        });
    });
}
