//! What does a dump of many parked threads cost, and how long does it keep the others of their core waiting?
//!
//! All threads sleep on one capability, where a ticker that sleeps for 1 ms at a time measures the longest time between
//! two of its ticks: while a dump is taken, and as long again without one. The difference is the dump's doing. CPU
//! time is per thread in the dump.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bast::Runtime;

use super::{Plan, Reading, Stopwatch};

const TICK: Duration = Duration::from_millis(1);
/// Longer than the bench takes.
const LONG: Duration = Duration::from_secs(86_400);

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let runtime = Runtime::builder().capabilities(1).build()?;
    let Plan { threads, rounds, .. } = *plan;
    runtime.run(move || {
        let sleepers: Vec<_> = (0..threads).map(|_| bast::spawn_local(|| bast::sleep(LONG))).collect();
        bast::yield_now(); // Starts them all.
        let mut readings = Vec::new();
        for _ in 0..rounds {
            readings.extend(round(threads)?);
        }
        sleepers.iter().for_each(|sleeper| sleeper.thread().kill());
        Ok(readings)
    })
}

fn round(threads: usize) -> io::Result<[Reading; 4]> {
    let watch = Stopwatch::start();
    let started = Instant::now();
    let (dump, pause) = beside_a_ticker(bast::dump);
    let took = started.elapsed();
    let cost = watch.stop(threads as u64);
    // The main thread and the ticker besides.
    assert_eq!(dump?.threads().count(), threads + 2, "dump: every thread is in it");
    let ((), without) = beside_a_ticker(|| bast::sleep(took));
    let ms = |name, time: Duration| Reading { name, value: time.as_secs_f64() * 1e3, unit: "ms" };
    Ok([
        ms("dump.wall", took),
        Reading { name: "dump.cpu", value: cost.cpu_ns, unit: "ns" },
        ms("dump.pause_max", pause),
        ms("dump.pause_max_without", without),
    ])
}

/// What `body` returns, and the longest time between two ticks meanwhile.
fn beside_a_ticker<T>(body: impl FnOnce() -> T) -> (T, Duration) {
    let over = Rc::new(Cell::new(false));
    let ticker = bast::spawn_local({
        let over = Rc::clone(&over);
        move || {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            while !over.get() {
                bast::sleep(TICK);
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            longest
        }
    });
    let result = body();
    over.set(true);
    (result, ticker.join().expect("the ticker only sleeps"))
}
