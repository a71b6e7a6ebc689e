//! One connection: one green thread, from its start to the closing of its socket.
//!
//! What lives here is on the thread's stack while it is parked, so it is little: the handles, and the frames of
//! `serve`. Everything is released by drop, whatever ends the thread: the client, a limit, a kill, a panic.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use bast::net::TcpStream;

use crate::http1::serve::serve;
use crate::http1::wire::Wire;
use crate::shared::Live;
use crate::timeout::{Activity, Registry};
use crate::transport::Transport;

/// Serves a connection on the calling green thread. `live` is given up when the socket is closed.
pub(crate) fn run(stream: TcpStream, peer: SocketAddr, mut live: Live) {
    live.settle(bast::capability().index());
    let shared = live.shared();
    let registry = Registry::of(shared.service.id, shared.time_limits);
    let activity = Activity::new(Transport::Tcp(stream), Some(bast::current()));
    let _membership = registry.register(&activity);
    registry.ensure_sweeper();
    let wire = Wire::new(activity);
    bast::with_park_hook(&|| wire.flush_before_park(), || serve(&wire, &shared.service, Some(peer)));
}
