//! Stackful green threads, pinned to per-core io managers, with blocking-style APIs.
//!
//! ```
//! use std::time::Duration;
//!
//! let sum = bast::run(|| {
//!     let threads: Vec<_> = (0..1000u64)
//!         .map(|n| {
//!             bast::spawn(move || {
//!                 bast::sleep(Duration::from_millis(1)); // parks this green thread only
//!                 n
//!             })
//!         })
//!         .collect();
//!     threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
//! });
//! assert_eq!(sum, 499_500);
//! ```
//!
//! A green thread costs a few hundred nanoseconds to make and about 4.8 KiB while it is parked. It runs on the
//! capability (the OS thread with its own run queue, timers and epoll) where it was started and never leaves it, so
//! that `Rc`, `RefCell` and guards may live across blocking calls.
//!
//! # What pinning does not remove
//! The green threads of one capability share std's thread-locals. Two things follow. A std guard (of `std::sync::Mutex`,
//! say) that is held while its thread parks is memory-safe, but the next locker on the same core blocks the OS thread
//! and with it the holder: use [`sync`]. And no code below a park may rely on OS-thread-local state being left in
//! LIFO order: run such code inside [`no_park`], which turns a park into a panic. `std::thread::park`, `std::sync::mpsc`
//! and `std::thread::scope` identify waiters by OS thread and must not block inside green threads.
//!
//! # Logging
//! What nobody is there to be told, such as threads that do not end at a shutdown, goes to the [`log`] facade. Install
//! a logger to see it, env_logger, say:
//!
//! ```ignore
//! // in Cargo.toml: env_logger = "0.11"
//! env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
//! ```
//!
//! Panics of threads are reported by the panic hook, on stderr unless you set another, and a stack overflow, which ends
//! the process, on stderr; where there is no logger, so are deadlocks and threads that do not let go of a core.
//!
//! # Unwinding
//! std counts panics per OS thread, and green threads share one. To know which of them unwinds, the runtime notes where an
//! unwind begins: so a panic hook that is set while a runtime runs calls the one before it (`std::panic::take_hook`), and
//! whoever goes on with a caught unwind in a green thread does so by [`resume_unwind`]. If that is left out, a kill may
//! be raised in a destructor that waits in an unwind, while a neighbour does so too, and that ends the process.
//!
//! # Seeing what threads do
//! [`threads()`] lists them, [`dump()`] adds their stacks, and [`dump_on_sigquit`] prints that when the process gets SIGQUIT. A
//! watchdog reports a thread that does not let go of its core ([`RuntimeBuilder::watchdog`]). None of this stops anybody.

#[cfg(not(target_os = "linux"))]
compile_error!("bast supports Linux only: its io managers are made of epoll and eventfd");
#[cfg(panic = "abort")]
compile_error!("bast needs panic = \"unwind\": killing a thread and isolating a panic are unwinds");

pub mod alloc;
mod builder;
mod coroutine;
mod critical;
pub mod deadlock;
pub mod event_log;
pub mod fs;
mod future;
mod handle;
mod io_manager;
mod local;
mod mask;
mod monitor;
pub mod net;
mod offload;
mod pool;
pub mod process;
mod runtime;
mod scheduler;
mod scope;
mod scoped;
mod select;
pub mod signal;
mod stack;
pub mod stdio;
pub mod sync;
mod sys;
mod tell;
mod thread;
pub mod time;
mod timeout;
mod timer;
mod walk;

pub use builder::{Builder, spawn, spawn_local, spawn_with_unmask};
pub use event_log::EventLog;
pub use future::block_on;
pub use handle::{JoinError, JoinHandle, Thread, current, is_interrupt, is_kill, throw_to};
pub use local::LocalKey;
pub use mask::{
    MaskingState, Restore, allow_interrupt, bracket, catch, mask, masking_state, uninterruptible,
};
pub use monitor::{Dump, Frame, Group, Hog, State, ThreadDump, ThreadInfo, dump, dump_on_sigquit, threads};
pub use offload::{offload, offload_stats, offload_timeout};
pub use pool::OffloadStats;
pub use runtime::{CapabilityId, Handle, Runtime, RuntimeBuilder, StackGuard, run};
pub use scheduler::describe::{PanicPlace, take_panic_place};
pub use scheduler::segment::{ensure_stack, stack_left};
pub use scheduler::{Counters, RuntimeCounters};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use scoped::ScopedValue;
pub use select::Select;
pub use thread::ThreadId;
pub use thread::block::BlockedOn;
pub use thread::label::{Label, Role};
pub use time::sleep;
pub use timeout::{Elapsed, time_left, timeout, timeout_at};

use scheduler::{current as scheduler_current, park};
use std::panic::UnwindSafe;

/// Whether the caller runs in a green thread.
pub fn is_green() -> bool {
    scheduler_current::thread().is_some()
}

/// Lets the other runnable threads of this capability run first. On a plain OS thread this is
/// `std::thread::yield_now`.
///
/// An interruptible point: a thread that was killed unwinds here.
#[inline]
pub fn yield_now() {
    park::yield_now();
}

/// Tests whether the time slice is over, and yields if it is: one load. For loops that compute for long without
/// calling the runtime.
///
/// An interruptible point when it yields.
#[inline]
pub fn yield_point() {
    park::yield_point();
}

/// Runs `body` with parking forbidden: a call that would have to block panics instead.
///
/// For code that keeps OS-thread-local state in order (scoped thread-locals, foreign interpreters' thread state):
/// if it parked, its neighbours on the OS thread would see that state. Outside a green thread it only calls `body`.
///
/// ```
/// bast::run(|| {
///     let blocked = std::panic::catch_unwind(|| bast::no_park(|| bast::yield_now()));
///     assert!(blocked.is_ok(), "a yield is left out");
///     let thread = bast::spawn(|| bast::no_park(|| bast::sleep(std::time::Duration::from_secs(1))));
///     assert!(thread.join().unwrap_err().is_panic());
/// });
/// ```
pub fn no_park<R>(body: impl FnOnce() -> R) -> R {
    match scheduler_current::thread() {
        Some((capability, _)) => capability.no_park(body),
        None => body(),
    }
}

/// Catches a panic of `body`, like `std::panic::catch_unwind`. For catchers that go on with other work, as a server
/// does: std counts panics per OS thread, so while a neighbour is suspended in the middle of its own unwind (by a
/// destructor that waits) the runtime could otherwise not tell at once that this thread's is over.
///
/// A kill, and the end of a [`timeout`](timeout()) or of a [`scope`](scope()) further out, are caught too; whoever catches
/// on behalf of others lets them go on ([`is_interrupt`], [`resume_unwind`]).
///
/// # Errors
/// The payload of the panic.
pub fn catch_unwind<R>(body: impl FnOnce() -> R + UnwindSafe) -> std::thread::Result<R> {
    park::catch_unwind(body)
}

/// Goes on with an unwind that was caught, like `std::panic::resume_unwind`, for catchers of [`catch_unwind`].
pub fn resume_unwind(payload: Box<dyn std::any::Any + Send>) -> ! {
    park::resume_unwind(payload)
}

/// Calls `hook` on the calling green thread's own stack just before each of its parks, while `body` runs.
///
/// A server uses it to send what it has gathered before a handler waits for something. The hook may block; it is
/// not called for its own parks. Being preempted or [`yield_now`] is no park. Hooks do not nest: an inner one
/// replaces the outer while its body runs. Outside a green thread it only calls `body`.
pub fn with_park_hook<R>(hook: &dyn Fn(), body: impl FnOnce() -> R) -> R {
    park::with_park_hook(hook, body)
}

/// The capability that the calling green thread runs on.
///
/// # Panics
/// Outside a green thread.
pub fn capability() -> CapabilityId {
    runtime::current_capability().expect("bast::capability outside a green thread")
}

/// How many capabilities the caller's runtime has.
///
/// # Panics
/// Outside a runtime.
pub fn capabilities() -> usize {
    let capability = scheduler_current::get().expect("bast::capabilities outside a runtime");
    capability.runtime().remotes().len()
}
