//! One exchange on one connection: the head, the body as it is written, and the wait for the response.
//!
//! ```text
//! begin ─▶ [100?] ─▶ body ─▶ finish ─▶ head of the response
//!             │        └── the response came early, with an error: Stopped ─▶ finish
//!             └── a final response instead of 100: Stopped ─▶ finish
//! ```
//! A server may answer before it has the whole request (RFC 9112 §9.5), a 413 most of all. So before each piece, and
//! while a piece has to wait, we look whether it has; an error status ends the sending. A connection on which the
//! request was not sent whole is never used again (Go's CVE-2024-24791 was that, with 100-continue).
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use super::body::Body;
use super::connection::{Connection, Waiting};
use super::error::{Error, Part, Wait};
use super::head::{self, Framing, Head, Scan};
use super::headers::{Headers, Lines};
use super::place::Place;
use super::prepared::Prepared;
use super::response::Response;
use crate::http1::encode::{CHUNK_BYTES_MAX, begin_chunk, end_chunk};
use crate::http1::persistence::Persistence;
use crate::message::{Status, list};

/// What is gathered before it is sent. A small request goes out in one piece.
const OUTPUT_BYTES_MAX: usize = 16 << 10;

// A chunk is ended by each flush, and a flush comes before the buffer holds more than this.
const _: () = assert!(OUTPUT_BYTES_MAX <= CHUNK_BYTES_MAX);

/// So many interim responses are taken before the one that counts: `100`, `102` for as long as a server works, a few
/// `103`. More are an attempt to keep us busy.
const INTERIM_MAX: u32 = 32;

/// Who is told of interim responses.
pub(super) type OnInterim = Arc<dyn Fn(Status, &Headers) + Send + Sync>;

/// How the end of the request's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// There is none, and no field says so: for methods that have no body.
    Absent,
    /// So many bytes.
    Sized(u64),
    /// As it is written.
    Chunked,
}

/// A request on its way.
pub(super) struct Sending {
    connection: Connection,
    state: State,
    scan: Scan,
    interim: u32,
    /// One of them was a 100.
    may_continue: bool,
    /// A final response that came before the request was sent.
    early: Option<Head>,
    to_head: bool,
    upgrades: bool,
    closes: bool,
    on_interim: Option<OnInterim>,
    /// What errors are about.
    place: Arc<Place>,
    /// Another thread reads: this one only writes.
    is_split: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of the body are still owed.
    Sized(u64),
    /// Chunks follow; the output holds one that is open from there on.
    Chunked(Option<usize>),
    /// The request is sent.
    Done,
    /// No more of it is sent: the server has answered, or does not listen.
    Stopped,
}

impl Sending {
    /// Opens a connection and composes the head. Where `100 Continue` is expected it is awaited, else nothing is sent
    /// yet.
    ///
    /// # Errors
    /// No connection, or it failed before the request was sent.
    pub(super) fn begin(prepared: &Prepared, length: Length, fresh: bool) -> Result<Sending, Error> {
        let place = prepared.place();
        Sending::begin_at(&place, prepared, length, fresh).map_err(|error| error.about(&place))
    }

    fn begin_at(
        place: &Arc<Place>,
        prepared: &Prepared,
        length: Length,
        fresh: bool,
    ) -> Result<Sending, Error> {
        let expects = prepared.expects && !matches!(length, Length::Absent | Length::Sized(0));
        let mut sending = Sending::open(place, prepared, length, fresh)?;
        sending.compose(prepared, length, expects);
        if !expects {
            return Ok(sending);
        }
        sending.await_continue()?;
        if sending.early.as_ref().is_some_and(|head| head.status == Status::EXPECTATION_FAILED) {
            // "SHOULD repeat that request without a 100-continue expectation" (RFC 9110 §10.1.1). Nothing of the body was
            // sent, so any body can be.
            sending = Sending::open(place, prepared, length, true)?;
            sending.compose(prepared, length, false);
        }
        Ok(sending)
    }

    fn open(place: &Arc<Place>, prepared: &Prepared, length: Length, fresh: bool) -> Result<Sending, Error> {
        let connection = Connection::open(&prepared.shared, &prepared.url, prepared.deadline, fresh)?;
        Ok(Sending {
            connection,
            state: match length {
                Length::Absent => State::Sized(0),
                Length::Sized(length) => State::Sized(length),
                Length::Chunked => State::Chunked(None),
            },
            scan: Scan::default(),
            interim: 0,
            may_continue: false,
            early: None,
            to_head: prepared.is_head(),
            upgrades: prepared.upgrades(),
            closes: prepared.closes,
            on_interim: prepared.on_interim.clone(),
            place: Arc::clone(place),
            is_split: false,
        })
    }

    fn compose(&mut self, prepared: &Prepared, length: Length, expects: bool) {
        prepared.encode(length, expects, self.connection.output());
    }

    /// The two directions, for two threads: what writes, and what [reads](Sending::finish_reading).
    ///
    /// # Errors
    /// There is no second handle of the connection.
    pub(super) fn split(mut self) -> Result<(Sending, Sending), Error> {
        let mut connection = self
            .connection
            .second()
            .map_err(|error| Error::io("the connection has no second handle", error).about(&self.place))?;
        std::mem::swap(connection.output(), self.connection.output());
        let writer = Sending {
            connection,
            state: self.state,
            early: None,
            on_interim: None,
            place: Arc::clone(&self.place),
            is_split: true,
            ..self
        };
        Ok((writer, self))
    }

    /// Was the connection used before?
    pub(super) fn is_reused(&self) -> bool {
        self.connection.is_reused
    }

    /// Will no more of the request be sent?
    pub(super) fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// Takes a piece of the body. What is sent when is as in any buffered writer. Once it
    /// [is stopped](Sending::is_stopped), nothing is taken any more.
    ///
    /// # Errors
    /// More than was announced, or a limit of time.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.take(bytes).map_err(|error| error.about(&self.place))
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        if let State::Sized(left) = &mut self.state {
            *left = left
                .checked_sub(bytes.len() as u64)
                .ok_or(Error::request("its body is longer than was announced"))?;
        }
        while !bytes.is_empty() && !self.is_stopped() {
            let held = self.connection.output().len();
            if held >= OUTPUT_BYTES_MAX {
                self.end_chunk();
                self.send_output()?;
                continue;
            }
            if held == 0 && bytes.len() >= OUTPUT_BYTES_MAX && matches!(self.state, State::Sized(_)) {
                return self.send(bytes);
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(OUTPUT_BYTES_MAX - held));
            let output = self.connection.output();
            if let State::Chunked(open @ None) = &mut self.state {
                *open = Some(begin_chunk(output));
            }
            output.extend_from_slice(piece);
            bytes = rest;
        }
        Ok(())
    }

    /// Sends what was written so far.
    ///
    /// # Errors
    /// A limit of time.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.end_chunk();
        self.send_output().map_err(|error| error.about(&self.place))
    }

    fn end_chunk(&mut self) {
        if let State::Chunked(open) = &mut self.state
            && let Some(start) = open.take()
        {
            end_chunk(self.connection.output(), start);
        }
    }

    fn send_output(&mut self) -> Result<(), Error> {
        let mut output = std::mem::take(self.connection.output());
        let sent = self.send(&output);
        output.clear();
        *self.connection.output() = output;
        sent
    }

    /// Sends these bytes, unless the server stops that.
    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        // Two threads may talk as slowly as they like, as who reads piece by piece does.
        let mut waiting = Waiting::new(!self.is_split);
        while !bytes.is_empty() && !self.is_stopped() {
            match self.connection.write(bytes, &mut waiting) {
                Ok(Some(count)) => bytes = &bytes[count..],
                Ok(None) => {}
                // The server has closed. It may have said why before that.
                Err(error) if error.is_closed() => self.state = State::Stopped,
                Err(error) => return Err(error),
            }
            if !bytes.is_empty() && !self.is_stopped() && !self.is_split {
                self.look()?;
            }
        }
        Ok(())
    }

    /// Has the server answered already? An error ends the sending, and so does the end of the connection; with any other
    /// answer a server may want the rest of the request.
    fn look(&mut self) -> Result<(), Error> {
        if self.early.is_some() {
            return Ok(());
        }
        match self.connection.try_fill() {
            Ok(None) => {}
            Ok(Some(0)) | Err(_) => self.state = State::Stopped,
            Ok(Some(_)) => {
                self.early = self.parse()?;
                if self.early.as_ref().is_some_and(|head| head.status.code() >= 300) {
                    self.state = State::Stopped;
                }
            }
        }
        Ok(())
    }

    /// Sends the head and waits for leave to send the body, but not for ever.
    fn await_continue(&mut self) -> Result<(), Error> {
        self.send_output()?;
        let limit = self.connection.shared.time_limits.continue_wait;
        let begin = Instant::now();
        while !self.is_stopped() {
            let left = limit.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            match self.connection.fill(left, Wait::Head) {
                Ok(0) => self.state = State::Stopped,
                Ok(_) => {
                    self.early = self.parse()?;
                    if let Some(head) = &self.early {
                        if head.status == Status::SWITCHING_PROTOCOLS {
                            // The body that is still owed would be taken for the other protocol (RFC 9110 §7.8).
                            return Err(Error::malformed("it switches protocols before it has the request"));
                        }
                        self.state = State::Stopped;
                    } else if self.may_continue {
                        return Ok(());
                    }
                }
                Err(error) if error.is_timeout() && !error.is_total() => return Ok(()),
                Err(error) if error.is_closed() => self.state = State::Stopped,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends the body and waits for the response.
    ///
    /// # Errors
    /// Less was written than announced, or there is no response.
    pub(super) fn finish(mut self, trailers: &Lines) -> Result<Response, Error> {
        self.finish_writing(trailers)?;
        self.finish_reading()
    }

    /// Ends the body.
    ///
    /// # Errors
    /// Less was written than announced, or a limit of time.
    pub(super) fn finish_writing(&mut self, trailers: &Lines) -> Result<(), Error> {
        self.end_body(trailers).map_err(|error| error.about(&self.place))
    }

    fn end_body(&mut self, trailers: &Lines) -> Result<(), Error> {
        match self.state {
            State::Sized(0) => {}
            State::Sized(_) => return Err(Error::request("its body is shorter than was announced")),
            State::Chunked(_) => {
                self.end_chunk();
                let output = self.connection.output();
                output.extend_from_slice(b"0\r\n");
                trailers.encode(output);
                output.extend_from_slice(b"\r\n");
            }
            State::Done | State::Stopped => {}
        }
        self.send_output()?;
        if !self.is_stopped() {
            self.state = State::Done;
        }
        Ok(())
    }

    /// Waits for the response. The connection can be used again only if the request was sent.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn finish_reading(self) -> Result<Response, Error> {
        let place = Arc::clone(&self.place);
        self.response().map_err(|error| error.about(&place))
    }

    fn response(mut self) -> Result<Response, Error> {
        let head = match self.early.take() {
            Some(head) => head,
            None => self.await_head()?,
        };
        self.respond(head)
    }

    /// What errors of this exchange are about.
    pub(super) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// The rest of the request will not come: the server learns that from the end of what is sent.
    pub(super) fn break_off(&self) {
        if self.state != State::Done {
            self.connection.end_sending();
        }
    }

    /// Waits for the head of the final response.
    fn await_head(&mut self) -> Result<Head, Error> {
        let limit = self.connection.shared.time_limits.head;
        let begin = Instant::now();
        loop {
            if let Some(head) = self.parse()? {
                return Ok(head);
            }
            let left = limit.checked_sub(begin.elapsed()).ok_or(Error::timeout(Wait::Head))?;
            let nothing_came = self.connection.input().is_empty() && self.interim == 0;
            match self.connection.fill(left, Wait::Head) {
                Ok(0) if nothing_came => return Err(Error::closed()),
                Ok(0) => return Err(Error::cut_off(Part::Head)),
                Ok(_) => {}
                Err(error) if error.is_closed() && !nothing_came => {
                    return Err(Error::cut_off(Part::Head).caused_by(error));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The head of the final response, if it has arrived; interim ones before it are dealt with.
    fn parse(&mut self) -> Result<Option<Head>, Error> {
        loop {
            let shared = Arc::clone(&self.connection.shared);
            let input = self.connection.input();
            let parsed = match input.is_empty() {
                true => None,
                false => head::parse(input.unread(), &mut self.scan, self.to_head, &shared.limits)?,
            };
            let Some((head, len)) = parsed else { return Ok(None) };
            input.consume(len);
            self.scan = Scan::default();
            if head.status == Status::SWITCHING_PROTOCOLS {
                // RFC 9110 §7.8: only to what was asked for, and said to the neighbour, not passed on from further away.
                if !self.upgrades || head.headers.get("Upgrade").is_none() {
                    return Err(Error::malformed("it switches to a protocol that nobody asked for"));
                }
                let fields = head.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Connection"));
                let is_upgrade = |option: &[u8]| option.eq_ignore_ascii_case(b"upgrade");
                let says_so = fields.flat_map(|(_, value)| list(value)).any(is_upgrade);
                if !says_so {
                    return Err(Error::malformed(
                        "it switches protocols, and its Connection does not say so",
                    ));
                }
                return Ok(Some(head));
            }
            if !head.status.is_informational() {
                return Ok(Some(head));
            }
            self.interim += 1;
            self.may_continue |= head.status == Status::CONTINUE;
            if self.interim > INTERIM_MAX {
                return Err(Error::too_large("interim responses without end"));
            }
            if let Some(tell) = &self.on_interim {
                tell(head.status, &head.headers);
            }
        }
    }

    fn respond(self, head: Head) -> Result<Response, Error> {
        if head.status == Status::SWITCHING_PROTOCOLS {
            let upgraded = self
                .connection
                .into_upgraded()
                .map_err(|error| Error::io("the limits of time cannot be lifted", error))?;
            return Ok(Response::new(head, Body::none(self.place), Some(upgraded)));
        }
        let reuse = self.state == State::Done
            && !self.closes
            && head.persistence == Persistence::Reuse
            && head.framing != Framing::UntilClose;
        let body = Body::new(self.connection, head.framing, reuse, self.place);
        Ok(Response::new(head, body, None))
    }
}
