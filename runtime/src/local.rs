#![forbid(unsafe_code)]
//! Values that every green thread has its own of.
//!
//! std's `thread_local!` is per OS thread: the green threads of one capability share it. [`local!`](crate::local) is
//! per green thread.
//!
//! ```
//! use std::cell::Cell;
//! bast::local! { static DEPTH: Cell<u32> = Cell::new(0); }
//!
//! bast::run(|| {
//!     DEPTH.with(|depth| depth.set(3));
//!     let other = bast::spawn(|| DEPTH.with(Cell::get)).join().unwrap();
//!     assert_eq!((other, DEPTH.with(Cell::get)), (0, 3));
//! });
//! ```

use crate::scheduler::current;
use crate::thread::locals::Locals;
use std::fmt;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static NEXT_KEY: AtomicUsize = AtomicUsize::new(0);

/// The key of a value that every green thread has its own of; made by [`local!`](crate::local).
pub struct LocalKey<T: 'static> {
    key: OnceLock<usize>,
    init: fn() -> T,
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> LocalKey<T> {
        LocalKey { key: OnceLock::new(), init }
    }

    /// Calls `f` with the calling thread's value, which is made when it is first asked for and dropped on the
    /// thread's own stack when the thread ends. On a plain OS thread the value is the OS thread's.
    ///
    /// # Panics
    /// If the initialiser blocks: half-initialised values must not be seen by the thread's neighbours.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        let key = *self.key.get_or_init(|| NEXT_KEY.fetch_add(1, Ordering::Relaxed));
        let value = with_locals(|locals| locals.get(key)).unwrap_or_else(|| {
            let value: Rc<T> = Rc::new(crate::no_park(self.init));
            drop(with_locals(|locals| locals.set(key, Rc::clone(&value) as _)));
            value
        });
        f(value.downcast_ref().expect("a key has one type"))
    }
}

/// Borrows the calling thread's values, for less than a park.
fn with_locals<R>(f: impl FnOnce(&mut Locals) -> R) -> R {
    current::with_extra(|extra| f(&mut extra.locals))
}

impl<T> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

/// Declares values that every green thread has its own of, in the manner of `thread_local!`. See [`LocalKey`].
#[macro_export]
macro_rules! local {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $init:expr);+ $(;)?) => {
        $($(#[$attribute])* $visibility static $name: $crate::LocalKey<$type> = $crate::LocalKey::new(|| $init);)+
    };
}
