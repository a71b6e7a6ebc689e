//! Is the client still there? For handlers that wait for something else: a long poll, a slow report, a stream of events.
//!
//! A client that goes away sends the end of its stream, or its machine a reset. The io manager hears of both for every
//! connection that waits anywhere (RDHUP is part of its registration), so watching costs a place in a queue and no
//! system call. A client whose machine is cut off says nothing: only something that is sent to it brings that to light.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use bast::Select;

use crate::http1::wire::Wire;
use crate::timeout::Phase;
use crate::topic::{Event, Missed, Subscription, Topic};

/// The client of a request, for as long as it stays; see [`Request::presence`](crate::Request::presence).
#[derive(Clone, Copy)]
pub struct Presence<'w> {
    wire: &'w Wire,
}

/// Why nobody waits for the response any more, or should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gone {
    /// The client closed its end of the connection, or the connection failed.
    Client,
    /// The server is shutting down: an answer at once can still be sent.
    Draining,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gone::Client => "the client is gone",
            Gone::Draining => "the server is shutting down",
        })
    }
}

impl Error for Gone {}

impl Gone {
    /// Did whoever waited learn that the client went, or is to go?
    pub(crate) fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<Gone>)
    }
}

/// For producers of streamed responses; the kind is `BrokenPipe`.
impl From<Gone> for io::Error {
    fn from(gone: Gone) -> io::Error {
        io::Error::new(io::ErrorKind::BrokenPipe, gone)
    }
}

impl<'w> Presence<'w> {
    pub(crate) fn new(wire: &'w Wire) -> Presence<'w> {
        Presence { wire }
    }

    /// Is nobody there any more? One system call, without waiting.
    ///
    /// A client that has shut down its writing only, as some do behind their last request, counts as gone: nobody can tell the
    /// two apart (so do Go's and Node's servers).
    #[must_use]
    pub fn is_gone(self) -> bool {
        self.wire.activity().transport().is_hung_up()
    }

    /// Waits as `select` does, but not for longer than the client stays and the server serves.
    ///
    /// ```
    /// use bast::Select;
    /// use bast::sync::Receiver;
    /// use bast_server::{Error, Request};
    ///
    /// fn report(request: &mut Request, results: &Receiver<String>) -> Result<String, Error> {
    ///     let result = request.presence().wait(Select::new().recv(results, |result| result))??;
    ///     Ok(result)
    /// }
    /// # let _ = report;
    /// ```
    ///
    /// # Errors
    /// The client is gone, or the server is shutting down; none of the select's operations was done then. Turned into an
    /// [`Error`](crate::Error) it is a 503, which the client of a server that shuts down may see.
    pub fn wait<R>(self, select: Select<'_, R>) -> Result<R, Gone> {
        let activity = self.wire.activity();
        // The hook of the park finds nothing to send then, so that nothing is between the look and the park: a drain that
        // came while it sent would not find this phase.
        if self.wire.flush().is_err() {
            return Err(Gone::Client);
        }
        let selected = self.wire.in_phase(Phase::Standing, || {
            if activity.is_draining() { None } else { activity.transport().wait_while_connected(select) }
        });
        let gone = if activity.is_draining() { Gone::Draining } else { Gone::Client };
        selected.ok_or(gone)
    }

    /// Waits for the first event of a topic after the one with this number, for `limit` at the most, and no longer than
    /// the client stays: a long poll. [`topic`](crate::topic) has an example.
    ///
    /// # Errors
    /// As [`wait`](Presence::wait); within, as [`Topic::wait_after`].
    pub fn wait_after(
        self,
        topic: &Topic,
        number: u64,
        limit: Duration,
    ) -> Result<Result<Option<Event>, Missed>, Gone> {
        match topic.subscribe_after(number) {
            Ok(mut subscription) => self.wait_next(&mut subscription, limit),
            Err(missed) => Ok(Err(missed)),
        }
    }

    /// The same for the next event of a subscription.
    ///
    /// # Errors
    /// As [`wait_after`](Presence::wait_after).
    pub fn wait_next(
        self,
        subscription: &mut Subscription,
        limit: Duration,
    ) -> Result<Result<Option<Event>, Missed>, Gone> {
        self.wait(subscription.or(Select::new(), |event| event.map(Some)).after(limit, || Ok(None)))
    }
}

impl fmt::Debug for Presence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("is_gone", &self.is_gone()).finish()
    }
}
