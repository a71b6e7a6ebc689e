//! What does a mutex cost: free, and when another thread has it each time, so that one has to wait?
//!
//! On one capability. `free` is a lock and an unlock. `waited` is a lock, a yield inside it, which lets another thread
//! come and wait for it, and an unlock: a park, a wake and two switches.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::io;
use std::sync::Arc;

use bast::Runtime;
use bast::sync::Mutex;

use super::{Cost, Plan, Reading, Stopwatch};

/// Locks in a round.
const FREE: u64 = 10_000_000;
const WAITED: u64 = 1_000_000;

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let runtime = Runtime::builder().capabilities(1).build()?;
    let (free, waited) = (plan.count(FREE), plan.count(WAITED));
    let mut readings = Vec::new();
    for _ in 0..plan.rounds {
        readings.extend(runtime.run(move || lock_free(free)).readings("free.wall", "free.cpu"));
        readings.extend(runtime.run(move || lock_waited(waited)).readings("waited.wall", "waited.cpu"));
    }
    Ok(readings)
}

fn lock_free(locks: u64) -> Cost {
    let mutex = Mutex::new(0u64);
    let watch = Stopwatch::start();
    for _ in 0..locks {
        *black_box(&mutex).lock() += 1;
    }
    let cost = watch.stop(locks);
    assert_eq!(mutex.into_inner(), locks, "mutex: every lock is counted");
    cost
}

fn lock_waited(locks: u64) -> Cost {
    let mutex = Arc::new(Mutex::new(0u64));
    let watch = Stopwatch::start();
    let threads = [(); 2].map(|()| {
        let mutex = Arc::clone(&mutex);
        bast::spawn(move || {
            for _ in 0..locks / 2 {
                let mut count = mutex.lock();
                bast::yield_now();
                *count += 1;
            }
        })
    });
    for thread in threads {
        thread.join().expect("the thread only locks");
    }
    let cost = watch.stop(locks / 2 * 2);
    assert_eq!(*mutex.lock(), locks / 2 * 2, "mutex: every lock is counted");
    cost
}
