//! An id for each request, so that log lines of several programs can be told to belong together.
#![forbid(unsafe_code)]

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Middleware, Next};
use crate::class::is_token;
use crate::request::Request;
use crate::response::{Response, is_reserved};

/// Gives each request a [`RequestId`]: in its [extensions](Request::extensions), and in a header field of the response.
///
/// ```
/// use bast_server::middleware::{RequestId, RequestIds};
/// use bast_server::{Handler, Request};
/// let app = |request: &mut Request| match request.extensions().get::<RequestId>() {
///     Some(id) => format!("this is {id}"),
///     None => "nobody asked for ids".to_owned(),
/// };
/// let app = app.with(RequestIds::new());
/// # let _ = app;
/// ```
#[derive(Debug)]
pub struct RequestIds {
    field: Box<str>,
    trusts: bool,
    /// Tells this process from others.
    prefix: u64,
    next: AtomicU64,
}

/// Longest id that is taken over, in bytes: what common makers of ids need, four times over.
const ID_BYTES_MAX: usize = 128;

impl RequestIds {
    /// Ids of the server's own, in `X-Request-Id`.
    #[must_use]
    pub fn new() -> RequestIds {
        // The keys of a `RandomState` come from the system's random numbers.
        let prefix = RandomState::new().hash_one(std::process::id());
        RequestIds { field: "X-Request-Id".into(), trusts: false, prefix, next: AtomicU64::new(0) }
    }

    /// Uses another field.
    ///
    /// # Panics
    /// If that is no name of a field, or of one that is [the server's own](Response::with_header).
    #[must_use]
    pub fn field(mut self, name: &str) -> RequestIds {
        assert!(is_token(name.as_bytes()), "request id: {name:?} is no name of a field");
        assert!(!is_reserved(name), "request id: {name:?} belongs to the server");
        self.field = name.into();
        self
    }

    /// Takes over the id that a request comes with: for servers behind a proxy that sets or removes it. From clients of all
    /// kinds an id could be anything, also that of somebody else's request.
    ///
    /// Only 1 to 128 letters, digits and `+-./:=@_` are taken for an id, so that it can do no harm wherever it is written. Of two
    /// none is taken: one of them is not the proxy's.
    #[must_use]
    pub fn trust_incoming(mut self) -> RequestIds {
        self.trusts = true;
        self
    }

    fn incoming<'r>(&self, request: &'r Request<'_>) -> Option<&'r str> {
        if !self.trusts {
            return None;
        }
        let mut fields = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case(&self.field));
        let (Some((_, id)), None) = (fields.next(), fields.next()) else { return None };
        let id = str::from_utf8(id).ok()?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-./:=@_".contains(&byte);
        ((1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_plain)).then_some(id)
    }
}

impl Default for RequestIds {
    fn default() -> RequestIds {
        RequestIds::new()
    }
}

impl Middleware for RequestIds {
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        let id = match self.incoming(request) {
            Some(id) => id.to_owned(),
            // Relaxed: that numbers differ is all that is asked of them.
            None => format!("{:016x}{:08x}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed)),
        };
        request.extensions_mut().insert(RequestId(id.as_str().into()));
        next.run(request).with_header(&self.field, id)
    }
}

/// The id of a request; see [`RequestIds`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::Handler;
    use crate::middleware::tests::{ask, field};

    fn tell(request: &mut Request<'_>) -> String {
        request.extensions().get::<RequestId>().expect("an id").to_string()
    }

    #[test]
    fn each_request_has_an_id_of_its_own_and_the_client_is_told() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: stolen\r\n\r\n";
        let output = ask(tell.with(RequestIds::new()), &get.repeat(2));
        let ids: Vec<&str> = output
            .split("X-Request-Id: ")
            .skip(1)
            .map(|rest| rest.split("\r\n").next().expect("a line"))
            .collect();
        let [first, second] = ids[..] else { panic!("{output}") };
        assert!(first != second && first.len() == 24 && !output.contains("stolen"), "{output}");
        assert!(output.ends_with(second), "the handler sees the same one");
    }

    #[test]
    fn a_field_that_no_response_could_have_shows_when_the_program_starts() {
        for name in ["", "a b", "X:", "Date", "content-length", "Connection"] {
            assert!(std::panic::catch_unwind(|| RequestIds::new().field(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn only_a_plain_id_of_who_is_trusted_is_taken_over() {
        let long = "x".repeat(129);
        for (incoming, taken) in [
            ("7d44-a/b.c:d=e@f+g_h", true),
            (&long[1..], true),
            (&long, false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("a\\b", false),
            ("\u{e9}", false),
        ] {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\nMy-Id: {incoming}\r\n\r\n");
            let output = ask(tell.with(RequestIds::new().field("My-Id").trust_incoming()), &request);
            assert_eq!(field(&output, "My-Id") == Some(incoming), taken, "{incoming:?}: {output}");
        }
        let two = "GET / HTTP/1.1\r\nHost: a\r\nMy-Id: forged\r\nmy-id: given\r\n\r\n";
        let output = ask(tell.with(RequestIds::new().field("My-Id").trust_incoming()), two);
        assert!(!output.contains("forged") && !output.contains("given"), "{output}");
    }
}
