//! What a server has answered.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::body::Body;
use super::error::Error;
use super::head::{Framing, Head};
use super::headers::Headers;
use super::place::Place;
use super::upgraded::Upgraded;
#[cfg(feature = "json")]
use crate::extract::json::STACK_BYTES;
use crate::http1::head::Framing as Known;
use crate::message::{Status, Version};

/// An answer, whatever its status: its head, and its body to be read.
pub struct Response {
    head: Head,
    body: Body,
    upgraded: Option<Upgraded>,
}

impl Response {
    pub(super) fn new(head: Head, body: Body, upgraded: Option<Upgraded>) -> Response {
        Response { head, body, upgraded }
    }

    /// What errors of it are about.
    pub(super) fn place(&self) -> &Arc<Place> {
        self.body.place()
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.head.status
    }

    /// The protocol version that the server answered with.
    #[must_use]
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The reason phrase as it was sent: any bytes but controls. It means nothing (RFC 9112 §4).
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        &self.head.reason
    }

    /// Where the answer came from: the URL of the request, or that of the last redirect.
    #[must_use]
    pub fn url(&self) -> String {
        self.place().url.to_string()
    }

    /// The header fields.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.head.headers
    }

    /// The value of the first header field with this name, in any case of letters: `None` where it is absent or not
    /// UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)
    }

    /// The length of the body in bytes where the head says it. To a HEAD request there is no body, and this is 0; what
    /// the body would have is in the header field.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        match self.head.framing {
            Framing::Known(Known::Empty) => Some(0),
            Framing::Known(Known::Sized(length)) => Some(length),
            Framing::Known(Known::Chunked) | Framing::UntilClose => None,
        }
    }

    /// The body, as far as it was not read yet.
    #[must_use]
    pub fn body(&mut self) -> &mut Body {
        &mut self.body
    }

    /// The body alone, to be read later or elsewhere: it can be sent to another thread.
    #[must_use]
    pub fn into_body(self) -> Body {
        self.body
    }

    /// The whole body, up to [`Limits::collected_bytes_max`](super::Limits::collected_bytes_max).
    ///
    /// # Errors
    /// The body is malformed, cut off, too slow (no byte for [`TimeLimits::body`](super::TimeLimits::body), or fewer than
    /// [`body_bytes_per_second_min`](super::TimeLimits::body_bytes_per_second_min)) or too large.
    pub fn read_to_vec(mut self) -> Result<Vec<u8>, Error> {
        self.body.collect()
    }

    /// The same as text.
    ///
    /// # Errors
    /// As [`read_to_vec`](Response::read_to_vec), and where it is not UTF-8.
    pub fn text(self) -> Result<String, Error> {
        let place = Arc::clone(self.place());
        String::from_utf8(self.read_to_vec()?)
            .map_err(|error| Error::content("it is not UTF-8").caused_by(error).about(&place))
    }

    /// The same as JSON, whatever its media type. Needs the feature `json`.
    ///
    /// # Errors
    /// As [`read_to_vec`](Response::read_to_vec), and where it is not what `T` is made from.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, Error> {
        let place = Arc::clone(self.place());
        let body = self.read_to_vec()?;
        // How deep it is nested is the server's choice.
        let read = bast::ensure_stack(STACK_BYTES, || serde_json::from_slice(&body));
        read.map_err(|error| {
            // It may quote the server, and is meant for logs.
            let cause = error.to_string().escape_debug().to_string();
            Error::content("it is not the JSON that was asked for")
                .caused_by(std::io::Error::other(cause))
                .about(&place)
        })
    }

    /// Drops the response, and its body as [`Body::discard`] does.
    pub fn discard(self) {
        self.body.discard();
    }

    /// The raw connection, after a `101 Switching Protocols` to a request with
    /// [`upgrade`](super::Request::upgrade).
    ///
    /// # Errors
    /// The response itself, where it is any other.
    pub fn into_upgraded(mut self) -> Result<Upgraded, Box<Response>> {
        self.upgraded.take().ok_or_else(|| Box::new(self))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.head.status)
            .field("headers", &self.head.headers)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}
