#![forbid(unsafe_code)]
//! A stream seen by the one thread that reads it and the one that writes it.

use super::TcpStream;
use super::endpoint::{endpoint_read, endpoint_write};
use std::io;
use std::os::fd::BorrowedFd;

/// A view of a [`TcpStream`] that takes no direction lock, made by [`TcpStream::unshared`].
///
/// For who knows that no other thread uses the same direction of the stream at the same time: a server's connection
/// thread, say. That saves two locked instructions a call (some 15 ns). If two threads do wait for one direction, the
/// second panics.
#[derive(Clone, Copy, Debug)]
pub struct Unshared<'a> {
    stream: &'a TcpStream,
}

impl<'a> Unshared<'a> {
    pub(super) fn new(stream: &'a TcpStream) -> Unshared<'a> {
        Unshared { stream }
    }

    /// As [`TcpStream::send_more`].
    ///
    /// # Errors
    /// As a write.
    pub fn send_more(self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.endpoint().send_more(bytes, true)
    }

    /// As [`TcpStream::send_file`].
    ///
    /// # Errors
    /// As there.
    pub fn send_file(self, file: BorrowedFd<'_>, offset: &mut u64, len: usize) -> io::Result<usize> {
        self.stream.endpoint().send_file(file, offset, len, true)
    }
}

endpoint_read!(Unshared<'_>, |this| this.stream.endpoint(), true);
endpoint_write!(Unshared<'_>, |this| this.stream.endpoint(), true);
