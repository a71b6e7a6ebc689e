//! How late are many sleepers woken, and what does a sleep cost?
//!
//! All start on one capability, wait until the others have, and sleep for 100 to 1100 ms, spread evenly by a
//! fixed seed, so that the timers expire one by one. `timers.cpu` is what the process takes from the first
//! sleep to the last join; `timers.cpu_in_all` counts from the first spawn. A sleeper reads the clock twice.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bast::Runtime;
use hdrhistogram::Histogram;

use super::{Cost, Plan, Reading, Stopwatch};

/// How long the threads sleep, in µs.
const SLEEP_US: Range<u64> = 100_000..1_100_000;
/// The same in a smoke test.
const SMOKE_US: Range<u64> = 10_000..110_000;
/// Any number: that it is always the same one matters.
const SEED: u64 = 503;
/// 0.1 % is enough for a lateness.
const DIGITS: u8 = 3;

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let runtime = Runtime::builder().capabilities(1).build()?;
    let threads = plan.threads as u64;
    let range = if plan.smoke { SMOKE_US } else { SLEEP_US };
    let mut readings = Vec::new();
    for _ in 0..plan.rounds {
        let range = range.clone();
        let Round { lateness_ns, sleeping, in_all } = runtime.run(move || sleep_all(threads, range));
        let us = |name, ns: u64| Reading { name, value: ns as f64 / 1e3, unit: "us" };
        readings.extend([
            us("timers.late_p50", lateness_ns.value_at_quantile(0.5)),
            us("timers.late_p99", lateness_ns.value_at_quantile(0.99)),
            us("timers.late_max", lateness_ns.max()),
            Reading { name: "timers.cpu", value: sleeping.cpu_ns, unit: "ns" },
            Reading { name: "timers.cpu_in_all", value: in_all.cpu_ns, unit: "ns" },
        ]);
    }
    Ok(readings)
}

struct Round {
    lateness_ns: Histogram<u64>,
    /// From the first sleep on.
    sleeping: Cost,
    /// From the first spawn on.
    in_all: Cost,
}

fn sleep_all(threads: u64, range: Range<u64>) -> Round {
    let lateness_ns = Histogram::new(DIGITS).expect("the number of digits is in range");
    let lateness_ns = Rc::new(RefCell::new(lateness_ns));
    let mut random = SplitMix64(SEED);
    let may_sleep = Rc::new(Cell::new(false));
    let spawning = Stopwatch::start();
    let handles: Vec<_> = (0..threads)
        .map(|_| {
            let duration = Duration::from_micros(range.start + random.next() % (range.end - range.start));
            let (lateness_ns, may_sleep) = (Rc::clone(&lateness_ns), Rc::clone(&may_sleep));
            bast::spawn_local(move || {
                while !may_sleep.get() {
                    bast::yield_now();
                }
                let before = Instant::now();
                bast::sleep(duration);
                let slept = before.elapsed();
                assert!(slept >= duration, "timers: woken after {slept:?}, early for {duration:?}");
                let late_ns = (slept - duration).as_nanos() as u64;
                lateness_ns.borrow_mut().record(late_ns).expect("the histogram grows as it must");
            })
        })
        .collect();
    bast::yield_now(); // Starts them all; each stands in its first yield then.
    may_sleep.set(true);
    let sleeping = Stopwatch::start();
    for handle in handles {
        handle.join().expect("a sleeper wakes in time");
    }
    let (sleeping, in_all) = (sleeping.stop(threads), spawning.stop(threads));
    let lateness_ns = Rc::into_inner(lateness_ns).expect("all sleepers have ended").into_inner();
    assert_eq!(lateness_ns.len(), threads, "timers: every sleeper wakes once");
    Round { lateness_ns, sleeping, in_all }
}

/// Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = SplitMix64(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }
}
