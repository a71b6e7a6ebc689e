//! Composing a response: the head by direct copies into the output buffer, chunks around data. Sans-IO.
//!
//! One pass, no formatting machinery, no allocation but the buffer's own growth. What is constant is copied as a
//! constant: status lines, the server's own lines, field names. Every name and value was checked when the
//! response was built (`response.rs`), so no byte of the application can end a line here.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::http1::persistence::Persistence;
use crate::http1::preamble::{Preamble, push_type};
use crate::message::{Status, Version};

/// How the client learns where the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// The status allows no body: no field says anything (RFC 9110 §8.6).
    Absent,
    /// `Content-Length`.
    Sized(u64),
    /// `Transfer-Encoding: chunked`, to 1.1 clients only.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// All that a response head is made of.
pub(crate) struct ResponseHead<'a> {
    pub(crate) status: Status,
    pub(crate) preamble: &'a mut Preamble,
    /// The response's own fields as whole lines.
    pub(crate) header_lines: &'a str,
    /// The value of `Content-Type`, where the lines do not have it.
    pub(crate) content_type: Option<&'a Cow<'static, str>>,
    pub(crate) length: Length,
    /// The version of the request: 1.0 has to be told that the connection persists.
    pub(crate) version: Version,
    pub(crate) persistence: Persistence,
}

/// The interim response that asks for the body (RFC 9110 §15.2.1).
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What ends the chunks of a body: trailers and a blank line follow.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n";

impl ResponseHead<'_> {
    /// Appends the head with the blank line that ends it.
    ///
    /// A piece whose size is known when this is compiled is a few moves, any other a call of `memcpy`: so those that
    /// most responses have are written as the former.
    #[inline(always)]
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        match (self.status, self.content_type) {
            (Status::OK, Some(Cow::Borrowed(media_type))) => {
                out.extend_from_slice(self.preamble.ok_with_type(media_type));
            }
            (status, media_type) => begin(status, self.preamble, media_type.map(|it| &**it), out),
        }
        self.push_lines(out);
        match self.length {
            Length::Absent | Length::UntilClose => out.extend_from_slice(b"\r\n"),
            Length::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
            Length::Sized(length) => {
                out.extend_from_slice(b"Content-Length: ");
                push_number(length, out);
                out.extend_from_slice(b"\r\n\r\n");
            }
        }
    }
}

impl ResponseHead<'_> {
    /// Appends the head up to `Content-Type`, and then `rest`, which has that and all that follows.
    pub(crate) fn encode_before(self, rest: &[u8], out: &mut Vec<u8>) {
        begin(self.status, self.preamble, None, out);
        self.push_lines(out);
        out.extend_from_slice(rest);
    }

    /// Appends the response's own fields, and what becomes of the connection.
    #[inline]
    fn push_lines(&self, out: &mut Vec<u8>) {
        if !self.header_lines.is_empty() {
            out.extend_from_slice(self.header_lines.as_bytes());
        }
        match (self.persistence, self.version) {
            (Persistence::Reuse, Version::Http11) => {}
            (Persistence::Reuse, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (Persistence::Close, _) => out.extend_from_slice(b"Connection: close\r\n"),
        }
    }
}

/// The first lines of a response that is not like most.
#[inline(never)]
fn begin(status: Status, preamble: &Preamble, media_type: Option<&str>, out: &mut Vec<u8>) {
    if status == Status::OK {
        out.extend_from_slice(preamble.ok());
    } else {
        push_status_line(status, out);
        out.extend_from_slice(preamble.lines());
    }
    if let Some(media_type) = media_type {
        push_type(media_type, out);
    }
}

/// Appends an interim response: status and fields, which were checked, and nothing of the server's own.
pub(crate) fn push_interim(status: Status, fields: &[(&str, &str)], out: &mut Vec<u8>) {
    push_status_line(status, out);
    for (name, value) in fields {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn push_status_line(status: Status, out: &mut Vec<u8>) {
    match status.line() {
        Some(line) => out.extend_from_slice(line.as_bytes()),
        None => unknown_status_line(status, out),
    }
}

/// RFC 9112 §4: the reason phrase may be empty, the space before it may not be left out.
#[cold]
fn unknown_status_line(status: Status, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(u64::from(status.code()), out);
    out.extend_from_slice(b" \r\n");
}

/// Appends a number in decimal.
#[inline]
fn push_number(number: u64, out: &mut Vec<u8>) {
    match number {
        0..10 => out.push(digit(number)),
        10..100 => out.extend_from_slice(&[digit(number / 10), digit(number % 10)]),
        _ => push_long_number(number, out),
    }
}

fn digit(number: u64) -> u8 {
    b'0' + number as u8
}

#[inline(never)]
fn push_long_number(mut number: u64, out: &mut Vec<u8>) {
    /// The most digits that a number has.
    const DIGITS_MAX: usize = 20;
    let mut digits = [0; DIGITS_MAX];
    let mut first = DIGITS_MAX;
    while number > 0 {
        first -= 1;
        digits[first] = digit(number % 10);
        number /= 10;
    }
    out.extend_from_slice(&digits[first..]);
}

/// Room for the size of a chunk, written before the size is known. RFC 9112 §7.1 allows leading zeros.
const SIZE_PLACEHOLDER: &[u8] = b"0000\r\n";

/// The largest chunk whose size fits the placeholder.
pub(crate) const CHUNK_BYTES_MAX: usize = 0xffff;

/// Opens a chunk at the end of `out`; returns what [`end_chunk`] wants to know.
pub(crate) fn begin_chunk(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(SIZE_PLACEHOLDER);
    start
}

/// Closes the chunk that [`begin_chunk`] opened at `start`, which reaches to the end of `out`. An empty chunk would
/// end the body: it is taken back instead.
#[inline(never)]
pub(crate) fn end_chunk(out: &mut Vec<u8>, start: usize) {
    let mut size = out.len() - start - SIZE_PLACEHOLDER.len();
    assert!(size <= CHUNK_BYTES_MAX, "encode: chunk beyond its placeholder");
    if size == 0 {
        return out.truncate(start);
    }
    for digit in out[start..start + 4].iter_mut().rev() {
        *digit = b"0123456789abcdef"[size & 15];
        size >>= 4;
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line of a chunk whose size is known.
pub(crate) fn push_chunk_size(size: u64, out: &mut Vec<u8>) {
    let digits = (u64::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(size >> (4 * place)) as usize & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::preamble;
    use crate::response::Response;
    use crate::timeout::ServerId;

    fn encoded(response: &Response, length: Length, version: Version, persistence: Persistence) -> String {
        let mut out = b"before".to_vec();
        preamble::with(ServerId::next(), b"Server: s\r\n", 784_111_777, |preamble| {
            let head = ResponseHead {
                status: response.status(),
                preamble,
                header_lines: response.headers().lines(),
                content_type: response.headers().content_type(),
                length,
                version,
                persistence,
            };
            head.encode(&mut out);
        });
        let out = String::from_utf8(out).unwrap().replace("Sun, 06 Nov 1994 08:49:37 GMT", "d");
        out.strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn a_head_is_status_fields_length_and_persistence() {
        let response = Response::text("x").with_header("X-A", "b");
        assert_eq!(
            encoded(&response, Length::Sized(1), Version::Http11, Persistence::Reuse),
            "HTTP/1.1 200 OK\r\nServer: s\r\nDate: d\r\nContent-Type: text/plain; charset=utf-8\r\nX-A: b\r\n\
             Content-Length: 1\r\n\r\n"
        );
        let made = Response::bytes(String::from("a/b"), "").with_status(Status::CREATED);
        assert_eq!(
            encoded(&made, Length::Sized(100), Version::Http11, Persistence::Reuse),
            "HTTP/1.1 201 Created\r\nServer: s\r\nDate: d\r\nContent-Type: a/b\r\nContent-Length: 100\r\n\r\n"
        );
        let gone = Response::new(Status::NO_CONTENT);
        assert_eq!(
            encoded(&gone, Length::Absent, Version::Http11, Persistence::Close),
            "HTTP/1.1 204 No Content\r\nServer: s\r\nDate: d\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            encoded(&gone, Length::Chunked, Version::Http10, Persistence::Reuse),
            "HTTP/1.1 204 No Content\r\nServer: s\r\nDate: d\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
    }

    #[test]
    fn a_status_without_a_reason_keeps_its_space() {
        let odd = Response::new(Status::from_code(599).unwrap());
        let head = encoded(&odd, Length::UntilClose, Version::Http11, Persistence::Close);
        assert!(head.starts_with("HTTP/1.1 599 \r\nServer"), "{head}");
    }

    #[test]
    fn numbers_are_written_as_std_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 12345, u64::from(u32::MAX), u64::MAX] {
            let mut out = b"before ".to_vec();
            push_number(number, &mut out);
            assert_eq!(out, format!("before {number}").as_bytes());
        }
    }

    #[test]
    fn the_size_of_a_chunk_is_written_as_std_writes_it() {
        for size in [0, 1, 15, 16, 0xabc, 0x10_000, u64::MAX] {
            let mut out = b"before ".to_vec();
            push_chunk_size(size, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("before {size:x}\r\n"));
        }
    }

    #[test]
    fn a_chunk_knows_its_size_and_an_empty_one_vanishes() {
        let mut out = b"x".to_vec();
        let start = begin_chunk(&mut out);
        end_chunk(&mut out, start);
        assert_eq!(out, b"x");
        for size in [1, 15, 16, 0xabc, CHUNK_BYTES_MAX] {
            let mut out = Vec::new();
            let start = begin_chunk(&mut out);
            out.resize(out.len() + size, b'd');
            end_chunk(&mut out, start);
            assert_eq!(out[..6], *format!("{size:04x}\r\n").as_bytes());
            assert_eq!(out.len(), 6 + size + 2);
            assert!(out.ends_with(b"d\r\n"));
        }
    }
}
