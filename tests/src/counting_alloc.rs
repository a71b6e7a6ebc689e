//! The system's allocator with a count for each OS thread, for tests of what allocates. A test program installs it as its
//! `#[global_allocator]`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts allocations, those by growing among them.
#[derive(Debug)]
pub struct CountingAlloc;

static EVERYWHERE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static HERE: Cell<u64> = const { Cell::new(0) };
    static IS_LEFT_OUT: Cell<bool> = const { Cell::new(false) };
}

impl CountingAlloc {
    /// How often this OS thread has allocated.
    #[must_use]
    pub fn here() -> u64 {
        HERE.get()
    }

    /// From now on, this OS thread does not count in [`everywhere`](CountingAlloc::everywhere).
    pub fn leave_out_this_thread() {
        IS_LEFT_OUT.set(true);
    }

    /// How often all OS threads have allocated, but for those that were left out.
    #[must_use]
    pub fn everywhere() -> u64 {
        EVERYWHERE.load(Ordering::Relaxed)
    }
}

// SAFETY: every call goes to the system's allocator unchanged. Counting neither allocates nor unwinds: it touches an atomic,
// and cells that need no initialiser and no destructor.
unsafe impl GlobalAlloc for CountingAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HERE.set(HERE.get() + 1);
        if !IS_LEFT_OUT.get() {
            EVERYWHERE.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's layout, as the contract has it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory came from `alloc` above, hence from the system's allocator, with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}
