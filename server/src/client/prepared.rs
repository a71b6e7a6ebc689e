//! A request that was found to be in order: what is sent of it besides its body.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use super::connection::Shared;
use super::headers::{Lines, encode_line};
use super::place::Place;
use super::sending::{Length, OnInterim};
use super::url::Url;
use crate::message::Method;

/// Everything about a request but its body.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) shared: Arc<Shared>,
    /// A token.
    pub(super) method: String,
    pub(super) url: Url,
    pub(super) lines: Lines,
    /// The protocol to change to, if the server likes.
    pub(super) upgrade: Option<String>,
    pub(super) expects: bool,
    pub(super) closes: bool,
    pub(super) accepts_trailers: bool,
    pub(super) on_interim: Option<OnInterim>,
    /// When the whole exchange is over.
    pub(super) deadline: Option<Instant>,
}

impl Prepared {
    pub(super) fn method(&self) -> Method<'_> {
        Method::from_name(&self.method)
    }

    /// What errors of it are about.
    pub(super) fn place(&self) -> Arc<Place> {
        Arc::new(Place::new(&self.method, self.url.clone()))
    }

    pub(super) fn is_head(&self) -> bool {
        self.method() == Method::Head
    }

    pub(super) fn upgrades(&self) -> bool {
        self.upgrade.is_some()
    }

    /// May it be sent twice where it is not known whether it had an effect (RFC 9110 §9.2.2)?
    pub(super) fn is_idempotent(&self) -> bool {
        use Method::{Delete, Get, Head, Options, Put, Trace};
        matches!(self.method(), Get | Head | Options | Trace | Put | Delete)
    }

    /// Is a body, if only an empty one, part of what the method means (RFC 9110 §8.6)?
    pub(super) fn anticipates_body(&self) -> bool {
        matches!(self.method(), Method::Post | Method::Put | Method::Patch)
    }

    /// Appends the head. Everything in it was checked: the method is a token, the target has visible ASCII only, the
    /// lines are field lines.
    pub(super) fn encode(&self, length: Length, expects: bool, out: &mut Vec<u8>) {
        for part in [&self.method, " ", self.url.target(self.method()), " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        // "SHOULD send Host as the first field" (RFC 9110 §7.2).
        if !self.lines.has("Host") {
            encode_line(out, "Host", self.url.authority().as_bytes());
        }
        if !self.lines.has("User-Agent") && !self.shared.user_agent.is_empty() {
            encode_line(out, "User-Agent", self.shared.user_agent.as_bytes());
        }
        self.lines.encode(out);
        let options = [(self.closes, "close"), (self.upgrades(), "upgrade"), (self.accepts_trailers, "TE")];
        let options: Vec<&str> = options.iter().filter(|(on, _)| *on).map(|(_, option)| *option).collect();
        if !options.is_empty() {
            encode_line(out, "Connection", options.join(", ").as_bytes());
        }
        if let Some(protocol) = &self.upgrade {
            encode_line(out, "Upgrade", protocol.as_bytes());
        }
        if self.accepts_trailers {
            encode_line(out, "TE", b"trailers");
        }
        if expects {
            encode_line(out, "Expect", b"100-continue");
        }
        match length {
            Length::Absent => {}
            Length::Sized(length) => {
                encode_line(out, "Content-Length", length.to_string().as_bytes());
            }
            Length::Chunked => encode_line(out, "Transfer-Encoding", b"chunked"),
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Does this field belong to the client itself? Whoever could set them could contradict what is sent.
pub(super) fn is_reserved(name: &str) -> bool {
    const RESERVED: [&str; 9] = [
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    RESERVED.iter().any(|field| name.eq_ignore_ascii_case(field))
}
