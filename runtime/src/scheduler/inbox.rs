//! The inbox: an intrusive list that many OS threads push to and one takes whole.
//!
//! ```text
//!   push:  node.link = head; head = node (compare-and-swap)      take:  head = null (swap), then reversed
//! ```
//! Taking everything by one swap leaves no ABA problem: nobody ever pops a single node. Release on push and acquire
//! on take make what the pusher did to the node visible to the taker. Reversing restores the order of arrival.

use super::atomic::{AtomicPtr, Ordering};
use super::linked::Linked;
use std::ptr;

pub(crate) struct Inbox<T: Linked> {
    head: AtomicPtr<T>,
}

impl<T: Linked> Inbox<T> {
    pub(crate) fn new() -> Inbox<T> {
        Inbox { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Hands over a node that the caller has and that is in no other list.
    pub(crate) fn push(&self, node: &'static T) {
        let new = ptr::from_ref(node).cast_mut();
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            node.link().store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Whether there was nothing at some time during the call. Never false for what the caller itself pushed.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// Takes all nodes and gives them to `each` in the order of their arrival.
    pub(crate) fn take(&self, mut each: impl FnMut(&'static T)) {
        let mut stack = self.head.swap(ptr::null_mut(), Ordering::Acquire);
        let mut queue: *mut T = ptr::null_mut();
        // SAFETY: only `push` sets heads and links, to nodes that live for ever.
        while let Some(node) = unsafe { stack.as_ref() } {
            let next = node.link().load(Ordering::Relaxed);
            node.link().store(queue, Ordering::Relaxed);
            queue = stack;
            stack = next;
        }
        // SAFETY: as above.
        while let Some(node) = unsafe { queue.as_ref() } {
            // Before `each`, which may push the node into another list.
            queue = node.link().load(Ordering::Relaxed);
            each(node);
        }
    }
}
