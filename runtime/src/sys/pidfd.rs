//! pidfd_open(2): a process as a descriptor, which becomes readable when the process has ended.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// # Errors
/// `ESRCH` if there is no such process, nor a zombie of one; `EMFILE`, `ENFILE`; `ENOSYS` before Linux 5.3.
pub(crate) fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed. All arguments are full registers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0 as libc::c_long) };
    let fd = super::check(fd as libc::c_int)?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the error says that the kernel has no pidfds, or that a filter of system calls refuses them.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}
