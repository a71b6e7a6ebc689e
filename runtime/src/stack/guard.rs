//! Guards: how the low end of a slot is made to fault, and how many guards there may be.
//!
//! Two ways. `MADV_GUARD_INSTALL` (Linux ≥ 6.13) marks page-table entries and costs nothing else. Older kernels need
//! `mprotect`, which splits the mapping in two at each guard; `vm.max_map_count` bounds the mappings of a process, so
//! such guards are counted and refused before the kernel refuses: at its limit *any* mmap of the process would fail,
//! the allocator's too.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::io;
use std::sync::OnceLock;

use super::class::SizeClass;
use super::error::{Limit, StackError};
use crate::sys::limits;
use crate::sys::memory::{self, Mapping, PAGE_BYTES};

/// Which guards a pool makes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum GuardKind {
    /// The best that the kernel has.
    Auto,
    /// `MADV_GUARD_INSTALL`, or an error.
    Install,
    /// `mprotect`, as on kernels before 6.13.
    Protect,
}

/// The way chosen.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    Install,
    Protect,
}

/// What one mprotect guard costs: itself, and the stack it parts from the next guard.
const MAPPINGS_PER_GUARD: usize = 2;

/// Mappings left to the rest of the process: libraries, heaps, OS threads, files.
const MAPPINGS_RESERVED: usize = 2048;

/// The mprotect guards of all pools of the process: the mappings they cost are the process's.
static PROTECTED: AtomicUsize = AtomicUsize::new(0);

impl Guard {
    /// Finds out what the kernel offers.
    ///
    /// # Errors
    /// Locked memory, where no guard makes sense; [`GuardKind::Install`] on a kernel without it.
    pub(super) fn choose(kind: GuardKind) -> io::Result<Guard> {
        match (kind, probe()?) {
            (GuardKind::Protect, _) => Ok(Guard::Protect),
            (GuardKind::Auto, best) => Ok(best),
            (GuardKind::Install, Guard::Install) => Ok(Guard::Install),
            (GuardKind::Install, Guard::Protect) => {
                let advice = "stack guards by MADV_GUARD_INSTALL need Linux 6.13; GuardKind::Auto falls back";
                Err(io::Error::new(io::ErrorKind::Unsupported, advice))
            }
        }
    }

    /// Makes `range` fault.
    ///
    /// # Safety
    /// Nothing lives in `range`, which belongs to a slab of the caller's.
    pub(super) unsafe fn make(self, class: SizeClass, range: Range<usize>) -> Result<(), StackError> {
        match self {
            // SAFETY: forwarded.
            Guard::Install => unsafe { memory::guard_install(range) }.map_err(|cause| {
                // EINVAL: the advice works here (see `probe`), so the memory has been locked since.
                let locked = cause.kind() == io::ErrorKind::InvalidInput;
                let limit = if locked { Limit::LockedMemory } else { Limit::Memory };
                StackError::new(class, limit).caused_by(cause)
            }),
            Guard::Protect => {
                let max = protected_max();
                let reserved =
                    PROTECTED.fetch_update(Relaxed, Relaxed, |count| (count < max).then(|| count + 1));
                if reserved.is_err() {
                    return Err(StackError::new(class, Limit::Mappings { max: limits::mappings_max() }));
                }
                // SAFETY: forwarded.
                unsafe { memory::guard_protect(range) }.map_err(|cause| {
                    PROTECTED.fetch_sub(1, Relaxed);
                    StackError::new(class, Limit::Mappings { max: limits::mappings_max() }).caused_by(cause)
                })
            }
        }
    }

    /// Returns `count` guards to the budget: their memory is unmapped.
    pub(super) fn forget(self, count: usize) {
        if self == Guard::Protect {
            PROTECTED.fetch_sub(count, Relaxed);
        }
    }
}

/// How many stacks of any size the process may have, as an upper bound for budgets, and what bounds it. What else the
/// kernel may refuse (address space in use, memory) shows when a stack is taken.
///
/// # Errors
/// As for a pool of this `kind`.
pub(crate) fn stacks_max(kind: GuardKind) -> io::Result<(usize, Option<Limit>)> {
    let stride_bytes = SizeClass::all().map(SizeClass::stride_bytes).min().expect("there are classes");
    let by_address_space = limits::address_space_bytes_max().map_or((usize::MAX, None), |bytes_max| {
        (bytes_max / stride_bytes, Some(Limit::AddressSpace { bytes_max }))
    });
    Ok(match Guard::choose(kind)? {
        Guard::Protect if protected_max() < by_address_space.0 => {
            (protected_max(), Some(Limit::Mappings { max: limits::mappings_max() }))
        }
        Guard::Install | Guard::Protect => by_address_space,
    })
}

fn protected_max() -> usize {
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| limits::mappings_max().saturating_sub(MAPPINGS_RESERVED) / MAPPINGS_PER_GUARD)
}

/// Tries a guard on a page of its own. The kernel does not change under a process, so the answer is kept; that memory
/// is locked can change, so it is asked each time.
fn probe() -> io::Result<Guard> {
    static BEST: OnceLock<Guard> = OnceLock::new();
    let mut page = Mapping::reserve(PAGE_BYTES)
        .map_err(|cause| StackError::of_reserve(SizeClass::DEFAULT, PAGE_BYTES, cause))?;
    if page.is_locked() {
        return Err(StackError::new(SizeClass::DEFAULT, Limit::LockedMemory).into());
    }
    Ok(*BEST.get_or_init(|| {
        // SAFETY: the page is ours and nobody uses it.
        match unsafe { memory::guard_install(page.range()) } {
            Ok(()) => Guard::Install,
            Err(_) => Guard::Protect,
        }
    }))
}
