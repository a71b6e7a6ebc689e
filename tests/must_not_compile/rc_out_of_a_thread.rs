//! Nor does it come out of one.
use std::rc::Rc;

fn main() {
    bast::run(|| drop(bast::spawn(|| Rc::new(1)).join()));
}
