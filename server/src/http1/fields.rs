//! The field lines of a head (RFC 9112 §5), and what those among them say that frame the message (§6).
//!
//! Strict: a name is a token, the colon follows at once, lines end by CRLF, nothing is folded, and no control character is in
//! a value.
#![forbid(unsafe_code)]

use crate::class::{is_token, token_len, value_len};
use crate::http1::head::{Field, Framing, Refusal, Span, bad};
use crate::http1::persistence::ConnectionOptions;
use crate::message::{Status, Version, list};

pub(crate) const TOO_MANY_FIELDS: Refusal =
    Refusal { status: Status::REQUEST_HEADER_FIELDS_TOO_LARGE, reason: "too many header fields" };

/// Reads the field lines at `at` into `fields`, up to the blank line that ends them, and takes note of what they say of
/// the message. Returns where the blank line ends.
///
/// In the parser of requests it is part of one loop over the head; as a call, which it would become because responses are read by
/// it too, it costs 30 instructions more.
///
/// # Errors
/// The refusal to answer with. Of fields that are not complete it may say anything.
#[inline(always)]
pub(crate) fn field_lines(
    bytes: &[u8],
    at: usize,
    fields_max: usize,
    fields: &mut Vec<Field>,
    seen: &mut Seen,
) -> Result<usize, Refusal> {
    fields.clear();
    // All below are what is left of `bytes`: the length tells where they begin.
    let offset = |rest: &[u8]| bytes.len() - rest.len();
    let mut rest = &bytes[at..];
    loop {
        let (name, [b':', value @ ..]) = rest.split_at(token_len(rest)) else {
            return if let [b'\r', b'\n', behind @ ..] = rest {
                Ok(offset(behind))
            } else {
                Err(bad_name(rest))
            };
        };
        if name.is_empty() {
            return Err(bad_name(rest));
        }
        let mut value = value;
        while let [b' ' | b'\t', behind @ ..] = value {
            value = behind;
        }
        let (mut text, [b'\r', b'\n', next @ ..]) = value.split_at(value_len(value)) else {
            return Err(bad_value(&value[value_len(value)..]));
        };
        while let [before @ .., b' ' | b'\t'] = text {
            text = before;
        }
        if fields.len() == fields_max {
            return Err(TOO_MANY_FIELDS);
        }
        let (name_at, value_at) = (offset(rest), offset(value));
        let span = Span::new(value_at, value_at + text.len());
        seen.note(name, text, span)?;
        fields.push(Field { name: Span::new(name_at, name_at + name.len()), value: span });
        rest = next;
    }
}

/// What to answer to a line that does not begin with a name and a colon.
#[cold]
fn bad_name(line: &[u8]) -> Refusal {
    bad(if line.starts_with(b"\n") { "line ends by LF alone" } else { "malformed header field name" })
}

/// What to answer to a value that goes on like this.
#[cold]
fn bad_value(rest: &[u8]) -> Refusal {
    bad(match rest {
        [b'\n', ..] => "line ends by LF alone",
        [b'\r', ..] => "malformed line end",
        _ => "malformed header field value",
    })
}

/// What the fields that frame the message said so far.
#[derive(Default)]
pub(crate) struct Seen {
    /// Not looked at.
    pub(crate) host: Option<Span>,
    content_length: Option<u64>,
    coding: Option<Coding>,
    pub(crate) options: ConnectionOptions,
    pub(crate) expect_continue: bool,
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
    fn note(&mut self, name: &[u8], value: &[u8], span: Span) -> Result<(), Refusal> {
        match name {
            // In a token the bit makes a small letter of a large one, and no other byte a letter.
            &[a, b, c, d] if [a, b, c, d].map(|byte| byte | 0x20) == *b"host" => {
                if self.host.replace(span).is_some() {
                    return Err(bad("more than one Host"));
                }
                Ok(())
            }
            _ if matches!(name.len(), 6 | 10 | 14 | 17) => self.note_rare(name, value),
            _ => Ok(()),
        }
    }

    /// The same for fields other than `Host`.
    #[inline(never)]
    fn note_rare(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case(b"connection") {
            self.options.add(value);
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.content_length(value)?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_encoding(value)?;
        } else if name.eq_ignore_ascii_case(b"expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Refusal { status: Status::EXPECTATION_FAILED, reason: "unknown expectation" });
            }
            self.expect_continue = true;
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
    pub(crate) fn framing(&self, version: Version) -> Result<Framing, Refusal> {
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
