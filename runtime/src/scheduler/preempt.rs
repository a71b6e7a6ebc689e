#![forbid(unsafe_code)]
//! Note [preemption]: where a thread that does not call the runtime loses its core all the same: at an allocation.
//!
//! The tick marks a slice as over. Runtime calls test the mark, and so does `bast::alloc::YieldingAlloc` at every
//! allocation, through a pointer that is this OS thread's: to the mark of its capability, or to one that is never set.
//! So a test is a load of the pointer, a load through it, and a branch, also where there is no runtime.
//!
//! At an allocation a thread is only *switched*. No exception is raised there, since unwinding out of an allocator is
//! undefined behaviour; what is pending stays so until the next runtime call. And it is switched only if
//!
//! - it opted in, which is where the contract of `YieldingAlloc::new` begins to matter;
//! - it runs: on a scheduler's own stack nobody does;
//! - it is not in a section of the runtime's own (`critical.rs`) and not in `no_park`;
//! - no panic is on its way on this OS thread. Inside a panic hook a neighbour's panic would end the process, since std
//!   takes the two for one. While *another* thread is suspended in the middle of its unwind std says the same, and hogs
//!   keep their core a while longer: the safe mistake of the two.
//!
//! While an OS thread ends, its capability is gone and so is the pointer.

use super::current;
use crate::critical;
use crate::thread::token::State;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

static NEVER: AtomicBool = AtomicBool::new(false);

thread_local! {
    static SLICE_OVER: Cell<&'static AtomicBool> = const { Cell::new(&NEVER) };
}

/// Makes `mark` that of this OS thread's slices while `body` runs.
pub(super) fn watch(mark: &'static AtomicBool, body: impl FnOnce()) {
    SLICE_OVER.set(mark);
    body();
    SLICE_OVER.set(&NEVER);
}

/// Lets others run if the time slice is over and the calling thread may be switched here.
#[inline(always)]
pub(crate) fn allocation_point() {
    if SLICE_OVER.get().load(Ordering::Relaxed) {
        switch();
    }
}

#[cold]
#[inline(never)]
fn switch() {
    if critical::is_inside() || thread::panicking() {
        return;
    }
    if let Some((capability, control)) = current::thread()
        && control.notice().is_preemptible()
        && control.state() == State::Running
        && capability.may_park()
    {
        capability.suspend_to_yield(control);
    }
}

/// Runs `body` with the calling thread's choice set to `on`.
pub(crate) fn with<R>(on: bool, body: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some((_, control)) = current::thread() {
                control.notice().set_preemptible(self.0);
            }
        }
    }
    let Some((_, control)) = current::thread() else { return body() };
    let _restore = Restore(control.notice().is_preemptible());
    control.notice().set_preemptible(on);
    body()
}

/// Whether the calling thread may be switched at allocations.
pub(crate) fn is_on() -> bool {
    current::thread().is_some_and(|(_, control)| control.notice().is_preemptible())
}
