//! Preemption at allocations: an allocator at which threads that compute for long let others run.
//!
//! A green thread gives way where it calls the runtime. One that computes for long without such a call keeps its core,
//! and everybody else on it waits. [`yield_point`](crate::yield_point) in its loop is the plain remedy. Where the loop
//! is not yours (a parser, a template engine), it usually allocates, and then [`YieldingAlloc`] makes each allocation a
//! place where the thread gives way once its time slice is over.
//!
//! It takes two steps: the program installs the allocator, which is `unsafe` for the reason that
//! [`YieldingAlloc::new`] gives, and the threads in question opt in: by
//! [`Builder::preempt_at_allocation`](crate::Builder::preempt_at_allocation), for a part of their work by
//! [`preemptible`], or all of a runtime's by
//! [`RuntimeBuilder::preempt_at_allocation`](crate::RuntimeBuilder::preempt_at_allocation). Nobody else is ever switched
//! at an allocation.
//!
//! In a server built with `bast-server` it is the handlers that opt in, by [`preemptible`] around what they compute, and
//! not around calls of the server: the threads of its connections never are by themselves, whatever the runtime's default.
//!
//! ```
//! use bast::alloc::YieldingAlloc;
//! use std::alloc::System;
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicBool, Ordering};
//!
//! // SAFETY: the one thread that opts in, below, keeps to the contract of `YieldingAlloc::new`.
//! #[global_allocator]
//! static ALLOCATOR: YieldingAlloc<System> = unsafe { YieldingAlloc::new(System) };
//!
//! let runtime = bast::Runtime::builder().capabilities(1).build().unwrap();
//! runtime.run(|| {
//!     let done = Arc::new(AtomicBool::new(false));
//!     let hog = bast::Builder::new().preempt_at_allocation(true).spawn({
//!         let done = Arc::clone(&done);
//!         move || {
//!             while !done.load(Ordering::Relaxed) {
//!                 assert_eq!(String::from("never calls the runtime").split(' ').count(), 4);
//!             }
//!         }
//!     });
//!     bast::sleep(std::time::Duration::from_millis(1)); // the hog gets the only core, and gives way
//!     done.store(true, Ordering::Relaxed);
//!     hog.unwrap().join().unwrap();
//! });
//! ```
//!
//! # Cost
//! Three instructions per allocation while no slice is over; `design/MEASUREMENTS.md` has the figures.

use crate::scheduler::preempt;
use std::alloc::{GlobalAlloc, Layout};

/// An allocator that lets other threads run before it allocates, if the caller's time slice is over and the caller
/// opted in; for `#[global_allocator]`. All else is the inner allocator's.
///
/// A switch comes before the inner allocator is entered, and none comes when memory is freed.
#[derive(Debug)]
pub struct YieldingAlloc<A>(A);

impl<A> YieldingAlloc<A> {
    /// Wraps `inner`.
    ///
    /// # Safety
    /// A thread that opted in may be suspended at any allocation, while the other green threads of its OS thread run.
    /// So whoever lets threads opt in promises of the code that these run while they may be switched, the libraries that
    /// they call included, that **no allocation is made between two steps that must not be parted for the sake of
    /// soundness** where other code on the same OS thread can come in between. Known such places:
    ///
    /// - **the initialiser of a std `thread_local!`** that allocates: a neighbour that asks for the same value makes
    ///   it too, and when the first goes on it replaces, and drops, a value that the neighbour may be using. With a
    ///   constant initialiser (`const { … }`) there is nothing to suspend; [`local!`](crate::local) forbids switches in its
    ///   initialisers;
    /// - **state of the OS thread that is left in the order in which it was entered** (scoped thread-locals, the thread
    ///   state of a foreign interpreter), if an allocation is made while it is entered.
    ///
    /// Other places are sound, but make threads fail that did nothing wrong:
    ///
    /// - an allocation while a lock of `std` (or another that blocks the OS thread: parking_lot, once_cell) is held: the
    ///   next thread on the core that wants the lock blocks the OS thread, and the holder never goes on. Bast's locks
    ///   may be held;
    /// - an allocation in the initialiser of a `OnceLock`, `LazyLock` or `Once` of `std`: likewise for the next who
    ///   needs the value. Do what must be initialised before threads opt in;
    /// - an allocation while a `RefCell` in a std `thread_local!` is borrowed: a neighbour's borrow panics. `println!`
    ///   and its kin are such a place, if what they print allocates while it is formatted; so are loggers and random
    ///   number generators, if they allocate while they hold their state;
    /// - what is read back from the OS thread across an allocation, such as `errno`, may be a neighbour's.
    ///
    /// [`no_park`](crate::no_park) around such a place keeps it whole. The runtime keeps its own: its short locks, its
    /// scheduler and the threads that panic (their hooks and destructors included) are never switched at an
    /// allocation. Plain OS threads, and green threads that did not opt in, are not affected at all.
    pub const unsafe fn new(inner: A) -> YieldingAlloc<A> {
        YieldingAlloc(inner)
    }
}

// SAFETY: all is passed on to the inner allocator, whose promises these are. A switch before a call of it changes
// nothing that the caller or the allocator has; it does not unwind; and it comes back on the same OS thread.
unsafe impl<A: GlobalAlloc> GlobalAlloc for YieldingAlloc<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        preempt::allocation_point();
        // SAFETY: the caller's promise, passed on.
        unsafe { self.0.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        preempt::allocation_point();
        // SAFETY: the caller's promise, passed on.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        preempt::allocation_point();
        // SAFETY: the caller's promise, passed on.
        unsafe { self.0.realloc(ptr, layout, new_size) }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { self.0.dealloc(ptr, layout) };
    }
}

/// Runs `body` as a part of the calling thread's work that may be switched at allocations, if the program's allocator
/// is a [`YieldingAlloc`]. What follows is as before. Threads that `body` spawns inherit it, as they do all along.
///
/// Only the code of `body` comes under the contract of [`YieldingAlloc::new`]: the narrowest way to opt in, for one
/// handler of a server, say. Outside a green thread it only calls `body`. It is no blocking call, and raises nothing.
///
/// ```
/// let sum = bast::run(|| bast::alloc::preemptible(|| (1..=10).map(|n| n.to_string().len()).sum::<usize>()));
/// assert_eq!(sum, 11);
/// ```
pub fn preemptible<R>(body: impl FnOnce() -> R) -> R {
    preempt::with(true, body)
}

/// Whether the calling thread has opted in to be switched at allocations. Always false outside a green thread.
pub fn is_preemptible() -> bool {
    preempt::is_on()
}
