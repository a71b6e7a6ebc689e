//! Server-sent events (HTML Living Standard §9.2): a response that never ends, of which a browser makes events.
//!
//! ```
//! use bast_server::{Request, Response, Router, ServerEvent, Topic};
//! use std::time::Duration;
//!
//! const HEARTBEAT: Duration = Duration::from_secs(15);
//!
//! let news = Topic::new(100);
//! let app = Router::new().get("/news", move |request: &mut Request| {
//!     let news = news.clone();
//!     // Where the browser was when it lost its connection, or now.
//!     let seen = request.last_event_id().and_then(|id| id.parse().ok()).unwrap_or(news.latest());
//!     Response::events(move |events| {
//!         let mut news = news.subscribe_after(seen).unwrap_or_else(|_| news.subscribe());
//!         loop {
//!             let event = match events.next_of(&mut news, HEARTBEAT)? { // parks this thread only
//!                 Ok(event) => event,
//!                 Err(_missed) => continue,
//!             };
//!             let text = String::from_utf8_lossy(&event.data);
//!             events.send(ServerEvent::new(&text).id(&event.number.to_string()))?;
//!         }
//!     })
//! });
//! # drop(app);
//! ```
//! What is sent can never be taken for more than it is: data is sent line by line, and no other value may have a line end.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use crate::http1::stream::BodyWriter;
use crate::presence::{Gone, Presence};
use crate::request::Request;
use crate::response::Response;
use crate::topic::{Event, Missed, Subscription};

impl Response {
    /// A `200 OK` of server-sent events, which `produce` sends for as long as it likes, on the connection's own thread.
    ///
    /// When it returns, the response is over, and a browser comes again after its time for retrying (to end that, answer
    /// its next request by a 204). An error because the client is gone, or the server shuts down, is a quiet end; any
    /// other breaks the connection off. [The module](crate::sse) has an example.
    #[must_use]
    pub fn events(produce: impl FnOnce(&mut EventWriter<'_, '_>) -> io::Result<()> + 'static) -> Response {
        let stream = Response::stream("text/event-stream; charset=utf-8", move |body| {
            let ended = produce(&mut EventWriter { body });
            match ended {
                // What the connection has left to send will fail, or be the end of the body.
                Err(error) if Gone::is_in(&error) || body.wire().has_failed() => Ok(()),
                ended => ended,
            }
        });
        stream.with_header("Cache-Control", "no-cache")
    }
}

impl Request<'_> {
    /// The id of the event that a browser received last before it lost its connection (`Last-Event-ID`).
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.header("last-event-id").filter(|id| !id.is_empty())
    }
}

/// An event for a browser.
///
/// ```
/// use bast_server::ServerEvent;
/// let event = ServerEvent::new("two\nlines").name("note").id("7");
/// assert_eq!(event.to_string(), "id: 7\nevent: note\ndata: two\ndata: lines\n\n");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerEvent<'a> {
    id: Option<&'a str>,
    name: Option<&'a str>,
    retry: Option<Duration>,
    data: Option<&'a str>,
}

impl<'a> ServerEvent<'a> {
    /// An event with this data, of any number of lines. Every kind of line end (CR LF, CR, LF) arrives as LF.
    #[must_use]
    pub fn new(data: &'a str) -> ServerEvent<'a> {
        ServerEvent { data: Some(data), ..ServerEvent::default() }
    }

    /// Only sets how long a browser waits before it connects again. No event arrives.
    #[must_use]
    pub fn retry_after(time: Duration) -> ServerEvent<'static> {
        ServerEvent { retry: Some(time), ..ServerEvent::default() }
    }

    /// Sets its id, which the browser names when it connects again. One line, without NUL.
    #[must_use]
    pub fn id(self, id: &'a str) -> ServerEvent<'a> {
        ServerEvent { id: Some(id), ..self }
    }

    /// Sets its name, for `addEventListener`: `message` if it has none. One line.
    #[must_use]
    pub fn name(self, name: &'a str) -> ServerEvent<'a> {
        ServerEvent { name: Some(name), ..self }
    }

    /// Sets how long a browser waits before it connects again.
    #[must_use]
    pub fn retry(self, time: Duration) -> ServerEvent<'a> {
        ServerEvent { retry: Some(time), ..self }
    }

    /// Would it be read as it was meant? What is in one line must not bring a second, and an id with a NUL is ignored.
    fn check(&self) -> io::Result<()> {
        let is_line = |value: Option<&str>| value.is_none_or(|value| !value.contains(['\r', '\n', '\0']));
        if is_line(self.id) && is_line(self.name) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "a line end in the id or the name of an event"))
    }
}

impl<'a> From<&'a str> for ServerEvent<'a> {
    fn from(data: &'a str) -> ServerEvent<'a> {
        ServerEvent::new(data)
    }
}

/// As it is sent.
impl fmt::Display for ServerEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.id {
            writeln!(f, "id: {id}")?;
        }
        if let Some(name) = self.name {
            writeln!(f, "event: {name}")?;
        }
        if let Some(retry) = self.retry {
            writeln!(f, "retry: {}", retry.as_millis())?;
        }
        for line in self.data.into_iter().flat_map(lines) {
            writeln!(f, "data: {line}")?;
        }
        f.write_str("\n")
    }
}

/// The lines of a text, by each kind of line end that a browser knows.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split("\r\n").flat_map(|part| part.split(['\r', '\n']))
}

/// Where server-sent events are sent; see [`Response::events`].
pub struct EventWriter<'b, 'w> {
    body: &'b mut BodyWriter<'w>,
}

impl EventWriter<'_, '_> {
    /// Sends an event, at once.
    ///
    /// # Errors
    /// `InvalidInput` where its id or its name has a line end: nothing was sent then. Else those of the connection: the client is
    /// gone, or does not read for longer than [`TimeLimits::write`](crate::TimeLimits::write).
    pub fn send<'e>(&mut self, event: impl Into<ServerEvent<'e>>) -> io::Result<()> {
        let event = event.into();
        event.check()?;
        write!(self.body, "{event}")?;
        self.body.flush()
    }

    /// Sends a comment, which a browser skips: a heartbeat, by which proxies see that the connection lives, and the server
    /// that the client does.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn comment(&mut self, text: &str) -> io::Result<()> {
        for line in lines(text) {
            writeln!(self.body, ": {line}")?;
        }
        self.body.write_all(b"\n")?;
        self.body.flush()
    }

    /// Waits for the next event of a topic, with a heartbeat whenever there was none for so long.
    ///
    /// # Errors
    /// The client is gone, or the server shuts down: to be passed on by `?`. Within, events were missed.
    pub fn next_of(
        &mut self,
        subscription: &mut Subscription,
        heartbeat: Duration,
    ) -> io::Result<Result<Event, Missed>> {
        loop {
            match self.presence().wait_next(subscription, heartbeat)? {
                Ok(Some(event)) => return Ok(Ok(event)),
                Ok(None) => self.comment("")?,
                Err(missed) => return Ok(Err(missed)),
            }
        }
    }

    /// The client, as long as it stays: to wait for something else than a topic.
    #[must_use]
    pub fn presence(&self) -> Presence<'_> {
        Presence::new(self.body.wire())
    }
}

impl fmt::Debug for EventWriter<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventWriter").field("body", &self.body).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_for_each_thing_that_it_has() {
        let all = ServerEvent::new("x").id("1").name("n").retry(Duration::from_millis(1500));
        assert_eq!(all.to_string(), "id: 1\nevent: n\nretry: 1500\ndata: x\n\n");
        assert_eq!(ServerEvent::new("").to_string(), "data: \n\n");
        assert_eq!(ServerEvent::retry_after(Duration::from_secs(2)).to_string(), "retry: 2000\n\n");
    }

    #[test]
    fn data_stays_data_whatever_its_line_ends() {
        for (data, sent) in [
            ("a\nb", "data: a\ndata: b\n\n"),
            ("a\r\nb", "data: a\ndata: b\n\n"),
            ("a\rb", "data: a\ndata: b\n\n"),
            ("a\r\rb\n\nc", "data: a\ndata: \ndata: b\ndata: \ndata: c\n\n"),
            ("a\n", "data: a\ndata: \n\n"),
            ("a\r", "data: a\ndata: \n\n"),
            ("a\r\r\nb", "data: a\ndata: \ndata: b\n\n"),
            ("x\n\nevent: evil\ndata: y", "data: x\ndata: \ndata: event: evil\ndata: data: y\n\n"),
            ("x\rid: 9", "data: x\ndata: id: 9\n\n"),
        ] {
            assert_eq!(ServerEvent::new(data).to_string(), sent, "{data:?}");
        }
    }

    #[test]
    fn a_name_or_an_id_cannot_bring_a_second_line() {
        for bad in ["a\nb", "a\rb", "\r\n", "a\0"] {
            assert!(ServerEvent::new("x").id(bad).check().is_err(), "{bad:?}");
            assert!(ServerEvent::new("x").name(bad).check().is_err(), "{bad:?}");
        }
        assert!(ServerEvent::new("x\ny").id("7").name("tick: tock").check().is_ok());
    }

    #[test]
    fn only_what_a_wait_for_the_client_says_is_a_departure_by_itself() {
        assert!(Gone::is_in(&Gone::Client.into()));
        assert!(Gone::is_in(&Gone::Draining.into()));
        assert!(!Gone::is_in(&io::ErrorKind::BrokenPipe.into()));
        assert!(!Gone::is_in(&io::Error::other("the database is gone")));
    }
}
