//! A connection's byte stream: a TCP stream, or its twin in memory for the tests.
//!
//! Blocking calls that park the green thread; no policy. `expire` is the only call that comes from outside of the
//! connection's own thread (from the sweeper of its capability).
//!
//! One type for the few kinds of stream that there are: with a single kind in a program the match is no code at all, and the calls
//! of the byte path are direct ones.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::BorrowedFd;

use bast::Select;
use bast::net::TcpStream;

/// A byte stream in both directions. See [`TcpStream`] for what each call means.
pub(crate) enum Transport {
    /// A connection's stream is used by its own thread alone, hence unshared; the sweeper only expires it.
    Tcp(TcpStream),
    #[cfg(test)]
    Twin(std::rc::Rc<twin::Twin>),
}

impl Transport {
    /// Waits until a read would not block.
    #[inline]
    pub(crate) fn wait_readable(&self) -> io::Result<()> {
        match self {
            Transport::Tcp(stream) => stream.wait_readable(),
            #[cfg(test)]
            Transport::Twin(twin) => twin.wait_readable(),
        }
    }

    /// Reads what is there; `None` where nothing is.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Transport::Tcp(stream) => stream.try_read(buffer),
            #[cfg(test)]
            Transport::Twin(twin) => twin.try_read(buffer),
        }
    }

    /// Waits for bytes and reads them.
    #[inline]
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.unshared().read(buffer),
            #[cfg(test)]
            Transport::Twin(twin) => twin.read(buffer),
        }
    }

    /// Writes some of the bytes.
    #[inline]
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.unshared().write(bytes),
            #[cfg(test)]
            Transport::Twin(twin) => Ok(twin.write(bytes)),
        }
    }

    /// Writes some of the bytes of these parts.
    pub(crate) fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.unshared().write_vectored(parts),
            #[cfg(test)]
            Transport::Twin(twin) => {
                Ok(twin.write(&parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<_>>()))
            }
        }
    }

    /// Writes bytes that more will follow, so that the kernel may wait with a short segment.
    pub(crate) fn send_more(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.unshared().send_more(bytes),
            #[cfg(test)]
            Transport::Twin(twin) => Ok(twin.send_more(bytes)),
        }
    }

    /// Writes from a file, at `offset`, which moves on.
    pub(crate) fn send_file(&self, file: BorrowedFd<'_>, offset: &mut u64, len: usize) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.unshared().send_file(file, offset, len),
            #[cfg(test)]
            Transport::Twin(twin) => twin.send_file(file, offset, len),
        }
    }

    /// Has the peer ended its side, or the connection failed?
    pub(crate) fn is_hung_up(&self) -> bool {
        match self {
            Transport::Tcp(stream) => stream.is_hung_up().unwrap_or(true),
            #[cfg(test)]
            Transport::Twin(twin) => twin.is_hung_up(),
        }
    }

    /// Waits for `select` until the peer has hung up or the transport is expired: `None` then.
    pub(crate) fn wait_while_connected<'a, R>(&'a self, select: Select<'a, R>) -> Option<R> {
        match self {
            Transport::Tcp(stream) => select.wait_while_connected(stream),
            #[cfg(test)]
            Transport::Twin(twin) if twin.is_hung_up() => None,
            #[cfg(test)]
            Transport::Twin(_) => Some(select.wait()),
        }
    }

    /// Ends the stream to the peer, or in both directions.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Transport::Tcp(stream) => stream.shutdown(how),
            #[cfg(test)]
            Transport::Twin(twin) => {
                twin.shutdown(how);
                Ok(())
            }
        }
    }

    /// From now on a call that would have to wait fails with `TimedOut`; who waits now is woken.
    pub(crate) fn expire(&self) {
        match self {
            Transport::Tcp(stream) => stream.expire(),
            #[cfg(test)]
            Transport::Twin(twin) => twin.expire(),
        }
    }

    /// Takes that back.
    pub(crate) fn unexpire(&self) {
        match self {
            Transport::Tcp(stream) => stream.unexpire(),
            #[cfg(test)]
            Transport::Twin(twin) => twin.unexpire(),
        }
    }
}

#[cfg(test)]
pub(crate) mod twin;
