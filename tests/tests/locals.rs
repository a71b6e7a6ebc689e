//! Values that every green thread has its own of.
#![forbid(unsafe_code)]

use bast_tests::on_capabilities;
use std::cell::Cell;

/// Makes the value again when it is dropped, for ever.
struct Undying(Cell<u32>);

bast::local! { static UNDYING: Undying = Undying(Cell::new(0)); }

impl Drop for Undying {
    fn drop(&mut self) {
        UNDYING.with(|undying| undying.0.set(7));
    }
}

#[test]
fn a_value_that_cannot_be_got_rid_of_is_not_left_to_the_next_thread() {
    let seen = on_capabilities(1, || {
        // Enough threads one after the other that a control block serves a second one.
        (0..100).map(|_| bast::spawn(|| UNDYING.with(|undying| undying.0.get())).join().unwrap()).max()
    });
    assert_eq!(seen, Some(0));
}
