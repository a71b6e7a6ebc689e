//! A connection in use: the stream, its buffers, and how long its calls may wait.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bast::net::{TcpStream, lookup_host_timeout};

use super::error::{Error, Wait};
use super::limits::{Limits, TimeLimits};
use super::pace::Pace;
use super::pool::Pool;
use super::upgraded::Upgraded;
use super::url::Url;
use crate::buffer::{Buffers, Input};

/// What all requests of a client share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) time_limits: TimeLimits,
    pub(super) pool: Pool,
    pub(super) user_agent: String,
    pub(super) redirects_max: u32,
}

/// A connection that belongs to one exchange. Dropped, it is closed.
pub(super) struct Connection {
    stream: TcpStream,
    buffers: Lent,
    pub(super) shared: Arc<Shared>,
    /// Host and port, for the pool.
    authority: Box<str>,
    /// It has served another exchange before.
    pub(super) is_reused: bool,
    /// When the exchange as a whole is over.
    deadline: Option<Instant>,
}

/// Connecting to one of several addresses may take its part of the time that is left, but no less than this, or no
/// address would ever answer.
const CONNECT_SHARE_MIN: Duration = Duration::from_secs(2);

/// Which error it is that a wait was in vain: the limit of the step has passed, or that of the whole exchange.
type Late = fn(Wait) -> Error;

impl Connection {
    /// A connection to where the URL says: an idle one unless a new one is wanted.
    ///
    /// # Errors
    /// There is none to be had in time.
    pub(super) fn open(
        shared: &Arc<Shared>,
        url: &Url,
        deadline: Option<Instant>,
        fresh: bool,
    ) -> Result<Connection, Error> {
        let idle = if fresh { None } else { shared.pool.take(url.authority()) };
        let is_reused = idle.is_some();
        let stream = match idle {
            Some(stream) => stream,
            None => connect(url, shared.time_limits.connect, deadline)?,
        };
        Ok(Connection {
            stream,
            buffers: Lent(Some(Buffers::take())),
            shared: Arc::clone(shared),
            authority: url.authority().into(),
            is_reused,
            deadline,
        })
    }

    pub(super) fn input(&mut self) -> &mut Input {
        &mut self.buffers.get().input
    }

    /// What is to be written next.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.buffers.get().output
    }

    /// How long to wait now, for a step that may take `limit`, and which error it is when that has passed.
    fn patience(&self, limit: Duration, wait: Wait) -> Result<(Duration, Late), Error> {
        let Some(deadline) = self.deadline else { return Ok((limit.max(TICK), Error::timeout)) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::total_timeout(wait));
        }
        Ok(if left < limit { (left, Error::total_timeout) } else { (limit.max(TICK), Error::timeout) })
    }

    /// Receives into the input buffer; 0 is the end.
    ///
    /// # Errors
    /// A timeout, or what the socket says.
    pub(super) fn fill(&mut self, limit: Duration, wait: Wait) -> Result<usize, Error> {
        self.receive(limit, wait, |stream, buffers| {
            let keep = buffers.input.position();
            buffers.input.fill(keep, |room| stream.read(room))
        })
    }

    /// Receives into the caller's memory, past the input buffer.
    ///
    /// # Errors
    /// As [`fill`](Connection::fill).
    pub(super) fn read(&mut self, room: &mut [u8], limit: Duration, wait: Wait) -> Result<usize, Error> {
        self.receive(limit, wait, |stream, _| stream.read(room))
    }

    fn receive(
        &mut self,
        limit: Duration,
        wait: Wait,
        read: impl FnOnce(&mut TcpStream, &mut Buffers) -> io::Result<usize>,
    ) -> Result<usize, Error> {
        let (patience, late) = self.patience(limit, wait)?;
        self.stream.set_read_timeout(Some(patience)).map_err(|error| Error::io("no limit of time", error))?;
        read(&mut self.stream, self.buffers.get()).map_err(|error| failed(error, wait, late))
    }

    /// Receives what is there, without waiting: `None` if nothing is.
    ///
    /// # Errors
    /// What the socket says.
    pub(super) fn try_fill(&mut self) -> io::Result<Option<usize>> {
        let buffers = self.buffers.get();
        let keep = buffers.input.position();
        let mut is_there = false;
        let count = buffers.input.fill(keep, |room| {
            let count = self.stream.try_read(room)?;
            is_there = count.is_some();
            Ok(count.unwrap_or(0))
        })?;
        Ok(is_there.then_some(count))
    }

    /// Writes a part of `bytes`. A write that waits ends after a [`LOOK`] with `None`, so that the caller can see whether
    /// the server has answered; `waiting` is how that went so far.
    ///
    /// # Errors
    /// A timeout, or what the socket says.
    pub(super) fn write(&mut self, bytes: &[u8], waiting: &mut Waiting) -> Result<Option<usize>, Error> {
        let TimeLimits { write: limit, write_bytes_per_second_min, .. } = self.shared.time_limits;
        let spent = waiting.since.map_or(Duration::ZERO, |since| since.elapsed());
        if !spent.is_zero() && spent >= limit {
            return Err(Error::timeout(Wait::Write));
        }
        let (patience, late) = self.patience(limit.saturating_sub(spent), Wait::Write)?;
        let patience = patience.min(LOOK);
        self.stream
            .set_write_timeout(Some(patience))
            .map_err(|error| Error::io("no limit of time", error))?;
        match self.stream.write(bytes) {
            Ok(count) => {
                waiting.since = None;
                if let Some(pace) = &mut waiting.pace {
                    pace.took(count);
                }
                Ok(Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                // Counted from the end of the first wait, so up to a look late: no clock is read for writes that do not wait.
                waiting.since.get_or_insert_with(Instant::now);
                // Judged where a write waited in vain: had this thread been late, the server would take more now.
                let pace = waiting.pace.get_or_insert_with(Pace::begin);
                if waiting.is_judged && pace.is_too_slow(limit, write_bytes_per_second_min) {
                    return Err(Error::timeout(Wait::Write));
                }
                Ok(None)
            }
            Err(error) => Err(failed(error, Wait::Write, late)),
        }
    }

    /// Nothing is under way any more: the connection can serve the next exchange.
    pub(super) fn release(mut self) {
        if !self.input().is_empty() {
            log::debug!("client: bytes behind a response that nobody asked for; the connection is closed");
            return;
        }
        let Connection { stream, buffers, shared, authority, .. } = self;
        drop(buffers);
        shared.pool.put(authority, stream);
    }

    /// Another handle of the same connection, with buffers of its own, for another thread.
    ///
    /// # Errors
    /// The stream has no second handle to give.
    pub(super) fn second(&self) -> io::Result<Connection> {
        Ok(Connection {
            stream: self.stream.try_clone()?,
            buffers: Lent(Some(Buffers::take())),
            shared: Arc::clone(&self.shared),
            authority: self.authority.clone(),
            is_reused: self.is_reused,
            deadline: self.deadline,
        })
    }

    /// Tells the server that nothing more will come.
    pub(super) fn end_sending(&self) {
        // Whoever has closed already needs not be told.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The stream, without limits of time, and what was received and not read.
    ///
    /// # Errors
    /// The limits cannot be lifted.
    pub(super) fn into_upgraded(mut self) -> io::Result<Upgraded> {
        self.stream.set_read_timeout(None)?;
        self.stream.set_write_timeout(None)?;
        let received = self.input().unread().to_vec();
        Ok(Upgraded::new(self.stream, received))
    }
}

/// How it goes with bytes that the server does not take at once.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Nothing was taken since then.
    since: Option<Instant>,
    /// How fast they are taken since the first wait.
    pace: Option<Pace>,
    /// It has to be fast enough.
    is_judged: bool,
}

impl Waiting {
    pub(super) fn new(is_judged: bool) -> Waiting {
        Waiting { since: None, pace: None, is_judged }
    }
}

/// A wait of nothing at all is not known to sockets.
const TICK: Duration = Duration::from_millis(1);

/// How often a write that waits looks whether the server has answered meanwhile. A server that has, and takes nothing
/// more, would never let it end; beside an upload that is stuck this is short.
const LOOK: Duration = Duration::from_millis(50);

/// Buffers of the pool of the OS thread that they were taken on, or of that they are dropped on.
struct Lent(Option<Box<Buffers>>);

impl Lent {
    fn get(&mut self) -> &mut Buffers {
        self.0.as_mut().expect("client connection: buffers used after their end")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(buffers) = self.0.take() {
            buffers.give_back();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// What a failed call means for the exchange.
fn failed(error: io::Error, wait: Wait, late: Late) -> Error {
    match error.kind() {
        io::ErrorKind::TimedOut => late(wait),
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected => Error::closed().caused_by(error),
        _ => Error::io(
            match wait {
                Wait::Connect => "no connection",
                Wait::Write => "sending the request failed",
                Wait::Head => "receiving the head of the response failed",
                Wait::Body => "receiving the body of the response failed",
            },
            error,
        ),
    }
}

/// Looks the host up and connects to the first of its addresses that answers, one after the other.
fn connect(url: &Url, limit: Duration, deadline: Option<Instant>) -> Result<TcpStream, Error> {
    let begin = Instant::now();
    let own = begin.checked_add(limit);
    let until = own.into_iter().chain(deadline).min();
    let passed = || {
        if until == own { Error::timeout(Wait::Connect) } else { Error::total_timeout(Wait::Connect) }
    };
    let left = || until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
    let late = |error: io::Error| {
        if error.kind() == io::ErrorKind::TimedOut {
            passed().caused_by(error)
        } else {
            Error::connect(error)
        }
    };
    let addresses: Vec<SocketAddr> =
        lookup_host_timeout(url.host(), url.port(), left()).map_err(late)?.collect();
    let mut last = Error::connect(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for (index, address) in addresses.iter().enumerate() {
        let left = left();
        if left.is_zero() {
            return Err(passed());
        }
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, left.min(share.max(CONNECT_SHARE_MIN))) {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(Error::connect)?;
                return Ok(stream);
            }
            Err(error) => last = late(error),
        }
    }
    Err(last)
}
