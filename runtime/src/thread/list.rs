//! Intrusive lists through the control block: the run queue, and the node by which a thread waits in an object.

use super::control::{Claim, Control};
use super::token::Token;
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

/// What can be in an intrusive list: one at a time, through one link.
pub(crate) trait Linked: Sized + 'static {
    /// The link. Whoever has the list that the value is in has the link.
    fn link(&self) -> &AtomicPtr<Self>;
}

/// A first-in, first-out queue of runnable threads, for one OS thread.
pub(crate) struct RunQueue {
    head: Cell<Option<&'static Control>>,
    tail: Cell<Option<&'static Control>>,
}

impl RunQueue {
    pub(crate) const fn new() -> RunQueue {
        RunQueue { head: Cell::new(None), tail: Cell::new(None) }
    }

    /// Puts a thread that the caller has, and that is in no other list, at the end.
    #[inline]
    pub(crate) fn push(&self, control: &'static Control) {
        control.link().store(ptr::null_mut(), Ordering::Relaxed);
        match self.tail.replace(Some(control)) {
            Some(last) => last.link().store(ptr::from_ref(control).cast_mut(), Ordering::Relaxed),
            None => self.head.set(Some(control)),
        }
    }

    /// Takes the thread that has waited longest; the caller has it now.
    #[inline]
    pub(crate) fn pop(&self) -> Option<&'static Control> {
        let first = self.head.get()?;
        let next = first.link().load(Ordering::Relaxed);
        // SAFETY: links are only ever set to control blocks (`push`), which live for ever.
        let next: Option<&'static Control> = unsafe { next.as_ref() };
        self.head.set(next);
        match next {
            None => self.tail.set(None),
            Some(next) => prefetch_ahead(next),
        }
        Some(first)
    }
}

/// Fetches what the switch to `next` will touch, and the control block of the thread behind it, while the thread before
/// it runs. Among many threads the lines are not in the nearest caches; see `design/MEASUREMENTS.md`, "yield among
/// 100,000".
#[inline]
fn prefetch_ahead(next: &Control) {
    // The block was fetched one turn ago.
    next.prefetch_stack();
    let behind = next.link().load(Ordering::Relaxed);
    prefetch(behind.cast());
    prefetch(behind.cast::<u8>().wrapping_add(CACHE_LINE));
}

const CACHE_LINE: usize = 64;

/// Fetches the lines of a parked thread's stack that its resume touches first: from its stack pointer upwards.
pub(super) fn prefetch_stack(stack_pointer: *const u8) {
    for line in 0..STACK_LINES {
        prefetch(stack_pointer.wrapping_add(line * CACHE_LINE));
    }
}

/// How many lines of a stack are fetched ahead.
const STACK_LINES: usize = 4;

/// Asks for a cache line, if the address is one.
#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address, mapped or not, has no effect that a program can see.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Claimed threads on the way to their queues, first in, first out.
pub(crate) struct ClaimList {
    claimed: RunQueue,
}

impl ClaimList {
    #[inline]
    pub(crate) const fn new() -> ClaimList {
        ClaimList { claimed: RunQueue::new() }
    }

    /// Puts a claimed thread at the end. Whoever claimed it has it, so its link is free.
    #[inline]
    pub(crate) fn push(&self, claim: Claim) {
        self.claimed.push(claim.control());
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.claimed.head.get().is_none()
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<Claim> {
        self.claimed.pop().map(Claim::from_list)
    }
}

/// A place in a queue of an object (see `sync/wait_cell.rs`, the only user): a thread has one in its control block,
/// and further ones where it waits in several queues at once.
pub(crate) struct Node {
    pub(crate) prev: Option<NonNull<Node>>,
    pub(crate) next: Option<NonNull<Node>>,
    /// The park that the thread is in; `None` when the node is in no queue.
    pub(crate) token: Option<Token>,
    /// Through what the thread gets, or gives, a value.
    pub(crate) slot: *mut (),
}

impl Node {
    pub(crate) const fn new() -> Node {
        Node { prev: None, next: None, token: None, slot: ptr::null_mut() }
    }
}
