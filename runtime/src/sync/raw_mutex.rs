#![forbid(unsafe_code)]
//! The lock word and the queue of a [`Mutex`](super::Mutex), without what it protects.
//!
//! ```text
//!    bit 0 LOCKED    somebody has the lock
//!    bit 1 WAITERS   somebody is (or was) in the queue: an unlock must look
//!    bit 2 AWAKE     a waiter was woken to try its luck and has not tried yet: an unlock need not wake another
//! ```
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

use super::wait_cell::{Wait, WaitCell, Waited};
use crate::scheduler::park;
use crate::sys::clock;
use crate::thread::block::BlockedOn;
use std::sync::atomic::{AtomicU32, Ordering};

const LOCKED: u32 = 1 << 0;
const WAITERS: u32 = 1 << 1;
const AWAKE: u32 = 1 << 2;

/// How long the first waiter loses to newcomers at the most: 1 ms, as in Go. Long against a wake, short for people.
const STARVING_NS: u64 = 1_000_000;

const QUEUE: usize = 0;

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
        park::interruption_point();
        self.word.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
            || self.lock_contended(deadline_ns)
    }

    #[inline]
    pub(super) fn try_lock(&self) -> bool {
        let free = |word| (word & LOCKED == 0).then_some(word | LOCKED);
        self.word.fetch_update(Ordering::Acquire, Ordering::Relaxed, free).is_ok()
    }

    pub(super) fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) & LOCKED != 0
    }

    #[cold]
    fn lock_contended(&self, deadline_ns: Option<u64>) -> bool {
        let since = Turn::Since(clock::monotonic_ns());
        let mut woken = 0;
        loop {
            let wait = Wait { queue: QUEUE, at_front: woken != 0, reason: BlockedOn::Mutex, deadline_ns };
            let mut slot = Some(since);
            let mut locked = false;
            // The word may be attempted twice: AWAKE is this thread's to clear only once.
            let waited = self.waiters.wait(wait, &mut slot, |_, _| {
                locked = self.lock_or_mark(woken);
                woken = 0;
                locked
            });
            if locked || matches!(slot, Some(Turn::Yours)) {
                return true;
            }
            if waited == Waited::TimedOut {
                return false;
            }
            woken = AWAKE;
        }
    }

    /// Under the queue's lock: takes the lock, or says that there are waiters. Clears `woken` in either case.
    fn lock_or_mark(&self, woken: u32) -> bool {
        let mark = |word| Some((word & !woken) | if word & LOCKED == 0 { LOCKED } else { WAITERS });
        let before = self.word.fetch_update(Ordering::Acquire, Ordering::Relaxed, mark);
        before.is_ok_and(|word| word & LOCKED == 0)
    }

    /// Gives the lock up. Never a point where a thread is switched or killed.
    #[inline]
    pub(super) fn unlock(&self) {
        if self.word.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_contended();
        }
    }

    #[cold]
    fn unlock_contended(&self) {
        let somebody_is_awake = |word| (word & AWAKE != 0).then_some(word & !LOCKED);
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
            self.word.store(LOCKED | more, Ordering::Release);
        } else {
            self.word.store(AWAKE | more, Ordering::Release);
        }
        queue.ready(first);
    }
}
