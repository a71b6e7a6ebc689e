#![forbid(unsafe_code)]
//! What listening sockets have in common.

use super::wait::{Announced, read_now};
use super::{Operation, retry};
use crate::io_manager::{Direction, Source};
use crate::sys::socket::{self, Address};
use crate::thread::block::BlockedOn;
use std::io;
use std::os::fd::OwnedFd;

/// How many connections may wait to be accepted; the kernel caps it at net.core.somaxconn (4096 by default).
/// std asks for 128, which a burst of a thousand clients overflows.
pub(super) const BACKLOG: i32 = 4096;

#[derive(Debug)]
pub(super) struct Listening {
    source: Source,
}

impl Listening {
    /// `fd` must be non-blocking.
    pub(super) fn new(fd: OwnedFd) -> Listening {
        Listening { source: Source::new(fd) }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.source.into_fd()
    }

    pub(super) fn accept<A: Address>(&self) -> io::Result<(OwnedFd, A)> {
        let operation = Operation {
            direction: Direction::Read,
            reason: BlockedOn::Accept,
            limit: None,
            exclusive: false,
            announced: Announced::ByEvent,
        };
        retry(&self.source, operation, socket::accept, |_| false)
    }

    pub(super) fn try_accept<A: Address>(&self) -> io::Result<Option<(OwnedFd, A)>> {
        read_now(&self.source, socket::accept)
    }
}

/// What each listener has, whatever the protocol: ends, and the way from and to descriptors. The type has the one field
/// `listening: Listening`.
macro_rules! listener_handle {
    ($Type:ident, $std:ty) => {
        impl<'a> From<&'a $Type> for $crate::net::Socket<'a> {
            fn from(this: &'a $Type) -> $crate::net::Socket<'a> {
                $crate::net::Socket::new(this.listening.source())
            }
        }

        impl $Type {
            /// Ends accepting, from any thread: whoever waits in `accept`, and whoever comes later, gets
            /// `NotConnected`. The descriptor itself is closed when the listener is dropped, so that connections that
            /// wait to be accepted can still be handed to somebody else until then.
            pub fn close(&self) {
                self.listening.source().object().close(&mut crate::scheduler::wake_all);
            }

            /// Ends listening itself (shutdown(2)), where `close` ends this program's accepting only: connections that
            /// wait to be accepted are reset, and later ones are refused. Call it after `close`, which says so to
            /// whoever waits in `accept`.
            ///
            /// It concerns the socket, not the descriptor: a duplicate that was handed over stops listening too.
            ///
            /// # Errors
            /// Those of shutdown(2): `NotConnected` if the socket does not listen any more.
            pub fn stop_listening(&self) -> io::Result<()> {
                crate::sys::socket::shutdown(self.as_fd(), std::net::Shutdown::Read)
            }

            /// A second descriptor for the listening socket (dup(2)), to hand over.
            ///
            /// # Errors
            /// Those of dup(2).
            pub fn duplicate_fd(&self) -> io::Result<OwnedFd> {
                self.listening.source().duplicate_fd()
            }
        }

        impl AsFd for $Type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.listening.source().as_fd()
            }
        }

        impl AsRawFd for $Type {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }

        impl TryFrom<OwnedFd> for $Type {
            type Error = io::Error;

            /// Takes over a descriptor (one that was handed over, say), which is not looked at but made non-blocking.
            fn try_from(fd: OwnedFd) -> io::Result<$Type> {
                crate::sys::pipe::set_nonblocking(fd.as_fd(), true)?;
                Ok($Type { listening: Listening::new(fd) })
            }
        }

        impl TryFrom<$std> for $Type {
            type Error = io::Error;

            /// Takes over a listener of std's, and makes it non-blocking.
            fn try_from(listener: $std) -> io::Result<$Type> {
                $Type::try_from(OwnedFd::from(listener))
            }
        }

        impl From<$Type> for OwnedFd {
            /// The descriptor, which stays non-blocking.
            fn from(listener: $Type) -> OwnedFd {
                listener.listening.into_fd()
            }
        }
    };
}

pub(super) use listener_handle;
