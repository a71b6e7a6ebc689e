//! Running the handler: within its limit of time, and so that a panic of it ends in an answer.
#![forbid(unsafe_code)]

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use crate::error::Error;
use crate::hooks::FaultKind;
use crate::http1::service::Service;
use crate::message::Status;
use crate::middleware::{Described, log_panic, panic_message};
use crate::request::Request;
use crate::response::{IntoResponse as _, Response};

/// Runs the handler, and keeps its response in `slot`, where it is until it is sent: a response is large enough that moving it
/// from frame to frame would show. A panic in the handler is a 500; a kill goes on unwinding.
#[inline]
pub(crate) fn call<'s>(
    service: &Service,
    deadline: Option<Instant>,
    request: &mut Request<'_>,
    slot: &'s mut Option<Response>,
) -> &'s mut Response {
    // The request is only read and its body closed after a panic; both stay consistent at every step.
    let outcome = bast::catch_unwind(AssertUnwindSafe(|| {
        let handled = within(deadline, || {
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
        log_failure(request, outcome, slot.as_ref());
        *slot = Some(internal_error());
    }
    slot.as_mut().expect("serve: a handler returned without a response")
}

/// Runs code of the application until the deadline at most.
#[inline]
pub(crate) fn within<R>(deadline: Option<Instant>, body: impl FnOnce() -> R) -> Result<R, bast::Elapsed> {
    match deadline {
        None => Ok(body()),
        Some(deadline) => bast::timeout_at(deadline, body),
    }
}

/// Says in the log why a handler's response is not sent. A kill, and the end of a limit further out, go on unwinding.
#[cold]
#[inline(never)]
fn log_failure(request: &Request<'_>, outcome: std::thread::Result<()>, response: Option<&Response>) {
    match outcome {
        Ok(()) => {
            let fault = response.and_then(Response::fault).unwrap_or_default();
            log::error!("{}: {fault}", Described(request));
            request.wire().activity().failed(FaultKind::Faulty, &fault);
        }
        Err(payload) if bast::is_interrupt(&*payload) => bast::resume_unwind(payload),
        Err(payload) => {
            log_panic(request, &*payload);
            request.wire().activity().failed(FaultKind::Panicked, &panic_message(&*payload));
        }
    }
}

#[cold]
pub(crate) fn internal_error() -> Response {
    Response::text("500 Internal Server Error\n").with_status(Status::INTERNAL_SERVER_ERROR)
}
