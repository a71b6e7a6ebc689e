//! One connection: one green thread, from its start to the closing of its socket.
//!
//! What lives here is on the thread's stack while it is parked, so it is little: the handles, and the frames of
//! `serve`. Everything is released by drop, whatever ends the thread: the client, a limit, a kill, a panic. The order of that is:
//! the socket is closed, then the connection leaves the load table.
#![forbid(unsafe_code)]

use std::net::{Shutdown, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::admission::NoRoom;
use crate::hooks::{Cause, FaultKind};
use crate::http1::serve::serve;
use crate::http1::wire::Wire;
use crate::meter::Meter;
use crate::metrics::Reason;
use crate::proxy::{self, Proxied, Rejected};
use crate::refusal::ANSWER;
use crate::shared::{Live, Shared};
use crate::timeout::{Activity, Phase, Registry};
#[cfg(feature = "tls")]
use crate::tls;
use crate::whereabouts::Whereabouts;

/// Serves a connection on the calling green thread. `live` is given up when the socket is closed.
pub(crate) fn run(peer: SocketAddr, mut live: Live) {
    let stream = live.start(bast::capability().index());
    let shared = live.shared();
    let registry = Registry::of(shared.service.id, shared.time_limits);
    let activity = Activity::new(shared.transport(stream), Some(bast::current()));
    if let Some(meter) = live.meter(peer) {
        activity.set_meter(meter);
    }
    let _membership = registry.register(&activity);
    registry.ensure_sweeper();
    if shared.is_stopping() {
        registry.ensure_haste();
    }
    match activity.meter() {
        None => converse(&live, &activity, peer),
        Some(meter) => metered(shared, &activity, meter, || converse(&live, &activity, peer)),
    }
}

/// The conversation, if there is to be one.
fn converse(live: &Live, activity: &Rc<Activity>, peer: SocketAddr) {
    let Some((client, proxied)) = let_in(live, activity, peer) else { return };
    let shared = live.shared();
    let wire = Wire::new(Rc::clone(activity)).behind(proxied);
    #[cfg(feature = "tls")]
    if let Some(config) = &shared.tls
        && !tls::begin(config, &wire, &shared.service)
    {
        return;
    }
    let mut apology = Apology { wire: &wire, is_due: true };
    bast::with_park_hook(&|| wire.flush_before_park(), || serve(&wire, &shared.service, Some(client)));
    apology.is_due = false;
}

/// What a client reads whose request was received, and of whose answer nothing was sent when the thread was killed. Without
/// a body: the request may be a HEAD. Of a row of pipelined requests (`http1/ahead.rs`) it is the one whose turn it is; those behind
/// it have no answer, as where they had waited.
const KILLED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Length: 0\r\n\
    Retry-After: 1\r\n\
    Connection: close\r\n\
    \r\n";

/// Sends that while the thread unwinds, as far as it can be sent without waiting.
struct Apology<'w> {
    wire: &'w Wire,
    is_due: bool,
}

impl Drop for Apology<'_> {
    fn drop(&mut self) {
        if self.is_due && self.wire.owes_an_answer() {
            self.wire.send_last_words(KILLED);
        }
    }
}

/// Who is there, and whether they may come in.
#[inline(never)]
fn let_in(live: &Live, activity: &Activity, peer: SocketAddr) -> Option<(SocketAddr, Option<Rc<Proxied>>)> {
    let shared = live.shared();
    let proxied = match &shared.proxy_protocol {
        None => None,
        Some(protocol) => {
            if protocol.trusts(peer.ip()) {
                activity.enter(Phase::Head);
                if shared.service.is_in_haste() {
                    // As for a head: what is there by now is taken, more is not waited for.
                    activity.expire();
                }
            }
            match proxy::receive(protocol, activity, peer, shared.service.limits.head_bytes_max) {
                Ok(proxied) => proxied,
                Err(rejected) => {
                    reject(activity, peer, &rejected);
                    return None;
                }
            }
        }
    };
    let client = proxied.as_ref().map_or(peer, Proxied::client);
    if proxied.is_some()
        && let Err(no_room) = live.is_of(client.ip())
    {
        turn_away(shared, activity, no_room);
        return None;
    }
    if let Some(meter) = activity.meter()
        && !meter.opens(client)
    {
        return None;
    }
    Some((client, proxied.map(Rc::new)))
}

#[cold]
fn reject(activity: &Activity, peer: SocketAddr, rejected: &Rejected) {
    log::debug!("{}: {rejected}", Whereabouts { peer: Some(peer), phase: activity.phase() });
    activity.failed(FaultKind::Proxy, rejected);
}

/// Tells a client that it has too many connections, and waits for it to read that: it may be sending its request.
#[cold]
#[inline(never)]
fn turn_away(shared: &Shared, activity: &Activity, no_room: NoRoom) {
    shared.refusals.note(no_room.text());
    if let Some(meter) = activity.meter() {
        meter.refuses(Reason::from(no_room));
    }
    activity.enter(Phase::Linger);
    let transport = activity.transport();
    // The buffer of a new socket has room for it.
    if transport.write(ANSWER).is_err() || transport.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut left = shared.service.limits.linger_bytes_max;
    let mut piece = [0; 512];
    while let Ok(count @ 1..) = transport.read(&mut piece)
        && count as u64 <= left
    {
        left -= count as u64;
    }
}

/// Runs the conversation so that its end is told, however it comes.
fn metered(shared: &Shared, activity: &Activity, meter: &Meter, conversation: impl FnOnce()) {
    let outcome = bast::catch_unwind(AssertUnwindSafe(conversation));
    let cause = if outcome.is_err() { Cause::Killed } else { cause(shared, activity) };
    meter.closes(activity.phase(), cause);
    if let Err(payload) = outcome {
        bast::resume_unwind(payload);
    }
}

/// Why a conversation ended by itself, as far as the last phase tells.
fn cause(shared: &Shared, activity: &Activity) -> Cause {
    let is_draining = shared.service.draining.load(Ordering::Relaxed);
    match activity.phase() {
        Phase::New | Phase::Idle | Phase::Head if !activity.is_expired() => Cause::Client,
        _ if is_draining => Cause::Drain,
        Phase::New | Phase::Idle | Phase::Head => Cause::Idle,
        _ => Cause::Finished,
    }
}
