#![forbid(unsafe_code)]
//! Exceptions that come from outside of a thread, as data: whether it may receive them, which are pending, and which of
//! its frames are over. When they are delivered, and how, is for `scheduler/exception.rs`.
//!
//! Three kinds. A **kill** is a flag of the control block: sticky, and without a sender that waits. A **thrown**
//! exception is consumed by whoever catches it; it lies in a table at the side, since few threads ever have one, with
//! the token of the thrower, which waits until it is received. A **frame** of the thread's own stack ends early because
//! its deadline passed (`timeout`) or because somebody cancelled it (`scope`): sticky while the frame is live, and gone
//! with it, so that it never hits later code.
//!
//! ```text
//!   throw_to: post ──▶ Waits(token) ── accept: claims the thrower ──▶ Accepted ── take ──▶ raised
//!                          │   └─ claim lost: the thrower was killed, say ──▶ it takes it back
//!                          └─ the thread is over: drain ── TooLate ──▶ the thrower goes on, and takes it back
//! ```

use super::ThreadId;
use super::body::Payload;
use super::control::{Claim, Control, Reference};
use super::park_word::Woken;
use super::token::{State, Token};
use crate::critical::{self, Locked, Section};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

/// Whether a thread receives exceptions: kills, thrown ones, timeouts, and the cancellation of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MaskingState {
    /// At each interruptible operation and at each yield point.
    #[default]
    Unmasked,
    /// Only where it has to wait: inside [`mask`](crate::mask()).
    MaskedInterruptible,
    /// Nowhere: inside [`uninterruptible`](crate::uninterruptible()).
    MaskedUninterruptible,
}

/// The payload by which a killed thread unwinds.
#[derive(Debug)]
pub(crate) struct Killed;

/// The payload by which a thread unwinds to one of its frames.
#[derive(Debug)]
pub(crate) struct FrameOver {
    pub(crate) frame: u64,
}

/// The frames of one thread that may be over before their bodies are, outermost first.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    frames: Vec<Frame>,
    entered: u64,
}

#[derive(Debug)]
struct Frame {
    id: u64,
    deadline_ns: u64,
    /// The earliest deadline of this frame and those around it.
    limit_ns: u64,
    cancelled: Option<Arc<AtomicBool>>,
}

impl Frames {
    /// Enters a frame that is over at `deadline_ns` (`u64::MAX` is never), or when `cancelled` is set.
    pub(crate) fn enter(&mut self, deadline_ns: u64, cancelled: Option<Arc<AtomicBool>>) -> u64 {
        self.entered += 1;
        let limit_ns = deadline_ns.min(self.limit_ns());
        self.frames.push(Frame { id: self.entered, deadline_ns, limit_ns, cancelled });
        self.entered
    }

    /// Leaves the innermost frame.
    pub(crate) fn leave(&mut self, id: u64) {
        let frame = self.frames.pop().expect("frames: left without having been entered");
        assert_eq!(frame.id, id, "frames: left out of order");
    }

    /// When the first of them is over.
    #[inline]
    pub(crate) fn limit_ns(&self) -> u64 {
        self.frames.last().map_or(u64::MAX, |frame| frame.limit_ns)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether one of them was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.frames.iter().any(Frame::is_cancelled)
    }

    /// The frame to unwind to: one that was cancelled, or else the one whose deadline passed first; of equals the
    /// outermost.
    pub(crate) fn over(&self, now_ns: u64) -> Option<FrameOver> {
        let since = |frame: &Frame| if frame.is_cancelled() { 0 } else { frame.deadline_ns };
        let over =
            self.frames.iter().filter(|frame| since(frame) <= now_ns).min_by_key(|frame| since(frame))?;
        Some(FrameOver { frame: over.id })
    }
}

impl Frame {
    fn is_cancelled(&self) -> bool {
        // Acquire: see `Control::leave_frames`.
        self.cancelled.as_ref().is_some_and(|cancelled| cancelled.load(Ordering::Acquire))
    }
}

/// One thrown exception.
struct Thrown {
    payload: Payload,
    thrower: Thrower,
}

enum Thrower {
    /// It may still withdraw. If its park was ended by something else, it is about to.
    Waits(Token),
    /// It was told that its exception is received.
    Accepted,
    /// It was told to go on, and takes back what comes too late: destructors of payloads run on the stacks of threads.
    TooLate(Token),
}

type Shard = HashMap<ThreadId, VecDeque<Thrown>>;

const SHARDS: usize = 16;

static SHARDS_OF_THROWN: LazyLock<[Mutex<Shard>; SHARDS]> = LazyLock::new(Default::default);

fn shard(id: ThreadId) -> Locked<'static, Shard> {
    let index = id.get() as usize % SHARDS;
    // Before the table is made, which may allocate.
    let _section = Section::enter();
    critical::lock(&SHARDS_OF_THROWN[index])
}

fn id_of(control: &Control) -> ThreadId {
    control.id().expect("a thread that is referred to has an id")
}

/// Leaves an exception for the thread, whose home is then to be told.
pub(crate) fn post(thread: &Reference, payload: Payload, thrower: Token) {
    let control = thread.control();
    let mut shard = shard(id_of(control));
    let thrown = Thrown { payload, thrower: Thrower::Waits(thrower) };
    shard.entry(id_of(control)).or_default().push_back(thrown);
    // Under the lock, as it is cleared.
    control.notice().mark_thrown();
}

/// Takes back what `thrower` left. `None`: it is the thread's.
pub(crate) fn withdraw(thread: &Reference, thrower: Token) -> Option<Payload> {
    let mine = |thrown: &Thrown| matches!(thrown.thrower, Thrower::Waits(token) | Thrower::TooLate(token) if token == thrower);
    remove(thread.control(), mine)
}

/// Takes an exception out of the thread's.
fn remove(control: &Control, which: impl Fn(&Thrown) -> bool) -> Option<Payload> {
    let mut shard = shard(id_of(control));
    let queue = shard.get_mut(&id_of(control))?;
    let thrown = queue.remove(queue.iter().position(which)?);
    if queue.is_empty() {
        shard.remove(&id_of(control));
        control.notice().clear_thrown();
    }
    thrown.map(|thrown| thrown.payload)
}

/// What a thread has been thrown.
pub(crate) enum Accepted {
    /// Nothing, or only what its throwers have withdrawn.
    Nothing,
    /// An exception that was accepted before.
    Before,
    /// An exception that is the thread's from now on. Its thrower goes on when this is made ready.
    Now(Claim),
}

/// Accepts the first exception whose thrower still waits, if none was accepted before. For the thread's home.
pub(crate) fn accept(control: &Control) -> Accepted {
    let mut shard = shard(id_of(control));
    let Some(queue) = shard.get_mut(&id_of(control)) else { return Accepted::Nothing };
    if queue.iter().any(|thrown| matches!(thrown.thrower, Thrower::Accepted)) {
        return Accepted::Before;
    }
    for thrown in queue {
        if let Thrower::Waits(token) = thrown.thrower
            && let Some(claim) = Control::claim(token, Woken::Event)
        {
            thrown.thrower = Thrower::Accepted;
            return Accepted::Now(claim);
        }
    }
    Accepted::Nothing
}

/// Takes the first exception that was thrown to the thread, which raises it.
pub(crate) fn take(control: &Control, release: impl FnOnce(Claim)) -> Option<Payload> {
    match accept(control) {
        Accepted::Nothing => return None,
        Accepted::Before => {}
        Accepted::Now(thrower) => release(thrower),
    }
    take_accepted(control)
}

/// Takes an exception that is the thread's already.
pub(crate) fn take_accepted(control: &Control) -> Option<Payload> {
    remove(control, |thrown| matches!(thrown.thrower, Thrower::Accepted))
}

/// Lets the throwers go on whose exceptions came too late: the thread is over.
pub(crate) fn drain(control: &Control, mut release: impl FnMut(Claim)) {
    let mut claims = Vec::new();
    if let Some(queue) = shard(id_of(control)).get_mut(&id_of(control)) {
        for thrown in queue {
            if let Thrower::Waits(token) = thrown.thrower
                && let Some(claim) = Control::claim(token, Woken::Event)
            {
                thrown.thrower = Thrower::TooLate(token);
                claims.push(claim);
            }
        }
    }
    claims.into_iter().for_each(&mut release);
}

/// Whether the thread can receive anything any more.
pub(crate) fn is_over(control: &Control) -> bool {
    control.state() == State::Finished
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_whose_deadline_passed_first_is_over_first_and_of_equals_the_outermost() {
        let mut frames = Frames::default();
        let outer = frames.enter(20, None);
        let inner = frames.enter(10, None);
        assert_eq!(frames.limit_ns(), 10);
        assert!(frames.over(9).is_none());
        assert_eq!(frames.over(10).unwrap().frame, inner);
        assert_eq!(frames.over(30).unwrap().frame, inner);
        frames.leave(inner);
        assert_eq!(frames.limit_ns(), 20);
        assert!(frames.over(19).is_none());
        let equal = frames.enter(20, None);
        assert_eq!(frames.over(20).unwrap().frame, outer);
        frames.leave(equal);
        frames.leave(outer);
        assert_eq!((frames.limit_ns(), frames.is_empty()), (u64::MAX, true));
    }

    #[test]
    fn a_cancelled_frame_goes_before_deadlines() {
        let mut frames = Frames::default();
        let cancelled = Arc::new(AtomicBool::new(false));
        frames.enter(5, None);
        let scope = frames.enter(u64::MAX, Some(Arc::clone(&cancelled)));
        assert!(!frames.is_cancelled());
        cancelled.store(true, Ordering::Relaxed);
        assert!(frames.is_cancelled());
        assert_eq!(frames.over(10).unwrap().frame, scope);
    }
}
