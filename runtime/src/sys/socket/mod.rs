//! Sockets (socket(7), tcp(7), unix(7), sendfile(2)): one function a system call. Addresses cross as std's.

mod address;
pub(crate) mod option;
pub(crate) mod rights;

pub(crate) use address::Address;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use address::Storage;

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

/// Whether what is received stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    Consume,
    Peek,
}

/// Receives one datagram (or what a stream has) and the address of its sender. What the buffer has no room for is lost.
pub(crate) fn recv_from<A: Address>(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    take: Take,
) -> io::Result<(usize, A)> {
    let mut storage = Storage::new();
    let flags = if take == Take::Peek { libc::MSG_PEEK } else { 0 };
    // SAFETY: the buffer is live and writable for its length; the storage is large enough for every address family
    // and its length is passed along.
    let received = super::check_len(unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            flags,
            storage.as_mut_ptr(),
            &raw mut storage.len,
        )
    })?;
    Ok((received, A::load(&storage)?))
}

/// Sends one datagram to an address.
pub(crate) fn send_to(fd: BorrowedFd<'_>, bytes: &[u8], address: &impl Address) -> io::Result<usize> {
    let storage = address.store();
    // SAFETY: the bytes are live and readable for their length; the storage holds an address of `len` bytes.
    super::check_len(unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
            storage.as_ptr(),
            storage.len,
        )
    })
}

/// Accepts one connection, non-blocking and close-on-exec (accept4(2)).
pub(crate) fn accept<A: Address>(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, A)> {
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
    Ok((accepted, A::load(&storage)?))
}

/// How many bytes have arrived at a stream socket and are not read yet (SIOCINQ, tcp(7)).
pub(crate) fn unread_bytes(fd: BorrowedFd<'_>) -> io::Result<usize> {
    ask(fd, libc::FIONREAD)
}

/// How many bytes were written to a stream socket and are not acknowledged by the peer yet (SIOCOUTQ, tcp(7)).
pub(crate) fn unacknowledged_bytes(fd: BorrowedFd<'_>) -> io::Result<usize> {
    ask(fd, libc::TIOCOUTQ)
}

/// What ioctl(2) says of one of a socket's queues.
fn ask(fd: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<usize> {
    let mut bytes = 0i32;
    // SAFETY: both requests write one int, to the local that is live and writable.
    super::check(unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// A non-blocking, close-on-exec stream socket of the address's family.
pub(crate) fn stream_for(address: &impl Address) -> io::Result<OwnedFd> {
    let family = address.store().family();
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are passed.
    let fd = super::check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Starts a connection; `Ok(false)` means that it is under way (EINPROGRESS). A Unix socket whose listener's queue is
/// full says `WouldBlock`, and nothing is under way then.
pub(crate) fn connect(fd: BorrowedFd<'_>, address: &impl Address) -> io::Result<bool> {
    let storage = address.store();
    // SAFETY: the storage holds an address of `len` bytes.
    match super::check(unsafe { libc::connect(fd.as_raw_fd(), storage.as_ptr(), storage.len) }) {
        Ok(_) => Ok(true),
        // A connect that a signal interrupts goes on in the background (connect(2)).
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Ok(false),
        Err(error) => Err(error),
    }
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

/// Waits on a plain OS thread, by poll(2), until the descriptor is ready; false after `limit`.
pub(crate) fn poll(fd: BorrowedFd<'_>, write: bool, limit: Option<Duration>) -> io::Result<bool> {
    let events = if write { libc::POLLOUT } else { libc::POLLIN };
    poll_entries(&mut [libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }], limit)
}

/// Whether the peer has ended its side, or the connection has failed. Does not wait.
pub(crate) fn poll_hung_up(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // What says that it failed is reported unasked (poll(2)).
    let entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    poll_entries(&mut [entry], Some(Duration::ZERO))
}

/// The same until one of several can be read.
pub(crate) fn poll_readable(fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let entry = |fd: &BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    poll_entries(&mut fds.iter().map(entry).collect::<Vec<_>>(), None).map(drop)
}

fn poll_entries(entries: &mut [libc::pollfd], limit: Option<Duration>) -> io::Result<bool> {
    let limit_ms =
        limit.map_or(-1, |time| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
    // SAFETY: the entries are live, and as many as the count says.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, limit_ms) };
    Ok(super::check(ready)? > 0)
}

pub(crate) fn local_addr<A: Address>(fd: BorrowedFd<'_>) -> io::Result<A> {
    let mut storage = Storage::new();
    // SAFETY: the storage is large enough for every address family and its length is passed along.
    super::check(unsafe { libc::getsockname(fd.as_raw_fd(), storage.as_mut_ptr(), &raw mut storage.len) })?;
    A::load(&storage)
}

pub(crate) fn peer_addr<A: Address>(fd: BorrowedFd<'_>) -> io::Result<A> {
    let mut storage = Storage::new();
    // SAFETY: the storage is large enough for every address family and its length is passed along.
    super::check(unsafe { libc::getpeername(fd.as_raw_fd(), storage.as_mut_ptr(), &raw mut storage.len) })?;
    A::load(&storage)
}

/// At most IOV_MAX buffers go in one call; what is beyond it is left for the next.
fn iov_count(len: usize) -> i32 {
    const IOV_MAX: usize = 1024;
    len.min(IOV_MAX) as i32
}
