//! The stack pool of a capability: which stacks are free, and how much memory free stacks may keep.
//!
//! ```text
//!            take                 give
//!  fresh ───────────▶ in use ───────────▶ warm ── more than warm_max ──▶ cooling ── decay ──▶ cold
//!  (no guard yet)        ▲                 │ (pages kept)                │ (pages kept)        │ (no pages)
//!                        └─────────────────┴──────────── take ───────────┴─────────────────────┘
//! ```
//!
//! [`take`](StackPool::take) prefers what is warmest. Warm stacks are a LIFO: the stack last used has its pages in
//! the cache.
//!
//! **Cooling stacks lose their memory slowly**, a batch every [`DECAY_NS`], the oldest first, and only those that nobody
//! has needed since the last time: a program that makes a hundred thousand threads again and again finds their pages,
//! and one that made them once has given them back two seconds later.
//!
//! **How deep a stack was is not known**, and finding out costs a system call per stack (mincore), as much as giving
//! the pages back. So depth is handled without asking: when the capability goes idle, warm stacks that have been used
//! since the last time keep their top [`KEPT_BYTES`] and lose what is below. The bottom of the LIFO that nobody has
//! taken since stays as it is: `trimmed` counts it, and taking lowers it.
//!
//! What free stacks keep is therefore no more than what they kept in use; and once the capability is idle and they have
//! decayed it is bounded, per class, by `warm_max` stacks of `KEPT_BYTES` and fewer than `batch_min` of any depth.

use core::fmt;
use std::collections::VecDeque;
use std::io;

use super::class::SizeClass;
use super::error::StackError;
use super::give_back::Giver;
use super::guard::{Guard, GuardKind};
use super::slab::Slab;
use super::slot::Stack;
use crate::sys::memory::{self, PAGE_BYTES, Region};

/// Free stacks of a class that keep their pages: enough that a burst of connections finds stacks without page faults.
const WARM_MAX: usize = 1024;

/// Address space that the warm stacks of a class may span. Bounds what deep threads of a large class leave behind.
const WARM_BYTES_MAX: usize = 256 << 20;

/// What a trimmed stack keeps: handlers, and calls into libraries that need a few pages, run without page faults.
const KEPT_BYTES: usize = 16 << 10;

/// Fewer stacks than this are not worth a system call when idle...
const BATCH_MIN: usize = 64;

/// ...unless they span more than this.
const BATCH_BYTES: usize = 16 << 20;

/// Cooling stacks that are given back at a time: as many as one call takes, some 0.7 ms.
const GIVE_BACK_MAX: usize = memory::REGIONS_MAX;

/// Time between two batches: with `GIVE_BACK_MAX` some 50,000 stacks a second, and 4 % of a core while it lasts.
pub(crate) const DECAY_NS: u64 = 20_000_000;

const _: () = {
    assert!(KEPT_BYTES.is_multiple_of(PAGE_BYTES));
    assert!(BATCH_MIN <= WARM_MAX);
    assert!(BATCH_MIN <= GIVE_BACK_MAX);
    assert!(BATCH_BYTES <= WARM_BYTES_MAX);
};

/// The stacks of one capability.
pub(crate) struct StackPool {
    guard: Guard,
    shelves: [Shelf; SizeClass::COUNT],
    giver: Giver,
    given_back: u64,
    trimmed: u64,
    /// When `decay` last did something.
    decayed_ns: u64,
}

/// The stacks of one class.
struct Shelf {
    class: SizeClass,
    warm: Vec<Stack>,
    warm_max: usize,
    /// Fewest stacks for which an idle capability makes a system call.
    batch_min: usize,
    /// How many stacks at the bottom of `warm` have been trimmed and not taken since.
    trimmed: usize,
    /// The oldest first.
    cooling: VecDeque<Stack>,
    /// The fewest that were cooling since the last decay: so many nobody has needed.
    cooling_min: usize,
    cold: Vec<Stack>,
    /// The last one opens slots, those before it have opened all of theirs.
    slabs: Vec<Slab>,
    slots_opened: usize,
}

/// What a pool has and did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Stacks that exist, free or in use.
    pub(crate) slots: usize,
    /// Stacks in use.
    pub(crate) in_use: usize,
    /// Free stacks with their pages.
    pub(crate) warm: usize,
    /// Free stacks whose pages wait for a batch to be given back.
    pub(crate) cooling: usize,
    /// Free stacks without pages.
    pub(crate) cold: usize,
    /// Mappings that the stacks are cut from.
    pub(crate) slabs: usize,
    /// How many times a stack's pages were given back.
    pub(crate) given_back: u64,
    /// How many times a warm stack lost the pages below [`KEPT_BYTES`].
    pub(crate) trimmed: u64,
}

impl StackPool {
    /// An empty pool. Maps nothing yet.
    ///
    /// # Errors
    /// The kernel's pages are not of [`PAGE_BYTES`], memory is locked as it is mapped, or `guard` is not to be had.
    pub(crate) fn new(guard: GuardKind) -> io::Result<StackPool> {
        let page_bytes = memory::page_bytes();
        if page_bytes != PAGE_BYTES {
            let advice =
                format!("stacks need a kernel with pages of {PAGE_BYTES} bytes, this one has {page_bytes}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, advice));
        }
        Ok(StackPool {
            guard: Guard::choose(guard)?,
            shelves: SizeClass::each(Shelf::new),
            giver: Giver { batches: true },
            given_back: 0,
            trimmed: 0,
            decayed_ns: 0,
        })
    }

    /// Takes a stack of `class`.
    ///
    /// # Errors
    /// A limit of the kernel's, by name.
    #[inline]
    pub(crate) fn take(&mut self, class: SizeClass) -> Result<Stack, StackError> {
        let shelf = &mut self.shelves[class.index()];
        match shelf.warm.pop() {
            Some(stack) => {
                shelf.trimmed = shelf.trimmed.min(shelf.warm.len());
                Ok(stack)
            }
            None => shelf.take_colder(self.guard),
        }
    }

    /// Takes a stack back, to be used again soon. Nothing may live on it any more.
    #[inline]
    pub(crate) fn give(&mut self, stack: Stack) {
        let stack = stack.used();
        let shelf = &mut self.shelves[stack.class().index()];
        if shelf.warm.len() < shelf.warm_max {
            shelf.warm.push(stack);
        } else {
            self.cool(stack);
        }
    }

    #[cold]
    fn cool(&mut self, stack: Stack) {
        self.shelves[stack.class().index()].cooling.push_back(stack);
    }

    /// Returns memory of cooling stacks, if that is due and worth system calls. To be called every now and then, with the
    /// time.
    pub(crate) fn decay(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.decayed_ns) < DECAY_NS {
            return;
        }
        self.decayed_ns = now_ns;
        for shelf in &mut self.shelves {
            let unneeded = shelf.cooling_min.min(GIVE_BACK_MAX);
            if unneeded >= shelf.batch_min {
                self.given_back += shelf.give_back(unneeded, &mut self.giver);
            }
            shelf.cooling_min = shelf.cooling.len();
        }
    }

    /// Whether `decay` has more to do.
    pub(crate) fn is_decaying(&self) -> bool {
        self.shelves.iter().any(|shelf| shelf.cooling.len() >= shelf.batch_min)
    }

    /// Returns memory below the top of warm stacks where there is enough of it to be worth system calls. To be called
    /// when the capability has nothing to run.
    pub(crate) fn release_idle(&mut self) {
        for shelf in &mut self.shelves {
            if shelf.warm.len() - shelf.trimmed >= shelf.batch_min {
                self.trimmed += shelf.trim(&mut self.giver);
            }
        }
    }

    /// What the pool has and did.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts { given_back: self.given_back, trimmed: self.trimmed, ..Counts::default() };
        for shelf in &self.shelves {
            counts.slots += shelf.slots_opened;
            counts.in_use += shelf.in_use();
            counts.warm += shelf.warm.len();
            counts.cooling += shelf.cooling.len();
            counts.cold += shelf.cold.len();
            counts.slabs += shelf.slabs.len();
        }
        counts
    }
}

impl fmt::Debug for StackPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackPool").field("guard", &self.guard).field("counts", &self.counts()).finish()
    }
}

impl Shelf {
    fn new(class: SizeClass) -> Shelf {
        Shelf {
            class,
            warm: Vec::new(),
            warm_max: (WARM_BYTES_MAX / class.bytes()).clamp(1, WARM_MAX),
            batch_min: (BATCH_BYTES / class.bytes()).clamp(1, BATCH_MIN),
            trimmed: 0,
            cooling: VecDeque::new(),
            cooling_min: 0,
            cold: Vec::new(),
            slabs: Vec::new(),
            slots_opened: 0,
        }
    }

    fn in_use(&self) -> usize {
        self.slots_opened - self.warm.len() - self.cooling.len() - self.cold.len()
    }

    /// What [`StackPool::take`] does when no stack is warm.
    #[cold]
    fn take_colder(&mut self, guard: Guard) -> Result<Stack, StackError> {
        if let Some(stack) = self.cooling.pop_back() {
            self.cooling_min = self.cooling_min.min(self.cooling.len());
            return Ok(stack);
        }
        if let Some(stack) = self.cold.pop() {
            return Ok(stack);
        }
        let base = self.open_slot(guard)?;
        self.slots_opened += 1;
        Ok(Stack::new(base, self.class))
    }

    fn open_slot(&mut self, guard: Guard) -> Result<usize, StackError> {
        if let Some(slab) = self.slabs.last_mut()
            && let Some(opened) = slab.open_slot()
        {
            return opened;
        }
        let slots_before = self.slabs.last().map_or(0, Slab::slots);
        self.slabs.push(Slab::map(self.class, guard, slots_before, self.slots_opened)?);
        let slab = self.slabs.last_mut().expect("stack pool: a slab was just pushed");
        slab.open_slot().expect("stack pool: a new slab has a slot")
    }

    /// Gives the memory of the `count` stacks back that have cooled longest. Returns how many that is.
    fn give_back(&mut self, count: usize, giver: &mut Giver) -> u64 {
        let regions: Vec<Region> = self.cooling.range(..count).map(|stack| stack.usable().into()).collect();
        // SAFETY: the regions are stacks that were given to this pool, on which nothing lives, in slabs of this shelf.
        unsafe { giver.discard(&regions) };
        self.cold.extend(self.cooling.drain(..count));
        regions.len() as u64
    }

    /// Gives back what warm stacks have below their top [`KEPT_BYTES`], unless that was done since they were last
    /// used. Returns how many there were.
    fn trim(&mut self, giver: &mut Giver) -> u64 {
        let deep = |stack: &Stack| Region::from(stack.usable().start..stack.usable().end - KEPT_BYTES);
        let regions: Vec<Region> = self.warm[self.trimmed..].iter().map(deep).collect();
        // SAFETY: as in `give_back`.
        unsafe { giver.discard(&regions) };
        self.trimmed = self.warm.len();
        regions.len() as u64
    }
}

impl Drop for Shelf {
    /// Unmaps the slabs, unless a stack is still out: an abandoned thread's frames may be pointed at.
    fn drop(&mut self) {
        if self.in_use() > 0 {
            self.slabs.drain(..).for_each(core::mem::forget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::class::GUARD_BYTES;
    use crate::stack::error::Limit;
    use crate::stack::{stacks_max, table};
    use crate::sys::{child, limits};

    const CLASS: SizeClass = SizeClass::DEFAULT;

    /// Writes to the lowest and the highest word of a stack, which must be zero or hold what was written before.
    fn touch(stack: &Stack) {
        for address in [stack.limit().get(), stack.base().get() - 8] {
            // SAFETY: the stack is owned by the caller and mapped; the addresses are within it and aligned.
            unsafe { (address as *mut u64).write_volatile(!0) };
        }
    }

    /// The lowest and the highest word of a stack.
    fn words(stack: &Stack) -> [u64; 2] {
        // SAFETY: as in `touch`.
        [stack.limit().get(), stack.base().get() - 8]
            .map(|address| unsafe { (address as *const u64).read_volatile() })
    }

    fn is_guarded(stack: &Stack) -> bool {
        let limit = stack.limit().get();
        memory::is_readable(limit)
            && [limit - 1, limit - GUARD_BYTES].into_iter().all(|a| !memory::is_readable(a))
    }

    /// The guard kinds that this kernel has.
    fn kinds() -> Vec<GuardKind> {
        let install = StackPool::new(GuardKind::Install).is_ok().then_some(GuardKind::Install);
        install.into_iter().chain([GuardKind::Protect]).collect()
    }

    #[test]
    fn a_stack_has_the_promised_bytes_above_a_guard() {
        for kind in kinds() {
            let mut pool = StackPool::new(kind).unwrap();
            for class in SizeClass::all() {
                let stack = pool.take(class).unwrap();
                assert!(stack.base().get() - stack.limit().get() >= class.bytes(), "{stack:?}");
                assert_eq!(stack.base().get() % 16, 0);
                assert_eq!(words(&stack), [0, 0]);
                touch(&stack);
                assert!(is_guarded(&stack), "{kind:?} {stack:?}");
                pool.give(stack);
            }
        }
    }

    #[test]
    fn a_warm_stack_is_the_one_last_given_and_is_new_only_once() {
        let mut pool = StackPool::new(GuardKind::Auto).unwrap();
        let (first, second) = (pool.take(CLASS).unwrap(), pool.take(CLASS).unwrap());
        assert!(first.is_new() && second.is_new());
        let base = first.base();
        pool.give(second);
        pool.give(first);
        let again = pool.take(CLASS).unwrap();
        assert_eq!(again.base(), base);
        assert!(!again.is_new());
        assert_eq!(pool.counts().slots, 2);
        assert_eq!((pool.counts().in_use, pool.counts().warm), (1, 1));
        pool.give(again);
    }

    #[test]
    fn stacks_do_not_overlap_across_slabs_and_spread_over_cache_lines() {
        let mut pool = StackPool::new(GuardKind::Auto).unwrap();
        let stacks: Vec<Stack> = (0..300).map(|_| pool.take(CLASS).unwrap()).collect();
        assert_eq!(pool.counts().slabs, 3);
        let mut ranges: Vec<_> = stacks.iter().map(|stack| stack.limit().get()..stack.base().get()).collect();
        ranges.sort_by_key(|range| range.start);
        assert!(ranges.windows(2).all(|pair| pair[0].end + GUARD_BYTES <= pair[1].start));

        let mut lines: Vec<_> = stacks.iter().map(|stack| stack.base().get() % PAGE_BYTES).collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), 16);
        stacks.into_iter().for_each(|stack| pool.give(stack));
    }

    #[test]
    fn memory_goes_back_in_batches_and_guards_survive_it() {
        for kind in kinds() {
            let mut pool = StackPool::new(kind).unwrap();
            let count = WARM_MAX + GIVE_BACK_MAX;
            let stacks: Vec<Stack> = (0..count).map(|_| pool.take(CLASS).unwrap()).collect();
            stacks.iter().for_each(touch);
            stacks.into_iter().for_each(|stack| pool.give(stack));
            pool.decay(DECAY_NS);
            assert_eq!((pool.counts().warm, pool.counts().cooling), (WARM_MAX, GIVE_BACK_MAX), "{kind:?}");
            pool.decay(2 * DECAY_NS);
            let counts = pool.counts();
            assert_eq!((counts.warm, counts.cooling, counts.cold), (WARM_MAX, 0, GIVE_BACK_MAX), "{kind:?}");
            assert_eq!(counts.given_back, GIVE_BACK_MAX as u64);

            let mut stacks: Vec<Stack> = (0..count).map(|_| pool.take(CLASS).unwrap()).collect();
            assert_eq!(pool.counts().slots, count);
            let cold = stacks.split_off(WARM_MAX);
            assert!(stacks.iter().all(|stack| words(stack) == [!0, !0]), "warm stacks keep their pages");
            assert!(cold.iter().all(|stack| words(stack) == [0, 0]), "cold stacks have lost theirs");
            assert!(cold.iter().chain(&stacks).all(is_guarded));
            cold.into_iter().chain(stacks).for_each(|stack| pool.give(stack));
        }
    }

    #[test]
    fn an_idle_pool_keeps_the_top_of_warm_stacks_only() {
        let mut pool = StackPool::new(GuardKind::Auto).unwrap();
        let stacks: Vec<Stack> = (0..BATCH_MIN).map(|_| pool.take(CLASS).unwrap()).collect();
        stacks.iter().for_each(touch);
        stacks.into_iter().for_each(|stack| pool.give(stack));
        pool.release_idle();
        assert_eq!(pool.counts().trimmed, BATCH_MIN as u64);

        // One stack is used again, deeply: one is too few for a batch, and the others are not trimmed twice.
        let stack = pool.take(CLASS).unwrap();
        assert_eq!(words(&stack), [0, !0]);
        touch(&stack);
        pool.give(stack);
        pool.release_idle();
        assert_eq!(pool.counts().trimmed, BATCH_MIN as u64);
        let stack = pool.take(CLASS).unwrap();
        assert_eq!(words(&stack), [!0, !0]);
        pool.give(stack);

        // All are used again: all are trimmed again.
        let stacks: Vec<Stack> = (0..BATCH_MIN).map(|_| pool.take(CLASS).unwrap()).collect();
        stacks.iter().for_each(touch);
        stacks.into_iter().for_each(|stack| pool.give(stack));
        pool.release_idle();
        let stacks: Vec<Stack> = (0..BATCH_MIN).map(|_| pool.take(CLASS).unwrap()).collect();
        assert!(stacks.iter().all(|stack| words(stack) == [0, !0]));
        stacks.into_iter().for_each(|stack| pool.give(stack));
    }

    #[test]
    fn a_batch_decays_that_is_worth_it_and_no_smaller_one() {
        let mut pool = StackPool::new(GuardKind::Auto).unwrap();
        let mut now_ns = DECAY_NS;
        for (extra, given_back) in [(BATCH_MIN - 1, 0), (BATCH_MIN, BATCH_MIN as u64)] {
            let stacks: Vec<Stack> = (0..WARM_MAX + extra).map(|_| pool.take(CLASS).unwrap()).collect();
            stacks.into_iter().for_each(|stack| pool.give(stack));
            assert_eq!(pool.counts().cooling, extra);
            assert_eq!(pool.is_decaying(), extra == BATCH_MIN);
            for _ in 0..2 {
                pool.decay(now_ns);
                now_ns += DECAY_NS;
            }
            assert_eq!(pool.counts().given_back, given_back);
        }
        assert_eq!(pool.counts().cooling, 0);
        assert!(!pool.is_decaying());
    }

    #[test]
    fn stacks_that_are_needed_again_keep_their_pages_and_those_that_are_not_decay_in_steps() {
        let mut pool = StackPool::new(GuardKind::Auto).unwrap();
        let count = WARM_MAX + GIVE_BACK_MAX + BATCH_MIN;
        let mut now_ns = DECAY_NS;
        // As a program that makes many threads again and again.
        for _ in 0..5 {
            let stacks: Vec<Stack> = (0..count).map(|_| pool.take(CLASS).unwrap()).collect();
            pool.decay(now_ns);
            stacks.into_iter().for_each(|stack| pool.give(stack));
            now_ns += DECAY_NS;
        }
        assert_eq!((pool.counts().given_back, pool.counts().slots), (0, count));
        // Nobody needs them any more. Too early is too early, however often.
        pool.decay(now_ns);
        (0..10).for_each(|n| pool.decay(now_ns + n));
        assert_eq!(pool.counts().given_back, 0);
        pool.decay(now_ns + DECAY_NS);
        assert_eq!(pool.counts().given_back, GIVE_BACK_MAX as u64);
        assert!(pool.is_decaying());
        pool.decay(now_ns + 2 * DECAY_NS);
        assert_eq!((pool.counts().cooling, pool.counts().warm), (0, WARM_MAX));
    }

    #[test]
    fn plain_madvise_does_what_batches_do() {
        let mut pool = StackPool::new(GuardKind::Auto).unwrap();
        pool.giver.batches = false;
        let stacks: Vec<Stack> = (0..BATCH_MIN).map(|_| pool.take(CLASS).unwrap()).collect();
        stacks.iter().for_each(touch);
        stacks.into_iter().for_each(|stack| pool.give(stack));
        pool.release_idle();
        let stack = pool.take(CLASS).unwrap();
        assert_eq!(words(&stack), [0, !0]);
        pool.give(stack);
    }

    #[test]
    fn a_pool_unmaps_its_slabs_unless_a_stack_is_still_out() {
        // In a process of its own, where no other test maps a slab at the same address.
        child::succeeds(|| {
            for abandoned in [false, true] {
                let mut pool = StackPool::new(GuardKind::Auto).unwrap();
                let stack = pool.take(CLASS).unwrap();
                let address = stack.base().get() - 8;
                if abandoned {
                    drop(stack);
                } else {
                    pool.give(stack);
                }
                drop(pool);
                assert_eq!(memory::is_readable(address), abandoned);
                assert_eq!(table::find(address).is_some(), abandoned);
            }
        });
    }

    /// Takes stacks until there are no more, and returns them with the reason.
    fn take_all(pool: &mut StackPool) -> (Vec<Stack>, StackError) {
        let mut stacks = Vec::new();
        loop {
            match pool.take(CLASS) {
                Ok(stack) => stacks.push(stack),
                Err(error) => return (stacks, error),
            }
        }
    }

    #[test]
    fn guards_by_mprotect_stop_short_of_the_kernels_limit_and_name_it() {
        child::succeeds(|| {
            let mut pool = StackPool::new(GuardKind::Protect).unwrap();
            let (mut stacks, error) = take_all(&mut pool);
            assert_eq!(stacks.len(), stacks_max(GuardKind::Protect).unwrap().0);
            assert!(error.to_string().contains("vm.max_map_count"), "{error}");
            // What is given back can be taken, although no new one can be opened.
            pool.give(stacks.pop().unwrap());
            stacks.push(pool.take(CLASS).unwrap());
            pool.take(CLASS).unwrap_err();
            // The rest of the process can map, and the budget returns with the memory.
            drop(memory::Mapping::reserve(PAGE_BYTES).unwrap());
            stacks.into_iter().for_each(|stack| pool.give(stack));
            drop(pool);
            let mut pool = StackPool::new(GuardKind::Protect).unwrap();
            let stack = pool.take(CLASS).unwrap();
            pool.give(stack);
        });
    }

    /// Takes all stacks where there is room for a hundred.
    fn take_all_of_a_hundred(used_bytes: fn() -> usize, set_bytes_max: fn(usize), name: &str) {
        let mut pool = StackPool::new(GuardKind::Auto).unwrap();
        set_bytes_max(used_bytes() + 100 * CLASS.stride_bytes());
        let (stacks, error) = take_all(&mut pool);
        assert!((90..=100).contains(&stacks.len()), "{} stacks", stacks.len());
        assert!(error.to_string().contains(name), "{error}");
    }

    #[test]
    fn little_address_space_is_used_to_the_end_in_small_slabs_and_named() {
        child::succeeds(|| {
            take_all_of_a_hundred(
                limits::address_space_bytes,
                limits::set_address_space_bytes_max,
                "RLIMIT_AS",
            );
        });
    }

    #[test]
    fn a_limit_on_data_is_named() {
        child::succeeds(|| {
            take_all_of_a_hundred(limits::data_bytes, limits::set_data_bytes_max, "RLIMIT_DATA");
        });
    }

    #[test]
    fn locked_memory_is_found_at_the_start_and_named() {
        child::succeeds(|| {
            let mut pool = StackPool::new(GuardKind::Auto).unwrap();
            memory::lock_future(true);
            let late = pool.take(CLASS).unwrap_err();
            assert_eq!(late.limit(), &Limit::LockedMemory);
            for kind in [GuardKind::Auto, GuardKind::Install, GuardKind::Protect] {
                let error = StackPool::new(kind).unwrap_err().to_string();
                assert!(error.contains("MCL_FUTURE") && error.contains("RLIMIT_MEMLOCK"), "{error}");
            }
        });
    }
}
