//! Sockets (socket(7), tcp(7), sendfile(2)): one function a system call. Addresses cross as `std::net::SocketAddr`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// Receives into `buffer`; 0 is the end of the stream.
///
/// Made as a bare system call, as [`send`] is: glibc's wrapper is a POSIX cancellation point, which in a process of
/// several OS threads costs two locked instructions a call (about 15 ns), for a feature that Rust programs cannot use.
#[inline]
pub(crate) fn recv(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is live and writable for its length; no address is asked for.
    let received = unsafe {
        libc::syscall(
            libc::SYS_recvfrom,
            fd.as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
            0,
            ptr::null_mut::<libc::sockaddr>(),
            ptr::null_mut::<libc::socklen_t>(),
        )
    };
    super::check_len(received as libc::ssize_t)
}

/// Like [`recv`], and leaves the bytes where they are.
pub(crate) fn peek(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is live and writable for its length.
    super::check_len(unsafe {
        libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_PEEK)
    })
}

/// Scattered receive (readv(2)).
pub(crate) fn recv_vectored(fd: BorrowedFd<'_>, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    // SAFETY: `IoSliceMut` is ABI-compatible with iovec (std guarantees it) and every buffer is live and writable.
    super::check_len(unsafe {
        libc::readv(fd.as_raw_fd(), buffers.as_mut_ptr().cast(), iov_count(buffers.len()))
    })
}

/// Whether more bytes follow at once, so that the kernel should wait for them before it sends a short segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    No,
    Follows,
}

/// Sends from `buffer`; a closed peer is `BrokenPipe`, never SIGPIPE.
#[inline]
pub(crate) fn send(fd: BorrowedFd<'_>, buffer: &[u8], more: More) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | if more == More::Follows { libc::MSG_MORE } else { 0 };
    // SAFETY: the buffer is live and readable for its length; no address is given.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_sendto,
            fd.as_raw_fd(),
            buffer.as_ptr(),
            buffer.len(),
            flags,
            ptr::null::<libc::sockaddr>(),
            0,
        )
    };
    super::check_len(sent as libc::ssize_t)
}

/// Gathered send (sendmsg(2), since writev(2) knows no MSG_NOSIGNAL).
pub(crate) fn send_vectored(fd: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all zeroes is a valid empty msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = buffers.as_ptr().cast_mut().cast();
    message.msg_iovlen = iov_count(buffers.len()) as _;
    // SAFETY: `IoSlice` is ABI-compatible with iovec (std guarantees it), every buffer is live, and sendmsg only
    // reads what the message points to.
    super::check_len(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })
}

/// Sends up to `len` bytes of `file` from `offset` on, which is moved along.
pub(crate) fn sendfile(
    fd: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: &mut u64,
    len: usize,
) -> io::Result<usize> {
    let mut position = libc::off64_t::try_from(*offset)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "file offset is out of range"))?;
    // SAFETY: both descriptors are open (borrowed) and `position` is live.
    let sent = super::check_len(unsafe {
        libc::sendfile64(fd.as_raw_fd(), file.as_raw_fd(), &raw mut position, len)
    })?;
    *offset = position as u64;
    Ok(sent)
}

/// Accepts one connection, non-blocking and close-on-exec (accept4(2)).
pub(crate) fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut storage = Storage::new();
    // SAFETY: the storage is large enough for every address family and its length is passed along.
    let accepted = super::check(unsafe {
        libc::accept4(
            fd.as_raw_fd(),
            storage.as_mut_ptr(),
            &raw mut storage.len,
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        )
    })?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    let accepted = unsafe { OwnedFd::from_raw_fd(accepted) };
    Ok((accepted, storage.address()?))
}

/// A non-blocking, close-on-exec TCP socket of the address's family.
pub(crate) fn stream_for(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are passed.
    let fd = super::check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Starts a connection; `Ok(false)` means that it is under way (EINPROGRESS).
pub(crate) fn connect(fd: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<bool> {
    let storage = Storage::from(address);
    // SAFETY: the storage holds an address of `len` bytes.
    match super::check(unsafe { libc::connect(fd.as_raw_fd(), storage.as_ptr(), storage.len) }) {
        Ok(_) => Ok(true),
        // A connect that a signal interrupts goes on in the background (connect(2)).
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The pending error of the socket, taken (SO_ERROR).
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let code = option(fd, libc::SOL_SOCKET, libc::SO_ERROR)?;
    Ok((code != 0).then(|| io::Error::from_raw_os_error(code)))
}

/// Sets the length of the queue of connections that wait to be accepted; the kernel caps it at somaxconn.
pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    super::check(unsafe { libc::listen(fd.as_raw_fd(), backlog) })?;
    Ok(())
}

pub(crate) fn shutdown(fd: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: no pointers are passed.
    super::check(unsafe { libc::shutdown(fd.as_raw_fd(), how) })?;
    Ok(())
}

pub(crate) fn set_nodelay(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, i32::from(on))
}

pub(crate) fn nodelay(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)? != 0)
}

/// Makes close(2) reset the connection (`Some(0)`), or keep trying to send for a while, or not care (`None`).
pub(crate) fn set_linger(fd: BorrowedFd<'_>, linger: Option<Duration>) -> io::Result<()> {
    let value = libc::linger {
        l_onoff: i32::from(linger.is_some()),
        l_linger: linger.map_or(0, |time| i32::try_from(time.as_secs()).unwrap_or(i32::MAX)),
    };
    // SAFETY: `value` is live and its size is passed.
    super::check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    })?;
    Ok(())
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    let flags = super::check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: no pointers are passed.
    super::check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// Waits on a plain OS thread, by poll(2), until the descriptor is ready; false after `limit`.
pub(crate) fn poll(fd: BorrowedFd<'_>, write: bool, limit: Option<Duration>) -> io::Result<bool> {
    let events = if write { libc::POLLOUT } else { libc::POLLIN };
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    let limit_ms =
        limit.map_or(-1, |time| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
    // SAFETY: one live entry is passed, as the count says.
    Ok(super::check(unsafe { libc::poll(&raw mut entry, 1, limit_ms) })? > 0)
}

pub(crate) fn local_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut storage = Storage::new();
    // SAFETY: the storage is large enough for every address family and its length is passed along.
    super::check(unsafe { libc::getsockname(fd.as_raw_fd(), storage.as_mut_ptr(), &raw mut storage.len) })?;
    storage.address()
}

pub(crate) fn peer_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut storage = Storage::new();
    // SAFETY: the storage is large enough for every address family and its length is passed along.
    super::check(unsafe { libc::getpeername(fd.as_raw_fd(), storage.as_mut_ptr(), &raw mut storage.len) })?;
    storage.address()
}

fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is live and its size is passed.
    super::check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) })?;
    Ok(())
}

fn option(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut value = 0i32;
    let mut len = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is live and writable and its size is passed.
    super::check(unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len)
    })?;
    Ok(value)
}

/// At most IOV_MAX buffers go in one call; what is beyond it is left for the next.
fn iov_count(len: usize) -> i32 {
    const IOV_MAX: usize = 1024;
    len.min(IOV_MAX) as i32
}

/// A socket address in the kernel's form.
struct Storage {
    bytes: MaybeUninit<libc::sockaddr_storage>,
    len: libc::socklen_t,
}

impl Storage {
    fn new() -> Storage {
        Storage {
            bytes: MaybeUninit::zeroed(),
            len: mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t,
        }
    }

    fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        self.bytes.as_mut_ptr().cast()
    }

    fn address(&self) -> io::Result<SocketAddr> {
        // SAFETY: the storage was zeroed at birth, so that its family is readable whatever the kernel wrote.
        match i32::from(unsafe { (*self.as_ptr()).sa_family }) {
            libc::AF_INET => {
                // SAFETY: the family says that this is a sockaddr_in; the storage is aligned and large enough.
                let v4 = unsafe { &*self.as_ptr().cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that this is a sockaddr_in6; the storage is aligned and large enough.
                let v6 = unsafe { &*self.as_ptr().cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Ok(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            family => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("address family {family} is not an internet address"),
            )),
        }
    }
}

impl From<&SocketAddr> for Storage {
    fn from(address: &SocketAddr) -> Storage {
        let mut storage = Storage::new();
        match address {
            SocketAddr::V4(v4) => {
                // SAFETY: the storage is zeroed, aligned and large enough for a sockaddr_in.
                let raw = unsafe { &mut *storage.as_mut_ptr().cast::<libc::sockaddr_in>() };
                raw.sin_family = libc::AF_INET as libc::sa_family_t;
                raw.sin_port = v4.port().to_be();
                raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                storage.len = mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                // SAFETY: the storage is zeroed, aligned and large enough for a sockaddr_in6.
                let raw = unsafe { &mut *storage.as_mut_ptr().cast::<libc::sockaddr_in6>() };
                raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                raw.sin6_port = v6.port().to_be();
                raw.sin6_addr.s6_addr = v6.ip().octets();
                raw.sin6_flowinfo = v6.flowinfo();
                raw.sin6_scope_id = v6.scope_id();
                storage.len = mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        storage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_through_the_kernel_form() {
        for text in ["127.0.0.1:80", "255.1.2.3:65535", "[::1]:8080", "[fe80::1%3]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Storage::from(&address).address().unwrap(), address);
        }
    }
}
