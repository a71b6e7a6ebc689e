//! Which capability this OS thread is, and which green thread runs on it.
//!
//! A capability lives on its OS thread's own stack, from before its first green thread runs until after the last
//! one is off; green threads are pinned to it. So whoever runs on the OS thread while the pointer is set may use it,
//! and the reference that `get` gives out may not outlive the green thread that asked (it is not `Send`, and no
//! green thread outlives the capability's loop except as a leaked stack that never runs again).

use super::Capability;
use super::{park, preempt};
use crate::sys::clock;
use crate::thread::Control;
use crate::thread::control::Home;
use crate::thread::label::Label;
use crate::thread::table::{self, ThreadLimit};
use std::cell::Cell;
use std::ptr;

thread_local! {
    static CAPABILITY: Cell<*const Capability> = const { Cell::new(ptr::null()) };
    static OS_THREAD: OsThread = const { OsThread { control: Cell::new(None) } };
}

/// The capability that the caller runs on; `None` on an OS thread that is none.
#[inline]
pub(crate) fn get() -> Option<&'static Capability> {
    // SAFETY: the pointer is set (by `enter`) exactly while the capability that it points to lives on this OS
    // thread's stack. 'static stands for "as long as anything runs here"; see above.
    unsafe { CAPABILITY.with(Cell::get).as_ref() }
}

/// The green thread that is running; `None` on other OS threads and on a scheduler's own stack.
#[inline]
pub(crate) fn thread() -> Option<(&'static Capability, &'static Control)> {
    let capability = get()?;
    Some((capability, capability.running()?))
}

/// Makes `capability` this OS thread's while `body` runs.
pub(super) fn enter(capability: &Capability, body: impl FnOnce()) {
    CAPABILITY.with(|current| {
        assert!(current.get().is_null(), "current: an OS thread is one capability at a time");
        current.set(capability);
    });
    preempt::watch(capability.remote().slice_mark(), body);
    CAPABILITY.with(|current| current.set(ptr::null()));
}

/// The control block by which a plain OS thread waits on our objects; made when it first does.
struct OsThread {
    control: Cell<Option<&'static Control>>,
}

impl Drop for OsThread {
    fn drop(&mut self) {
        if let Some(control) = self.control.take() {
            control.finished();
            // SAFETY: the OS thread held the only reference and is ending.
            unsafe { control.release() };
        }
    }
}

/// The calling OS thread's control block.
///
/// # Panics
/// On a scheduler's own stack, where nothing may wait; in a destructor of a thread-local of an ending OS thread;
/// when there are too many threads.
pub(crate) fn os_thread() -> &'static Control {
    assert!(get().is_none(), "{}", park::ON_SCHEDULER);
    OS_THREAD
        .try_with(|os_thread| {
            os_thread.control.get().unwrap_or_else(|| {
                let name = std::thread::current().name().map(str::to_owned);
                let label = name.map_or(Label::None, Label::from);
                let control = match table::occupy(
                    Home::OsThread,
                    label,
                    clock::monotonic_coarse_ns(),
                    1,
                    ThreadLimit::TABLE,
                ) {
                    Ok(control) => control,
                    Err(error) => panic!("an OS thread cannot wait: {error}"),
                };
                os_thread.control.set(Some(control));
                control
            })
        })
        .expect("blocking call in a destructor of a thread-local of an OS thread that is ending: block before it ends")
}
