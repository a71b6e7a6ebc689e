//! Which capability this OS thread is, and which green thread runs on it.
//!
//! A capability lives on its OS thread's own stack, from before its first green thread runs until after the last
//! one is off; green threads are pinned to it. So whoever runs on the OS thread while the pointer is set may use it,
//! and the reference that `get` gives out may not outlive the green thread that asked (it is not `Send`, and no
//! green thread outlives the capability's loop except as a leaked stack that never runs again).

use super::{Capability, Inner, park, preempt};
use crate::sys::clock;
use crate::thread::Control;
use crate::thread::extra::Extra;
use crate::thread::label::Label;
use crate::thread::notice::Home;
use crate::thread::scoped::Bindings;
use crate::thread::table::{self, ThreadLimit, TooManyThreads};
use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static CAPABILITY: Cell<*const Capability> = const { Cell::new(ptr::null()) };
    /// Of plain OS threads, which have no control block until they wait.
    static OS_THREAD_EXTRA: RefCell<Extra> = RefCell::default();
    static OS_THREAD: OsThread = const { OsThread { control: Cell::new(None), waits_for: RefCell::new(None) } };
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

/// Borrows what the calling thread has beside its control block's fields, for less than a park.
pub(crate) fn with_extra<R>(f: impl FnOnce(&mut Extra) -> R) -> R {
    match thread() {
        // SAFETY: the running thread has its own control block.
        Some((_, control)) => unsafe { control.with_extra(f) },
        None => OS_THREAD_EXTRA.with(|extra| f(&mut extra.borrow_mut())),
    }
}

/// The scoped values that a thread that the caller spawns is to see, if there are any.
pub(crate) fn scoped() -> Option<Bindings> {
    if thread().is_some_and(|(_, control)| !control.has_extra()) {
        return None;
    }
    with_extra(|extra| (!extra.scoped.is_empty()).then(|| extra.scoped.clone()))
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
    /// The runtime whose `run` it is in.
    waits_for: RefCell<Option<Arc<Inner>>>,
}

impl OsThread {
    fn control_or_new(&self) -> Result<&'static Control, TooManyThreads> {
        if let Some(control) = self.control.get() {
            return Ok(control);
        }
        let name = std::thread::current().name().map(str::to_owned);
        let label = name.map_or(Label::None, Label::from);
        let now_ns = clock::monotonic_coarse_ns();
        let control = table::occupy(Home::OsThread, label, now_ns, 1, ThreadLimit::TABLE)?;
        self.control.set(Some(control));
        Ok(control)
    }
}

impl Drop for OsThread {
    fn drop(&mut self) {
        if let Some(control) = self.control.take() {
            control.word().finished();
            // SAFETY: the OS thread held the only reference and is ending.
            unsafe { control.release() };
        }
    }
}

/// The calling thread's place in the table; 0 where it has none: on a scheduler's own stack, and on an OS thread that
/// cannot get one.
#[cold]
pub(crate) fn index() -> u32 {
    match get() {
        Some(capability) => capability.running().map_or(0, Control::index),
        None => os_thread_index(),
    }
}

#[cold]
fn os_thread_index() -> u32 {
    let index = OS_THREAD.try_with(|os_thread| os_thread.control_or_new().map_or(0, Control::index));
    // The OS thread is ending.
    index.unwrap_or(0)
}

/// OS threads that wait on their park words.
static OS_THREADS_WAITING: AtomicUsize = AtomicUsize::new(0);

/// How many OS threads wait on our objects, or are about to, or have just ceased to.
pub(super) fn os_threads_waiting() -> usize {
    OS_THREADS_WAITING.load(Ordering::SeqCst)
}

/// The calling OS thread waits, as long as the result lives.
pub(super) fn os_thread_waits() -> impl Drop {
    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            OS_THREADS_WAITING.fetch_sub(1, Ordering::SeqCst);
        }
    }
    OS_THREADS_WAITING.fetch_add(1, Ordering::SeqCst);
    Waits
}

/// Makes `runtime` the one that the calling OS thread waits for while `body` runs.
pub(crate) fn wait_for<R>(runtime: &Arc<Inner>, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<Inner>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let _ended = OS_THREAD.try_with(|os_thread| os_thread.waits_for.replace(self.0.take()));
        }
    }
    let _restore =
        Restore(OS_THREAD.with(|os_thread| os_thread.waits_for.replace(Some(Arc::clone(runtime)))));
    body()
}

/// Asks whether anything can still happen in the runtime that the calling OS thread waits for.
pub(super) fn look_whether_quiet() {
    let runtime = OS_THREAD.try_with(|os_thread| os_thread.waits_for.borrow().clone());
    if let Ok(Some(runtime)) = runtime {
        runtime.look_whether_quiet();
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
        .try_with(|os_thread| match os_thread.control_or_new() {
            Ok(control) => control,
            Err(error) => panic!("an OS thread cannot wait: {error}"),
        })
        .expect("blocking call in a destructor of a thread-local of an OS thread that is ending: block before it ends")
}
