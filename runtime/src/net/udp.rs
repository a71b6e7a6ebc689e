#![forbid(unsafe_code)]
//! UDP sockets.

use super::ToSocketAddrs;
use super::endpoint::{Endpoint, ShortRead, endpoint_handle};
use super::wait::Announced;
use crate::sys::socket::option::{self, Membership, SocketOption};
use crate::sys::socket::{self, Take};
use std::fmt;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// A UDP socket, in the manner of `std::net::UdpSocket`.
///
/// Calls that have to wait park the calling green thread; every one is interruptible by a kill, ends at the timeouts set
/// here, and returns an error after [`expire`](UdpSocket::expire) or [`close`](UdpSocket::close). Any number of threads
/// may send and receive at once.
///
/// ```
/// use bast::net::UdpSocket;
///
/// # fn main() -> std::io::Result<()> {
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"hello", server.local_addr()?)?;
/// let mut buffer = [0; 64];
/// let (count, from) = server.recv_from(&mut buffer)?;
/// assert_eq!((&buffer[..count], from), (&b"hello"[..], client.local_addr()?));
/// # Ok(())
/// # }
/// ```
pub struct UdpSocket {
    endpoint: Arc<Endpoint>,
}

impl UdpSocket {
    /// A socket at the first of the addresses that can be bound. Works outside a runtime.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        UdpSocket::try_from(net::UdpSocket::bind(&*addresses)?)
    }

    fn from_fd(fd: OwnedFd) -> UdpSocket {
        UdpSocket { endpoint: Arc::new(Endpoint::new(fd, ShortRead::Nothing)) }
    }

    /// Sets where `send` sends to, and from whom alone datagrams are received: the first of the addresses that this
    /// socket can reach.
    ///
    /// # Errors
    /// That of the last address tried; `InvalidInput` if there is none.
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        let mut last = None;
        for address in address.to_socket_addrs()? {
            match socket::connect(self.as_fd(), &address) {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(no_address))
    }

    /// Sends a datagram to the address that this socket is connected to.
    ///
    /// # Errors
    /// Those of send(2): `ConnectionRefused` may be about an earlier datagram. `TimedOut` at the write timeout.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.endpoint.send(bytes, false)
    }

    /// Sends a datagram to the first of the addresses.
    ///
    /// # Errors
    /// Those of sendto(2); `TimedOut` at the write timeout; `InvalidInput` if there is no address.
    pub fn send_to(&self, bytes: &[u8], address: impl ToSocketAddrs) -> io::Result<usize> {
        let address = address.to_socket_addrs()?.next().ok_or_else(no_address)?;
        self.endpoint.send_to(bytes, &address, Announced::ByEvent)
    }

    /// Receives a datagram from the address that this socket is connected to. What the buffer has no room for is lost.
    ///
    /// # Errors
    /// Those of recv(2): `ConnectionRefused` is about a datagram that was sent. `TimedOut` at the read timeout.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.recv(buffer, false)
    }

    /// Receives a datagram, and the address of its sender.
    ///
    /// # Errors
    /// As [`recv`](UdpSocket::recv).
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.endpoint.recv_from(buffer, Take::Consume)
    }

    /// Receives without consuming.
    ///
    /// # Errors
    /// As [`recv`](UdpSocket::recv).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.peek(buffer)
    }

    /// Receives without consuming, and the address of the sender.
    ///
    /// # Errors
    /// As [`recv`](UdpSocket::recv).
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.endpoint.recv_from(buffer, Take::Peek)
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

    /// Allows to send to broadcast addresses (SO_BROADCAST).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        option::set(self.as_fd(), option::BROADCAST, i32::from(on))
    }

    /// What [`set_broadcast`](UdpSocket::set_broadcast) set.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn broadcast(&self) -> io::Result<bool> {
        self.flag(option::BROADCAST)
    }

    /// How many hops a datagram may take (IP_TTL).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        option::set(self.as_fd(), option::TTL, hops.cast_signed())
    }

    /// What [`set_ttl`](UdpSocket::set_ttl) set.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(option::get(self.as_fd(), option::TTL)?.cast_unsigned())
    }

    /// Whether multicast datagrams of this socket come back to this host (IP_MULTICAST_LOOP).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_multicast_loop_v4(&self, on: bool) -> io::Result<()> {
        option::set(self.as_fd(), option::MULTICAST_LOOP_V4, i32::from(on))
    }

    /// What [`set_multicast_loop_v4`](UdpSocket::set_multicast_loop_v4) set.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.flag(option::MULTICAST_LOOP_V4)
    }

    /// How many hops a multicast datagram may take (IP_MULTICAST_TTL); 1 is the local network.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_multicast_ttl_v4(&self, hops: u32) -> io::Result<()> {
        option::set(self.as_fd(), option::MULTICAST_TTL_V4, hops.cast_signed())
    }

    /// What [`set_multicast_ttl_v4`](UdpSocket::set_multicast_ttl_v4) set.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        Ok(option::get(self.as_fd(), option::MULTICAST_TTL_V4)?.cast_unsigned())
    }

    /// Whether multicast datagrams of this socket come back to this host (IPV6_MULTICAST_LOOP).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()> {
        option::set(self.as_fd(), option::MULTICAST_LOOP_V6, i32::from(on))
    }

    /// What [`set_multicast_loop_v6`](UdpSocket::set_multicast_loop_v6) set.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.flag(option::MULTICAST_LOOP_V6)
    }

    /// Receives what is sent to a group, on the interface with the given address (0.0.0.0: the kernel's choice).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        option::set_membership_v4(self.as_fd(), Membership::Join, *group, *interface)
    }

    /// Takes [`join_multicast_v4`](UdpSocket::join_multicast_v4) back.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        option::set_membership_v4(self.as_fd(), Membership::Leave, *group, *interface)
    }

    /// Receives what is sent to a group, on the interface with the given index (0: the kernel's choice).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        option::set_membership_v6(self.as_fd(), Membership::Join, *group, interface)
    }

    /// Takes [`join_multicast_v6`](UdpSocket::join_multicast_v6) back.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        option::set_membership_v6(self.as_fd(), Membership::Leave, *group, interface)
    }

    fn flag(&self, option: SocketOption) -> io::Result<bool> {
        Ok(option::get(self.as_fd(), option)? != 0)
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "no address to send to")
}

endpoint_handle!(UdpSocket, net::UdpSocket);

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UdpSocket");
        if let Ok(address) = self.local_addr() {
            debug.field("addr", &address);
        }
        if let Ok(peer) = self.peer_addr() {
            debug.field("peer", &peer);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}
