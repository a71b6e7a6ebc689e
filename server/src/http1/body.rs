//! Where the body of a request ends: sized and chunked framing (RFC 9112 §§6, 7), sans-IO.
//!
//! ```text
//!            ┌──────────── took(all) ────────────┐
//! chunked:  Size ─▶ (Extension) ─▶ Data ─▶ CRLF ─┘    Size 0 ─▶ trailers ─▶ Done
//! sized:    Data ── took(all) ──▶ Done                any malformed byte ─▶ Broken
//! ```
//! [`RequestBody::step`] eats framing and says how many bytes of data come next; the caller copies those to where
//! they are wanted and reports them by [`RequestBody::took`]. So data can go past the input buffer.
//! Nothing here reads a socket or keeps a byte.
#![forbid(unsafe_code)]

use crate::class::is_token_byte;
use crate::http1::chunk_extension::Extension;
use crate::http1::head::{Framing, Refusal};
use crate::http1::trailers::Trailers;
use crate::limits::Limits;
use crate::message::Status;

/// The reading side of one request's body.
#[derive(Debug)]
pub(crate) struct RequestBody {
    state: State,
    /// Data bytes handed out so far, for the limit.
    seen: u64,
    /// Bytes of framing beyond the sizes themselves.
    overhead: usize,
    /// The fields behind the chunks, if there are any.
    trailers: Option<Box<Trailers>>,
    /// Limits, copied so that a request can have its own.
    body_bytes_max: u64,
    overhead_bytes_max: usize,
}

/// What comes next in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The framing is not complete: more input is needed.
    More,
    /// At least one and at most so many bytes of data come next.
    Data(u64),
    /// The body has ended.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A sized body with so many bytes left, not 0.
    Sized(u64),
    /// In the digits of a chunk size.
    Size {
        size: u64,
        digits: u8,
    },
    /// White space before a chunk extension.
    BeforeExtension {
        size: u64,
    },
    /// In a chunk extension, which is ignored.
    Extension {
        size: u64,
        at: Extension,
    },
    /// Behind the CR of a size line.
    SizeLf {
        size: u64,
    },
    /// In a chunk, with so many bytes left, not 0.
    Data(u64),
    /// Behind a chunk.
    DataCr,
    DataLf,
    /// At the beginning of a trailer line, or of the empty line that ends them.
    Trailer,
    /// In a trailer's name.
    TrailerName,
    /// In a trailer's value.
    TrailerValue,
    /// Behind the CR of a trailer line.
    TrailerLf,
    /// Behind the CR of the empty line.
    LastLf,
    Done,
    /// Malformed, too large or cut off: where the next request begins is unknown.
    Broken,
}

/// More digits than any size below 2^64 needs; leading zeros count.
const SIZE_DIGITS_MAX: u8 = 16;

const MALFORMED: Refusal = Refusal { status: Status::BAD_REQUEST, reason: "malformed chunked body" };
const OVERHEAD: Refusal = Refusal { status: Status::BAD_REQUEST, reason: "too much chunk framing" };
const TOO_LARGE: Refusal = Refusal { status: Status::CONTENT_TOO_LARGE, reason: "request body too large" };
const BROKEN: Refusal = Refusal { status: Status::BAD_REQUEST, reason: "request body failed before" };

impl RequestBody {
    /// The body of a request with this framing.
    pub(crate) fn new(framing: Framing, limits: &Limits) -> RequestBody {
        let state = match framing {
            Framing::Empty => State::Done,
            Framing::Sized(length) => State::Sized(length),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
        };
        RequestBody {
            state,
            seen: 0,
            overhead: 0,
            trailers: None,
            body_bytes_max: limits.body_bytes_max,
            overhead_bytes_max: limits.chunk_overhead_bytes_max,
        }
    }

    /// Has the whole body been taken?
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Is it lost where the body ends?
    pub(crate) fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Records that the input failed or ended within the body.
    pub(crate) fn break_off(&mut self) {
        self.state = State::Broken;
    }

    /// How many bytes a sized body still has.
    pub(crate) fn sized_left(&self) -> Option<u64> {
        match self.state {
            State::Sized(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Sets the limit on the body's length in bytes.
    pub(crate) fn limit(&mut self, body_bytes_max: u64) {
        self.body_bytes_max = body_bytes_max;
    }

    /// Lifts the limit on the body's length, for bodies that are dropped and not handed to anybody.
    pub(crate) fn unlimited(&mut self) {
        self.body_bytes_max = u64::MAX;
    }

    /// Eats framing from the front of `input`: returns how many bytes to consume, and what comes behind them.
    ///
    /// # Errors
    /// What to answer if the body is malformed or beyond a limit; it stays broken from then on.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<(usize, Step), Refusal> {
        let result = self.advance(input);
        if result.is_err() {
            self.state = State::Broken;
        }
        result
    }

    fn advance(&mut self, input: &[u8]) -> Result<(usize, Step), Refusal> {
        let mut rest = input.iter();
        loop {
            let consumed = input.len() - rest.len();
            match self.state {
                State::Sized(left) => {
                    self.within_limit(left)?;
                    return Ok((consumed, Step::Data(left)));
                }
                State::Data(left) => return Ok((consumed, Step::Data(left))),
                State::Done => return Ok((consumed, Step::Done)),
                State::Broken => return Err(BROKEN),
                _ => {}
            }
            let Some(&byte) = rest.next() else { return Ok((consumed, Step::More)) };
            self.state = self.after(byte)?;
        }
    }

    /// The state behind one byte of chunked framing.
    fn after(&mut self, byte: u8) -> Result<State, Refusal> {
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return Err(MALFORMED);
                }
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                State::Size { size: size << 4 | digit, digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(MALFORMED),
            (State::Size { size, .. }, b'\r') => State::SizeLf { size },
            (State::Size { size, .. } | State::BeforeExtension { size }, b' ' | b'\t') => {
                self.extra()?;
                State::BeforeExtension { size }
            }
            (State::Size { size, .. } | State::BeforeExtension { size }, b';') => {
                self.extra()?;
                State::Extension { size, at: Extension::BeforeName }
            }
            (State::Extension { size, at }, b'\r') if at.may_end() => State::SizeLf { size },
            (State::Extension { size, at }, _) => {
                self.extra()?;
                State::Extension { size, at: at.after(byte).ok_or(MALFORMED)? }
            }
            (State::SizeLf { size: 0 }, b'\n') => State::Trailer,
            (State::SizeLf { size }, b'\n') => {
                self.within_limit(size)?;
                State::Data(size)
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::Trailer, b'\r') => State::LastLf,
            (State::Trailer | State::TrailerName, _) if is_token_byte(byte) => {
                self.extra()?;
                self.trailing().push(byte);
                State::TrailerName
            }
            (State::TrailerName, b':') => {
                self.trailing().end_name();
                State::TrailerValue
            }
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extra()?;
                self.trailing().push(byte);
                State::TrailerValue
            }
            (State::TrailerLf, b'\n') => {
                if !self.trailing().end_line() {
                    return Err(OVERHEAD);
                }
                State::Trailer
            }
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(MALFORMED),
        })
    }

    fn trailing(&mut self) -> &mut Trailers {
        self.trailers.get_or_insert_default()
    }

    /// The fields behind the chunks: none before the body is done.
    pub(crate) fn trailers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.trailers.iter().filter(|_| self.is_done()).flat_map(|trailers| trailers.iter())
    }

    /// Counts one byte of framing that carries nothing.
    fn extra(&mut self) -> Result<(), Refusal> {
        self.overhead += 1;
        if self.overhead > self.overhead_bytes_max { Err(OVERHEAD) } else { Ok(()) }
    }

    fn within_limit(&self, next: u64) -> Result<(), Refusal> {
        match self.seen.checked_add(next) {
            Some(total) if total <= self.body_bytes_max => Ok(()),
            _ => Err(TOO_LARGE),
        }
    }

    /// Records that `count` bytes of the data that the last step announced were taken from the input.
    pub(crate) fn took(&mut self, count: usize) {
        let count = count as u64;
        self.seen += count;
        self.state = match self.state {
            State::Sized(left) if left == count => State::Done,
            State::Sized(left) => State::Sized(left - count),
            State::Data(left) if left == count => State::DataCr,
            State::Data(left) => State::Data(left - count),
            other => unreachable!("body: took {count} bytes of data in {other:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { body_bytes_max: 40, chunk_overhead_bytes_max: 24, ..Limits::default() }
    }

    /// Feeds `parts` one behind the other: the data, and how many bytes were left when the body had ended.
    fn feed(framing: Framing, parts: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, Status> {
        let mut body = RequestBody::new(framing, &limits());
        let (mut pending, mut data) = (Vec::new(), Vec::new());
        for part in parts {
            pending.extend_from_slice(part);
            loop {
                let (consumed, step) = body.step(&pending).map_err(|refusal| refusal.status)?;
                pending.drain(..consumed);
                match step {
                    Step::More => break,
                    Step::Data(_) if pending.is_empty() => break,
                    Step::Data(left) => {
                        let count = pending.len().min(usize::try_from(left).unwrap());
                        data.extend(pending.drain(..count));
                        body.took(count);
                    }
                    Step::Done => break,
                }
            }
        }
        Ok(body.is_done().then_some((data, pending.len())))
    }

    fn feed_cut(framing: Framing, input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Status> {
        let whole = feed(framing, &[input]);
        for cut in 0..input.len() {
            let parts = [&input[..cut], &input[cut..]];
            assert_eq!(feed(framing, &parts), whole, "cut at {cut}: {}", input.escape_ascii());
        }
        assert_eq!(feed(framing, &input.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
        whole
    }

    #[test]
    fn a_sized_body_ends_at_its_length() {
        let result = feed_cut(Framing::Sized(5), b"helloGET /").unwrap();
        assert_eq!(result, Some((b"hello".to_vec(), 5)));
        assert_eq!(feed_cut(Framing::Sized(5), b"hell"), Ok(None));
        assert_eq!(feed_cut(Framing::Empty, b"GET /"), Ok(Some((vec![], 5))));
    }

    #[test]
    fn well_formed_chunked_bodies_are_decoded() {
        let table: [(&str, &str); 8] = [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("00005\r\nhello\r\n000\r\n\r\n", "hello"),
            ("a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n", "01234567890123456789a"),
            ("2;a=b\r\nhe\r\n3 ; c=\"d e\"\r\nllo\r\n0;x\r\n\r\n", "hello"),
            ("5\r\nhello\r\n0\r\nX: y\r\nZ:\r\n\r\n", "hello"),
            ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
            ("1\r\na\r\n1\r\nb\r\n0\r\n\r\n", "ab"),
        ];
        for (input, expected) in table {
            let result = feed_cut(Framing::Chunked, format!("{input}NEXT").as_bytes());
            assert_eq!(result, Ok(Some((expected.as_bytes().to_vec(), 4))), "{input:?}");
        }
    }

    #[test]
    fn malformed_chunked_bodies_are_refused() {
        for input in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            " 1\r\n",
            "0x1\r\n",
            "1_0\r\n",
            "1\n",
            "1\r\r\n",
            "1 2\r\n",
            ";a\r\n",
            "5\r\nhello0\r\n",
            "5\r\nhello\n",
            "5\r\nhello\rX",
            "1;\r\n",
            "1;a \r\n",
            "1;a=\"b\r\n",
            "1;a\nb\r\n",
            "1;a\0\r\n",
            "1;a\rb\r\n",
            "0\r\n\n",
            "0\r\nX\r\n",
            "0\r\n X: y\r\n",
            "0\r\nX : y\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\nX: \0\r\n",
            "0\r\n: y\r\n",
            "11111111111111111\r\n",
            "00000000000000001\r\n",
        ] {
            assert_eq!(feed_cut(Framing::Chunked, input.as_bytes()), Err(Status::BAD_REQUEST), "{input:?}");
        }
    }

    #[test]
    fn a_body_beyond_its_limit_is_refused_before_its_data() {
        assert_eq!(feed_cut(Framing::Sized(41), b"x"), Err(Status::CONTENT_TOO_LARGE));
        assert!(matches!(feed_cut(Framing::Sized(40), &[b'x'; 40]), Ok(Some(_))));
        assert_eq!(feed_cut(Framing::Chunked, b"29\r\n"), Err(Status::CONTENT_TOO_LARGE));
        assert_eq!(feed_cut(Framing::Chunked, b"ffffffffffffffff\r\n"), Err(Status::CONTENT_TOO_LARGE));
        let two = [&b"14\r\n"[..], &[b'x'; 20], b"\r\n15\r\n"].concat();
        assert_eq!(feed_cut(Framing::Chunked, &two), Err(Status::CONTENT_TOO_LARGE), "chunks add up");
    }

    #[test]
    fn extensions_and_trailers_are_bounded_together() {
        let extension = |len: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(len));
        assert!(matches!(feed_cut(Framing::Chunked, extension(23).as_bytes()), Ok(Some(_))));
        assert_eq!(feed_cut(Framing::Chunked, extension(24).as_bytes()), Err(Status::BAD_REQUEST));
        let both = format!("1;{}\r\nx\r\n0\r\nT: {}\r\n\r\n", "e".repeat(12), "t".repeat(12));
        assert_eq!(feed_cut(Framing::Chunked, both.as_bytes()), Err(Status::BAD_REQUEST));
    }

    #[test]
    fn a_broken_body_stays_broken() {
        let mut body = RequestBody::new(Framing::Chunked, &limits());
        assert!(body.step(b"z").is_err());
        assert!(body.step(b"0\r\n\r\n").is_err());
        assert!(body.is_broken() && !body.is_done());
    }
}
