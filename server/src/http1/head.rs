//! The head of a request, parsed: what it says, as offsets into the bytes it was parsed from.
//!
//! Everything is relative to the first byte of the head, so the buffer may move as long as its content does not.
#![forbid(unsafe_code)]

use crate::http1::persistence::ConnectionOptions;
use crate::message::{Method, Status, Version};

/// No limit on heads goes beyond this: offsets within a head are 32 bits.
pub(crate) const HEAD_BYTES_LIMIT: usize = u32::MAX as usize;

/// How many fields a head has room for from the beginning: browsers send 10 to 14. More move it to a larger allocation,
/// which stays with its input buffer.
const FIELDS_USUAL: usize = 16;

/// A range of bytes, relative to the first byte given to [`parse`](super::parse::parse).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Offsets within a head, which [`parse`](super::parse::parse) has found to be shorter than 4 GiB.
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && u32::try_from(end).is_ok());
        Span { start: start as u32, end: end as u32 }
    }

    /// Where `part` lies within `whole`, of which it is a sub-slice.
    pub(crate) fn locate(whole: &[u8], part: &[u8]) -> Span {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        debug_assert!(start + part.len() <= whole.len());
        Span::new(start, start + part.len())
    }

    /// The bytes of this range.
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// The text of this range, which [`parse`](super::parse::parse) has found to be ASCII.
    pub(crate) fn text(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.of(bytes)).expect("parse: a span that was ASCII no longer is")
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(crate) fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// One field line: its name and its value without the white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// A token, hence ASCII.
    pub(crate) name: Span,
    /// Any bytes but controls.
    pub(crate) value: Span,
}

/// How the end of the request body is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    Empty,
    /// Exactly so many bytes follow; never 0.
    Sized(u64),
    /// Chunks follow, up to one of size 0 and its trailers.
    Chunked,
}

/// A parsed request head. It is filled in place: as a result it would be copied on every level of the way up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of the whole head, with a tolerated leading blank line and the blank line at its end.
    pub(crate) len: usize,
    /// The method where it is well known.
    pub(crate) well_known: Option<Method<'static>>,
    /// Its name.
    pub(crate) method: Span,
    /// The whole request target, ASCII.
    pub(crate) target: Span,
    /// The path; empty where the absolute form has none.
    pub(crate) path: Span,
    /// What follows the first `?`.
    pub(crate) query: Option<Span>,
    /// The host and port the request is for, from the target or else from `Host`.
    pub(crate) authority: Option<Span>,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    pub(crate) options: ConnectionOptions,
    /// The client waits for a 100 before it sends its body.
    pub(crate) expect_continue: bool,
    /// All field lines, in their order.
    pub(crate) fields: Vec<Field>,
    /// A host that was found to be well-formed, in this head or one before it.
    pub(crate) host_known: Vec<u8>,
}

impl Default for Head {
    /// A head before anything was parsed into it.
    fn default() -> Head {
        Head {
            len: 0,
            well_known: None,
            method: Span::default(),
            target: Span::default(),
            path: Span::default(),
            query: None,
            authority: None,
            version: Version::Http11,
            framing: Framing::Empty,
            options: ConnectionOptions::default(),
            expect_continue: false,
            fields: Vec::with_capacity(FIELDS_USUAL),
            host_known: Vec::new(),
        }
    }
}

impl Head {
    /// The method; `bytes` are those the head was parsed from.
    pub(crate) fn method<'b>(&self, bytes: &'b [u8]) -> Method<'b> {
        self.well_known.unwrap_or_else(|| Method::Other(self.method.text(bytes)))
    }

    /// Is the method HEAD, whose response has no body?
    pub(crate) fn is_head(&self) -> bool {
        self.well_known == Some(Method::Head)
    }

    /// The bytes of [`path`](Head::path).
    pub(crate) fn path_bytes<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        if self.path.is_empty() { b"/" } else { self.path.of(bytes) }
    }

    /// The path, which always begins with `/`, except that it is `*` for `OPTIONS *`.
    pub(crate) fn path<'b>(&self, bytes: &'b [u8]) -> &'b str {
        if self.path.is_empty() { "/" } else { self.path.text(bytes) }
    }

    /// The query without its `?`.
    pub(crate) fn query<'b>(&self, bytes: &'b [u8]) -> Option<&'b str> {
        self.query.map(|span| span.text(bytes))
    }
}

/// The one answer a request that cannot be served gets, before the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: Status,
    /// What was wrong, for the client's developer; never contains what the client sent.
    pub(crate) reason: &'static str,
}

/// A 400.
pub(crate) const fn bad(reason: &'static str) -> Refusal {
    Refusal { status: Status::BAD_REQUEST, reason }
}
