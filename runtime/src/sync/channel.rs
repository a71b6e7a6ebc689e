#![forbid(unsafe_code)]
//! Channels: queues of items with any number of senders and receivers.
//!
//! A buffer and two queues of threads. What holds whenever the short lock is free:
//! - a receiver that waits: the buffer is empty and no sender waits;
//! - a sender that waits: the buffer is full.
//!
//! (Waiters that were killed or timed out a moment ago do not count: whoever serves the queue passes them over.)
//! An end that is gone wakes all who wait at the other with their slots as they were.

use super::arm::{Arm, CellArm, Operation};
use super::wait_cell::{self, Wait, WaitCell, Waited};
use crate::scheduler::park;
use crate::thread::Token;
use crate::thread::block::BlockedOn;
use crate::time::deadline_after;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::iter::FusedIterator;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

const RECEIVERS: usize = 0;
const SENDERS: usize = 1;
const QUEUES: usize = 2;

/// More room than this is made as it is needed, not when the channel is.
const BUFFERED_AT_FIRST_MAX: usize = 64;
/// The first room of an unbounded channel.
const ROOM_MIN: usize = 8;

/// A channel with room for `capacity` items: a send waits while it is full. With a capacity of 0 each send waits for
/// its receive (a rendezvous).
///
/// Both ends can be cloned, and work in green threads, of one capability or several, and on plain OS threads.
///
/// # Fairness
/// Items come out in the order in which they went in; senders that wait get in, and receivers that wait are served,
/// first come, first served, and newcomers do not overtake them.
///
/// # Cancellation
/// Sends and receives are interruptible, also when they need not wait: a killed thread unwinds when it calls one, or
/// out of the wait in one. No item is lost with a killed receiver; what a killed sender was about to send is dropped
/// by its unwind. Dropping an end is never interruptible.
///
/// ```
/// use bast::sync::channel;
///
/// bast::run(|| {
///     let (tx, rx) = channel(2);
///     let producer = bast::spawn(move || {
///         for n in 1..=100 {
///             tx.send(n).unwrap(); // waits when two are waiting to be received
///         }
///     });
///     assert_eq!(rx.iter().sum::<i32>(), 5050);
///     producer.join().unwrap();
/// });
/// ```
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    make(Some(capacity))
}

/// A channel with room for as many items as there is memory: a send never waits. Otherwise as [`channel`].
///
/// ```
/// let (tx, rx) = bast::sync::unbounded();
/// tx.send("from an OS thread").unwrap();
/// let received = bast::run(move || rx.recv());
/// assert_eq!(received, Ok("from an OS thread"));
/// assert!(tx.send("too late").is_err());
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    make(None)
}

fn make<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let room = capacity.unwrap_or(0).min(BUFFERED_AT_FIRST_MAX);
    let state = State { buffer: VecDeque::with_capacity(room), capacity, senders: 1, receivers: 1 };
    let channel = Arc::new(Channel { cell: WaitCell::new(state) });
    (Sender { channel: Arc::clone(&channel) }, Receiver { channel })
}

struct Channel<T> {
    cell: WaitCell<State<T>, T, QUEUES>,
}

struct State<T> {
    buffer: VecDeque<T>,
    capacity: Option<usize>,
    senders: usize,
    receivers: usize,
}

type Guard<'a, T> = wait_cell::Guard<'a, State<T>, T, QUEUES>;

impl<T> State<T> {
    fn has_room(&self) -> bool {
        self.capacity.is_none_or(|capacity| self.buffer.len() < capacity)
    }
}

/// Moves the item out of the slot, if it can go now. True as well if it never can: the slot is full then.
fn send_now<T>(state: &mut Guard<'_, T>, slot: &mut Option<T>) -> bool {
    if state.receivers == 0 {
        return true;
    }
    if let Some(mut receiver) = state.claim(RECEIVERS) {
        *receiver.slot() = slot.take();
        state.ready(receiver);
        return true;
    }
    // Without room in the buffer itself there is none now: whoever sends calls `grow`.
    let has_room = state.has_room() && state.buffer.len() < state.buffer.capacity();
    if has_room {
        state.buffer.extend(slot.take());
    }
    has_room
}

/// Moves an item into the slot, if there is one. True as well if there never will be: the slot is empty then.
fn receive_now<T>(state: &mut Guard<'_, T>, slot: &mut Option<T>) -> bool {
    *slot = state.buffer.pop_front();
    // There is room now (or there never is): the sender that has waited longest sends.
    if let Some(mut sender) = state.claim(SENDERS) {
        let item = sender.slot().take();
        state.ready(sender);
        if slot.is_some() { state.buffer.extend(item) } else { *slot = item }
    }
    slot.is_some() || state.senders == 0
}

impl<T> Channel<T> {
    fn send(&self, slot: &mut Option<T>, deadline_ns: Option<u64>) -> Waited {
        park::interruption_point();
        let wait = Wait { queue: SENDERS, at_front: false, reason: BlockedOn::Send, deadline_ns };
        let mut cramped = false;
        loop {
            let waited = self.cell.wait(wait, slot, |state, slot| {
                let done = send_now(state, slot);
                cramped = !done && state.has_room();
                done || cramped
            });
            if !cramped {
                return waited;
            }
            self.grow();
        }
    }

    fn try_send(&self, slot: &mut Option<T>) -> bool {
        park::interruption_point();
        loop {
            let mut state = self.cell.lock();
            let done = send_now(&mut state, slot);
            let cramped = !done && state.has_room();
            drop(state);
            if !cramped {
                return done;
            }
            self.grow();
        }
    }

    /// Makes the buffer larger: memory is had, and given back, outside of the short lock.
    #[cold]
    fn grow(&self) {
        let capacity = self.cell.lock().buffer.capacity();
        let mut larger = VecDeque::with_capacity((capacity * 2).max(ROOM_MIN));
        // Dropped after the lock, with what it then has.
        let mut state = self.cell.lock();
        // Somebody else may have made it larger meanwhile.
        if larger.capacity() > state.buffer.capacity() {
            larger.append(&mut state.buffer);
            mem::swap(&mut larger, &mut state.buffer);
        }
    }

    fn receive(&self, slot: &mut Option<T>, deadline_ns: Option<u64>) -> Waited {
        park::interruption_point();
        let wait = Wait { queue: RECEIVERS, at_front: false, reason: BlockedOn::Receive, deadline_ns };
        self.cell.wait(wait, slot, receive_now)
    }

    fn len(&self) -> usize {
        self.cell.lock().buffer.len()
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.cell.lock();
        let (len, capacity) = (state.buffer.len(), state.capacity);
        drop(state);
        f.debug_struct(name).field("len", &len).field("capacity", &capacity).finish()
    }
}

/// A receive, for a select.
struct Receiving;

impl<T> Operation<State<T>, T, QUEUES> for Receiving {
    type Output = Result<T, RecvError>;

    fn queue(&self) -> Option<usize> {
        Some(RECEIVERS)
    }

    fn attempt(&mut self, state: &mut Guard<'_, T>, slot: &mut Option<T>) -> bool {
        receive_now(state, slot)
    }

    fn is_ready(&self, state: &Guard<'_, T>, token: Token) -> bool {
        !state.buffer.is_empty() || state.senders == 0 || state.has_others(SENDERS, token)
    }

    fn output(&mut self, slot: Option<T>) -> Result<T, RecvError> {
        slot.ok_or(RecvError)
    }

    fn give_back(&mut self, _received_while_something_unwound: T) {}
}

/// A send, for a select. The item comes from the caller's place, and goes back there if it was not sent.
struct Sending<'a, T> {
    channel: &'a Channel<T>,
    from: &'a mut Option<T>,
    /// Whether there is something to send.
    wants: bool,
    /// There was room, but no memory for it.
    cramped: bool,
}

impl<T> Operation<State<T>, T, QUEUES> for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn queue(&self) -> Option<usize> {
        self.wants.then_some(SENDERS)
    }

    fn attempt(&mut self, state: &mut Guard<'_, T>, slot: &mut Option<T>) -> bool {
        let done = self.wants && send_now(state, slot);
        self.cramped = self.wants && !done && state.has_room();
        done
    }

    fn again(&mut self) -> bool {
        if self.cramped {
            self.channel.grow();
        }
        self.cramped
    }

    fn is_ready(&self, state: &Guard<'_, T>, token: Token) -> bool {
        state.has_room() || state.receivers == 0 || state.has_others(RECEIVERS, token)
    }

    fn output(&mut self, slot: Option<T>) -> Result<(), SendError<T>> {
        slot.map_or(Ok(()), |item| Err(SendError(item)))
    }

    fn give_back(&mut self, left: T) {
        *self.from = Some(left);
    }
}

/// The sending end of a [`channel`]. When the last is dropped, receivers get what is left and then an error.
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
}

impl<T> Sender<T> {
    /// Sends an item; waits while the channel is full.
    ///
    /// # Errors
    /// The item, when all receivers are gone. That it was sent is no promise that it will be received.
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        let mut slot = Some(item);
        let _without_deadline = self.channel.send(&mut slot, None);
        slot.map_or(Ok(()), |item| Err(SendError(item)))
    }

    /// As [`send`](Sender::send), for `limit` at the most.
    ///
    /// # Errors
    /// The item, when all receivers are gone or the channel was full for so long.
    pub fn send_timeout(&self, item: T, limit: Duration) -> Result<(), SendTimeoutError<T>> {
        let mut slot = Some(item);
        let waited = self.channel.send(&mut slot, Some(deadline_after(limit)));
        match (slot, waited) {
            (None, _) => Ok(()),
            (Some(item), Waited::Served) => Err(SendTimeoutError::Disconnected(item)),
            (Some(item), Waited::TimedOut) => Err(SendTimeoutError::Timeout(item)),
        }
    }

    /// Sends an item if there is room for it (or a receiver waits for it).
    ///
    /// # Errors
    /// The item, when there is no room or all receivers are gone.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut slot = Some(item);
        let done = self.channel.try_send(&mut slot);
        match slot {
            None => Ok(()),
            Some(item) if done => Err(TrySendError::Disconnected(item)),
            Some(item) => Err(TrySendError::Full(item)),
        }
    }

    /// How many items are in the channel.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn send_arm<'a>(
        &'a self,
        item: &'a mut Option<T>,
    ) -> impl Arm<Output = Result<(), SendError<T>>> {
        let slot = item.take();
        let how = Sending { channel: &self.channel, from: item, wants: slot.is_some(), cramped: false };
        CellArm::new(&self.channel.cell, slot, how)
    }
}

/// The receiving end of a [`channel`]. When the last is dropped, what is left in it is dropped and senders get an
/// error.
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
}

impl<T> Receiver<T> {
    /// Receives the next item; waits while there is none.
    ///
    /// # Errors
    /// The channel is empty and all senders are gone.
    pub fn recv(&self) -> Result<T, RecvError> {
        let mut slot = None;
        let _without_deadline = self.channel.receive(&mut slot, None);
        slot.ok_or(RecvError)
    }

    /// As [`recv`](Receiver::recv), for `limit` at the most.
    ///
    /// # Errors
    /// The channel is empty and all senders are gone, or it was empty for so long.
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
        let mut slot = None;
        let waited = self.channel.receive(&mut slot, Some(deadline_after(limit)));
        slot.ok_or(match waited {
            Waited::Served => RecvTimeoutError::Disconnected,
            Waited::TimedOut => RecvTimeoutError::Timeout,
        })
    }

    /// Receives an item if there is one.
    ///
    /// # Errors
    /// There is none now, or there never will be one.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        park::interruption_point();
        let mut slot = None;
        let done = receive_now(&mut self.channel.cell.lock(), &mut slot);
        slot.ok_or(if done { TryRecvError::Disconnected } else { TryRecvError::Empty })
    }

    /// The items as they come, until the channel is empty and all senders are gone.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The items that are there, without waiting for more.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// How many items are in the channel.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn recv_arm(&self) -> impl Arm<Output = Result<T, RecvError>> {
        CellArm::new(&self.channel.cell, None, Receiving)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.channel.cell.lock().senders += 1;
        Sender { channel: Arc::clone(&self.channel) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.channel.cell.lock();
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
        self.channel.cell.lock().receivers += 1;
        Receiver { channel: Arc::clone(&self.channel) }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.channel.cell.lock();
        state.receivers -= 1;
        if state.receivers == 0 {
            while let Some(sender) = state.claim(SENDERS) {
                state.ready(sender);
            }
            let left = mem::take(&mut state.buffer);
            // The items' destructors are user code: not under the lock.
            drop(state);
            drop(left);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel.fmt("Sender", f)
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel.fmt("Receiver", f)
    }
}

/// The items of a channel as they come; see [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> FusedIterator for Iter<'_, T> {}

/// The items that are in a channel; see [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

/// The items of a channel as they come, with its receiver.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> FusedIterator for IntoIter<T> {}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// Why [`Sender::send_timeout`] did not send the item, which is in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendTimeoutError<T> {
    /// The channel was full all the time.
    Timeout(T),
    /// All receivers are gone.
    Disconnected(T),
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendTimeoutError::Timeout(_) => "Timeout(..)",
            SendTimeoutError::Disconnected(_) => "Disconnected(..)",
        })
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendTimeoutError::Timeout(_) => "timed out waiting to send on a full channel",
            SendTimeoutError::Disconnected(_) => "sending on a channel without receivers",
        })
    }
}

impl<T> Error for SendTimeoutError<T> {}
