//! Stackful coroutines: the only file that names corosensei.
//!
//! A coroutine here carries no values: what threads pass to the scheduler and back goes through the control block.
//! It is never unwound from outside (corosensei's `force_unwind`; the crate's `unwind` feature is off): a thread is
//! killed by an unwind of its own (`scheduler/park.rs`), and one that never finishes is leaked, not dropped.

use crate::stack::{GUARD_BYTES, Stack};
use corosensei::stack::StackPointer;
use corosensei::stack::valgrind::ValgrindStackRegistration;
use corosensei::{CoroutineResult, Yielder};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// A stack in the form that corosensei takes it.
struct Slot(Stack);

// SAFETY: `stack/slot.rs` guarantees that base and limit bound memory that is mapped, writable, 16-byte aligned, larger
// than MIN_STACK_SIZE, has a guard below its limit, and belongs to this value alone while it lives.
unsafe impl corosensei::stack::Stack for Slot {
    #[inline]
    fn base(&self) -> StackPointer {
        self.0.base()
    }

    #[inline]
    fn limit(&self) -> StackPointer {
        // The trait wants the guard included.
        StackPointer::new(self.0.limit().get() - GUARD_BYTES).expect("a mapping is not at 0")
    }
}

/// What runs on a stack of its own.
pub(crate) struct Coroutine {
    inner: ManuallyDrop<corosensei::Coroutine<(), (), (), Slot>>,
}

/// What a resume ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Suspended,
    Finished,
}

/// The way back to whoever resumed the coroutine.
#[derive(Clone, Copy)]
pub(crate) struct Suspender(NonNull<Yielder<(), ()>>);

impl Coroutine {
    /// Prepares `body` to run on `stack`. It must not unwind: a panic that leaves it ends the process.
    #[inline]
    pub(crate) fn new(stack: Stack, body: impl FnOnce(Suspender) + 'static) -> Coroutine {
        if stack.is_new() {
            // Registered for the life of the process, as the stack's memory is the pool's for as long: valgrind then
            // knows a switch of stacks from a wild stack pointer. A few instructions when it is not there.
            let limit = stack.limit().get();
            std::mem::forget(ValgrindStackRegistration::new(
                std::ptr::without_provenance_mut(limit),
                stack.base().get() - limit,
            ));
        }
        let inner = corosensei::Coroutine::with_stack(Slot(stack), |yielder: &Yielder<(), ()>, ()| {
            body(Suspender(NonNull::from(yielder)));
        });
        Coroutine { inner: ManuallyDrop::new(inner) }
    }

    /// Runs the body until it suspends itself or ends.
    #[inline]
    pub(crate) fn resume(&mut self) -> Progress {
        match self.inner.resume(()) {
            CoroutineResult::Yield(()) => Progress::Suspended,
            CoroutineResult::Return(()) => Progress::Finished,
        }
    }

    /// The stack of a coroutine that has finished.
    #[inline]
    pub(crate) fn into_stack(self) -> Stack {
        ManuallyDrop::into_inner(self.inner).into_stack().0
    }
}

impl Suspender {
    /// Goes back to whoever resumed the coroutine, until it is resumed again.
    ///
    /// # Safety
    /// The caller runs on the stack of the coroutine that this suspender was given to.
    #[inline]
    pub(crate) unsafe fn suspend(self) {
        // SAFETY: the yielder lives on the coroutine's stack, where the caller is.
        unsafe { self.0.as_ref() }.suspend(());
    }
}

impl fmt::Debug for Coroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coroutine").field("done", &self.inner.done()).finish_non_exhaustive()
    }
}
