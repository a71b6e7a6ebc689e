#![forbid(unsafe_code)]
//! Time: sleeping, and clocks that cost next to nothing. Limits of time are [`timeout`](crate::timeout())'s.
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! bast::run(|| {
//!     let begun = Instant::now();
//!     let sleepers: Vec<_> = (0..1000).map(|_| bast::spawn(|| bast::sleep(Duration::from_millis(5)))).collect();
//!     sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
//!     assert!(begun.elapsed() >= Duration::from_millis(5)); // all at once, not one after the other
//! });
//! ```

use crate::scheduler::{current, park};
use crate::sys::clock;
use crate::thread::Woken;
use crate::thread::block::BlockedOn;
use std::time::Duration;

/// Parks the calling green thread for `duration` at least. On a plain OS thread this is `std::thread::sleep`.
///
/// A zero duration is a [`yield_now`](crate::yield_now). Interruptible by a kill.
pub fn sleep(duration: Duration) {
    if current::thread().is_none() {
        std::thread::sleep(duration);
    } else if duration.is_zero() {
        park::yield_now();
    } else {
        let deadline_ns = deadline_after(duration);
        // Nobody gets the token: only the deadline and an exception end this park. One that may not be raised now is no
        // reason to sleep less.
        while park::park(BlockedOn::Timer, Some(deadline_ns), |_| true).or_unwind() != Woken::Timer {}
    }
}

/// Whole seconds since the Unix epoch, as of this capability's last look at io or the last time slice, whichever came
/// later: at most a time slice ago. Costs a load: for `Date` headers and the like. Outside a runtime the kernel's last
/// tick is asked.
#[inline]
pub fn coarse_unix_seconds() -> u64 {
    match current::get() {
        Some(capability) => capability.unix_seconds(),
        None => clock::realtime_coarse_seconds(),
    }
}

/// Nanoseconds on the monotonic clock as of the last kernel tick (at most a few milliseconds ago), from an arbitrary
/// start. Costs a few nanoseconds: for caches' time to live and the like.
pub fn coarse_monotonic() -> Duration {
    Duration::from_nanos(clock::monotonic_coarse_ns())
}

/// The monotonic clock's reading `duration` from now; the far end of time if that is beyond it.
pub(crate) fn deadline_after(duration: Duration) -> u64 {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    clock::monotonic_ns().saturating_add(ns)
}
