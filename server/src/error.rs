//! What a handler returns instead of a response when it fails.
//!
//! An [`Error`] is a status, a message that the client may read, and a cause that only the log sees. Anything that
//! implements [`std::error::Error`] becomes one by `?`. For that it does not implement the trait itself, as in
//! `anyhow`: the two conversions would overlap.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::iter;

use crate::http1::reader::BodyError;
use crate::message::Status;
use crate::presence::Gone;
use crate::printable::Printable;
use crate::response::{IntoResponse, Response};

/// A failed request: the status to answer with, what to tell the client, and why.
///
/// ```
/// use bast_server::{Error, Status};
/// let error: Error = std::io::Error::other("the disk is gone").into();
/// assert_eq!(error.status(), Status::INTERNAL_SERVER_ERROR);
/// ```
///
/// # Errors of a program's own
/// A type of its own says which status each of its errors is by `From`. It does not implement [`std::error::Error`]: what does
/// is a 500 by `?` already.
///
/// ```
/// use bast_server::{Error, Request, Router, Status};
///
/// enum ShopError {
///     NoItem(u32),
///     SoldOut,
///     Storage(std::io::Error),
/// }
///
/// impl From<ShopError> for Error {
///     fn from(error: ShopError) -> Error {
///         match error {
///             ShopError::NoItem(id) => Error::new(Status::NOT_FOUND, format!("there is no item {id}")),
///             ShopError::SoldOut => Error::new(Status::CONFLICT, "sold out"),
///             // The log has the cause, the client a plain 500.
///             ShopError::Storage(cause) => cause.into(),
///         }
///     }
/// }
///
/// fn price(id: u32) -> Result<u32, ShopError> {
///     match id {
///         0 => Err(ShopError::SoldOut),
///         1 => Err(ShopError::Storage(std::io::Error::other("the disk is gone"))),
///         2 => Ok(7),
///         id => Err(ShopError::NoItem(id)),
///     }
/// }
///
/// fn item(request: &mut Request) -> Result<String, Error> {
///     Ok(price(request.param("id")?)?.to_string())
/// }
///
/// let app = Router::new().get("/items/{id}", item).get("/first", |_: &mut Request| price(0).map(|price| price.to_string()));
/// assert_eq!(Error::from(ShopError::NoItem(9)).message(), Some("there is no item 9"));
/// # let _ = (app, price(1), price(2));
/// ```
/// How all errors look, those of extractors and of the router among them, is the affair of one middleware:
/// [`Errors`](crate::middleware::Errors).
pub struct Error {
    status: Status,
    message: Option<Cow<'static, str>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with this status. The message is sent to the client.
    #[must_use]
    pub fn new(status: Status, message: impl Into<Cow<'static, str>>) -> Error {
        Error { status, message: Some(message.into()), source: None }
    }

    /// A `400 Bad Request`. The message is sent to the client.
    #[must_use]
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Status::BAD_REQUEST, message)
    }

    /// A `404 Not Found`.
    #[must_use]
    pub fn not_found() -> Error {
        Error { status: Status::NOT_FOUND, message: None, source: None }
    }

    /// Adds the cause; it is logged and never sent.
    #[must_use]
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Error {
        self.source = Some(Box::new(source));
        self
    }

    /// The status this is answered with.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// What the client is told beside the status, if anything.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The cause, if there is one.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }

    /// Did the client take too long, 408?
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.status == Status::REQUEST_TIMEOUT
    }
}

/// A failure of the request's body keeps its own status (400, 408, 413); a limit of time that passed
/// ([`bast::timeout`]), and a wait that ended because the client went or the server shuts down ([`Gone`]), are a 503; so are
/// errors of other kinds with one of these for a cause. Everything else is a 500.
impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(source: E) -> Error {
        let known = causes(&source).find_map(|cause| {
            if cause.is::<bast::Elapsed>() {
                return Some(Error::new(Status::SERVICE_UNAVAILABLE, "this took too long"));
            }
            if let Some(gone) = cause.downcast_ref::<Gone>() {
                // It is no fault of anybody's, so that nothing else is to be said of it.
                return Some(Error::new(Status::SERVICE_UNAVAILABLE, gone.to_string()).caused_by(*gone));
            }
            let BodyError(refusal) = cause.downcast_ref()?;
            Some(Error::new(refusal.status, refusal.reason))
        });
        match known {
            Some(error) if error.source.is_some() => error,
            Some(error) => error.caused_by(source),
            None => {
                Error { status: Status::INTERNAL_SERVER_ERROR, message: None, source: Some(Box::new(source)) }
            }
        }
    }
}

/// An error, what caused it, and what an [`io::Error`] among these carries.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    iter::successors(Some(error), |error| {
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        carried.map_or_else(|| (*error).source(), |carried| Some(carried))
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{}: {message}", self.status),
            None => self.status.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_with_causes(f, self, self.source())
    }
}

/// What failed, and behind colons why: for logs.
pub(crate) fn write_with_causes(
    f: &mut fmt::Formatter<'_>,
    what: &dyn fmt::Display,
    cause: Option<&(dyn StdError + 'static)>,
) -> fmt::Result {
    write!(f, "{what}")?;
    iter::successors(cause, |error| (*error).source()).try_for_each(|error| write!(f, ": {error}"))
}

/// A short text with the status and the message; a 415 for an unknown content coding says which ones are known. Faults of the server are logged with their cause and with the request they
/// belong to; that a client went, or the server shuts down, is none.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let response = Response::text(format!("{self}\n")).with_status(self.status);
        let response = match self.source().and_then(<dyn StdError>::downcast_ref) {
            Some(UnknownCoding { known }) => response.with_header("Accept-Encoding", known),
            None => response,
        };
        response.with_cause(self)
    }
}

/// Why a 415 is one: the body is in another coding than these. The answer names them (RFC 9110 §12.5.3), because without that
/// field a 415 is about the media type (§15.5.16).
#[derive(Debug)]
pub(crate) struct UnknownCoding {
    /// As the field says it.
    pub(crate) known: &'static str,
}

impl fmt::Display for UnknownCoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "known here: {}", self.known)
    }
}

impl StdError for UnknownCoding {}

/// The error that a response was made from. It stays with the response to where it is known which request failed.
#[derive(Debug)]
pub(crate) struct Cause {
    error: Error,
    is_logged: bool,
}

impl Cause {
    pub(crate) fn new(error: Error) -> Cause {
        let is_fault =
            error.status.is_server_error() && !error.source().is_some_and(<dyn StdError>::is::<Gone>);
        Cause { error, is_logged: !is_fault }
    }

    pub(crate) fn error(&self) -> &Error {
        &self.error
    }

    /// Puts it into the log if it is a fault of the server, once.
    #[cold]
    pub(crate) fn log(&mut self, request: &dyn fmt::Display) {
        if !self.is_logged {
            self.is_logged = true;
            log::error!("{request}: handler failed: {}", Printable(format_args!("{:?}", self.error)));
        }
    }
}

/// A response that was dropped before anybody knew its request is in the log all the same.
impl Drop for Cause {
    fn drop(&mut self) {
        self.log(&"a response that was replaced");
    }
}

impl<R: IntoResponse, E: Into<Error>> IntoResponse for Result<R, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(response) => response.into_response(),
            Err(error) => error.into().into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::Refusal;

    #[test]
    fn what_an_io_error_carries_counts_as_if_it_stood_alone() {
        let gone = Error::from(io::Error::from(Gone::Draining));
        assert_eq!(gone.status(), Status::SERVICE_UNAVAILABLE);
        assert!(gone.source().is_some_and(<dyn StdError>::is::<Gone>), "so that it is not logged as a fault");
        assert_eq!(Error::from(io::Error::other("else")).status(), Status::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn a_failed_body_keeps_its_status_through_the_question_mark() {
        let too_large = Refusal { status: Status::CONTENT_TOO_LARGE, reason: "too large" };
        assert_eq!(Error::from(BodyError::refused(too_large)).status(), Status::CONTENT_TOO_LARGE);
        let slow = Error::from(BodyError::cut_off(io::ErrorKind::TimedOut));
        assert!(slow.is_timeout());
        assert_eq!(
            Error::from(BodyError::cut_off(io::ErrorKind::UnexpectedEof)).status(),
            Status::BAD_REQUEST
        );
    }

    #[test]
    fn a_failed_body_keeps_its_status_as_the_cause_of_another_error() {
        #[derive(Debug)]
        struct NotStored(io::Error);
        impl fmt::Display for NotStored {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("not stored")
            }
        }
        impl StdError for NotStored {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(&self.0)
            }
        }
        let too_large = || Refusal { status: Status::CONTENT_TOO_LARGE, reason: "too large" };
        let error = Error::from(NotStored(BodyError::refused(too_large())));
        assert_eq!(format!("{error:?}"), "413 Content Too Large: too large: not stored: too large");
        let error = Error::from(io::Error::other(NotStored(BodyError::refused(too_large()))));
        assert_eq!(error.status(), Status::CONTENT_TOO_LARGE);
        assert_eq!(Error::from(NotStored(io::Error::other("disk"))).status(), Status::INTERNAL_SERVER_ERROR);
        let gone = Error::from(NotStored(io::Error::other(Gone::Draining)));
        assert_eq!(gone.status(), Status::SERVICE_UNAVAILABLE);
        assert!(gone.source().is_some_and(<dyn StdError>::is::<Gone>), "it is not logged as a fault");
    }

    #[test]
    fn a_cause_is_kept_for_the_log_and_hidden_from_the_client() {
        let error = Error::from(io::Error::other("secret"));
        assert_eq!(error.to_string(), "500 Internal Server Error");
        assert_eq!(format!("{error:?}"), "500 Internal Server Error: secret");
        let not_found = Error::not_found().caused_by(io::Error::other("row 7"));
        assert_eq!(not_found.to_string(), "404 Not Found");
        assert_eq!(not_found.source().unwrap().to_string(), "row 7");
    }
}
