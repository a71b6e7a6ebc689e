#![forbid(unsafe_code)]
//! A channel for one item: an answer, the end of something.
//!
//! ```
//! use bast::sync::oneshot;
//!
//! bast::run(|| {
//!     let (tx, rx) = oneshot::channel();
//!     bast::spawn(move || tx.send(6 * 7)); // never waits
//!     assert_eq!(rx.recv(), Ok(42));
//! });
//! ```

use super::arm::{Arm, CellArm, Operation};
use super::wait_cell::{self, Wait, WaitCell, Waited};
use crate::scheduler::park;
use crate::thread::Token;
use crate::thread::block::BlockedOn;
use crate::time::deadline_after;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use super::channel::{RecvError, RecvTimeoutError, SendError, TryRecvError};

const RECEIVER: usize = 0;

/// A channel for one item. Both ends work in green threads and on plain OS threads.
///
/// # Cancellation
/// Receiving is interruptible. What was sent and not received is dropped with the receiver; if the sender is dropped, as
/// by a kill of its thread, the receiver gets an error.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state = State { item: None, sender: true, receiver: true };
    let cell = Arc::new(WaitCell::new(state));
    (Sender { cell: Arc::clone(&cell) }, Receiver { cell })
}

struct State<T> {
    item: Option<T>,
    /// Whether the ends live.
    sender: bool,
    receiver: bool,
}

type Cell<T> = WaitCell<State<T>, T, 1>;
type Guard<'a, T> = wait_cell::Guard<'a, State<T>, T, 1>;

/// Moves the item into the slot, if it is there. True as well if it never will be.
fn receive_now<T>(state: &mut Guard<'_, T>, slot: &mut Option<T>) -> bool {
    *slot = state.item.take();
    slot.is_some() || !state.sender
}

/// The sending end of a [`channel`].
pub struct Sender<T> {
    cell: Arc<Cell<T>>,
}

impl<T> Sender<T> {
    /// Sends the item. Never waits; not interruptible.
    ///
    /// # Errors
    /// The item, if the receiver is gone. That it was sent is no promise that it will be received.
    pub fn send(self, item: T) -> Result<(), SendError<T>> {
        let mut state = self.cell.lock();
        if !state.receiver {
            drop(state);
            return Err(SendError(item));
        }
        match state.claim(RECEIVER) {
            Some(mut receiver) => {
                *receiver.slot() = Some(item);
                state.ready(receiver);
            }
            None => state.item = Some(item),
        }
        Ok(())
    }

    /// Whether the receiver is gone: nobody wants the item any more.
    pub fn is_closed(&self) -> bool {
        !self.cell.lock().receiver
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.cell.lock();
        state.sender = false;
        // Several may wait at one receiver that they share, each with a limit or in a select.
        while let Some(receiver) = state.claim(RECEIVER) {
            state.ready(receiver);
        }
    }
}

/// The receiving end of a [`channel`].
pub struct Receiver<T> {
    cell: Arc<Cell<T>>,
}

impl<T> Receiver<T> {
    /// Waits for the item.
    ///
    /// # Errors
    /// The sender is gone without having sent it.
    pub fn recv(self) -> Result<T, RecvError> {
        self.receive(None).0.ok_or(RecvError)
    }

    /// As [`recv`](Receiver::recv), for `limit` at the most.
    ///
    /// # Errors
    /// As `recv`, or the item was not there for so long. It is an error, too, if the item was received already.
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
        let (item, waited) = self.receive(Some(deadline_after(limit)));
        item.ok_or(match waited {
            Waited::Served => RecvTimeoutError::Disconnected,
            Waited::TimedOut => RecvTimeoutError::Timeout,
        })
    }

    /// The item, if it is there.
    ///
    /// # Errors
    /// It is not there yet, or never will be (also if it was received already).
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        park::interruption_point();
        let mut slot = None;
        let done = receive_now(&mut self.cell.lock(), &mut slot);
        slot.ok_or(if done { TryRecvError::Disconnected } else { TryRecvError::Empty })
    }

    fn receive(&self, deadline_ns: Option<u64>) -> (Option<T>, Waited) {
        park::interruption_point();
        let mut slot = None;
        let wait = Wait { queue: RECEIVER, at_front: false, reason: BlockedOn::Receive, deadline_ns };
        let waited = self.cell.wait(wait, &mut slot, receive_now);
        (slot, waited)
    }

    pub(crate) fn recv_arm(&self) -> impl Arm<Output = Result<T, RecvError>> {
        CellArm::new(&*self.cell, None, Receiving)
    }
}

/// A receive, for a select.
struct Receiving;

impl<T> Operation<State<T>, T, 1> for Receiving {
    type Output = Result<T, RecvError>;

    fn queue(&self) -> Option<usize> {
        Some(RECEIVER)
    }

    fn attempt(&mut self, state: &mut Guard<'_, T>, slot: &mut Option<T>) -> bool {
        receive_now(state, slot)
    }

    fn is_ready(&self, state: &Guard<'_, T>, _: Token) -> bool {
        state.item.is_some() || !state.sender
    }

    fn output(&mut self, slot: Option<T>) -> Result<T, RecvError> {
        slot.ok_or(RecvError)
    }

    fn give_back(&mut self, _received_while_something_unwound: T) {}
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.cell.lock();
        state.receiver = false;
        let item = state.item.take();
        // Its destructor is user code: not under the lock.
        drop(state);
        drop(item);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("is_closed", &self.is_closed()).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_sent = self.cell.lock().item.is_some();
        f.debug_struct("Receiver").field("is_sent", &is_sent).finish()
    }
}
