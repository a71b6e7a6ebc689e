//! Content codings for what handlers answer: which responses, in which coding, and what the head has to say then.
//!
//! ```text
//!   response ─ may it be coded at all? ─ which coding does the client want? ─▶ bytes: coded at once, length known
//!                 │ no                      │ none                        ├──▶ stream: coded as it is written
//!                 ▼                         ▼                             └──▶ file: read and coded as it is sent
//!              as it is                  as it is, or 406
//! ```
//! `encoder` has the codings themselves.
#![forbid(unsafe_code)]

mod encoder;

use std::io::{self, Write as _};

use super::{Middleware, Next, add_vary};
use crate::coding::{Accepted, Choice, Coding, DIGESTS, is_compressible};
use crate::error::Error;
use crate::http1::stream::{BodyWriter, Encode};
use crate::message::{self, Method, Status};
use crate::request::Request;
use crate::response::{Body, Bytes, FilePart, IntoResponse, Response, StreamBody};
use encoder::Encoder;

/// Compresses responses as far as clients take it (RFC 9110 §12.5.3) and it is worth it.
///
/// Compressed is what has a media type of text and its kin, is not coded already, no range, allowed to be transformed
/// (`no-transform` of RFC 9111), and has at least 1 KiB where its length is known. Such responses say `Vary: Accept-Encoding`
/// to everybody, and so do ranges of them. A strong entity tag becomes a weak one, because the bytes are others now; ranges of
/// such content are not offered. A client that refuses the plain content (`identity;q=0`) gets a coding that it takes, whatever
/// the size and type. Where it names none that is here, a GET or HEAD request is answered by a 406. After any other method what was
/// done is done, and its answer is sent as it is: the field is disregarded then, which RFC 9110 §12.4.1 allows. Digests of the plain
/// content (`Content-Digest` and its kin) are taken off what is coded.
///
/// Streams are compressed as they are written, and what is written before a [`flush`](std::io::Write::flush) arrives with it: so
/// server-sent events still come one by one. Without a flush it stays in the compressor, also while the producer waits. Each
/// coding at work takes some hundred kilobytes of memory; a large body gives way to other threads every 16 KiB.
///
/// In a debug build the compressors are slow, unless dependencies are optimised: see the [crate](crate#cargo-features).
///
/// Compressing a secret together with what an attacker chooses tells the secret by the length (the BREACH attack). Do not compress
/// pages that hold both, or vary the secret with each response.
///
/// ```
/// use bast_server::middleware::{Compress, Effort};
/// use bast_server::{Handler, Request, Response};
/// let app = |_: &mut Request| Response::html("<p>text</p>".repeat(1000));
/// let app = app.with(Compress::new().effort(Effort::Fast));
/// # let _ = app;
/// ```
#[derive(Clone, Debug)]
pub struct Compress {
    codings: Vec<Coding>,
    bytes_min: u64,
    effort: Effort,
}

/// How much time to spend on smaller bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// As fast as can be.
    Fast,
    /// What others use for content that is compressed while a client waits.
    #[default]
    Balanced,
    /// Slow, by a factor of ten or so.
    Best,
}

/// Below this a body fits into a segment anyway.
const BYTES_MIN: u64 = 1 << 10;

/// A large body gives way to other threads after so much of it.
const PIECE_BYTES: usize = 16 << 10;

/// All that is built in, the better one first: zstd is the fastest, Brotli makes the smallest.
const CODINGS: &[Coding] = &[
    #[cfg(feature = "zstd")]
    Coding::Zstd,
    #[cfg(feature = "brotli")]
    Coding::Brotli,
    Coding::Gzip,
    Coding::Deflate,
];

impl Compress {
    /// All codings that are built in: gzip and deflate with the feature `gzip`, and those of `brotli` and `zstd`.
    #[must_use]
    pub fn new() -> Compress {
        Compress { codings: CODINGS.to_vec(), bytes_min: BYTES_MIN, effort: Effort::default() }
    }

    /// Only these codings, and in this order where a client has no preference.
    ///
    /// # Panics
    /// If one is not built in.
    #[must_use]
    pub fn codings(mut self, codings: impl IntoIterator<Item = Coding>) -> Compress {
        self.codings = codings.into_iter().collect();
        for coding in &self.codings {
            assert!(
                CODINGS.contains(coding),
                "compress: {} is not built in: see the features",
                coding.name()
            );
        }
        self
    }

    /// Sets the length from which a body is compressed: 1 KiB at first.
    #[must_use]
    pub fn bytes_min(mut self, bytes_min: u64) -> Compress {
        self.bytes_min = bytes_min;
        self
    }

    /// Sets how much time to spend.
    #[must_use]
    pub fn effort(mut self, effort: Effort) -> Compress {
        self.effort = effort;
        self
    }

    fn apply(&self, response: Response, asked: &Asked) -> Response {
        let status = response.status();
        let choice = if asked.no_transform {
            Choice::Identity
        } else {
            asked.accepted.choose(self.codings.iter().copied())
        };
        if !may_be_coded(&response) {
            return response;
        }
        if status == Status::NOT_MODIFIED {
            return asked.unmodified(response, choice);
        }
        let is_of_type = response.header("Content-Type").is_some_and(is_compressible);
        if status == Status::PARTIAL_CONTENT || response.header("Content-Range").is_some() {
            // A range goes as it is, and says to caches what the whole would have said (RFC 9110 §15.3.7).
            let varies = is_of_type && status == Status::PARTIAL_CONTENT;
            return if varies { add_vary(response, VARY) } else { response };
        }
        let length = match response.body() {
            Body::Bytes(bytes) => Some(bytes.as_slice().len() as u64),
            Body::Parts(parts) => Some(parts.iter().map(|part| part.as_slice().len() as u64).sum()),
            Body::File(part) => Some(part.len),
            Body::Stream(stream) => stream.length,
            _ => return response,
        };
        if !status.allows_body() {
            return response;
        }
        let is_worth_it = is_of_type && length.is_none_or(|length| length >= self.bytes_min);
        if !is_worth_it && asked.accepted.takes_identity() {
            return response;
        }
        let response = add_vary(response, VARY);
        match choice {
            Choice::Coding(coding) => self.code(response, coding, asked),
            Choice::Identity => response,
            // The content of an error is better sent than kept, and so is the answer to what cannot be undone.
            Choice::Nothing if !asked.is_safe || !(200..300).contains(&status.code()) => response,
            Choice::Nothing => {
                let refusal =
                    Error::new(Status::NOT_ACCEPTABLE, "there is no content coding that you accept");
                add_vary(refusal.into_response(), VARY)
            }
        }
    }

    fn code(&self, mut response: Response, coding: Coding, asked: &Asked) -> Response {
        let body = match response.take_body() {
            Body::Bytes(bytes) => match self.code_parts(coding, std::slice::from_ref(&bytes), asked) {
                Some(coded) => coded,
                None => return response.with_body(Body::Bytes(bytes)),
            },
            Body::Parts(parts) => match self.code_parts(coding, &parts, asked) {
                Some(coded) => coded,
                None => return response.with_body(Body::Parts(parts)),
            },
            Body::File(part) => {
                let file = move |body: &mut BodyWriter<'_>| send_file(&part, body);
                self.code_stream(coding, StreamBody::new(file))
            }
            Body::Stream(stream) => self.code_stream(coding, stream),
            other => other,
        };
        let response = DIGESTS.iter().fold(weaken(response), Response::without_header);
        response
            .without_header("Accept-Ranges")
            .with_header("Content-Encoding", coding.name())
            .with_body(body)
    }

    /// The parts as one body; `None` where they should go as they are, because they would not become smaller.
    fn code_parts(&self, coding: Coding, parts: &[Bytes], asked: &Asked) -> Option<Body> {
        let coded = self.code_bytes(coding, parts);
        let coded = coded.inspect_err(|error| log::error!("a body could not be compressed: {error}")).ok()?;
        let plain: usize = parts.iter().map(|part| part.as_slice().len()).sum();
        (coded.len() < plain || !asked.accepted.takes_identity()).then(|| Body::Bytes(Bytes::Owned(coded)))
    }

    fn code_bytes(&self, coding: Coding, parts: &[Bytes]) -> io::Result<Vec<u8>> {
        let mut encoder = Encoder::new(coding, self.effort)?;
        for piece in parts.iter().flat_map(|part| part.as_slice().chunks(PIECE_BYTES)) {
            encoder.write(piece)?;
            bast::yield_point();
        }
        encoder.finish()?;
        Ok(std::mem::take(encoder.output()))
    }

    /// The same stream, coded. For a HEAD request it is not run, and its length is not known then.
    fn code_stream(&self, coding: Coding, stream: StreamBody) -> Body {
        let effort = self.effort;
        Body::Stream(stream.coded(move |length| {
            Ok(Box::new(Counted { encoder: Encoder::new(coding, effort)?, left: length }))
        }))
    }
}

impl Default for Compress {
    fn default() -> Compress {
        Compress::new()
    }
}

impl Middleware for Compress {
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        let asked = Asked::of(request);
        let response = next.run(request);
        if request.method() == Method::Connect { response } else { self.apply(response, &asked) }
    }
}

const VARY: &str = "Accept-Encoding";

/// What matters here of a request.
struct Asked {
    accepted: Accepted,
    no_transform: bool,
    /// It is GET or HEAD: a handler whose response is dropped has done nothing.
    is_safe: bool,
    /// The tags that the client keeps content of.
    kept_tags: Vec<String>,
}

impl Asked {
    fn of(request: &Request<'_>) -> Asked {
        let mut controls = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case("Cache-Control"));
        let tags = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case("If-None-Match"));
        let tags = tags
            .flat_map(|(_, value)| message::list(value))
            .map(|tag| String::from_utf8_lossy(tag).into_owned());
        Asked {
            accepted: Accepted::from_fields(request.headers()),
            no_transform: controls.any(|(_, value)| forbids_transforms(value)),
            is_safe: matches!(request.method(), Method::Get | Method::Head),
            kept_tags: tags.collect(),
        }
    }
}

impl Asked {
    /// A 304 as it goes with the 200 that the client keeps: of the content that may be coded it has the same `Vary` (RFC 9110
    /// §15.4.5), and the tag that was made weak (RFC 9111 §4.3.4 wants the same one). What was not coded has its own tag, so the
    /// client's tags decide; where it sent neither, the type does.
    fn unmodified(&self, response: Response, choice: Choice) -> Response {
        let is_compressible = response.header("Content-Type").map(is_compressible);
        if is_compressible == Some(false) {
            return response;
        }
        let response = add_vary(response, VARY);
        let Some(tag) = response.header("ETag").filter(|_| matches!(choice, Choice::Coding(_))) else {
            return response;
        };
        let keeps = |tag: &str| self.kept_tags.iter().any(|kept| kept == tag);
        let is_weak = match (keeps(tag), keeps(&format!("W/{tag}"))) {
            (false, false) => is_compressible == Some(true),
            (keeps_strong, _) => !keeps_strong,
        };
        if is_weak { weaken(response) } else { response }
    }
}

fn forbids_transforms(cache_control: &[u8]) -> bool {
    message::list(cache_control).any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

/// May the content be sent in another coding, its size and type aside?
fn may_be_coded(response: &Response) -> bool {
    response.header("Content-Encoding").is_none_or(|coding| coding.eq_ignore_ascii_case("identity"))
        && !response.headers().iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("Cache-Control") && forbids_transforms(value.as_bytes())
        })
}

/// Makes a strong entity tag weak: the content means the same, its bytes are others (RFC 9110 §8.8.1).
fn weaken(response: Response) -> Response {
    let tag = response.header("ETag").filter(|tag| !tag.starts_with("W/")).map(|tag| format!("W/{tag}"));
    match tag {
        Some(tag) => response.with_header("ETag", tag),
        None => response,
    }
}

/// Sends a part of a file by way of the writer's coding.
fn send_file(part: &FilePart, body: &mut BodyWriter<'_>) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let (mut offset, mut left) = (part.offset, part.len);
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let count = part.file.file().read_at(&mut piece[..want], offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        body.write_all(&piece[..count])?;
        (offset, left) = (offset + count as u64, left - count as u64);
    }
    Ok(())
}

/// An encoder that holds its producer to the length that it had announced, which nobody else can any more.
struct Counted {
    encoder: Encoder,
    left: Option<u64>,
}

impl Encode for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(left) = &mut self.left {
            let too_much = || io::Error::new(io::ErrorKind::WriteZero, "response body beyond its length");
            *left = left.checked_sub(bytes.len() as u64).ok_or_else(too_much)?;
        }
        for piece in bytes.chunks(PIECE_BYTES) {
            self.encoder.write(piece)?;
            bast::yield_point();
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.encoder.finish()
    }

    fn output(&mut self) -> &mut Vec<u8> {
        self.encoder.output()
    }
}

#[cfg(test)]
mod tests;
