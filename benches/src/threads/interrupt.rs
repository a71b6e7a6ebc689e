//! What do kills, limits and masks cost: a blocked thread that is killed until it is gone, a thrown exception until it is
//! received, and a `timeout` and a `mask` around something that does not block?
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::io;
use std::time::Duration;

use bast::{Builder, JoinHandle, Runtime};

use super::{Cost, Plan, Reading, Stopwatch};

/// Victims in a round.
const VICTIMS: u64 = 100_000;
/// Victims that live at the same time.
const BATCH: u64 = 100;
/// Limits and masks in a round.
const CALLS: u64 = 1_000_000;
/// More than the bench takes.
const LONG: Duration = Duration::from_secs(3600);

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let mut readings = Vec::new();
    let (rounds, victims, calls) = (plan.rounds, plan.count(VICTIMS), plan.count(CALLS));
    let mut read = |capabilities, wall, cpu, round: fn(u64) -> Cost, count| -> io::Result<()> {
        let runtime = Runtime::builder().capabilities(capabilities).build()?;
        let costs = runtime.run(move || (0..rounds).map(|_| round(count)).collect::<Vec<Cost>>());
        readings.extend(costs.into_iter().flat_map(|cost| cost.readings(wall, cpu)));
        Ok(())
    };
    read(1, "kill.same.wall", "kill.same.cpu", kills, victims)?;
    read(2, "kill.other.wall", "kill.other.cpu", kills, victims / 10)?;
    read(1, "throw.same.wall", "throw.same.cpu", throws, victims)?;
    read(1, "timeout.wall", "timeout.cpu", timeouts, calls)?;
    read(1, "timeout.yield.wall", "timeout.yield.cpu", timeouts_of_yields, calls)?;
    read(1, "mask.wall", "mask.cpu", masks, calls)?;
    Ok(readings)
}

/// Threads on the last capability, all asleep.
fn sleepers() -> Vec<JoinHandle<()>> {
    let runtime = bast::Handle::current();
    let there = runtime.capability(runtime.capabilities() - 1);
    let sleepers: Vec<_> = (0..BATCH)
        .map(|_| Builder::new().on(there).spawn(|| bast::sleep(LONG)).expect("a thread can be spawned"))
        .collect();
    // One that is spawned later on the same capability runs later.
    Builder::new().on(there).spawn(|| ()).expect("as above").join().expect("it does nothing");
    sleepers
}

/// One blocked thread after the other is killed and joined.
fn kills(count: u64) -> Cost {
    ends(count, |victim| victim.thread().kill(), bast::JoinError::is_killed)
}

/// Likewise by an exception.
fn throws(count: u64) -> Cost {
    ends(count, |victim| bast::throw_to(&victim.thread(), 1), bast::JoinError::is_panic)
}

fn ends(count: u64, end: fn(&JoinHandle<()>), expected: fn(&bast::JoinError) -> bool) -> Cost {
    let batches = (count / BATCH).max(1);
    let costs = (0..batches).map(|_| {
        let victims = sleepers();
        let watch = Stopwatch::start();
        for victim in victims {
            end(&victim);
            let error = victim.join().expect_err("it would have slept for an hour");
            assert!(expected(&error), "{error}");
        }
        watch.stop(BATCH)
    });
    Cost::mean(costs)
}

fn timeouts(count: u64) -> Cost {
    let watch = Stopwatch::start();
    for n in 0..count {
        assert_eq!(black_box(bast::timeout(LONG, || black_box(n))), Ok(n));
    }
    watch.stop(count)
}

fn timeouts_of_yields(count: u64) -> Cost {
    let watch = Stopwatch::start();
    for _ in 0..count {
        assert_eq!(bast::timeout(LONG, bast::yield_now), Ok(()));
    }
    watch.stop(count)
}

fn masks(count: u64) -> Cost {
    let watch = Stopwatch::start();
    for n in 0..count {
        assert_eq!(bast::mask(|_| black_box(n)), n);
    }
    watch.stop(count)
}
