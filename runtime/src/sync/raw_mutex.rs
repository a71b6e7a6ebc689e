#![forbid(unsafe_code)]
//! The lock word and the queue of a [`Mutex`](super::Mutex), without what it protects.
//!
//! ```text
//!    bit 0      LOCKED    somebody has the lock
//!    bit 1      WAITERS   somebody is (or was) in the queue: an unlock must look
//!    bit 2      AWAKE     a waiter was woken to try its luck and has not tried yet: an unlock need not wake another
//!    bits 8-31  the index of the thread that locked it; 0 where that is unknown, and while LOCKED is 0
//! ```
//! The owner is for `deadlock/waits.rs`: a thread that is about to wait looks whether the owner waits for it.
//!
//! Locking a free mutex is one compare-and-swap, and so is unlocking one that nobody waits for. Newcomers may *barge*
//! in before a waiter that was woken: on the same capability they already run, and across capabilities the lock is
//! not left idle for the 22 µs that it takes to wake a core (Go's `sync.Mutex` does the same, for the same reason). A
//! waiter that loses goes back to the *front* of the queue. Once the first waiter has waited for [`STARVING_NS`] the
//! unlock hands the lock over to it: LOCKED stays set, so that nobody can barge in.
//!
//! # Who may change the word
//! - LOCKED from 0 to 1: anybody, by compare-and-swap.
//! - WAITERS to 1, AWAKE to 0: under the queue's lock, by compare-and-swap (the holder may unlock meanwhile).
//! - All else: the holder; while AWAKE is 0 and the holder has the queue's lock nobody but it can change anything.
//!
//! # No lost wake
//! A waiter that was woken clears AWAKE in the same step in which it gets the lock or sees that somebody else has it
//! (and sets WAITERS). So whoever unlocks next looks at the queue. Between being woken and that step it cannot unwind:
//! kills are delivered when it parks again, which is after.

use super::wait_cell::{Wait, WaitCell};
use crate::deadlock::{self, waits};
use crate::scheduler::{current, park};
use crate::sys::clock;
use crate::thread::block::BlockedOn;
use crate::thread::{Woken, table};
use std::sync::atomic::{AtomicU32, Ordering};

const LOCKED: u32 = 1 << 0;
const WAITERS: u32 = 1 << 1;
const AWAKE: u32 = 1 << 2;
const FLAGS: u32 = (1 << waits::OWNER_SHIFT) - 1;

/// How long the first waiter loses to newcomers at the most: 1 ms, as in Go. Long against a wake, short for people.
const STARVING_NS: u64 = 1_000_000;

const QUEUE: usize = 0;

/// What the thread with this index adds to the word when it gets the lock.
#[inline]
fn locked_by(index: u32) -> u32 {
    LOCKED | index << waits::OWNER_SHIFT
}

pub(super) struct RawMutex {
    word: AtomicU32,
    waiters: WaitCell<(), Turn, 1>,
}

/// What a waiter tells who unlocks, and is told.
#[derive(Clone, Copy)]
enum Turn {
    /// It waits since then.
    Since(u64),
    /// It has the lock.
    Yours,
}

impl RawMutex {
    pub(super) const fn new() -> RawMutex {
        RawMutex { word: AtomicU32::new(0), waiters: WaitCell::new(()) }
    }

    /// Waits for the lock. Interruptible on entry and while it waits; once it has the lock it returns.
    #[inline]
    pub(super) fn lock(&self) {
        let locked = self.lock_until(None);
        debug_assert!(locked, "a wait without a deadline is served");
    }

    /// The same until a deadline on the monotonic clock; whether the lock was had.
    #[inline]
    pub(super) fn lock_until(&self, deadline_ns: Option<u64>) -> bool {
        let locked = locked_by(park::interruption_point_and_index());
        self.word.compare_exchange(0, locked, Ordering::Acquire, Ordering::Relaxed).is_ok()
            || self.lock_contended(locked, deadline_ns)
    }

    #[inline]
    pub(super) fn try_lock(&self) -> bool {
        let locked = locked_by(current::index());
        let free = |word| (word & LOCKED == 0).then_some(word | locked);
        self.word.fetch_update(Ordering::Acquire, Ordering::Relaxed, free).is_ok()
    }

    pub(super) fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) & LOCKED != 0
    }

    #[cold]
    fn lock_contended(&self, locked: u32, deadline_ns: Option<u64>) -> bool {
        let since = Turn::Since(clock::monotonic_ns());
        let mut woken = 0;
        let mut reported = false;
        loop {
            let wait = Wait { queue: QUEUE, at_front: woken != 0, reason: BlockedOn::Mutex, deadline_ns };
            let mut slot = Some(since);
            let mut has = false;
            // The word may be attempted twice: AWAKE is this thread's to clear only once.
            let mut attempt = || {
                has = self.lock_or_mark(woken, locked);
                woken = 0;
                has
            };
            let guard = self.waiters.lock();
            if attempt() {
                return true;
            }
            drop(guard);
            let mut cycle = None;
            let end = self.waiters.park(
                wait,
                &mut slot,
                |_, _| attempt(),
                || {
                    // A wait that ends by itself is no part of a deadlock.
                    if deadline_ns.is_none() {
                        cycle = self.look_for_cycle(locked >> waits::OWNER_SHIFT, &mut reported);
                    }
                },
            );
            waits::leave();
            if has || matches!(slot, Some(Turn::Yours)) {
                return true;
            }
            if let Some(cycle) = cycle {
                panic!("{cycle}");
            }
            match end.or_unwind() {
                Woken::Event => woken = AWAKE,
                Woken::Timer => return false,
                // An exception that may not be raised now is no reason not to wait.
                Woken::Interrupt => {}
            }
        }
    }

    /// In the commit of the calling thread's park: looks whether it closes a cycle of waits, and reports that once. If
    /// the thread is to panic it is woken, and what is returned is what to say.
    #[cold]
    fn look_for_cycle(&self, index: u32, reported: &mut bool) -> Option<String> {
        let waiter = table::control(index)?;
        // Whoever claimed the park by now has ended the wait.
        let token = waiter.word().parked_token()?;
        let cycle = waits::enter(waiter, token, &self.word)?;
        if std::mem::replace(reported, true) {
            return None;
        }
        let text = deadlock::report_cycle(&cycle)?;
        if deadlock::panics_on_cycle() && !waiter.notice().is_unwinding() {
            park::withdraw(token).then_some(text)
        } else {
            None
        }
    }

    /// Under the queue's lock: takes the lock, or says that there are waiters. Clears `woken` in either case.
    fn lock_or_mark(&self, woken: u32, locked: u32) -> bool {
        let mark = |word| Some((word & !woken) | if word & LOCKED == 0 { locked } else { WAITERS });
        let before = self.word.fetch_update(Ordering::Acquire, Ordering::Relaxed, mark);
        before.is_ok_and(|word| word & LOCKED == 0)
    }

    /// Gives the lock up. Never a point where a thread is switched or killed.
    #[inline]
    pub(super) fn unlock(&self) {
        // Not by the caller's index: a condition variable unlocks on the scheduler's stack.
        let alone = self.word.load(Ordering::Relaxed) & !(WAITERS | AWAKE);
        if self.word.compare_exchange(alone, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_contended();
        }
    }

    #[cold]
    fn unlock_contended(&self) {
        let somebody_is_awake = |word| (word & AWAKE != 0).then_some(word & FLAGS & !LOCKED);
        if self.word.fetch_update(Ordering::Release, Ordering::Relaxed, somebody_is_awake).is_ok() {
            return;
        }
        let mut queue = self.waiters.lock();
        let Some(mut first) = queue.claim(QUEUE) else {
            self.word.store(0, Ordering::Release);
            return;
        };
        let more = if queue.has_waiters(QUEUE) { WAITERS } else { 0 };
        let starves = matches!(*first.slot(), Some(Turn::Since(since_ns))
            if clock::monotonic_ns().saturating_sub(since_ns) > STARVING_NS);
        if starves {
            *first.slot() = Some(Turn::Yours);
            self.word.store(locked_by(first.index()) | more, Ordering::Release);
        } else {
            self.word.store(AWAKE | more, Ordering::Release);
        }
        queue.ready(first);
    }
}
