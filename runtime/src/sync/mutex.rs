//! The mutex: a value that one thread at a time may use. How the lock works is said in `raw_mutex.rs`; here is only
//! the cell with the value.

use super::raw_mutex::RawMutex;
use crate::scheduler::park;
use crate::time::deadline_after;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// A value that one thread at a time may use, as in std; but only the green thread that waits for it is parked.
///
/// A guard may be held across anything that blocks, on the same capability too: that is what std's mutex must not be
/// used for in green threads. It works between green threads, of one capability or several, and plain OS threads.
///
/// There is no poisoning: a thread that panics or is killed with the guard gives the lock up as its destructors run.
/// Locking a mutex that the same thread has is a deadlock, as is a longer cycle of threads and mutexes: it is reported
/// ([`bast::deadlock`](crate::deadlock)), and a kill ends it.
///
/// # Fairness
/// Newcomers may get a free lock before those who wait for it, which keeps it busy while a waiter is being woken. A
/// thread that has waited for 1 ms gets it next, first come, first served.
///
/// # Cancellation
/// [`lock`](Mutex::lock) is interruptible. A thread that got the lock has it: it is not killed before its next blocking
/// call. Unlocking is never interruptible, and locking works in destructors that run while a killed thread unwinds.
///
/// ```
/// use bast::sync::Mutex;
/// use std::sync::Arc;
///
/// bast::run(|| {
///     let total = Arc::new(Mutex::new(0));
///     let threads: Vec<_> = (1..=10)
///         .map(|n| {
///             let total = Arc::clone(&total);
///             bast::spawn(move || {
///                 let mut total = total.lock();
///                 bast::yield_now(); // the others wait for the lock, not for the core
///                 *total += n;
///             })
///         })
///         .collect();
///     for thread in threads {
///         thread.join().unwrap();
///     }
///     assert_eq!(*total.lock(), 55);
/// });
/// ```
///
/// A guard stays with its thread:
/// ```compile_fail,E0277
/// let mutex = bast::sync::Mutex::new(0);
/// let guard = mutex.lock();
/// std::thread::scope(|s| { s.spawn(move || drop(guard)); });
/// ```
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives the value to one thread at a time, which may be another than that which made it (`T: Send`).
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A mutex that nobody has.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { raw: RawMutex::new(), value: UnsafeCell::new(value) }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until nobody has the mutex; the caller has it as long as the guard lives.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.raw.lock();
        MutexGuard { mutex: self, not_send: PhantomData }
    }

    /// As [`lock`](Mutex::lock), for `limit` at the most; `None` after that.
    pub fn lock_timeout(&self, limit: Duration) -> Option<MutexGuard<'_, T>> {
        // Not `then_some`: see below.
        let deadline_ns = deadline_after(limit);
        self.raw.lock_until(Some(deadline_ns)).then(|| MutexGuard { mutex: self, not_send: PhantomData })
    }

    /// The guard, if nobody has the mutex. Interruptible, though it never waits: so that a loop of tries can be killed
    /// and lets the holder run.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        park::interruption_point();
        self.lock_if_free()
    }

    fn lock_if_free(&self) -> Option<MutexGuard<'_, T>> {
        // Not `then_some`: a guard that is made in vain would unlock.
        self.raw.try_lock().then(|| MutexGuard { mutex: self, not_send: PhantomData })
    }

    /// The value, of a mutex that nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Whether somebody has the mutex; out of date as soon as it is known.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut mutex = f.debug_struct("Mutex");
        match self.lock_if_free() {
            Some(guard) => mutex.field("value", &&*guard),
            None => mutex.field("value", &format_args!("<locked>")),
        };
        mutex.finish()
    }
}

/// The right to use what is in a [`Mutex`]; dropping it gives it up.
#[must_use = "a guard that is dropped at once protects nothing"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// It stays with its thread.
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives out shared borrows of the value (`T: Sync`), and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a guard exists only while its thread has the lock (`lock` and `try_lock` make it after getting it,
        // `drop` alone gives it up), and the lock is one thread's at a time; the guard's borrow is the value's.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed mutably.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
