//! The cell that every object of this module is made of: a state under a short lock, and queues of threads that wait
//! for it to change.
//!
//! ```text
//!                      ┌──────────── WaitCell ────────────┐
//!   lock ─▶ Guard ────▶│ state                            │
//!                      │ queue 0 ─▶ node ⇄ node ⇄ node    │   nodes: in the control blocks (`Control::node`)
//!                      │ queue 1 ─▶ node      │           │   slots: in the frames of the waiting threads
//!                      └──────────────────────┼───────────┘
//!                                             └▶ slot: Option<T>
//! ```
//! A waiter parks with its node linked and its slot either empty (it wants a value) or full (it offers one). Who can
//! serve it calls [`Guard::claim`], which takes waiters from the front until the compare-and-swap on a park word is
//! won, *before* anything is transferred: a waiter that was killed or timed out a moment ago is passed over. Then it
//! moves the value through the slot and gives the waiter to [`Guard::ready`]. A waiter that wakes for another reason
//! unlinks its node under the lock, in constant time, and only then unwinds or returns. So no value goes to a ghost,
//! and none is lost with one: what was transferred was transferred to a thread whose operation returns normally.
//!
//! # The short lock
//! It guards a handful of loads and stores: never user code (no drop, clone or comparison of a `T`, so no panic),
//! never a park, and no call that could switch threads. (The one call that may take long is the growth of an unbounded
//! channel's buffer; once allocation is a yield point, the lock must raise the no-preempt depth.) It spins, then yields
//! the OS thread. `std::sync::Mutex` would do as well, at the price of one more locked instruction per unlock (6 ns on
//! the project's machine, twice per hop of an MVar) and two looks at the panic count.
//!
//! # Memory ordering
//! The release of the unlock makes the state, the queues and the nodes in them visible to the acquire of the next
//! lock. Slots travel with the thread: see `thread/control.rs`.

use crate::critical::Section;
use crate::scheduler::{self, park};
use crate::thread::block::BlockedOn;
use crate::thread::list::ClaimList;
use crate::thread::{Claim, Control, Token, Woken, table};
use std::cell::UnsafeCell;
use std::hint;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Looks at a lock that is held before the OS thread yields: some hundred nanoseconds, many times what any holder
/// needs unless the kernel has taken its core away.
const SPINS: u32 = 64;

/// A state, and the queues of those who wait for it to change. `T` is what passes through their slots.
pub(super) struct WaitCell<S, T, const QUEUES: usize> {
    locked: AtomicBool,
    inner: UnsafeCell<Inner<S, QUEUES>>,
    slots: PhantomData<UnsafeCell<T>>,
}

struct Inner<S, const QUEUES: usize> {
    state: S,
    queues: [Queue; QUEUES],
}

#[derive(Clone, Copy)]
struct Queue {
    first: Option<&'static Control>,
    last: Option<&'static Control>,
}

/// How a thread waits.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    /// In which queue.
    pub(super) queue: usize,
    /// At its front, instead of at its end.
    pub(super) at_front: bool,
    /// What the lists of threads say about it.
    pub(super) reason: BlockedOn,
    /// Until when, on the monotonic clock.
    pub(super) deadline_ns: Option<u64>,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Waited {
    /// An attempt succeeded, or somebody served the waiter.
    Served,
    /// The deadline passed first: nobody has touched the slot.
    TimedOut,
}

// SAFETY: the short lock gives the state and the queues to one OS thread at a time, which may thus be moved to it
// (`S: Send`); values pass through slots from one thread to another (`T: Send`).
unsafe impl<S: Send, T: Send, const QUEUES: usize> Sync for WaitCell<S, T, QUEUES> {}
// SAFETY: as above. Nobody waits in a cell that is moved: those who wait borrow it.
unsafe impl<S: Send, T: Send, const QUEUES: usize> Send for WaitCell<S, T, QUEUES> {}

// Nothing of the user's runs under the lock, so no unwind of his leaves the state half changed.
impl<S, T, const QUEUES: usize> UnwindSafe for WaitCell<S, T, QUEUES> {}
impl<S, T, const QUEUES: usize> RefUnwindSafe for WaitCell<S, T, QUEUES> {}

impl<S, T, const QUEUES: usize> WaitCell<S, T, QUEUES> {
    pub(super) const fn new(state: S) -> WaitCell<S, T, QUEUES> {
        WaitCell {
            locked: AtomicBool::new(false),
            inner: UnsafeCell::new(Inner { state, queues: [Queue { first: None, last: None }; QUEUES] }),
            slots: PhantomData,
        }
    }

    pub(super) fn into_state(self) -> S {
        self.inner.into_inner().state
    }

    /// Takes the short lock.
    #[inline]
    pub(super) fn lock(&self) -> Guard<'_, S, T, QUEUES> {
        let section = Section::enter();
        if !self.try_lock() {
            self.lock_contended();
        }
        Guard { cell: self, ready: ClaimList::new(), _section: section }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn lock_contended(&self) {
        loop {
            for _ in 0..SPINS {
                hint::spin_loop();
                if !self.locked.load(Ordering::Relaxed) && self.try_lock() {
                    return;
                }
            }
            thread::yield_now();
        }
    }

    /// Waits until `attempt`, which is made under the lock, succeeds or somebody serves the slot, whichever is first.
    ///
    /// An attempt may run on a scheduler's stack: it must obey the rules of the short lock and not unwind.
    ///
    /// Unwinds if the thread is killed while it waits, with the slot untouched by others.
    #[inline]
    pub(super) fn wait(
        &self,
        wait: Wait,
        slot: &mut Option<T>,
        mut attempt: impl FnMut(&mut Guard<'_, S, T, QUEUES>, &mut Option<T>) -> bool,
    ) -> Waited {
        if attempt(&mut self.lock(), slot) {
            return Waited::Served;
        }
        loop {
            // A kill that may not be delivered (the thread is unwinding already) is no reason to stop waiting.
            match self.park(wait, slot, &mut attempt, || {}).or_unwind() {
                Woken::Event => return Waited::Served,
                Woken::Timer => return Waited::TimedOut,
                Woken::Interrupt => {}
            }
        }
    }

    /// Parks once, unless `attempt` succeeds; `linked` is called, without the lock, when the thread is in the queue.
    /// When this returns the thread is in no queue any more. Nothing is delivered at the end: the caller does that.
    #[inline]
    pub(super) fn park(
        &self,
        wait: Wait,
        slot: &mut Option<T>,
        mut attempt: impl FnMut(&mut Guard<'_, S, T, QUEUES>, &mut Option<T>) -> bool,
        mut linked: impl FnMut(),
    ) -> Woken {
        let slot: *mut Option<T> = slot;
        let mut parked = None;
        let woken = scheduler::park(wait.reason, wait.deadline_ns, |token| {
            let mut guard = self.lock();
            // SAFETY: the slot is borrowed by this call, and nobody else knows of it yet.
            if attempt(&mut guard, unsafe { &mut *slot }) {
                return false;
            }
            parked = Some(token);
            guard.link(&wait, token, slot);
            drop(guard);
            linked();
            true
        });
        if woken != Woken::Event
            && let Some(token) = parked
        {
            self.lock().unlink(wait.queue, token);
        }
        woken
    }
}

/// The state, locked. When it is dropped the lock is released first; then those who were served are made ready.
pub(super) struct Guard<'a, S, T, const QUEUES: usize> {
    cell: &'a WaitCell<S, T, QUEUES>,
    ready: ClaimList,
    /// Whoever waits for the short lock spins: its holder must keep its core. Ends last.
    _section: Section,
}

/// A waiter that was claimed: it stays where it is until it is made ready.
#[must_use = "a claimed thread that is not made ready sleeps for ever"]
pub(super) struct Waiter<T> {
    claim: Claim,
    slot: *mut Option<T>,
}

impl<T> Waiter<T> {
    /// What the waiter offers, or where what it wants is to be put.
    #[inline]
    pub(super) fn slot(&mut self) -> &mut Option<T> {
        // SAFETY: the slot is in the frame of `WaitCell::park`'s caller, a parked thread. It was claimed by us, so it
        // runs again only after `Guard::ready` has consumed `self`; nobody else has its slot after the claim.
        unsafe { &mut *self.slot }
    }
}

impl<S, T, const QUEUES: usize> Guard<'_, S, T, QUEUES> {
    /// Takes the first waiter of a queue that can still be claimed out of it.
    #[inline]
    pub(super) fn claim(&mut self, queue: usize) -> Option<Waiter<T>> {
        while let Some(first) = self.inner_mut().queues[queue].first {
            let (token, slot) = self.remove(queue, first);
            if let Some(claim) = Control::claim(token, Woken::Event) {
                return Some(Waiter { claim, slot: slot.cast() });
            }
        }
        None
    }

    /// Makes a waiter that was served run again, as soon as the lock is free.
    #[inline]
    pub(super) fn ready(&mut self, waiter: Waiter<T>) {
        self.ready.push(waiter.claim);
    }

    /// Whether somebody is in a queue; it may be one who can no longer be claimed.
    #[inline]
    pub(super) fn has_waiters(&self, queue: usize) -> bool {
        self.inner().queues[queue].first.is_some()
    }

    fn link(&mut self, wait: &Wait, token: Token, slot: *mut Option<T>) {
        let control = control_of(token);
        let queue = &mut self.inner_mut().queues[wait.queue];
        let (prev, next) = if wait.at_front { (None, queue.first) } else { (queue.last, None) };
        // SAFETY: nodes in this queue belong to whoever has the lock, which is us; the caller's own is in no queue,
        // so it is the caller's. No two of the three are the same.
        unsafe {
            let node = &mut *control.node();
            assert!(node.token.is_none(), "wait cell: a thread waits twice");
            node.token = Some(token);
            node.slot = slot.cast();
            node.prev = prev;
            node.next = next;
            match prev {
                Some(prev) => (*prev.node()).next = Some(control),
                None => queue.first = Some(control),
            }
            match next {
                Some(next) => (*next.node()).prev = Some(control),
                None => queue.last = Some(control),
            }
        }
    }

    /// Takes the caller out of a queue, unless a waker that lost the claim has done it.
    #[cold]
    fn unlink(&mut self, queue: usize, token: Token) {
        let control = control_of(token);
        // SAFETY: the node is the caller's own, and was linked in this queue: it is in there, and so the lock's, or
        // in none, and so the caller's. Whoever took it out did so under the lock that we have.
        if unsafe { (*control.node()).token } == Some(token) {
            self.remove(queue, control);
        }
    }

    /// Takes a thread out of the queue that it is in.
    #[inline]
    fn remove(&mut self, queue: usize, control: &'static Control) -> (Token, *mut ()) {
        let queue = &mut self.inner_mut().queues[queue];
        // SAFETY: nodes in this queue belong to whoever has the lock, which is us. No two of the three are the same.
        unsafe {
            let node = &mut *control.node();
            let token = node.token.take().expect("wait cell: a node in a queue has a token");
            let slot = std::mem::replace(&mut node.slot, ptr::null_mut());
            let (prev, next) = (node.prev.take(), node.next.take());
            match prev {
                Some(prev) => (*prev.node()).next = next,
                None => queue.first = next,
            }
            match next {
                Some(next) => (*next.node()).prev = prev,
                None => queue.last = prev,
            }
            (token, slot)
        }
    }

    #[inline]
    fn inner(&self) -> &Inner<S, QUEUES> {
        // SAFETY: we have the lock, and the borrow of the guard is the borrow of what it guards.
        unsafe { &*self.cell.inner.get() }
    }

    #[inline]
    fn inner_mut(&mut self) -> &mut Inner<S, QUEUES> {
        // SAFETY: as above.
        unsafe { &mut *self.cell.inner.get() }
    }
}

impl<S, T, const QUEUES: usize> Deref for Guard<'_, S, T, QUEUES> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        &self.inner().state
    }
}

impl<S, T, const QUEUES: usize> DerefMut for Guard<'_, S, T, QUEUES> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        &mut self.inner_mut().state
    }
}

impl<S, T, const QUEUES: usize> Drop for Guard<'_, S, T, QUEUES> {
    // Inlined for the common case of nobody, or one: calls that return across a switch of stacks are mispredicted.
    #[inline(always)]
    fn drop(&mut self) {
        self.cell.locked.store(false, Ordering::Release);
        if let Some(first) = self.ready.pop() {
            park::ready(first);
            while let Some(next) = self.ready.pop() {
                park::ready(next);
            }
        }
    }
}

#[inline]
fn control_of(token: Token) -> &'static Control {
    table::control(token.index()).expect("wait cell: a token names a slot of the table")
}
