//! The request of a test: built step by step, written as bytes.
//!
//! Nothing is checked: a test may want to send what no client should.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use super::response::Reader;
use super::{TestClient, TestResponse};
use crate::percent;

/// A request that is being built; made by [`TestClient::get`] and its likes.
///
/// Method, target and header fields are sent as they are given, so a malformed one can be sent. `Host` is `test` unless
/// it is set; the framing (`Content-Length` or `Transfer-Encoding`) follows from the body unless it is set.
#[must_use = "a request does nothing until it is sent"]
pub struct TestRequest<'c> {
    client: &'c TestClient,
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Body,
}

enum Body {
    Empty,
    Sized(Vec<u8>),
    Chunked { chunks: Vec<Vec<u8>>, trailers: Vec<(String, String)> },
}

impl<'c> TestRequest<'c> {
    pub(super) fn new(client: &'c TestClient, method: &str, target: &str) -> TestRequest<'c> {
        let (method, target) = (method.to_owned(), target.to_owned());
        TestRequest { client, method, target, fields: Vec::new(), body: Body::Empty }
    }

    /// Sets a header field, replacing what had the same name.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> TestRequest<'c> {
        self.fields.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self.added_header(name, value)
    }

    /// Adds a header field beside those of the same name.
    pub fn added_header(mut self, name: &str, value: impl AsRef<[u8]>) -> TestRequest<'c> {
        self.fields.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sends a cookie beside those that are sent already. As it is: nothing is encoded.
    pub fn cookie(mut self, name: &str, value: &str) -> TestRequest<'c> {
        let pair = format!("{name}={value}");
        match self.fields.iter_mut().find(|(field, _)| field.eq_ignore_ascii_case("Cookie")) {
            Some((_, pairs)) => pairs.extend_from_slice(format!("; {pair}").as_bytes()),
            None => self.fields.push(("Cookie".to_owned(), pair.into_bytes())),
        }
        self
    }

    /// Sets the body, with a `Content-Length`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> TestRequest<'c> {
        self.body = Body::Sized(body.into());
        self
    }

    /// Sets the body to these chunks (RFC 9112 §7.1). An empty one would end the body, and is left out.
    pub fn chunks<B: Into<Vec<u8>>>(mut self, chunks: impl IntoIterator<Item = B>) -> TestRequest<'c> {
        let chunks = chunks.into_iter().map(Into::into).filter(|chunk: &Vec<u8>| !chunk.is_empty()).collect();
        self.body = Body::Chunked { chunks, trailers: Vec::new() };
        self
    }

    /// Adds a trailer field behind the chunks.
    ///
    /// # Panics
    /// If the body is not chunked: others have none.
    pub fn trailer(mut self, name: &str, value: &str) -> TestRequest<'c> {
        let Body::Chunked { trailers, .. } = &mut self.body else { panic!("a trailer without chunks") };
        trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body to this value as JSON, and the `Content-Type` unless it is set.
    ///
    /// # Panics
    /// If the value cannot be written as JSON.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(self, value: &T) -> TestRequest<'c> {
        let body = serde_json::to_vec(value).expect("a value that can be JSON");
        self.of_type("application/json").body(body)
    }

    /// Sets the body to these fields of an HTML form, and the `Content-Type` unless it is set.
    pub fn form<K: AsRef<str>, V: AsRef<str>>(
        self,
        fields: impl IntoIterator<Item = (K, V)>,
    ) -> TestRequest<'c> {
        self.of_type("application/x-www-form-urlencoded").body(percent::encode_pairs(fields))
    }

    fn of_type(self, media_type: &str) -> TestRequest<'c> {
        if self.has("Content-Type") { self } else { self.header("Content-Type", media_type) }
    }

    /// Sends it over a connection of its own.
    ///
    /// # Panics
    /// If the response is malformed or cut off; [`try_send`](TestRequest::try_send) does not.
    pub fn send(self) -> TestResponse {
        let request = format!("{self:?}");
        self.try_send().unwrap_or_else(|error| panic!("{request}: {error}"))
    }

    /// Sends it over a connection of its own.
    ///
    /// # Errors
    /// `InvalidData` where the response is malformed, `UnexpectedEof` where it is cut off: so does a client learn that a
    /// streamed body failed.
    pub fn try_send(self) -> io::Result<TestResponse> {
        let parts = self.parts();
        let output = self.client.raw_parts(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let mut reader = Reader::new(&output);
        let response = reader.response(self.is_head())?;
        if reader.is_empty() {
            Ok(response)
        } else {
            Err(super::response::malformed("bytes behind the response"))
        }
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name))
    }

    /// The bytes of the request, as they arrive: the body comes after the head where the client asked to wait.
    pub(super) fn parts(&self) -> Vec<Vec<u8>> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let mut field = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                head.extend_from_slice(part);
            }
        };
        if !self.has("Host") {
            field("Host", b"test");
        }
        for (name, value) in &self.fields {
            field(name, value);
        }
        let framed = self.has("Content-Length") || self.has("Transfer-Encoding");
        let body = match &self.body {
            Body::Empty => Vec::new(),
            Body::Sized(body) => {
                if !framed {
                    field("Content-Length", body.len().to_string().as_bytes());
                }
                body.clone()
            }
            Body::Chunked { chunks, trailers } => {
                if !framed {
                    field("Transfer-Encoding", b"chunked");
                }
                chunked(chunks, trailers)
            }
        };
        head.extend_from_slice(b"\r\n");
        if self.has("Expect") { vec![head, body] } else { vec![[head, body].concat()] }
    }
}

fn chunked(chunks: &[Vec<u8>], trailers: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in chunks {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

impl fmt::Debug for TestRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}
