//! A connection's byte stream: a TCP stream, or its twin in memory for tests, ours and those of programs.
//!
//! Blocking calls that park the green thread; no policy. Others of the same capability call it as well: the sweeper asks how many
//! bytes are on their way and expires it, and after an upgrade each direction may have a thread.
//!
//! One type for the few kinds of stream that there are: with a single kind in a program the match is no code at all, and the calls
//! of the byte path are direct ones.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd as _;
use std::time::Duration;

use bast::Select;
use bast::fs::File;
use bast::net::TcpStream;

/// A byte stream in both directions. See [`TcpStream`] for what each call means.
pub(crate) enum Transport {
    /// Each direction of a connection's stream is used by one thread at a time, and all are of one capability: hence unshared.
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tls::TlsStream>),
    #[cfg(any(test, feature = "testing"))]
    Twin(std::rc::Rc<twin::Twin>),
}

impl Transport {
    /// How the stream is secured; `None` where it is not.
    #[cfg(feature = "tls")]
    pub(crate) fn secured(&self) -> Option<tls::Secured> {
        match self {
            Transport::Tls(tls) => tls.secured(),
            _ => None,
        }
    }

    /// Waits until a read would not block.
    #[inline]
    pub(crate) fn wait_readable(&self) -> io::Result<()> {
        match self {
            Transport::Tcp(stream) => stream.wait_readable(),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.wait_readable(),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => twin.wait_readable(),
        }
    }

    /// Reads what is there; `None` where nothing is.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Transport::Tcp(stream) => stream.try_read(buffer),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.try_read(buffer),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => twin.try_read(buffer),
        }
    }

    /// Waits for bytes and reads them without consuming them.
    pub(crate) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.peek(buffer),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.peek(buffer),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => twin.peek(buffer),
        }
    }

    /// Waits for bytes and reads them.
    #[inline]
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.unshared().read(buffer),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.read(buffer),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => twin.read(buffer),
        }
    }

    /// Writes some of the bytes.
    #[inline]
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.unshared().write(bytes),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.write(bytes),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => Ok(twin.write(bytes)),
        }
    }

    /// Writes some of the bytes of these parts.
    pub(crate) fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.unshared().write_vectored(parts),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.write_vectored(parts),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => Ok(twin.write_vectored(parts)),
        }
    }

    /// Writes bytes that more will follow, so that the kernel may wait with a short segment.
    pub(crate) fn send_more(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.unshared().send_more(bytes),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.send_more(bytes),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => Ok(twin.send_more(bytes)),
        }
    }

    /// Writes from a file, at `offset`, which moves on.
    pub(crate) fn send_file(&self, file: &File, offset: &mut u64, len: usize) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.unshared().send_file(file.as_fd(), offset, len),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.send_file(file, offset, len),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => twin.send_file(file.as_fd(), offset, len),
        }
    }

    /// Has the peer ended its side, or the connection failed?
    pub(crate) fn is_hung_up(&self) -> bool {
        match self {
            Transport::Tcp(stream) => stream.is_hung_up().unwrap_or(true),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.tcp().is_hung_up().unwrap_or(true),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => twin.is_hung_up(),
        }
    }

    /// Waits for `select` until the peer has hung up or the transport is expired: `None` then.
    pub(crate) fn wait_while_connected<'a, R>(&'a self, select: Select<'a, R>) -> Option<R> {
        match self {
            Transport::Tcp(stream) => select.wait_while_connected(stream),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => select.wait_while_connected(tls.tcp()),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) if twin.is_hung_up() => None,
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(_) => Some(select.wait()),
        }
    }

    /// Ends the stream to the peer, or in both directions.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Transport::Tcp(stream) => stream.shutdown(how),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.shutdown(how),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => {
                twin.shutdown(how);
                Ok(())
            }
        }
    }

    /// The peer will read an error, not the end of the stream, when this is dropped.
    pub(crate) fn reset_on_close(&self) {
        match self {
            // Where it fails the connection has ended already.
            Transport::Tcp(stream) => drop(stream.set_linger(Some(Duration::ZERO))),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.reset_on_close(),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => twin.reset_on_close(),
        }
    }

    /// How many bytes have arrived and are not read yet; 0 where nobody knows.
    pub(crate) fn unread_bytes(&self) -> usize {
        match self {
            Transport::Tcp(stream) => stream.unread_bytes().unwrap_or(0),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.unread_bytes(),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => twin.unread(),
        }
    }

    /// The other end, as the kernel says it now: for log lines, not for anything that happens often.
    #[cold]
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Transport::Tcp(stream) => stream.peer_addr().ok(),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.tcp().peer_addr().ok(),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(_) => None,
        }
    }

    /// How many bytes were written and the peer's system has not acknowledged yet; 0 where nobody knows.
    pub(crate) fn unacknowledged_bytes(&self) -> usize {
        match self {
            Transport::Tcp(stream) => stream.unacknowledged_bytes().unwrap_or(0),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.unacknowledged_bytes(),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => twin.unacknowledged(),
        }
    }

    /// How many bytes of the write that is under way have gone out: they are in nobody's count yet.
    pub(crate) fn uncounted_bytes(&self) -> usize {
        match self {
            Transport::Tcp(_) => 0,
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.uncounted_bytes(),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(_) => 0,
        }
    }

    /// Tells the peer that nothing is missing at the end of the stream, where the end of the connection does not say so.
    /// All that was written is on its way.
    pub(crate) fn farewell(&self) -> io::Result<()> {
        match self {
            Transport::Tcp(_) => Ok(()),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.farewell(),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => {
                twin.farewell();
                Ok(())
            }
        }
    }

    /// From now on a call that would have to wait fails with `TimedOut`; who waits now is woken.
    pub(crate) fn expire(&self) {
        match self {
            Transport::Tcp(stream) => stream.expire(),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.tcp().expire(),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => twin.expire(),
        }
    }

    /// Takes that back.
    pub(crate) fn unexpire(&self) {
        match self {
            Transport::Tcp(stream) => stream.unexpire(),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.tcp().unexpire(),
            #[cfg(any(test, feature = "testing"))]
            Transport::Twin(twin) => twin.unexpire(),
        }
    }
}

#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod twin;
