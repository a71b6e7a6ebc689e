//! Stackful coroutines: the only file that names corosensei.
//!
//! A coroutine here carries no values: what threads pass to the scheduler and back goes through the control block.
//! It is never unwound from outside (corosensei's `force_unwind`; the crate's `unwind` feature is off): a thread is
//! killed by an unwind of its own (`scheduler/park.rs`), and one that never finishes is leaked, not dropped.
//!
//! A coroutine may go on, for the length of a call, on a further stack ([`on_stack`]), and suspend itself there: a
//! suspension saves the stack pointer, whatever stack it points into, and goes back through the link at the base of the
//! coroutine's own stack.

use crate::stack::{GUARD_BYTES, Stack};
use corosensei::stack::StackPointer;
use corosensei::stack::valgrind::ValgrindStackRegistration;
use corosensei::{CoroutineResult, Yielder};
use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
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
        limit_with_guard(&self.0)
    }
}

/// A stack that is lent for a call.
struct Lent<'a>(&'a Stack);

// SAFETY: as for `Slot`, but that the stack belongs to whoever lends it, and nothing else is put on it meanwhile.
unsafe impl corosensei::stack::Stack for Lent<'_> {
    fn base(&self) -> StackPointer {
        self.0.base()
    }

    fn limit(&self) -> StackPointer {
        limit_with_guard(self.0)
    }
}

/// corosensei wants the guard included.
#[inline]
fn limit_with_guard(stack: &Stack) -> StackPointer {
    StackPointer::new(stack.limit().get() - GUARD_BYTES).expect("a mapping is not at 0")
}

/// Tells valgrind of a stack that nobody has had before. Registered for the life of the process, as the stack's memory
/// is the pool's for as long: valgrind then knows a switch of stacks from a wild stack pointer. A few instructions when
/// it is not there.
#[inline]
fn register(stack: &Stack) {
    if stack.is_new() {
        let limit = stack.limit().get();
        std::mem::forget(ValgrindStackRegistration::new(
            std::ptr::without_provenance_mut(limit),
            stack.base().get() - limit,
        ));
    }
}

/// Calls `body` on `stack`, and returns when it has returned, or has unwound: with the payload then, for no unwind can
/// cross from one stack to another by itself.
pub(crate) fn on_stack<R>(stack: &Stack, body: impl FnOnce() -> R) -> std::thread::Result<R> {
    register(stack);
    corosensei::on_stack(Lent(stack), || panic::catch_unwind(AssertUnwindSafe(body)))
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
        register(&stack);
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
    /// The caller runs in the coroutine that this suspender was given to: on its stack, or on one that it was lent
    /// ([`on_stack`]).
    #[inline]
    pub(crate) unsafe fn suspend(self) {
        // SAFETY: the yielder lives at the base of the coroutine's stack, on which the caller's frames are, or those that
        // called it.
        unsafe { self.0.as_ref() }.suspend(());
    }
}

impl fmt::Debug for Coroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coroutine").field("done", &self.inner.done()).finish_non_exhaustive()
    }
}
