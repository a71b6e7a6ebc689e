//! Note [exceptions]: when an exception from outside is raised in a thread.
//!
//! Kills, thrown exceptions and frames that are over (`thread/exception.rs` has them as data) are raised by the thread
//! itself, as an unwind with a typed payload, at two kinds of places:
//! - **yield points**: where an operation that may block begins, before any effect, and where the time slice is found to
//!   be over. Only unmasked threads receive there.
//! - **parks**: where it has to wait, on entry or when the exception wins the park (Note [park]). Threads that are masked,
//!   but not uninterruptible, receive there too.
//!
//! And where a mask is lifted. An operation that completed returns, and the exception waits for the next place. Never
//! while the thread unwinds, inside `no_park`, or in the hooks of the runtime.
//!
//! # How it gets there
//! Whoever sends it sets a flag of the control block and tells the thread's home by mail. The home looks whether the
//! thread is parked and may receive; then it claims the park, like any other waker. A thrower that waits is claimed
//! before (it may withdraw until then): the exception is accepted, and the thread's. The thrower goes on after the claim
//! of the thread's park, whether that succeeded or something else had woken the thread at that very moment; then the
//! exception is raised at its next place. (Waiting for the raise would let two threads that throw to each other at the
//! same time hold each other for ever.)
//! `thread/notice.rs` says why an exception to a thread that is being stolen is not lost.
//!
//! # Order
//! A kill goes before all else; then the frame that was over first; then what was thrown, in the order of its arrival.

use super::park::{self, Point};
use super::remote::Remote;
use super::{Capability, Mail, current};
use crate::event_log::ring::Kind;
use crate::sys::clock;
use crate::thread::block::BlockedOn;
use crate::thread::body::Payload;
use crate::thread::control::Reference;
use crate::thread::exception::{self, Accepted, FrameOver, Killed, MaskingState};
use crate::thread::notice::Home;
use crate::thread::token::State;
use crate::thread::{Control, Woken};
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Raises what is pending, if the thread may receive it here.
#[inline]
pub(super) fn deliver(capability: &Capability, control: &'static Control, point: Point) {
    if control.notice().has_exception() {
        deliver_pending(capability, control, point);
    }
}

#[cold]
fn deliver_pending(capability: &Capability, control: &'static Control, point: Point) {
    // SAFETY: the running thread has its own control block.
    let mask = unsafe { control.owned() }.mask.get();
    let receives = match point {
        Point::Yield => mask == MaskingState::Unmasked,
        Point::Park => mask != MaskingState::MaskedUninterruptible,
    };
    if receives
        && capability.may_park()
        && !park::is_unwinding()
        && let Some(payload) = next(control)
    {
        capability.remote().counters().exceptions.count();
        capability.trace(Kind::Exception, control, 0);
        park::resume_unwind(payload);
    }
}

/// The exception to raise next in the running thread.
fn next(control: &'static Control) -> Option<Payload> {
    // The destructors at the end of a thread are not cut short; what limits they set themselves hold.
    let is_ending = control.notice().is_ending();
    if !is_ending && control.notice().is_killed() {
        return Some(Box::new(Killed));
    }
    if control.notice().is_frame_over() {
        // SAFETY: the running thread has its own control block.
        let over = unsafe { control.with_extra(|extra| extra.frames.over(clock::monotonic_ns())) };
        if let Some(over) = over {
            return Some(Box::new(over));
        }
        // It was left before the news came.
        // SAFETY: as above.
        unsafe { control.forget_frame_over() };
    }
    if !is_ending && control.notice().is_thrown_to() { exception::take(control, park::ready) } else { None }
}

/// The same where the thread could go on: there nothing else looks at its deadlines.
#[inline]
pub(super) fn deliver_at_yield(capability: &Capability, control: &'static Control) {
    if control.notice().has_exception_or_frames() {
        look_at_deadlines(control);
        deliver_pending(capability, control, Point::Yield);
    }
}

/// Drops what was accepted and never raised, on the stack of the thread, whose body is over.
pub(super) fn discard(control: &'static Control) {
    while control.notice().is_thrown_to()
        && let Some(payload) = exception::take_accepted(control)
    {
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| drop(payload)));
    }
}

/// What a thread that never ran leaves, if it is to end before it starts.
pub(super) fn before_start(control: &'static Control) -> Option<Payload> {
    // SAFETY: the running thread has its own control block.
    let unmasked = unsafe { control.owned() }.mask.get() == MaskingState::Unmasked;
    if unmasked && control.notice().has_exception() { next(control) } else { None }
}

/// Finds out whether a deadline of the running thread's frames has passed. For the places that are rarely come to: a
/// park looks by itself.
pub(super) fn look_at_deadlines(control: &'static Control) {
    if control.notice().has_frames()
        && limit_ns(control).is_some_and(|limit_ns| limit_ns <= clock::monotonic_ns())
    {
        control.notice().mark_frame_over();
    }
}

/// When the first of the calling thread's frames is over.
pub(crate) fn limit() -> Option<u64> {
    let (_, control) = current::thread()?;
    // SAFETY: the running thread has its own control block.
    let limit_ns = unsafe { control.with_extra(|extra| extra.frames.limit_ns()) };
    (limit_ns != u64::MAX).then_some(limit_ns)
}

/// When the running thread's parks end at the latest because of its frames.
pub(super) fn limit_ns(control: &'static Control) -> Option<u64> {
    // SAFETY: the running thread has its own control block.
    let (limit_ns, mask) =
        unsafe { (control.with_extra(|extra| extra.frames.limit_ns()), control.owned().mask.get()) };
    // While it unwinds the end of a frame is taken note of, once, and raised when the unwind is over.
    let may_end = mask != MaskingState::MaskedUninterruptible
        && !(control.notice().is_frame_over() && park::is_unwinding());
    (limit_ns != u64::MAX && may_end).then_some(limit_ns)
}

impl Capability {
    /// The home's part: ends the park of a thread that may receive what was sent to it.
    pub(super) fn interrupt(&self, thread: Reference) {
        let control = thread.control();
        self.trace(Kind::Interrupted, control, 0);
        // Before the look at the home: who sees a thread parked sees the home in which it started.
        let state = control.state();
        if control.home() != Home::Capability(self.remote().slot()) {
            // Stolen from our nursery before it started: its new home must see to it.
            return tell_home(thread);
        }
        match state {
            State::Finished => exception::drain(control, park::ready),
            State::Parked => interrupt_parked(control),
            _ => {}
        }
    }
}

/// Ends the park of a thread of this capability, if there is something that it may receive.
fn interrupt_parked(control: &'static Control) {
    // SAFETY: the thread is parked, and this is its home.
    let mask = unsafe { control.owned() }.mask.get();
    let notice = control.notice();
    if mask == MaskingState::MaskedUninterruptible || notice.is_unwinding() {
        return;
    }
    let mut thrower = None;
    // SAFETY: as above.
    let frame_is_over =
        || unsafe { control.with_extra(|extra| extra.frames.over(clock::monotonic_ns()).is_some()) };
    let may_receive = notice.is_frame_over() && frame_is_over()
        || !notice.is_ending()
            && (notice.is_killed()
                || notice.is_thrown_to()
                    && match exception::accept(control) {
                        Accepted::Nothing => false,
                        Accepted::Before => true,
                        Accepted::Now(claim) => {
                            thrower = Some(claim);
                            true
                        }
                    });
    if may_receive
        && let Some(claim) =
            control.word().parked_token().and_then(|token| Control::claim(token, Woken::Interrupt))
    {
        park::ready(claim);
    }
    // Only now: what it does next must not overtake its exception.
    if let Some(thrower) = thrower {
        park::ready(thrower);
    }
}

/// A thread's home is asked to look at it.
fn tell_home(thread: Reference) {
    if let Home::Capability(slot) = thread.control().home() {
        Remote::of(slot).send(Mail::Interrupt(thread));
    }
}

/// Asks a thread's home to kill it.
pub(crate) fn post_kill(thread: Reference) {
    let control = thread.control();
    if !control.notice().is_killed() && !exception::is_over(control) {
        control.notice().mark_killed();
        tell_home(thread);
    }
}

/// Raises `payload` in the thread, and waits until it is received.
pub(crate) fn throw_to(thread: &Reference, payload: Payload) {
    park::interruption_point();
    if let Some((_, running)) = current::thread()
        && std::ptr::eq(running, thread.control())
    {
        park::resume_unwind(payload);
    }
    let Some(id) = thread.control().id() else { return };
    let mut payload = Some(payload);
    while payload.is_some() && !exception::is_over(thread.control()) {
        let mut posted = None;
        let woken = park::park(BlockedOn::ThrowTo(id), None, |token| {
            let Some(unposted) = payload.take() else { return false };
            posted = Some(token);
            exception::post(thread, unposted, token);
            tell_home(thread.clone());
            // It may have ended before it was told. Then its home may be gone, too.
            if exception::is_over(thread.control()) {
                payload = exception::withdraw(thread, token);
            }
            payload.is_none()
        });
        if payload.is_none() {
            // Its own again if the thread was over, or if something else has ended the wait.
            payload = posted.and_then(|token| exception::withdraw(thread, token));
        }
        woken.or_unwind();
    }
}

/// Lets those go on who wait for a thread that will receive nothing any more.
pub(super) fn release_throwers(control: &'static Control) {
    if control.notice().is_thrown_to() {
        exception::drain(control, park::ready);
    }
}

/// How a body that ran in a frame ended, if not by its return.
pub(crate) enum Unwound {
    /// The frame was over.
    Over,
    /// Otherwise: the unwind is to go on.
    Other(Payload),
}

/// Runs `body` in a frame that is over at `deadline_ns` (`u64::MAX` is never), or once `cancelled` is set and
/// [`cancel`] was called.
///
/// # Panics
/// Outside a green thread.
pub(crate) fn in_frame<R>(
    deadline_ns: u64,
    cancelled: Option<Arc<AtomicBool>>,
    body: impl FnOnce() -> R,
) -> Result<R, Unwound> {
    let (_, control) = current::thread().expect("frames are of green threads");
    // SAFETY: the running thread's own control block, here and below.
    let id = unsafe { control.enter_frame(deadline_ns, cancelled) };
    let result = park::catch_unwind(AssertUnwindSafe(body));
    // SAFETY: as above.
    unsafe { control.leave_frame(id) };
    result.map_err(|payload| match payload.downcast::<FrameOver>() {
        Ok(over) if over.frame == id => Unwound::Over,
        Ok(other) => Unwound::Other(other),
        Err(other) => Unwound::Other(other),
    })
}

/// Ends a frame of `thread` that was entered with `cancelled`, at the next place where the thread receives exceptions.
/// If the frame was left meanwhile, nothing happens.
pub(crate) fn cancel(thread: &Reference, cancelled: &AtomicBool) {
    // Release, before the mark: see `Control::leave_frame`.
    cancelled.store(true, Ordering::Release);
    thread.control().notice().mark_frame_over();
    tell_home(thread.clone());
}

/// The calling thread's masking state. Plain OS threads receive nothing, but are not masked either.
pub(crate) fn masking_state() -> MaskingState {
    match current::thread() {
        // SAFETY: the running thread has its own control block.
        Some((_, control)) => unsafe { control.owned() }.mask.get(),
        None => MaskingState::Unmasked,
    }
}

/// Runs `body` in the given masking state. What is pending and may be received in that state is raised before `body`,
/// and afterwards if the outer state receives it.
pub(crate) fn with_masking_state<R>(state: MaskingState, body: impl FnOnce() -> R) -> R {
    let Some((capability, control)) = current::thread() else { return body() };
    let put_back = set_mask(control, state);
    let outer = put_back.1;
    if state < outer {
        deliver_at_yield(capability, control);
    }
    let result = body();
    drop(put_back);
    if outer < state {
        deliver_at_yield(capability, control);
    }
    result
}

/// Runs `body` uninterruptible, and raises nothing afterwards either: what is pending waits for the next place.
pub(crate) fn shielded<R>(body: impl FnOnce() -> R) -> R {
    let Some((_, control)) = current::thread() else { return body() };
    let _put_back = set_mask(control, MaskingState::MaskedUninterruptible);
    body()
}

/// Puts the masking state back when it goes.
struct PutBack(&'static Control, MaskingState);

impl Drop for PutBack {
    fn drop(&mut self) {
        // SAFETY: the running thread has its own control block.
        unsafe { self.0.owned() }.mask.set(self.1);
    }
}

fn set_mask(control: &'static Control, state: MaskingState) -> PutBack {
    // SAFETY: the running thread has its own control block.
    PutBack(control, unsafe { control.owned() }.mask.replace(state))
}

/// Whether a caught payload belongs to the runtime: a kill, or an unwind to a frame further out.
pub(crate) fn is_passing(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Killed>() || payload.is::<FrameOver>()
}
