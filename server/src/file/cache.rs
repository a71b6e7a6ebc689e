//! Open files by name, for a time so short that nobody minds a stale one.
//!
//! ```text
//!   absent ──insert──▶ fresh ──TTL_SECONDS──▶ expired ──sweep, or insert anew──▶ absent
//!                        │ get
//!                        ▼
//!                 Rc<Entry> of a response: outlives all of this
//! ```
//! An entry answers for its name until it expires, and is never revived: the file is opened anew. So an answer
//! is at most [`TTL_SECONDS`] behind the file system, and under load a file costs one open per second instead
//! of one per request. A sweep drops the cache's reference only; the descriptor is closed when the last
//! response that uses it is done or has unwound. (Warp's cache could not count references, because a killed
//! Haskell thread may not give its count back; `Drop` does.) Names that are not found are not kept: a file
//! appears at once, and nobody fills the cache with names that do not exist.
//!
//! Rejected: keeping expired entries and asking by `fstat` whether they are still true. It would miss a file
//! replaced by a rename, the usual way to publish one. Asking by path costs as much as opening.
//!
//! One cache belongs to one capability. It reads no clock and makes no system call, except that dropping the
//! last reference closes a descriptor.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use super::entry::Entry;

/// How long an entry answers for its name, in seconds of the wall clock. It is compared with whole seconds, so
/// an entry opened late in a second lives less.
pub const TTL_SECONDS: u64 = 1;

/// How many files one capability keeps open by its cache. With a soft limit of 1024 descriptors per process, as
/// is common, the caches of two capabilities leave half of it to connections.
pub const ENTRIES_MAX: usize = 256;

/// Which root a name is relative to: numbers that are never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RootId(pub(crate) u64);

/// The open files of one capability.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// A service has one root, or a few: a scan beats a second hash. None of the maps is empty.
    roots: Vec<(RootId, Names)>,
}

type Names = HashMap<Box<[u8]>, Cached, BuildHasherDefault<NameHasher>>;

#[derive(Debug)]
struct Cached {
    entry: Rc<Entry>,
    opened_unix_seconds: u64,
}

impl Cached {
    /// A clock that was set back makes an entry expire, not live longer.
    fn is_fresh(&self, now_unix_seconds: u64) -> bool {
        now_unix_seconds.checked_sub(self.opened_unix_seconds).is_some_and(|age| age < TTL_SECONDS)
    }
}

impl Cache {
    /// A cache without entries.
    pub(crate) const fn new() -> Cache {
        Cache { roots: Vec::new() }
    }

    /// The file of this name, if it was opened within the time to live. Allocates nothing.
    pub(crate) fn get(&self, root: RootId, name: &[u8], now_unix_seconds: u64) -> Option<Rc<Entry>> {
        let (_, names) = self.roots.iter().find(|(id, _)| *id == root)?;
        let cached = names.get(name).filter(|cached| cached.is_fresh(now_unix_seconds))?;
        Some(Rc::clone(&cached.entry))
    }

    /// Keeps a file that was opened at `opened_unix_seconds`, unless the cache is full of fresh ones.
    pub(crate) fn insert(&mut self, root: RootId, name: &[u8], entry: Rc<Entry>, opened_unix_seconds: u64) {
        if self.len() >= ENTRIES_MAX {
            self.sweep(opened_unix_seconds);
            if self.len() >= ENTRIES_MAX {
                return;
            }
        }
        let cached = Cached { entry, opened_unix_seconds };
        match self.roots.iter_mut().find(|(id, _)| *id == root) {
            Some((_, names)) => drop(names.insert(name.into(), cached)),
            None => self.roots.push((root, Names::from_iter([(name.into(), cached)]))),
        }
    }

    /// Lets go of all entries that have expired.
    pub(crate) fn sweep(&mut self, now_unix_seconds: u64) {
        self.roots.retain_mut(|(_, names)| {
            names.retain(|_, cached| cached.is_fresh(now_unix_seconds));
            !names.is_empty()
        });
    }

    /// How many files are kept.
    pub(crate) fn len(&self) -> usize {
        self.roots.iter().map(|(_, names)| names.len()).sum()
    }

    /// True if no file is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }
}

/// A folded product of eight bytes at a time, for a third of the time that SipHash takes on a short name. It can be
/// flooded, and that does not matter: the keys are names of existing files, and at most [`ENTRIES_MAX`].
#[derive(Debug, Default)]
struct NameHasher(u64);

impl NameHasher {
    fn add(&mut self, word: u64) {
        /// 2⁶⁴ divided by the golden ratio (Knuth, The Art of Computer Programming 3, §6.4).
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        // The upper half of the product depends on all bits, the lower half on the lower ones of each.
        let product = u128::from(self.0 ^ word ^ FACTOR) * u128::from(FACTOR);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        // The length is hashed before the bytes, so that zeros at the end need no mark.
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add(u64::from_le_bytes(last));
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::tests::Scratch;
    use std::path::Path;

    const ROOT: RootId = RootId(1);
    const NOW: u64 = 1_700_000_000;

    fn entry() -> Rc<Entry> {
        let scratch = Scratch::new();
        scratch.write("file", b"content");
        let directory = bast::fs::open_directory(scratch.path()).expect("open the root");
        let (fd, metadata) =
            bast::fs::open_beneath(std::os::fd::AsFd::as_fd(&directory), Path::new("file")).expect("open");
        Rc::new(Entry::new(fd, &metadata, "text/plain", NOW))
    }

    #[test]
    fn an_entry_answers_for_its_name_and_root_until_it_expires() {
        let mut cache = Cache::new();
        let file = entry();
        cache.insert(ROOT, b"a", Rc::clone(&file), NOW);
        let found = cache.get(ROOT, b"a", NOW + TTL_SECONDS - 1).expect("a fresh entry");
        assert!(Rc::ptr_eq(&found, &file));
        assert!(cache.get(ROOT, b"b", NOW).is_none());
        assert!(cache.get(RootId(2), b"a", NOW).is_none());
        assert!(cache.get(ROOT, b"a", NOW + TTL_SECONDS).is_none());
        assert!(cache.get(ROOT, b"a", NOW - 1).is_none(), "the clock was set back");
    }

    #[test]
    fn a_newer_entry_takes_the_place_of_an_older_one() {
        let mut cache = Cache::new();
        let (old, new) = (entry(), entry());
        cache.insert(ROOT, b"a", Rc::clone(&old), NOW);
        cache.insert(ROOT, b"a", Rc::clone(&new), NOW + TTL_SECONDS);
        assert_eq!(cache.len(), 1);
        let found = cache.get(ROOT, b"a", NOW + TTL_SECONDS).expect("a fresh entry");
        assert!(Rc::ptr_eq(&found, &new));
        assert_eq!(Rc::strong_count(&old), 1);
    }

    #[test]
    fn a_sweep_lets_go_of_the_expired_and_never_closes_a_file_in_use() {
        let mut cache = Cache::new();
        let (old, young) = (entry(), entry());
        cache.insert(ROOT, b"old", Rc::clone(&old), NOW - TTL_SECONDS);
        cache.insert(ROOT, b"young", Rc::clone(&young), NOW);
        cache.insert(RootId(2), b"old", Rc::clone(&old), NOW - TTL_SECONDS);
        cache.sweep(NOW);
        assert_eq!(cache.len(), 1);
        assert!(cache.get(ROOT, b"young", NOW).is_some());
        assert_eq!(Rc::strong_count(&old), 1);
        let mut buf = [0; 7];
        assert_eq!(old.file().read_at(&mut buf, 0).expect("still open"), 7);
        cache.sweep(NOW + TTL_SECONDS);
        assert!(cache.is_empty());
        assert_eq!(Rc::strong_count(&young), 1);
    }

    #[test]
    fn a_full_cache_keeps_what_is_fresh_and_makes_room_of_what_is_not() {
        let mut cache = Cache::new();
        let file = entry();
        for number in 0..ENTRIES_MAX {
            cache.insert(ROOT, number.to_string().as_bytes(), Rc::clone(&file), NOW);
        }
        cache.insert(ROOT, b"one too many", Rc::clone(&file), NOW);
        assert_eq!(cache.len(), ENTRIES_MAX);
        assert!(cache.get(ROOT, b"one too many", NOW).is_none());
        assert!(cache.get(ROOT, b"0", NOW).is_some());

        cache.insert(ROOT, b"one too many", Rc::clone(&file), NOW + TTL_SECONDS);
        assert_eq!(cache.len(), 1);
        assert!(cache.get(ROOT, b"one too many", NOW + TTL_SECONDS).is_some());
    }

    #[test]
    fn names_of_one_kind_are_spread_over_the_slots() {
        let hash = |name: &str| {
            let mut hasher = NameHasher::default();
            std::hash::Hash::hash(name.as_bytes(), &mut hasher);
            hasher.finish()
        };
        let names: Vec<String> = (0..1000).map(|n| format!("images/photo-{n:04}.jpeg")).collect();
        for shift in [0, 57] {
            // 128 slots (bottom) and 128 control bytes (top): about 8 names each.
            let mut counts = [0; 128];
            for name in &names {
                counts[usize::try_from(hash(name) >> shift & 127).expect("seven bits")] += 1;
            }
            assert!(counts.iter().all(|&count| count < 32), "shift {shift}: {counts:?}");
        }
        assert_ne!(hash("a"), hash("a\0"));
        assert_ne!(hash(""), hash("\0\0\0\0\0\0\0\0"));
    }
}
