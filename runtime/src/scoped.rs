#![forbid(unsafe_code)]
//! Values that a thread sees for as long as a call lasts, and so do the threads that it spawns meanwhile.
//!
//! For what many layers need and few pass on: a request's id, a tenant, a tracing span. In the manner of Java's
//! `ScopedValue` (JEP 506).
//!
//! ```
//! use bast::ScopedValue;
//!
//! static REQUEST: ScopedValue<String> = ScopedValue::new();
//!
//! bast::run(|| {
//!     REQUEST.bind("r-17".to_owned(), || {
//!         let child = bast::spawn(|| REQUEST.get().unwrap().to_string());
//!         assert_eq!(child.join().unwrap(), "r-17");
//!     });
//!     assert!(REQUEST.get().is_none());
//! });
//! ```

use crate::scheduler::current;
use crate::thread::scoped::Bindings;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

static NEXT_KEY: AtomicUsize = AtomicUsize::new(0);

/// A name under which values are bound; usually a `static`. See the [module](self).
pub struct ScopedValue<T> {
    key: OnceLock<usize>,
    value: PhantomData<fn() -> T>,
}

impl<T: Send + Sync + 'static> ScopedValue<T> {
    /// A name that nothing is bound to.
    pub const fn new() -> ScopedValue<T> {
        ScopedValue { key: OnceLock::new(), value: PhantomData }
    }

    /// Binds `value` for the calling thread while `body` runs, and for the threads that are spawned meanwhile for their
    /// whole lives. An inner binding hides an outer one.
    pub fn bind<R>(&'static self, value: T, body: impl FnOnce() -> R) -> R {
        struct PutBack(Option<Bindings>);
        impl Drop for PutBack {
            fn drop(&mut self) {
                let outer = self.0.take().unwrap_or_default();
                // What was bound is dropped outside of the borrow: its destructor is the user's.
                drop(current::with_extra(|extra| std::mem::replace(&mut extra.scoped, outer)));
            }
        }
        let value = Arc::new(value);
        let outer = current::with_extra(|extra| {
            let inner = extra.scoped.bind(self.key(), value);
            std::mem::replace(&mut extra.scoped, inner)
        });
        let _put_back = PutBack(Some(outer));
        body()
    }

    /// The value that is bound here.
    pub fn get(&'static self) -> Option<Arc<T>> {
        let value = current::scoped()?.get(self.key())?;
        Some(value.downcast().expect("a key has one type"))
    }

    fn key(&self) -> usize {
        *self.key.get_or_init(|| NEXT_KEY.fetch_add(1, Ordering::Relaxed))
    }
}

impl<T: Send + Sync + 'static> Default for ScopedValue<T> {
    fn default() -> ScopedValue<T> {
        ScopedValue::new()
    }
}

impl<T> fmt::Debug for ScopedValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedValue").finish_non_exhaustive()
    }
}
