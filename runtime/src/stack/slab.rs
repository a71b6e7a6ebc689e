//! Slabs: the mappings that slots are cut from.
//!
//! A slab only ever opens slots, one after the other; which stack is free is the pool's affair.

use super::class::{GUARD_BYTES, SizeClass, colour_bytes};
use super::error::{Limit, StackError};
use super::guard::Guard;
use super::table::{self, Registration};
use crate::sys::memory::Mapping;

/// Slots of a pool's first slab of a class.
const SLOTS_FIRST: usize = 64;

/// Slots of its largest slabs. A million stacks are then some 250 mappings.
const SLOTS_MAX: usize = 4096;

/// The smallest slab tried where address space is short.
const SLOTS_MIN: usize = 1;

/// A mapping of equal slots, handed out in order of address, once each. Unmapped on drop.
#[derive(Debug)]
pub(super) struct Slab {
    // Fields are dropped in order: the table must not name memory that is unmapped.
    _registration: Registration,
    mapping: Mapping,
    class: SizeClass,
    guard: Guard,
    slots: usize,
    slots_opened: usize,
    colour_first: usize,
}

impl Slab {
    /// Maps the slab that follows one of `slots_before`: twice the size, less where the kernel refuses so much.
    /// `colour_first` continues the colouring across slabs.
    pub(super) fn map(
        class: SizeClass,
        guard: Guard,
        slots_before: usize,
        colour_first: usize,
    ) -> Result<Slab, StackError> {
        let mut slots = if slots_before == 0 { SLOTS_FIRST } else { (slots_before * 2).min(SLOTS_MAX) };
        let mut mapping = loop {
            let bytes = slots * class.stride_bytes();
            match Mapping::reserve(bytes) {
                Ok(mapping) => break mapping,
                Err(_) if slots > SLOTS_MIN => slots = (slots / 4).max(SLOTS_MIN),
                Err(cause) => return Err(StackError::of_reserve(class, bytes, cause)),
            }
        };
        if mapping.is_locked() {
            return Err(StackError::new(class, Limit::LockedMemory));
        }
        mapping.refuse_huge_pages();
        let registration = table::register(mapping.range(), class)
            .ok_or(StackError::new(class, Limit::Slabs { max: table::SLABS_MAX }))?;
        Ok(Slab { _registration: registration, mapping, class, guard, slots, slots_opened: 0, colour_first })
    }

    /// Opens the next slot: makes its guard, which then stays, and returns the base of its stack. `None` when all
    /// slots are open. After an error the same slot is tried again.
    pub(super) fn open_slot(&mut self) -> Option<Result<usize, StackError>> {
        if self.slots_opened == self.slots {
            return None;
        }
        let start = self.mapping.range().start + self.slots_opened * self.class.stride_bytes();
        // SAFETY: the slot is within our mapping and has not been handed out, so that nothing lives in it.
        if let Err(error) = unsafe { self.guard.make(self.class, start..start + GUARD_BYTES) } {
            return Some(Err(error));
        }
        let end = start + self.class.stride_bytes();
        let base = end - colour_bytes(self.colour_first + self.slots_opened);
        self.slots_opened += 1;
        Some(Ok(base))
    }

    /// How many slots the slab has.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        self.guard.forget(self.slots_opened);
    }
}
