//! What does a lock cost, when nobody else wants it, and when another thread of the same core always does?
//!
//! `alone`: one thread locks and unlocks. `turns`: two threads of one capability, each of which gives the core away while
//! it has the lock, so that every lock of the other has to wait: the cost includes the switches.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use bast::Runtime;
use bast::sync::{MVar, Mutex, RwLock, Semaphore};

use super::{Plan, Reading, Stopwatch};

/// A lock, and how it is taken and given back around `body`.
struct Lock {
    alone: &'static str,
    turns: &'static str,
    new: fn() -> Arc<dyn Held>,
}

/// Something that is held while `body` runs.
trait Held: Send + Sync {
    fn hold(&self, body: &mut dyn FnMut());
}

impl Held for Mutex<u64> {
    fn hold(&self, body: &mut dyn FnMut()) {
        let mut count = self.lock();
        body();
        *count += 1;
    }
}

impl Held for RwLock<u64> {
    fn hold(&self, body: &mut dyn FnMut()) {
        let mut count = self.write();
        body();
        *count += 1;
    }
}

/// The same lock, by a reader: two of them do not wait for each other.
struct Shared(RwLock<u64>);

impl Held for Shared {
    fn hold(&self, body: &mut dyn FnMut()) {
        let _shared = self.0.read();
        body();
    }
}

impl Held for Semaphore {
    fn hold(&self, body: &mut dyn FnMut()) {
        let _permit = self.acquire();
        body();
    }
}

impl Held for MVar<u64> {
    fn hold(&self, body: &mut dyn FnMut()) {
        let count = self.take();
        body();
        self.put(count + 1);
    }
}

const LOCKS: [Lock; 5] = [
    Lock { alone: "lock.mutex.alone", turns: "lock.mutex.turns", new: || Arc::new(Mutex::new(0)) },
    Lock { alone: "lock.write.alone", turns: "lock.write.turns", new: || Arc::new(RwLock::new(0)) },
    Lock { alone: "lock.read.alone", turns: "lock.read.turns", new: || Arc::new(Shared(RwLock::new(0))) },
    Lock {
        alone: "lock.semaphore.alone",
        turns: "lock.semaphore.turns",
        new: || Arc::new(Semaphore::new(1)),
    },
    Lock { alone: "lock.mvar.alone", turns: "lock.mvar.turns", new: || Arc::new(MVar::new(0)) },
];

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let runtime = Runtime::builder().capabilities(1).build()?;
    let (alone, turns) = (plan.count(5_000_000), plan.count(1_000_000));
    let mut readings = Vec::new();
    for _ in 0..plan.rounds {
        for lock in &LOCKS {
            let new = lock.new;
            let cost = runtime.run(move || {
                let lock = new();
                let watch = Stopwatch::start();
                (0..alone).for_each(|_| lock.hold(&mut || ()));
                watch.stop(alone)
            });
            readings.push(Reading { name: lock.alone, value: cost.cpu_ns, unit: "ns" });
            let cost = runtime.run(move || {
                let lock = new();
                let take_turns = move || (0..turns / 2).for_each(|_| lock.hold(&mut bast::yield_now));
                let watch = Stopwatch::start();
                let other = bast::spawn(take_turns.clone());
                take_turns();
                other.join().expect("the other takes its turns");
                watch.stop(turns)
            });
            readings.push(Reading { name: lock.turns, value: cost.cpu_ns, unit: "ns" });
        }
    }
    Ok(readings)
}
