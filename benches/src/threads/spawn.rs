//! What does it cost to spawn and join a thread that does nothing, in the steady state?
//!
//! Three ways: all spawned, then all joined, with one capability and with two (where the second may take what
//! the first has spawned); and one after the other. Each runs once before it is read, so that control blocks
//! and stacks are there.
#![forbid(unsafe_code)]

use std::io;

use bast::Runtime;

use super::{Cost, Plan, Reading, Stopwatch};

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let threads = plan.threads as u64;
    let mut readings = Vec::new();
    let one = Runtime::builder().capabilities(1).build()?;
    let two = Runtime::builder().capabilities(2).build()?;
    for round in 0..=plan.rounds {
        let all = one.run(move || all_at_once(threads));
        let all_two = two.run(move || all_at_once(threads));
        let single = one.run(move || one_by_one(threads));
        if round > 0 {
            readings.extend(all.readings("spawn.all.wall", "spawn.all.cpu"));
            readings.extend(all_two.readings("spawn.all.two.wall", "spawn.all.two.cpu"));
            readings.extend(single.readings("spawn.single.wall", "spawn.single.cpu"));
        }
    }
    Ok(readings)
}

fn all_at_once(threads: u64) -> Cost {
    let watch = Stopwatch::start();
    let handles: Vec<_> = (0..threads).map(|index| bast::spawn(move || index)).collect();
    let sum = handles.into_iter().map(|handle| handle.join().expect("the thread only returns")).sum();
    let cost = watch.stop(threads);
    check(sum, threads);
    cost
}

fn one_by_one(threads: u64) -> Cost {
    let watch = Stopwatch::start();
    let mut sum = 0;
    for index in 0..threads {
        sum += bast::spawn(move || index).join().expect("the thread only returns");
    }
    let cost = watch.stop(threads);
    check(sum, threads);
    cost
}

fn check(sum: u64, threads: u64) {
    assert_eq!(sum, threads * (threads - 1) / 2, "spawn: every thread returns its index");
}
