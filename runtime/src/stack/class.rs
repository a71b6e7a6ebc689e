//! Size classes: how much a stack may hold, and how its slot is laid out.
//!
//! ```text
//!  low address                                                                high address
//!  ├──────── guard ────────┼─────────────── usable ────────────────┼─── top page ───┤
//!  │ GUARD_BYTES: faults   │ SizeClass::bytes                      │ PAGE_BYTES      │
//!  └───────────────────────┴───────────────────────────────────────┴──────────┬─────┘
//!  slot start             Stack::limit                              Stack::base (coloured)
//! ```
//!
//! A slot has one page more than the guard and the promised bytes, for two reasons.
//!
//! *Colour.* All stack tops at the same offset in a page compete for the same sets of the L1 cache, which is indexed
//! by that offset. So the bases of neighbouring slots lie on 16 different cache lines of the top page, which takes at
//! most [`COLOUR_BYTES_MAX`] from the extra page. A thread parked up to 3 KB deep still has one page.
//!
//! *Odd stride.* A stride of an even number of pages, a power of two above all, puts the top pages into few sets of a
//! TLB that is indexed by low page-number bits. With an odd one they spread over all.
//!
//! Measured (Cascade Lake; in turn over n stacks, 6 cache lines each, as a switch touches them; ns per stack, medians
//! of 9 interleaved rounds):
//!
//! | stride, colours    |   16 |  512 | 2048 | 4096 | 16384 | 100000 |
//! |--------------------|------|------|------|------|-------|--------|
//! | 64 pages, none     | 11.0 | 26.7 | 49.5 | 59.5 |   168 |    236 |
//! | 65 pages, none     | 13.4 | 27.1 | 41.9 | 46.6 |   162 |    235 |
//! | 64 pages, 16 × 64  |  4.7 | 10.0 | 49.8 | 58.7 |   100 |    231 |
//! | 65 pages, 16 × 64  |  3.3 |  9.4 | 43.9 | 46.1 |    84 |    234 |
//!
//! 8 colours of 128 bytes measured the same. 32 of 64 bytes are better between 512 and 1024 stacks, but leave less
//! than 2.5 KB of the page.

#![forbid(unsafe_code)]

use core::fmt;

use crate::sys::memory::PAGE_BYTES;

/// The guard below each stack. Address space only. Code compiled without stack probes (most C) can step over a guard
/// with one large frame; 64 KiB is more than such frames measure in practice.
pub(crate) const GUARD_BYTES: usize = 64 << 10;

/// Distance between two colours: one cache line.
const COLOUR_BYTES: usize = 64;

/// How many colours there are. They must leave a thread that parks 2.5 KB deep on its first page.
const COLOURS: usize = 16;

/// The most that a colour takes from the top page.
const COLOUR_BYTES_MAX: usize = COLOUR_BYTES * (COLOURS - 1);

const _: () = {
    assert!(COLOUR_BYTES_MAX + 2560 <= PAGE_BYTES);
    assert!(COLOUR_BYTES.is_multiple_of(16)); // the alignment of a stack pointer at a call
    assert!(GUARD_BYTES.is_multiple_of(PAGE_BYTES));
};

/// What a thread on a stack of each class may use, in KiB.
///
/// 192 is the default: with its guard it reserves 256 KiB, so that page tables cost 0.5 KiB per parked thread.
const CLASS_KIB: [usize; SizeClass::COUNT] = [64, 128, 192, 256, 512, 1024, 2048, 4096, 8192];

/// One of the sizes in which stacks come.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) struct SizeClass(u8);

impl SizeClass {
    pub(crate) const COUNT: usize = 9;

    /// The class of threads whose builder says nothing.
    pub(crate) const DEFAULT: SizeClass = SizeClass(2);

    /// The smallest class on which a thread may use `bytes`.
    ///
    /// # Errors
    /// More than the largest class holds, or 0.
    pub(crate) fn for_bytes(bytes: usize) -> Result<SizeClass, OutOfRange> {
        if bytes == 0 {
            return Err(OutOfRange { bytes });
        }
        SizeClass::all().find(|class| class.bytes() >= bytes).ok_or(OutOfRange { bytes })
    }

    /// Every class, smallest first.
    pub(crate) fn all() -> impl Iterator<Item = SizeClass> {
        Self::each(|class| class).into_iter()
    }

    /// One value for each class, in their order.
    pub(super) fn each<T>(value: impl FnMut(SizeClass) -> T) -> [T; SizeClass::COUNT] {
        core::array::from_fn(SizeClass::at).map(value)
    }

    /// What a thread may use at least, in bytes, its guard not included.
    pub(crate) fn bytes(self) -> usize {
        CLASS_KIB[self.index()] << 10
    }

    /// From slot to slot, in bytes: an odd number of pages.
    pub(crate) fn stride_bytes(self) -> usize {
        GUARD_BYTES + self.bytes() + PAGE_BYTES
    }

    /// The class at a position.
    pub(super) fn at(index: usize) -> SizeClass {
        debug_assert!(index < Self::COUNT, "size class: no such position");
        SizeClass(index as u8)
    }

    /// The position of this class among all.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// How far below the end of its slot the stack with this number begins.
pub(super) fn colour_bytes(slot: usize) -> usize {
    slot % COLOURS * COLOUR_BYTES
}

impl fmt::Debug for SizeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", CLASS_KIB[self.index()])
    }
}

/// A stack size for which there is no class.
#[derive(Debug)]
pub(crate) struct OutOfRange {
    bytes: usize,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = CLASS_KIB[SizeClass::COUNT - 1] << 10;
        write!(f, "no stack of {} bytes: the size must be from 1 to {max} (8 MiB)", self.bytes)
    }
}

impl std::error::Error for OutOfRange {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_rounded_up_to_its_class() {
        for (bytes, class_kib) in [
            (1, 64),
            (64 << 10, 64),
            ((64 << 10) + 1, 128),
            (192 << 10, 192),
            (256 << 10, 256),
            ((1 << 20) - 1, 1024),
            (8 << 20, 8192),
        ] {
            assert_eq!(SizeClass::for_bytes(bytes).unwrap().bytes(), class_kib << 10, "{bytes} bytes");
        }
    }

    #[test]
    fn a_size_out_of_range_names_the_range() {
        for bytes in [0, (8 << 20) + 1, usize::MAX] {
            let error = SizeClass::for_bytes(bytes).unwrap_err().to_string();
            assert!(error.contains("from 1 to 8388608 (8 MiB)"), "{error}");
        }
    }

    #[test]
    fn classes_grow_and_strides_are_odd_numbers_of_pages() {
        let classes: Vec<_> = SizeClass::all().collect();
        assert!(classes.is_sorted_by_key(|class| class.bytes()));
        for class in classes {
            assert_eq!(class.stride_bytes() / PAGE_BYTES % 2, 1, "{class:?}");
        }
    }
}
