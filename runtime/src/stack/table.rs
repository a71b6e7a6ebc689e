//! The table of all slabs of the process, in which the overflow handler finds the stack that an address belongs to.
//!
//! It is the one thing of this layer that capabilities share, and a signal handler reads it at any moment: a fixed
//! array of atomics, searched without a lock.
//!
//! Ordering: the release store of `start` in [`register`] makes `end` and `stride_bytes` visible to the acquire load
//! in [`find`]. An entry recycled *during* a search can be read half old, half new, which the second look at `start`
//! all but excludes; and a search only has to be right about the slab whose stack the searcher runs on, which
//! cannot go away meanwhile.

#![forbid(unsafe_code)]

use core::ops::Range;
use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use super::class::{GUARD_BYTES, SizeClass};

/// How many slabs the process may have: at full size they hold 16 million stacks, more than the address space does.
/// 96 KiB of zeroes, of which only used pages exist.
pub(super) const SLABS_MAX: usize = 4096;

/// `start` of an entry that nobody uses.
const FREE: usize = 0;

/// `start` of an entry that is being filled.
const CLAIMED: usize = 1;

#[derive(Debug)]
struct Entry {
    start: AtomicUsize,
    end: AtomicUsize,
    stride_bytes: AtomicUsize,
}

static SLABS: [Entry; SLABS_MAX] = [const {
    Entry { start: AtomicUsize::new(FREE), end: AtomicUsize::new(0), stride_bytes: AtomicUsize::new(0) }
}; SLABS_MAX];

/// A slab's place in the table, free again on drop.
#[derive(Debug)]
pub(super) struct Registration(&'static Entry);

/// Enters the slab that fills `range` with slots of `class`. `None` when the table is full.
pub(super) fn register(range: Range<usize>, class: SizeClass) -> Option<Registration> {
    assert!(range.start > CLAIMED, "stack table: a slab at no address");
    let claim = |entry: &&Entry| {
        entry.start.load(Relaxed) == FREE
            && entry.start.compare_exchange(FREE, CLAIMED, Acquire, Relaxed).is_ok()
    };
    let entry = SLABS.iter().find(claim)?;
    entry.end.store(range.end, Relaxed);
    entry.stride_bytes.store(class.stride_bytes(), Relaxed);
    entry.start.store(range.start, Release);
    Some(Registration(entry))
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.start.store(FREE, Release);
    }
}

/// Where an address lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What the thread may use of the slot: from the end of its guard to the end of the slot.
    pub(super) usable: Range<usize>,
    /// Whether the address is in the guard.
    pub(super) in_guard: bool,
}

/// Finds the slot around `address`. Async-signal-safe.
pub(super) fn find(address: usize) -> Option<Found> {
    SLABS.iter().find_map(|entry| {
        let start = entry.start.load(Acquire);
        let end = entry.end.load(Relaxed);
        let stride_bytes = entry.stride_bytes.load(Relaxed);
        if start <= CLAIMED || !(start..end).contains(&address) || entry.start.load(Acquire) != start {
            return None;
        }
        let offset = (address - start).checked_rem(stride_bytes)?;
        let slot = address - offset;
        Some(Found { usable: slot + GUARD_BYTES..slot + stride_bytes, in_guard: offset < GUARD_BYTES })
    })
}

/// The bounds of the stack that `address` is on, guard excluded; `None` if it is on none of ours. Async-signal-safe.
pub(crate) fn around(address: usize) -> Option<Range<usize>> {
    find(address).filter(|found| !found.in_guard).map(|found| found.usable)
}

#[cfg(test)]
mod tests {
    use super::*;

    // No mapping is behind these addresses: the table only compares them. They are beyond user space, so that no slab
    // of another test is among them.
    const START: usize = 0xffff_8000_0000_0000;

    #[test]
    fn an_address_is_found_in_its_slot_while_the_slab_is_registered() {
        let class = SizeClass::DEFAULT;
        let stride = class.stride_bytes();
        let registration = register(START..START + 3 * stride, class).unwrap();

        let second = START + stride;
        let usable = second + GUARD_BYTES..second + stride;
        for (address, in_guard) in [
            (second, true),
            (second + GUARD_BYTES - 1, true),
            (second + GUARD_BYTES, false),
            (second + stride - 1, false),
        ] {
            assert_eq!(find(address), Some(Found { usable: usable.clone(), in_guard }));
        }
        assert_eq!(find(START - 1), None);
        assert_eq!(find(START + 3 * stride), None);

        drop(registration);
        assert_eq!(find(second), None);
    }

    #[test]
    fn an_entry_is_used_again() {
        for _ in 0..2 * SLABS_MAX {
            let range = START / 2..START / 2 + SizeClass::DEFAULT.stride_bytes();
            assert!(register(range, SizeClass::DEFAULT).is_some());
        }
    }
}
