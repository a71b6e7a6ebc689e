//! How a request arrives: the wait for its first bytes, and the reading of its head.
#![forbid(unsafe_code)]

use std::io;

use crate::buffer::Input;
use crate::http1::exchange::Exchange;
use crate::http1::head::{Head, Refusal};
use crate::http1::parse::{self, Progress, Scan};
use crate::http1::service::Service;
use crate::http1::wire::{Loan, Wire};
use crate::message::Status;
use crate::timeout::{Patience, Phase};

/// Waits for the first bytes of a request, holding no buffer meanwhile. `None` where the connection is over.
pub(crate) fn await_request<'w>(wire: &'w Wire, service: &Service, first: bool) -> Option<Loan<'w>> {
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

/// Why there is no head.
pub(crate) enum NoHead {
    Refused(Refusal),
    /// The connection ended, or nothing can be answered any more.
    Gone,
}

/// Parses the next head into the input, waiting for as much of it as is not there. Returns where it begins.
pub(crate) fn read_head(wire: &Wire, service: &Service, input: &mut Input) -> Result<usize, NoHead> {
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

/// During a drain: has the next request's head arrived, here or in the kernel? Then this response is not the last.
#[cold]
pub(crate) fn another_head_received(exchange: &mut Exchange<'_>) -> bool {
    let Exchange { wire, service, ref mut input, ref body, .. } = *exchange;
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
