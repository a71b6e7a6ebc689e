//! How a connection leaves HTTP: the 101, and the stream for who speaks the other protocol.
#![forbid(unsafe_code)]

use std::panic::AssertUnwindSafe;

use crate::hooks::FaultKind;
use crate::http1::exchange::Exchange;
use crate::http1::head::{Refusal, bad};
use crate::http1::persistence::Persistence;
use crate::http1::rest::linger;
use crate::http1::send::{Form, Outgoing};
use crate::http1::service::Service;
use crate::http1::wire::Wire;
use crate::message::Method;
use crate::middleware::panic_message;
use crate::request::Request;
use crate::response::{Body, Response};
use crate::timeout::{Patience, Phase};
use crate::upgrade::{Upgrade, Upgraded};

/// May the connection go over to the protocol of this response? A server "MUST NOT switch to a protocol that was not indicated by the
/// client" (RFC 9110 §7.8): the response becomes a 426 then, with the fields that it has.
#[cold]
pub(crate) fn may_switch(request: &Request<'_>, response: &mut Response) -> bool {
    let Body::Upgrade(upgrade) = response.body() else { return false };
    let offered = request.upgrade_protocols().any(|offer| offer.eq_ignore_ascii_case(&upgrade.protocol));
    if !offered {
        response.refuse_upgrade();
    }
    offered
}

/// What became of a connection that was to be switched.
pub(crate) enum Switched {
    /// The 101 is sent: what comes now is no HTTP.
    To(Box<Upgrade>),
    /// The request has no end that could be reached.
    Refused(Refusal),
    /// The client is gone.
    Gone,
}

/// Sends the 101, unless the request is to be refused, and counts it. The new protocol begins behind the request (RFC 9110 §7.8), so its
/// body must have an end that is known.
#[cold]
pub(crate) fn switch(exchange: &mut Exchange<'_>, response: &mut Response) -> Switched {
    let Exchange { wire, service, .. } = *exchange;
    let asked = exchange.asked();
    let well_known = exchange.input.head.well_known;
    let is_over = exchange.can_finish() && exchange.finish();
    let unread = bad("the body of a request to upgrade was left unread");
    if let Some(meter) = wire.activity().meter() {
        // The name of another may have gone with the body; it is not counted by its name.
        let method = well_known.unwrap_or(Method::Other(""));
        meter.answers(Some(method), if is_over { response.status() } else { unread.status });
    }
    if !is_over {
        return Switched::Refused(unread);
    }
    let form = Form::new(asked, response, Persistence::Reuse);
    if (Outgoing { wire, service, form }).send(response).is_err() || wire.flush().is_err() {
        return Switched::Gone;
    }
    match response.take_body() {
        Body::Upgrade(upgrade) => Switched::To(upgrade),
        body => unreachable!("switch: another body, {body:?}"),
    }
}

/// Gives the stream to who speaks the other protocol. The buffers are back in the pool: a connection that waits for years
/// holds none.
#[cold]
#[inline(never)]
#[expect(clippy::boxed_local, reason = "the caller's frame is what an idle connection costs")]
pub(crate) fn leave_http(wire: &Wire, service: &Service, upgrade: Box<Upgrade>, received: Vec<u8>) {
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
            log::error!("{}: {protocol:?}: panicked: {message:?}", wire.whereabouts());
            wire.activity().failed(FaultKind::Panicked, &message);
        }
    }
    if closer.take_back() {
        linger(wire, service, wire.borrow_buffers().input());
    }
}
