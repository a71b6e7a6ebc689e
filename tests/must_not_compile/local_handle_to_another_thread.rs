//! The result of a thread that stays here, if it is not Send, is taken here.
use std::rc::Rc;

fn main() {
    bast::run(|| {
        let handle = bast::spawn_local(|| Rc::new(1));
        bast::spawn(move || drop(handle.join()));
    });
}
