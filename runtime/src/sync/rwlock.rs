//! The reader-writer lock.
//!
//! ```text
//!   state: readers that have it, whether a writer has it          queues: READERS, WRITERS
//!   a reader gets in while no writer has it and none waits;  a writer while nobody has it
//!   given up by a writer: all readers that wait, else the next writer
//!   given up by the last reader: the next writer, else all readers that wait
//! ```
//! The lock is handed over under the short lock: who was claimed has it. So a stream of readers stops at the first writer
//! that waits, the readers that gathered behind a writer come before the next one, and nobody starves.
//!
//! A writer that is killed or times out while it waits lets in the readers that waited only because of it.

use super::wait_cell::{self, Wait, WaitCell, Waited};
use crate::scheduler::park;
use crate::thread::block::BlockedOn;
use crate::time::deadline_after;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

const READERS: usize = 0;
const WRITERS: usize = 1;
const QUEUES: usize = 2;

/// A value that many threads may read or one may change, as in std; but only the green thread that waits is parked.
///
/// Guards may be held across anything that blocks. There is no poisoning: a thread that panics or is killed with a guard
/// gives the lock up as its destructors run. A thread that reads and locks again, in either way, may wait for itself.
///
/// # Fairness
/// Readers that come while a writer waits wait behind it; when a writer is done, all readers that have gathered come
/// before the next writer. So neither starves the other. Writers are served first come, first served.
///
/// # Cancellation
/// Locking is interruptible, unlocking never. A killed waiter did not get the lock, and holds up nobody.
///
/// ```
/// use bast::sync::RwLock;
///
/// let table = RwLock::new(vec![1]);
/// {
///     let (one, other) = (table.read(), table.read()); // any number at once
///     assert_eq!(one.len(), other.len());
/// }
/// table.write().push(2);
/// assert_eq!(*table.read(), [1, 2]);
/// ```
///
/// A guard stays with its thread:
/// ```compile_fail,E0277
/// let lock = bast::sync::RwLock::new(0);
/// let guard = lock.read();
/// std::thread::scope(|s| { s.spawn(move || drop(guard)); });
/// ```
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives the value to one writer at a time, on whatever OS thread (`T: Send`), or shares it among
// readers (`T: Sync`).
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

struct RawRwLock {
    cell: WaitCell<State, (), QUEUES>,
}

struct State {
    readers: usize,
    writer: bool,
}

type Guard<'a> = wait_cell::Guard<'a, State, (), QUEUES>;

impl RawRwLock {
    const fn new() -> RawRwLock {
        RawRwLock { cell: WaitCell::new(State { readers: 0, writer: false }) }
    }

    fn read(&self, deadline_ns: Option<u64>) -> bool {
        park::interruption_point();
        let wait = Wait { queue: READERS, at_front: false, reason: BlockedOn::RwLock, deadline_ns };
        self.cell.wait(wait, &mut None, |state, _| read_now(state)) == Waited::Served
    }

    fn write(&self, deadline_ns: Option<u64>) -> bool {
        park::interruption_point();
        let wait = Wait { queue: WRITERS, at_front: false, reason: BlockedOn::RwLock, deadline_ns };
        let in_vain = InVain(self);
        let served = self.cell.wait(wait, &mut None, |state, _| write_now(state)) == Waited::Served;
        if served {
            mem::forget(in_vain);
        }
        served
    }

    fn unlock_read(&self) {
        let mut state = self.cell.lock();
        state.readers -= 1;
        if state.readers == 0 && !admit_writer(&mut state) {
            admit_readers(&mut state);
        }
    }

    fn unlock_write(&self) {
        let mut state = self.cell.lock();
        state.writer = false;
        if !admit_readers(&mut state) {
            admit_writer(&mut state);
        }
    }

    fn downgrade(&self) {
        let mut state = self.cell.lock();
        state.writer = false;
        state.readers = 1;
        admit_readers(&mut state);
    }
}

/// A writer that stopped waiting: readers may have waited because of it.
struct InVain<'a>(&'a RawRwLock);

impl Drop for InVain<'_> {
    fn drop(&mut self) {
        let mut state = self.0.cell.lock();
        if !state.writer && !state.has_waiters(WRITERS) {
            admit_readers(&mut state);
        }
    }
}

fn read_now(state: &mut Guard<'_>) -> bool {
    let free = !state.writer && !state.has_waiters(WRITERS);
    state.readers += usize::from(free);
    free
}

fn write_now(state: &mut Guard<'_>) -> bool {
    let free = !state.writer && state.readers == 0;
    state.writer |= free;
    free
}

/// Lets in all readers that wait; false if there are none.
fn admit_readers(state: &mut Guard<'_>) -> bool {
    let before = state.readers;
    while let Some(reader) = state.claim(READERS) {
        state.readers += 1;
        state.ready(reader);
    }
    state.readers > before
}

/// Lets in the next writer; false if there is none.
fn admit_writer(state: &mut Guard<'_>) -> bool {
    let writer = state.claim(WRITERS);
    state.writer = writer.is_some();
    writer.map(|writer| state.ready(writer)).is_some()
}

impl<T> RwLock<T> {
    /// A lock that nobody has.
    pub const fn new(value: T) -> RwLock<T> {
        RwLock { raw: RawRwLock::new(), value: UnsafeCell::new(value) }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until no writer has the lock or waits for it; the caller shares the value as long as the guard lives.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let served = self.raw.read(None);
        assert!(served, "a wait without a deadline is served");
        self.read_guard()
    }

    /// As [`read`](RwLock::read), for `limit` at the most; `None` after that.
    pub fn read_timeout(&self, limit: Duration) -> Option<RwLockReadGuard<'_, T>> {
        self.raw.read(Some(deadline_after(limit))).then(|| self.read_guard())
    }

    /// The guard, if no writer has the lock or waits for it. Interruptible, though it never waits.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        park::interruption_point();
        self.read_if_free()
    }

    fn read_if_free(&self) -> Option<RwLockReadGuard<'_, T>> {
        read_now(&mut self.raw.cell.lock()).then(|| self.read_guard())
    }

    /// Waits until nobody has the lock; the caller has the value to itself as long as the guard lives.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let served = self.raw.write(None);
        assert!(served, "a wait without a deadline is served");
        self.write_guard()
    }

    /// As [`write`](RwLock::write), for `limit` at the most; `None` after that.
    pub fn write_timeout(&self, limit: Duration) -> Option<RwLockWriteGuard<'_, T>> {
        self.raw.write(Some(deadline_after(limit))).then(|| self.write_guard())
    }

    /// The guard, if nobody has the lock. Interruptible, though it never waits.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        park::interruption_point();
        write_now(&mut self.raw.cell.lock()).then(|| self.write_guard())
    }

    /// The value, of a lock that nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn read_guard(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard { lock: self, not_send: PhantomData }
    }

    fn write_guard(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard { lock: self, not_send: PhantomData }
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lock = f.debug_struct("RwLock");
        match self.read_if_free() {
            Some(guard) => lock.field("value", &&*guard),
            None => lock.field("value", &format_args!("<locked>")),
        };
        lock.finish()
    }
}

/// The right to read what is in an [`RwLock`]; dropping it gives it up.
#[must_use = "a guard that is dropped at once protects nothing"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    /// It stays with its thread.
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives out shared borrows of the value (`T: Sync`), and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: a guard is made only when its thread has got the lock for reading, and only its drop gives that up;
        // there is no writer meanwhile, and the guard's borrow is the value's.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.raw.unlock_read();
    }
}

/// The right to change what is in an [`RwLock`]; dropping it gives it up.
#[must_use = "a guard that is dropped at once protects nothing"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    /// It stays with its thread.
    not_send: PhantomData<*const ()>,
}

// SAFETY: as for the reader's.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Goes on as a reader, in one step: no writer comes in between. Readers that wait get in as well.
    pub fn downgrade(guard: RwLockWriteGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        let lock = guard.lock;
        mem::forget(guard);
        lock.raw.downgrade();
        lock.read_guard()
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: a guard is made only when its thread has got the lock for writing, and only its drop gives that up;
        // nobody else has the lock meanwhile, and the guard's borrow is the value's.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.raw.unlock_write();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
