//! Why a request to a server failed.
#![forbid(unsafe_code)]

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::place::Place;
#[cfg(feature = "websocket")]
use crate::message::Status;

/// A request that got no usable answer.
///
/// A status such as 404 or 500 is an answer, not an error. Turned into a [`crate::Error`] by `?` it is a 500 there; a
/// gateway asks [`is_timeout`](Error::is_timeout) and answers 504 or 502.
///
/// It says which request it is about (method, origin, and the path without its query) and what failed. It holds nothing of
/// what a server sent, but where a redirect leads to, so that it can be logged as it is.
///
/// ```
/// use bast_server::client::Client;
/// // Nobody listens on port 1.
/// let error = Client::new().get("http://127.0.0.1:1/weather?key=secret").send().unwrap_err();
/// assert_eq!(error.to_string(), "GET http://127.0.0.1:1/weather: no connection");
/// assert!(error.is_connect());
/// assert!(format!("{error:?}").ends_with("Connection refused (os error 111)")); // with the causes
/// ```
pub struct Error {
    kind: Kind,
    place: Option<Arc<Place>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What there was to wait for when a limit of time passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Connect,
    Write,
    Head,
    Body,
}

/// A part of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The URL cannot be used.
    Url(&'static str),
    /// The request was not put together as it has to be.
    Request(&'static str),
    /// The name is not known, or nobody answers there.
    Connect,
    Timeout {
        wait: Wait,
        /// It was the limit for the whole exchange.
        is_total: bool,
    },
    /// The connection ended before the first byte of a response.
    Closed,
    /// It ended within this part of a response.
    CutOff(Part),
    Malformed(&'static str),
    TooLarge(&'static str),
    Redirect(&'static str),
    /// It does not change to the protocol that was asked for.
    #[cfg(feature = "websocket")]
    Refused(Status),
    /// An error of the system, or of who had the body that was to be sent.
    Io(&'static str),
    /// The content is not what it was asked for as.
    Content(&'static str),
}

impl Error {
    const fn new(kind: Kind) -> Error {
        Error { kind, place: None, source: None }
    }

    pub(super) const fn url(reason: &'static str) -> Error {
        Error::new(Kind::Url(reason))
    }

    pub(super) const fn request(reason: &'static str) -> Error {
        Error::new(Kind::Request(reason))
    }

    pub(super) const fn malformed(reason: &'static str) -> Error {
        Error::new(Kind::Malformed(reason))
    }

    pub(super) const fn too_large(reason: &'static str) -> Error {
        Error::new(Kind::TooLarge(reason))
    }

    pub(super) const fn redirect(reason: &'static str) -> Error {
        Error::new(Kind::Redirect(reason))
    }

    #[cfg(feature = "websocket")]
    pub(super) const fn refused(status: Status) -> Error {
        Error::new(Kind::Refused(status))
    }

    pub(super) const fn content(reason: &'static str) -> Error {
        Error::new(Kind::Content(reason))
    }

    pub(super) const fn timeout(wait: Wait) -> Error {
        Error::new(Kind::Timeout { wait, is_total: false })
    }

    /// The time for the whole exchange was over while it waited for this.
    pub(super) const fn total_timeout(wait: Wait) -> Error {
        Error::new(Kind::Timeout { wait, is_total: true })
    }

    pub(super) const fn cut_off(part: Part) -> Error {
        Error::new(Kind::CutOff(part))
    }

    pub(super) const fn closed() -> Error {
        Error::new(Kind::Closed)
    }

    pub(super) fn io(what: &'static str, source: io::Error) -> Error {
        Error::new(Kind::Io(what)).caused_by(source)
    }

    /// Says which request it is about, unless that was said nearer to where it happened.
    pub(super) fn about(mut self, place: &Arc<Place>) -> Error {
        self.place.get_or_insert_with(|| Arc::clone(place));
        self
    }

    pub(super) fn connect(source: io::Error) -> Error {
        Error::new(Kind::Connect).caused_by(source)
    }

    pub(super) fn caused_by(self, source: impl StdError + Send + Sync + 'static) -> Error {
        Error { source: Some(Box::new(source)), ..self }
    }

    /// Did a limit of time pass ([`TimeLimits`](super::TimeLimits))?
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, Kind::Timeout { .. })
    }

    /// Was there no connection: the name is unknown, or nobody answered in time? Then the server has seen nothing of the
    /// request.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self.kind, Kind::Connect | Kind::Timeout { wait: Wait::Connect, .. })
    }

    /// Did the server close the connection before its response was complete?
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.kind, Kind::Closed | Kind::CutOff(_))
    }

    /// Was the response none of HTTP/1.1 or 1.0?
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(self.kind, Kind::Malformed(_))
    }

    /// Was the response beyond one of the [`Limits`](super::Limits)?
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self.kind, Kind::TooLarge(_))
    }

    /// Could a redirect not be followed: too many, or to where this client cannot go?
    #[must_use]
    pub fn is_redirect(&self) -> bool {
        matches!(self.kind, Kind::Redirect(_))
    }

    /// With what the server answered a request for a [WebSocket](super::Request::websocket), if that was something else.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn refusal(&self) -> Option<Status> {
        match self.kind {
            Kind::Refused(status) => Some(status),
            _ => None,
        }
    }

    /// Is the fault with the caller: a URL, header field or body that cannot be sent? Nothing, or not all, was sent.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.kind, Kind::Url(_) | Kind::Request(_))
    }

    /// Was the content not what it was asked for as: no UTF-8, or JSON of another shape?
    #[must_use]
    pub fn is_content(&self) -> bool {
        matches!(self.kind, Kind::Content(_))
    }

    /// Did the connection end before any byte of a response?
    pub(super) fn is_unanswered(&self) -> bool {
        self.kind == Kind::Closed
    }

    /// Did the time for the whole exchange pass?
    pub(super) fn is_total(&self) -> bool {
        matches!(self.kind, Kind::Timeout { is_total: true, .. })
    }

    /// The same as what `Read` and `Write` return. Its kind says the main thing, the error is inside.
    pub(super) fn into_io(self) -> io::Error {
        let kind = match self.kind {
            Kind::Timeout { .. } => io::ErrorKind::TimedOut,
            Kind::Closed | Kind::CutOff(_) => io::ErrorKind::UnexpectedEof,
            Kind::Malformed(_) | Kind::TooLarge(_) | Kind::Content(_) => io::ErrorKind::InvalidData,
            Kind::Url(_) | Kind::Request(_) => io::ErrorKind::InvalidInput,
            Kind::Connect | Kind::Redirect(_) | Kind::Io(_) => io::ErrorKind::Other,
            #[cfg(feature = "websocket")]
            Kind::Refused(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }

    /// The error inside of one that [`into_io`](Error::into_io) made, or one around it.
    pub(super) fn from_io(error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(own) => own,
            Err(other) => Error::io("input or output failed", other),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        match self.kind {
            Kind::Url(reason) => write!(f, "the URL cannot be used: {reason}"),
            Kind::Request(reason) => write!(f, "the request cannot be sent: {reason}"),
            Kind::Connect => f.write_str("no connection"),
            Kind::Timeout { wait, is_total } => {
                f.write_str(match wait {
                    Wait::Connect => "no connection in time",
                    Wait::Write => "the server did not take the request in time",
                    Wait::Head => "the head of the response did not come in time",
                    Wait::Body => "the body of the response did not come in time",
                })?;
                f.write_str(if is_total { " (the limit for the whole request)" } else { "" })
            }
            Kind::Closed => f.write_str("the server closed the connection without a response"),
            Kind::CutOff(Part::Head) => f.write_str("the response was cut off within its head"),
            Kind::CutOff(Part::Body) => f.write_str("the response was cut off within its body"),
            Kind::Malformed(reason) => write!(f, "malformed response: {reason}"),
            Kind::TooLarge(reason) => write!(f, "the response is too large: {reason}"),
            Kind::Redirect(reason) => write!(f, "the redirect cannot be followed: {reason}"),
            #[cfg(feature = "websocket")]
            Kind::Refused(status) => write!(f, "it is no WebSocket: the server answers {status}"),
            Kind::Io(what) => f.write_str(what),
            Kind::Content(reason) => write!(f, "unexpected content: {reason}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::error::write_with_causes(f, self, self.source())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_through_io() {
        let io = Error::timeout(Wait::Body).into_io();
        assert_eq!(io.kind(), io::ErrorKind::TimedOut);
        assert!(Error::from_io(io).is_timeout());
        let foreign = Error::from_io(io::Error::other("disk"));
        assert_eq!(format!("{foreign:?}"), "input or output failed: disk");
    }

    #[test]
    fn no_connection_in_time_is_both() {
        let error = Error::timeout(Wait::Connect);
        assert!(error.is_timeout() && error.is_connect());
        assert!(!Error::timeout(Wait::Head).is_connect());
    }
}
