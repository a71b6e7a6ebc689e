//! Functions of the program that are told what becomes of connections.
//!
//! ```
//! use bast_server::{Hooks, Settings};
//!
//! let hooks = Hooks::new()
//!     .on_open(|peer| !peer.ip().is_unspecified()) // `false` closes the connection at once
//!     .on_close(|closed| println!("{}: {} requests, {:?}", closed.peer, closed.requests, closed.cause))
//!     .on_error(|fault| eprintln!("{fault:?}")); // escaped: it may hold what a client sent
//! let settings = Settings { hooks, ..Settings::default() };
//! # drop(settings);
//! ```
//! # Where they run
//! All of them run on the connection's own green thread, in its stack, and delay that connection only. They may block as
//! a handler may, with one exception: `on_error` for a failed write can be in the middle of a park of the handler
//! and should not wait for anything. A slow `on_close` also delays the end of a drain. `on_close` runs with exceptions from outside
//! deferred ([`bast::mask`](bast::mask())), so that it is not lost to a kill. A hook that panics is logged, and
//! nothing else happens, but that an `on_open` that panics has let nobody in: the connection is closed.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use crate::message::Status;
use crate::timeout::Phase;

type OnOpen = dyn Fn(SocketAddr) -> bool + Send + Sync;
type OnClose = dyn Fn(&Closed) + Send + Sync;
type OnError = dyn Fn(&Fault<'_>) + Send + Sync;

/// What is called when connections open, close and fail; see [`Settings::hooks`](crate::Settings). None by default.
#[derive(Clone, Default)]
pub struct Hooks {
    open: Option<Arc<OnOpen>>,
    close: Option<Arc<OnClose>>,
    error: Option<Arc<OnError>>,
}

impl Hooks {
    /// No hooks.
    #[must_use]
    pub fn new() -> Hooks {
        Hooks::default()
    }

    /// Sets what is called with the client's address (that of the PROXY header where there is one) before anything is
    /// read from a connection. If it returns `false`, or panics, the connection is
    /// closed without a word.
    #[must_use]
    pub fn on_open(mut self, hook: impl Fn(SocketAddr) -> bool + Send + Sync + 'static) -> Hooks {
        self.open = Some(Arc::new(hook));
        self
    }

    /// Sets what is called when a connection is over, however it ended, once for each that `on_open` let in; the socket
    /// is closed right afterwards.
    #[must_use]
    pub fn on_close(mut self, hook: impl Fn(&Closed) + Send + Sync + 'static) -> Hooks {
        self.close = Some(Arc::new(hook));
        self
    }

    /// Sets what is called when something fails. What a handler makes an [`Error`](crate::Error) of is an answer like
    /// others, and none of this.
    #[must_use]
    pub fn on_error(mut self, hook: impl Fn(&Fault<'_>) + Send + Sync + 'static) -> Hooks {
        self.error = Some(Arc::new(hook));
        self
    }

    /// Is there none?
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_none() && self.close.is_none() && self.error.is_none()
    }

    /// May this client come in? Not where the hook that is to decide it cannot.
    pub(crate) fn opened(&self, peer: SocketAddr) -> bool {
        self.open.as_ref().is_none_or(|hook| guarded("on_open", || hook(peer)).unwrap_or(false))
    }

    pub(crate) fn closed(&self, closed: &Closed) {
        if let Some(hook) = &self.close {
            bast::mask(|_| guarded("on_close", || hook(closed)));
        }
    }

    pub(crate) fn failed(&self, fault: &Fault<'_>) {
        if let Some(hook) = &self.error {
            guarded("on_error", || hook(fault));
        }
    }
}

/// Calls a hook; `None` where it panicked.
pub(crate) fn guarded<T>(name: &str, hook: impl FnOnce() -> T) -> Option<T> {
    match bast::catch_unwind(AssertUnwindSafe(hook)) {
        Ok(value) => Some(value),
        Err(payload) if bast::is_interrupt(&*payload) => bast::resume_unwind(payload),
        Err(_) => {
            log::error!("the hook {name} panicked");
            None
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("on_open", &self.open.is_some())
            .field("on_close", &self.close.is_some())
            .field("on_error", &self.error.is_some())
            .finish()
    }
}

/// What there is to say of a connection that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// The client.
    pub peer: SocketAddr,
    /// How many requests were answered, refused ones included.
    pub requests: u64,
    /// How many bytes were received, heads and framing included.
    pub received_bytes: u64,
    /// How many bytes were sent.
    pub sent_bytes: u64,
    /// From its acceptance on.
    pub duration: Duration,
    /// Why it ended.
    pub cause: Cause,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The client closed it between two requests, or within a head.
    Client,
    /// The last response said `Connection: close`, or was delimited by the end.
    Finished,
    /// No request came within [`TimeLimits::keep_alive_idle`](crate::TimeLimits).
    Idle,
    /// It was closed by a shutdown of the server.
    Drain,
    /// Something failed: `on_error` was told.
    Fault(FaultKind),
    /// Its thread was killed: at the end of a drain, or by somebody who found it.
    Killed,
}

/// Something that failed on a connection.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Fault<'a> {
    /// The client.
    pub peer: SocketAddr,
    /// What the connection was doing.
    pub phase: Phase,
    /// What failed.
    pub kind: FaultKind,
    /// In words. It may hold what the client sent: print it escaped.
    pub detail: &'a dyn fmt::Display,
}

impl fmt::Debug for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("peer", &self.peer)
            .field("phase", &self.phase)
            .field("kind", &self.kind)
            .field("detail", &self.detail.to_string())
            .finish()
    }
}

/// What can fail on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// A request could not be served, and was refused with this status.
    Refused(Status),
    /// A handler panicked; the client was told 500.
    Panicked,
    /// A handler returned what cannot be sent; the client was told 500.
    Faulty,
    /// A response was broken off in its middle: its producer failed or panicked, or a file became shorter.
    BrokenOff,
    /// The client did not take its response: `TimedOut` where it read too slowly.
    Write(io::ErrorKind),
    /// The header of the PROXY protocol was not there, or was malformed, or came from a stranger.
    Proxy,
    /// There was no TLS handshake, or it failed.
    Tls,
}
