#![forbid(unsafe_code)]
//! The rule by which no wake is lost: the flag of a capability that sleeps.
//!
//! ```text
//!   waker                               sleeper
//!   push the work                       sleeping = true        (announce)
//!   fence(SeqCst)                       fence(SeqCst)
//!   sleeping seen? ── yes: eventfd      look for work again ── found: retract, go on
//!                                       none: epoll_wait       (the eventfd is in the set)
//! ```
//! Of the two fences one is first in the single total order of SeqCst fences. If it is the waker's, the sleeper's
//! second look sees the work; if it is the sleeper's, the waker sees the flag and writes the eventfd. Either is
//! enough. Both may happen: a wake for nothing, which costs one turn of the loop.
//!
//! The waker that finds the flag set takes it down, so that a burst of wakes writes the eventfd once (a write costs
//! 7–8 µs when it has to start the other core). The model in `tests/tests/model.rs` runs this file under loom.

use super::atomic::{AtomicBool, Ordering, fence};

#[derive(Debug)]
pub(crate) struct SleepFlag {
    sleeping: AtomicBool,
}

impl SleepFlag {
    pub(crate) fn new() -> SleepFlag {
        SleepFlag { sleeping: AtomicBool::new(false) }
    }

    /// The sleeper's first step. It must look for work once more before it waits.
    pub(crate) fn announce(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The sleeper is awake, for whatever reason. SeqCst for the tick's sake (see `tick.rs`).
    pub(crate) fn retract(&self) {
        self.sleeping.swap(false, Ordering::SeqCst);
    }

    /// The waker's last step, after it published the work. True: the caller must write the eventfd.
    #[must_use]
    pub(crate) fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed)
            && self.sleeping.compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// A guess, for statistics and for choosing whom to wake.
    pub(crate) fn looks_asleep(&self) -> bool {
        self.sleeping.load(Ordering::SeqCst)
    }
}
