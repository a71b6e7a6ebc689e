#![forbid(unsafe_code)]
//! TCP streams and listeners.

use super::endpoint::{Endpoint, ShortRead, endpoint_handle, endpoint_read, endpoint_write};
use super::listening::{BACKLOG, Listening, listener_handle};
use super::wait::{Announced, readable};
use super::{Operation, ToSocketAddrs, Unshared, retry};
use crate::io_manager::Direction;
use crate::scheduler::{current, park};
use crate::sys::socket::{self, option};
use crate::thread::block::BlockedOn;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// A TCP connection, in the manner of `std::net::TcpStream`.
///
/// Calls that have to wait park the calling green thread; every one is interruptible by a kill, ends at the
/// timeouts set here, and returns an error after [`expire`](TcpStream::expire) or [`close`](TcpStream::close). Any number of threads may use a
/// stream at once, through references or [`try_clone`](TcpStream::try_clone): reads are served in the order of their
/// arrival, and so are writes, independently.
pub struct TcpStream {
    endpoint: Arc<Endpoint>,
}

impl TcpStream {
    /// Connects to the first of the addresses that answers.
    ///
    /// Names are looked up without holding the core; see [`ToSocketAddrs`].
    ///
    /// # Errors
    /// That of the last address tried, or of the name; `InvalidInput` if there is no address.
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        let mut last = None;
        for address in address.to_socket_addrs()? {
            match connect(&address, None) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to")))
    }

    /// Connects, or fails with `TimedOut` after `limit`.
    ///
    /// # Errors
    /// Those of the connection; `InvalidInput` if the limit is zero.
    pub fn connect_timeout(address: &SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        if limit.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a timeout of zero"));
        }
        connect(address, Some(limit))
    }

    /// `fd` must be non-blocking.
    fn from_fd(fd: OwnedFd) -> TcpStream {
        TcpStream { endpoint: Arc::new(Endpoint::new(fd, ShortRead::Drained)) }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
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

    /// Closes one direction or both, for all who use the stream: reads that wait return 0, writes fail.
    ///
    /// # Errors
    /// The socket is not connected.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        socket::shutdown(self.as_fd(), how)
    }

    /// Sends small segments at once instead of waiting for the peer's acknowledgement (TCP_NODELAY, tcp(7)).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        option::set(self.as_fd(), option::NO_DELAY, i32::from(on))
    }

    /// What [`set_nodelay`](TcpStream::set_nodelay) set.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(option::get(self.as_fd(), option::NO_DELAY)? != 0)
    }

    /// What close(2) does with bytes that are not sent yet (SO_LINGER, socket(7)): `Some(0)` resets the connection.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        option::set_linger(self.as_fd(), linger)
    }

    /// Reads without consuming.
    ///
    /// # Errors
    /// As a read.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.peek(buffer)
    }

    /// Parks until a read is expected not to wait: there are bytes, an end, or an error. A connection that waits
    /// like this needs no buffer meanwhile. Unlike reads, it does not queue behind other readers of the stream: it is
    /// for streams with one reader.
    ///
    /// # Errors
    /// `TimedOut` at the read timeout. A wait that is ended by [`expire`](TcpStream::expire) may return `Ok`: the read that
    /// follows takes the last look, and says `TimedOut` if there is nothing.
    pub fn wait_readable(&self) -> io::Result<()> {
        let probe = |fd: BorrowedFd<'_>| socket::peek(fd, &mut [0]).map(drop);
        readable(self.endpoint.source(), self.endpoint.read(true), probe)
    }

    /// Whether the peer has ended its side, or the connection has failed: one system call, nothing is read, never parks.
    /// To wait for it there is [`Select::hung_up`](crate::Select::hung_up), which says more about what it means.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn is_hung_up(&self) -> io::Result<bool> {
        socket::poll_hung_up(self.as_fd())
    }

    /// Reads what is there; `None` if a read would have to wait. Never parks.
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.endpoint.attempt(|fd| socket::recv(fd, buffer))
    }

    /// Writes bytes that are followed by others at once: the kernel holds an unfull segment back for up to 200 ms
    /// until they come (MSG_MORE, send(2)).
    ///
    /// # Errors
    /// As a write.
    pub fn send_more(&self, bytes: &[u8]) -> io::Result<usize> {
        self.endpoint.send_more(bytes, false)
    }

    /// Sends up to `len` bytes of a file from `offset` on, without bringing them into this process (sendfile(2)), and
    /// moves the offset along. Returns how many were sent; 0 is the end of the file.
    ///
    /// # Errors
    /// As a write; `InvalidInput` if `file` is not a file that can be mapped.
    pub fn send_file(&self, file: BorrowedFd<'_>, offset: &mut u64, len: usize) -> io::Result<usize> {
        self.endpoint.send_file(file, offset, len, false)
    }

    /// How many bytes have arrived and are not read yet (SIOCINQ, tcp(7)).
    ///
    /// # Errors
    /// Those of ioctl(2).
    pub fn unread_bytes(&self) -> io::Result<usize> {
        socket::unread_bytes(self.as_fd())
    }

    /// How many bytes were written and are not acknowledged by the peer's system yet (SIOCOUTQ, tcp(7)). With what was
    /// written it tells how much has really gone: the socket's own buffer takes megabytes that nobody reads.
    ///
    /// # Errors
    /// Those of ioctl(2).
    pub fn unacknowledged_bytes(&self) -> io::Result<usize> {
        socket::unacknowledged_bytes(self.as_fd())
    }

    /// A view for the one thread that uses the stream: it takes no direction lock.
    pub fn unshared(&self) -> Unshared<'_> {
        Unshared::new(self)
    }

    /// Splits the stream into a half for reading and one for writing, for two threads. No second descriptor.
    pub fn into_split(self) -> (super::ReadHalf, super::WriteHalf) {
        super::split::split(self.endpoint)
    }

    /// Whether this is the only handle: then `&mut self` proves that nobody else uses the stream.
    #[inline]
    fn is_only(&self) -> bool {
        Arc::strong_count(&self.endpoint) == 1
    }
}

endpoint_handle!(TcpStream, std::net::TcpStream);
endpoint_read!(TcpStream, |this| this.endpoint, this.is_only());
endpoint_read!(&TcpStream, |this| this.endpoint, false);
endpoint_write!(TcpStream, |this| this.endpoint, this.is_only());
endpoint_write!(&TcpStream, |this| this.endpoint, false);

fn connect(address: &SocketAddr, limit: Option<Duration>) -> io::Result<TcpStream> {
    park::interruption_point();
    let fd = socket::stream_for(address)?;
    let connected = socket::connect(fd.as_fd(), address)?;
    let stream = TcpStream::from_fd(fd);
    if !connected {
        let operation = Operation {
            direction: Direction::Write,
            reason: BlockedOn::Connect,
            limit,
            exclusive: true,
            announced: Announced::ByEvent,
        };
        retry(stream.endpoint.source(), operation, connection_made, |_| false)?;
    }
    Ok(stream)
}

/// Whether a connection under way has been made: a socket that has no peer yet and no error is still waiting.
fn connection_made(fd: BorrowedFd<'_>) -> io::Result<()> {
    if let Some(error) = option::take_error(fd)? {
        return Err(error);
    }
    match socket::peer_addr::<SocketAddr>(fd) {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        result => result.map(drop),
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TcpStream");
        if let Ok(address) = self.local_addr() {
            debug.field("addr", &address);
        }
        if let Ok(peer) = self.peer_addr() {
            debug.field("peer", &peer);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}

/// A listening TCP socket, in the manner of `std::net::TcpListener`.
pub struct TcpListener {
    listening: Listening,
}

impl TcpListener {
    /// Listens on the first of the addresses that can be bound. SO_REUSEADDR is set, as by std; up to 4096 connections
    /// wait to be accepted. Names are looked up without holding the core. Works outside a runtime.
    ///
    /// # Errors
    /// Those of the name, socket(2), bind(2) and listen(2).
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        let listener = std::net::TcpListener::bind(&*addresses)?;
        socket::listen(listener.as_fd(), BACKLOG)?;
        TcpListener::try_from(listener)
    }

    /// Accepts a connection, non-blocking and close-on-exec from birth (accept4(2)). Parks only if none waits.
    ///
    /// # Errors
    /// Those of accept(2): `ECONNABORTED`, `EMFILE` and the like concern one connection or the moment, not the
    /// listener. `NotConnected` after [`close`](TcpListener::close).
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (fd, peer) = self.listening.accept()?;
        if let Some(capability) = current::get() {
            capability.remote().counters().accepts.count();
        }
        Ok((TcpStream::from_fd(fd), peer))
    }

    /// Accepts a connection if one waits; `None` if not. Never parks.
    ///
    /// # Errors
    /// As [`accept`](TcpListener::accept), but that it knows nothing of [`close`](TcpListener::close).
    pub fn try_accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let accepted = self.listening.try_accept()?;
        Ok(accepted.map(|(fd, peer)| (TcpStream::from_fd(fd), peer)))
    }

    /// Accepts one connection after another.
    pub fn incoming(&self) -> impl Iterator<Item = io::Result<TcpStream>> + '_ {
        std::iter::repeat_with(|| self.accept().map(|(stream, _)| stream))
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::local_addr(self.as_fd())
    }

    /// Sets TCP_NODELAY on the listener; accepted connections inherit it, which saves a system call for each.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        option::set(self.as_fd(), option::NO_DELAY, i32::from(on))
    }
}

listener_handle!(TcpListener, std::net::TcpListener);

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TcpListener");
        if let Ok(address) = self.local_addr() {
            debug.field("addr", &address);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}
