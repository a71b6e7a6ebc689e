#![forbid(unsafe_code)]
//! A channel of which each receiver gets each item, from its subscription on.
//!
//! The channel keeps the last `capacity` items. A send never waits: it takes the place of the oldest. A receiver that has
//! not received that one yet *lags*: its next receive is an error that says how many items it missed, and the one after
//! that gives the oldest that is still there. (The alternative, to make senders wait for the slowest receiver, lets one
//! receiver that is stuck stop all. Where no item may be missed, give each receiver a [`channel`](super::channel).)
//!
//! ```
//! use bast::sync::broadcast;
//!
//! bast::run(|| {
//!     let (tx, mut rx) = broadcast::channel(16);
//!     let mut late = tx.subscribe();
//!     tx.send("news").unwrap();
//!     assert_eq!((rx.recv(), late.recv()), (Ok("news"), Ok("news")));
//!     drop(tx);
//!     assert_eq!(rx.recv(), Err(broadcast::RecvError::Closed));
//! });
//! ```
//!
//! Items are numbered. What holds whenever the short lock is free: a receiver that waits has received all there are, so
//! that the next item goes straight to all who wait. Items are shared in `Arc`s, since a clone is user code and may not
//! run under the short lock.

use super::arm::{Arm, CellArm, Operation};
use super::wait_cell::{self, Wait, WaitCell, Waited};
use crate::scheduler::park;
use crate::thread::Token;
use crate::thread::block::BlockedOn;
use crate::time::deadline_after;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use super::channel::SendError;

const RECEIVERS: usize = 0;

/// A channel that keeps the last `capacity` items, with its first receiver.
///
/// All ends can be cloned, and work in green threads and on plain OS threads.
///
/// # Cancellation
/// Receiving is interruptible. An item that came while its receiver was being killed is still there for clones of it.
///
/// # Panics
/// With a capacity of 0.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a broadcast channel keeps at least one item");
    let items = VecDeque::with_capacity(capacity);
    let state = State { items, capacity, sent: 0, senders: 1, receivers: 1 };
    let cell = Arc::new(WaitCell::new(state));
    (Sender { cell: Arc::clone(&cell) }, Receiver { cell, received: 0 })
}

struct State<T> {
    /// Never more than it was made for: it does not grow under the lock.
    items: VecDeque<Arc<T>>,
    capacity: usize,
    /// How many were ever sent: the number of the next.
    sent: u64,
    senders: usize,
    receivers: usize,
}

type Cell<T> = WaitCell<State<T>, Received<T>, 1>;
type Guard<'a, T> = wait_cell::Guard<'a, State<T>, Received<T>, 1>;

/// What a receiver gets.
enum Received<T> {
    Item(Arc<T>),
    /// So many are gone.
    Missed(u64),
}

impl<T> State<T> {
    /// The number of the oldest item that is kept.
    fn oldest(&self) -> u64 {
        self.sent - self.items.len() as u64
    }

    /// What is there for a receiver that has received so many.
    fn next(&self, received: u64) -> Option<Received<T>> {
        match received.checked_sub(self.oldest()) {
            Some(index) => self.items.get(index as usize).cloned().map(Received::Item),
            None => Some(Received::Missed(self.oldest() - received)),
        }
    }
}

/// The sending end of a [`channel`].
pub struct Sender<T> {
    cell: Arc<Cell<T>>,
}

impl<T> Sender<T> {
    /// Sends an item to all receivers there are, and returns how many those are. Never waits; not interruptible.
    ///
    /// # Errors
    /// The item, if there are no receivers.
    pub fn send(&self, item: T) -> Result<usize, SendError<T>> {
        let item = Arc::new(item);
        let mut state = self.cell.lock();
        if state.receivers == 0 {
            drop(state);
            return Err(SendError(Arc::into_inner(item).expect("nobody else has it")));
        }
        let oldest = if state.items.len() == state.capacity { state.items.pop_front() } else { None };
        state.items.push_back(Arc::clone(&item));
        state.sent += 1;
        while let Some(mut receiver) = state.claim(RECEIVERS) {
            *receiver.slot() = Some(Received::Item(Arc::clone(&item)));
            state.ready(receiver);
        }
        let receivers = state.receivers;
        // Its destructor is user code: not under the lock.
        drop(state);
        drop(oldest);
        Ok(receivers)
    }

    /// A further receiver, of what is sent from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        let mut state = self.cell.lock();
        state.receivers += 1;
        Receiver { cell: Arc::clone(&self.cell), received: state.sent }
    }

    /// A further receiver, of what was sent after the first `received` items. Of those it misses what is not kept any
    /// more; it cannot have received more than were sent.
    pub fn subscribe_after(&self, received: u64) -> Receiver<T> {
        let mut state = self.cell.lock();
        state.receivers += 1;
        Receiver { cell: Arc::clone(&self.cell), received: received.min(state.sent) }
    }

    /// How many items were ever sent.
    pub fn sent(&self) -> u64 {
        self.cell.lock().sent
    }

    /// How many receivers there are.
    pub fn receivers(&self) -> usize {
        self.cell.lock().receivers
    }
}

/// A receiving end of a [`channel`]. A clone goes on from where this one is.
pub struct Receiver<T> {
    cell: Arc<Cell<T>>,
    /// How many items it has behind it, those that it missed as well.
    received: u64,
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next item.
    ///
    /// # Errors
    /// Items were missed, or there are no more and all senders are gone.
    pub fn recv(&mut self) -> Result<T, RecvError> {
        let (received, _without_deadline) = self.receive(None);
        count(&mut self.received, received)?.ok_or(RecvError::Closed)
    }

    /// As [`recv`](Receiver::recv), for `limit` at the most.
    ///
    /// # Errors
    /// As `recv`, or there was nothing for so long.
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<T, RecvTimeoutError> {
        let (received, waited) = self.receive(Some(deadline_after(limit)));
        count(&mut self.received, received)?.ok_or(match waited {
            Waited::Served => RecvTimeoutError::Closed,
            Waited::TimedOut => RecvTimeoutError::Timeout,
        })
    }

    /// The next item, if it is there.
    ///
    /// # Errors
    /// It is not, items were missed, or there are no more and all senders are gone.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        park::interruption_point();
        let mut slot = None;
        let done = receive_now(&mut self.cell.lock(), &mut slot, self.received);
        count(&mut self.received, slot)?.ok_or(if done { TryRecvError::Closed } else { TryRecvError::Empty })
    }

    /// The items as they come, until all senders are gone. Where items were missed there is an error in their place.
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    fn receive(&mut self, deadline_ns: Option<u64>) -> (Option<Received<T>>, Waited) {
        park::interruption_point();
        let mut slot = None;
        let received = self.received;
        let wait = Wait { queue: RECEIVERS, at_front: false, reason: BlockedOn::Receive, deadline_ns };
        let waited = self.cell.wait(wait, &mut slot, |state, slot| receive_now(state, slot, received));
        (slot, waited)
    }
}

/// Counts what was received, and clones it.
fn count<T: Clone>(received: &mut u64, slot: Option<Received<T>>) -> Result<Option<T>, Lagged> {
    match slot {
        None => Ok(None),
        Some(Received::Missed(count)) => {
            *received += count;
            Err(Lagged(count))
        }
        Some(Received::Item(item)) => {
            *received += 1;
            Ok(Some(Arc::unwrap_or_clone(item)))
        }
    }
}

impl<T: Clone> Receiver<T> {
    pub(crate) fn recv_arm(&mut self) -> impl Arm<Output = Result<T, RecvError>> {
        let Receiver { cell, received } = self;
        CellArm::new(&**cell, None, Receiving { received })
    }
}

/// A receive, for a select.
struct Receiving<'a> {
    received: &'a mut u64,
}

impl<T: Clone> Operation<State<T>, Received<T>, 1> for Receiving<'_> {
    type Output = Result<T, RecvError>;

    fn queue(&self) -> Option<usize> {
        Some(RECEIVERS)
    }

    fn attempt(&mut self, state: &mut Guard<'_, T>, slot: &mut Option<Received<T>>) -> bool {
        receive_now(state, slot, *self.received)
    }

    fn is_ready(&self, state: &Guard<'_, T>, _: Token) -> bool {
        *self.received != state.sent || state.senders == 0
    }

    fn output(&mut self, slot: Option<Received<T>>) -> Result<T, RecvError> {
        count(self.received, slot)?.ok_or(RecvError::Closed)
    }

    fn give_back(&mut self, _received_while_something_unwound: Received<T>) {}
}

/// Moves into the slot what is there for a receiver. True as well if there will be nothing.
fn receive_now<T>(state: &mut Guard<'_, T>, slot: &mut Option<Received<T>>, received: u64) -> bool {
    *slot = state.next(received);
    slot.is_some() || state.senders == 0
}

impl<T> Receiver<T> {
    /// How many items it has behind it since the channel was made, those that it missed as well: the number, from 1
    /// on, of the item that it received last.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many items it has not received yet, those that it has missed as well.
    pub fn len(&self) -> u64 {
        self.cell.lock().sent - self.received
    }

    /// Whether it has received all there are.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.cell.lock().senders += 1;
        Sender { cell: Arc::clone(&self.cell) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.cell.lock();
        state.senders -= 1;
        if state.senders == 0 {
            while let Some(receiver) = state.claim(RECEIVERS) {
                state.ready(receiver);
            }
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.cell.lock().receivers += 1;
        Receiver { cell: Arc::clone(&self.cell), received: self.received }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.cell.lock();
        state.receivers -= 1;
        if state.receivers == 0 {
            // Nobody has them to receive. Their destructors are user code: each runs outside of the lock.
            while state.receivers == 0
                && let Some(item) = state.items.pop_front()
            {
                drop(state);
                drop(item);
                state = self.cell.lock();
            }
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("receivers", &self.receivers()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The items of a broadcast channel as they come; see [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a mut Receiver<T>,
}

impl<T: Clone> Iterator for Iter<'_, T> {
    type Item = Result<T, Lagged>;

    fn next(&mut self) -> Option<Result<T, Lagged>> {
        match self.receiver.recv() {
            Ok(item) => Some(Ok(item)),
            Err(RecvError::Lagged(count)) => Some(Err(Lagged(count))),
            Err(RecvError::Closed) => None,
        }
    }
}

/// So many items were sent that these could not be kept for the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged(pub u64);

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the receiver missed {} items", self.0)
    }
}

impl Error for Lagged {}

const CLOSED: &str = "receiving on an empty channel without senders";

/// Why [`Receiver::recv`] has no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvError {
    /// So many items were missed; the next receive gives the oldest that is there.
    Lagged(u64),
    /// All have been received, and all senders are gone.
    Closed,
}

/// Why [`Receiver::recv_timeout`] has no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// There was none all the time.
    Timeout,
    /// So many items were missed; the next receive gives the oldest that is there.
    Lagged(u64),
    /// All have been received, and all senders are gone.
    Closed,
}

/// Why [`Receiver::try_recv`] has no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// There is none now.
    Empty,
    /// So many items were missed; the next receive gives the oldest that is there.
    Lagged(u64),
    /// All have been received, and all senders are gone.
    Closed,
}

impl From<Lagged> for RecvError {
    fn from(Lagged(count): Lagged) -> RecvError {
        RecvError::Lagged(count)
    }
}

impl From<Lagged> for RecvTimeoutError {
    fn from(Lagged(count): Lagged) -> RecvTimeoutError {
        RecvTimeoutError::Lagged(count)
    }
}

impl From<Lagged> for TryRecvError {
    fn from(Lagged(count): Lagged) -> TryRecvError {
        TryRecvError::Lagged(count)
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Lagged(count) => Lagged(*count).fmt(f),
            RecvError::Closed => f.write_str(CLOSED),
        }
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvTimeoutError::Timeout => f.write_str("timed out waiting on a channel"),
            RecvTimeoutError::Lagged(count) => Lagged(*count).fmt(f),
            RecvTimeoutError::Closed => f.write_str(CLOSED),
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryRecvError::Empty => f.write_str("receiving on an empty channel"),
            TryRecvError::Lagged(count) => Lagged(*count).fmt(f),
            TryRecvError::Closed => f.write_str(CLOSED),
        }
    }
}

impl Error for RecvError {}
impl Error for RecvTimeoutError {}
impl Error for TryRecvError {}
