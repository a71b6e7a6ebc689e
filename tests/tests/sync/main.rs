//! Locks, variables and channels: order, fairness, kills, and OS threads at either end.
//!
//! Numbers in brackets are the rows of GHC's concurrency tests that a test has its behaviour from.

mod all;
mod barrier;
mod broadcast;
mod channel;
mod condvar;
mod kills;
mod mutex;
mod mvar;
mod once;
mod oneshot;
mod os_threads;
mod rwlock;
mod semaphore;

use bast::{BlockedOn, JoinHandle};
use std::time::{Duration, Instant};

const CAPABILITIES: [usize; 3] = [1, 2, 8];
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

/// Waits until `count` threads of this runtime are blocked on `what`.
fn until_blocked(count: usize, what: BlockedOn) {
    bast_tests::until_blocked(count, |reason| reason == what);
}

fn kill<T: std::fmt::Debug>(thread: JoinHandle<T>) {
    thread.thread().kill();
    assert!(thread.join().unwrap_err().is_killed());
}

/// A spin, for tests in which a thread must be on its core for a while.
fn busy(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// Pseudo-random numbers (xorshift), the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
