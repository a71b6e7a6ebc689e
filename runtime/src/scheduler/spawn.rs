//! Making threads: a control block, a closure in it, and a place in somebody's nursery.

use super::runtime::{Inner, refuse_in_forked_child};
use super::{Capability, Remote, current, exception, park};
use crate::stack::SizeClass;
use crate::sys::clock;
use crate::thread::body::{self, Entry, Joiner, Left};
use crate::thread::exception::Killed;
use crate::thread::label::Label;
use crate::thread::notice::Home;
use crate::thread::{Control, table};
use std::io;
use std::sync::Arc;

/// The references of a new thread: its own while it runs, and its joiner's.
const REFERENCES: u32 = 2;

/// Which capability runs a new thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The spawner's, unless an idle one takes it first.
    #[default]
    Anywhere,
    /// That in this slot, unless it does not come to it for a time slice and another is idle.
    Prefer(u16),
    /// That in this slot.
    On(u16),
}

/// What a thread is spawned with.
#[derive(Debug, Default)]
pub(crate) struct Spawned {
    pub(crate) label: Label,
    pub(crate) stack_class: Option<SizeClass>,
    pub(crate) placement: Placement,
    /// Whether it may be switched at allocations; `None`: as its spawner, or as the runtime's threads are.
    pub(crate) preempt_at_allocation: Option<bool>,
}

/// Spawns into `runtime`, or into the caller's if `None`.
///
/// # Errors
/// The limit of threads is reached, or the runtime is shutting down.
///
/// # Panics
/// If `runtime` is `None` and the caller is in none.
pub(crate) fn spawn<F, T>(runtime: Option<&Arc<Inner>>, how: Spawned, f: F) -> io::Result<Joiner<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: what is 'static and Send may run, be dropped and be joined anywhere and at any time.
    unsafe { spawn_unchecked(runtime, how, f) }
}

/// The same for a closure that borrows.
///
/// # Safety
/// `F` and `T` are Send, and what they borrow lives until the thread, or whoever ends it before it starts, has dropped
/// the closure and the result, unless the result is taken or leaked by the joiner.
pub(crate) unsafe fn spawn_unchecked<F, T>(
    runtime: Option<&Arc<Inner>>,
    how: Spawned,
    f: F,
) -> io::Result<Joiner<T>>
where
    F: FnOnce() -> T,
{
    park::switch_point();
    let here = current::get();
    let runtime = match (runtime, here) {
        (Some(runtime), _) => runtime,
        (None, Some(capability)) => capability.runtime(),
        (None, None) => panic!("{NOT_IN_A_RUNTIME}"),
    };
    // A capability spawns for its own runtime without a shared counter.
    let here = here.filter(|capability| Arc::ptr_eq(capability.runtime(), runtime));
    if here.is_none() {
        refuse_in_forked_child()?;
        if runtime.is_stopping() {
            return Err(shutting_down());
        }
    }
    let remote = match (how.placement, here) {
        (Placement::Prefer(slot) | Placement::On(slot), _) => {
            assert!(runtime.index_of(slot).is_some(), "spawn: the capability is of another runtime");
            Remote::of(slot)
        }
        (Placement::Anywhere, Some(capability)) => capability.remote(),
        (Placement::Anywhere, None) => runtime.next_outside(),
    };
    let class = how.stack_class.unwrap_or(runtime.settings().stack_class);
    // SAFETY: the caller's promise: the body may run, and be joined, on any OS thread.
    let (control, joiner) = unsafe { prepare(runtime, remote.slot(), how.label, class, f)? };
    control.notice().set_preemptible(preemptible(runtime, here, how.preempt_at_allocation));
    match here {
        Some(capability) => capability.spawned(control),
        None if runtime.is_stopping_beyond_doubt() => {
            cancel(control);
            return Err(shutting_down());
        }
        None => {}
    }
    match (how.placement, here) {
        (Placement::On(_), here) => {
            let taken = control.word().take();
            assert!(taken, "spawn: nobody else knows the thread yet");
            match here {
                Some(capability) if capability.remote().slot() == remote.slot() => {
                    capability.enqueue(control);
                }
                _ => remote.push(control),
            }
            return Ok(joiner);
        }
        (Placement::Prefer(_), _) => remote.place(control),
        (Placement::Anywhere, _) => remote.nurse(control),
    }
    // The spawner's own capability is awake: it comes to its nursery by itself.
    if here.is_none_or(|capability| capability.remote().slot() != remote.slot()) {
        remote.nudge();
    }
    Ok(joiner)
}

/// Spawns a thread that stays on the caller's OS thread, so that its closure may be anything.
///
/// # Errors
/// The limit of threads is reached.
///
/// # Panics
/// If the caller is not in a runtime.
pub(crate) fn spawn_local<F, T>(how: Spawned, f: F) -> io::Result<Joiner<T>>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    // SAFETY: what is 'static lives long enough.
    unsafe { spawn_local_unchecked(how, f) }
}

/// The same for a closure that borrows.
///
/// # Safety
/// What `f` borrows, and what it returns, lives until the thread has ended and the result is dropped.
///
/// # Errors
/// As [`spawn_local`].
///
/// # Panics
/// As [`spawn_local`].
pub(crate) unsafe fn spawn_local_unchecked<F, T>(how: Spawned, f: F) -> io::Result<Joiner<T>>
where
    F: FnOnce() -> T,
{
    park::switch_point();
    let capability: &Capability = current::get().unwrap_or_else(|| panic!("{NOT_IN_A_RUNTIME}"));
    let class = how.stack_class.unwrap_or(capability.runtime().settings().stack_class);
    // SAFETY: the thread is enqueued on this very OS thread and never in a nursery, from where it could be taken:
    // the closure runs and is dropped here. A `T` that is not Send makes a joiner that is not Send. That what they borrow lives
    // long enough is the caller's promise.
    let (control, joiner) =
        unsafe { prepare(capability.runtime(), capability.remote().slot(), how.label, class, f)? };
    let preempt = how.preempt_at_allocation;
    control.notice().set_preemptible(preemptible(capability.runtime(), Some(capability), preempt));
    capability.spawned(control);
    let taken = control.word().take();
    assert!(taken, "spawn: nobody else knows the thread yet");
    capability.enqueue(control);
    Ok(joiner)
}

/// Whether a new thread may be switched at allocations: as it was said, else as its spawner may, if that is a thread of
/// the same runtime.
fn preemptible(runtime: &Inner, here: Option<&Capability>, said: Option<bool>) -> bool {
    let spawner = || here.and_then(Capability::running).map(|control| control.notice().is_preemptible());
    said.or_else(spawner).unwrap_or(runtime.settings().preempt_at_allocation)
}

const NOT_IN_A_RUNTIME: &str = "bast::spawn on a plain OS thread: use bast::run, or spawn through a Handle (Runtime::handle); an off-loaded \
     job is on one, and takes Handle::current with it";

fn shutting_down() -> io::Error {
    io::Error::other("the runtime is shutting down")
}

/// Ends a thread that was prepared and given to nobody.
#[cold]
fn cancel(control: &'static Control) {
    // SAFETY: nobody else knows the thread: we have it.
    let left = unsafe { body::enter(control, Entry::Cancel(Box::new(Killed))) };
    assert!(matches!(left, Left::Alone), "spawn: joined before it was spawned");
    control.word().finished();
    // SAFETY: this is the reference that the running thread would have held.
    unsafe { control.release() };
}

/// # Safety
/// `F` may be used wherever the caller puts the thread, and `T` wherever the joiner goes.
unsafe fn prepare<F, T>(
    runtime: &Inner,
    slot: u16,
    label: Label,
    class: SizeClass,
    f: F,
) -> io::Result<(&'static Control, Joiner<T>)>
where
    F: FnOnce() -> T,
{
    let now_ns = clock::monotonic_coarse_ns();
    let control = table::occupy(Home::Capability(slot), label, now_ns, REFERENCES, runtime.thread_limit())
        .map_err(|limit| io::Error::new(io::ErrorKind::OutOfMemory, limit))?;
    // SAFETY: the block is new and published nowhere: we have it.
    let owned = unsafe { control.owned() };
    owned.stack_class.set(class);
    owned.mask.set(exception::masking_state());
    if let Some(scoped) = current::scoped() {
        // SAFETY: as above.
        unsafe { control.with_extra(|extra| extra.scoped = scoped) };
    }
    // SAFETY: as above; the joiner below is the only one, and of the body's type. The rest is the caller's promise.
    let joiner = unsafe {
        body::write(control, f);
        Joiner::new(control)
    };
    Ok((control, joiner))
}
