//! Content codings of request bodies (RFC 9110 §8.4): which there is, and its content up to a bound.
//!
//! A body that a client has compressed is passed on as it came, unless the program asks for more
//! ([`Decompress`](crate::middleware::Decompress)). Sans-IO.
#![forbid(unsafe_code)]

#[cfg(feature = "gzip")]
use std::cell::Cell;
#[cfg(feature = "gzip")]
use std::io::{self, BufRead, Read};

use crate::error::{Error, UnknownCoding};
use crate::message::{self, Status};

/// How the body of a request is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coded {
    /// It is not.
    Plain,
    #[cfg(feature = "gzip")]
    Gzip,
    #[cfg(feature = "gzip")]
    Deflate,
    /// In a coding that is not undone here, or in several.
    Otherwise,
}

impl Coded {
    /// What the fields of a request say.
    pub(crate) fn from_fields<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Coded {
        let values = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-encoding"));
        let mut codings = values.flat_map(|(_, value)| message::list(value));
        match (codings.next(), codings.next()) {
            (None, _) => Coded::Plain,
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"identity") => Coded::Plain,
            // RFC 9110 §8.4.1.3: x-gzip is to be read as gzip.
            #[cfg(feature = "gzip")]
            (Some(coding), None)
                if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") =>
            {
                Coded::Gzip
            }
            #[cfg(feature = "gzip")]
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"deflate") => Coded::Deflate,
            _ => Coded::Otherwise,
        }
    }
}

/// Beside a request: its body is to be inflated, to so many bytes at the most.
#[cfg(feature = "gzip")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inflated {
    pub(crate) bytes_max: u64,
}

/// The codings that are undone where bodies are inflated, as `Accept-Encoding` names them.
#[cfg(feature = "gzip")]
pub(crate) const INFLATED: &str = "gzip, deflate";

/// The codings that are undone elsewhere: none.
pub(crate) const PLAIN: &str = "identity";

/// The answer to a body that nobody here can read (RFC 9110 §15.5.16), with what could be read instead.
pub(crate) fn unsupported(known: &'static str) -> Error {
    Error::new(Status::UNSUPPORTED_MEDIA_TYPE, "the content coding of the body is not supported")
        .caused_by(UnknownCoding { known })
}

/// So much is inflated at a time, and then others run.
#[cfg(feature = "gzip")]
const PIECE_BYTES: usize = 32 << 10;

/// So much more than twice its content a coded body may be: headers of members have names in them. What codes longer than it
/// finds it sends blocks or members without content, each of which costs microseconds for some bytes.
#[cfg(feature = "gzip")]
const SLACK_BYTES: usize = 16 << 10;

/// The coded bytes, handed out as far as their content pays for them.
#[cfg(feature = "gzip")]
struct Paid<'b> {
    rest: &'b [u8],
    taken: usize,
    /// So much may be taken by now.
    allowed: &'b Cell<usize>,
}

#[cfg(feature = "gzip")]
impl BufRead for Paid<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        /// At most so much is taken before it is looked at again.
        const SIP_BYTES: usize = 8 << 10;
        if self.taken > self.allowed.get() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is coded at far greater length than it has",
            ));
        }
        Ok(&self.rest[..self.rest.len().min(SIP_BYTES)])
    }

    fn consume(&mut self, count: usize) {
        self.rest = &self.rest[count..];
        self.taken += count;
    }
}

#[cfg(feature = "gzip")]
impl Read for Paid<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(room)?;
        self.consume(count);
        Ok(count)
    }
}

/// The content of a body in this coding.
///
/// # Errors
/// 400 where it is malformed, 413 where the content is longer than `bytes_max`.
#[cfg(feature = "gzip")]
pub(crate) fn inflate(coded: Coded, body: Vec<u8>, bytes_max: u64) -> Result<Vec<u8>, Error> {
    use flate2::bufread::{MultiGzDecoder, ZlibDecoder};

    use crate::coding::CODER_STACK_BYTES;

    if body.is_empty() {
        // There is none, or it was read before.
        return Ok(body);
    }
    let allowed = Cell::new(SLACK_BYTES);
    let coded_bytes = Paid { rest: &body, taken: 0, allowed: &allowed };
    let mut decoder: Box<dyn Read + '_> = match coded {
        Coded::Plain => return Ok(body),
        Coded::Otherwise => return Err(unsupported(INFLATED)),
        // A file of gzip may have several members (RFC 1952 §2.2).
        Coded::Gzip => Box::new(MultiGzDecoder::new(coded_bytes)),
        Coded::Deflate => Box::new(ZlibDecoder::new(coded_bytes)),
    };
    let mut content = Vec::new();
    loop {
        let begin = content.len();
        content.resize(begin + PIECE_BYTES, 0);
        let count = bast::ensure_stack(CODER_STACK_BYTES, || decoder.read(&mut content[begin..])).map_err(
            |error| Error::bad_request("the body is not what its content coding says").caused_by(error),
        )?;
        content.truncate(begin + count);
        allowed.set(SLACK_BYTES + 2 * content.len());
        if content.len() as u64 > bytes_max {
            return Err(Error::new(
                Status::CONTENT_TOO_LARGE,
                "the body is too large when it is decompressed",
            ));
        }
        if count == 0 {
            return Ok(content);
        }
        bast::yield_point();
    }
}
