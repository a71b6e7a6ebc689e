#![forbid(unsafe_code)]
//! What a select can wait for: the operations of this module's objects, cut into the steps that a select needs.
//!
//! ```text
//!   poll ── true ──────────────────────────────────────────▶ output
//!     │ false                                                  ▲
//!     └─▶ prepare ─▶ enter (in the commit of the park) ─▶ leave ┘ true: this arm was served
//! ```
//! An operation is done by a thread that runs, upon one that is parked: a select does its own in `poll`, when its token
//! is in no queue, and what others do to it while it waits is won first ([`Control::claim`]). `enter` only looks: if
//! there is something to do, the select is not parked, and polls again.
//!
//! [`Control::claim`]: crate::thread::Control::claim

use super::wait_cell::{Guard, Place, WaitCell};
use crate::thread::Token;

/// One of the things that a select waits for. What it has not done has had no effect.
pub(crate) trait Arm {
    /// What the operation gives.
    type Output;

    /// Does the operation if that is possible now.
    fn poll(&mut self) -> bool;

    /// Gets what `enter` will need: that may not allocate, fail or wait.
    fn prepare(&mut self);

    /// Puts the token where those who make the operation possible find it. False: it is possible already.
    fn enter(&mut self, token: Token) -> bool;

    /// Takes the token away again. Whether the operation was done with it.
    fn leave(&mut self) -> bool;

    /// Of an operation that was done.
    fn output(self) -> Self::Output;
}

/// An operation on an object that is made of a wait cell.
pub(super) struct CellArm<'a, S, T, const QUEUES: usize, How: Operation<S, T, QUEUES>> {
    cell: &'a WaitCell<S, T, QUEUES>,
    slot: Option<T>,
    place: Option<Place<'a, S, T, QUEUES>>,
    how: How,
}

/// Which operation.
pub(super) trait Operation<S, T, const QUEUES: usize> {
    type Output;

    /// Where it waits; `None`: it never will be possible.
    fn queue(&self) -> Option<usize>;

    /// Does it, if that is possible now.
    fn attempt(&mut self, guard: &mut Guard<'_, S, T, QUEUES>, slot: &mut Option<T>) -> bool;

    /// After an attempt that failed, without the lock: whether another may succeed.
    fn again(&mut self) -> bool {
        false
    }

    /// Whether it may be possible, apart from what the thread of `token` does itself in another arm.
    fn is_ready(&self, guard: &Guard<'_, S, T, QUEUES>, token: Token) -> bool;

    /// Of what the operation left in the slot.
    fn output(&mut self, slot: Option<T>) -> Self::Output;

    /// What is in the slot is not wanted there.
    fn give_back(&mut self, left: T);
}

impl<'a, S, T, const QUEUES: usize, How: Operation<S, T, QUEUES>> CellArm<'a, S, T, QUEUES, How> {
    /// `slot`: what the operation offers.
    pub(super) fn new(
        cell: &'a WaitCell<S, T, QUEUES>,
        slot: Option<T>,
        how: How,
    ) -> CellArm<'a, S, T, QUEUES, How> {
        CellArm { cell, slot, place: None, how }
    }
}

impl<S, T, const QUEUES: usize, How: Operation<S, T, QUEUES>> Arm for CellArm<'_, S, T, QUEUES, How> {
    type Output = How::Output;

    fn poll(&mut self) -> bool {
        loop {
            let done = self.how.attempt(&mut self.cell.lock(), &mut self.slot);
            if done || !self.how.again() {
                return done;
            }
        }
    }

    fn prepare(&mut self) {
        let queue = self.how.queue();
        self.place = queue.map(|queue| Place::new(self.cell, queue, self.slot.take()));
    }

    fn enter(&mut self, token: Token) -> bool {
        let Some(place) = &mut self.place else { return true };
        place.enter(token, |guard| self.how.is_ready(guard, token))
    }

    fn leave(&mut self) -> bool {
        let Some(mut place) = self.place.take() else { return false };
        let served = place.leave();
        self.slot = place.take();
        served
    }

    fn output(mut self) -> How::Output {
        let slot = self.slot.take();
        self.how.output(slot)
    }
}

impl<S, T, const QUEUES: usize, How: Operation<S, T, QUEUES>> Drop for CellArm<'_, S, T, QUEUES, How> {
    fn drop(&mut self) {
        self.leave();
        if let Some(left) = self.slot.take() {
            self.how.give_back(left);
        }
    }
}
