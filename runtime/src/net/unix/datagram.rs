#![forbid(unsafe_code)]
//! Unix datagram sockets.

use crate::net::endpoint::{Endpoint, ShortRead, endpoint_handle};
use crate::net::wait::Announced;
use crate::sys::socket::{self, Take};
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A Unix datagram socket, in the manner of `std::os::unix::net::UnixDatagram`. Datagrams between Unix sockets are
/// neither lost nor reordered: who sends to a receiver whose queue is full waits.
///
/// Calls that have to wait park the calling green thread; every one is interruptible by a kill, ends at the timeouts set
/// here, and returns an error after [`expire`](UnixDatagram::expire) or [`close`](UnixDatagram::close).
pub struct UnixDatagram {
    endpoint: Arc<Endpoint>,
}

impl UnixDatagram {
    /// A socket at a path, where nothing may be yet.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        UnixDatagram::try_from(net::UnixDatagram::bind(path)?)
    }

    /// A socket at an address.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixDatagram> {
        UnixDatagram::try_from(net::UnixDatagram::bind_addr(address)?)
    }

    /// A socket without an address: it can send, and receive once it is connected.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::try_from(net::UnixDatagram::unbound()?)
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = net::UnixDatagram::pair()?;
        Ok((UnixDatagram::try_from(one)?, UnixDatagram::try_from(other)?))
    }

    fn from_fd(fd: OwnedFd) -> UnixDatagram {
        UnixDatagram { endpoint: Arc::new(Endpoint::new(fd, ShortRead::Nothing)) }
    }

    /// Sets where `send` sends to, and from whom alone datagrams are received.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// The same for an address.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect_addr(&self, address: &SocketAddr) -> io::Result<()> {
        socket::connect(self.as_fd(), address).map(drop)
    }

    /// Sends a datagram to the socket that this one is connected to.
    ///
    /// # Errors
    /// Those of send(2); `TimedOut` at the write timeout.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.endpoint.send(bytes, false)
    }

    /// Sends a datagram to the socket at a path.
    ///
    /// # Errors
    /// As [`send_to_addr`](UnixDatagram::send_to_addr).
    pub fn send_to(&self, bytes: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.send_to_addr(bytes, &SocketAddr::from_pathname(path)?)
    }

    /// Sends a datagram to the socket at an address.
    ///
    /// If its queue is full this waits. The kernel does not tell who is not connected when there is room, so it is asked
    /// again after 0.1 ms, and then at ever longer intervals up to 20 ms: for a steady flow
    /// [`connect`](UnixDatagram::connect).
    ///
    /// # Errors
    /// Those of sendto(2); `TimedOut` at the write timeout.
    pub fn send_to_addr(&self, bytes: &[u8], address: &SocketAddr) -> io::Result<usize> {
        self.endpoint.send_to(bytes, address, Announced::ByNobody)
    }

    /// Receives a datagram. What the buffer has no room for is lost.
    ///
    /// # Errors
    /// Those of recv(2); `TimedOut` at the read timeout.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.recv(buffer, false)
    }

    /// Receives a datagram, and the address of its sender.
    ///
    /// # Errors
    /// As [`recv`](UnixDatagram::recv).
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.endpoint.recv_from(buffer, Take::Consume)
    }

    /// Receives without consuming.
    ///
    /// # Errors
    /// As [`recv`](UnixDatagram::recv).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.peek(buffer)
    }

    /// Receives without consuming, and the address of the sender.
    ///
    /// # Errors
    /// As [`recv`](UnixDatagram::recv).
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.endpoint.recv_from(buffer, Take::Peek)
    }

    /// Sends a datagram with these descriptors to the socket that this one is connected to. They stay open here.
    ///
    /// # Errors
    /// As [`send`](UnixDatagram::send); `InvalidInput` for more than 253 descriptors, or for descriptors without bytes.
    pub fn send_with_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.endpoint.send_with_fds(bytes, fds)
    }

    /// Receives a datagram, and adds to `fds` the descriptors that came with it, close-on-exec.
    ///
    /// # Errors
    /// As [`recv`](UnixDatagram::recv); the bytes are in the buffer, but some descriptors are lost, if this process has as
    /// many as it may have.
    pub fn recv_with_fds(&self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        self.endpoint.recv_with_fds(buffer, fds)
    }

    /// The address of this socket.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::local_addr(self.as_fd())
    }

    /// The address that this socket is connected to.
    ///
    /// # Errors
    /// The socket is not connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        socket::peer_addr(self.as_fd())
    }

    /// Closes one direction or both: receivers that wait get 0 bytes, sending fails.
    ///
    /// # Errors
    /// Those of shutdown(2).
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        socket::shutdown(self.as_fd(), how)
    }
}

endpoint_handle!(UnixDatagram, net::UnixDatagram);

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UnixDatagram");
        if let Ok(address) = self.local_addr() {
            debug.field("local", &address);
        }
        if let Ok(peer) = self.peer_addr() {
            debug.field("peer", &peer);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}
