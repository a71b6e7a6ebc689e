#![forbid(unsafe_code)]
//! An open descriptor together with its fd object.

use super::object::{self, FdObject};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The object is released, then the descriptor closed, when the source is dropped. Whoever waits borrows the source,
/// so that the descriptor lives until its last operation has left.
#[derive(Debug)]
pub(crate) struct Source {
    object: &'static FdObject,
    fd: OwnedFd,
}

impl Source {
    /// `fd` must be non-blocking.
    pub(crate) fn new(fd: OwnedFd) -> Source {
        Source { object: object::occupy(), fd }
    }

    #[inline]
    pub(crate) fn object(&self) -> &'static FdObject {
        self.object
    }

    pub(crate) fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// A second descriptor for the same open file (dup(2)).
    pub(crate) fn duplicate_fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.object.release();
    }
}

impl AsFd for Source {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
