//! Clocks (clock_gettime(2)), all answered by the vDSO without entering the kernel.

/// Nanoseconds of `CLOCK_MONOTONIC`; about 20 ns a call.
#[inline]
pub(crate) fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC).1
}

/// `CLOCK_MONOTONIC` as of the last kernel tick (1 to 4 ms ago at the most); a few ns a call.
#[inline]
pub(crate) fn monotonic_coarse_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE).1
}

/// Whole seconds since the Unix epoch as of the last kernel tick; a few ns a call.
#[inline]
pub(crate) fn realtime_coarse_seconds() -> u64 {
    read(libc::CLOCK_REALTIME_COARSE).0
}

#[inline]
fn read(clock: libc::clockid_t) -> (u64, u64) {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is live and writable. The call cannot fail for the clocks named in this file, which every
    // Linux that the crate supports has.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let seconds = now.tv_sec as u64;
    (seconds, seconds.wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64))
}
