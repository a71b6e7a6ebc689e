//! The processor's own clock, for time stamps that must cost next to nothing.

use std::fs;
use std::sync::OnceLock;

/// Where the kernel says which clock it trusts.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Whether [`now`] runs at one rate and shows the same on all processors: so it does where the kernel uses it itself.
pub(crate) fn is_steady() -> bool {
    static STEADY: OnceLock<bool> = OnceLock::new();
    *STEADY.get_or_init(|| {
        cfg!(target_arch = "x86_64")
            && fs::read_to_string(CLOCK_SOURCE).is_ok_and(|name| name.trim() == "tsc")
    })
}

/// Cycles since some time before the process began. Not a serialising read: it may be some instructions early.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn now() -> u64 {
    // SAFETY: the instruction exists on every processor of this architecture, and reads a counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Not to be called: nothing is steady here.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn now() -> u64 {
    unreachable!("cycles: read without asking whether they are steady")
}
