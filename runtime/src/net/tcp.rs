#![forbid(unsafe_code)]
//! TCP streams and listeners.

use super::wait::readable;
use super::{Operation, Unshared, retry};
use crate::io_manager::{Direction, Source};
use crate::scheduler::{current, park, wake_all};
use crate::sys::socket::{self, More};
use crate::thread::block::BlockedOn;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many connections may wait to be accepted; the kernel caps it at net.core.somaxconn (4096 by default).
/// std asks for 128, which a burst of a thousand clients overflows.
const BACKLOG: i32 = 4096;

/// A TCP connection, in the manner of `std::net::TcpStream`.
///
/// Calls that have to wait park the calling green thread; every one is interruptible by a kill, ends at the
/// timeouts set here, and returns an error after [`expire`](TcpStream::expire). Any number of threads may use a
/// stream at once, through references or [`try_clone`](TcpStream::try_clone): reads are served in the order of their
/// arrival, and so are writes, independently.
pub struct TcpStream {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    source: Source,
    /// In nanoseconds; 0 is none.
    read_timeout_ns: AtomicU64,
    write_timeout_ns: AtomicU64,
}

impl TcpStream {
    /// Connects to the first of the addresses that answers.
    ///
    /// Names are resolved by the system's resolver, which blocks this OS thread: give addresses where that matters.
    ///
    /// # Errors
    /// That of the last address tried; `InvalidInput` if there is none.
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

    pub(super) fn from_source(fd: OwnedFd) -> TcpStream {
        TcpStream {
            inner: Arc::new(Inner {
                source: Source::new(fd),
                read_timeout_ns: AtomicU64::new(0),
                write_timeout_ns: AtomicU64::new(0),
            }),
        }
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
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

    /// A further handle of the same stream: no second descriptor, unlike std's.
    ///
    /// # Errors
    /// None today; the signature is std's.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        Ok(TcpStream { inner: Arc::clone(&self.inner) })
    }

    /// Fails reads that would wait longer than this, with `TimedOut` (std's says `WouldBlock`). `None` waits for ever.
    ///
    /// # Errors
    /// `InvalidInput` for a zero duration.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.inner.read_timeout_ns, limit)
    }

    /// The same for writes.
    ///
    /// # Errors
    /// `InvalidInput` for a zero duration.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.inner.write_timeout_ns, limit)
    }

    /// What [`set_read_timeout`](TcpStream::set_read_timeout) set.
    ///
    /// # Errors
    /// None; the signature is std's.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(timeout(&self.inner.read_timeout_ns))
    }

    /// What [`set_write_timeout`](TcpStream::set_write_timeout) set.
    ///
    /// # Errors
    /// None; the signature is std's.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(timeout(&self.inner.write_timeout_ns))
    }

    /// Sends small segments at once instead of waiting for the peer's acknowledgement (TCP_NODELAY, tcp(7)).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        socket::set_nodelay(self.as_fd(), on)
    }

    /// What [`set_nodelay`](TcpStream::set_nodelay) set.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn nodelay(&self) -> io::Result<bool> {
        socket::nodelay(self.as_fd())
    }

    /// What close(2) does with bytes that are not sent yet (SO_LINGER, socket(7)): `Some(0)` resets the connection.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        socket::set_linger(self.as_fd(), linger)
    }

    /// The pending error of the socket, taken.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        socket::take_error(self.as_fd())
    }

    /// Reads without consuming.
    ///
    /// # Errors
    /// As a read.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(&self.inner.source, self.inner.read(false), |fd| socket::peek(fd, buffer), |_| false)
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
        readable(&self.inner.source, self.inner.read(true), probe)
    }

    /// Reads what is there; `None` if a read would have to wait. Never parks.
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match socket::recv(self.as_fd(), buffer) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes bytes that are followed by others at once: the kernel holds an unfull segment back for up to 200 ms
    /// until they come (MSG_MORE, send(2)).
    ///
    /// # Errors
    /// As a write.
    pub fn send_more(&self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.send_more(bytes, false)
    }

    /// Sends up to `len` bytes of a file from `offset` on, without bringing them into this process (sendfile(2)), and
    /// moves the offset along. Returns how many were sent; 0 is the end of the file.
    ///
    /// # Errors
    /// As a write; `InvalidInput` if `file` is not a file that can be mapped.
    pub fn send_file(&self, file: BorrowedFd<'_>, offset: &mut u64, len: usize) -> io::Result<usize> {
        self.inner.send_file(file, offset, len, false)
    }

    /// Ends waiting on this stream, from any thread: from now on a call that would have to wait returns `TimedOut`
    /// instead, and so does one that waits now. What can be done without waiting still is: bytes that have arrived
    /// are read.
    pub fn expire(&self) {
        self.inner.source.object().expire(&mut wake_all);
    }

    /// Takes [`expire`](TcpStream::expire) back.
    pub fn unexpire(&self) {
        self.inner.source.object().unexpire();
    }

    /// A view for the one thread that uses the stream: it takes no direction lock.
    pub fn unshared(&self) -> Unshared<'_> {
        Unshared::new(self)
    }

    /// Splits the stream into a half for reading and one for writing, for two threads. No second descriptor.
    pub fn into_split(self) -> (super::ReadHalf, super::WriteHalf) {
        super::split::split(self)
    }

    /// Whether this is the only handle: then `&mut self` proves that nobody else uses the stream.
    #[inline]
    fn is_only(&self) -> bool {
        Arc::strong_count(&self.inner) == 1
    }
}

impl Inner {
    #[inline]
    pub(super) fn read(&self, exclusive: bool) -> Operation {
        Operation {
            direction: Direction::Read,
            reason: BlockedOn::Read,
            limit: timeout(&self.read_timeout_ns),
            exclusive,
        }
    }

    #[inline]
    pub(super) fn write(&self, exclusive: bool) -> Operation {
        Operation {
            direction: Direction::Write,
            reason: BlockedOn::Write,
            limit: timeout(&self.write_timeout_ns),
            exclusive,
        }
    }

    #[inline]
    pub(super) fn recv(&self, buffer: &mut [u8], exclusive: bool) -> io::Result<usize> {
        let len = buffer.len();
        // 0 bytes are the end, which stays readable.
        retry(
            &self.source,
            self.read(exclusive),
            |fd| socket::recv(fd, buffer),
            |&count| 0 < count && count < len,
        )
    }

    pub(super) fn recv_vectored(&self, buffers: &mut [IoSliceMut<'_>], exclusive: bool) -> io::Result<usize> {
        let len: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        retry(
            &self.source,
            self.read(exclusive),
            |fd| socket::recv_vectored(fd, buffers),
            |&count| 0 < count && count < len,
        )
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

    pub(super) fn source(&self) -> &Source {
        &self.source
    }
}

fn connect(address: &SocketAddr, limit: Option<Duration>) -> io::Result<TcpStream> {
    park::interruption_point();
    let fd = socket::stream_for(address)?;
    let connected = socket::connect(fd.as_fd(), address)?;
    let stream = TcpStream::from_source(fd);
    if !connected {
        let operation =
            Operation { direction: Direction::Write, reason: BlockedOn::Connect, limit, exclusive: true };
        retry(&stream.inner.source, operation, connection_made, |_| false)?;
    }
    Ok(stream)
}

/// Whether a connection under way has been made: a socket that has no peer yet and no error is still waiting.
fn connection_made(fd: BorrowedFd<'_>) -> io::Result<()> {
    if let Some(error) = socket::take_error(fd)? {
        return Err(error);
    }
    match socket::peer_addr(fd) {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        result => result.map(drop),
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

impl Read for TcpStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.recv(buffer, self.is_only())
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.inner.recv_vectored(buffers, self.is_only())
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.recv(buffer, false)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.inner.recv_vectored(buffers, false)
    }
}

impl Write for TcpStream {
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.inner.send(buffer, self.is_only())
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.send_vectored(buffers, self.is_only())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &TcpStream {
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

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.source.as_fd()
    }
}

impl AsRawFd for TcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl TryFrom<std::net::TcpStream> for TcpStream {
    type Error = io::Error;

    /// Takes over a stream of std's, and makes it non-blocking.
    fn try_from(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        socket::set_nonblocking(stream.as_fd())?;
        Ok(TcpStream::from_source(stream.into()))
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
    source: Source,
}

impl TcpListener {
    /// Listens on the first of the addresses that can be bound. SO_REUSEADDR is set, as by std; up to 4096 connections
    /// wait to be accepted. Works outside a runtime.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and listen(2).
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let listener = std::net::TcpListener::bind(address)?;
        socket::listen(listener.as_fd(), BACKLOG)?;
        TcpListener::try_from(listener)
    }

    /// Accepts a connection, non-blocking and close-on-exec from birth (accept4(2)). Parks only if none waits.
    ///
    /// # Errors
    /// Those of accept(2): `ECONNABORTED`, `EMFILE` and the like concern one connection or the moment, not the
    /// listener. `NotConnected` after [`close`](TcpListener::close).
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let operation = Operation {
            direction: Direction::Read,
            reason: BlockedOn::Accept,
            limit: None,
            exclusive: false,
        };
        let (fd, peer) = retry(&self.source, operation, socket::accept, |_| false)?;
        if let Some(capability) = current::get() {
            capability.remote().counters().accepts.count();
        }
        Ok((TcpStream::from_source(fd), peer))
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
        socket::set_nodelay(self.as_fd(), on)
    }

    /// Ends accepting, from any thread: whoever waits in [`accept`](TcpListener::accept), and whoever comes later, gets
    /// `NotConnected`. The descriptor itself is closed when the listener is dropped, so that connections that wait to
    /// be accepted can still be handed to somebody else until then.
    pub fn close(&self) {
        self.source.object().close(&mut wake_all);
    }

    /// Ends listening itself (shutdown(2)), where [`close`](TcpListener::close) ends this program's accepting only:
    /// connections that wait to be accepted are reset, and later ones are refused. Call it after `close`, which says so
    /// to whoever waits in [`accept`](TcpListener::accept).
    ///
    /// It concerns the socket, not the descriptor: a duplicate that was handed over stops listening too.
    ///
    /// # Errors
    /// Those of shutdown(2): `NotConnected` if the socket does not listen any more.
    pub fn stop_listening(&self) -> io::Result<()> {
        socket::shutdown(self.as_fd(), Shutdown::Read)
    }

    /// A second descriptor for the listening socket (dup(2)), to hand over.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn duplicate_fd(&self) -> io::Result<OwnedFd> {
        self.source.duplicate_fd()
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl TryFrom<std::net::TcpListener> for TcpListener {
    type Error = io::Error;

    /// Takes over a listener of std's (or one inherited as a descriptor), and makes it non-blocking.
    fn try_from(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        socket::set_nonblocking(listener.as_fd())?;
        Ok(TcpListener { source: Source::new(listener.into()) })
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TcpListener");
        if let Ok(address) = self.local_addr() {
            debug.field("addr", &address);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}
