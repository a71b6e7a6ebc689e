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
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

    /// Ends a section whose value was forgotten, with a guard that it was part of.
    #[inline]
    pub(crate) fn end_forgotten() {
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Locks one of the runtime's own mutexes of std's, which are held shortly and never over a park, inside a section: if its
/// holder lost its core at an allocation, the next on that core would wait for it for ever. None of them is poisoned in
/// the middle of a change, since nothing of the user's runs under them.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> Locked<'_, T> {
    let section = Section::enter();
    Locked { guard: mutex.lock().unwrap_or_else(PoisonError::into_inner), _section: section }
}

/// What [`lock`] gives. The section ends last.
pub(crate) struct Locked<'a, T> {
    guard: MutexGuard<'a, T>,
    _section: Section,
}

impl<T> Locked<'_, T> {
    /// Waits for a notification, for so long at the most. Holds up the OS thread.
    pub(crate) fn wait_timeout(self, condvar: &Condvar, limit: Duration) -> Self {
        let Locked { guard, _section } = self;
        let guard = match condvar.wait_timeout(guard, limit) {
            Ok((guard, _)) => guard,
            Err(poisoned) => poisoned.into_inner().0,
        };
        Locked { guard, _section }
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
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
