#![forbid(unsafe_code)]
//! Unix listeners.

use super::UnixStream;
use crate::net::listening::{BACKLOG, Listening, listener_handle};
use crate::sys::socket;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

/// A listening Unix socket, in the manner of `std::os::unix::net::UnixListener`. Dropping it leaves its path in the file
/// system, as with std's.
pub struct UnixListener {
    listening: Listening,
}

impl UnixListener {
    /// Listens at a path, where nothing may be yet. Up to 4096 connections wait to be accepted. Works outside a runtime.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2): `AddrInUse` if there is something at the path.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        UnixListener::bind_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Listens at an address. An abstract one (`std::os::linux::net::SocketAddrExt`) needs no file and goes with the
    /// listener.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixListener> {
        let listener = net::UnixListener::bind_addr(address)?;
        socket::listen(listener.as_fd(), BACKLOG)?;
        UnixListener::try_from(listener)
    }

    /// Accepts a connection, non-blocking and close-on-exec from birth (accept4(2)). Parks only if none waits.
    ///
    /// # Errors
    /// Those of accept(2): `ECONNABORTED`, `EMFILE` and the like concern one connection or the moment, not the
    /// listener. `NotConnected` after [`close`](UnixListener::close).
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (fd, peer) = self.listening.accept()?;
        Ok((UnixStream::from_fd(fd), peer))
    }

    /// Accepts one connection after another.
    pub fn incoming(&self) -> impl Iterator<Item = io::Result<UnixStream>> + '_ {
        std::iter::repeat_with(|| self.accept().map(|(stream, _)| stream))
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::local_addr(self.as_fd())
    }
}

listener_handle!(UnixListener, net::UnixListener);

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UnixListener");
        if let Ok(address) = self.local_addr() {
            debug.field("local", &address);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}
