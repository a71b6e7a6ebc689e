//! What a client has sent, or still sends, that nobody wants: the rest of a body, and what comes behind the last answer. It is
//! read and dropped, within limits, so that the client can read what it was answered.
#![forbid(unsafe_code)]

use std::net::Shutdown;

use crate::buffer::Input;
use crate::http1::body::{RequestBody, Step};
use crate::http1::service::Service;
use crate::http1::wire::Wire;
use crate::timeout::Phase;

/// May the rest of the request's body be read and dropped? Known beforehand, so that the head can say `close`.
pub(crate) fn can_finish(body: &RequestBody, expects_continue: bool, service: &Service) -> bool {
    if body.is_done() {
        return true;
    }
    // A client that was never told to continue may send its body or not (RFC 9110 §10.1.1): nobody could tell that
    // body from the next request.
    !body.is_broken()
        && !expects_continue
        && body.sized_left().is_none_or(|left| left <= service.limits.drain_bytes_max)
}

/// Reads and drops the rest of a request's body, within the limit. Afterwards the next request begins.
#[cold]
pub(crate) fn drop_rest(wire: &Wire, service: &Service, input: &mut Input, body: &mut RequestBody) -> bool {
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
pub(crate) fn linger(wire: &Wire, service: &Service, input: &mut Input) {
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
