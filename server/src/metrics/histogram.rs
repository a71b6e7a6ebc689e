//! How often a time fell between which bounds.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::Cell;

/// The upper bounds of the buckets: three to a decade, as is usual, from what a handler without work takes to what a
/// limit of time allows. As text, since a bound is a name as well.
pub(super) const BOUNDS: [(u64, &str); 19] = [
    (1_000, "0.000001"),
    (2_500, "0.0000025"),
    (5_000, "0.000005"),
    (10_000, "0.00001"),
    (25_000, "0.000025"),
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (100_000_000, "0.1"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (10_000_000_000, "10"),
    (60_000_000_000, "60"),
];

/// The times that one capability has seen.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// By the first bound that is not exceeded, in nanoseconds; the last one has those beyond all bounds.
    counts: [Cell; BOUNDS.len() + 1],
    sum_ns: Cell,
}

impl Histogram {
    pub(super) fn record(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < ns);
        self.counts[bucket].add(1);
        self.sum_ns.add(ns);
    }
}

/// The sum of histograms.
#[derive(Debug, Default)]
pub(super) struct Sum {
    counts: [u64; BOUNDS.len() + 1],
    sum_ns: u64,
}

impl Sum {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (sum, cell) in self.counts.iter_mut().zip(&histogram.counts) {
            *sum += cell.get();
        }
        self.sum_ns = self.sum_ns.wrapping_add(histogram.sum_ns.get());
    }

    /// For each bound as text, `+Inf` included, how many times did not exceed it.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let bounds = BOUNDS.iter().map(|(_, text)| *text).chain(["+Inf"]);
        let counts = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        bounds.zip(counts)
    }

    pub(super) fn seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_below_every_bound_that_it_does_not_exceed() {
        let histogram = Histogram::default();
        for ns in [0, 1_000, 1_001, 60_000_000_000, 60_000_000_001] {
            histogram.record(Duration::from_nanos(ns));
        }
        let mut sum = Sum::default();
        sum.add(&histogram);
        let cumulative: Vec<u64> = sum.cumulative().map(|(_, count)| count).collect();
        assert_eq!(cumulative[..2], [2, 3]);
        assert_eq!(cumulative[BOUNDS.len() - 2..], [3, 4, 5]);
        assert_eq!(sum.count(), 5);
        assert!((sum.seconds() - 120.000_002_002).abs() < 1e-6);
    }

    #[test]
    fn the_bounds_ascend_and_are_what_their_names_say() {
        assert!(BOUNDS.is_sorted());
        for (ns, text) in BOUNDS {
            let seconds: f64 = text.parse().expect("a number");
            assert!((seconds * 1e9 - ns as f64).abs() < 0.5, "{text}");
        }
    }
}
