#![forbid(unsafe_code)]
//! Unix streams.

use crate::io_manager::Direction;
use crate::net::endpoint::{Endpoint, ShortRead, endpoint_handle, endpoint_read, endpoint_write};
use crate::net::split::{ReadHalf, WriteHalf, split};
use crate::net::wait::{Announced, Operation, retry};
use crate::scheduler::park;
use crate::sys::socket::{self, option};
use crate::thread::block::BlockedOn;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A Unix stream, in the manner of `std::os::unix::net::UnixStream`.
///
/// Calls that have to wait park the calling green thread; every one is interruptible by a kill, ends at the timeouts set
/// here, and returns an error after [`expire`](UnixStream::expire) or [`close`](UnixStream::close). Any number of threads
/// may use a stream at once, as with [`TcpStream`](crate::net::TcpStream).
///
/// ```
/// use bast::net::UnixStream;
/// use std::fs::File;
/// use std::io::Read;
/// use std::os::fd::AsFd;
///
/// # fn main() -> std::io::Result<()> {
/// let (ours, theirs) = UnixStream::pair()?;
/// ours.send_with_fds(b"!", &[File::open("/dev/null")?.as_fd()])?;
/// let (mut byte, mut files) = ([0], Vec::new());
/// theirs.recv_with_fds(&mut byte, &mut files)?;
/// let mut null = File::from(files.remove(0));
/// assert_eq!(null.read(&mut byte)?, 0);
/// # Ok(())
/// # }
/// ```
pub struct UnixStream {
    endpoint: Arc<Endpoint>,
}

/// Who made the other end of a Unix stream, or listened when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UCred {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The process; `None` if it is in another namespace.
    pub pid: Option<i32>,
}

impl UnixStream {
    /// Connects to the socket at a path.
    ///
    /// # Errors
    /// As [`connect_addr`](UnixStream::connect_addr).
    pub fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Connects to an address: of a path or an abstract one.
    ///
    /// While the listener's queue is full this waits. The kernel does not tell when there is room, so it is asked again
    /// after 0.1 ms, and then at ever longer intervals up to 20 ms.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect_addr(address: &SocketAddr) -> io::Result<UnixStream> {
        park::interruption_point();
        let stream = UnixStream::from_fd(socket::stream_for(address)?);
        let operation = Operation {
            direction: Direction::Write,
            reason: BlockedOn::Connect,
            limit: None,
            exclusive: true,
            announced: Announced::ByNobody,
        };
        retry(stream.endpoint.source(), operation, |fd| socket::connect(fd, address), |_| false)?;
        Ok(stream)
    }

    /// Two streams that are connected to each other.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = net::UnixStream::pair()?;
        Ok((UnixStream::try_from(one)?, UnixStream::try_from(other)?))
    }

    /// `fd` must be non-blocking.
    pub(super) fn from_fd(fd: OwnedFd) -> UnixStream {
        UnixStream { endpoint: Arc::new(Endpoint::new(fd, ShortRead::Nothing)) }
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// The socket is not connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        socket::peer_addr(self.as_fd())
    }

    /// The address of this end.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::local_addr(self.as_fd())
    }

    /// Who made the other end (SO_PEERCRED).
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn peer_cred(&self) -> io::Result<UCred> {
        let (pid, uid, gid) = option::peer_credentials(self.as_fd())?;
        Ok(UCred { uid, gid, pid: (pid != 0).then_some(pid) })
    }

    /// Closes one direction or both, for all who use the stream: reads that wait return 0, writes fail.
    ///
    /// # Errors
    /// The socket is not connected.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        socket::shutdown(self.as_fd(), how)
    }

    /// Reads without consuming.
    ///
    /// # Errors
    /// As a read.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.peek(buffer)
    }

    /// Reads what is there; `None` if a read would have to wait. Never parks.
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.endpoint.attempt(|fd| socket::recv(fd, buffer))
    }

    /// Writes bytes, and lets the reader have these descriptors with the first of them. They stay open here.
    ///
    /// # Errors
    /// As a write; `InvalidInput` for more than 253 descriptors, or for descriptors without bytes.
    pub fn send_with_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.endpoint.send_with_fds(bytes, fds)
    }

    /// Reads bytes, and adds to `fds` the descriptors that came with them, close-on-exec. A read ends where descriptors
    /// were sent: those of two writes are not mixed. A plain read drops them.
    ///
    /// # Errors
    /// As a read; the bytes are in the buffer, but some descriptors are lost, if this process has as many as it may have.
    pub fn recv_with_fds(&self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        self.endpoint.recv_with_fds(buffer, fds)
    }

    /// Splits the stream into a half for reading and one for writing, for two threads. No second descriptor.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        split(self.endpoint)
    }

    /// Whether this is the only handle: then `&mut self` proves that nobody else uses the stream.
    fn is_only(&self) -> bool {
        Arc::strong_count(&self.endpoint) == 1
    }
}

endpoint_handle!(UnixStream, net::UnixStream);
endpoint_read!(UnixStream, |this| this.endpoint, this.is_only());
endpoint_read!(&UnixStream, |this| this.endpoint, false);
endpoint_write!(UnixStream, |this| this.endpoint, this.is_only());
endpoint_write!(&UnixStream, |this| this.endpoint, false);

impl fmt::Debug for UnixStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UnixStream");
        if let Ok(address) = self.local_addr() {
            debug.field("local", &address);
        }
        if let Ok(peer) = self.peer_addr() {
            debug.field("peer", &peer);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}
