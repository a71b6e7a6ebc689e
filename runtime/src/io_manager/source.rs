#![forbid(unsafe_code)]
//! An open descriptor together with its fd object.

use super::object::{self, FdObject};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The object is released, then the descriptor closed, when the source is dropped: the fields go in their order.
/// Whoever waits borrows the source, so that the descriptor lives until its last operation has left.
#[derive(Debug)]
pub(crate) struct Source {
    lease: Lease,
    fd: OwnedFd,
}

/// An fd object for as long as it serves one descriptor, which must stay open meanwhile.
#[derive(Debug)]
struct Lease(&'static FdObject);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Source {
    /// `fd` must be non-blocking.
    pub(crate) fn new(fd: OwnedFd) -> Source {
        Source { lease: Lease(object::occupy()), fd }
    }

    #[inline]
    pub(crate) fn object(&self) -> &'static FdObject {
        self.lease.0
    }

    pub(crate) fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// A second descriptor for the same open file (dup(2)).
    pub(crate) fn duplicate_fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// The descriptor itself, which the runtime knows no more. Epoll may still report its events, which find an older
    /// generation and are dropped.
    pub(crate) fn into_fd(self) -> OwnedFd {
        let Source { lease, fd } = self;
        drop(lease);
        fd
    }
}

impl AsFd for Source {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
