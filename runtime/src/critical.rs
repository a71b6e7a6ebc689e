#![forbid(unsafe_code)]
//! Sections in which no thread is switched at an allocation: what the runtime itself does while it holds a short lock,
//! a borrow of something that the OS thread owns, or has half done something that its neighbours would see.
//!
//! The depth belongs to the OS thread, and so to whichever green thread runs: nobody is suspended inside a section, so
//! all neighbours find it at 0. It is for allocations only (`scheduler/preempt.rs`); that the runtime does not *park*
//! inside a section is by its construction, and asserted in debug builds where threads are suspended. What users
//! want is `no_park`, which forbids both.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A section, for as long as it lives. Two instructions and two more at its end.
#[must_use = "a section ends when it is dropped"]
#[derive(Debug)]
pub(crate) struct Section {
    of_this_os_thread: PhantomData<*const ()>,
}

impl Section {
    #[inline]
    pub(crate) fn enter() -> Section {
        DEPTH.set(DEPTH.get() + 1);
        Section { of_this_os_thread: PhantomData }
    }
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Whether the calling OS thread is in a section.
#[inline]
pub(crate) fn is_inside() -> bool {
    DEPTH.get() != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn sections_nest_and_end_with_an_unwind_too() {
        assert!(!is_inside());
        let outer = Section::enter();
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _inner = Section::enter();
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(unwound.is_err());
        assert!(is_inside());
        drop(outer);
        assert!(!is_inside());
    }
}
