//! One request and what belongs to it until its response is out: what the steps of an exchange hand to each other.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Instant;

use crate::buffer::Input;
use crate::http1::body::RequestBody;
use crate::http1::head::{Framing, Head};
use crate::http1::persistence::Persistence;
use crate::http1::reader::BodyReader;
use crate::http1::rest;
use crate::http1::service::Service;
use crate::http1::wire::Wire;
use crate::message::Version;
use crate::request::Request;
use crate::sent::Extras;
use crate::upgrade::Upgrade;

/// A request whose head is in `input`, and stays there until the rest of its body is dropped.
pub(crate) struct Exchange<'c> {
    pub(crate) wire: &'c Wire,
    pub(crate) service: &'c Service,
    /// Whose request it is.
    pub(crate) peer: &'c Option<SocketAddr>,
    pub(crate) input: &'c mut Input,
    /// Where its head begins in the input.
    pub(crate) head_at: usize,
    pub(crate) body: RequestBody,
    /// The client waits for a 100 before it sends the body.
    pub(crate) expects_continue: bool,
    /// When the application must be done with it, once its handler has begun and if that is limited.
    pub(crate) deadline: Option<Instant>,
    /// The pattern of the route that answered, once one has.
    pub(crate) route: Option<&'static str>,
}

impl<'c> Exchange<'c> {
    /// The exchange that begins with the head that was read at `head_at`.
    #[inline]
    pub(crate) fn new(
        wire: &'c Wire,
        service: &'c Service,
        peer: &'c Option<SocketAddr>,
        input: &'c mut Input,
        head_at: usize,
    ) -> Exchange<'c> {
        let body = RequestBody::new(input.head.framing, &service.limits);
        let expects_continue = input.head.expect_continue && input.is_empty();
        Exchange { wire, service, peer, input, head_at, body, expects_continue, deadline: None, route: None }
    }

    /// Is all of the request there, so that its answer waits for nothing but the handler?
    #[inline]
    pub(crate) fn is_received(&self) -> bool {
        match self.input.head.framing {
            Framing::Empty => true,
            Framing::Sized(length) => self.input.unread().len() as u64 >= length,
            Framing::Chunked => false,
        }
    }

    /// Its handler begins: from now on the time of the application counts.
    #[inline]
    pub(crate) fn begin(&mut self) {
        if let Some(limit) = self.service.handler_limit {
            self.deadline = Instant::now().checked_add(limit);
        }
    }

    /// What its response has to know of it.
    #[inline]
    pub(crate) fn asked(&self) -> Asked {
        Asked::of(&self.input.head)
    }

    /// The request as a handler sees it.
    #[inline]
    pub(crate) fn request(&mut self) -> Request<'_> {
        let Exchange { wire, peer, head_at, .. } = *self;
        Request::new(wire, self.input, head_at, &mut self.body, &mut self.expects_continue, peer)
    }

    /// May the rest of its body be read and dropped? Known beforehand, so that the head of the response can say `close`.
    pub(crate) fn can_finish(&self) -> bool {
        rest::can_finish(&self.body, self.expects_continue, self.service)
    }

    /// Reads and drops the rest of its body, within the limit. Afterwards the next request begins.
    #[inline]
    pub(crate) fn finish(&mut self) -> bool {
        self.body.is_done() || rest::drop_rest(self.wire, self.service, self.input, &mut self.body)
    }

    /// Its body.
    pub(crate) fn reader(&mut self) -> BodyReader<'_> {
        BodyReader {
            wire: self.wire,
            keep: self.head_at + self.input.head.len,
            input: self.input,
            body: &mut self.body,
            expects_continue: &mut self.expects_continue,
        }
    }
}

/// What the head of a request says about the response to it.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) version: Version,
    /// What the client wants to become of the connection.
    pub(crate) persistence: Persistence,
    /// It was a HEAD request.
    pub(crate) head_only: bool,
}

impl Asked {
    /// What is assumed where no head could be understood.
    pub(crate) const NOTHING: Asked =
        Asked { version: Version::Http11, persistence: Persistence::Close, head_only: false };

    #[inline]
    fn of(head: &Head) -> Asked {
        Asked {
            version: head.version,
            persistence: head.options.persistence(head.version),
            head_only: head.is_head(),
        }
    }
}

/// How an exchange ended.
#[derive(Debug)]
#[must_use]
pub(crate) enum After {
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

/// Tells the connection's meter, if it has one, where a request begins and ends.
#[inline]
pub(crate) fn metered(wire: &Wire, exchange: impl FnOnce() -> After) -> After {
    let Some(meter) = wire.activity().meter() else { return exchange() };
    meter.begins();
    let after = exchange();
    meter.ends();
    after
}

/// Tells the observers of an exchange what became of it, also where its thread is killed meanwhile.
pub(crate) struct Ending<'w> {
    wire: &'w Wire,
    /// Until they are told by somebody else.
    extras: Option<Box<Extras>>,
    pub(crate) is_whole: bool,
}

impl<'w> Ending<'w> {
    /// The response begins now.
    pub(crate) fn new(wire: &'w Wire, extras: Box<Extras>) -> Ending<'w> {
        wire.begin_exchange();
        Ending { wire, extras: Some(extras), is_whole: false }
    }

    /// Leaves it to the caller to tell them, who has more to say about the end.
    pub(crate) fn leave(mut self) -> Option<Box<Extras>> {
        self.extras.take()
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(extras) = &mut self.extras {
            extras.outcome = self.wire.outcome(self.is_whole);
        }
    }
}
