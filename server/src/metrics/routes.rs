//! The handlers' time by method and route.
//!
//! A capability has a table of its own, open-addressed: its owner alone puts pairs into it and adds to their histograms;
//! whoever writes the page reads along. A pair is put once and stays, and a lookup is a hash of two words and, mostly,
//! one comparison of pointers: the texts of routes are kept once each ([`pattern`](crate::pattern)).
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

use super::METHODS;
use super::histogram::{Histogram, Sum};

/// What requests that no route has answered are counted as. No pattern is called that: patterns begin with a slash.
const NO_ROUTE: &str = "none";

/// What the requests of further routes are counted as, where [`PAIRS_MAX`] pairs have a histogram.
const OTHERS: &str = "others";

/// So many pairs of a method and a route have a histogram of their own, on each capability. Routes are part of the program
/// and no client can add one; but programs may make theirs from data, and each pair is 22 lines of the page.
const PAIRS_MAX: usize = 512;

/// Twice as many as may be taken, so that a search ends soon.
const SLOTS: usize = 2 * PAIRS_MAX;
const _: () = assert!(SLOTS.is_power_of_two());

/// A method, as its index in [`METHODS`], and the route that answered it.
type Pair = (usize, Option<&'static str>);

/// A slot of a table, for a pair and its times.
type Slot = OnceLock<Box<(Pair, Histogram)>>;

/// The times that one capability's handlers took.
#[derive(Debug)]
pub(super) struct Routes {
    /// Those that are taken stay so.
    slots: Box<[Slot]>,
    others: [Histogram; METHODS.len()],
}

impl Default for Routes {
    fn default() -> Routes {
        Routes { slots: (0..SLOTS).map(|_| OnceLock::new()).collect(), others: Default::default() }
    }
}

impl Routes {
    /// For the owner only.
    pub(super) fn record(&self, method: usize, route: Option<&'static str>, time: Duration) {
        self.histogram((method, route)).record(time);
    }

    fn histogram(&self, pair: Pair) -> &Histogram {
        let mut index = hash(pair) % SLOTS;
        while let Some(slot) = self.slots[index].get() {
            if is_same(slot.0, pair) {
                return &slot.1;
            }
            index = (index + 1) % SLOTS;
        }
        self.add(pair, index)
    }

    /// Puts a pair into the free slot where its search ended, while there is room.
    #[cold]
    fn add(&self, pair: Pair, free: usize) -> &Histogram {
        if self.slots.iter().filter(|slot| slot.get().is_some()).count() >= PAIRS_MAX {
            return &self.others[pair.0];
        }
        &self.slots[free].get_or_init(|| Box::new((pair, Histogram::default()))).1
    }

    /// Adds all to these sums by the labels that the page has: route and method.
    pub(super) fn add_to(&self, sums: &mut BTreeMap<(&'static str, &'static str), Sum>) {
        for ((method, route), histogram) in
            self.slots.iter().filter_map(|slot| slot.get()).map(|slot| &**slot)
        {
            sums.entry((route.unwrap_or(NO_ROUTE), METHODS[*method])).or_default().add(histogram);
        }
        for (name, histogram) in METHODS.into_iter().zip(&self.others) {
            let mut sum = Sum::default();
            sum.add(histogram);
            if sum.count() > 0 {
                sums.entry((OTHERS, name)).or_default().add(histogram);
            }
        }
    }
}

/// Where the text is tells routes apart: it is not read.
fn hash((method, route): Pair) -> usize {
    /// Spreads what differs in a few low bits only (Knuth, the golden ratio's fraction).
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let place = route.map_or(0, |route| route.as_ptr().addr() ^ route.len());
    ((place as u64 ^ (method as u64) << 56).wrapping_mul(SPREAD) >> 40) as usize
}

fn is_same(one: Pair, other: Pair) -> bool {
    let is_same_route = match (one.1, other.1) {
        (Some(one), Some(other)) => ptr::eq(one, other),
        (None, None) => true,
        _ => false,
    };
    one.0 == other.0 && is_same_route
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern;

    fn sums(routes: &Routes) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut sums = BTreeMap::new();
        routes.add_to(&mut sums);
        sums.into_iter().map(|(labels, sum)| (labels, sum.count())).collect()
    }

    #[test]
    fn each_pair_has_its_own_histogram() {
        let routes = Routes::default();
        let [users, user] = ["/users", "/users/{id}"].map(pattern::intern);
        for (method, route) in
            [(0, Some(users)), (0, Some(user)), (0, Some(user)), (2, Some(user)), (0, None)]
        {
            routes.record(method, route, Duration::from_micros(3));
        }
        let expected = [
            (("/users", "GET"), 1),
            (("/users/{id}", "GET"), 2),
            (("/users/{id}", "POST"), 1),
            (("none", "GET"), 1),
        ];
        assert_eq!(sums(&routes), expected.into());
    }

    #[test]
    fn beyond_the_bound_routes_are_counted_together_and_none_is_lost() {
        let routes = Routes::default();
        let names: Vec<&str> =
            (0..PAIRS_MAX + 20).map(|number| pattern::intern(&format!("/r{number}"))).collect();
        for _ in 0..2 {
            names.iter().for_each(|name| routes.record(1, Some(name), Duration::ZERO));
        }
        let sums = sums(&routes);
        assert_eq!(sums.len(), PAIRS_MAX + 1);
        assert_eq!(sums[&("others", "HEAD")], 2 * 20);
        assert!(names[..PAIRS_MAX].iter().all(|name| sums[&(*name, "HEAD")] == 2));
    }
}
