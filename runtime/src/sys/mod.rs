//! The seam to the kernel: every libc call of the workspace's libraries is made below this module.
//!
//! What lives here is typed (`OwnedFd`, `Duration`, `io::Result`) and holds no policy: nothing in here retries,
//! parks, schedules or caches. A deterministic simulator would replace this one folder.

pub(crate) mod affinity;
#[cfg(test)]
pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod cycles;
pub(crate) mod epoll;
pub(crate) mod eventfd;
pub(crate) mod fault;
pub(crate) mod file;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod inherited;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod modules;
pub(crate) mod pidfd;
pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod sample;
pub(crate) mod signal;
pub(crate) mod socket;

use std::io;

/// Turns the `-1` convention of system calls into an `io::Result`.
#[inline]
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a byte count.
#[inline]
fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
