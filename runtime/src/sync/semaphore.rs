#![forbid(unsafe_code)]
//! The semaphore: permits, and one queue of threads, each with the number that it wants in its slot.
//!
//! What holds whenever the short lock is free: the first of those who wait wants more permits than there are. (One that
//! was killed or timed out a moment ago does not count: it lets those behind it in as it goes.)

use super::wait_cell::{self, Wait, WaitCell, Waited};
use crate::scheduler::park;
use crate::thread::block::BlockedOn;
use crate::time::deadline_after;
use std::fmt;
use std::mem;
use std::time::Duration;

const QUEUE: usize = 0;

/// A number of permits: who wants some waits until there are as many.
///
/// # Fairness
/// Strictly first come, first served: one that wants many is not overtaken by others that want few.
///
/// # Cancellation
/// Acquiring is interruptible; giving permits back never is. A killed waiter got none, and who waited behind it moves
/// up. The permits of a killed holder come back as its [`Permit`]s are dropped.
///
/// ```
/// use bast::sync::Semaphore;
///
/// let two_at_a_time = Semaphore::new(2);
/// let first = two_at_a_time.acquire();
/// let second = two_at_a_time.acquire();
/// assert!(two_at_a_time.try_acquire().is_none());
/// drop(first);
/// assert_eq!(two_at_a_time.available_permits(), 1);
/// # drop(second);
/// ```
pub struct Semaphore {
    cell: WaitCell<usize, usize, 1>,
}

type Guard<'a> = wait_cell::Guard<'a, usize, usize, 1>;

impl Semaphore {
    /// A semaphore with so many permits.
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore { cell: WaitCell::new(permits) }
    }

    /// Waits for one permit; it comes back when it is dropped.
    pub fn acquire(&self) -> Permit<'_> {
        self.acquire_many(1)
    }

    /// Waits for `count` permits at once. None are held while it waits for the rest.
    pub fn acquire_many(&self, count: usize) -> Permit<'_> {
        let served = self.wait(count, None);
        assert!(served, "a wait without a deadline is served");
        Permit { semaphore: self, count }
    }

    /// As [`acquire`](Semaphore::acquire), for `limit` at the most; `None` after that.
    pub fn acquire_timeout(&self, limit: Duration) -> Option<Permit<'_>> {
        self.acquire_many_timeout(1, limit)
    }

    /// As [`acquire_many`](Semaphore::acquire_many), for `limit` at the most; `None` after that.
    pub fn acquire_many_timeout(&self, count: usize, limit: Duration) -> Option<Permit<'_>> {
        self.wait(count, Some(deadline_after(limit))).then(|| Permit { semaphore: self, count })
    }

    /// One permit, if there is one and nobody waits.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.try_acquire_many(1)
    }

    /// `count` permits, if there are as many and nobody waits.
    pub fn try_acquire_many(&self, count: usize) -> Option<Permit<'_>> {
        park::interruption_point();
        acquire_now(&mut self.cell.lock(), count).then(|| Permit { semaphore: self, count })
    }

    /// Adds permits, as if that many were given back.
    ///
    /// # Panics
    /// If there would be more than `usize::MAX`.
    pub fn add_permits(&self, count: usize) {
        let mut permits = self.cell.lock();
        let Some(sum) = permits.checked_add(count) else {
            drop(permits);
            panic!("a semaphore cannot have that many permits");
        };
        *permits = sum;
        serve(&mut permits);
    }

    /// Takes up to `count` permits away for good, as many as there are now, and returns how many those were.
    pub fn forget_permits(&self, count: usize) -> usize {
        let mut permits = self.cell.lock();
        let forgotten = count.min(*permits);
        *permits -= forgotten;
        forgotten
    }

    /// How many permits there are now; out of date as soon as it is known.
    pub fn available_permits(&self) -> usize {
        *self.cell.lock()
    }

    fn wait(&self, count: usize, deadline_ns: Option<u64>) -> bool {
        park::interruption_point();
        let wait = Wait { queue: QUEUE, at_front: false, reason: BlockedOn::Semaphore, deadline_ns };
        let in_vain = InVain(self);
        let waited = self.cell.wait(wait, &mut Some(count), |permits, _| acquire_now(permits, count));
        if waited == Waited::Served {
            mem::forget(in_vain);
        }
        waited == Waited::Served
    }
}

/// A waiter that stopped waiting: there may be enough for who was behind it.
struct InVain<'a>(&'a Semaphore);

impl Drop for InVain<'_> {
    fn drop(&mut self) {
        serve(&mut self.0.cell.lock());
    }
}

fn acquire_now(permits: &mut Guard<'_>, count: usize) -> bool {
    let enough = **permits >= count && !permits.has_waiters(QUEUE);
    if enough {
        **permits -= count;
    }
    enough
}

/// Gives permits to those who wait, in turn, as far as they go.
fn serve(permits: &mut Guard<'_>) {
    loop {
        let there = **permits;
        let Some(mut next) = permits.claim_if(QUEUE, |wanted| wanted.is_some_and(|wanted| wanted <= there))
        else {
            return;
        };
        **permits -= next.slot().expect("semaphore: a waiter says how many it wants");
        permits.ready(next);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("permits", &self.available_permits()).finish()
    }
}

/// Permits of a [`Semaphore`], which come back when this is dropped. It may go to another thread.
#[must_use = "a permit that is dropped at once permits nothing"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    count: usize,
}

impl Permit<'_> {
    /// How many permits these are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Keeps the permits from coming back.
    pub fn forget(self) {
        mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.add_permits(self.count);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("count", &self.count).finish_non_exhaustive()
    }
}
