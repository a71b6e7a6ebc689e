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
//! never a park, no call that could switch threads, and **no allocation**, so that it may be held where allocations are
//! points of preemption: who needs memory has it before (a channel's `grow`, the nodes of a select). It spins, then
//! yields the OS thread. `std::sync::Mutex` would do as well, at the price of one more locked instruction per unlock (6 ns on
//! the project's machine, twice per hop of an MVar) and two looks at the panic count.
//!
//! # Memory ordering
//! The release of the unlock makes the state, the queues and the nodes in them visible to the acquire of the next
//! lock. Slots travel with the thread: see `thread/control.rs`.

use crate::critical::Section;
use crate::scheduler::{self, park};
use crate::thread::block::BlockedOn;
use crate::thread::list::{ClaimList, Node};
use crate::thread::{Claim, Control, Token, Woken, table};
use std::cell::UnsafeCell;
use std::hint;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::{self, NonNull};
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
    first: Option<NonNull<Node>>,
    last: Option<NonNull<Node>>,
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
        #[cfg(test)]
        tests::HELD.set(tests::HELD.get() + 1);
        Guard { cell: self, ready: ClaimList::new(), _section: section }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn unlock(&self) {
        #[cfg(test)]
        tests::HELD.set(tests::HELD.get() - 1);
        self.locked.store(false, Ordering::Release);
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
    // Inlined, with all down to the switch: see `park::yield_now`.
    #[inline(always)]
    pub(super) fn wait(
        &self,
        wait: Wait,
        slot: &mut Option<T>,
        mut attempt: impl FnMut(&mut Guard<'_, S, T, QUEUES>, &mut Option<T>) -> bool,
    ) -> Waited {
        let mut guard = self.lock();
        if attempt(&mut guard, slot) {
            return Waited::Served;
        }
        let woken = self.park_locked(guard, &wait, slot);
        if woken == Some(Woken::Event) {
            return Waited::Served;
        }
        self.wait_on(wait, slot, attempt, woken)
    }

    /// Goes on with a wait whose first park ended as `woken` says, or was none.
    #[cold]
    #[inline(never)]
    fn wait_on(
        &self,
        wait: Wait,
        slot: &mut Option<T>,
        mut attempt: impl FnMut(&mut Guard<'_, S, T, QUEUES>, &mut Option<T>) -> bool,
        mut woken: Option<Woken>,
    ) -> Waited {
        loop {
            // A kill that may not be delivered (the thread is unwinding already) is no reason to stop waiting.
            match woken.map(Woken::or_unwind) {
                Some(Woken::Event) => return Waited::Served,
                Some(Woken::Timer) => return Waited::TimedOut,
                Some(Woken::Interrupt) | None => {}
            }
            woken = Some(self.park(wait, slot, &mut attempt, || {}));
        }
    }

    /// Parks with the lock of `guard` held until the thread is off its stack, where that can be done: it saves a
    /// further lock and attempt. When this returns the thread is in no queue any more.
    #[inline(always)]
    fn park_locked(
        &self,
        mut guard: Guard<'_, S, T, QUEUES>,
        wait: &Wait,
        slot: &mut Option<T>,
    ) -> Option<Woken> {
        // Deadlines take memory, which is no business of the short lock's. Those who were served come first.
        if wait.deadline_ns.is_some() || !guard.ready.is_empty() {
            return None;
        }
        let slot: *mut Option<T> = slot;
        let mut parked = None;
        let woken = park::park_locked(
            wait.reason,
            |control, token| {
                parked = Some(token);
                guard.link_own(control, wait, token, slot);
                // The lock is kept until the thread is off its stack. The section is not: nothing allocates until then.
                mem::forget(guard);
                Section::end_forgotten();
            },
            || self.unlock(),
        )?;
        if woken != Woken::Event
            && let Some(token) = parked
        {
            self.lock().unlink_own(wait.queue, token);
        }
        Some(woken)
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
            guard.link_own(control_of(token), &wait, token, slot);
            drop(guard);
            linked();
            true
        });
        if woken != Woken::Event
            && let Some(token) = parked
        {
            self.lock().unlink_own(wait.queue, token);
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
    /// The waiter's place in the table.
    pub(super) fn index(&self) -> u32 {
        self.claim.control().index()
    }

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
        self.claim_if(queue, |_| true)
    }

    /// The same as long as the first in the queue is one that `accept` wants: it is shown what the waiter's slot
    /// holds. It need not be one that can be claimed.
    #[inline]
    pub(super) fn claim_if(
        &mut self,
        queue: usize,
        mut accept: impl FnMut(&Option<T>) -> bool,
    ) -> Option<Waiter<T>> {
        while let Some(first) = self.inner_mut().queues[queue].first {
            // SAFETY: the node is in this queue, so its thread is parked or has not unlinked itself yet, which takes
            // the lock that we have: its slot stays, and nobody writes to it.
            if !accept(unsafe { &*(*first.as_ptr()).slot.cast() }) {
                return None;
            }
            let token = self.remove(queue, first);
            let control = control_of(token);
            // SAFETY: only the address is used.
            let is_own = unsafe { control.node() } == first;
            // A thread that waits in this cell alone, at home here: whoever else could claim it is kept off by the
            // lock, or runs on this OS thread. That saves a locked instruction, 6 ns.
            let claim = if is_own && park::is_home(control) {
                control.claim_alone(token)
            } else {
                Control::claim(token, Woken::Event)
            };
            // SAFETY: claimed, or still under the lock: the thread does not look at its node before we are done.
            let node = unsafe { &mut *first.as_ptr() };
            if let Some(claim) = claim {
                return Some(Waiter { claim, slot: node.slot.cast() });
            }
            node.slot = ptr::null_mut();
        }
        None
    }

    /// Makes a waiter that was served run again, as soon as the lock is free.
    #[inline]
    pub(super) fn ready(&mut self, waiter: Waiter<T>) {
        self.ready.push(waiter.claim);
    }

    /// Whether somebody else than the thread that `token` names is in a queue; it may be one who can no longer be claimed.
    pub(super) fn has_others(&self, queue: usize, token: Token) -> bool {
        let mut next = self.inner().queues[queue].first;
        while let Some(node) = next {
            // SAFETY: the node is in this queue, and so the lock's, which is ours.
            let node = unsafe { node.as_ref() };
            if node.token != Some(token) {
                return true;
            }
            next = node.next;
        }
        false
    }

    /// Whether somebody is in a queue; it may be one who can no longer be claimed.
    #[inline]
    pub(super) fn has_waiters(&self, queue: usize) -> bool {
        self.inner().queues[queue].first.is_some()
    }

    /// Puts the thread that is about to park, by the node in its control block, into a queue.
    #[inline]
    fn link_own(&mut self, control: &'static Control, wait: &Wait, token: Token, slot: *mut Option<T>) {
        // SAFETY: the thread's own node, in no queue (`link` asserts it), is the thread's; blocks live for ever.
        let node = unsafe { control.node() };
        self.link(wait.queue, wait.at_front, node, token, slot);
    }

    /// Takes the caller out of a queue, unless a waker that lost the claim has done it.
    #[cold]
    fn unlink_own(&mut self, queue: usize, token: Token) {
        // SAFETY: as above.
        let node = unsafe { control_of(token).node() };
        self.unlink(queue, node, token);
    }

    #[inline]
    fn link(
        &mut self,
        queue: usize,
        at_front: bool,
        mut node: NonNull<Node>,
        token: Token,
        slot: *mut Option<T>,
    ) {
        let queue = &mut self.inner_mut().queues[queue];
        let (prev, next) = if at_front { (None, queue.first) } else { (queue.last, None) };
        // SAFETY: nodes in this queue belong to whoever has the lock, which is us; the caller's is in no queue, so it
        // is the caller's. No two of the three are the same.
        unsafe {
            let linked = node.as_mut();
            assert!(linked.token.is_none(), "wait cell: a thread waits twice");
            *linked = Node { prev, next, token: Some(token), slot: slot.cast() };
            match prev {
                Some(prev) => (*prev.as_ptr()).next = Some(node),
                None => queue.first = Some(node),
            }
            match next {
                Some(next) => (*next.as_ptr()).prev = Some(node),
                None => queue.last = Some(node),
            }
        }
    }

    #[cold]
    fn unlink(&mut self, queue: usize, node: NonNull<Node>, token: Token) {
        // SAFETY: the node is the caller's own, and was linked in this queue: it is in there, and so the lock's, or
        // in none, and so the caller's. Whoever took it out did so under the lock that we have.
        if unsafe { (*node.as_ptr()).token } == Some(token) {
            self.remove(queue, node);
        }
    }

    /// Takes a thread out of the queue that it is in.
    #[inline]
    fn remove(&mut self, queue: usize, mut node: NonNull<Node>) -> Token {
        let queue = &mut self.inner_mut().queues[queue];
        // SAFETY: nodes in this queue belong to whoever has the lock, which is us. No two of the three are the same.
        unsafe {
            let node = node.as_mut();
            let token = node.token.take().expect("wait cell: a node in a queue has a token");
            let (prev, next) = (node.prev, node.next);
            match prev {
                Some(prev) => (*prev.as_ptr()).next = next,
                None => queue.first = next,
            }
            match next {
                Some(next) => (*next.as_ptr()).prev = prev,
                None => queue.last = prev,
            }
            token
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
        self.cell.unlock();
        if let Some(first) = self.ready.pop() {
            park::ready(first);
            while let Some(next) = self.ready.pop() {
                park::ready(next);
            }
        }
    }
}

/// A place in a queue besides the one in the thread's control block, with a slot of its own: for a thread that waits in
/// several queues at once. Each is entered with the same token, so that at most one is served.
///
/// Its node is on the heap and freed when it is in no queue: a place that is forgotten leaks it.
pub(super) struct Place<'a, S, T, const QUEUES: usize> {
    cell: &'a WaitCell<S, T, QUEUES>,
    queue: usize,
    seat: NonNull<Seat<T>>,
    /// The park that it was entered for, until it is left.
    entered: Option<Token>,
}

struct Seat<T> {
    node: Node,
    slot: Option<T>,
}

impl<'a, S, T, const QUEUES: usize> Place<'a, S, T, QUEUES> {
    pub(super) fn new(
        cell: &'a WaitCell<S, T, QUEUES>,
        queue: usize,
        slot: Option<T>,
    ) -> Place<'a, S, T, QUEUES> {
        let seat = Box::new(Seat { node: Node::new(), slot });
        Place { cell, queue, seat: NonNull::from(Box::leak(seat)), entered: None }
    }

    /// Waits there from now on, unless `ready` says that there is no need to. For the commit of a park.
    pub(super) fn enter(
        &mut self,
        token: Token,
        ready: impl FnOnce(&Guard<'_, S, T, QUEUES>) -> bool,
    ) -> bool {
        assert!(self.entered.is_none(), "wait cell: a place is entered twice");
        let mut guard = self.cell.lock();
        if ready(&guard) {
            return false;
        }
        let seat = self.seat.as_ptr();
        // SAFETY: the seat is ours, and in no queue: only addresses are taken.
        let (node, slot) = unsafe { (NonNull::from(&mut (*seat).node), &raw mut (*seat).slot) };
        guard.link(self.queue, false, node, token, slot);
        self.entered = Some(token);
        true
    }

    /// Does not wait there any more. Whether it was served.
    pub(super) fn leave(&mut self) -> bool {
        let Some(token) = self.entered.take() else { return false };
        let mut guard = self.cell.lock();
        // SAFETY: the place was entered, in this cell and queue. Its node is in there, and we have the lock; or in none,
        // taken out under the lock, and so ours.
        let node = unsafe { NonNull::from(&mut (*self.seat.as_ptr()).node) };
        // SAFETY: as above.
        let (waits, touched) = unsafe { ((*node.as_ptr()).token.is_some(), (*node.as_ptr()).slot) };
        guard.unlink(self.queue, node, token);
        // Whoever took it out without a claim has wiped the slot's address (`claim_if`).
        !waits && !touched.is_null()
    }

    /// What is in the slot. Nobody may wait there.
    pub(super) fn take(&mut self) -> Option<T> {
        assert!(self.entered.is_none(), "wait cell: a place is looked at while others may");
        // SAFETY: the place was left, or not entered: nobody else knows of the seat.
        unsafe { (*self.seat.as_ptr()).slot.take() }
    }
}

impl<S, T, const QUEUES: usize> Drop for Place<'_, S, T, QUEUES> {
    fn drop(&mut self) {
        self.leave();
        // SAFETY: made from a box, in no queue any more, and not used again.
        drop(unsafe { Box::from_raw(self.seat.as_ptr()) });
    }
}

#[inline]
fn control_of(token: Token) -> &'static Control {
    table::control(token.index()).expect("wait cell: a token names a slot of the table")
}

#[cfg(test)]
mod tests {
    use crate::select::Select;
    use crate::sync::{
        Barrier, MVar, Mutex, Once, RwLock, Semaphore, broadcast, channel, oneshot, unbounded,
    };
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;
    use std::process;
    use std::sync::Arc;
    use std::time::Duration;

    thread_local! {
        /// How many short locks the OS thread has.
        pub(super) static HELD: Cell<u32> = const { Cell::new(0) };
    }

    /// Ends the process where memory is asked for, or given back, under a short lock.
    struct Strict;

    fn check() {
        if HELD.try_with(Cell::get).is_ok_and(|held| held > 0) {
            process::abort();
        }
    }

    // SAFETY: the system's allocator, unchanged.
    unsafe impl GlobalAlloc for Strict {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            check();
            // SAFETY: passed on to the caller.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            check();
            // SAFETY: passed on to the caller.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    #[global_allocator]
    static STRICT: Strict = Strict;

    #[test]
    fn nothing_allocates_under_a_short_lock() {
        const TURNS: usize = 200;
        let runtime = crate::Runtime::builder().capabilities(2).build().unwrap();
        runtime.run(|| {
            let (mvar, mutex) = (Arc::new(MVar::<Box<usize>>::empty()), Arc::new(Mutex::new(0)));
            let (lock, semaphore) = (Arc::new(RwLock::new(0)), Arc::new(Semaphore::new(1)));
            let (barrier, once) = (Arc::new(Barrier::new(4)), Arc::new(Once::new()));
            let ((tx, rx), (far, end)) = (channel(2), unbounded());
            let (news, reader) = broadcast::channel(3);
            let threads: Vec<_> = (0..4)
                .map(|n| {
                    let (mvar, mutex, lock) = (Arc::clone(&mvar), Arc::clone(&mutex), Arc::clone(&lock));
                    let (semaphore, barrier) = (Arc::clone(&semaphore), Arc::clone(&barrier));
                    let (once, tx, rx, far) = (Arc::clone(&once), tx.clone(), rx.clone(), far.clone());
                    let (news, mut reader) = (news.clone(), reader.clone());
                    crate::spawn(move || {
                        for turn in 0..TURNS {
                            if n % 2 == 0 {
                                mvar.put(Box::new(turn));
                                tx.send(Box::new(turn)).unwrap();
                            } else {
                                mvar.take();
                                rx.recv().unwrap();
                            }
                            far.send(Box::new(turn)).unwrap();
                            let mut item = Some(Box::new(turn));
                            Select::new()
                                .send(&tx, &mut item, |_| ())
                                .recv(&rx, |_| ())
                                .take(&mvar, |_| ())
                                .after(Duration::ZERO, || ())
                                .wait();
                            let _permit = semaphore.acquire_timeout(Duration::from_millis(1));
                            *lock.write() += *mutex.lock();
                            once.call_once(|| ());
                            news.send(Box::new(turn)).unwrap();
                            let _item_or_lagged = reader.recv();
                            let (answer, asked) = oneshot::channel();
                            answer.send(Box::new(turn)).unwrap();
                            asked.recv().unwrap();
                        }
                        barrier.wait();
                    })
                })
                .collect();
            // What the selects took or sent besides is missing, or too much, elsewhere.
            while !threads.iter().all(crate::JoinHandle::is_finished) {
                drop((mvar.try_take(), mvar.try_put(Box::new(0))));
                drop((rx.try_recv(), tx.try_send(Box::new(0))));
                crate::yield_now();
            }
            assert_eq!(end.len(), 4 * TURNS);
        });
    }
}
