//! A stack in somebody's hands: the address of a slot, and what is known of it.

#![forbid(unsafe_code)]

use core::fmt;
use core::num::NonZeroUsize;
use core::ops::Range;

use super::class::{GUARD_BYTES, SizeClass};
use crate::sys::memory::PAGE_BYTES;

/// A stack, owned by whoever took it from a pool until it is given back. One that is dropped instead is never
/// used again, and its pool never unmaps memory: a thread may have been abandoned on the stack.
///
/// ```text
///  63                                      6   5    4   3      0
///  ├──────────── base, 64-aligned ──────────┼───┼──────┼────────┤
///  │                                        │ 0 │ new  │ class  │
/// ```
///
/// One word, because a stack that is given is often taken at once: with a field each, the wide load after narrow stores
/// waits for the cache (store forwarding fails), and a give and take is 13 ns instead of 6.5.
#[must_use = "a stack that is not given back is lost to its pool"]
pub(crate) struct Stack(NonZeroUsize);

const CLASS_BITS: usize = 0b00_1111;
const NEW_BIT: usize = 0b01_0000;
const BASE_BITS: usize = !0b11_1111;

const _: () = assert!(SizeClass::COUNT <= CLASS_BITS + 1);

impl Stack {
    pub(super) fn new(base: usize, class: SizeClass) -> Stack {
        assert_eq!(base & !BASE_BITS, 0, "stack: the base is aligned to a cache line");
        Stack(NonZeroUsize::new(base | NEW_BIT | class.index()).expect("stack: a mapping is not at 0"))
    }

    /// The highest address, exclusive; aligned to 64 bytes. Stacks grow down from here.
    pub(crate) fn base(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.0.get() & BASE_BITS).expect("stack: a mapping is not at 0")
    }

    /// The lowest address that may be used, directly above the guard of [`GUARD_BYTES`].
    pub(crate) fn limit(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.usable().start).expect("stack: a mapping is not at 0")
    }

    /// The size class it was taken as.
    pub(crate) fn class(&self) -> SizeClass {
        SizeClass::at(self.0.get() & CLASS_BITS)
    }

    /// Whether nobody has had this stack before: the time to register it with tools.
    pub(crate) fn is_new(&self) -> bool {
        self.0.get() & NEW_BIT != 0
    }

    /// The same stack, no longer new.
    pub(super) fn used(self) -> Stack {
        Stack(NonZeroUsize::new(self.0.get() & !NEW_BIT).expect("stack: a mapping is not at 0"))
    }

    /// All of the slot but the guard. The slot ends at the page boundary above the coloured base.
    pub(super) fn usable(&self) -> Range<usize> {
        let end = self.base().get().next_multiple_of(PAGE_BYTES);
        end - self.class().stride_bytes() + GUARD_BYTES..end
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stack({:?} {:#x}-{:#x})", self.class(), self.limit(), self.base())
    }
}
