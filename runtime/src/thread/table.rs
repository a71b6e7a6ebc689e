//! The table of control blocks: chunks that are made as needed and never freed.
//!
//! A block is *type-stable*: once its chunk exists its memory holds a [`Control`] for ever, occupied or free. That is
//! what makes a `Token` harmless to keep and the monitor able to walk all threads without stopping any. Memory grows
//! with the most threads that ever lived at once (256 bytes each) and is used again, not returned.
//!
//! The table belongs to the process, like the heap: runtimes share it and see only their own threads in it.

use super::ThreadId;
use super::control::Control;
use super::label::Label;
use super::notice::Home;
use super::token::INDEX_LIMIT;
use crate::critical::Section;
use crate::stack;
use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

/// Blocks in a chunk: 64 KiB of memory.
const CHUNK: usize = 256;
const CHUNKS_MAX: usize = INDEX_LIMIT / CHUNK;
/// How many blocks an OS thread takes from the common store at a time, and how many free ones it keeps.
const BATCH: usize = 64;
const KEPT_MAX: usize = 256;
/// Thread ids are drawn in ranges, so that spawning on one core shares no cache line with spawning on another.
const ID_BATCH: u64 = 1024;

const _: () = assert!(BATCH <= CHUNK && KEPT_MAX >= 2 * BATCH);

static CHUNKS: [OnceLock<Box<[Control]>>; CHUNKS_MAX] = [const { OnceLock::new() }; CHUNKS_MAX];
/// One more than the highest index that was ever handed out.
static INDEX_END: AtomicU32 = AtomicU32::new(1);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
struct Store {
    free: Vec<u32>,
    /// Blocks that are handed out to OS threads' caches or in use.
    out: usize,
}

static STORE: Mutex<Store> = Mutex::new(Store { free: Vec::new(), out: 0 });

/// The free blocks of one OS thread.
struct Cache {
    free: Vec<u32>,
    ids: Range<u64>,
}

thread_local! {
    static CACHE: RefCell<Cache> = const { RefCell::new(Cache { free: Vec::new(), ids: 0..0 }) };
}

impl Drop for Cache {
    fn drop(&mut self) {
        let mut store = STORE.lock().expect("thread table: a holder of the lock panicked");
        store.out -= self.free.len();
        store.free.append(&mut self.free);
    }
}

/// How many threads may live in this process at once for another one to be made, and why not more.
///
/// A runtime has one of its own: what bounds its stacks does not bound another's. It works in steps of the caches'
/// size: up to `KEPT_MAX` blocks per OS thread may be kept free where no other can take them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadLimit {
    max: usize,
    reason: Option<stack::Limit>,
}

impl ThreadLimit {
    /// What the table has room for.
    pub(crate) const TABLE: ThreadLimit = ThreadLimit { max: INDEX_LIMIT - CHUNK, reason: None };

    /// At most `max`, for the given reason; the table's own limit if that is lower.
    pub(crate) fn new(max: usize, reason: Option<stack::Limit>) -> ThreadLimit {
        if max < Self::TABLE.max { ThreadLimit { max: max.max(BATCH), reason } } else { Self::TABLE }
    }
}

/// No more threads: the limit is reached.
#[derive(Debug)]
pub(crate) struct TooManyThreads(ThreadLimit);

impl fmt::Display for TooManyThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the limit of {} green threads in this process is reached", self.0.max)?;
        self.0.reason.map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

impl std::error::Error for TooManyThreads {}

/// The block of slot `index`, if that slot was ever made.
#[inline]
pub(crate) fn control(index: u32) -> Option<&'static Control> {
    CHUNKS.get(index as usize / CHUNK)?.get()?.get(index as usize % CHUNK)
}

/// All slots that were ever handed out, whether or not they are in use now.
pub(crate) fn all() -> impl Iterator<Item = &'static Control> {
    (1..INDEX_END.load(Ordering::Acquire)).filter_map(control)
}

/// A block for a new thread with `refs` references.
pub(crate) fn occupy(
    home: Home,
    label: Label,
    spawned_ns: u64,
    refs: u32,
    limit: ThreadLimit,
) -> Result<&'static Control, TooManyThreads> {
    let _section = Section::enter();
    let (index, id) = CACHE
        .try_with(|cache| {
            let cache = &mut *cache.borrow_mut();
            if cache.free.is_empty() {
                refill(&mut cache.free, BATCH, limit)?;
            }
            if cache.ids.is_empty() {
                let start = NEXT_ID.fetch_add(ID_BATCH, Ordering::Relaxed);
                cache.ids = start..start + ID_BATCH;
            }
            let id = cache.ids.next().expect("the range was just filled");
            Ok((cache.free.pop().expect("the cache was just filled"), id))
        })
        .unwrap_or_else(|_| {
            // The OS thread is ending and its cache is gone.
            let mut one = Vec::new();
            refill(&mut one, 1, limit)?;
            Ok((one[0], NEXT_ID.fetch_add(1, Ordering::Relaxed)))
        })?;
    let control = control(index).expect("a slot that was handed out has a chunk");
    let id = ThreadId::from_raw(id).expect("ids start at 1");
    // SAFETY: the block was in the free list and has just been taken out of it.
    unsafe { control.occupy(id, home, label, spawned_ns, refs) };
    Ok(control)
}

/// Takes back a block that nobody has a reference to.
pub(super) fn give_back(control: &'static Control) {
    let _section = Section::enter();
    let index = control.index();
    let kept = CACHE.try_with(|cache| {
        let free = &mut cache.borrow_mut().free;
        free.push(index);
        if free.len() > KEPT_MAX {
            let mut store = STORE.lock().expect("thread table: a holder of the lock panicked");
            store.free.extend(free.drain(..BATCH));
            store.out -= BATCH;
        }
    });
    if kept.is_err() {
        let mut store = STORE.lock().expect("thread table: a holder of the lock panicked");
        store.free.push(index);
        store.out -= 1;
    }
}

#[cold]
fn refill(free: &mut Vec<u32>, wanted: usize, limit: ThreadLimit) -> Result<(), TooManyThreads> {
    let mut store = STORE.lock().expect("thread table: a holder of the lock panicked");
    let wanted = wanted.min(limit.max.saturating_sub(store.out));
    if wanted == 0 {
        return Err(TooManyThreads(limit));
    }
    if store.free.is_empty() {
        grow(&mut store.free);
    }
    let from = store.free.len().saturating_sub(wanted);
    let taken = store.free.len() - from;
    free.extend(store.free.drain(from..));
    store.out += taken;
    Ok(())
}

fn grow(free: &mut Vec<u32>) {
    let start = INDEX_END.load(Ordering::Relaxed);
    // Slot 0 is left out for ever: a token is never 0.
    let first = start as usize / CHUNK * CHUNK;
    CHUNKS[first / CHUNK]
        .get_or_init(|| (first..first + CHUNK).map(|index| Control::new(index.max(1) as u32)).collect());
    let end = (first + CHUNK) as u32;
    INDEX_END.store(end, Ordering::Release);
    // In descending order, so that the lowest are handed out first.
    free.extend((start..end).rev());
}
