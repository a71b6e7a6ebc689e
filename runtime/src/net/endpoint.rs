#![forbid(unsafe_code)]
//! What the handles of a socket share, and the calls that all kinds of sockets have: each written once.

use super::wait::Announced;
use super::{Operation, retry};
use crate::io_manager::{Direction, Source};
use crate::sys::socket::{self, Address, More, Take};
use crate::thread::block::BlockedOn;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a short read of bytes says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShortRead {
    /// There is no more (TCP, where io_manager/object.rs knows the exceptions).
    Drained,
    /// Nothing: a message ended there (Unix streams end a read where descriptors were sent; all datagrams).
    Nothing,
}

/// A connected or bound socket.
#[derive(Debug)]
pub(super) struct Endpoint {
    source: Source,
    short_read: ShortRead,
    /// In nanoseconds; 0 is none.
    read_timeout_ns: AtomicU64,
    write_timeout_ns: AtomicU64,
}

impl Endpoint {
    /// `fd` must be non-blocking.
    pub(super) fn new(fd: OwnedFd, short_read: ShortRead) -> Endpoint {
        Endpoint {
            source: Source::new(fd),
            short_read,
            read_timeout_ns: AtomicU64::new(0),
            write_timeout_ns: AtomicU64::new(0),
        }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.source.into_fd()
    }

    /// How to read. `exclusive`: nobody else reads meanwhile.
    #[inline]
    pub(super) fn read(&self, exclusive: bool) -> Operation {
        Operation {
            direction: Direction::Read,
            reason: BlockedOn::Read,
            limit: timeout(&self.read_timeout_ns),
            exclusive,
            announced: Announced::ByEvent,
        }
    }

    /// How to write. `exclusive`: nobody else writes meanwhile.
    #[inline]
    pub(super) fn write(&self, exclusive: bool) -> Operation {
        Operation {
            direction: Direction::Write,
            reason: BlockedOn::Write,
            limit: timeout(&self.write_timeout_ns),
            exclusive,
            announced: Announced::ByEvent,
        }
    }

    #[inline]
    pub(super) fn recv(&self, buffer: &mut [u8], exclusive: bool) -> io::Result<usize> {
        let len = buffer.len();
        retry(
            &self.source,
            self.read(exclusive),
            |fd| socket::recv(fd, buffer),
            |&count| self.is_drained(count, len),
        )
    }

    pub(super) fn recv_vectored(&self, buffers: &mut [IoSliceMut<'_>], exclusive: bool) -> io::Result<usize> {
        let len = buffers.iter().map(|buffer| buffer.len()).sum();
        retry(
            &self.source,
            self.read(exclusive),
            |fd| socket::recv_vectored(fd, buffers),
            |&count| self.is_drained(count, len),
        )
    }

    /// Whether a read of `count` bytes into room for `len` leaves nothing. 0 bytes are the end, which stays readable.
    #[inline]
    fn is_drained(&self, count: usize, len: usize) -> bool {
        self.short_read == ShortRead::Drained && 0 < count && count < len
    }

    #[inline]
    pub(super) fn send(&self, buffer: &[u8], exclusive: bool) -> io::Result<usize> {
        retry(&self.source, self.write(exclusive), |fd| socket::send(fd, buffer, More::No), |_| false)
    }

    pub(super) fn send_vectored(&self, buffers: &[IoSlice<'_>], exclusive: bool) -> io::Result<usize> {
        retry(&self.source, self.write(exclusive), |fd| socket::send_vectored(fd, buffers), |_| false)
    }

    pub(super) fn send_more(&self, bytes: &[u8], exclusive: bool) -> io::Result<usize> {
        retry(&self.source, self.write(exclusive), |fd| socket::send(fd, bytes, More::Follows), |_| false)
    }

    pub(super) fn send_file(
        &self,
        file: BorrowedFd<'_>,
        offset: &mut u64,
        len: usize,
        exclusive: bool,
    ) -> io::Result<usize> {
        let send = |fd: BorrowedFd<'_>| socket::sendfile(fd, file, offset, len);
        retry(&self.source, self.write(exclusive), send, |_| false)
    }

    pub(super) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(&self.source, self.read(false), |fd| socket::peek(fd, buffer), |_| false)
    }

    pub(super) fn recv_from<A: Address>(&self, buffer: &mut [u8], take: Take) -> io::Result<(usize, A)> {
        retry(&self.source, self.read(false), |fd| socket::recv_from(fd, buffer, take), |_| false)
    }

    pub(super) fn send_to(
        &self,
        bytes: &[u8],
        address: &impl Address,
        announced: Announced,
    ) -> io::Result<usize> {
        let operation = Operation { announced, ..self.write(false) };
        retry(&self.source, operation, |fd| socket::send_to(fd, bytes, address), |_| false)
    }

    /// Makes a call that does not wait; `None` if it would have to.
    pub(super) fn attempt<T>(
        &self,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        loop {
            match call(self.source.as_fd()) {
                Ok(value) => return Ok(Some(value)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.read_timeout_ns, limit)
    }

    pub(super) fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.write_timeout_ns, limit)
    }

    pub(super) fn read_timeout(&self) -> Option<Duration> {
        timeout(&self.read_timeout_ns)
    }

    pub(super) fn write_timeout(&self) -> Option<Duration> {
        timeout(&self.write_timeout_ns)
    }
}

fn set_timeout(word: &AtomicU64, limit: Option<Duration>) -> io::Result<()> {
    if limit.is_some_and(|limit| limit.is_zero()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a timeout of zero"));
    }
    let ns = limit.map_or(0, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
    word.store(ns, Ordering::Relaxed);
    Ok(())
}

#[inline]
fn timeout(word: &AtomicU64) -> Option<Duration> {
    match word.load(Ordering::Relaxed) {
        0 => None,
        ns => Some(Duration::from_nanos(ns)),
    }
}

/// What each handle of an endpoint has, whatever the protocol: further handles, limits of time, ends, and the way from
/// and to descriptors. The type has a field `endpoint: Arc<Endpoint>` and a function `from_fd(OwnedFd)`.
macro_rules! endpoint_handle {
    ($Type:ident, $std:ty) => {
        impl<'a> From<&'a $Type> for $crate::net::Socket<'a> {
            fn from(this: &'a $Type) -> $crate::net::Socket<'a> {
                $crate::net::Socket::new(this.endpoint.source())
            }
        }

        impl $Type {
            /// A further handle of the same socket: no second descriptor, unlike std's.
            ///
            /// # Errors
            /// None today; the signature is std's.
            pub fn try_clone(&self) -> io::Result<$Type> {
                Ok($Type { endpoint: Arc::clone(&self.endpoint) })
            }

            /// Fails reads that would wait longer than this, with `TimedOut` (std's says `WouldBlock`). `None` waits
            /// for ever.
            ///
            /// # Errors
            /// `InvalidInput` for a zero duration.
            pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
                self.endpoint.set_read_timeout(limit)
            }

            /// The same for writes.
            ///
            /// # Errors
            /// `InvalidInput` for a zero duration.
            pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
                self.endpoint.set_write_timeout(limit)
            }

            /// What `set_read_timeout` set.
            ///
            /// # Errors
            /// None; the signature is std's.
            pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.endpoint.read_timeout())
            }

            /// What `set_write_timeout` set.
            ///
            /// # Errors
            /// None; the signature is std's.
            pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.endpoint.write_timeout())
            }

            /// The pending error of the socket, taken.
            ///
            /// # Errors
            /// Those of getsockopt(2).
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                crate::sys::socket::option::take_error(self.as_fd())
            }

            /// Ends waiting on this socket, from any thread: from now on a call that would have to wait returns
            /// `TimedOut` instead, and so does one that waits now. What can be done without waiting still is: bytes
            /// that have arrived are read.
            pub fn expire(&self) {
                self.endpoint.source().object().expire(&mut crate::scheduler::wake_all);
            }

            /// Takes `expire` back.
            pub fn unexpire(&self) {
                self.endpoint.source().object().unexpire();
            }

            /// Ends the use of this socket, from any thread: whoever waits on it and whoever comes later gets
            /// `NotConnected`. The descriptor is closed when the last handle is dropped, so that no operation ever
            /// meets another file under its number; only then does the other end learn of it.
            pub fn close(&self) {
                self.endpoint.source().object().close(&mut crate::scheduler::wake_all);
            }
        }

        impl AsFd for $Type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.endpoint.source().as_fd()
            }
        }

        impl AsRawFd for $Type {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }

        impl TryFrom<OwnedFd> for $Type {
            type Error = io::Error;

            /// Takes over a descriptor, which is not looked at but made non-blocking.
            fn try_from(fd: OwnedFd) -> io::Result<$Type> {
                crate::sys::pipe::set_nonblocking(fd.as_fd(), true)?;
                Ok($Type::from_fd(fd))
            }
        }

        impl TryFrom<$std> for $Type {
            type Error = io::Error;

            /// Takes over a socket of std's, and makes it non-blocking.
            fn try_from(socket: $std) -> io::Result<$Type> {
                $Type::try_from(OwnedFd::from(socket))
            }
        }

        impl TryFrom<$Type> for OwnedFd {
            type Error = io::Error;

            /// The descriptor itself if this is the only handle, else a second one (dup(2)). It stays non-blocking.
            fn try_from(socket: $Type) -> io::Result<OwnedFd> {
                match Arc::try_unwrap(socket.endpoint) {
                    Ok(endpoint) => Ok(endpoint.into_fd()),
                    Err(shared) => shared.source().duplicate_fd(),
                }
            }
        }
    };
}

/// `Read` for a type: the expression is the endpoint, and whether nobody else can read at the same time.
macro_rules! endpoint_read {
    ($Type:ty, |$this:ident| $endpoint:expr, $exclusive:expr) => {
        impl std::io::Read for $Type {
            #[inline]
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let $this = self;
                $endpoint.recv(buffer, $exclusive)
            }

            fn read_vectored(&mut self, buffers: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                let $this = self;
                $endpoint.recv_vectored(buffers, $exclusive)
            }
        }
    };
}

/// `Write` for a type, likewise.
macro_rules! endpoint_write {
    ($Type:ty, |$this:ident| $endpoint:expr, $exclusive:expr) => {
        impl std::io::Write for $Type {
            #[inline]
            fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
                let $this = self;
                $endpoint.send(buffer, $exclusive)
            }

            fn write_vectored(&mut self, buffers: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                let $this = self;
                $endpoint.send_vectored(buffers, $exclusive)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}

pub(super) use {endpoint_handle, endpoint_read, endpoint_write};
