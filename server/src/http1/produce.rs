//! How a response goes out whose body is written while it is sent, and what is told where that breaks off.
#![forbid(unsafe_code)]

use std::any::Any;
use std::io;
use std::panic::AssertUnwindSafe;

use crate::error::Error;
use crate::hooks::FaultKind;
use crate::http1::call::{internal_error, within};
use crate::http1::encode::Length;
use crate::http1::exchange::Exchange;
use crate::http1::head::Head;
use crate::http1::persistence::Persistence;
use crate::http1::send::{Form, Outgoing};
use crate::http1::stream::BodyWriter;
use crate::http1::wire::Wire;
use crate::message::{Method, Status, list};
use crate::meter::Meter;
use crate::middleware::{Described, log_panic, panic_message};
use crate::printable::Printable;
use crate::request::Request;
use crate::response::{Body, IntoResponse as _, Response};

/// A response whose end is that of the connection (HTTP/1.0). Unless it was sent whole, the connection is reset, also where its
/// thread is killed meanwhile: the client would take the part for the whole.
pub(crate) struct Cut<'w> {
    pub(crate) wire: &'w Wire,
    pub(crate) is_whole: bool,
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.wire.activity().transport().reset_on_close();
        }
    }
}

/// Sends a response of whatever kind. What it is replaced by may change its form.
#[inline]
pub(crate) fn send(exchange: &mut Exchange<'_>, form: &mut Form, response: &mut Response) -> io::Result<()> {
    if response.streams_to(form.without_body) {
        return send_stream(exchange, form, response);
    }
    let Exchange { wire, service, .. } = *exchange;
    Outgoing { wire, service, form: *form }.send(response)
}

/// Sends the head, and lets the body be written behind it. A panic in the producer is an error like others; a kill goes on
/// unwinding. Where it fails before anything was sent, the answer to that takes the response's place.
#[inline(never)]
fn send_stream(exchange: &mut Exchange<'_>, form: &mut Form, response: &mut Response) -> io::Result<()> {
    let Exchange { wire, service, .. } = *exchange;
    let mut counted = Counted {
        // One that is made ahead is counted in its turn.
        meter: wire.activity().meter().filter(|_| !wire.is_ahead()),
        // The name of another may go with the body that is read; it is not counted by its name.
        method: exchange.input.head.well_known.unwrap_or(Method::Other("")),
        status: response.status(),
    };
    if response.reads_request() {
        // Behind the head of the response it would be too late to ask for the body.
        exchange.reader().ask()?;
    }
    let begin = wire.position();
    Outgoing { wire, service, form: *form }.compose_apart(response, None);
    let Err(failure) = produce(exchange, form.length, response.take_body()) else { return Ok(()) };
    if !wire.take_back(begin) {
        return Err(failure.tell(exchange));
    }
    *response = failure.answer(exchange);
    counted.status = response.status();
    // Part of the request may have been read that was not to be expected.
    if !exchange.can_finish() {
        form.persistence = Persistence::Close;
    }
    *form = Form::new(exchange.asked(), response, form.persistence);
    Outgoing { wire, service, form: *form }.send(response)
}

/// Lets a body be written, whose length was announced like this.
fn produce(exchange: &mut Exchange<'_>, length: Length, body: Body) -> Result<(), BrokenOff> {
    let Exchange { wire, head_at, deadline, .. } = *exchange;
    let Body::Stream(stream) = body else { unreachable!("produce: a body that is no stream") };
    let mut reader = exchange.reader();
    let wants_trailers = accepts_trailers(&reader.input.head, reader.input.since(head_at));
    let Some(mut writer) = BodyWriter::new(wire, length, wants_trailers) else { return Ok(()) };
    let produced = bast::catch_unwind(AssertUnwindSafe(|| {
        within(deadline, || (stream.produce)(&mut reader, &mut writer))
            .unwrap_or_else(|elapsed| Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)))
    }));
    match produced {
        Ok(Ok(())) => writer.finish().map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => BrokenOff::Short(error),
            _ => BrokenOff::Failed(error),
        }),
        Ok(Err(error)) => Err(BrokenOff::Failed(error)),
        Err(payload) if bast::is_interrupt(&*payload) => bast::resume_unwind(payload),
        Err(payload) => Err(BrokenOff::Panicked(payload)),
    }
}

/// Counts the response at its end, also where its thread is killed before.
struct Counted<'w> {
    meter: Option<&'w Meter>,
    method: Method<'static>,
    status: Status,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(meter) = self.meter {
            meter.counts(Some(self.method), self.status);
        }
    }
}

/// Why the producer of a body did not get to its end.
enum BrokenOff {
    /// It wrote less than it had announced.
    Short(io::Error),
    Failed(io::Error),
    Panicked(Box<dyn Any + Send>),
}

impl BrokenOff {
    /// The answer to a request of whose response nothing has been sent: the same as if the handler had failed.
    #[cold]
    #[inline(never)]
    fn answer(self, exchange: &mut Exchange<'_>) -> Response {
        let wire = exchange.wire;
        let request = routed(exchange);
        match self {
            BrokenOff::Panicked(payload) => {
                log_panic(&request, &*payload);
                wire.activity().failed(FaultKind::Panicked, &panic_message(&*payload));
                internal_error()
            }
            BrokenOff::Short(_) => {
                const WHAT: &str = "a body shorter than announced";
                log::error!("{} {:?}: {WHAT}", request.method(), request.path());
                wire.activity().failed(FaultKind::Faulty, &WHAT);
                internal_error()
            }
            BrokenOff::Failed(error) => {
                let mut response = Error::from(error).into_response();
                response.log_cause(&Described(&request));
                response
            }
        }
    }

    /// Says so in the log and to the hooks. Where the client's side had failed before, the hooks know, and the producer is not to blame
    /// for what it made of that.
    #[cold]
    #[inline(never)]
    fn tell(self, exchange: &mut Exchange<'_>) -> io::Error {
        let wire = exchange.wire;
        let request = routed(exchange);
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
        log::log!(level, "{}: {what}: {}", Described(&request), Printable(&error));
        if !is_clients {
            wire.activity().failed(FaultKind::BrokenOff, &error);
        }
        error
    }
}

/// The request, with the route that answered it, for the log.
fn routed<'e>(exchange: &'e mut Exchange<'_>) -> Request<'e> {
    let route = exchange.route;
    let mut request = exchange.request();
    if let Some(route) = route {
        request.set_route(route);
    }
    request
}

/// Did the client say `TE: trailers` (RFC 9110 §10.1.4)?
fn accepts_trailers(head: &Head, bytes: &[u8]) -> bool {
    let te = head.fields.iter().filter(|field| field.name.of(bytes).eq_ignore_ascii_case(b"te"));
    te.flat_map(|field| list(field.value.of(bytes))).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}
