//! One connection: one green thread, from its start to the closing of its socket.
//!
//! What lives here is on the thread's stack while it is parked, so it is little: the handles, and the frames of
//! `serve`. Everything is released by drop, whatever ends the thread: the client, a limit, a kill, a panic.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
#[cfg(feature = "tls")]
use std::sync::Arc;

use bast::net::TcpStream;

#[cfg(feature = "tls")]
use crate::http1::head::bad;
use crate::http1::serve::serve;
#[cfg(feature = "tls")]
use crate::http1::serve::turn_away;
use crate::http1::wire::Wire;
use crate::shared::{Live, Shared};
#[cfg(feature = "tls")]
use crate::timeout::Phase;
use crate::timeout::{Activity, Registry};
use crate::transport::Transport;
#[cfg(feature = "tls")]
use crate::transport::tls::{NoSession, TlsStream};

/// Serves a connection on the calling green thread. `live` is given up when the socket is closed.
pub(crate) fn run(stream: TcpStream, peer: SocketAddr, mut live: Live) {
    live.settle(bast::capability().index());
    let shared = live.shared();
    let registry = Registry::of(shared.service.id, shared.time_limits);
    let activity = Activity::new(transport(shared, stream), Some(bast::current()));
    let _membership = registry.register(&activity);
    registry.ensure_sweeper();
    let wire = Wire::new(activity);
    #[cfg(feature = "tls")]
    if !is_secured(shared, &wire, peer) {
        return;
    }
    bast::with_park_hook(&|| wire.flush_before_park(), || serve(&wire, &shared.service, Some(peer)));
}

#[cfg(feature = "tls")]
fn transport(shared: &Shared, stream: TcpStream) -> Transport {
    match shared.tls {
        None => Transport::Tcp(stream),
        Some(_) => Transport::Tls(Box::new(TlsStream::new(stream))),
    }
}

#[cfg(not(feature = "tls"))]
fn transport(_: &Shared, stream: TcpStream) -> Transport {
    Transport::Tcp(stream)
}

/// Is the connection as secure as it has to be? Makes it so, under the limit of a head.
#[cfg(feature = "tls")]
#[inline(never)]
fn is_secured(shared: &Shared, wire: &Wire, peer: SocketAddr) -> bool {
    let activity = wire.activity();
    let (Some(config), Transport::Tls(stream)) = (&shared.tls, activity.transport()) else { return true };
    activity.enter(Phase::Head);
    if shared.is_stopping() {
        // As for a head: what is there by now is taken, more is not waited for.
        activity.expire();
    }
    let Err(none) = stream.handshake(Arc::clone(config)) else { return true };
    log::debug!("{peer}: {none}");
    match none {
        NoSession::PlainHttp => {
            let reason = "this is a port for HTTPS, and the request came without TLS";
            turn_away(wire, &shared.service, &bad(reason));
        }
        NoSession::Failed(_) => {
            activity.enter(Phase::Linger);
            stream.drop_input(shared.service.limits.linger_bytes_max);
        }
        NoSession::Gone(_) => {}
    }
    false
}
