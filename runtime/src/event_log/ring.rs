#![forbid(unsafe_code)]
//! Where a capability leaves its events: a ring that the owner writes and anybody may copy, at any time.
//!
//! ```text
//!            begun: entries whose words may be half written     done: entries that are whole
//!   writer:  begun = n + 1; fence(Release); words of entry n; done = n + 1 (Release)
//!   reader:  read done (Acquire); copy the last `capacity` before it; fence(Acquire); read begun,
//!            and leave out of the copy what the entries up to `begun` have overwritten
//! ```
//! If the reader saw a word of entry n, the writer's fence is before the reader's, so the reader sees `begun` above n
//! and drops the entry that n replaced. All words are atomics, so a torn entry is a wrong number, never undefined; and
//! it is dropped. The newest events survive: an old one is overwritten, and counted as lost.
//!
//! The flag that says whether events are recorded is a word of the capability's `Remote`, which its loop has at hand;
//! while it is 0 an event costs its load and a branch.

use crate::critical::{self, Locked};
use crate::sys::{clock, cycles};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};

/// Words of an entry: time and kind, thread, detail.
const WORDS: usize = 3;
const KIND_BITS: u32 = 8;
/// Texts of user events, and names of threads that have ended, that are kept for a ring of so many events.
const EVENTS_PER_TEXT: usize = 4;

/// Declares the kinds with their numbers.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// What happened. `thread` and `detail` of an entry are 0 where nothing else is said.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            fn of(number: u8) -> Option<Kind> {
                const KINDS: &[Kind] = &[$(Kind::$kind,)*];
                KINDS.get(usize::from(number)).copied()
            }
        }
    };
}

kinds! {
    /// `thread` got the core. Detail 1: for the first time.
    Run,
    /// The running `thread` let others run.
    Yield,
    /// The running `thread` parked. Detail: what it is blocked on, packed.
    Park,
    /// The running `thread` ended.
    End,
    /// `thread` was spawned.
    Created,
    /// `thread` was made runnable. Detail: what ended its park; 0 an event, 1 its deadline, 2 an exception.
    Woken,
    /// `thread`, made runnable elsewhere, came through the inbox.
    Arrived,
    /// `thread` was taken, before it started, from the capability that the detail is the index of.
    Stolen,
    /// The capability has nothing to run and waits.
    Sleep,
    /// It waits no longer.
    Awake,
    /// Descriptors are ready: as many as the detail says.
    Poll,
    /// `thread` is to receive an exception: a kill, say.
    Interrupted,
    /// An exception from outside begins to unwind the running `thread`.
    Exception,
    /// A thread held the capability for longer than a slice after its own.
    Stall,
    /// Stacks gave memory back: as many as the detail says.
    GiveBack,
    /// The running `thread` says something. Detail: the text's number.
    User,
    /// It begins what the text (detail) names.
    SpanBegin,
    /// It ended what it began last.
    SpanEnd,
}

impl Kind {
    /// Whether it is recorded without a look at the clock, of the time of whatever is recorded next on its capability:
    /// what follows when a thread is off its core follows at once.
    fn is_untimed(self) -> bool {
        matches!(self, Kind::Yield | Kind::Park | Kind::End)
    }
}

/// One entry, as it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Clock ticks since the log was started; see [`Stamps`].
    pub(crate) at: u64,
    pub(crate) kind: Kind,
    pub(crate) thread: u64,
    pub(crate) detail: u64,
}

/// The clock of a log: the processor's cycles where those are steady, else nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamps {
    is_cycles: bool,
    start: u64,
    start_ns: u64,
}

impl Stamps {
    pub(crate) fn start() -> Stamps {
        let is_cycles = cycles::is_steady();
        let start_ns = clock::monotonic_ns();
        Stamps { is_cycles, start: if is_cycles { cycles::now() } else { start_ns }, start_ns }
    }

    /// Ticks since the start.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        let now = if self.is_cycles { cycles::now() } else { clock::monotonic_ns() };
        now.saturating_sub(self.start)
    }

    /// How many nanoseconds a tick takes, measured from the start until now.
    pub(crate) fn ns_per_tick(&self) -> f64 {
        if !self.is_cycles {
            return 1.0;
        }
        let (ticks, ns) = (self.now(), clock::monotonic_ns() - self.start_ns);
        ns as f64 / ticks.max(1) as f64
    }
}

/// An event: its time and kind, its thread, its detail.
type Entry = [AtomicU64; WORDS];

/// The events of one capability.
pub(crate) struct Ring {
    stamps: Stamps,
    begun: AtomicU64,
    done: AtomicU64,
    /// As many as a power of two.
    entries: Box<[Entry]>,
    texts: Mutex<Texts>,
    names: Mutex<VecDeque<(u64, String)>>,
}

/// What users said; the first that is kept has the number `first`.
#[derive(Default)]
struct Texts {
    first: u64,
    kept: VecDeque<Cow<'static, str>>,
}

/// A copy of a ring.
#[derive(Debug)]
pub(crate) struct Copied {
    /// Oldest first; untimed ones have the time of their successor.
    pub(crate) records: Vec<Record>,
    /// Events that are gone.
    pub(crate) lost: u64,
    /// Texts by number, from `texts_first`.
    pub(crate) texts: Vec<Cow<'static, str>>,
    pub(crate) texts_first: u64,
    /// Threads that have ended, with their names.
    pub(crate) names: Vec<(u64, String)>,
}

impl Copied {
    pub(crate) fn text(&self, number: u64) -> Option<&str> {
        let index = usize::try_from(number.checked_sub(self.texts_first)?).ok()?;
        self.texts.get(index).map(Cow::as_ref)
    }
}

impl Ring {
    /// For so many events, rounded up to a power of two.
    pub(crate) fn new(stamps: Stamps, capacity: usize) -> Ring {
        let capacity = capacity.next_power_of_two();
        Ring {
            stamps,
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            entries: (0..capacity).map(|_| Entry::default()).collect(),
            texts: Mutex::default(),
            names: Mutex::default(),
        }
    }

    /// Records an event. For the owner only.
    #[inline]
    fn push(&self, kind: Kind, thread: u64, detail: u64) {
        let at = if kind.is_untimed() { 0 } else { self.stamps.now() };
        let number = self.done.load(Ordering::Relaxed);
        self.begun.store(number + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let [first, second, third] = self.entry(number);
        first.store(at << KIND_BITS | kind as u64, Ordering::Relaxed);
        second.store(thread, Ordering::Relaxed);
        third.store(detail, Ordering::Relaxed);
        self.done.store(number + 1, Ordering::Release);
    }

    #[inline]
    fn entry(&self, number: u64) -> &Entry {
        &self.entries[number as usize & (self.entries.len() - 1)]
    }

    fn push_text(&self, text: Cow<'static, str>) -> u64 {
        let mut texts = lock(&self.texts);
        if texts.kept.len() >= self.entries.len() / EVENTS_PER_TEXT {
            texts.kept.pop_front();
            texts.first += 1;
        }
        texts.kept.push_back(text);
        texts.first + texts.kept.len() as u64 - 1
    }

    fn push_name(&self, thread: u64, name: String) {
        let mut names = lock(&self.names);
        if names.len() >= self.entries.len() / EVENTS_PER_TEXT {
            names.pop_front();
        }
        names.push_back((thread, name));
    }

    /// What is in the ring now.
    pub(crate) fn copy(&self) -> Copied {
        let capacity = self.entries.len() as u64;
        let done = self.done.load(Ordering::Acquire);
        let oldest = done.saturating_sub(capacity);
        let copied: Vec<[u64; WORDS]> = (oldest..done)
            .map(|number| self.entry(number).each_ref().map(|word| word.load(Ordering::Relaxed)))
            .collect();
        fence(Ordering::Acquire);
        let whole = self.begun.load(Ordering::Relaxed).saturating_sub(capacity).clamp(oldest, done);
        let mut records: Vec<Record> = copied[(whole - oldest) as usize..]
            .iter()
            .filter_map(|&[first, thread, detail]| {
                Some(Record { at: first >> KIND_BITS, kind: Kind::of(first as u8)?, thread, detail })
            })
            .collect();
        let mut next_at = self.stamps.now();
        for record in records.iter_mut().rev() {
            if record.kind.is_untimed() {
                record.at = next_at;
            }
            next_at = record.at;
        }
        let texts = lock(&self.texts);
        Copied {
            records,
            lost: whole,
            texts: texts.kept.iter().cloned().collect(),
            texts_first: texts.first,
            names: lock(&self.names).iter().cloned().collect(),
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("capacity", &self.entries.len())
            .field("events", &self.done.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> Locked<'_, T> {
    critical::lock(mutex)
}

/// The place of a ring at a capability: anybody may put one there.
pub(crate) struct Port {
    /// Which ring; 0 is none.
    number: AtomicU32,
    ring: Mutex<Option<Arc<Ring>>>,
}

static NEXT_NUMBER: AtomicU32 = AtomicU32::new(1);

impl Port {
    pub(crate) fn new() -> Port {
        Port { number: AtomicU32::new(0), ring: Mutex::new(None) }
    }

    /// Whether events are recorded: one relaxed load.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.number.load(Ordering::Relaxed) != 0
    }

    /// Puts a ring there, if none is.
    #[must_use]
    pub(crate) fn open(&self, ring: Arc<Ring>) -> bool {
        let mut place = lock(&self.ring);
        if place.is_some() {
            return false;
        }
        *place = Some(ring);
        // 0 comes round after four billion logs.
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed).max(1);
        self.number.store(number, Ordering::Relaxed);
        true
    }

    /// Takes `ring` away, if it is there.
    pub(crate) fn close(&self, ring: &Arc<Ring>) {
        let mut place = lock(&self.ring);
        if place.as_ref().is_some_and(|there| Arc::ptr_eq(there, ring)) {
            self.number.store(0, Ordering::Relaxed);
            *place = None;
        }
    }

    /// Takes away whatever ring is there, for a capability that begins.
    pub(crate) fn clear(&self) {
        self.number.store(0, Ordering::Relaxed);
        *lock(&self.ring) = None;
    }
}

/// The owner's end of a port. It keeps the ring that it has found there, so that an event takes no lock.
#[derive(Default)]
pub(crate) struct Tap {
    number: Cell<u32>,
    ring: RefCell<Option<Arc<Ring>>>,
}

impl Tap {
    /// Records an event, if there is a ring.
    pub(crate) fn record(&self, kind: Kind, thread: u64, detail: u64) {
        self.with(|ring| ring.push(kind, thread, detail));
    }

    /// Records what the user has to say.
    pub(crate) fn record_text(&self, kind: Kind, thread: u64, text: Cow<'static, str>) {
        self.with(|ring| ring.push(kind, thread, ring.push_text(text)));
    }

    /// Remembers the name of a thread that ends.
    pub(crate) fn record_name(&self, thread: u64, name: String) {
        self.with(|ring| ring.push_name(thread, name));
    }

    /// Lets go of a ring that is no longer at the port, and takes one that is new there: true.
    #[inline]
    pub(crate) fn refresh(&self, port: &Port) -> bool {
        self.number.get() != port.number.load(Ordering::Relaxed) && self.attach(port)
    }

    #[inline]
    fn with(&self, f: impl FnOnce(&Ring)) {
        if let Some(ring) = &*self.ring.borrow() {
            f(ring);
        }
    }

    #[cold]
    fn attach(&self, port: &Port) -> bool {
        let place = lock(&port.ring);
        self.number.set(port.number.load(Ordering::Relaxed));
        *self.ring.borrow_mut() = place.clone();
        place.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn every_kind_survives_its_number() {
        for number in 0..=Kind::SpanEnd as u8 {
            assert_eq!(Kind::of(number).unwrap() as u8, number);
        }
        assert_eq!(Kind::of(Kind::SpanEnd as u8 + 1), None);
    }

    #[test]
    fn a_full_ring_keeps_the_newest_and_counts_the_others() {
        let ring = Ring::new(Stamps::start(), 8);
        for number in 0..20 {
            ring.push(Kind::Created, number, 2 * number);
        }
        let copied = ring.copy();
        let threads: Vec<u64> = copied.records.iter().map(|record| record.thread).collect();
        assert_eq!(threads, (12..20).collect::<Vec<_>>());
        assert_eq!(copied.lost, 12);
        assert!(copied.records.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    #[test]
    fn the_end_of_a_slice_has_the_time_of_what_follows() {
        let ring = Ring::new(Stamps::start(), 8);
        for kind in [Kind::Run, Kind::Yield, Kind::Run, Kind::Park, Kind::Sleep] {
            ring.push(kind, 1, 0);
        }
        let records = ring.copy().records;
        assert!(records[1].at == records[2].at && records[3].at == records[4].at);
        assert!(records[0].at < records[1].at && records[2].at < records[3].at);
    }

    #[test]
    fn what_is_copied_while_the_owner_writes_is_whole() {
        let ring = Ring::new(Stamps::start(), 64);
        let (over, overlapped) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 0u64;
                // On a busy machine the copies may begin late.
                while number < 300_000 || !overlapped.load(Ordering::Relaxed) {
                    ring.push(Kind::Created, number, !number);
                    number += 1;
                }
                over.store(true, Ordering::Relaxed);
            });
            while !over.load(Ordering::Relaxed) {
                let copied = ring.copy();
                for (index, record) in copied.records.iter().enumerate() {
                    assert_eq!(record.detail, !record.thread);
                    assert_eq!(record.thread, copied.lost + index as u64);
                }
                overlapped.fetch_or(copied.lost > 0, Ordering::Relaxed);
            }
        });
    }

    #[test]
    fn the_newest_texts_and_names_are_kept() {
        let ring = Ring::new(Stamps::start(), 8);
        for number in 0..5 {
            assert_eq!(ring.push_text(Cow::Owned(number.to_string())), number);
            ring.push_name(number, number.to_string());
        }
        let copied = ring.copy();
        assert_eq!((copied.text(2), copied.text(3), copied.text(4)), (None, Some("3"), Some("4")));
        assert_eq!(copied.names, [(3, "3".to_owned()), (4, "4".to_owned())]);
    }

    #[test]
    fn a_port_takes_one_ring_at_a_time_and_a_tap_follows_it() {
        let (port, tap) = (Port::new(), Tap::default());
        let record = || {
            let is_new = tap.refresh(&port);
            tap.record(Kind::Stall, 0, 0);
            is_new
        };
        let ring = || Arc::new(Ring::new(Stamps::start(), 8));
        let (one, other) = (ring(), ring());
        assert!(!record() && !port.is_on() && port.open(Arc::clone(&one)) && port.is_on());
        assert!(!port.open(Arc::clone(&other)));
        assert!(record() && !record());
        port.close(&other);
        assert!(port.is_on());
        port.close(&one);
        assert!(!record());
        assert_eq!(Arc::strong_count(&one), 1, "the tap let go of it");
        assert!(port.open(Arc::clone(&other)));
        assert!(record());
        assert_eq!((one.copy().records.len(), other.copy().records.len()), (2, 1));
        port.clear();
        assert!(!port.is_on());
    }
}
