#![forbid(unsafe_code)]
//! The two halves of a stream: one descriptor, one fd object, two owners.

use super::tcp::{Inner, TcpStream};
use crate::sys::socket;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;

/// The half of a stream that reads. The descriptor is closed when both halves are gone.
pub struct ReadHalf {
    inner: Arc<Inner>,
}

/// The half of a stream that writes. Dropping it shuts the writing direction down: the peer reads the end.
pub struct WriteHalf {
    inner: Arc<Inner>,
}

pub(super) fn split(stream: TcpStream) -> (ReadHalf, WriteHalf) {
    let inner = Arc::clone(stream.inner());
    (ReadHalf { inner: Arc::clone(&inner) }, WriteHalf { inner })
}

impl Read for ReadHalf {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.recv(buffer, false)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.inner.recv_vectored(buffers, false)
    }
}

impl Write for WriteHalf {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.inner.send(buffer, false)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.send_vectored(buffers, false)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // A peer that is gone already is no news.
        let _ = socket::shutdown(self.inner.source().as_fd(), Shutdown::Write);
    }
}

impl fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadHalf").field("source", self.inner.source()).finish()
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHalf").field("source", self.inner.source()).finish()
    }
}
