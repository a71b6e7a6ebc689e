//! From received bytes to the head of a request, or to the reason to refuse it (RFC 9112 §§2, 3, 5, 6).
//!
//! ```text
//! first look ──read──▶ all there and as it should be: Head
//!                └───▶ else ──search──▶ no CRLFCRLF yet: Incomplete, or a refusal that is already certain
//!                               └─────▶ head ──limits, read──▶ Head, or why not
//! ```
//! Nearly every head arrives in one piece, so the first look reads it as if all were there. What fails goes the
//! careful way: only when the end was found is the head read again, and only that reading says what is wrong. The search
//! goes on from where the last one stopped, so a head that arrives byte by byte is read twice and no more.
//!
//! This file never reads a socket and never allocates, except for more fields than a head has room for.
#![forbid(unsafe_code)]

use crate::http1::fields::{Seen, field_lines};
use crate::http1::head::{Framing, HEAD_BYTES_LIMIT, Head, Refusal, bad};
use crate::http1::request_line::{LINE_TOO_LONG, is_authority, line_end, request_line};
use crate::limits::Limits;
use crate::message::{Status, Version};

const HEAD_TOO_LARGE: Refusal =
    Refusal { status: Status::REQUEST_HEADER_FIELDS_TOO_LARGE, reason: "request head too large" };

/// How far the search for the end of the next head has come. One per head: begin with the default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    /// No head ends before this offset, and the bytes before it were looked at.
    at: usize,
}

/// How far [`parse`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Progress {
    /// The head is parsed.
    Complete,
    /// More bytes are needed. The next call must see the same bytes, with more behind them.
    Incomplete,
}

/// Looks for a complete head at the beginning of `bytes` and parses it into `head`, which is meaningful only when that
/// is complete.
///
/// # Errors
/// The refusal to answer with; the connection cannot be used after it.
#[inline]
pub(crate) fn parse(
    bytes: &[u8],
    scan: &mut Scan,
    limits: &Limits,
    head: &mut Head,
) -> Result<Progress, Refusal> {
    if scan.at == 0 {
        let within_limit = &bytes[..bytes.len().min(limits.head_bytes_max).min(HEAD_BYTES_LIMIT)];
        if read(within_limit, 0, limits, head).is_ok() {
            return Ok(Progress::Complete);
        }
    }
    parse_carefully(bytes, scan, limits, head)
}

/// The same where a first look found no head, whatever the reason.
#[cold]
#[inline(never)]
fn parse_carefully(
    bytes: &[u8],
    scan: &mut Scan,
    limits: &Limits,
    head: &mut Head,
) -> Result<Progress, Refusal> {
    // "A server ... SHOULD ignore at least one empty line (CRLF) received prior to the request-line" (RFC 9112
    // §2.2): exactly one is ignored here.
    let blank = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let from = scan.at.max(blank);
    let Some(len) = end_of_head(bytes, from) else {
        incomplete(&bytes[blank..], from - blank, limits)?;
        // The last three bytes may be the beginning of CRLFCRLF.
        scan.at = bytes.len().saturating_sub(3);
        return Ok(Progress::Incomplete);
    };
    if len > limits.head_bytes_max.min(HEAD_BYTES_LIMIT) {
        return Err(if line_end(&bytes[blank..len]) > line_bytes_max(limits) {
            LINE_TOO_LONG
        } else {
            HEAD_TOO_LARGE
        });
    }
    if matches!(bytes[blank], b'\r' | b'\n') {
        return Err(bad("more than one blank line before the request line"));
    }
    read(&bytes[..len], blank, limits, head)?;
    // What was read as lines ends at the first blank one.
    assert_eq!(head.len, len, "parse: a head with two ends");
    Ok(Progress::Complete)
}

/// Reads the head that begins at `start`.
///
/// # Errors
/// Why it is refused, where it is complete. Else anything.
#[inline]
fn read(bytes: &[u8], start: usize, limits: &Limits, head: &mut Head) -> Result<(), Refusal> {
    let fields_at = request_line(bytes, start, limits.request_line_bytes_max, head)?;
    let mut seen = Seen::default();
    let end = field_lines(bytes, fields_at, limits.fields_max, &mut head.fields, &mut seen)?;
    conclude(bytes, head, &seen)?;
    head.len = end;
    Ok(())
}

/// The longest host that is remembered, in bytes.
const HOST_KNOWN_BYTES_MAX: usize = 64;

/// Nearly all requests name the same host as the one before: `known` is the last that was found to be well-formed.
#[inline]
fn check_host(host: &[u8], known: &mut Vec<u8>) -> Result<(), Refusal> {
    if host == known.as_slice() {
        return Ok(());
    }
    if !is_authority(host) {
        return Err(bad("malformed Host"));
    }
    if host.len() <= HOST_KNOWN_BYTES_MAX {
        known.clear();
        known.extend_from_slice(host);
    }
    Ok(())
}

/// What the fields say about the request as a whole.
#[inline]
fn conclude(bytes: &[u8], head: &mut Head, seen: &Seen) -> Result<(), Refusal> {
    // RFC 9112 §3.2: 400 to a 1.1 request without Host, and to a malformed one; more than one was refused when it was met.
    match seen.host {
        Some(host) => check_host(host.of(bytes), &mut head.host_known)?,
        None if head.version == Version::Http11 => return Err(bad("Host missing")),
        None => {}
    }
    head.framing = seen.framing(head.version)?;
    if head.authority.is_none() {
        head.authority = seen.host;
    }
    head.options = seen.options;
    // RFC 9110 §10.1.1: a 1.0 client does not wait, nor does one that has no body to send.
    head.expect_continue =
        seen.expect_continue && head.version == Version::Http11 && head.framing != Framing::Empty;
    Ok(())
}

/// The offset just behind the first CRLFCRLF that ends at or behind `from + 4`.
///
/// Horspool's search: the last of four bytes tells how far the window can move, so most bytes are never read.
pub(crate) fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let mut last = from + 3;
    while let Some(&byte) = bytes.get(last) {
        last += match byte {
            b'\n' if bytes[last - 3..last] == *b"\r\n\r" => return Some(last + 1),
            b'\n' => 2,
            b'\r' => 1,
            _ => 4,
        };
    }
    None
}

/// How long the line, with a CR of which the LF has not come, may be that holds as much as the limit allows of method and
/// target.
fn line_bytes_max(limits: &Limits) -> usize {
    limits.request_line_bytes_max.saturating_add("  HTTP/1.1\r".len())
}

/// Refuses what is certain to be wrong although the head has not ended. Without this a client that ends its lines
/// by LF alone would wait for its answer until the head limit; one that speaks TLS to us likewise.
///
/// `bytes[..from]` was looked at before.
#[cold]
fn incomplete(bytes: &[u8], from: usize, limits: &Limits) -> Result<(), Refusal> {
    for (offset, &byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'\n' if offset == 0 || bytes[offset - 1] != b'\r' => return Err(bad("line ends by LF alone")),
            0 => return Err(bad("NUL in the request head")),
            _ => {}
        }
    }
    if bytes.len() > line_bytes_max(limits) && line_end(bytes) > line_bytes_max(limits) {
        return Err(LINE_TOO_LONG);
    }
    if bytes.len() >= limits.head_bytes_max {
        return Err(HEAD_TOO_LARGE);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
