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
//! # Kills
//! A kill is sticky. It is delivered on entry to a park, before any effect, and after a park only if it won the
//! park: an operation that completed returns, and the kill waits for the next one. Never while unwinding.
//!
//! # Switching while unwinding
//! `std::thread::panicking` counts per OS thread. While a thread that unwinds is off its core (it parked, or its
//! slice was over), its neighbours would be told that they panic. Such threads are counted, and while there are any a
//! flag of each thread answers instead. It is set where an unwind begins (here for kills, by the panic hook for
//! panics) and put right by std's answer whenever a thread is suspended while that can be trusted. What it may miss
//! is that a thread caught its panic while another is suspended in the middle of its own: then it takes itself to be
//! unwinding for a while longer, a kill waits, and io that would have to wait fails. The other mistake, an unwind out
//! of a destructor that runs in an unwind, would be the end of the process.

use super::current;
use super::remote::Remote;
use super::{Capability, Mail};
use crate::sys::{clock, futex};
use crate::thread::block::BlockedOn;
use crate::thread::body::{Killed, Payload};
use crate::thread::control::{Home, Reference};
use crate::thread::token::State;
use crate::thread::{Claim, Control, Token, Woken};
use std::cell::Cell;
use std::panic::{self, UnwindSafe};

/// What a park on a scheduler's own stack, where only the runtime's code runs, says.
pub(crate) const ON_SCHEDULER: &str =
    "blocking call on a scheduler's stack: a hook of the runtime must not block";

/// Suspends the calling thread, green or OS, until its token is claimed or the deadline (on the monotonic clock)
/// has passed.
///
/// # Panics
/// Inside `no_park`. Unwinds if the thread was killed before.
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
    deliver_kill(capability, control);
    if run_hook(control) {
        // The hook may have let others run, and one of them may have killed the thread.
        deliver_kill(capability, control);
    }
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

/// The same for an OS thread: it sleeps on its park word. It must not go on as soon as it is claimed: what it waited
/// for is given to it between the claim and `ready`.
#[cold]
fn park_os(reason: BlockedOn, deadline_ns: Option<u64>, commit: &mut dyn FnMut(Token) -> bool) -> Woken {
    let control = current::os_thread();
    let token = control.begin_park(reason);
    control.parked(token);
    let waits = commit(token);
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
            futex::wait(control.park_word(), token.with(state), limit_ns);
        }
    }
}

/// Makes a claimed thread run again: the winner's last step.
#[inline]
pub(crate) fn ready(claim: Claim) {
    let control = claim.control();
    match control.home() {
        Home::OsThread => {
            control.let_go();
            futex::wake(control.park_word());
        }
        Home::Capability(slot) => match current::get() {
            Some(capability) if capability.remote().slot() == slot => capability.enqueue(control),
            _ => Remote::of(slot).push(control),
        },
    }
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
    /// Unwinds if the park was ended by a kill.
    pub(crate) fn or_unwind(self) -> Woken {
        if self == Woken::Interrupt
            && let Some((capability, control)) = current::thread()
        {
            deliver_kill(capability, control);
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
            deliver_kill(capability, control);
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
    if let Some((capability, _)) = current::thread()
        && capability.remote().is_slice_over()
    {
        yield_now();
    }
}

/// The same where no kill is delivered, for calls that cannot block: they must not unwind.
#[inline]
pub(crate) fn switch_point() {
    if let Some((capability, control)) = current::thread()
        && capability.remote().is_slice_over()
        && capability.may_park()
    {
        capability.suspend_to_yield(control);
    }
}

/// Where an operation that may block begins, whether it blocks or not: a pending kill is delivered, and others run if
/// the time slice is over. Comes before the effect.
#[inline]
pub(crate) fn interruption_point() {
    if let Some((capability, control)) = current::thread()
        && (control.is_killed() || capability.remote().is_slice_over())
    {
        interrupt(capability, control);
    }
}

#[cold]
fn interrupt(capability: &'static Capability, control: &'static Control) {
    deliver_kill(capability, control);
    yield_point();
    // It may have been killed while the others ran.
    deliver_kill(capability, control);
}

/// Where a kill meets the thread, unless it is unwinding already.
#[inline]
fn deliver_kill(capability: &Capability, control: &Control) {
    if control.is_killed() && capability.may_park() && !is_unwinding() {
        unwind();
    }
}

#[cold]
fn unwind() -> ! {
    resume_unwind(Box::new(Killed))
}

/// `std::panic::resume_unwind`, with what is needed for [`is_unwinding`].
pub(crate) fn resume_unwind(payload: Payload) -> ! {
    begin_unwind();
    panic::resume_unwind(payload)
}

/// The calling thread is about to unwind.
pub(crate) fn begin_unwind() {
    if let Some((_, control)) = current::thread() {
        control.set_unwinding(true);
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
        control.set_unwinding(before);
    }
    result
}

/// Whether the calling thread is unwinding.
pub(crate) fn is_unwinding() -> bool {
    std::thread::panicking()
        && current::thread().is_none_or(|(capability, control)| capability.is_unwinding(control))
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

/// Asks a thread's home to kill it.
pub(crate) fn post_kill(thread: Reference) {
    if let Home::Capability(slot) = thread.control().home()
        && thread.control().state() != State::Finished
    {
        Remote::of(slot).send(Mail::Kill(thread));
    }
}
