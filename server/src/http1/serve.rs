//! The story of a connection: wait for a request, read its head, let the handler answer, send, and again.
//!
//! ```text
//!          ┌──────────────── nothing more received ──────────────────┐
//!          ▼                                                         │
//!   await_request ──first bytes──▶ read_head ──▶ handle ──▶ respond ─┴─ next one is there ─▶ read_head
//!          │                          │                        │
//!        closed,                    refused                 Close, or unread bytes
//!        idle too long                └── one answer ──▶ linger ◀┤
//!                                                                 │
//!                                     switched by a 101: another protocol
//! ```
//! The buffers are held between `await_request` and the end of the last exchange, not while the connection is idle.
//! The frames below `await_request` are what an idle connection costs: what needs stack is in calls beside it.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use crate::buffer::Input;
use crate::hooks::FaultKind;
use crate::http1::ahead;
use crate::http1::call::call;
use crate::http1::encode::Length;
use crate::http1::exchange::{After, Asked, Ending, Exchange, metered};
use crate::http1::head::Refusal;
use crate::http1::persistence::Persistence;
use crate::http1::produce::{Cut, send};
use crate::http1::receive::{NoHead, another_head_received, await_request, read_head};
use crate::http1::rest::linger;
use crate::http1::send::{Form, Outgoing};
use crate::http1::service::Service;
use crate::http1::switch::{Switched, leave_http, may_switch, switch};
use crate::http1::wire::{HELD_BYTES_MAX, Wire};
use crate::response::Response;
use crate::timeout::Phase;

/// Serves one connection to its end.
pub(crate) fn serve(wire: &Wire, service: &Service, peer: Option<SocketAddr>) {
    let mut first = true;
    while let Some(mut buffers) = await_request(wire, service, first) {
        first = false;
        loop {
            let ahead = if service.is_parallel() {
                ahead::serve(wire, service, &peer, buffers.input())
            } else {
                None
            };
            let after = match ahead {
                None => metered(wire, || exchange(wire, service, &peer, buffers.input())),
                Some(after) => after,
            };
            match after {
                After::Request => {}
                After::Idle => break,
                After::Close => return wire.in_phase(Phase::Write, || farewell(wire)),
                After::Broken => return,
                After::Linger => return linger(wire, service, buffers.input()),
                After::Upgrade(upgrade) => {
                    let received = buffers.input().unread().to_vec();
                    drop(buffers);
                    return leave_http(wire, service, upgrade, received);
                }
            }
        }
    }
    farewell(wire);
}

/// The connection ends, and nothing is missing. A client that is gone does not hear it; one that did not take all it was sent is not
/// told that this was all.
fn farewell(wire: &Wire) {
    if wire.can_send() {
        let _ = wire.activity().transport().farewell();
    }
}

/// Serves a connection that does not speak what it must: one answer, then the end.
#[cfg(feature = "tls")]
#[cold]
pub(crate) fn turn_away(wire: &Wire, service: &Service, refusal: &Refusal) {
    let mut buffers = wire.borrow_buffers();
    if matches!(refuse(wire, service, refusal), After::Linger) {
        linger(wire, service, buffers.input());
    }
}

/// One request and its response.
#[inline(never)]
fn exchange(wire: &Wire, service: &Service, peer: &Option<SocketAddr>, input: &mut Input) -> After {
    let head_at = match read_head(wire, service, input) {
        Ok(found) => found,
        Err(NoHead::Refused(refusal)) => {
            if let Some(meter) = wire.activity().meter() {
                meter.answers(None, refusal.status);
            }
            return refuse(wire, service, &refusal);
        }
        Err(NoHead::Gone) => return After::Close,
    };
    let mut exchange = Exchange::new(wire, service, peer, input, head_at);
    // Note [held output]: nobody waits for an answer while a body is still on its way.
    if !exchange.is_received() && wire.flush().is_err() {
        return After::Close;
    }
    wire.activity().begin_request();
    exchange.begin();
    let deadline = exchange.deadline;
    let mut request = exchange.request();
    let mut response = None;
    let response = call::<false>(service, deadline, &mut request, &mut response);
    let switches = response.is_upgrade() && may_switch(&request, response);
    // Whether the connection is switched, `switch` will find out; how a stream ends, `send_stream`.
    if let Some(meter) = wire.activity().meter().filter(|_| !switches) {
        if response.streams_to(request.is_head()) {
            meter.responds(Some(request.method()));
        } else {
            meter.answers(Some(request.method()), response.status());
        }
    }
    let route = request.route();
    let extras = request.take_extras();
    exchange.route = route;
    let mut conclude =
        || if switches { leave(&mut exchange, response) } else { respond(&mut exchange, response) };
    let Some(extras) = extras else { return conclude() };
    let mut ending = Ending::new(wire, extras);
    let after = conclude();
    ending.is_whole = !matches!(after, After::Broken);
    after
}

/// The one answer to a request that cannot be served.
#[cold]
fn refuse(wire: &Wire, service: &Service, refusal: &Refusal) -> After {
    log::debug!("{}: refused a request: {}: {}", wire.whereabouts(), refusal.status, refusal.reason);
    wire.activity().failed(FaultKind::Refused(refusal.status), &refusal.reason);
    let mut response =
        Response::text(format!("{}: {}\n", refusal.status, refusal.reason)).with_status(refusal.status);
    let form = Form::new(Asked::NOTHING, &response, Persistence::Close);
    if (Outgoing { wire, service, form }).send(&mut response).is_err() || wire.flush().is_err() {
        return After::Close;
    }
    After::Linger
}

/// Goes over to another protocol, if the request has come to its end.
#[cold]
fn leave(exchange: &mut Exchange<'_>, response: &mut Response) -> After {
    match switch(exchange, response) {
        Switched::To(upgrade) => After::Upgrade(upgrade),
        Switched::Refused(refusal) => refuse(exchange.wire, exchange.service, &refusal),
        Switched::Gone => After::Close,
    }
}

/// Sends the response, and decides what becomes of the connection.
fn respond(exchange: &mut Exchange<'_>, response: &mut Response) -> After {
    let Exchange { wire, service, .. } = *exchange;
    let asked = exchange.asked();
    let mut form = Form::new(asked, response, Persistence::Reuse);
    let is_stream = response.streams_to(asked.head_only);
    if asked.persistence == Persistence::Close
        || response.closes()
        || form.length == Length::UntilClose
        || wire.activity().requests() >= service.limits.requests_per_connection_max
        || !(exchange.can_finish() || is_stream && response.reads_request())
        || (service.is_draining() && !another_head_received(exchange))
    {
        form.persistence = Persistence::Close;
    }
    let mut cut = Cut { wire, is_whole: form.length != Length::UntilClose || !is_stream };
    if send(exchange, &mut form, response).is_err() {
        // Closing without the rest of a body that was announced is how the client learns that it is not whole.
        let _ = wire.flush();
        return After::Broken;
    }
    let next = after(exchange, asked, form.persistence);
    if matches!(next, After::Request) && wire.held() < HELD_BYTES_MAX {
        return next;
    }
    if wire.flush().is_err() {
        return After::Close;
    }
    cut.is_whole = true;
    // What is unread in the kernel makes a close a reset just as what is unread here.
    if matches!(next, After::Close) && wire.activity().transport().unread_bytes() > 0 {
        return After::Linger;
    }
    next
}

/// What comes behind a response that was composed as a whole.
#[inline]
fn after(exchange: &mut Exchange<'_>, asked: Asked, persistence: Persistence) -> After {
    if persistence == Persistence::Reuse {
        return if !exchange.finish() {
            After::Linger
        } else if exchange.input.is_empty() {
            After::Idle
        } else {
            After::Request
        };
    }
    // Who wanted to end and has sent no more than what was answered loses nothing when the socket is closed; where the server
    // wants to, the next request may be on its way.
    let has_nothing_left = exchange.body.is_done() && exchange.input.is_empty();
    if asked.persistence == Persistence::Close && has_nothing_left && !exchange.service.is_draining() {
        After::Close
    } else {
        After::Linger
    }
}

#[cfg(test)]
pub(crate) mod tests;
