//! How many connections each capability has, and where the next one goes.
//!
//! One counter per capability, on its own cache line: the acceptor reads them all for each connection, and a capability
//! writes its own when a connection ends. The acceptor counts up *before* it hands a connection over, so that a burst
//! is spread although none of its threads has started; a connection that another capability took is moved. The total
//! is a counter of its own: a sum of the others could miss one that is being moved.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};

/// The connections of a server, by capability.
#[derive(Debug)]
pub(crate) struct LoadTable {
    live: Box<[Counter]>,
    total: Counter,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Counter(AtomicUsize);

impl LoadTable {
    pub(crate) fn new(capabilities: usize) -> LoadTable {
        LoadTable { live: (0..capabilities).map(|_| Counter::default()).collect(), total: Counter::default() }
    }

    /// The capability with the fewest connections; `own` where it is one of them, because a connection that stays
    /// wakes nobody.
    pub(crate) fn least(&self, own: usize) -> usize {
        let load = |index: usize| self.live[index].0.load(Ordering::Relaxed);
        (0..self.live.len()).fold(own, |best, index| if load(index) < load(best) { index } else { best })
    }

    /// All connections. Exact only once none are added any more: see Note [the last connection] in `shutdown.rs`.
    pub(crate) fn total(&self) -> usize {
        self.total.0.load(Ordering::SeqCst)
    }

    pub(crate) fn add(&self, capability: usize) {
        self.live[capability].0.fetch_add(1, Ordering::Relaxed);
        self.total.0.fetch_add(1, Ordering::SeqCst);
    }

    /// A connection is started by another capability than the one it was meant for.
    pub(crate) fn shift(&self, from: usize, to: usize) {
        self.live[to].0.fetch_add(1, Ordering::Relaxed);
        self.live[from].0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, capability: usize) {
        self.live[capability].0.fetch_sub(1, Ordering::Relaxed);
        let before = self.total.0.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "load: more connections ended than began");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_and_ties_stay_at_home() {
        let table = LoadTable::new(3);
        let mut placed = Vec::new();
        for _ in 0..7 {
            let index = table.least(1);
            table.add(index);
            placed.push(index);
        }
        assert_eq!(placed, [1, 0, 2, 1, 0, 2, 1]);
        assert_eq!(table.total(), 7);
        table.remove(2);
        table.remove(2);
        assert_eq!(table.least(1), 2);
        table.shift(1, 2);
        table.shift(1, 2);
        assert_eq!((table.least(0), table.total()), (1, 5));
    }
    #[test]
    fn no_two_capabilities_count_on_one_cache_line() {
        let table = LoadTable::new(2);
        let [own, other] = &*table.live else { panic!("there are two") };
        for counter in [own, other, &table.total] {
            assert!((&raw const *counter).addr().is_multiple_of(64));
        }
        assert!((&raw const *other).addr() - (&raw const *own).addr() >= 64);
    }
}
