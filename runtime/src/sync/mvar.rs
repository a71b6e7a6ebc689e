#![forbid(unsafe_code)]
//! The MVar: a box for one value, which is full or empty (GHC's `Control.Concurrent.MVar`).
//!
//! A thread that reads has the value *on loan* while it clones it, since a clone is user code and may not run under
//! the short lock (and a `T` that is not `Sync` may be looked at by one OS thread at a time); for the others the box
//! is neither full nor empty meanwhile, and they wait. The loan passes from reader to reader, then to a taker or into
//! the box. `with` and `modify` have the value on loan as well, in the takers' queue.
//!
//! Readers who were there when a value was put are *due*: served before any taker. Those who come while it is on loan
//! are not, else two readers that take turns would starve the takers: they are served before the takers of the next
//! value that is put. Hence two queues of readers, which change roles at each put.
//!
//! What holds whenever the short lock is free:
//! - a value in the box: no loan, no readers, no takers;
//! - no value in the box and no loan: no putters.

use super::arm::{Arm, CellArm, Operation};
use super::wait_cell::{self, Wait, WaitCell, Waiter};
use crate::scheduler::park;
use crate::thread::Token;
use crate::thread::block::BlockedOn;
use crate::time::deadline_after;
use std::fmt;
use std::time::Duration;

const READERS: [usize; 2] = [0, 1];
const TAKERS: usize = 2;
const PUTTERS: usize = 3;
const QUEUES: usize = 4;

/// A box for one value: full or empty. Taking waits until it is full, putting until it is empty.
///
/// An MVar is a lock, a one-place channel or a binary semaphore, whichever is needed: a full one protects what is in
/// it while one thread has it out; an empty one is a promise. It works between green threads, of one capability or
/// several, and plain OS threads.
///
/// # Fairness
/// Strictly first come, first served, among takers and among putters: a value that is put goes straight to the taker
/// that has waited longest, and no newcomer can snatch it. All who wait to [`read`](MVar::read) when a value is put
/// get it, before any taker.
///
/// # Cancellation
/// Every method that can wait is interruptible: a killed thread unwinds when it calls one, or out of the wait in one.
/// What it offered is dropped by its unwind, and was not put; what it wanted stays for the next.
///
/// ```
/// use bast::sync::MVar;
/// use std::sync::Arc;
///
/// bast::run(|| {
///     let answer = Arc::new(MVar::empty());
///     let asker = bast::spawn({
///         let answer = Arc::clone(&answer);
///         move || answer.take() * 2
///     });
///     answer.put(21); // the asker has it now, wherever it runs
///     assert_eq!(asker.join().unwrap(), 42);
///     assert!(answer.is_empty());
/// });
/// ```
pub struct MVar<T> {
    cell: WaitCell<State<T>, Pass<T>, QUEUES>,
}

struct State<T> {
    value: Option<T>,
    on_loan: bool,
    /// Which of the two queues of readers is due; newcomers join the other.
    due: usize,
}

/// What passes through a waiter's slot. A taker asks with it as well: with nothing it wants the value, with a value it
/// wants to exchange it.
enum Pass<T> {
    Value(T),
    /// A taker that wants the value on loan.
    Borrow,
}

impl<T> Pass<T> {
    fn value(self) -> Option<T> {
        match self {
            Pass::Value(value) => Some(value),
            Pass::Borrow => None,
        }
    }
}

impl<T> State<T> {
    const fn new(value: Option<T>) -> State<T> {
        State { value, on_loan: false, due: 0 }
    }
}

type Guard<'a, T> = wait_cell::Guard<'a, State<T>, Pass<T>, QUEUES>;

impl<T> MVar<T> {
    /// A full MVar.
    pub const fn new(value: T) -> MVar<T> {
        MVar { cell: WaitCell::new(State::new(Some(value))) }
    }

    /// An empty MVar.
    pub const fn empty() -> MVar<T> {
        MVar { cell: WaitCell::new(State::new(None)) }
    }

    /// Waits until the MVar is full, and empties it.
    pub fn take(&self) -> T {
        self.take_until(None).expect("a wait without a deadline is served")
    }

    /// As [`take`](MVar::take), for `limit` at the most; `None` after that.
    pub fn take_timeout(&self, limit: Duration) -> Option<T> {
        self.take_until(Some(deadline_after(limit)))
    }

    /// Takes the value if there is one and nobody is reading it at this moment.
    pub fn try_take(&self) -> Option<T> {
        park::interruption_point();
        take_now(&mut self.cell.lock())
    }

    /// Waits until the MVar is empty, and fills it.
    pub fn put(&self, value: T) {
        let put = self.put_until(value, None);
        assert!(put.is_ok(), "a wait without a deadline is served");
    }

    /// As [`put`](MVar::put), for `limit` at the most.
    ///
    /// # Errors
    /// The value, if the MVar was full for so long.
    pub fn put_timeout(&self, value: T, limit: Duration) -> Result<(), T> {
        self.put_until(value, Some(deadline_after(limit)))
    }

    /// Fills the MVar if it is empty.
    ///
    /// # Errors
    /// The value, if the MVar is full.
    pub fn try_put(&self, value: T) -> Result<(), T> {
        park::interruption_point();
        let mut slot = Some(Pass::Value(value));
        put_now(&mut self.cell.lock(), &mut slot);
        slot.and_then(Pass::value).map_or(Ok(()), Err)
    }

    /// Waits until the MVar is full and replaces the value, in one step: nobody sees it empty.
    pub fn swap(&self, value: T) -> T {
        park::interruption_point();
        // A taker whose slot is full: `fill` leaves the new value in exchange for the old one.
        let mut slot = Some(Pass::Value(value));
        let _served = self.cell.wait(wait_in(TAKERS, None), &mut slot, |state, slot| {
            let Some(old) = state.value.take() else { return false };
            state.value = slot.replace(Pass::Value(old)).and_then(Pass::value);
            true
        });
        slot.and_then(Pass::value).expect("a swap leaves a value for a value")
    }

    /// Waits until the MVar is full, and calls `body` with the value, which stays. For all others the MVar is neither
    /// full nor empty meanwhile: they wait, in turn.
    ///
    /// The value is back when this returns or unwinds. `body` may block; if it uses the same MVar it waits for itself.
    ///
    /// ```
    /// let log = bast::sync::MVar::new(vec!["started"]);
    /// log.modify(|lines| lines.push("stopped"));
    /// assert_eq!(log.with(|lines| lines.len()), 2);
    /// ```
    pub fn with<R>(&self, body: impl FnOnce(&T) -> R) -> R {
        self.modify(|value| body(value))
    }

    /// As [`with`](MVar::with), with a value that can be changed. If `body` unwinds the value stays as it was left.
    pub fn modify<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        park::interruption_point();
        let mut slot = Some(Pass::Borrow);
        let _served = self.cell.wait(wait_in(TAKERS, None), &mut slot, |state, slot| {
            let Some(value) = lend_now(state) else { return false };
            *slot = Some(Pass::Value(value));
            true
        });
        let mut loan = Loan { mvar: self, value: slot.and_then(Pass::value) };
        body(loan.value.as_mut().expect("a wait without a deadline is served"))
    }

    /// Whether the MVar is empty; out of date as soon as it is known, unless the caller knows who uses it.
    pub fn is_empty(&self) -> bool {
        let state = self.cell.lock();
        state.value.is_none() && !state.on_loan
    }

    /// The value, if there is one.
    pub fn into_inner(self) -> Option<T> {
        self.cell.into_state().value
    }

    #[inline]
    fn take_until(&self, deadline_ns: Option<u64>) -> Option<T> {
        park::interruption_point();
        let mut slot = None;
        let _slot_tells = self.cell.wait(wait_in(TAKERS, deadline_ns), &mut slot, |state, slot| {
            *slot = take_now(state).map(Pass::Value);
            slot.is_some()
        });
        slot.and_then(Pass::value)
    }

    #[inline]
    fn put_until(&self, value: T, deadline_ns: Option<u64>) -> Result<(), T> {
        park::interruption_point();
        let mut slot = Some(Pass::Value(value));
        let _slot_tells = self.cell.wait(wait_in(PUTTERS, deadline_ns), &mut slot, put_now);
        slot.and_then(Pass::value).map_or(Ok(()), Err)
    }
}

impl<T: Clone> MVar<T> {
    /// Waits until the MVar is full, and returns a clone of the value, which stays.
    ///
    /// Nobody can take or put in between: a reader that waits gets the very next value. Takers wait while a reader
    /// clones, so `clone` should be quick; an `Arc` is.
    pub fn read(&self) -> T {
        self.read_until(None).expect("a wait without a deadline is served")
    }

    /// As [`read`](MVar::read), for `limit` at the most; `None` after that.
    pub fn read_timeout(&self, limit: Duration) -> Option<T> {
        self.read_until(Some(deadline_after(limit)))
    }

    /// A clone of the value, if there is one and nobody else is reading it at this moment.
    pub fn try_read(&self) -> Option<T> {
        park::interruption_point();
        let value = lend_now(&mut self.cell.lock());
        self.read_on_loan(value)
    }

    fn read_until(&self, deadline_ns: Option<u64>) -> Option<T> {
        park::interruption_point();
        let mut slot = None;
        // It may be due by the time it is in the queue: then it is served a little early.
        let queue = READERS[1 - self.cell.lock().due];
        let _slot_tells = self.cell.wait(wait_in(queue, deadline_ns), &mut slot, |state, slot| {
            *slot = lend_now(state).map(Pass::Value);
            slot.is_some()
        });
        self.read_on_loan(slot.and_then(Pass::value))
    }

    fn read_on_loan(&self, value: Option<T>) -> Option<T> {
        // Given back even if the clone panics.
        let loan = Loan { mvar: self, value };
        loan.value.clone()
    }
}

impl<T> MVar<T> {
    pub(crate) fn take_arm(&self) -> impl Arm<Output = T> {
        CellArm::new(&self.cell, None, Taking)
    }

    pub(crate) fn put_arm<'a>(&'a self, value: &'a mut Option<T>) -> impl Arm<Output = ()> {
        let slot = value.take().map(Pass::Value);
        let how = Putting { from: value, wants: slot.is_some() };
        CellArm::new(&self.cell, slot, how)
    }
}

impl<T: Clone> MVar<T> {
    pub(crate) fn read_arm(&self) -> impl Arm<Output = T> {
        CellArm::new(&self.cell, None, Reading(self))
    }
}

/// A take, for a select.
struct Taking;

impl<T> Operation<State<T>, Pass<T>, QUEUES> for Taking {
    type Output = T;

    fn queue(&self) -> Option<usize> {
        Some(TAKERS)
    }

    fn attempt(&mut self, state: &mut Guard<'_, T>, slot: &mut Option<Pass<T>>) -> bool {
        *slot = take_now(state).map(Pass::Value);
        slot.is_some()
    }

    fn is_ready(&self, state: &Guard<'_, T>, _: Token) -> bool {
        state.value.is_some()
    }

    fn output(&mut self, slot: Option<Pass<T>>) -> T {
        slot.and_then(Pass::value).expect("a take that was done has a value")
    }

    fn give_back(&mut self, _taken_while_something_unwound: Pass<T>) {}
}

/// A put, for a select. The value comes from the caller's place, and goes back there if it was not put.
struct Putting<'a, T> {
    from: &'a mut Option<T>,
    /// Whether there is something to put.
    wants: bool,
}

impl<T> Operation<State<T>, Pass<T>, QUEUES> for Putting<'_, T> {
    type Output = ();

    fn queue(&self) -> Option<usize> {
        self.wants.then_some(PUTTERS)
    }

    fn attempt(&mut self, state: &mut Guard<'_, T>, slot: &mut Option<Pass<T>>) -> bool {
        self.wants && put_now(state, slot)
    }

    fn is_ready(&self, state: &Guard<'_, T>, _: Token) -> bool {
        state.value.is_none() && !state.on_loan
    }

    fn output(&mut self, _: Option<Pass<T>>) {}

    fn give_back(&mut self, left: Pass<T>) {
        *self.from = left.value();
    }
}

/// A read, for a select.
struct Reading<'a, T>(&'a MVar<T>);

impl<T: Clone> Operation<State<T>, Pass<T>, QUEUES> for Reading<'_, T> {
    type Output = T;

    fn queue(&self) -> Option<usize> {
        Some(READERS[1 - self.0.cell.lock().due])
    }

    fn attempt(&mut self, state: &mut Guard<'_, T>, slot: &mut Option<Pass<T>>) -> bool {
        *slot = lend_now(state).map(Pass::Value);
        slot.is_some()
    }

    fn is_ready(&self, state: &Guard<'_, T>, _: Token) -> bool {
        state.value.is_some()
    }

    fn output(&mut self, slot: Option<Pass<T>>) -> T {
        let value = self.0.read_on_loan(slot.and_then(Pass::value));
        value.expect("a read that was done has a value")
    }

    fn give_back(&mut self, left: Pass<T>) {
        drop(Loan { mvar: self.0, value: left.value() });
    }
}

/// The value, while a reader has it.
struct Loan<'a, T> {
    mvar: &'a MVar<T>,
    value: Option<T>,
}

impl<T> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            let mut state = self.mvar.cell.lock();
            state.on_loan = false;
            fill(&mut state, value);
        }
    }
}

/// Gives a value that was put, or given back, to whoever it is for. The box is empty.
fn fill<T>(state: &mut Guard<'_, T>, mut value: T) {
    assert!(state.value.is_none(), "MVar: filled twice");
    assert!(!state.on_loan, "MVar: filled while its value is on loan");
    loop {
        let due = state.due;
        if let Some(reader) = state.claim(READERS[due]) {
            return lend(state, reader, value);
        }
        let Some(mut taker) = state.claim(TAKERS) else { break };
        let wanted = taker.slot().take();
        if matches!(wanted, Some(Pass::Borrow)) {
            return lend(state, taker, value);
        }
        *taker.slot() = Some(Pass::Value(value));
        state.ready(taker);
        match wanted.and_then(Pass::value).or_else(|| next_put(state)) {
            Some(next) => value = next,
            None => return,
        }
    }
    // Nobody is left for them to starve.
    match state.claim(READERS[1 - state.due]) {
        Some(reader) => lend(state, reader, value),
        None => state.value = Some(value),
    }
}

fn lend<T>(state: &mut Guard<'_, T>, mut reader: Waiter<Pass<T>>, value: T) {
    *reader.slot() = Some(Pass::Value(value));
    state.ready(reader);
    state.on_loan = true;
}

/// What the first putter offers, which is put thereby.
#[inline]
fn next_put<T>(state: &mut Guard<'_, T>) -> Option<T> {
    let mut putter = state.claim(PUTTERS)?;
    let value = putter.slot().take();
    state.ready(putter);
    state.due = 1 - state.due;
    value.and_then(Pass::value)
}

#[inline]
fn take_now<T>(state: &mut Guard<'_, T>) -> Option<T> {
    let value = state.value.take()?;
    if let Some(next) = next_put(state) {
        fill(state, next);
    }
    Some(value)
}

#[inline]
fn put_now<T>(state: &mut Guard<'_, T>, slot: &mut Option<Pass<T>>) -> bool {
    let empty = state.value.is_none() && !state.on_loan;
    if empty && let Some(Pass::Value(value)) = slot.take() {
        state.due = 1 - state.due;
        fill(state, value);
    }
    empty
}

fn lend_now<T>(state: &mut Guard<'_, T>) -> Option<T> {
    let value = state.value.take()?;
    state.on_loan = true;
    Some(value)
}

fn wait_in(queue: usize, deadline_ns: Option<u64>) -> Wait {
    Wait { queue, at_front: false, reason: BlockedOn::MVar, deadline_ns }
}

impl<T> Default for MVar<T> {
    /// An empty MVar.
    fn default() -> MVar<T> {
        MVar::empty()
    }
}

impl<T> From<T> for MVar<T> {
    /// A full MVar.
    fn from(value: T) -> MVar<T> {
        MVar::new(value)
    }
}

impl<T> fmt::Debug for MVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "MVar(empty)" } else { "MVar(full)" })
    }
}
