//! The head of a request: where it ends, what it says, and every reason to refuse it (RFC 9112 §§2, 3, 5, 6).
//!
//! ```text
//! unread bytes ──scan──▶ no CRLFCRLF yet: Incomplete, or a refusal that is already certain
//!                └─────▶ head ──request line by hand, fields by httparse──▶ our checks──▶ Head + Fields (offsets)
//! ```
//! httparse re-reads from byte 0 on each call and is lenient on purpose (bare LF, leading blank lines, non-ASCII
//! targets). So the end of the head is searched first, from where the last search stopped; httparse runs once;
//! what it lets pass and RFC 9112 does not is checked here. Everything is an offset relative to the first unread
//! byte, so the buffer may move as long as its content does not.
//!
//! This file never reads a socket and never allocates, except in the cold retry for more than
//! [`FIELDS_ON_STACK`] fields.
#![forbid(unsafe_code)]

use crate::http1::persistence::ConnectionOptions;
use crate::limits::Limits;
use crate::message::{Method, Status, Version, host_len, is_token, list, path_len, target_len, token_len};

/// No limit on heads goes beyond this: offsets within a head are 32 bits.
const HEAD_BYTES_LIMIT: usize = u32::MAX as usize;

/// How many fields are parsed without touching the heap: browsers send 10 to 14. Each costs 32 bytes of stack
/// here, in a leaf call, so not in the depth of a parked thread.
const FIELDS_ON_STACK: usize = 16;

/// A range of bytes, relative to the first byte given to [`parse`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Offsets within a head, which [`parse`] has found to be shorter than 4 GiB.
    #[inline]
    fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && u32::try_from(end).is_ok());
        Span { start: start as u32, end: end as u32 }
    }

    /// Where `part` lies within `whole`, of which it is a sub-slice.
    fn locate(whole: &[u8], part: &[u8]) -> Span {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        debug_assert!(start + part.len() <= whole.len());
        Span::new(start, start + part.len())
    }

    /// The bytes of this range.
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// The text of this range, which [`parse`] has found to be ASCII.
    pub(crate) fn text(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.of(bytes)).expect("parse: a span that was ASCII no longer is")
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    fn len(self) -> usize {
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
    well_known: Option<Method<'static>>,
    /// Its name.
    method: Span,
    /// The whole request target, ASCII.
    pub(crate) target: Span,
    /// The path; empty where the absolute form has none.
    path: Span,
    /// What follows the first `?`.
    query: Option<Span>,
    /// The host and port the request is for, from the target or else from `Host`.
    pub(crate) authority: Option<Span>,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    pub(crate) options: ConnectionOptions,
    /// The client waits for a 100 before it sends its body.
    pub(crate) expect_continue: bool,
    /// All field lines, in their order.
    pub(crate) fields: Vec<Field>,
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
            fields: Vec::with_capacity(FIELDS_ON_STACK),
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

const fn bad(reason: &'static str) -> Refusal {
    Refusal { status: Status::BAD_REQUEST, reason }
}

const TOO_MANY_FIELDS: Refusal =
    Refusal { status: Status::REQUEST_HEADER_FIELDS_TOO_LARGE, reason: "too many header fields" };
const HEAD_TOO_LARGE: Refusal =
    Refusal { status: Status::REQUEST_HEADER_FIELDS_TOO_LARGE, reason: "request head too large" };
const LINE_TOO_LONG: Refusal = Refusal { status: Status::URI_TOO_LONG, reason: "request line too long" };

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
pub(crate) fn parse(
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
        return Err(if line_end(&bytes[blank..len]) > limits.request_line_bytes_max {
            LINE_TOO_LONG
        } else {
            HEAD_TOO_LARGE
        });
    }
    if matches!(bytes[blank], b'\r' | b'\n') {
        return Err(bad("more than one blank line before the request line"));
    }
    parse_complete(&bytes[..len], blank, limits, head)?;
    Ok(Progress::Complete)
}

/// The offset just behind the first CRLFCRLF that ends at or behind `from + 4`.
///
/// Horspool's search: the last of four bytes tells how far the window can move, so most bytes are never read.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
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

/// Where the first line of `bytes` ends, or their length.
fn line_end(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| b == b'\r' || b == b'\n').unwrap_or(bytes.len())
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
    if bytes.len() > limits.request_line_bytes_max && line_end(bytes) > limits.request_line_bytes_max {
        return Err(LINE_TOO_LONG);
    }
    if bytes.len() >= limits.head_bytes_max {
        return Err(HEAD_TOO_LARGE);
    }
    Ok(())
}

/// Parses a head that ends exactly at the end of `bytes` and begins at `blank`.
#[inline]
fn parse_complete(bytes: &[u8], blank: usize, limits: &Limits, head: &mut Head) -> Result<(), Refusal> {
    let fields_at = request_line(bytes, blank, head)?;
    let mut on_stack = [httparse::EMPTY_HEADER; FIELDS_ON_STACK];
    match httparse::parse_headers(&bytes[fields_at..], &mut on_stack) {
        Ok(parsed) => check(bytes, fields_at, parsed, limits, head),
        Err(httparse::Error::TooManyHeaders) if limits.fields_max > FIELDS_ON_STACK => {
            parse_many(bytes, fields_at, limits, head)
        }
        Err(error) => Err(refuse(error)),
    }
}

/// The same for heads with more fields than fit on the stack.
#[cold]
#[inline(never)]
fn parse_many(bytes: &[u8], fields_at: usize, limits: &Limits, head: &mut Head) -> Result<(), Refusal> {
    let mut on_heap = vec![httparse::EMPTY_HEADER; limits.fields_max];
    match httparse::parse_headers(&bytes[fields_at..], &mut on_heap) {
        Ok(parsed) => check(bytes, fields_at, parsed, limits, head),
        Err(error) => Err(refuse(error)),
    }
}

/// Takes apart the request line at `start` (RFC 9112 §3): method, one space, target, one space, version, CRLF, and
/// nothing else. The target is taken to be a path and a query. Returns where the fields begin.
///
/// By hand because httparse reads it as leniently as it reads line ends, and slower than the strict rules need.
#[inline]
fn request_line(bytes: &[u8], start: usize, head: &mut Head) -> Result<usize, Refusal> {
    const MALFORMED: Refusal = bad("malformed request line");
    // Nearly all requests are of one method.
    let (well_known, method_end) = if bytes[start..].starts_with(b"GET ") {
        (Some(Method::Get), start + 3)
    } else {
        let end = start + token_len(&bytes[start..]);
        if end == start || bytes.get(end) != Some(&b' ') {
            return Err(MALFORMED);
        }
        (Method::well_known(&bytes[start..end]), end)
    };
    let target_start = method_end + 1;
    let query_at = target_start + path_len(&bytes[target_start..]);
    let mut target_end = query_at;
    if bytes.get(query_at) == Some(&b'?') {
        target_end += target_len(&bytes[query_at..]);
    }
    match bytes.get(target_end) {
        Some(b' ') if target_end > target_start => {}
        Some(b'#' | 0x80..) => return Err(bad("byte not allowed in a request target")),
        _ => return Err(MALFORMED),
    }
    head.version = match bytes[target_end..].first_chunk() {
        Some(b" HTTP/1.1\r\n") => Version::Http11,
        Some(b" HTTP/1.0\r\n") => Version::Http10,
        _ => return Err(odd_version(&bytes[start..])),
    };
    head.well_known = well_known;
    head.method = Span::new(start, method_end);
    head.target = Span::new(target_start, target_end);
    head.path = Span::new(target_start, query_at);
    head.query = (query_at < target_end).then(|| Span::new(query_at + 1, target_end));
    head.authority = None;
    Ok(target_end + b" HTTP/1.1\r\n".len())
}

/// What to answer to a request line that does not end in a version of ours.
#[cold]
fn odd_version(head: &[u8]) -> Refusal {
    let line = &head[..line_end(head)];
    if names_other_version(line) {
        let reason = "only HTTP/1.0 and HTTP/1.1 are spoken here";
        Refusal { status: Status::HTTP_VERSION_NOT_SUPPORTED, reason }
    } else if head[line.len()..].starts_with(b"\n") {
        bad("line ends by LF alone")
    } else {
        bad("malformed HTTP version")
    }
}

/// What to answer to fields that httparse could not read.
#[cold]
fn refuse(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => TOO_MANY_FIELDS,
        httparse::Error::HeaderName => bad("malformed header field name"),
        httparse::Error::HeaderValue => bad("malformed header field value"),
        _ => bad("malformed line end"),
    }
}

/// Does this request line end in a well-formed version that is not one of ours?
fn names_other_version(line: &[u8]) -> bool {
    let version = line.rsplit(|&b| b == b' ').next().unwrap_or_default();
    match version {
        b"HTTP/1.0" | b"HTTP/1.1" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

/// Turns httparse's slices into offsets, checking all that it does not check. Inlined into the path for few fields,
/// where a call would move the head twice.
#[inline(always)]
fn check(
    bytes: &[u8],
    fields_at: usize,
    parsed: httparse::Status<(usize, &[httparse::Header<'_>])>,
    limits: &Limits,
    head: &mut Head,
) -> Result<(), Refusal> {
    let httparse::Status::Complete((len, headers)) = parsed else {
        return Err(bad("line ends by LF alone"));
    };
    // An end elsewhere than at our CRLFCRLF means that a bare LF passed for a line end.
    if fields_at + len != bytes.len() {
        return Err(bad("line ends by LF alone"));
    }
    if head.method.len() + head.target.len() > limits.request_line_bytes_max {
        return Err(LINE_TOO_LONG);
    }
    if headers.len() > limits.fields_max {
        return Err(TOO_MANY_FIELDS);
    }
    if bytes[head.target.start as usize] != b'/' || matches!(head.well_known, Some(Method::Connect)) {
        other_form(bytes, head)?;
    }
    let mut seen = Seen::default();
    head.fields.clear();
    for header in headers {
        let name = Span::locate(bytes, header.name.as_bytes());
        let value = Span::locate(bytes, header.value);
        if bytes[name.start as usize - 2..name.start as usize] != *b"\r\n" {
            return Err(bad("line ends by LF alone"));
        }
        seen.note(header.name, header.value, value)?;
        head.fields.push(Field { name, value });
    }
    // RFC 9112 §3.2: 400 to a 1.1 request without Host; to more than one, `note` has said so.
    if head.version == Version::Http11 && seen.host.is_none() {
        return Err(bad("Host missing"));
    }
    let framing = seen.framing(head.version)?;
    head.len = bytes.len();
    head.authority = head.authority.or(seen.host);
    head.framing = framing;
    head.options = seen.options;
    // RFC 9110 §10.1.1: a 1.0 client does not wait, nor does one that has no body to send.
    head.expect_continue =
        seen.expect_continue && head.version == Version::Http11 && framing != Framing::Empty;
    Ok(())
}

/// What the fields that frame the message said so far.
#[derive(Default)]
struct Seen {
    host: Option<Span>,
    content_length: Option<u64>,
    coding: Option<Coding>,
    options: ConnectionOptions,
    expect_continue: bool,
}

/// The transfer codings named so far, over all fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    /// `chunked`, once, last.
    Chunked,
    /// Only codings that are not known here.
    Unknown,
    /// An unknown coding and then `chunked`.
    UnknownThenChunked,
}

impl Seen {
    /// Takes note of one field. The length of a name sorts out nearly all that do not matter here.
    #[inline]
    fn note(&mut self, name: &str, value: &[u8], span: Span) -> Result<(), Refusal> {
        match name.as_bytes() {
            // In a token the bit makes a small letter of a large one, and no other byte a letter.
            &[a, b, c, d] if [a, b, c, d].map(|byte| byte | 0x20) == *b"host" => {
                if self.host.replace(span).is_some() {
                    return Err(bad("more than one Host"));
                }
                if !is_authority(value) {
                    return Err(bad("malformed Host"));
                }
                Ok(())
            }
            _ => self.note_rare(name, value),
        }
    }

    /// The same for fields other than `Host`.
    #[inline(never)]
    fn note_rare(&mut self, name: &str, value: &[u8]) -> Result<(), Refusal> {
        match name.len() {
            6 if name.eq_ignore_ascii_case("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal {
                        status: Status::EXPECTATION_FAILED,
                        reason: "unknown expectation",
                    });
                }
                self.expect_continue = true;
            }
            10 if name.eq_ignore_ascii_case("connection") => self.options.add(value),
            14 if name.eq_ignore_ascii_case("content-length") => self.content_length(value)?,
            17 if name.eq_ignore_ascii_case("transfer-encoding") => self.transfer_encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Several equal values might be folded into one (RFC 9112 §6.3); no honest client sends them.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let repeated = self.content_length.replace(content_length(value)?).is_some();
        if repeated { Err(bad("more than one Content-Length")) } else { Ok(()) }
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let before = self.coding;
        for coding in list(value) {
            let name = coding.split(|&b| b == b';').next().unwrap_or_default().trim_ascii_end();
            if !is_token(name) {
                return Err(bad("malformed Transfer-Encoding"));
            }
            self.coding = Some(match (self.coding, coding.eq_ignore_ascii_case(b"chunked")) {
                (None, true) => Coding::Chunked,
                (Some(Coding::Unknown), true) => Coding::UnknownThenChunked,
                (None | Some(Coding::Unknown), false) => Coding::Unknown,
                (Some(Coding::Chunked | Coding::UnknownThenChunked), _) => {
                    return Err(bad("chunked is not the last transfer coding"));
                }
            });
        }
        // An empty list would hide that the field was there from the rule against Content-Length beside it.
        if self.coding == before { Err(bad("empty Transfer-Encoding")) } else { Ok(()) }
    }

    /// RFC 9112 §6.1 and §6.3.
    fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        let Some(coding) = self.coding else {
            return Ok(match self.content_length {
                None | Some(0) => Framing::Empty,
                Some(length) => Framing::Sized(length),
            });
        };
        if self.content_length.is_some() {
            return Err(bad("Content-Length beside Transfer-Encoding"));
        }
        if version == Version::Http10 {
            return Err(bad("Transfer-Encoding in an HTTP/1.0 request"));
        }
        match coding {
            Coding::Chunked => Ok(Framing::Chunked),
            Coding::Unknown | Coding::UnknownThenChunked => {
                Err(Refusal { status: Status::NOT_IMPLEMENTED, reason: "unknown transfer coding" })
            }
        }
    }
}

/// Digits only: no sign, no space, no list, no overflow (RFC 9110 §8.6).
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    const MALFORMED: Refusal = bad("malformed Content-Length");
    if value.is_empty() {
        return Err(MALFORMED);
    }
    value.iter().try_fold(0u64, |length, &byte| {
        if !byte.is_ascii_digit() {
            return Err(MALFORMED);
        }
        length.checked_mul(10).and_then(|l| l.checked_add(u64::from(byte - b'0'))).ok_or(MALFORMED)
    })
}

/// Takes the target apart where it is no path, by its form (RFC 9112 §3.2).
#[cold]
#[inline(never)]
fn other_form(bytes: &[u8], head: &mut Head) -> Result<(), Refusal> {
    if head.well_known == Some(Method::Connect) {
        return Err(Refusal { status: Status::NOT_IMPLEMENTED, reason: "CONNECT is for proxies" });
    }
    let target = head.target.of(bytes);
    if target == b"*" {
        let asks_server = head.well_known == Some(Method::Options);
        return if asks_server { Ok(()) } else { Err(bad("the target * is for OPTIONS only")) };
    }
    let Some(scheme) = [&b"http://"[..], b"https://"].iter().map(|scheme| scheme.len()).find(|&len| {
        target.len() > len && {
            let scheme = &target[..len];
            scheme.eq_ignore_ascii_case(b"http://") || scheme.eq_ignore_ascii_case(b"https://")
        }
    }) else {
        return Err(bad("malformed request target"));
    };
    let path_end = head.path.len();
    let authority_end =
        target[scheme..path_end].iter().position(|&b| b == b'/').map_or(path_end, |slash| scheme + slash);
    let authority = &target[scheme..authority_end];
    if authority.is_empty() || !is_authority(authority) {
        return Err(bad("malformed authority in the request target"));
    }
    head.authority = Some(Span::locate(bytes, authority));
    head.path = Span::locate(bytes, &target[authority_end..path_end]);
    Ok(())
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), loosely: the bytes of RFC 3986 §3.2.2 with a numeric port, and no
/// user information. An empty one is allowed where the URI has no authority.
#[inline]
fn is_authority(value: &[u8]) -> bool {
    if value.first() == Some(&b'[') {
        return is_literal(value);
    }
    is_port(&value[host_len(value)..])
}

/// The same for `"[" IP-literal "]" [ ":" port ]`.
#[cold]
fn is_literal(value: &[u8]) -> bool {
    let Some(end) = value.iter().position(|&byte| byte == b']') else { return false };
    let address = &value[1..end];
    !address.is_empty()
        && address.split(|&byte| byte == b':').all(|part| host_len(part) == part.len())
        && is_port(&value[end + 1..])
}

/// Nothing, or a colon and digits.
fn is_port(rest: &[u8]) -> bool {
    match rest {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `input` fed in two parts, cut at every position, and checks that the cut changes nothing that the
    /// client can see but the wording of a refusal.
    fn parse_cut(input: &[u8], limits: &Limits) -> Result<Option<Head>, Refusal> {
        let visible = |parts: &[&[u8]]| feed(parts, limits).map_err(|refusal| refusal.status);
        let whole = visible(&[input]);
        for cut in 0..input.len() {
            assert_eq!(
                visible(&[&input[..cut], &input[cut..]]),
                whole,
                "cut at {cut}: {}",
                input.escape_ascii()
            );
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(visible(&bytes), whole, "byte by byte: {}", input.escape_ascii());
        feed(&[input], limits)
    }

    fn feed(parts: &[&[u8]], limits: &Limits) -> Result<Option<Head>, Refusal> {
        let (mut bytes, mut scan, mut head) = (Vec::new(), Scan::default(), Head::default());
        for part in parts {
            bytes.extend_from_slice(part);
            if parse(&bytes, &mut scan, limits, &mut head)? == Progress::Complete {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    fn status_of(input: &str) -> Option<Status> {
        parse_cut(input.as_bytes(), &Limits::default()).err().map(|refusal| refusal.status)
    }

    fn accepted(input: &str) -> Head {
        match parse_cut(input.as_bytes(), &Limits::default()) {
            Ok(Some(head)) => head,
            other => panic!("{input:?}: {other:?}"),
        }
    }

    /// A complete 1.1 request with these extra field lines.
    fn with(fields: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    }

    #[test]
    fn a_plain_request_is_taken_apart() {
        let input = "GET /a/b?c=d?e HTTP/1.1\r\nHost: x.org:80\r\nX-Y:  spaced out \t\r\n\r\nrest";
        let head = parse_cut(input.as_bytes(), &Limits::default()).unwrap().unwrap();
        let bytes = input.as_bytes();
        assert_eq!(head.len, input.len() - 4);
        assert_eq!(head.method(bytes), Method::Get);
        assert_eq!(head.path(bytes), "/a/b");
        assert_eq!(head.query(bytes), Some("c=d?e"));
        assert_eq!(head.authority.unwrap().text(bytes), "x.org:80");
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.framing, Framing::Empty);
        assert_eq!(head.fields.len(), 2);
        assert_eq!(head.fields[1].name.text(bytes), "X-Y");
        assert_eq!(head.fields[1].value.of(bytes), b"spaced out");
    }

    #[test]
    fn every_incomplete_prefix_of_a_good_request_asks_for_more() {
        let input = with("Content-Length: 3\r\n");
        for len in 0..input.len() {
            assert_eq!(feed(&[&input.as_bytes()[..len]], &Limits::default()), Ok(None), "{len} bytes");
        }
    }

    #[test]
    fn one_leading_blank_line_is_tolerated_and_no_more() {
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(accepted(&format!("\r\n{request}")).len, request.len() + 2);
        assert_eq!(status_of(&format!("\r\n\r\n{request}")), Some(Status::BAD_REQUEST));
        assert_eq!(status_of(&format!("\n{request}")), Some(Status::BAD_REQUEST));
    }

    #[test]
    fn an_unknown_method_is_kept_and_case_matters() {
        let input = "get / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(accepted(input).method(input.as_bytes()), Method::Other("get"));
    }

    #[test]
    fn the_four_forms_of_a_target() {
        let form = |line: &str| {
            let input = format!("{line} HTTP/1.1\r\nHost: field\r\n\r\n");
            let head = accepted(&input);
            let b = input.as_bytes();
            (
                head.path(b).to_owned(),
                head.query(b).map(str::to_owned),
                head.authority.unwrap().text(b).to_owned(),
            )
        };
        let parts =
            |path: &str, query: Option<&str>, host: &str| (path.into(), query.map(Into::into), host.into());
        assert_eq!(form("GET /p?q"), parts("/p", Some("q"), "field"));
        assert_eq!(form("GET http://h:1/p?q=/"), parts("/p", Some("q=/"), "h:1"));
        assert_eq!(form("GET HTTPS://h"), parts("/", None, "h"));
        assert_eq!(form("GET http://h?q"), parts("/", Some("q"), "h"));
        assert_eq!(form("OPTIONS *"), parts("*", None, "field"));
        assert_eq!(form("GET http://[::1]:8/"), parts("/", None, "[::1]:8"));
    }

    #[test]
    fn malformed_request_lines_are_refused() {
        let table = [
            ("GET  / HTTP/1.1", 400),
            ("GET /  HTTP/1.1", 400),
            (" GET / HTTP/1.1", 400),
            ("GET / HTTP/1.1 ", 400),
            ("GET /", 400),
            ("GET", 400),
            ("GET HTTP/1.1", 400),
            ("G(T / HTTP/1.1", 400),
            ("GET /a#b HTTP/1.1", 400),
            ("GET /\u{e9} HTTP/1.1", 400),
            ("GET /\x07 HTTP/1.1", 400),
            ("GET /\tx HTTP/1.1", 400),
            ("GET x HTTP/1.1", 400),
            ("GET ftp://h/ HTTP/1.1", 400),
            ("GET http:///p HTTP/1.1", 400),
            ("GET http://u@h/ HTTP/1.1", 400),
            ("GET * HTTP/1.1", 400),
            ("GET / http/1.1", 400),
            ("GET / HTTP/1.x", 400),
            ("GET / HTTP/11", 400),
            ("GET / HTTP/1.10", 400),
            ("GET / HTTP/2.0", 505),
            ("GET / HTTP/1.2", 505),
            ("GET / HTTP/0.9", 505),
            ("PRI * HTTP/2.0", 505),
            ("CONNECT h:1 HTTP/1.1", 501),
        ];
        for (line, code) in table {
            assert_eq!(
                status_of(&format!("{line}\r\nHost: a\r\n\r\n")).map(Status::code),
                Some(code),
                "{line:?}"
            );
        }
    }

    #[test]
    fn malformed_field_lines_are_refused() {
        let table = [
            "X : 1\r\n",
            "X\t: 1\r\n",
            " X: 1\r\n",
            ": 1\r\n",
            "X\r\n",
            "X: 1\r\n folded\r\n",
            "X: 1\r\n\tfolded\r\n",
            "X: a\rb\r\n",
            "X: a\0b\r\n",
            "X: a\x7fb\r\n",
            "X: a\x0bb\r\n",
            "X\0: a\r\n",
            "(X): a\r\n",
            "X: a\n",
            "X: a\nY: b\r\n",
            "X\u{e9}: a\r\n",
        ];
        for fields in table {
            assert_eq!(status_of(&with(fields)), Some(Status::BAD_REQUEST), "{fields:?}");
        }
    }

    #[test]
    fn a_bare_line_feed_is_refused_wherever_it_stands() {
        for input in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.0\n\n",
            "GET / HTTP/1.0\n\nGET / HTTP/1.0\r\n\r\n",
        ] {
            assert_eq!(status_of(input), Some(Status::BAD_REQUEST), "{input:?}");
        }
    }

    #[test]
    fn obs_text_in_a_value_is_kept_as_bytes() {
        let input = b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n";
        let fields = parse_cut(input, &Limits::default()).unwrap().unwrap().fields;
        assert_eq!(fields[1].value.of(input), b"\xe9");
    }

    #[test]
    fn exactly_one_well_formed_host_is_required_of_http_1_1() {
        for (head, refused) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a:80\r\n\r\n", false),
        ] {
            assert_eq!(status_of(head), refused.then_some(Status::BAD_REQUEST), "{head:?}");
        }
    }

    #[test]
    fn framing_follows_rfc_9112_section_6() {
        let framing = |fields: &str| {
            parse_cut(with(fields).as_bytes(), &Limits::default())
                .map(|parsed| parsed.unwrap().framing)
                .map_err(|refusal| refusal.status.code())
        };
        let table = [
            ("", Ok(Framing::Empty)),
            ("Content-Length: 0\r\n", Ok(Framing::Empty)),
            ("Content-Length: 12\r\n", Ok(Framing::Sized(12))),
            ("content-length: 0012\r\n", Ok(Framing::Sized(12))),
            ("Content-Length: 18446744073709551615\r\n", Ok(Framing::Sized(u64::MAX))),
            ("Content-Length: 18446744073709551616\r\n", Err(400)),
            ("Content-Length: +1\r\n", Err(400)),
            ("Content-Length: -1\r\n", Err(400)),
            ("Content-Length: 1 2\r\n", Err(400)),
            ("Content-Length: 0x1\r\n", Err(400)),
            ("Content-Length: 1_0\r\n", Err(400)),
            ("Content-Length: 5, 5\r\n", Err(400)),
            ("Content-Length:\r\n", Err(400)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: CHUNKED\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: , chunked\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(400)),
            ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked, gzip\r\n", Err(400)),
            ("Transfer-Encoding: gzip\r\n", Err(501)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
            ("Transfer-Encoding: identity\r\n", Err(501)),
            ("Transfer-Encoding: chunked;q=1\r\n", Err(501)),
            ("Transfer-Encoding: xchunked\r\n", Err(501)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(400)),
            ("Transfer-Encoding: chun\u{a0}ked\r\n", Err(400)),
            ("Transfer-Encoding:\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", Err(400)),
        ];
        for (fields, expected) in table {
            assert_eq!(framing(fields), expected, "{fields:?}");
        }
        let http10 = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(status_of(http10), Some(Status::BAD_REQUEST));
    }

    #[test]
    fn only_the_expectation_100_continue_is_known() {
        assert!(accepted(&with("Expect: 100-Continue\r\nContent-Length: 1\r\n")).expect_continue);
        assert!(!accepted(&with("Expect: 100-continue\r\n")).expect_continue, "nothing to wait for");
        assert!(
            !accepted("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").expect_continue
        );
        assert_eq!(status_of(&with("Expect: tea\r\n")), Some(Status::EXPECTATION_FAILED));
    }

    #[test]
    fn each_limit_has_its_own_answer() {
        let limits =
            Limits { request_line_bytes_max: 30, head_bytes_max: 80, fields_max: 18, ..Limits::default() };
        let code =
            |input: &str| feed(&[input.as_bytes()], &limits).err().map(|refusal| refusal.status.code());
        let path = |len| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(len));
        assert_eq!(code(&path(26)), None);
        assert_eq!(code(&path(27)), Some(414));
        assert_eq!(code(&path(200)), Some(414));
        assert_eq!(code(&"p".repeat(31)), Some(414), "certain before the line has ended");
        let value = |len| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(len));
        assert_eq!(code(&value(48)), None);
        assert_eq!(code(&value(49)), Some(431));
        assert_eq!(code(&value(49)[..80]), Some(431), "certain before the head has ended");
    }

    #[test]
    fn the_number_of_fields_is_limited_on_the_stack_and_beyond_it() {
        let head =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(count - 1));
        for max in [3, FIELDS_ON_STACK, 18, 100] {
            let limits = Limits { fields_max: max, ..Limits::default() };
            let parsed = feed(&[head(max).as_bytes()], &limits).unwrap().unwrap();
            assert_eq!(parsed.fields.len(), max);
            let refusal = feed(&[head(max + 1).as_bytes()], &limits).unwrap_err();
            assert_eq!(refusal, TOO_MANY_FIELDS, "max {max}");
        }
    }

    #[test]
    fn the_bytes_of_another_protocol_are_refused_at_once() {
        let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        assert_eq!(feed(&[client_hello], &Limits::default()).unwrap_err().status, Status::BAD_REQUEST);
    }

    #[test]
    fn the_search_for_the_end_finds_the_first_one_at_every_offset() {
        for before in 0..12 {
            let mut bytes = vec![b'x'; before];
            bytes.extend_from_slice(b"\r\n\r\n\r\n\r\n");
            for from in 0..=before {
                assert_eq!(end_of_head(&bytes, from), Some(before + 4), "{before} {from}");
            }
        }
        assert_eq!(end_of_head(b"\r\r\n\r\n", 0), Some(5));
        assert_eq!(end_of_head(b"\n\r\n\r\n", 0), Some(5));
        assert_eq!(end_of_head(b"\r\n\r", 0), None);
    }
}
