//! futex(2) on the low half of a 64-bit word: how a plain OS thread waits for a wake.

use std::ptr;
use std::sync::atomic::AtomicU64;

/// Sleeps while the low 32 bits of `word` equal those of `expected`, for `limit_ns` at the most. May return early.
pub(crate) fn wait(word: &AtomicU64, expected: u64, limit_ns: Option<u64>) {
    let limit = limit_ns.map(|ns| libc::timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word is live for the call (borrowed) and four-byte aligned; `limit` is null or live. Every
    // outcome (woken, value differs, interrupted, timed out) means the same to the caller: look again.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            low_half(word),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected as u32,
            limit,
        );
    }
}

/// Wakes the OS thread that sleeps on `word`.
pub(crate) fn wake(word: &'static AtomicU64) {
    // SAFETY: the address is valid for ever ('static); FUTEX_WAKE reads no memory.
    unsafe {
        libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
    }
}

fn low_half(word: &AtomicU64) -> *const u32 {
    let halves = word.as_ptr().cast::<u32>().cast_const();
    if cfg!(target_endian = "little") { halves } else { halves.wrapping_add(1) }
}
