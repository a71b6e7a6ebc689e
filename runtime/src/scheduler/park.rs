//! Note [park]: the one place where threads are suspended, and the one way by which they are woken.
//!
//! `park(reason, deadline, commit)` suspends the running thread. `commit` runs on the scheduler's stack *after* the
//! switch, with the park's token: only there is the token put where wakers find it, so that nobody can wake a thread
//! that is still on its stack. It may refuse (`false`), when a second look finds that there is nothing to wait for.
//!
//! Whoever has the token may end the park, once: the compare-and-swap of [`Control::claim`] has one winner, be it
//! an event, the deadline or a kill, and is won *before* anything is transferred. The winner gives the thread what
//! it waited for and then makes it [`ready`].
//!
//! The park returns why it ended. A caller that put its token into a queue takes it out again if that is another
//! reason than the queue's own claim; then a kill goes on as an unwind ([`Woken::or_unwind`]).
//!
//! # Exceptions
//! They are raised on entry to a park, before any effect, and after a park only if they won it: an operation that
//! completed returns, and the exception waits for the next one (Note [exceptions] in `exception.rs`).
//!
//! # Switching while unwinding
//! `std::thread::panicking` counts per OS thread. While a thread that unwinds is off its core (it parked, or its
//! slice was over), its neighbours would be told that they panic. Such threads are counted, and while there are any a
//! flag of each thread answers instead. It is set where an unwind begins (here for kills, by the panic hook for
//! panics) and put right by std's answer whenever a thread is suspended while that can be trusted. What it may miss
//! is that a thread caught its panic while another is suspended in the middle of its own: then it takes itself to be
//! unwinding for a while longer, an exception waits, and io that would have to wait fails, until the others have
//! unwound (`Capability::nobody_unwinds`). The other mistake, an unwind out
//! of a destructor that runs in an unwind, would be the end of the process.

use super::exception::{self, deliver, deliver_at_yield};
use super::remote::Remote;
use super::{Capability, current};
use crate::pool;
use crate::sys::{clock, futex};
use crate::thread::block::BlockedOn;
use crate::thread::body::Payload;
use crate::thread::notice::Home;
use crate::thread::token::State;
use crate::thread::{Claim, Control, Token, Woken};
use std::cell::Cell;
use std::panic::{self, UnwindSafe};

/// What a park on a scheduler's own stack, where only the runtime's code runs, says.
pub(crate) const ON_SCHEDULER: &str =
    "blocking call on a scheduler's stack: a hook of the runtime must not block";

/// At what kind of place a thread looks for exceptions; see Note [exceptions].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// It could go on.
    Yield,
    /// It has to wait.
    Park,
}

/// Suspends the calling thread, green or OS, until its token is claimed or the deadline (on the monotonic clock)
/// has passed.
///
/// # Panics
/// Inside `no_park`. Unwinds if there is an exception to raise.
#[inline]
pub(crate) fn park(
    reason: BlockedOn,
    deadline_ns: Option<u64>,
    mut commit: impl FnMut(Token) -> bool,
) -> Woken {
    match current::thread() {
        Some((capability, control)) => park_green(capability, control, reason, deadline_ns, &mut commit),
        None => park_os(reason, deadline_ns, &mut commit),
    }
}

/// Inlined like a yield, as far as the callers' depth allows.
#[inline(always)]
fn park_green(
    capability: &'static Capability,
    control: &'static Control,
    reason: BlockedOn,
    deadline_ns: Option<u64>,
    commit: &mut dyn FnMut(Token) -> bool,
) -> Woken {
    assert!(
        capability.may_park(),
        "blocking call inside bast::no_park, a thread-local's initialiser or a panic hook"
    );
    deliver(capability, control, Point::Park);
    if run_hook(control) {
        // The hook may have let others run, and one of them may have sent an exception.
        deliver(capability, control, Point::Park);
    }
    if control.notice().has_frames() {
        return park_in_frames(capability, control, reason, deadline_ns, commit);
    }
    park_until(capability, control, reason, deadline_ns, commit)
}

#[inline(always)]
fn park_until(
    capability: &'static Capability,
    control: &'static Control,
    reason: BlockedOn,
    deadline_ns: Option<u64>,
    commit: &mut dyn FnMut(Token) -> bool,
) -> Woken {
    let token = control.begin_park(reason);
    if let Some(deadline_ns) = deadline_ns {
        capability.arm(control, deadline_ns);
    }
    capability.suspend_to_park(control, token, commit);
    let woken = control.resumed();
    if deadline_ns.is_some() {
        crate::timer::Timers::disarm(control);
    }
    woken
}

/// The same where a frame of the thread may be over before the wait is: a deadline that ends the frame is an
/// exception, one of the operation itself is not.
fn park_in_frames(
    capability: &'static Capability,
    control: &'static Control,
    reason: BlockedOn,
    deadline_ns: Option<u64>,
    commit: &mut dyn FnMut(Token) -> bool,
) -> Woken {
    let limit_ns = exception::limit_ns(control).filter(|limit| deadline_ns.is_none_or(|own| *limit < own));
    let woken = park_until(capability, control, reason, limit_ns.or(deadline_ns), commit);
    if woken == Woken::Timer && limit_ns.is_some() {
        control.notice().mark_frame_over();
        return Woken::Interrupt;
    }
    woken
}

/// A park whose token is published before the switch, under a lock that every waker takes and that `unlock` releases
/// after it: so that an object need not be locked twice per wait. `None`, and nothing has happened, where something is
/// to be done before the park (a hook, an exception, a deadline, a panic) or the caller is an OS thread: then the caller releases
/// the lock and calls [`park`].
///
/// `publish` is called with the lock held on the thread's own stack; from there to `unlock` nothing allocates, blocks or
/// runs another thread.
#[inline(always)]
pub(crate) fn park_locked(
    reason: BlockedOn,
    publish: impl FnOnce(&'static Control, Token),
    mut unlock: impl FnMut(),
) -> Option<Woken> {
    let (capability, control) = current::thread()?;
    let notice = control.notice();
    if !capability.may_park() || notice.has_exception() || notice.has_frames() || has_hook(control) {
        return None;
    }
    let token = control.begin_park(reason);
    publish(control, token);
    capability.suspend_to_park(control, token, &mut |_| {
        unlock();
        true
    });
    Some(control.resumed())
}

/// Whether a thread's home is the capability that the caller runs on.
#[inline]
pub(crate) fn is_home(control: &Control) -> bool {
    current::get().is_some_and(|here| control.home() == Home::Capability(here.remote().slot()))
}

/// `park` for an OS thread: it sleeps on its park word. It must not go on as soon as it is claimed: what it waited
/// for is given to it between the claim and `ready`.
#[cold]
fn park_os(reason: BlockedOn, deadline_ns: Option<u64>, commit: &mut dyn FnMut(Token) -> bool) -> Woken {
    let control = current::os_thread();
    let token = control.begin_park(reason);
    control.word().parked(token);
    let _waiting = current::os_thread_waits();
    let waits = commit(token);
    // It may be the last of which something could be hoped.
    current::look_whether_quiet();
    // A thread of the off-load pool lets another take its place meanwhile.
    pool::while_waiting(|| sleep_os(control, token, waits, deadline_ns))
}

fn sleep_os(control: &'static Control, token: Token, waits: bool, deadline_ns: Option<u64>) -> Woken {
    loop {
        let state = control.state();
        let mut limit_ns = None;
        match state {
            State::Parked => {
                limit_ns = deadline_ns.map(|deadline| deadline.saturating_sub(clock::monotonic_ns()));
                let cause = if waits { Woken::Timer } else { Woken::Event };
                // A claim of its own park needs no waking. If it fails, somebody else is about to wake the thread.
                if (!waits || limit_ns == Some(0)) && Control::claim(token, cause).is_some() {
                    return control.resumed();
                }
            }
            State::ClaimedEvent => {}
            _ => return control.resumed(),
        }
        if limit_ns != Some(0) {
            futex::wait(control.word().atomic(), token.with(state), limit_ns);
        }
    }
}

/// Makes a claimed thread run again: the winner's last step.
#[inline]
pub(crate) fn ready(claim: Claim) {
    let control = claim.control();
    match control.home() {
        Home::OsThread => {
            control.word().let_go();
            futex::wake(control.word().atomic());
        }
        Home::Capability(slot) => match current::get() {
            Some(capability) if capability.remote().slot() == slot => capability.wake(control),
            here => {
                if let Some(capability) = here {
                    capability.wakes_elsewhere(control);
                }
                Remote::of(slot).push(control);
            }
        },
    }
}

/// Ends the calling thread's own park, in its commit, as if it had been for nothing: not by an event. False: somebody
/// else has ended it.
pub(crate) fn withdraw(token: Token) -> bool {
    let Some(claim) = Control::claim(token, Woken::Timer) else { return false };
    // An OS thread is on its own stack, and looks at its park word before it sleeps.
    if claim.control().home() != Home::OsThread {
        ready(claim);
    }
    true
}

/// Ends the park that `token` names, if it is not over.
pub(crate) fn wake(token: Token) -> bool {
    Control::claim(token, Woken::Event).map(ready).is_some()
}

/// The same for what a poller or an object reports.
pub(crate) fn wake_all(token: Token) {
    wake(token);
}

impl Woken {
    /// Unwinds if the park was ended by an exception.
    pub(crate) fn or_unwind(self) -> Woken {
        if self == Woken::Interrupt
            && let Some((capability, control)) = current::thread()
        {
            deliver(capability, control, Point::Park);
        }
        self
    }
}

/// Lets the other threads of the capability run.
///
/// Inlined as far as the switch itself: each call level between a thread's own code and the switch costs two
/// mispredicted returns, since the processor pairs the return with the call of whichever thread ran in between.
#[inline]
pub(crate) fn yield_now() {
    match current::thread() {
        Some((capability, control)) => {
            deliver_at_yield(capability, control);
            if capability.may_park() {
                capability.suspend_to_yield(control);
            }
        }
        None => std::thread::yield_now(),
    }
}

/// A yield point: lets others run if the time slice is over. Comes before the effect of the operation that it is in.
#[inline]
pub(crate) fn yield_point() {
    if let Some((capability, control)) = current::thread()
        && capability.remote().is_slice_over()
    {
        interrupt(capability, control);
    }
}

/// The same where no exception is raised, for calls that cannot block: they must not unwind.
#[inline]
pub(crate) fn switch_point() {
    if let Some((capability, control)) = current::thread()
        && capability.remote().is_slice_over()
        && capability.may_park()
    {
        capability.suspend_to_yield(control);
    }
}

/// Where an operation that may block begins, whether it blocks or not: what is pending is raised, and others run if
/// the time slice is over. Comes before the effect.
#[inline]
pub(crate) fn interruption_point() {
    if let Some((capability, control)) = current::thread() {
        interruption_point_of(capability, control);
    }
}

/// The same for a caller that wants to know its place in the table; see [`current::index`].
#[inline]
pub(crate) fn interruption_point_and_index() -> u32 {
    match current::thread() {
        Some((capability, control)) => {
            interruption_point_of(capability, control);
            control.index()
        }
        None => current::index(),
    }
}

#[inline]
fn interruption_point_of(capability: &'static Capability, control: &'static Control) {
    if control.notice().has_exception() || capability.remote().is_slice_over() {
        interrupt(capability, control);
    }
}

#[cold]
fn interrupt(capability: &'static Capability, control: &'static Control) {
    deliver_at_yield(capability, control);
    if capability.remote().is_slice_over() && capability.may_park() {
        capability.suspend_to_yield(control);
    }
    // Something may have been sent while the others ran.
    deliver_at_yield(capability, control);
}

/// `std::panic::resume_unwind`, with what is needed for [`is_unwinding`].
pub(crate) fn resume_unwind(payload: Payload) -> ! {
    begin_unwind();
    panic::resume_unwind(payload)
}

/// The calling thread is about to unwind.
pub(crate) fn begin_unwind() {
    if let Some((_, control)) = current::thread() {
        control.notice().set_unwinding(true);
    }
}

/// `std::panic::catch_unwind`, which also says for [`is_unwinding`] that the unwind it caught is over.
pub(crate) fn catch_unwind<R>(body: impl FnOnce() -> R + UnwindSafe) -> std::thread::Result<R> {
    // In a destructor that runs because of an outer unwind, that one goes on.
    let before = is_unwinding();
    let result = panic::catch_unwind(body);
    if result.is_err()
        && let Some((_, control)) = current::thread()
    {
        control.notice().set_unwinding(before);
    }
    result
}

/// Whether the calling thread is unwinding.
pub(crate) fn is_unwinding() -> bool {
    std::thread::panicking()
        && current::thread().is_none_or(|(capability, control)| capability.is_unwinding(control))
}

/// Whether something is to be called before the thread parks.
#[inline]
fn has_hook(control: &'static Control) -> bool {
    // SAFETY: the running thread has its own control block.
    let slot = unsafe { &control.owned().park_hook };
    slot.get().is_some()
}

/// Calls the thread's hook; false: it has none.
fn run_hook(control: &'static Control) -> bool {
    struct PutBack<'a>(&'a Cell<Option<*const dyn Fn()>>, *const dyn Fn());
    impl Drop for PutBack<'_> {
        fn drop(&mut self) {
            self.0.set(Some(self.1));
        }
    }
    // SAFETY: the running thread has its own control block.
    let slot = unsafe { &control.owned().park_hook };
    // Taken out while it runs: what it does may park, and must not call it again.
    let Some(hook) = slot.take() else { return false };
    let _put_back = PutBack(slot, hook);
    // SAFETY: `with_park_hook` borrows the hook for as long as it is set, and takes it out before it returns.
    unsafe { (*hook)() };
    true
}

/// Calls `hook` before each park of the calling thread while `body` runs.
pub(crate) fn with_park_hook<R>(hook: &dyn Fn(), body: impl FnOnce() -> R) -> R {
    struct Restore(&'static Control, Option<*const dyn Fn()>);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the running thread has its own control block.
            unsafe { self.0.owned() }.park_hook.set(self.1);
        }
    }
    let Some((_, control)) = current::thread() else { return body() };
    // SAFETY: only the lifetime is erased; `Restore` takes the hook out before the borrow ends, on every path.
    let hook: *const dyn Fn() = unsafe { std::mem::transmute::<&dyn Fn(), &'static dyn Fn()>(hook) };
    // SAFETY: the running thread has its own control block.
    let _restore = Restore(control, unsafe { control.owned() }.park_hook.replace(Some(hook)));
    body()
}
