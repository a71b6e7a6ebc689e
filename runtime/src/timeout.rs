#![forbid(unsafe_code)]
//! Time limits around any blocking code.
//!
//! ```
//! use std::time::Duration;
//! bast::run(|| {
//!     let (_tx, rx) = bast::sync::channel::<u32>(1);
//!     let received = bast::timeout(Duration::from_millis(5), || rx.recv());
//!     assert!(received.is_err(), "nobody sent anything");
//!     assert_eq!(bast::timeout(Duration::from_secs(5), || 7), Ok(7));
//! });
//! ```
//!
//! No thread, no timer and no allocation per call (but the first of a thread): a limit is a note of the thread that its
//! parks look at.

use crate::scheduler::exception::{self, Unwound};
use crate::scheduler::{current, park};
use crate::sys::clock;
use crate::time::deadline_after;
use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

/// The time limit of a [`timeout`] passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit passed")
    }
}

impl Error for Elapsed {}

/// Runs `body` for `duration` at most.
///
/// When the time has passed, the body is unwound at its next interruptible operation or yield point: its destructors
/// run, and the result is [`Elapsed`]. A body that returns first, however late, gives its value. A body that catches the
/// unwind meets it again at its next such place; once the body is left, the limit never hits later code.
///
/// A body that only computes reaches such a place by [`yield_point`](crate::yield_point); at an allocation a thread may
/// be [switched](crate::alloc), but nothing is raised. As with any unwind, a destructor that panics meanwhile ends the
/// process, and guards of std's mutexes that are dropped poison them.
///
/// Limits nest: the one that passes first unwinds to its own `timeout`, whichever that is. One that passes while the
/// body is masked waits like any exception ([`mask`](crate::mask())).
///
/// # Errors
/// [`Elapsed`] if the time passed first, and, without calling `body`, if `duration` is zero.
///
/// # Panics
/// As `body` does; on a plain OS thread.
pub fn timeout<R>(duration: Duration, body: impl FnOnce() -> R) -> Result<R, Elapsed> {
    if duration.is_zero() {
        return Err(Elapsed);
    }
    until(deadline_after(duration), body)
}

/// Runs `body` until `deadline` at most; see [`timeout`].
///
/// # Errors
/// [`Elapsed`] if the deadline passed first, and, without calling `body`, if it has passed already.
///
/// # Panics
/// As `body` does; on a plain OS thread.
pub fn timeout_at<R>(deadline: Instant, body: impl FnOnce() -> R) -> Result<R, Elapsed> {
    timeout(deadline.saturating_duration_since(Instant::now()), body)
}

/// How long the calling thread may go on until the first [`timeout`] around it passes; `None` if there is none.
pub fn time_left() -> Option<Duration> {
    let limit_ns = exception::limit()?;
    Some(Duration::from_nanos(limit_ns.saturating_sub(clock::monotonic_ns())))
}

fn until<R>(deadline_ns: u64, body: impl FnOnce() -> R) -> Result<R, Elapsed> {
    assert!(
        current::thread().is_some(),
        "bast::timeout on a plain OS thread: only green threads can be interrupted; use bast::run or Handle::spawn"
    );
    match exception::in_frame(deadline_ns, None, body) {
        Ok(value) => Ok(value),
        Err(Unwound::Over) => Err(Elapsed),
        Err(Unwound::Other(payload)) => park::resume_unwind(payload),
    }
}
