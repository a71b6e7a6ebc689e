#![forbid(unsafe_code)]
//! The condition variable. A waiter gives its mutex up in the commit of its park, when it is in the queue already: so
//! a notification that is sent after the mutex is free finds it.

use super::mutex::{Mutex, MutexGuard};
use super::wait_cell::{Wait, WaitCell};
use crate::scheduler::park;
use crate::thread::Woken;
use crate::thread::block::BlockedOn;
use crate::time::deadline_after;
use std::fmt;
use std::mem;
use std::time::Duration;

const QUEUE: usize = 0;

/// A condition that threads wait for, as in std: the condition itself is a value in a [`Mutex`].
///
/// Wakes may be spurious; and others may have the mutex before a thread that was notified, so it must look again:
/// [`wait_while`](Condvar::wait_while) does. Any mutex may be used with any condition variable.
///
/// # Fairness
/// Notifications go to those who have waited longest; who then gets the mutex first is the mutex's affair.
///
/// # Cancellation
/// Waiting is interruptible. A killed waiter unwinds *without* the mutex: the guard was given to `wait`, and is gone.
/// A notification is never spent on a thread that was killed before it came; and if the thread is killed after it was
/// notified, while it waits for the mutex, it passes the notification on to the next.
///
/// ```
/// use bast::sync::{Condvar, Mutex};
/// use std::sync::Arc;
///
/// bast::run(|| {
///     let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
///     let consumer = bast::spawn({
///         let shared = Arc::clone(&shared);
///         move || {
///             let (jobs, filled) = &*shared;
///             filled.wait_while(jobs.lock(), |jobs| jobs.is_empty()).pop()
///         }
///     });
///     let (jobs, filled) = &*shared;
///     jobs.lock().push("sweep");
///     filled.notify_one();
///     assert_eq!(consumer.join().unwrap(), Some("sweep"));
/// });
/// ```
pub struct Condvar {
    waiters: WaitCell<(), (), 1>,
}

/// Whether a wait with a limit ended because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the limit was reached before a notification came.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition variable that nobody waits for.
    pub const fn new() -> Condvar {
        Condvar { waiters: WaitCell::new(()) }
    }

    /// Gives the mutex up and waits for a notification, in one step; then takes the mutex again.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_until(guard, None).0
    }

    /// Waits as long as `condition` holds.
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        while condition(&mut guard) {
            guard = self.wait(guard);
        }
        guard
    }

    /// As [`wait`](Condvar::wait), for `limit` at the most. Then it takes the mutex again, however long that takes.
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> (MutexGuard<'a, T>, WaitTimeoutResult) {
        self.wait_until(guard, Some(deadline_after(limit)))
    }

    /// As [`wait_while`](Condvar::wait_while), for `limit` at the most. The result says whether the condition still
    /// held at the end.
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> (MutexGuard<'a, T>, WaitTimeoutResult) {
        let deadline_ns = deadline_after(limit);
        let mut timed_out = WaitTimeoutResult(false);
        while condition(&mut guard) {
            if timed_out.0 {
                return (guard, timed_out);
            }
            (guard, timed_out) = self.wait_until(guard, Some(deadline_ns));
        }
        (guard, WaitTimeoutResult(false))
    }

    /// Wakes the thread that has waited longest, if any waits. Never interruptible.
    pub fn notify_one(&self) {
        park::switch_point();
        self.notify_first();
    }

    fn notify_first(&self) {
        let mut waiters = self.waiters.lock();
        if let Some(first) = waiters.claim(QUEUE) {
            waiters.ready(first);
        }
    }

    /// Wakes all who wait. Never interruptible.
    pub fn notify_all(&self) {
        park::switch_point();
        let mut waiters = self.waiters.lock();
        while let Some(first) = waiters.claim(QUEUE) {
            waiters.ready(first);
        }
    }

    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline_ns: Option<u64>,
    ) -> (MutexGuard<'a, T>, WaitTimeoutResult) {
        let mutex: &'a Mutex<T> = guard.mutex();
        let wait = Wait { queue: QUEUE, at_front: false, reason: BlockedOn::Condvar, deadline_ns };
        let mut guard = Some(guard);
        let woken = self.waiters.park(wait, &mut None, |_, _| false, || drop(guard.take())).or_unwind();
        // Not `then_some`: one that is made in vain would notify.
        let notified = (woken == Woken::Event).then(|| Notified(self));
        let guard = mutex.lock();
        mem::forget(notified);
        (guard, WaitTimeoutResult(woken == Woken::Timer))
    }
}

/// A notification that was received and not yet acted upon: if the receiver unwinds it goes to the next.
struct Notified<'a>(&'a Condvar);

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        self.0.notify_first();
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
