//! The body of a response, as a blocking reader that ends where the body ends.
//!
//! ```text
//! Open ──last byte──▶ Done (the connection is back in the pool, or closed)
//!   └──malformed, cut off, too large, too slow──▶ Failed (the connection is closed)
//! ```
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Read};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::error::{Error, Part, Wait};
use super::head::{self, Framing};
use super::headers::Headers;
use super::limits::TimeLimits;
use super::pace::Pace;
use super::place::Place;
use crate::http1::body::{RequestBody, Step};
use crate::http1::head::{Framing as Known, Refusal};
use crate::limits::Limits;
use crate::message::Status;

/// The body of a [`Response`](super::Response).
///
/// Nothing is read ahead beyond one buffer: a server whose body is not read has to wait. At its end the connection goes
/// back to the client's pool. A body that is dropped before its end closes its connection, unless the rest has arrived
/// already; [`discard`](Body::discard) reads on, up to a limit.
///
/// Errors are [`io::Error`]s with an [`Error`](super::Error) inside: `TimedOut`, `UnexpectedEof` where the server broke
/// off, `InvalidData` where the body is malformed or beyond a limit.
pub struct Body {
    state: State,
    place: Arc<Place>,
    trailers: Headers,
}

enum State {
    Open(Box<Open>),
    Done,
    Failed,
}

struct Open {
    connection: Connection,
    decoder: Decoder,
    /// The connection may serve another exchange behind this body.
    reuse: bool,
    /// Chunk framing since the last data: what the trailers are found in. Bounded as chunk framing is.
    framing: Vec<u8>,
    /// Somebody waits for all of it: how fast it comes.
    pace: Option<Pace>,
}

enum Decoder {
    Framed(RequestBody),
    /// So many bytes may still come.
    UntilClose(u64),
}

/// What a read has come to.
enum Progress {
    /// So many bytes, not 0.
    Data(usize),
    Done(Headers),
}

/// From this size on a read goes to the caller's memory without passing the input buffer.
const DIRECT_READ_BYTES_MIN: usize = 4 << 10;

/// A length is only a promise: so much is reserved for it at once, the rest as it arrives.
const RESERVED_BYTES_MAX: u64 = 64 << 10;

const TOO_LARGE: Error = Error::too_large("its body");

impl Body {
    /// The body that begins now on `connection`, which may be used again behind it or not.
    pub(super) fn new(connection: Connection, framing: Framing, reuse: bool, place: Arc<Place>) -> Body {
        let limits = &connection.shared.limits;
        let body_bytes_max = limits.body_bytes_max.unwrap_or(u64::MAX);
        let decoder = match framing {
            Framing::Known(known) => {
                let chunk_overhead_bytes_max = limits.chunk_overhead_bytes_max;
                let limits = Limits { body_bytes_max, chunk_overhead_bytes_max, ..Limits::default() };
                Decoder::Framed(RequestBody::new(known, &limits))
            }
            Framing::UntilClose => Decoder::UntilClose(body_bytes_max),
        };
        let open = Open { connection, decoder, reuse, framing: Vec::new(), pace: None };
        let mut body = Body { state: State::Open(Box::new(open)), place, trailers: Headers::default() };
        if framing == Framing::Known(Known::Empty) {
            body.end();
        }
        body
    }

    /// Behind a response that hands the connection over, there is none.
    pub(super) fn none(place: Arc<Place>) -> Body {
        Body { state: State::Done, place, trailers: Headers::default() }
    }

    /// The trailers (RFC 9110 §6.5), once the body was read to its end; before that there are none. They were not there
    /// when the header was acted upon, so nothing in them is to be taken for a header field.
    #[must_use]
    pub fn trailers(&self) -> &Headers {
        &self.trailers
    }

    /// Was the body read to its end?
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Reads and drops what is left so that the connection can be used again, up to
    /// [`Limits::drain_bytes_max`](super::Limits::drain_bytes_max); beyond that, and on any error, the connection is
    /// closed. It is an error, too, that it comes slower than
    /// [`TimeLimits::body_bytes_per_second_min`](super::TimeLimits::body_bytes_per_second_min).
    pub fn discard(mut self) {
        let State::Open(open) = &mut self.state else { return };
        if !open.reuse {
            return;
        }
        let bytes_max = open.connection.shared.limits.drain_bytes_max;
        if open.promised() > bytes_max {
            return;
        }
        open.pace = Some(Pace::begin());
        // One more, so that an end exactly at the limit is seen.
        let _ = io::copy(&mut (&mut self).take(bytes_max.saturating_add(1)), &mut io::sink());
    }

    /// What the body is of.
    pub(super) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// The whole body, as far as it was not read yet.
    pub(super) fn collect(&mut self) -> Result<Vec<u8>, Error> {
        self.collect_open().map_err(|error| error.about(&self.place))
    }

    fn collect_open(&mut self) -> Result<Vec<u8>, Error> {
        let State::Open(open) = &mut self.state else {
            return if self.is_done() { Ok(Vec::new()) } else { Err(Error::cut_off(Part::Body)) };
        };
        let bytes_max = open.connection.shared.limits.collected_bytes_max;
        let promised = open.promised();
        if promised > bytes_max {
            return Err(TOO_LARGE);
        }
        open.pace = Some(Pace::begin());
        let mut bytes = Vec::with_capacity(usize::try_from(promised.min(RESERVED_BYTES_MAX)).unwrap_or(0));
        self.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::from_io)?;
        if bytes.len() as u64 > bytes_max { Err(TOO_LARGE) } else { Ok(bytes) }
    }

    /// The body has ended as it should.
    fn end(&mut self) {
        if let State::Open(open) = mem::replace(&mut self.state, State::Done)
            && open.reuse
        {
            open.connection.release();
        }
    }
}

impl Read for Body {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let open = match &mut self.state {
            State::Open(open) if !room.is_empty() => open,
            State::Open(_) | State::Done => return Ok(0),
            State::Failed => return Err(Error::cut_off(Part::Body).about(&self.place).into_io()),
        };
        match open.read(room) {
            Ok(Progress::Data(count)) => Ok(count),
            Ok(Progress::Done(trailers)) => {
                self.trailers = trailers;
                self.end();
                Ok(0)
            }
            Err(error) => {
                // Where the body ends is not known any more: the connection goes with the state.
                self.state = State::Failed;
                // The end of a connection means another thing before a response than within one.
                let is_cut = error.is_unanswered();
                let error = if is_cut { Error::cut_off(Part::Body).caused_by(error) } else { error };
                Err(error.about(&self.place).into_io())
            }
        }
    }
}

impl Open {
    /// How many bytes will come where the length is known, else 0.
    fn promised(&self) -> u64 {
        match &self.decoder {
            Decoder::Framed(decoder) => decoder.sized_left().unwrap_or(0),
            Decoder::UntilClose(_) => 0,
        }
    }

    fn read(&mut self, room: &mut [u8]) -> Result<Progress, Error> {
        loop {
            let left = match &self.decoder {
                Decoder::Framed(_) => match self.step()? {
                    Step::Data(left) => left,
                    Step::Done => return self.trailers().map(Progress::Done),
                    Step::More => {
                        self.more()?;
                        continue;
                    }
                },
                Decoder::UntilClose(_) => u64::MAX,
            };
            let want = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let input = self.connection.input();
            let count = if !input.is_empty() {
                let count = want.min(input.unread().len());
                room[..count].copy_from_slice(&input.unread()[..count]);
                input.consume(count);
                count
            } else if want >= DIRECT_READ_BYTES_MIN || matches!(self.decoder, Decoder::UntilClose(_)) {
                let limit = self.limit();
                let count = self.connection.read(&mut room[..want], limit, Wait::Body)?;
                self.keeps_pace(count)?;
                count
            } else {
                self.more()?;
                continue;
            };
            return match (&mut self.decoder, count) {
                (Decoder::Framed(_), 0) => Err(Error::cut_off(Part::Body)),
                (Decoder::UntilClose(_), 0) => Ok(Progress::Done(Headers::default())),
                (Decoder::Framed(decoder), _) => {
                    decoder.took(count);
                    Ok(Progress::Data(count))
                }
                (Decoder::UntilClose(left), _) => {
                    *left = left.checked_sub(count as u64).ok_or(TOO_LARGE)?;
                    Ok(Progress::Data(count))
                }
            };
        }
    }

    fn limit(&self) -> Duration {
        self.connection.shared.time_limits.body
    }

    /// Waits for more of the framing, or for more than a small read wants.
    fn more(&mut self) -> Result<(), Error> {
        match self.connection.fill(self.limit(), Wait::Body)? {
            0 => Err(Error::cut_off(Part::Body)),
            count => self.keeps_pace(count),
        }
    }

    /// Is what comes, now so many bytes more, fast enough for who waits for all of it?
    fn keeps_pace(&mut self, count: usize) -> Result<(), Error> {
        let Some(pace) = &mut self.pace else { return Ok(()) };
        let TimeLimits { body, body_bytes_per_second_min, .. } = self.connection.shared.time_limits;
        pace.took(count);
        if count == 0 || !pace.is_too_slow(body, body_bytes_per_second_min) {
            return Ok(());
        }
        // It may be this thread that was late. Then more has come meanwhile.
        match self.connection.try_fill() {
            Ok(None) => Err(Error::timeout(Wait::Body)),
            Ok(Some(more)) => {
                pace.took(more);
                Ok(())
            }
            // The next read meets it again.
            Err(_) => Ok(()),
        }
    }

    /// Eats framing, of which the last is kept for the trailers. A body that ends with the connection has none.
    fn step(&mut self) -> Result<Step, Error> {
        let Decoder::Framed(decoder) = &mut self.decoder else { return Ok(Step::More) };
        let input = self.connection.input();
        let (count, step) = decoder.step(input.unread()).map_err(refused)?;
        self.framing.extend_from_slice(&input.unread()[..count]);
        input.consume(count);
        if let Step::Data(_) = step {
            self.framing.clear();
        }
        Ok(step)
    }

    /// What stands between the line of the last chunk and the end of the framing.
    fn trailers(&self) -> Result<Headers, Error> {
        let framing = self.framing.strip_prefix(b"\r\n").unwrap_or(&self.framing);
        let line_end = framing.windows(2).position(|window| window == b"\r\n");
        match line_end.map(|end| &framing[end + 2..]) {
            None | Some(b"\r\n") => Ok(Headers::default()),
            Some(lines) => head::trailers(lines, &self.connection.shared.limits),
        }
    }

    /// Takes what has arrived of the body, and says whether that was all.
    fn is_all_there(&mut self) -> bool {
        while let Ok(step) = self.step() {
            let there = self.connection.input().unread().len();
            match (step, &mut self.decoder) {
                (Step::Done, _) => return true,
                (Step::Data(left), Decoder::Framed(decoder)) if there > 0 => {
                    let count = there.min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.connection.input().consume(count);
                    decoder.took(count);
                }
                _ => return false,
            }
        }
        false
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let State::Open(open) = &mut self.state
            && open.reuse
            && open.is_all_there()
        {
            self.end();
        }
    }
}

/// What the decoder says, which the server shares, in words for a response.
fn refused(refusal: Refusal) -> Error {
    if refusal.status == Status::CONTENT_TOO_LARGE { TOO_LARGE } else { Error::malformed(refusal.reason) }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Open(_) => "open",
            State::Done => "done",
            State::Failed => "failed",
        };
        f.debug_struct("Body").field("state", &state).finish_non_exhaustive()
    }
}
