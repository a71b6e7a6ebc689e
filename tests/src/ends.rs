//! How a call that waits on a socket ends, in each of the ways that are not its own: one matrix for all kinds of sockets.

use crate::{on_capabilities, spawn_on, until_blocked};
use bast::BlockedOn;
use bast::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);

/// What can end a wait on a connected or bound socket.
pub trait Socket: Send + Sync + 'static {
    /// Limits waits in both directions.
    fn set_limit(&self, limit: Duration) -> io::Result<()>;
    /// Makes waits fail.
    fn expire(&self);
    /// Makes all calls fail.
    fn close(&self);
}

/// What can end a wait on a listener.
pub trait Listener: Send + Sync + 'static {
    /// Makes all calls fail.
    fn close(&self);
}

macro_rules! sockets {
    ($($Type:ty),*) => {$(
        impl Socket for $Type {
            fn set_limit(&self, limit: Duration) -> io::Result<()> {
                self.set_read_timeout(Some(limit))?;
                self.set_write_timeout(Some(limit))
            }

            fn expire(&self) {
                self.expire();
            }

            fn close(&self) {
                self.close();
            }
        }
    )*};
}

macro_rules! listeners {
    ($($Type:ty),*) => {$(
        impl Listener for $Type {
            fn close(&self) {
                self.close();
            }
        }
    )*};
}

sockets!(TcpStream, UnixStream, UnixDatagram, UdpSocket);
listeners!(TcpListener, UnixListener);

/// Checks that `call`, which waits for ever, is ended by a kill, by its timeout, and by the socket's end from another
/// thread, on the same capability and on another. `make` gives the socket, and whatever must live as long.
pub fn a_wait_ends_in_each_way<S: Socket, K: Send + 'static>(
    make: impl Fn() -> (S, K),
    call: fn(&S) -> io::Result<()>,
    blocked: fn(BlockedOn) -> bool,
) {
    for capabilities in [1, 2] {
        let start = move |socket: &Arc<S>| {
            let socket = Arc::clone(socket);
            let thread = spawn_on(1, move || call(&socket).unwrap_err().kind());
            until_blocked(1, blocked);
            thread
        };
        let (socket, kept) = make();
        on_capabilities(capabilities, move || {
            let _kept = kept;
            let socket = Arc::new(socket);
            let thread = start(&socket);
            thread.thread().kill();
            assert!(thread.join().unwrap_err().is_killed());

            // The killed one has left nothing behind: the next waits like the first.
            let thread = start(&socket);
            socket.expire();
            assert_eq!(thread.join().unwrap(), ErrorKind::TimedOut);
        });

        let (socket, kept) = make();
        on_capabilities(capabilities, move || {
            let _kept = kept;
            let begin = Instant::now();
            socket.set_limit(SHORT).unwrap();
            assert_eq!(call(&socket).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(begin.elapsed() >= SHORT);
        });

        let (socket, kept) = make();
        on_capabilities(capabilities, move || {
            let _kept = kept;
            let socket = Arc::new(socket);
            // The first has the direction, the second waits for it.
            let threads = [start(&socket), {
                let socket = Arc::clone(&socket);
                bast::spawn(move || call(&socket).unwrap_err().kind())
            }];
            until_blocked(1, |what| matches!(what, BlockedOn::Direction(_)));
            socket.close();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), ErrorKind::NotConnected);
            }
            assert_eq!(call(&socket).unwrap_err().kind(), ErrorKind::NotConnected);
        });
    }
}

/// The same for `accept`, which has no limit of time.
pub fn an_accept_ends_in_each_way<L: Listener>(make: impl Fn() -> L, call: fn(&L) -> io::Result<()>) {
    for capabilities in [1, 2] {
        let listener = make();
        on_capabilities(capabilities, move || {
            let listener = Arc::new(listener);
            let start = || {
                let listener = Arc::clone(&listener);
                let thread = spawn_on(1, move || call(&listener).unwrap_err().kind());
                until_blocked(1, |what| matches!(what, BlockedOn::Accept(_)));
                thread
            };
            let thread = start();
            thread.thread().kill();
            assert!(thread.join().unwrap_err().is_killed());
            let thread = start();
            listener.close();
            assert_eq!(thread.join().unwrap(), ErrorKind::NotConnected);
        });
    }
}
