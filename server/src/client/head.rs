//! From received bytes to the head of a response, or to what is wrong with it (RFC 9112 §§2, 4, 5, 6). Sans-IO.
//!
//! Strict like the server's own parser, whose field lines it shares: lines end by CRLF, nothing is folded, nothing comes
//! before the status line. A response that two readers could understand differently is refused, because the next
//! response on the connection would be somebody else's.
#![forbid(unsafe_code)]

use super::error::Error;
use super::headers::Headers;
use super::limits::Limits;
use crate::class::{is_digits, is_field_value};
use crate::http1::fields::{Seen, field_lines};
use crate::http1::head::{self, HEAD_BYTES_LIMIT, Refusal};
use crate::http1::parse::end_of_head;
use crate::http1::persistence::Persistence;
use crate::http1::trailers;
use crate::message::{Status, Version};

/// The head of a response.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) version: Version,
    pub(super) status: Status,
    pub(super) reason: Box<[u8]>,
    pub(super) headers: Headers,
    pub(super) framing: Framing,
    /// What the server says of the connection.
    pub(super) persistence: Persistence,
}

/// How the end of a response's body is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its length or its chunks.
    Known(head::Framing),
    /// It ends with the connection.
    UntilClose,
}

/// How far the search for the end of the next head has come. One per head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    at: usize,
}

/// Looks for a complete head at the beginning of `bytes`: the head, and how many bytes it has; `None` if more are
/// needed. The next call must see the same bytes with more behind them. `to_head`: it answers a HEAD.
///
/// # Errors
/// The head is malformed or too large; the connection cannot be used after it.
pub(super) fn parse(
    bytes: &[u8],
    scan: &mut Scan,
    to_head: bool,
    limits: &Limits,
) -> Result<Option<(Head, usize)>, Error> {
    let bytes_max = limits.head_bytes_max.min(HEAD_BYTES_LIMIT);
    let Some(len) = end_of_head(bytes, scan.at) else {
        is_possible(bytes, scan.at)?;
        if bytes.len() >= bytes_max {
            return Err(Error::too_large("its head"));
        }
        // The last three bytes may be the beginning of CRLFCRLF.
        scan.at = bytes.len().saturating_sub(3);
        return Ok(None);
    };
    if len > bytes_max {
        return Err(Error::too_large("its head"));
    }
    read(&bytes[..len], to_head, limits).map(|head| Some((head, len)))
}

/// Refuses what is certain to be wrong although the head has not ended: without this, what does not speak HTTP would be
/// waited for until the limit of time. `bytes[..from]` was looked at before.
fn is_possible(bytes: &[u8], from: usize) -> Result<(), Error> {
    let begins = bytes.len().min(VERSION.len());
    if bytes[..begins] != VERSION[..begins] {
        return Err(Error::malformed("it does not begin with HTTP/1"));
    }
    let bare = |(offset, &byte): (usize, &u8)| byte == b'\n' && bytes[offset - 1] != b'\r';
    if bytes.iter().enumerate().skip(from.max(1)).any(bare) {
        return Err(Error::malformed("a line of its head ends by LF alone"));
    }
    Ok(())
}

const VERSION: &[u8] = b"HTTP/1.";

/// Reads a head that is all there.
fn read(bytes: &[u8], to_head: bool, limits: &Limits) -> Result<Head, Error> {
    let (version, status, reason, fields_at) = status_line(bytes)?;
    let mut fields = Vec::new();
    let mut seen = Seen::default();
    let end = field_lines(bytes, fields_at, limits.fields_max, &mut fields, &mut seen).map_err(refused)?;
    assert_eq!(end, bytes.len(), "client head: a head with two ends");
    let has_length = fields.iter().any(|field| field.name.of(bytes).eq_ignore_ascii_case(b"content-length"));
    let framing = match seen.framing(version) {
        Ok(head::Framing::Empty) if !has_length => Framing::UntilClose,
        Ok(framing) => Framing::Known(framing),
        Err(_) if version == Version::Http10 => {
            return Err(Error::malformed("Transfer-Encoding in HTTP/1.0"));
        }
        Err(refusal) => return Err(refused(refusal)),
    };
    // RFC 9112 §6.3, rules 1 and 2: these end with their head, whatever the fields say of a body.
    let framing =
        if to_head || !status.allows_body() { Framing::Known(head::Framing::Empty) } else { framing };
    Ok(Head {
        version,
        status,
        reason: reason.into(),
        headers: Headers::new(bytes, fields),
        framing,
        persistence: seen.options.persistence(version),
    })
}

/// Version, status and reason phrase, and where the fields begin (RFC 9112 §4). The space behind the code may be
/// missing where there is no reason: several servers leave it out, and nothing can be mistaken for it.
fn status_line(bytes: &[u8]) -> Result<(Version, Status, &[u8], usize), Error> {
    const MALFORMED: Error = Error::malformed("its status line");
    let end = bytes.iter().position(|&byte| byte == b'\r' || byte == b'\n').unwrap_or(bytes.len());
    if !bytes[end..].starts_with(b"\r\n") {
        return Err(Error::malformed("a line of its head ends by LF or CR alone"));
    }
    let line = &bytes[..end];
    let (version, rest) = match line.split_at_checked(b"HTTP/1.1 ".len()) {
        Some((b"HTTP/1.1 ", rest)) => (Version::Http11, rest),
        Some((b"HTTP/1.0 ", rest)) => (Version::Http10, rest),
        _ => return Err(Error::malformed("it is neither HTTP/1.1 nor 1.0")),
    };
    let (code, reason) = match rest {
        [a, b, c] => ([*a, *b, *c], &[][..]),
        [a, b, c, b' ', reason @ ..] => ([*a, *b, *c], reason),
        _ => return Err(MALFORMED),
    };
    if !is_digits(&code) || !is_field_value(reason) {
        return Err(MALFORMED);
    }
    let code = code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let status = Status::from_code(code).ok_or(MALFORMED)?;
    Ok((version, status, reason, end + 2))
}

/// The fields at the end of a chunked body, with the blank line that ends them, but for those that mean something only
/// ahead of it: they are dropped (RFC 9110 §6.5.1), as in a request.
///
/// # Errors
/// There are too many. Their syntax was checked when the body was read.
pub(super) fn trailers(bytes: &[u8], limits: &Limits) -> Result<Headers, Error> {
    let mut fields = Vec::new();
    field_lines(bytes, 0, limits.fields_max, &mut fields, &mut Seen::default()).map_err(refused)?;
    fields.retain(|field| trailers::is_allowed(field.name.of(bytes)));
    Ok(Headers::new(bytes, fields))
}

fn refused(refusal: Refusal) -> Error {
    match refusal.status {
        Status::REQUEST_HEADER_FIELDS_TOO_LARGE => Error::too_large("too many header fields"),
        _ => Error::malformed(refusal.reason),
    }
}

#[cfg(test)]
mod tests;
