#![forbid(unsafe_code)]
//! Masking: where exceptions from outside must not be raised.
//!
//! A thread can be interrupted from outside: it is killed, something is thrown to it, a [`timeout`](crate::timeout())
//! around it expires, the [`scope`](crate::scope()) that it waits in is cancelled. Code that must not be cut in the
//! middle runs masked, as in GHC (`Control.Exception`; S. Marlow et al., *Asynchronous Exceptions in Haskell*, 2001).
//! Most code needs none of this: destructors run in an unwind, and nothing is raised in them.
//!
//! ```
//! use bast::sync::MVar;
//! use std::sync::Arc;
//!
//! bast::run(|| {
//!     let (begun, done) = (Arc::new(MVar::empty()), Arc::new(MVar::empty()));
//!     let worker = bast::spawn({
//!         let (begun, done) = (Arc::clone(&begun), Arc::clone(&done));
//!         move || {
//!             bast::mask(|restore| {
//!                 begun.put(());
//!                 bast::yield_now(); // it is killed meanwhile, and does not notice
//!                 done.put("the two steps belong together");
//!                 restore.run(|| bast::sleep(std::time::Duration::from_secs(3600)));
//!             });
//!         }
//!     });
//!     begun.take();
//!     worker.thread().kill();
//!     assert!(worker.join().unwrap_err().is_killed());
//!     assert_eq!(done.take(), "the two steps belong together");
//! });
//! ```

use crate::scheduler::{exception, park};
pub use crate::thread::exception::MaskingState;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;

/// Runs `body` with exceptions from outside deferred, except where it has to wait.
///
/// A thread that is masked receives exceptions only in operations that really block: so a loop over a lock that is
/// free is not interrupted, and a wait for ever still is. What was deferred is raised when the outermost `mask` ends,
/// or at once in [`Restore::run`]. Threads that are spawned inside start in the same masking state. On a plain OS
/// thread, which receives no exceptions, it only calls `body`.
pub fn mask<R>(body: impl FnOnce(&Restore) -> R) -> R {
    let outer = exception::masking_state();
    let restore = Restore { outer, of_one_thread: PhantomData };
    exception::with_masking_state(outer.max(MaskingState::MaskedInterruptible), || body(&restore))
}

/// Runs `body` with exceptions from outside deferred, even where it has to wait.
///
/// A thread that waits for ever in here cannot be killed: for waits that are known to be short, and for code that must
/// not be unwound at all, such as callbacks from foreign code (an unwind through `extern "C"` ends the process).
pub fn uninterruptible<R>(body: impl FnOnce() -> R) -> R {
    exception::with_masking_state(MaskingState::MaskedUninterruptible, body)
}

/// The calling thread's masking state.
pub fn masking_state() -> MaskingState {
    exception::masking_state()
}

/// Raises what is pending in a thread that is masked, but not uninterruptible: a place at which a long masked
/// computation may be cut. GHC's `allowInterrupt`.
pub fn allow_interrupt() {
    if masking_state() != MaskingState::MaskedUninterruptible {
        exception::with_masking_state(MaskingState::Unmasked, || ());
    }
}

/// The masking state from before a [`mask`].
pub struct Restore {
    outer: MaskingState,
    /// The state is that of the thread that called `mask`.
    of_one_thread: PhantomData<*const ()>,
}

impl Restore {
    /// Runs `body` in the state from before the [`mask`], which in a nested one is not unmasked. What is pending is
    /// raised first if that state receives it.
    pub fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        exception::with_masking_state(self.outer, body)
    }
}

impl fmt::Debug for Restore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restore").field("outer", &self.outer).finish_non_exhaustive()
    }
}

/// Runs `body`; if it unwinds, runs `handler`, masked, with the payload.
///
/// So the handler is not itself interrupted half-way. A kill that it catches, and a timeout or a cancellation of a
/// scope further out, are raised again afterwards: they cannot be swallowed. What was thrown by
/// [`throw_to`](crate::throw_to) is consumed.
///
/// ```
/// use bast::sync::MVar;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// bast::run(|| {
///     let begun = Arc::new(MVar::empty());
///     let worker = bast::spawn({
///         let begun = Arc::clone(&begun);
///         move || {
///             bast::catch(
///                 || {
///                     begun.put(());
///                     bast::sleep(Duration::from_secs(3600));
///                     "nobody woke me"
///                 },
///                 |payload| payload.downcast_ref::<&str>().unwrap_or(&"a panic"),
///             )
///         }
///     });
///     begun.take();
///     bast::throw_to(&worker.thread(), "enough");
///     assert_eq!(worker.join().unwrap(), "enough");
/// });
/// ```
pub fn catch<R>(body: impl FnOnce() -> R, handler: impl FnOnce(Box<dyn Any + Send>) -> R) -> R {
    mask(|restore| match park::catch_unwind(AssertUnwindSafe(|| restore.run(body))) {
        Ok(value) => value,
        Err(payload) => handler(payload),
    })
}

/// Acquires something, uses it, and releases it, however the use ends. GHC's `bracket`.
///
/// `acquire` and `release` run masked: once acquired it is released exactly once. For what a destructor cannot do well:
/// a release that waits. (A destructor that runs in an unwind cannot be interrupted, and its io does not wait.)
///
/// # Panics
/// Unwinds as `use_it` did, after the release.
pub fn bracket<A, R>(
    acquire: impl FnOnce() -> A,
    use_it: impl FnOnce(&mut A) -> R,
    release: impl FnOnce(A),
) -> R {
    mask(|restore| {
        let mut acquired = acquire();
        let result = park::catch_unwind(AssertUnwindSafe(|| restore.run(|| use_it(&mut acquired))));
        release(acquired);
        result.unwrap_or_else(|payload| park::resume_unwind(payload))
    })
}
