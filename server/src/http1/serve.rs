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

use std::any::Any;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::buffer::Input;
use crate::constant::Constant;
use crate::error::Error;
use crate::handler::Handler;
use crate::hooks::FaultKind;
use crate::http1::body::{RequestBody, Step};
use crate::http1::encode::{Length, ResponseHead};
use crate::http1::head::{Framing, Head, Refusal, bad};
use crate::http1::parse::{self, Progress, Scan};
use crate::http1::persistence::Persistence;
use crate::http1::preamble::{self, Preamble};
use crate::http1::reader::BodyReader;
use crate::http1::stream::BodyWriter;
use crate::http1::wire::{HELD_BYTES_MAX, Loan, Wire};
use crate::limits::Limits;
use crate::message::{Method, Status, Version, list};
use crate::middleware::{Described, log_panic, panic_message};
use crate::printable::Printable;
use crate::request::Request;
use crate::response::{Body, Bytes, FilePart, IntoResponse as _, Response, StreamBody};
use crate::sent::Extras;
use crate::settings::Settings;
use crate::timeout::{Patience, Phase, ServerId};
use crate::upgrade::{Upgrade, Upgraded};

/// What all connections of a server share.
pub(crate) struct Service {
    pub(crate) id: ServerId,
    pub(crate) handler: Box<dyn Handler>,
    pub(crate) limits: Limits,
    /// How long a handler may take, if that is limited.
    pub(crate) handler_limit: Option<Duration>,
    /// The `Server` line, or nothing.
    pub(crate) server_line: Box<[u8]>,
    /// The server is shutting down: answer what was received, and close.
    pub(crate) draining: AtomicBool,
    /// While it does: who has connected and sent no request yet may still do so. See Note [patience] in `shutdown.rs`.
    pub(crate) patient: AtomicBool,
    /// Seconds since 1970, coarsely: for `Date`.
    pub(crate) unix_seconds: fn() -> u64,
}

impl Service {
    /// What connections share that `handler` answers.
    pub(crate) fn new(handler: Box<dyn Handler>, settings: &Settings) -> Service {
        Service {
            id: ServerId::next(),
            handler,
            limits: settings.limits.clone(),
            handler_limit: settings.time_limits.handler,
            server_line: settings.server_line(),
            draining: AtomicBool::new(false),
            patient: AtomicBool::new(false),
            unix_seconds: bast::time::coarse_unix_seconds,
        }
    }

    /// Begins to drain.
    pub(crate) fn drain(&self, patience: Patience) {
        self.patient.store(patience == Patience::WithTheNew, Ordering::SeqCst);
        self.draining.store(true, Ordering::SeqCst);
    }

    /// From now on nobody's first request is waited for.
    pub(crate) fn lose_patience(&self) {
        self.patient.store(false, Ordering::SeqCst);
    }

    fn is_draining(&self) -> bool {
        // Relaxed: the flag carries no data. A connection that misses it is expired by its capability's registry.
        self.draining.load(Ordering::Relaxed)
    }

    /// A request that has not come whole by now is not waited for. Acquire: `patient` is set before `draining`.
    pub(crate) fn is_in_haste(&self) -> bool {
        self.draining.load(Ordering::Acquire) && !self.patient.load(Ordering::Relaxed)
    }
}

/// How an exchange ended.
#[must_use]
enum After {
    /// Bytes of the next request are there.
    Request,
    /// Nothing is there: wait without buffers.
    Idle,
    /// Close at once: all that was received was answered, or nothing can be sent.
    Close,
    /// The same where the response could not be sent as a whole.
    Broken,
    /// Close so that the client can read the answer although it may still be sending.
    Linger,
    /// What comes now is no HTTP.
    Upgrade(Box<Upgrade>),
}

/// Serves one connection to its end.
pub(crate) fn serve(wire: &Wire, service: &Service, peer: Option<SocketAddr>) {
    let mut first = true;
    while let Some(mut buffers) = await_request(wire, service, first) {
        first = false;
        loop {
            let after = metered(wire, || exchange(wire, service, &peer, buffers.input()));
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
    if !wire.has_failed() {
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

/// Tells the connection's meter, if it has one, where a request begins and ends.
#[inline]
fn metered(wire: &Wire, exchange: impl FnOnce() -> After) -> After {
    let Some(meter) = wire.activity().meter() else { return exchange() };
    meter.begins();
    let after = exchange();
    meter.ends();
    after
}

/// Waits for the first bytes of a request, holding no buffer meanwhile. `None` where the connection is over.
fn await_request<'w>(wire: &'w Wire, service: &Service, first: bool) -> Option<Loan<'w>> {
    let transport = wire.activity().transport();
    wire.activity().enter(if first { Phase::New } else { Phase::Idle });
    // A new connection's request is often there already: look before waiting, which takes a registration.
    let mut wait = !first;
    loop {
        if if first { service.is_in_haste() } else { service.is_draining() } {
            wire.activity().drain(Patience::Over);
        }
        // The read behind it would wait only after a false alarm. Unlike `try_read` it notes that the socket is
        // drained, so that the next wait begins without a system call.
        if wait && let Err(error) = transport.wait_readable() {
            give_up(wire, service, &error);
            return None;
        }
        let mut buffers = wire.borrow_buffers();
        let mut nothing = false;
        let received = buffers.input().fill(0, |room| {
            if wait {
                return transport.read(room);
            }
            let received = transport.try_read(room)?;
            nothing = received.is_none();
            Ok(received.unwrap_or(0))
        });
        wait = true;
        match received {
            Ok(0) if nothing => {}
            Ok(0) | Err(_) => return None,
            Ok(count) => {
                wire.activity().count_received(count);
                return Some(buffers);
            }
        }
    }
}

/// The wait for a request ended in vain. A client that has not even taken its last answer in time gets it no more: the kernel
/// would keep that for as long as the client likes.
#[cold]
fn give_up(wire: &Wire, service: &Service, error: &io::Error) {
    let activity = wire.activity();
    if error.kind() == io::ErrorKind::TimedOut && !service.is_draining() && activity.is_delivering() {
        activity.transport().reset_on_close();
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
    let head = &input.head;
    let mut body = RequestBody::new(head.framing, &service.limits);
    // Note [held output]: nobody waits for an answer while a body is still on its way.
    let received = match head.framing {
        Framing::Empty => true,
        Framing::Sized(length) => input.unread().len() as u64 >= length,
        Framing::Chunked => false,
    };
    if !received && wire.flush().is_err() {
        return After::Close;
    }
    let mut expects_continue = head.expect_continue && input.is_empty();
    wire.activity().begin_request();
    let mut answer = Answer {
        head_at,
        version: head.version,
        asked: head.options.persistence(head.version),
        head_only: head.is_head(),
        peer,
        route: None,
    };
    let mut request = Request::new(wire, input, head_at, &mut body, &mut expects_continue, peer);
    let mut response = None;
    let response = call(wire, service, &mut request, &mut response);
    let switches = response.is_upgrade() && may_switch(&request, response);
    // Whether the connection is switched, `switch` will find out.
    if let Some(meter) = wire.activity().meter().filter(|_| !switches) {
        meter.answers(Some(request.method()), response.status());
    }
    answer.route = request.route();
    let extras = request.take_extras();
    let mut conclude = |response| {
        if switches {
            switch(wire, service, input, &mut body, expects_continue, answer, response)
        } else {
            respond(wire, service, input, &mut body, &mut expects_continue, answer, response)
        }
    };
    let Some(extras) = extras else { return conclude(response) };
    wire.begin_exchange();
    let mut ending = Ending { wire, extras, is_whole: false };
    let after = conclude(response);
    ending.is_whole = !matches!(after, After::Broken);
    after
}

/// Tells the observers of an exchange what became of it, also where its thread is killed meanwhile.
struct Ending<'w> {
    wire: &'w Wire,
    extras: Box<Extras>,
    is_whole: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.extras.outcome = self.wire.outcome(self.is_whole);
    }
}

/// Why there is no head.
enum NoHead {
    Refused(Refusal),
    /// The connection ended, or nothing can be answered any more.
    Gone,
}

/// Parses the next head into the input, waiting for as much of it as is not there. Returns where it begins.
fn read_head(wire: &Wire, service: &Service, input: &mut Input) -> Result<usize, NoHead> {
    let mut scan = Scan::default();
    let mut waiting = false;
    loop {
        let head_at = input.position();
        let (unread, head) = input.parts();
        match parse::parse(unread, &mut scan, &service.limits, head) {
            Ok(Progress::Complete) => {
                input.consume(input.head.len);
                return Ok(head_at);
            }
            Ok(Progress::Incomplete) => {}
            Err(refusal) => return Err(NoHead::Refused(refusal)),
        }
        // The blank line that some clients send behind a body (RFC 9112 §2.2) is no beginning of a head.
        if matches!(input.unread(), b"\r" | b"\r\n") {
            fill_idle(wire, service, input)?;
            continue;
        }
        if !waiting {
            // The limit is on the whole head, so its bytes do not count as progress.
            wire.flush().map_err(|_| NoHead::Gone)?;
            wire.activity().enter(Phase::Head);
            waiting = true;
            if service.is_in_haste() {
                // Entering a phase takes an expiry back; a head that is not there by now is not waited for.
                wire.activity().expire();
            }
        }
        match wire.fill(input, 0) {
            Ok(0) => return Err(NoHead::Gone),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut && !service.is_in_haste() => {
                let reason = "request head did not arrive in time";
                return Err(NoHead::Refused(Refusal { status: Status::REQUEST_TIMEOUT, reason }));
            }
            Err(_) => return Err(NoHead::Gone),
        }
    }
}

/// Waits for a head of which nothing is there but the blank line before it, as long as an idle connection may.
#[cold]
fn fill_idle(wire: &Wire, service: &Service, input: &mut Input) -> Result<(), NoHead> {
    wire.flush().map_err(|_| NoHead::Gone)?;
    wire.activity().enter(Phase::Idle);
    if service.is_draining() {
        wire.activity().expire();
    }
    match wire.fill(input, 0) {
        Ok(1..) => Ok(()),
        Ok(0) => Err(NoHead::Gone),
        Err(error) => {
            give_up(wire, service, &error);
            Err(NoHead::Gone)
        }
    }
}

/// Runs the handler, and keeps its response in `slot`, where it is until it is sent: a response is large enough that moving it
/// from frame to frame would show. A panic in the handler is a 500; a kill goes on unwinding.
#[inline]
fn call<'s>(
    wire: &Wire,
    service: &Service,
    request: &mut Request<'_>,
    slot: &'s mut Option<Response>,
) -> &'s mut Response {
    if let Some(limit) = service.handler_limit {
        wire.activity().set_handler_deadline(Instant::now().checked_add(limit));
    }
    // The request is only read and its body closed after a panic; both stay consistent at every step.
    let outcome = bast::catch_unwind(AssertUnwindSafe(|| {
        let handled = within(wire.activity().handler_deadline(), || {
            *slot = Some(service.handler.handle(request));
        });
        if let Err(elapsed) = handled {
            *slot = Some(Error::from(elapsed).into_response());
        }
    }));
    if let Some(response) = slot {
        response.log_cause(&Described(request));
    }
    if outcome.is_err() || slot.as_ref().is_none_or(Response::is_faulty) {
        log_failure(wire, request, outcome, slot.as_ref());
        *slot = Some(internal_error());
    }
    slot.as_mut().expect("serve: a handler returned without a response")
}

/// Runs code of the application until the deadline at most.
#[inline]
fn within<R>(deadline: Option<Instant>, body: impl FnOnce() -> R) -> Result<R, bast::Elapsed> {
    match deadline {
        None => Ok(body()),
        Some(deadline) => bast::timeout_at(deadline, body),
    }
}

/// Says in the log why a handler's response is not sent. A kill, and the end of a limit further out, go on unwinding.
#[cold]
#[inline(never)]
fn log_failure(
    wire: &Wire,
    request: &Request<'_>,
    outcome: std::thread::Result<()>,
    response: Option<&Response>,
) {
    let (method, path) = (request.method(), request.path());
    match outcome {
        Ok(()) => {
            let fault = response.and_then(Response::fault).unwrap_or_default();
            log::error!("{method} {path:?}: {fault}");
            wire.activity().failed(FaultKind::Faulty, &fault);
        }
        Err(payload) if bast::is_interrupt(&*payload) => bast::resume_unwind(payload),
        Err(payload) => {
            log_panic(request, &*payload);
            wire.activity().failed(FaultKind::Panicked, &panic_message(&*payload));
        }
    }
}

#[cold]
fn internal_error() -> Response {
    Response::text("500 Internal Server Error\n").with_status(Status::INTERNAL_SERVER_ERROR)
}

/// The one answer to a request that cannot be served.
#[cold]
fn refuse(wire: &Wire, service: &Service, refusal: &Refusal) -> After {
    log::debug!("refused a request: {}: {}", refusal.status, refusal.reason);
    wire.activity().failed(FaultKind::Refused(refusal.status), &refusal.reason);
    let mut response =
        Response::text(format!("{}: {}\n", refusal.status, refusal.reason)).with_status(refusal.status);
    let answer = Answer {
        head_at: 0,
        version: Version::Http11,
        asked: Persistence::Close,
        head_only: false,
        peer: &None,
        route: None,
    };
    let form = Form::new(answer, &response, Persistence::Close);
    if send(wire, service, form, &mut response).is_err() {
        return After::Close;
    }
    if wire.flush().is_err() { After::Close } else { After::Linger }
}

/// What the response has to know of its request.
#[derive(Clone, Copy)]
struct Answer<'p> {
    /// Where its head begins in the input.
    head_at: usize,
    version: Version,
    /// What the client asked for.
    asked: Persistence,
    /// It was a HEAD request.
    head_only: bool,
    /// Whose request it was.
    peer: &'p Option<SocketAddr>,
    /// The pattern of the route that answered.
    route: Option<&'static str>,
}

/// How a response goes out.
#[derive(Clone, Copy)]
struct Form {
    version: Version,
    /// Nothing follows the head.
    without_body: bool,
    length: Length,
    persistence: Persistence,
}

impl Form {
    fn new(answer: Answer<'_>, response: &Response, persistence: Persistence) -> Form {
        let allows_content = response.status().allows_content();
        let length =
            if allows_content { length_of(response, answer) } else { length_without_body(response.status()) };
        let without_body = answer.head_only || !allows_content;
        Form { version: answer.version, without_body, length, persistence }
    }
}

/// Sends the response, and decides what becomes of the connection.
fn respond(
    wire: &Wire,
    service: &Service,
    input: &mut Input,
    body: &mut RequestBody,
    expects_continue: &mut bool,
    answer: Answer<'_>,
    response: &mut Response,
) -> After {
    let mut form = Form::new(answer, response, Persistence::Reuse);
    let is_stream = matches!(response.body(), Body::Stream(_)) && !form.without_body;
    if answer.asked == Persistence::Close
        || response.closes()
        || form.length == Length::UntilClose
        || wire.activity().requests() >= service.limits.requests_per_connection_max
        || !(can_finish(body, *expects_continue, service) || is_stream && response.reads_request())
        || (service.is_draining() && !another_head_received(wire, service, input, body))
    {
        form.persistence = Persistence::Close;
    }
    let mut cut = Cut { wire, is_whole: form.length != Length::UntilClose || !is_stream };
    let sent = if is_stream {
        let reader =
            BodyReader { wire, body, expects_continue, keep: answer.head_at + input.head.len, input };
        send_stream(wire, service, form, answer, response, reader)
    } else {
        send(wire, service, form, response)
    };
    if sent.is_err() {
        // Closing without the rest of a body that was announced is how the client learns that it is not whole.
        let _ = wire.flush();
        return After::Broken;
    }
    let persistence = form.persistence;
    let next = if persistence == Persistence::Close {
        // Who wanted to end and has sent no more than what was answered loses nothing when the socket is closed; where the
        // server wants to, the next request may be on its way.
        if answer.asked == Persistence::Close && body.is_done() && input.is_empty() && !service.is_draining()
        {
            After::Close
        } else {
            After::Linger
        }
    } else if !body.is_done() && !drop_rest(wire, service, input, body) {
        After::Linger
    } else if input.is_empty() {
        After::Idle
    } else if wire.held() >= HELD_BYTES_MAX {
        After::Request
    } else {
        return After::Request;
    };
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

/// A response whose end is that of the connection (HTTP/1.0). Unless it was sent whole, the connection is reset, also where its
/// thread is killed meanwhile: the client would take the part for the whole.
struct Cut<'w> {
    wire: &'w Wire,
    is_whole: bool,
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.wire.activity().transport().reset_on_close();
        }
    }
}

/// May the connection go over to the protocol of this response? A server "MUST NOT switch to a protocol that was not indicated by the
/// client" (RFC 9110 §7.8): the response becomes a 426 then, with the fields that it has.
#[cold]
fn may_switch(request: &Request<'_>, response: &mut Response) -> bool {
    let Body::Upgrade(upgrade) = response.body() else { return false };
    let offered = request.upgrade_protocols().any(|offer| offer.eq_ignore_ascii_case(&upgrade.protocol));
    if !offered {
        response.refuse_upgrade();
    }
    offered
}

/// Sends the 101, or a refusal, and counts it. The new protocol begins behind the request (RFC 9110 §7.8), so its body must have an end that is known.
#[cold]
fn switch(
    wire: &Wire,
    service: &Service,
    input: &mut Input,
    body: &mut RequestBody,
    expects_continue: bool,
    answer: Answer<'_>,
    response: &mut Response,
) -> After {
    let well_known = input.head.well_known;
    let is_over = body.is_done()
        || (can_finish(body, expects_continue, service) && drop_rest(wire, service, input, body));
    let unread = bad("the body of a request to upgrade was left unread");
    if let Some(meter) = wire.activity().meter() {
        // The name of another may have gone with the body; it is not counted by its name.
        let method = well_known.unwrap_or(Method::Other(""));
        meter.answers(Some(method), if is_over { response.status() } else { unread.status });
    }
    if !is_over {
        return refuse(wire, service, &unread);
    }
    let form = Form::new(answer, response, Persistence::Reuse);
    if send(wire, service, form, response).is_err() || wire.flush().is_err() {
        return After::Close;
    }
    match response.take_body() {
        Body::Upgrade(upgrade) => After::Upgrade(upgrade),
        body => unreachable!("serve: switched for {body:?}"),
    }
}

/// Gives the stream to who speaks the other protocol. The buffers are back in the pool: a connection that waits for years
/// holds none.
#[cold]
#[inline(never)]
#[expect(clippy::boxed_local, reason = "the caller's frame is what an idle connection costs")]
fn leave_http(wire: &Wire, service: &Service, upgrade: Box<Upgrade>, received: Vec<u8>) {
    wire.activity().enter(Phase::Upgraded);
    if service.is_draining() {
        wire.activity().drain(Patience::Over);
    }
    let Upgrade { protocol, serve } = *upgrade;
    let (upgraded, closer) = Upgraded::new(wire.shared_activity(), received);
    match bast::catch_unwind(AssertUnwindSafe(|| serve(upgraded))) {
        Ok(()) => {}
        Err(payload) if bast::is_interrupt(&*payload) => bast::resume_unwind(payload),
        Err(payload) => {
            let message = panic_message(&*payload);
            log::error!("{protocol:?}: panicked: {message:?}");
            wire.activity().failed(FaultKind::Panicked, &message);
        }
    }
    if closer.take_back() {
        linger(wire, service, wire.borrow_buffers().input());
    }
}

/// How the end of this response's body is made known.
fn length_of(response: &Response, answer: Answer<'_>) -> Length {
    match response.body() {
        Body::Stream(StreamBody { length: None, .. }) if answer.version == Version::Http11 => Length::Chunked,
        // A HEAD response ends with its head whatever the body would have been.
        Body::Stream(StreamBody { length: None, .. }) if answer.head_only => Length::Absent,
        Body::Stream(StreamBody { length: None, .. }) => Length::UntilClose,
        body => match body_length(body) {
            // What a GET would be sent is not known: a handler of HEAD's own need not make it, and a length of 0 that is not
            // that of the GET must not be said (RFC 9110 §8.6).
            0 if answer.head_only => Length::Absent,
            length => Length::Sized(length),
        },
    }
}

/// The same for a status that allows no body. A 205 has none either, but that its head ends it is not said by RFC 9112 §6.3: a
/// client takes it from the fields (RFC 9110 §15.3.6).
#[cold]
fn length_without_body(status: Status) -> Length {
    if status == Status::RESET_CONTENT { Length::Sized(0) } else { Length::Absent }
}

/// The length of a body that has one.
fn body_length(body: &Body) -> u64 {
    match body {
        Body::Empty | Body::Upgrade(_) => 0,
        Body::Bytes(bytes) => bytes.as_slice().len() as u64,
        Body::Parts(parts) => parts_length(parts),
        Body::File(part) => part.len,
        Body::Stream(stream) => stream.length.unwrap_or(0),
    }
}

fn parts_length(parts: &[Bytes]) -> u64 {
    parts.iter().map(|part| part.as_slice().len() as u64).sum()
}

/// May the rest of the request's body be read and dropped? Known beforehand, so that the head can say `close`.
fn can_finish(body: &RequestBody, expects_continue: bool, service: &Service) -> bool {
    if body.is_done() {
        return true;
    }
    // A client that was never told to continue may send its body or not (RFC 9110 §10.1.1): nobody could tell that
    // body from the next request.
    !body.is_broken()
        && !expects_continue
        && body.sized_left().is_none_or(|left| left <= service.limits.drain_bytes_max)
}

/// During a drain: has the next request's head arrived, here or in the kernel? Then this response is not the last.
#[cold]
fn another_head_received(wire: &Wire, service: &Service, input: &mut Input, body: &RequestBody) -> bool {
    if !body.is_done() {
        return false;
    }
    let mut head = Head::default();
    loop {
        match parse::parse(input.unread(), &mut Scan::default(), &service.limits, &mut head) {
            Ok(Progress::Complete) => return true,
            Ok(Progress::Incomplete) => {}
            Err(_) => return false,
        }
        let position = input.position();
        let received =
            input.fill(position, |room| Ok(wire.activity().transport().try_read(room)?.unwrap_or(0)));
        match received {
            Ok(count @ 1..) => wire.activity().count_received(count),
            _ => return false,
        }
    }
}

/// Up to this size a body is copied behind its head, so that one buffer is sent; a memory copy of this size costs
/// about a microsecond, which is less than a system call more.
const COPIED_BYTES_MAX: usize = 16 << 10;

/// Up to this size a file is read behind its head and sent with it. Larger ones are sent by the kernel from its page
/// cache: two system calls instead of one, but no copy.
const FILE_COPIED_BYTES_MAX: u64 = 16 << 10;

/// Composes the response, which is no stream, and sends it as far as it does not fit into what may be held.
#[inline]
fn send(wire: &Wire, service: &Service, form: Form, response: &mut Response) -> io::Result<()> {
    if let Some(constant) = response.constant()
        && constant.body().len() <= COPIED_BYTES_MAX
        && !form.without_body
    {
        compose_apart(wire, service, form, response, Some(constant));
        return Ok(());
    }
    let mut output = wire.output();
    let mark = output.bytes.len();
    preamble::with(service.id, &service.server_line, (service.unix_seconds)(), |preamble| {
        head_of(response, form, preamble).encode(&mut output.bytes);
    });
    wire.begin_body(&output, response.status(), 0);
    if form.without_body {
        return Ok(());
    }
    if let Body::Bytes(bytes) = response.body()
        && bytes.as_slice().len() <= COPIED_BYTES_MAX
    {
        output.bytes.extend_from_slice(bytes.as_slice());
        return Ok(());
    }
    drop(output);
    send_body(wire, service, form, response, mark)
}

/// Composes the head of a stream, or all of a constant. Apart from the others, whose heads are composed in place: if both shared a
/// function, that would be several calls and 80 instructions for each response.
#[inline(never)]
fn compose_apart(
    wire: &Wire,
    service: &Service,
    form: Form,
    response: &Response,
    constant: Option<&Constant>,
) {
    let mut output = wire.output();
    preamble::with(service.id, &service.server_line, (service.unix_seconds)(), |preamble| {
        let head = head_of(response, form, preamble);
        match constant {
            Some(constant) => head.encode_before(constant.rest(), &mut output.bytes),
            None => head.encode(&mut output.bytes),
        }
    });
    wire.begin_body(&output, response.status(), constant.map_or(0, |constant| constant.body().len()));
}

#[inline(always)]
fn head_of<'a>(response: &'a Response, form: Form, preamble: &'a mut Preamble) -> ResponseHead<'a> {
    ResponseHead {
        status: response.status(),
        preamble,
        header_lines: response.headers().lines(),
        content_type: response.headers().content_type(),
        length: form.length,
        version: form.version,
        persistence: form.persistence,
    }
}

/// Sends the body behind a head that was composed from `mark` on.
#[inline(never)]
fn send_body(
    wire: &Wire,
    service: &Service,
    form: Form,
    response: &mut Response,
    mark: usize,
) -> io::Result<()> {
    match response.take_body() {
        Body::Empty | Body::Upgrade(_) => Ok(()),
        Body::Bytes(bytes) => wire.flush_with([bytes.as_slice()].into_iter()),
        Body::Parts(parts) if parts_length(&parts) <= COPIED_BYTES_MAX as u64 => {
            let mut output = wire.output();
            parts.iter().for_each(|part| output.bytes.extend_from_slice(part.as_slice()));
            Ok(())
        }
        Body::Parts(parts) => wire.flush_with(parts.iter().map(Bytes::as_slice)),
        Body::File(part) if part.len <= FILE_COPIED_BYTES_MAX => {
            if copy_file(wire, &part, mark) {
                return Ok(());
            }
            // Nothing of this response was sent: another can take its place.
            log::error!("a file of {} bytes could not be read at {}", part.len, part.offset);
            wire.output().bytes.truncate(mark);
            let mut response = internal_error();
            let length = Length::Sized(body_length(response.body()));
            send(wire, service, Form { length, ..form }, &mut response)
        }
        Body::File(part) => {
            let sent = wire.flush_with_file(part.file.file(), part.offset, part.len);
            if let Err(error) = &sent
                && error.kind() == io::ErrorKind::UnexpectedEof
            {
                log::error!("a file became shorter than the {} bytes announced", part.len);
            }
            sent
        }
        Body::Stream(_) => unreachable!("serve: a stream among the other bodies"),
    }
}

/// Appends a small file's part to the output, behind its head, which begins at `mark`. Fails if the file has become
/// shorter.
fn copy_file(wire: &Wire, part: &FilePart, mark: usize) -> bool {
    let Ok(len) = usize::try_from(part.len) else { return false };
    let mut output = wire.output();
    let bytes = &mut output.bytes;
    let mut at = bytes.len();
    let end = at + len;
    bytes.resize(end, 0);
    while at < end {
        match part.file.file().try_read_at(&mut bytes[at..], part.offset + (len - (end - at)) as u64) {
            Ok(Some(0)) | Err(_) => return false,
            Ok(Some(count)) => at += count,
            Ok(None) => {
                bytes.truncate(end - len);
                let mut response = bytes.split_off(mark);
                drop(output);
                return copy_cold_file(wire, part, len, &mut response);
            }
        }
    }
    true
}

/// The same for a file that has to be read from the disk first. Earlier answers are sent meanwhile; this one is kept
/// apart, so that none of it is before the file has been read.
#[cold]
fn copy_cold_file(wire: &Wire, part: &FilePart, len: usize, response: &mut Vec<u8>) -> bool {
    let start = response.len();
    response.resize(start + len, 0);
    if part.file.file().read_exact_at(&mut response[start..], part.offset).is_err() {
        return false;
    }
    wire.output().bytes.extend_from_slice(response);
    true
}

/// Sends the head, and lets the body be written behind it. A panic in the producer is an error like others; a kill goes on
/// unwinding.
#[inline(never)]
fn send_stream(
    wire: &Wire,
    service: &Service,
    form: Form,
    answer: Answer<'_>,
    response: &mut Response,
    mut reader: BodyReader<'_>,
) -> io::Result<()> {
    if response.reads_request() {
        // Behind the head of the response it would be too late to ask for the body.
        reader.ask()?;
    }
    compose_apart(wire, service, form, response, None);
    let wants_trailers = accepts_trailers(&reader.input.head, reader.input.since(answer.head_at));
    let Body::Stream(stream) = response.take_body() else { unreachable!("serve: another body as a stream") };
    let Some(mut writer) = BodyWriter::new(wire, form.length, wants_trailers) else { return Ok(()) };
    let before = wire.activity().phase();
    wire.activity().enter(Phase::Handler);
    let produced = bast::catch_unwind(AssertUnwindSafe(|| {
        within(wire.activity().handler_deadline(), || (stream.produce)(&mut reader, &mut writer))
            .unwrap_or_else(|elapsed| Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)))
    }));
    wire.activity().enter(before);
    let failure = match produced {
        Ok(Ok(())) => match writer.finish() {
            Ok(()) => return Ok(()),
            Err(error) => BrokenOff::Short(error),
        },
        Ok(Err(error)) => BrokenOff::Failed(error),
        Err(payload) if bast::is_interrupt(&*payload) => bast::resume_unwind(payload),
        Err(payload) => BrokenOff::Panicked(payload),
    };
    Err(failure.tell(wire, answer, reader))
}

/// Why the producer of a body did not get to its end.
enum BrokenOff {
    /// It wrote less than it had announced.
    Short(io::Error),
    Failed(io::Error),
    Panicked(Box<dyn Any + Send>),
}

impl BrokenOff {
    /// Says so in the log and to the hooks. Where the client's side had failed before, the hooks know, and the producer is not to blame
    /// for what it made of that.
    #[cold]
    #[inline(never)]
    fn tell(self, wire: &Wire, answer: Answer<'_>, reader: BodyReader<'_>) -> io::Error {
        let BodyReader { input, body, expects_continue, .. } = reader;
        let mut request = Request::new(wire, input, answer.head_at, body, expects_continue, answer.peer);
        if let Some(route) = answer.route {
            request.set_route(route);
        }
        let is_clients = wire.has_failed();
        let (error, level, what) = match self {
            BrokenOff::Short(error) => (error, log::Level::Error, "a body shorter than announced"),
            BrokenOff::Failed(error) => (error, log::Level::Warn, "a response was broken off"),
            BrokenOff::Panicked(payload) => {
                log_panic(&request, &*payload);
                if !is_clients {
                    wire.activity().failed(FaultKind::BrokenOff, &"its producer panicked");
                }
                return io::ErrorKind::Other.into();
            }
        };
        let (level, what) =
            if is_clients { (log::Level::Debug, "the client did not take all") } else { (level, what) };
        log::log!(level, "{} {:?}: {what}: {}", request.method(), request.path(), Printable(&error));
        if !is_clients {
            wire.activity().failed(FaultKind::BrokenOff, &error);
        }
        error
    }
}

/// Did the client say `TE: trailers` (RFC 9110 §10.1.4)?
fn accepts_trailers(head: &Head, bytes: &[u8]) -> bool {
    let te = head.fields.iter().filter(|field| field.name.of(bytes).eq_ignore_ascii_case(b"te"));
    te.flat_map(|field| list(field.value.of(bytes))).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Reads and drops the rest of a request's body, within the limit. Afterwards the next request begins.
#[cold]
fn drop_rest(wire: &Wire, service: &Service, input: &mut Input, body: &mut RequestBody) -> bool {
    body.unlimited();
    let mut left = service.limits.drain_bytes_max;
    let mut flushed = false;
    loop {
        let Ok((framing, step)) = body.step(input.unread()) else { return false };
        input.consume(framing);
        match step {
            Step::Done => return true,
            Step::Data(size) if !input.is_empty() => {
                let count = input.unread().len().min(usize::try_from(size).unwrap_or(usize::MAX));
                if count as u64 > left {
                    return false;
                }
                left -= count as u64;
                input.consume(count);
                body.took(count);
            }
            Step::Data(_) | Step::More => {
                if !flushed && wire.flush().is_err() {
                    return false;
                }
                flushed = true;
                if !matches!(wire.in_phase(Phase::Body, || wire.fill(input, 0)), Ok(1..)) {
                    return false;
                }
            }
        }
    }
}

/// Ends the output and waits for the client to close, dropping what it still sends. Closing with unread bytes would
/// send a RST, which destroys an answer that the client has not read yet (RFC 9112 §9.6).
#[cold]
fn linger(wire: &Wire, service: &Service, input: &mut Input) {
    wire.activity().enter(Phase::Linger);
    if wire.activity().transport().shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut left = service.limits.linger_bytes_max;
    loop {
        input.consume(input.unread().len());
        match wire.fill(input, 0) {
            Ok(count @ 1..) if count as u64 <= left => left -= count as u64,
            _ => return,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
