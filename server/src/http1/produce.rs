//! How a response goes out whose body is written while it is sent, and what is told where that breaks off.
#![forbid(unsafe_code)]

use std::any::Any;
use std::io;
use std::panic::AssertUnwindSafe;

use crate::hooks::FaultKind;
use crate::http1::call::within;
use crate::http1::exchange::Exchange;
use crate::http1::head::Head;
use crate::http1::send::{Form, Outgoing};
use crate::http1::stream::BodyWriter;
use crate::http1::wire::Wire;
use crate::message::list;
use crate::middleware::{Described, log_panic};
use crate::printable::Printable;
use crate::response::{Body, Response};
use crate::timeout::Phase;

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

/// Sends the head, and lets the body be written behind it. A panic in the producer is an error like others; a kill goes on
/// unwinding.
#[inline(never)]
pub(crate) fn send_stream(
    exchange: &mut Exchange<'_>,
    form: Form,
    response: &mut Response,
) -> io::Result<()> {
    let Exchange { wire, service, head_at, .. } = *exchange;
    let mut reader = exchange.reader();
    if response.reads_request() {
        // Behind the head of the response it would be too late to ask for the body.
        reader.ask()?;
    }
    Outgoing { wire, service, form }.compose_apart(response, None);
    let wants_trailers = accepts_trailers(&reader.input.head, reader.input.since(head_at));
    let Body::Stream(stream) = response.take_body() else {
        unreachable!("produce: a body that is no stream")
    };
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
    Err(failure.tell(exchange))
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
    fn tell(self, exchange: &mut Exchange<'_>) -> io::Error {
        let Exchange { wire, route, .. } = *exchange;
        let mut request = exchange.request();
        if let Some(route) = route {
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
        log::log!(level, "{}: {what}: {}", Described(&request), Printable(&error));
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
