//! References for how connections come under the watch of the timeouts: lists that all OS threads share (FEATURES W65).
//!
//! A sweeper of its own OS thread takes a list, looks at the members and puts back those that stay. Here is only what a
//! connection does: it comes, and it leaves.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A list under a lock.
#[derive(Debug)]
pub struct Locked {
    members: Mutex<Vec<Arc<AtomicUsize>>>,
    /// One connection of each OS thread, and where it is in the list.
    places: Vec<Arc<AtomicUsize>>,
}

impl Locked {
    /// An empty list for so many OS threads.
    #[must_use]
    pub fn new(threads: usize) -> Locked {
        Locked { members: Mutex::default(), places: (0..threads).map(|_| Arc::default()).collect() }
    }

    /// The connection of OS thread `who` comes to the end of the list, and leaves from where it is: the last member takes its place.
    ///
    /// # Panics
    /// Where a member is not where it says.
    pub fn come_and_go(&self, who: usize) {
        let place = &self.places[who];
        {
            let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
            place.store(members.len(), Ordering::Relaxed);
            members.push(Arc::clone(place));
        }
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let index = place.load(Ordering::Relaxed);
        let removed = members.swap_remove(index);
        assert!(Arc::ptr_eq(&removed, place), "registry: a member is not where it says");
        if let Some(moved) = members.get(index) {
            moved.store(index, Ordering::Relaxed);
        }
    }
}

/// Nobody, in [`Swapped`].
const NOBODY: usize = usize::MAX;
/// A sweeper takes the list when so many have come.
const BATCH: usize = 1024;

/// A list that is extended by compare-and-swap, and taken whole. Who leaves only says so; the sweeper drops it.
#[derive(Debug)]
pub struct Swapped {
    head: AtomicUsize,
    /// Of each OS thread `BATCH` members, used in turn: who comes before this one, and whether it has left.
    members: Vec<(AtomicUsize, AtomicBool)>,
    next: Vec<AtomicUsize>,
}

impl Swapped {
    /// An empty list for so many OS threads.
    #[must_use]
    pub fn new(threads: usize) -> Swapped {
        Swapped {
            head: AtomicUsize::new(NOBODY),
            members: (0..threads * BATCH)
                .map(|_| (AtomicUsize::new(NOBODY), AtomicBool::new(false)))
                .collect(),
            next: (0..threads).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    /// A connection of OS thread `who` comes, and says that it leaves.
    pub fn come_and_go(&self, who: usize) {
        // One writer: the counter is that OS thread's own.
        let turn = self.next[who].load(Ordering::Relaxed);
        self.next[who].store(turn + 1, Ordering::Relaxed);
        let own = who * BATCH + turn % BATCH;
        let (before, has_left) = &self.members[own];
        has_left.store(false, Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            before.store(head, Ordering::Relaxed);
            // Release: who takes the list sees what came before.
            match self.head.compare_exchange_weak(head, own, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        has_left.store(true, Ordering::Release);
        if turn % BATCH == BATCH - 1 {
            self.head.swap(NOBODY, Ordering::Acquire);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_come_and_gone_is_not_in_the_locked_list() {
        let locked = Locked::new(1);
        (0..10).for_each(|_| locked.come_and_go(0));
        assert!(locked.members.lock().unwrap().is_empty());
    }

    #[test]
    fn the_swapped_list_holds_who_came_since_it_was_taken() {
        let swapped = Swapped::new(1);
        (0..BATCH + 3).for_each(|_| swapped.come_and_go(0));
        let mut head = swapped.head.load(Ordering::Relaxed);
        let mut count = 0;
        while head != NOBODY {
            assert!(swapped.members[head].1.load(Ordering::Relaxed));
            head = swapped.members[head].0.load(Ordering::Relaxed);
            count += 1;
        }
        assert_eq!(count, 3);
    }
}
