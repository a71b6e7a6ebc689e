//! What the server asks of a connection's byte stream: a TCP stream, or its twin in memory for the tests.
//!
//! Blocking calls that park the green thread; no policy. `expire` is the only call that comes from outside of the
//! connection's own thread (from the sweeper of its capability).
#![forbid(unsafe_code)]

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::BorrowedFd;

use bast::net::TcpStream;

/// A byte stream in both directions. See [`TcpStream`] for what each call means.
pub(crate) trait Transport {
    /// Waits until a read would not block.
    fn wait_readable(&self) -> io::Result<()>;
    /// Reads what is there; `None` where nothing is.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>>;
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Writes bytes that more will follow, so that the kernel may wait with a short segment.
    fn send_more(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Writes from a file, at `offset`, which moves on.
    fn send_file(&self, file: BorrowedFd<'_>, offset: &mut u64, len: usize) -> io::Result<usize>;
    /// Ends the stream to the peer.
    fn shutdown_write(&self) -> io::Result<()>;
    /// From now on a call that would have to wait fails with `TimedOut`; who waits now is woken.
    fn expire(&self);
    /// Takes that back.
    fn unexpire(&self);
}

// Written as paths: `self.read(…)` would find this trait's own method and call itself for ever.
/// A connection's stream is used by its own thread alone; the sweeper only expires it.
impl Transport for TcpStream {
    fn wait_readable(&self) -> io::Result<()> {
        TcpStream::wait_readable(self)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        TcpStream::try_read(self, buffer)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.unshared().read(buffer)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.unshared().write(bytes)
    }

    fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.unshared().write_vectored(parts)
    }

    fn send_more(&self, bytes: &[u8]) -> io::Result<usize> {
        self.unshared().send_more(bytes)
    }

    fn send_file(&self, file: BorrowedFd<'_>, offset: &mut u64, len: usize) -> io::Result<usize> {
        self.unshared().send_file(file, offset, len)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn expire(&self) {
        TcpStream::expire(self);
    }

    fn unexpire(&self) {
        TcpStream::unexpire(self);
    }
}

#[cfg(test)]
pub(crate) mod twin;
