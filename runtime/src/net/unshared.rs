#![forbid(unsafe_code)]
//! A stream seen by the one thread that reads it and the one that writes it.

use super::TcpStream;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
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
        self.stream.inner().send_more(bytes, true)
    }

    /// As [`TcpStream::send_file`].
    ///
    /// # Errors
    /// As there.
    pub fn send_file(self, file: BorrowedFd<'_>, offset: &mut u64, len: usize) -> io::Result<usize> {
        self.stream.inner().send_file(file, offset, len, true)
    }
}

impl Read for Unshared<'_> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.inner().recv(buffer, true)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.stream.inner().recv_vectored(buffers, true)
    }
}

impl Write for Unshared<'_> {
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.inner().send(buffer, true)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.inner().send_vectored(buffers, true)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
