//! A response of the program's own for a panic.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;

use super::{Middleware, Next, RequestId};
use crate::message::Status;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Answers for a handler that panicked.
///
/// The server does so too, by a short 500 outside of all middleware, and says in its log where the panic began. This is for
/// programs that want a page of their own, and puts the response where the middleware around it sees it. What it catches is in
/// the log like what the server catches.
///
/// A kill of the thread, and a limit of time that ends further out ([`Timeout`](super::Timeout)), pass through.
///
/// ```
/// use bast_server::middleware::CatchPanic;
/// use bast_server::{Handler, Request, Response, Status};
/// let app = |_: &mut Request| -> Response { panic!("a bug") };
/// let app = app.with(CatchPanic::new(|_request, _panic| {
///     Response::html("<h1>We are sorry</h1>").with_status(Status::INTERNAL_SERVER_ERROR)
/// }));
/// # let _ = app;
/// ```
pub struct CatchPanic<F> {
    answer: F,
}

impl<F, R> CatchPanic<F>
where
    F: Fn(&mut Request<'_>, &str) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    /// Answers by this function of the request and the panic's message. The message is for logs, not for clients. A
    /// response with the status 200 is sent as a 500.
    #[must_use]
    pub fn new(answer: F) -> CatchPanic<F> {
        CatchPanic { answer }
    }
}

impl<F, R> Middleware for CatchPanic<F>
where
    F: Fn(&mut Request<'_>, &str) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        // The request stays consistent at every step of the way through it.
        let outcome = bast::catch_unwind(AssertUnwindSafe(|| next.run(request)));
        let payload = match outcome {
            Ok(response) => return response,
            Err(payload) if bast::is_interrupt(&*payload) => bast::resume_unwind(payload),
            Err(payload) => payload,
        };
        log_panic(request, &*payload);
        let response = (self.answer)(request, panic_message(&*payload)).into_response();
        if response.status() == Status::OK {
            return response.with_status(Status::INTERNAL_SERVER_ERROR);
        }
        response
    }
}

impl<F> fmt::Debug for CatchPanic<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CatchPanic")
    }
}

/// What a panic says.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Which request it is that a line of the log is about: what it asks for, whose it is, and its [`RequestId`] if it has one.
pub(crate) struct Described<'a, 'r>(pub(crate) &'a Request<'r>);

impl fmt::Display for Described<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Described(request) = self;
        write!(f, "{} {:?} from {}", request.method(), request.path(), request.whereabouts())?;
        write!(f, ", route {:?}", request.route().unwrap_or("none"))?;
        match request.extensions().get::<RequestId>() {
            Some(id) => write!(f, ", id {:?}", id.as_str()),
            None => Ok(()),
        }
    }
}

/// Says in the log that the handler of this request, or the producer of its response's body, panicked: which request, whose, and
/// where the panic began, with the
/// stack where `RUST_BACKTRACE` asks for one.
#[cold]
pub(crate) fn log_panic(request: &Request<'_>, payload: &(dyn Any + Send)) {
    let place = bast::take_panic_place();
    let (location, stack) = match &place {
        Some(place) => (place.location(), place.backtrace().unwrap_or_default()),
        None => ("an unknown place", ""),
    };
    log::error!(
        "{}: handler panicked at {location}: {:?}{}{stack}",
        Described(request),
        panic_message(payload),
        if stack.is_empty() { "" } else { "\n" },
    );
}
