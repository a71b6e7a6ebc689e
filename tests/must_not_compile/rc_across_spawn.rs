//! A value that is not Send does not go into a thread that another capability may start.
use std::rc::Rc;

fn main() {
    bast::run(|| {
        let shared = Rc::new(1);
        bast::spawn(move || *shared);
    });
}
