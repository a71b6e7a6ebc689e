//! Content codings of request bodies (RFC 9110 §8.4): which there is, and its content up to a bound.
//!
//! A body that a client has compressed is passed on as it came, unless the program asks for more
//! ([`Decompress`](crate::middleware::Decompress)). Sans-IO.
#![forbid(unsafe_code)]

use crate::error::Error;
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

/// The answer to a body that nobody here can read (RFC 9110 §15.5.16).
pub(crate) fn unsupported() -> Error {
    Error::new(Status::UNSUPPORTED_MEDIA_TYPE, "the content coding of the body is not supported")
}

/// So much is inflated at a time, and then others run.
#[cfg(feature = "gzip")]
const PIECE_BYTES: usize = 32 << 10;

/// The content of a body in this coding.
///
/// # Errors
/// 400 where it is malformed, 413 where the content is longer than `bytes_max`.
#[cfg(feature = "gzip")]
pub(crate) fn inflate(coded: Coded, body: Vec<u8>, bytes_max: u64) -> Result<Vec<u8>, Error> {
    use std::io::Read;

    use flate2::bufread::{MultiGzDecoder, ZlibDecoder};

    use crate::coding::CODER_STACK_BYTES;

    let mut decoder: Box<dyn Read> = match coded {
        Coded::Plain => return Ok(body),
        Coded::Otherwise => return Err(unsupported()),
        // A file of gzip may have several members (RFC 1952 §2.2).
        Coded::Gzip => Box::new(MultiGzDecoder::new(&*body)),
        Coded::Deflate => Box::new(ZlibDecoder::new(&*body)),
    };
    let mut content = Vec::new();
    loop {
        let begin = content.len();
        content.resize(begin + PIECE_BYTES, 0);
        let count = bast::ensure_stack(CODER_STACK_BYTES, || decoder.read(&mut content[begin..])).map_err(
            |error| Error::bad_request("the body is not what its content coding says").caused_by(error),
        )?;
        content.truncate(begin + count);
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
