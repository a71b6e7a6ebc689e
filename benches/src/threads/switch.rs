//! What does `yield_now` cost on one capability: between 2 threads, which stay in the nearest cache, and among
//! many, whose stacks and control blocks do not?
//!
//! The main thread is one of them. All are in one queue, so each of its yields lets every other thread yield
//! once: a lap. The figure includes the capability's regular looks at io, as a user's yield does.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use bast::Runtime;

use super::{Cost, Plan, Reading, Stopwatch};

/// Yields in a round.
const YIELDS: u64 = 4_000_000;
/// Laps in a round at least.
const LAPS_MIN: u64 = 4;

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let mut readings = Vec::new();
    let mut read = |threads: u64, wall, cpu| -> io::Result<()> {
        let laps = (plan.count(YIELDS) / threads).max(LAPS_MIN);
        let runtime = Runtime::builder().capabilities(1).build()?;
        let rounds = plan.rounds;
        for cost in runtime.run(move || rounds_of_laps(threads, laps, rounds)) {
            readings.extend(cost.readings(wall, cpu));
        }
        Ok(())
    };
    read(2, "switch.2.wall", "switch.2.cpu")?;
    if plan.threads > 2 {
        read(plan.threads as u64, "switch.many.wall", "switch.many.cpu")?;
    }
    Ok(readings)
}

/// What a yield costs, among so many threads, in rounds of so many laps.
pub(super) fn rounds_of_laps(threads: u64, laps: u64, rounds: usize) -> Vec<Cost> {
    let (begin, stop) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let (begin, stop) = (Rc::clone(&begin), Rc::clone(&stop));
            bast::spawn_local(move || {
                // Making a million takes more than a time slice: the first run while the last are made.
                while !begin.get() {
                    bast::yield_now();
                }
                let mut yields = 0;
                while !stop.get() {
                    bast::yield_now();
                    yields += 1;
                }
                yields
            })
        })
        .collect();
    begin.set(true);
    bast::yield_now(); // Lets them all begin; each stands in its first yield then.
    let costs: Vec<Cost> = (0..rounds)
        .map(|_| {
            let watch = Stopwatch::start();
            for _ in 0..laps {
                bast::yield_now();
            }
            watch.stop(laps * threads)
        })
        .collect();
    stop.set(true);
    let expected = laps * rounds as u64 + 1;
    for other in others {
        let yields: u64 = other.join().expect("the thread only yields");
        assert_eq!(yields, expected, "switch: every thread takes part in every lap");
    }
    costs
}
