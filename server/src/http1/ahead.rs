//! Pipelined requests that are handled at the same time, where [`Settings`](crate::Settings) ask for that.
//!
//! ```text
//!   received   GET /a   GET /b   GET /c   POST /d   GET /e
//!                │        │        │
//!              thread   thread   thread              each with a wire of its own, which holds
//!                └──▶ sent ──▶ sent ──▶ sent         in this order
//! ```
//! The row ends before a request that is not wholly received, has a body, is not safe, or may end the connection: such a one is
//! served as always, when the row is done. Safe methods only, because those behind a request that changes something must see the
//! change (RFC 9112 §9.3.2).
//!
//! The threads are those of a scope in the frame of [`serve`]: whatever ends the connection ends them, and it waits for that. They
//! stay on this capability, so they share what the connection has. What one writes is held by its own wire until its turn comes
//! (Note [turn] in `wire.rs`). The phase of the connection is the business of whoever has the turn.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;

use bast::{Builder, Label, Scope, ScopedJoinHandle};

use crate::buffer::{Buffers, Input};
use crate::http1::call::call;
use crate::http1::exchange::{After, Ending, Exchange, metered};
use crate::http1::head::{Framing, Head};
use crate::http1::parse::{self, Progress, Scan};
use crate::http1::persistence::Persistence;
use crate::http1::produce::send;
use crate::http1::send::Form;
use crate::http1::service::Service;
use crate::http1::switch::may_switch;
use crate::http1::wire::{HELD_BYTES_MAX, Wire};
use crate::message::{Method, Version};
use crate::sent::{Extras, Outcome};

/// Serves the row of requests that `input` begins with. `None` where it begins with none: then nothing was done.
#[inline(never)]
pub(crate) fn serve(
    wire: &Wire,
    service: &Service,
    peer: &Option<SocketAddr>,
    input: &mut Input,
) -> Option<After> {
    // A handler may be tested without a runtime; there are no threads then.
    if !bast::is_green() || !is_pipelined(input.unread()) {
        return None;
    }
    let connection = Connection { wire, service, peer };
    let mut candidate = Some(connection.candidate(input, 0)?);
    bast::scope(|scope| {
        let mut row = VecDeque::new();
        let mut is_begun = false;
        loop {
            while let Some(buffers) = candidate.take() {
                match connection.start(scope, buffers, input) {
                    Ok(started) => row.push_back(started),
                    // No thread is to be had: what cannot be handled ahead is handled in its turn.
                    Err(error) => {
                        log::debug!("a pipelined request waits for its turn: {error}");
                        break;
                    }
                }
                if row.len() < service.parallel {
                    candidate = connection.candidate(input, row.len());
                }
            }
            let Some(first) = row.pop_front() else {
                return is_begun.then_some(After::Request);
            };
            is_begun = true;
            let is_last = row.is_empty() && input.is_empty();
            let after = metered(wire, || first.settle(is_last));
            if !matches!(after, After::Request) {
                scope.cancel();
                return Some(after);
            }
            candidate = connection.candidate(input, row.len());
        }
    })
}

/// Is there more than one head, or the beginning of one?
fn is_pipelined(unread: &[u8]) -> bool {
    let end = unread.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    end.is_some_and(|end| end + 4 < unread.len())
}

/// What all requests of the row have in common.
#[derive(Clone, Copy)]
struct Connection<'c> {
    wire: &'c Wire,
    service: &'c Service,
    peer: &'c Option<SocketAddr>,
}

impl<'c> Connection<'c> {
    /// Buffers with the next head, if that may be handled behind `ahead` others whose turn is yet to come.
    fn candidate(self, input: &Input, ahead: usize) -> Option<Box<Buffers>> {
        let Connection { wire, service, .. } = self;
        let number = wire.activity().requests() as usize + ahead + 1;
        // The last one ends the connection.
        if service.is_draining() || number >= service.limits.requests_per_connection_max as usize {
            return None;
        }
        let mut buffers = Buffers::take();
        let unread = input.unread();
        let parsed = parse::parse(unread, &mut Scan::default(), &service.limits, &mut buffers.input.head);
        if !matches!(parsed, Ok(Progress::Complete)) || !may_be_ahead(&buffers.input.head, unread) {
            buffers.give_back();
            return None;
        }
        let len = buffers.input.head.len;
        buffers.input.hold(&unread[..len]);
        Some(buffers)
    }

    /// Starts the thread for a candidate, and takes its head from the input.
    fn start<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        mut buffers: Box<Buffers>,
        input: &mut Input,
    ) -> io::Result<Ahead<'scope>>
    where
        'c: 'scope,
    {
        let len = buffers.input.head.len;
        let is_last = input.unread().len() == len;
        let method = buffers.input.head.well_known;
        let wire = Rc::new(self.wire.ahead(mem::take(&mut buffers.output)));
        // As the connection's own thread; see `listener.rs`.
        let mut builder = Builder::new().preempt_at_allocation(false);
        if let Some(peer) = *self.peer {
            builder = builder.label(Label::Peer("ahead", peer));
        }
        if let Some(bytes) = self.service.stack_bytes {
            builder = builder.stack_size(bytes);
        }
        let held = Rc::clone(&wire);
        let thread = scope.spawn_local_with(builder, move || self.answer(&held, buffers, is_last))?;
        input.consume(len);
        Ok(Ahead { connection: self.wire, wire, method, thread: Some(thread), is_settled: false })
    }

    /// Handles one request, and writes the response to its wire.
    fn answer(self, wire: &Wire, mut buffers: Box<Buffers>, is_last: bool) -> Answered {
        let exchange = Exchange::new(wire, self.service, self.peer, &mut buffers.input, 0);
        let (persistence, extras) =
            bast::with_park_hook(&|| wire.flush_before_park(), || respond(exchange, is_last));
        let outcome = wire.outcome(persistence.is_some());
        Answered { buffers, extras, outcome, persistence }
    }
}

/// Does this head make a request that may be handled beside others? All of it is there, it changes nothing, and it does not end the
/// connection.
fn may_be_ahead(head: &Head, bytes: &[u8]) -> bool {
    let is_safe =
        matches!(head.well_known, Some(Method::Get | Method::Head | Method::Options | Method::Trace));
    is_safe
        && head.version == Version::Http11
        && head.framing == Framing::Empty
        && !head.expect_continue
        && head.options.persistence(head.version) == Persistence::Reuse
        && !head.fields.iter().any(|field| field.name.of(bytes).eq_ignore_ascii_case(b"upgrade"))
}

/// Calls the handler, and writes its response. Returns what becomes of the connection, if the response is whole, and who wants to be
/// told.
fn respond(mut exchange: Exchange<'_>, is_last: bool) -> (Option<Persistence>, Option<Box<Extras>>) {
    let Exchange { wire, service, .. } = exchange;
    let asked = exchange.asked();
    exchange.begin();
    let deadline = exchange.deadline;
    let mut request = exchange.request();
    let mut response = None;
    let response = call::<true>(service, deadline, &mut request, &mut response);
    if response.is_upgrade() {
        let switches = may_switch(&request, response);
        debug_assert!(!switches, "ahead: the client offered another protocol");
    }
    let route = request.route();
    let extras = request.take_extras();
    exchange.route = route;
    let ending = extras.map(|extras| Ending::new(wire, extras));
    // As in the sequence, what has arrived meanwhile is answered: it is not lost by a close.
    let ends_drain = is_last && service.is_draining() && wire.activity().transport().unread_bytes() == 0;
    let closes = response.closes() || ends_drain;
    let persistence = if closes { Persistence::Close } else { Persistence::Reuse };
    let mut form = Form::new(asked, response, persistence);
    let sent = send(&mut exchange, &mut form, response);
    (sent.is_ok().then_some(form.persistence), ending.and_then(Ending::leave))
}

/// A request whose turn has not come.
struct Ahead<'scope> {
    /// That of the connection.
    connection: &'scope Wire,
    wire: Rc<Wire>,
    method: Option<Method<'static>>,
    /// Until it is joined.
    thread: Option<ScopedJoinHandle<'scope, Answered>>,
    /// Its turn came: from then on it is the connection's request like others.
    is_settled: bool,
}

/// What its thread leaves, besides what its wire holds.
struct Answered {
    buffers: Box<Buffers>,
    extras: Option<Box<Extras>>,
    outcome: Outcome,
    /// What becomes of the connection; nothing good where the response broke off.
    persistence: Option<Persistence>,
}

impl Ahead<'_> {
    fn is_at_work(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Its turn has come: sends its response, or leaves it to be sent with the next one unless it is the last.
    fn settle(mut self, is_last: bool) -> After {
        let wire = self.connection;
        wire.activity().begin_request();
        self.is_settled = true;
        while self.is_at_work() {
            if !wire.take_over(&self.wire) {
                bast::yield_now();
            } else if !wire.can_send() {
                return After::Broken;
            } else if wire.held() == 0 {
                self.wire.give_turn();
                break;
            } else if wire.flush().is_err() {
                return After::Broken;
            }
            // It may have written more meanwhile.
        }
        let thread = self.thread.take().expect("ahead: a request is settled once");
        let answered = thread.join();
        let is_at_rest = wire.take_over(&self.wire);
        debug_assert!(is_at_rest, "ahead: an output that is borrowed by nobody");
        if let Some(meter) = wire.activity().meter() {
            // The handlers of a row share their time.
            meter.responds(None);
        }
        let (persistence, mut told) = match answered {
            Ok(answered) => answered.take_apart(&self.wire),
            // It was killed by somebody.
            Err(_) => (None, Told::default()),
        };
        if !wire.can_send() {
            return After::Broken;
        }
        let is_held = persistence == Some(Persistence::Reuse) && !is_last && wire.held() < HELD_BYTES_MAX;
        let is_sent = is_held || wire.flush().is_ok();
        told.is_sent(is_sent);
        match persistence {
            None => After::Broken,
            Some(_) if !is_sent => After::Close,
            Some(Persistence::Reuse) if is_last => After::Idle,
            Some(Persistence::Reuse) => After::Request,
            Some(Persistence::Close) => After::Linger,
        }
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        // The scope waits for its thread, which may be waiting for its turn: in a destructor, say, where a kill does not reach it.
        self.wire.give_up();
        if !self.is_settled {
            return;
        }
        self.connection.is_answered_by(&self.wire);
        if let Some(meter) = self.connection.activity().meter()
            && let Some(status) = self.wire.status()
        {
            meter.counts(self.method, status);
        }
    }
}

impl Answered {
    /// Gives the buffers back. What is left is what becomes of the connection, and who is to be told.
    fn take_apart(mut self, wire: &Wire) -> (Option<Persistence>, Told) {
        self.buffers.output = wire.take_room();
        self.buffers.give_back();
        let is_whole = self.outcome.is_whole;
        if let Some(extras) = &mut self.extras {
            // Until it is known, which it never is where the thread is killed while it sends.
            extras.outcome = Outcome { is_whole: false, ..self.outcome };
        }
        (self.persistence, Told { extras: self.extras, is_whole })
    }
}

/// The observers, who are told when this is dropped.
#[derive(Default)]
struct Told {
    extras: Option<Box<Extras>>,
    /// The response was composed as a whole.
    is_whole: bool,
}

impl Told {
    fn is_sent(&mut self, is_sent: bool) {
        if let Some(extras) = &mut self.extras {
            extras.outcome.is_whole = self.is_whole && is_sent;
        }
    }
}

#[cfg(test)]
mod tests;
