#![forbid(unsafe_code)]
//! The fd object: what the runtime knows of one open descriptor, shared by every capability that waits for it.
//!
//! Objects are type-stable like control blocks: chunks are never freed, so that an event (on its way from the kernel
//! while another thread closes the descriptor) may look an object up without a lock. A generation tells it that the
//! object has gone to another descriptor since.
//!
//! ```text
//! epoll data word            63        32 31         0
//!                           | generation |   index    |
//! readiness word             63                 16 15   8 7     0
//!                           |        tick         | sticky| ready |
//! ```
//! The *tick* counts events. A reader takes the word before its system call; only if the tick is still the same
//! after it may the reader conclude from the call's result that the descriptor is not ready (tokio's `ScheduledIo`).
//! The *sticky* bits stay: while one is set every read makes its call, and nothing is concluded from a short one.

use crate::critical::Section;
use crate::sys::epoll;
use crate::thread::Token;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read = 0,
    Write = 1,
}

/// A look at a readiness word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness(u64);

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const READ_CLOSED: u64 = 1 << 8;
const HUNG_UP: u64 = 1 << 9;
const ERROR: u64 = 1 << 10;
const URGENT: u64 = 1 << 11;
/// Set by `TcpStream::expire`: who would wait gets an error instead.
const EXPIRED: u64 = 1 << 12;
/// Set by `close`: whoever waits or comes gets an error.
const CLOSED: u64 = 1 << 13;
const READ_STICKY: u64 = READ_CLOSED | HUNG_UP | ERROR | URGENT | EXPIRED | CLOSED;
const WRITE_STICKY: u64 = HUNG_UP | ERROR | EXPIRED | CLOSED;
const TICK: u64 = 1 << 16;
const TICK_MASK: u64 = !(TICK - 1);

impl Readiness {
    /// Whether it is worth making the call.
    #[inline]
    pub(crate) fn is_ready(self, direction: Direction) -> bool {
        self.0 & ready_bits(direction) != 0
    }

    pub(crate) fn is_expired(self) -> bool {
        self.0 & EXPIRED != 0
    }

    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    /// Whether the peer was seen to have ended its side, or the connection to have failed.
    pub(crate) fn is_hung_up(self) -> bool {
        self.0 & (READ_CLOSED | HUNG_UP | ERROR) != 0
    }

    fn has_sticky(self) -> bool {
        self.0 & READ_STICKY != 0
    }

    /// Whether no event came between the two looks.
    pub(crate) fn same_tick(self, other: Readiness) -> bool {
        self.0 & TICK_MASK == other.0 & TICK_MASK
    }
}

fn ready_bits(direction: Direction) -> u64 {
    match direction {
        Direction::Read => READ | READ_STICKY,
        Direction::Write => WRITE | WRITE_STICKY,
    }
}

/// Who is in an object's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) direction: Direction,
    pub(crate) token: Token,
    pub(crate) wants: Wants,
}

/// What for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// To use a direction that another thread uses.
    Turn,
    /// To know when it is ready, whoever uses it.
    Readiness,
}

pub(crate) type Queue = VecDeque<Queued>;

#[repr(align(128))]
pub(crate) struct FdObject {
    index: u32,
    generation: AtomicU32,
    readiness: AtomicU64,
    /// The park that waits for each direction; 0 is nobody. The holder of the direction writes, pollers read.
    waiters: [AtomicU64; 2],
    /// In which capabilities' epoll sets the descriptor is, by slot.
    registered: [AtomicU64; REGISTERED_WORDS],
    /// How far each direction lock is taken (see `net/direction.rs`).
    holders: [AtomicU32; 2],
    /// How many in the queue want to know of readiness.
    watchers: AtomicU32,
    queue: Mutex<Queue>,
}

/// The most capabilities that may exist in the process at a time: each object has a bit for each.
pub(crate) const CAPABILITIES_MAX: usize = 256;

const REGISTERED_WORDS: usize = CAPABILITIES_MAX / 64;

const _: () = assert!(size_of::<FdObject>() <= 128, "every descriptor pays for it");

const CHUNK: usize = 256;
/// 2^22 objects: four times the default of fs.nr_open.
const CHUNKS_MAX: usize = 1 << 14;

static CHUNKS: [OnceLock<Box<[FdObject]>>; CHUNKS_MAX] = [const { OnceLock::new() }; CHUNKS_MAX];
static FREE: Mutex<Vec<u32>> = Mutex::new(Vec::new());

#[inline]
fn at(index: u32) -> Option<&'static FdObject> {
    CHUNKS.get(index as usize / CHUNK)?.get()?.get(index as usize % CHUNK)
}

/// The object that a data word names, if the descriptor it was made for is still open.
pub(super) fn from_data(data: u64) -> Option<&'static FdObject> {
    at(data as u32).filter(|object| object.generation.load(Ordering::Acquire) == (data >> 32) as u32)
}

/// An object for a newly opened descriptor.
pub(super) fn occupy() -> &'static FdObject {
    let section = Section::enter();
    let mut free = FREE.lock().expect("fd objects: a holder of the lock panicked");
    let index = free.pop().unwrap_or_else(|| {
        let chunk = CHUNKS
            .iter()
            .position(|chunk| chunk.get().is_none())
            .expect("fd objects: more descriptors than any kernel gives out");
        let first = chunk * CHUNK;
        CHUNKS[chunk]
            .get_or_init(|| (first..first + CHUNK).map(|index| FdObject::new(index as u32)).collect());
        free.extend((first as u32 + 1..(first + CHUNK) as u32).rev());
        first as u32
    });
    drop(free);
    drop(section);
    let object = at(index).expect("an index in the free list has a chunk");
    // Not known: the first call of each direction finds out.
    object.readiness.store(READ | WRITE, Ordering::Relaxed);
    object
}

impl FdObject {
    fn new(index: u32) -> FdObject {
        FdObject {
            index,
            generation: AtomicU32::new(0),
            readiness: AtomicU64::new(0),
            waiters: [const { AtomicU64::new(0) }; 2],
            registered: [const { AtomicU64::new(0) }; REGISTERED_WORDS],
            holders: [const { AtomicU32::new(0) }; 2],
            watchers: AtomicU32::new(0),
            queue: Mutex::new(VecDeque::new()),
        }
    }

    /// Ends the object's service for its descriptor, which must still be open: events that come from now on are of
    /// an older generation, and no event of the next owner can be taken for one of this one's.
    pub(super) fn release(&'static self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        for word in &self.registered {
            word.store(0, Ordering::Relaxed);
        }
        let _section = Section::enter();
        FREE.lock().expect("fd objects: a holder of the lock panicked").push(self.index);
    }

    pub(super) fn data(&self) -> u64 {
        u64::from(self.generation.load(Ordering::Relaxed)) << 32 | u64::from(self.index)
    }

    pub(super) fn is_registered(&self, slot: u16) -> bool {
        self.registered[usize::from(slot) / 64].load(Ordering::Relaxed) & 1 << (slot % 64) != 0
    }

    pub(super) fn set_registered(&self, slot: u16) {
        self.registered[usize::from(slot) / 64].fetch_or(1 << (slot % 64), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn readiness(&self) -> Readiness {
        Readiness(self.readiness.load(Ordering::SeqCst))
    }

    /// The kernel said EAGAIN to a call made after the look `seen`.
    #[inline]
    pub(crate) fn clear(&self, direction: Direction, seen: Readiness) {
        let bit = if direction == Direction::Read { READ } else { WRITE };
        // A failure means that an event came in between: the bit says the truth then.
        let _ = self.readiness.compare_exchange(seen.0, seen.0 & !bit, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A consuming read made after the look `seen` came back short: on a TCP socket there is no more to read.
    #[inline]
    pub(crate) fn drained(&self, seen: Readiness) {
        if !seen.has_sticky() {
            self.clear(Direction::Read, seen);
        }
    }

    /// Somebody learned elsewhere (by poll(2)) that the descriptor is ready.
    pub(crate) fn assume_ready(&self) {
        self.readiness.fetch_or(READ | WRITE, Ordering::SeqCst);
    }

    /// Puts the token of a park up to be woken. Then the caller must look at the readiness once more: an event that
    /// came before is not announced again.
    #[inline]
    pub(crate) fn wait(&self, direction: Direction, token: Token) {
        // SeqCst, and so are the exchange and the load in `wake`: of the two one sees the other.
        self.waiters[direction as usize].swap(token.raw(), Ordering::SeqCst);
    }

    /// Whether somebody waits already. With the direction lock nobody can.
    #[inline]
    pub(crate) fn is_awaited(&self, direction: Direction) -> bool {
        self.waiters[direction as usize].load(Ordering::Relaxed) != 0
    }

    /// Nobody waits any more.
    #[inline]
    pub(crate) fn end_wait(&self, direction: Direction) {
        self.waiters[direction as usize].store(0, Ordering::Relaxed);
    }

    /// Takes in what epoll reported, and gives the parks that it may end to `ready`.
    pub(super) fn on_event(&self, bits: u32, ready: &mut impl FnMut(Token)) {
        let mut set = 0;
        for (bit, readiness) in [
            (epoll::IN, READ),
            (epoll::OUT, WRITE),
            (epoll::RDHUP, READ_CLOSED),
            (epoll::HUP, HUNG_UP),
            (epoll::ERR, ERROR),
            (epoll::PRI, URGENT),
        ] {
            set |= if bits & bit != 0 { readiness } else { 0 };
        }
        self.wake(set, ready);
    }

    /// From now on an operation that would have to wait fails; gives those that wait to `ready`.
    pub(crate) fn expire(&self, ready: &mut impl FnMut(Token)) {
        self.wake(EXPIRED, ready);
    }

    pub(crate) fn unexpire(&self) {
        self.readiness.fetch_and(!EXPIRED, Ordering::SeqCst);
    }

    /// From now on every operation fails; gives those that wait to `ready`.
    pub(crate) fn close(&self, ready: &mut impl FnMut(Token)) {
        self.wake(CLOSED, ready);
    }

    fn wake(&self, set: u64, ready: &mut impl FnMut(Token)) {
        let mut now = self.readiness.load(Ordering::Relaxed);
        while let Err(other) = self.readiness.compare_exchange_weak(
            now,
            (now | set).wrapping_add(TICK),
            Ordering::SeqCst,
            Ordering::Relaxed,
        ) {
            now = other;
        }
        for direction in [Direction::Read, Direction::Write] {
            if set & ready_bits(direction) != 0
                && let Some(token) = Token::from_raw(self.waiters[direction as usize].load(Ordering::SeqCst))
            {
                ready(token);
            }
        }
        // SeqCst, as with `wait`: of the two one sees the other.
        if self.watchers.load(Ordering::SeqCst) != 0 {
            self.wake_watchers(set, ready);
        }
    }

    #[cold]
    fn wake_watchers(&self, set: u64, ready: &mut impl FnMut(Token)) {
        for queued in self.lock_queue().iter() {
            if queued.wants == Wants::Readiness && set & ready_bits(queued.direction) != 0 {
                ready(queued.token);
            }
        }
    }

    /// Wakes the park of that token, too, at each event of the direction, until `unwatch`. Then the caller must look at
    /// the readiness once more, as after `wait`. Any number may watch a direction, whoever uses it.
    pub(crate) fn watch(&self, direction: Direction, token: Token) {
        self.lock_queue().push_back(Queued { direction, token, wants: Wants::Readiness });
        self.watchers.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn unwatch(&self, direction: Direction, token: Token) {
        let watcher = Queued { direction, token, wants: Wants::Readiness };
        let mut queue = self.lock_queue();
        if let Some(index) = queue.iter().position(|queued| *queued == watcher) {
            queue.remove(index);
            self.watchers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn holder(&self, direction: Direction) -> &AtomicU32 {
        &self.holders[direction as usize]
    }

    pub(crate) fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("fd objects: a holder of a queue panicked")
    }
}

impl std::fmt::Debug for FdObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FdObject").field("readiness", &self.readiness()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: Token) {}

    #[test]
    fn a_call_that_raced_with_an_event_concludes_nothing() {
        let object = occupy();
        let seen = object.readiness();
        object.on_event(epoll::IN, &mut none);
        object.drained(seen);
        assert!(object.readiness().is_ready(Direction::Read), "the event was forgotten");
        let seen = object.readiness();
        object.drained(seen);
        assert!(!object.readiness().is_ready(Direction::Read));
        object.release();
    }

    #[test]
    fn a_sticky_bit_keeps_every_read_making_its_call() {
        for bits in [epoll::RDHUP, epoll::HUP, epoll::ERR, epoll::PRI] {
            let object = occupy();
            object.on_event(epoll::IN | bits, &mut none);
            let seen = object.readiness();
            object.drained(seen);
            object.clear(Direction::Read, seen);
            assert!(object.readiness().is_ready(Direction::Read), "bits {bits:#x}");
            object.release();
        }
    }

    #[test]
    fn an_event_of_a_closed_descriptor_finds_nobody() {
        let object = occupy();
        let data = object.data();
        assert!(from_data(data).is_some_and(|found| std::ptr::eq(found, object)));
        object.release();
        assert!(from_data(data).is_none());
    }

    #[test]
    fn an_event_wakes_the_direction_that_it_concerns() {
        let object = occupy();
        let reader = Token::first(5);
        let writer = Token::first(6);
        object.wait(Direction::Read, reader);
        object.wait(Direction::Write, writer);
        let mut woken = Vec::new();
        object.on_event(epoll::IN, &mut |token| woken.push(token));
        assert_eq!(woken, [reader]);
        woken.clear();
        object.on_event(epoll::OUT, &mut |token| woken.push(token));
        assert_eq!(woken, [writer]);
        woken.clear();
        object.on_event(epoll::HUP, &mut |token| woken.push(token));
        assert_eq!(woken, [reader, writer]);
        object.end_wait(Direction::Read);
        object.end_wait(Direction::Write);
        object.release();
    }
}
