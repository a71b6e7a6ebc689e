//! How fast a body comes, while somebody waits for all of it, or goes, while the server makes it wait.
//!
//! The bytes of a stretch are compared with what its time asks for. A stretch is as long as the limit for one read, so that
//! a server which breaks it is noticed between once and twice that limit.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// The present stretch.
#[derive(Debug)]
pub(super) struct Pace {
    begin: Instant,
    bytes: u64,
}

impl Pace {
    /// The first stretch begins.
    pub(super) fn begin() -> Pace {
        Pace { begin: Instant::now(), bytes: 0 }
    }

    /// So many bytes have come, or gone.
    pub(super) fn took(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Is the stretch over, and was it too slow? If it was not, the next one begins.
    #[must_use]
    pub(super) fn is_too_slow(&mut self, stretch: Duration, bytes_per_second_min: u32) -> bool {
        let elapsed = self.begin.elapsed();
        if elapsed < stretch {
            return false;
        }
        if is_below(self.bytes, elapsed, bytes_per_second_min) {
            return true;
        }
        *self = Pace::begin();
        false
    }
}

fn is_below(bytes: u64, time: Duration, bytes_per_second_min: u32) -> bool {
    const NANOS: u128 = 1_000_000_000;
    u128::from(bytes) * NANOS < u128::from(bytes_per_second_min) * time.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_or_not() {
        let second = Duration::from_secs(1);
        for (bytes, time, min, below) in [
            (240, second, 240, false),
            (239, second, 240, true),
            (1, 29 * second, 240, true),
            (0, second, 0, false),
            (120, second / 2, 240, false),
            (119, second / 2, 240, true),
            (u64::MAX, second, u32::MAX, false),
            (u64::MAX, Duration::MAX, u32::MAX, true),
            (0, Duration::MAX, u32::MAX, true),
        ] {
            assert_eq!(is_below(bytes, time, min), below, "{bytes} {time:?} {min}");
        }
    }
}
