//! eventfd(2): a descriptor that another OS thread makes readable.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

#[derive(Debug)]
pub(crate) struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        // SAFETY: no pointers are passed.
        let fd = super::check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        Ok(EventFd { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Adds one to the counter: whoever waits for it (edge-triggered) is woken. Async-signal-safe.
    pub(crate) fn signal(&self) {
        let one = 1u64;
        // SAFETY: `one` is live and eight bytes long. The result is of no interest: the only failure is a counter
        // at its maximum (2^64 - 2 signals that nobody read), at which the descriptor is readable anyway.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Takes the counter back to zero.
    pub(crate) fn drain(&self) -> io::Result<()> {
        let mut count = 0u64;
        // SAFETY: `count` is live and eight bytes long.
        super::check_len(unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), 8) })?;
        Ok(())
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
