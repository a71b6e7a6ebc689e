//! The response in a test: read strictly, so that a server that is wrong about a byte fails the test.
//!
//! Sans-IO: the whole output of the server is there before it is read (RFC 9112 §§4–7).
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::class::{is_field_value, is_token};
#[cfg(feature = "json")]
use crate::extract::{json::is_json, without_parameters};
use crate::message::Status;

/// A response that arrived whole.
#[derive(Clone, PartialEq, Eq)]
pub struct TestResponse {
    status: Status,
    fields: Fields,
    body: Vec<u8>,
    trailers: Fields,
    interim: Vec<TestResponse>,
    keeps_alive: bool,
}

type Fields = Vec<(String, Vec<u8>)>;

impl TestResponse {
    /// The status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The value of the first header field with this name, in any case of letters: `None` where it is absent or not
    /// UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next()
    }

    /// The values of all header fields with this name that are UTF-8: of `Set-Cookie`, say.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &str> {
        values(&self.fields, name)
    }

    /// The value of the cookie with this name that the response sets, without its attributes; of several, that of the
    /// last, which is the one that a user agent keeps.
    ///
    /// ```
    /// use bast_server::testing::TestClient;
    /// use bast_server::{Cookie, Request, Response, Router};
    ///
    /// let app = Router::new()
    ///     .post("/login", |_: &mut Request| Response::see_other("/").with_cookie(Cookie::new("session", "2f5c").http_only()))
    ///     .get("/", |request: &mut Request| request.cookie("session").unwrap_or("nobody").to_owned());
    /// let client = TestClient::new(app);
    /// let login = client.post("/login").send();
    /// let session = login.cookie("session").unwrap();
    /// assert_eq!(client.get("/").cookie("session", session).send().text(), "2f5c");
    /// ```
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let pairs =
            self.header_values("Set-Cookie").filter_map(|line| line.split(';').next()?.split_once('='));
        pairs.filter(|(known, _)| *known == name).map(|(_, value)| value).last()
    }

    /// All header fields in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The body, without its chunked framing. Behind a `101`, all that came behind the head.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// The body as a value, read from JSON.
    ///
    /// # Panics
    /// If the response is of a content type that [`Request::json`](crate::Request::json) would not take, or the body is no such
    /// value.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        let content_type = self.header("Content-Type").unwrap_or("");
        assert!(is_json(without_parameters(content_type)), "{content_type:?} is no JSON: {self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of the first trailer field with this name.
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        values(&self.trailers, name).next()
    }

    /// The interim responses (1xx) that came before.
    #[must_use]
    pub fn interim(&self) -> &[TestResponse] {
        &self.interim
    }

    /// May the connection be used for another request?
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }
}

fn values<'f>(fields: &'f Fields, name: &str) -> impl Iterator<Item = &'f str> {
    fields
        .iter()
        .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
        .filter_map(|(_, value)| std::str::from_utf8(value).ok())
}

impl fmt::Debug for TestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in self.headers() {
            writeln!(f, "{name}: {}", value.escape_ascii())?;
        }
        write!(f, "\n{}", String::from_utf8_lossy(&self.body))
    }
}

/// Reads one response after the other.
pub(super) struct Reader<'b> {
    rest: &'b [u8],
}

pub(super) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut_off(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("{what} is cut off"))
}

impl<'b> Reader<'b> {
    pub(super) fn new(output: &'b [u8]) -> Reader<'b> {
        Reader { rest: output }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next final response, to a HEAD request or another one, with the interim ones before it.
    pub(super) fn response(&mut self, to_head: bool) -> io::Result<TestResponse> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.head()?;
            let status = response.status;
            if status.is_informational() && status != Status::SWITCHING_PROTOCOLS {
                if response.header("Content-Length").or(response.header("Transfer-Encoding")).is_some() {
                    return Err(malformed("an interim response with a body"));
                }
                interim.push(response);
                continue;
            }
            self.body(&mut response, to_head)?;
            response.interim = interim;
            return Ok(response);
        }
    }

    fn head(&mut self) -> io::Result<TestResponse> {
        let line = self.line("a status line")?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.split_at_checked(3))
            .filter(|(digits, reason)| digits.bytes().all(|b| b.is_ascii_digit()) && reason.starts_with(' '))
            .and_then(|(digits, _)| Status::from_code(digits.parse().ok()?))
            .ok_or_else(|| malformed("no status line"))?;
        let fields = self.fields("a head")?;
        let closes = values(&fields, "Connection")
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case("close"));
        let (body, trailers, interim) = (Vec::new(), Vec::new(), Vec::new());
        Ok(TestResponse { status, fields, body, trailers, interim, keeps_alive: !closes })
    }

    /// Where the body ends: RFC 9112 §6.3.
    fn body(&mut self, response: &mut TestResponse, to_head: bool) -> io::Result<()> {
        let lengths: Vec<&str> = response.header_values("Content-Length").collect();
        let codings: Vec<&str> = response.header_values("Transfer-Encoding").collect();
        match (response.status, &lengths[..], &codings[..]) {
            (Status::SWITCHING_PROTOCOLS, [], []) => {
                response.body = self.rest.to_vec();
                self.rest = &[];
            }
            (status, [], []) if !status.allows_body() => {}
            // RFC 9110 §8.6: a 304 may say how long the 200 would be.
            (Status::NOT_MODIFIED, [_], []) => {}
            (status, ..) if !status.allows_body() => return Err(malformed("a length where no body can be")),
            (_, [_, _, ..], _) | (_, _, [_, _, ..]) | (_, [_], [_]) => {
                return Err(malformed("more than one framing"));
            }
            (_, [length], []) => {
                let digits = length.bytes().all(|byte| byte.is_ascii_digit());
                let length: usize =
                    length.parse().ok().filter(|_| digits).ok_or_else(|| malformed("a length"))?;
                if !to_head {
                    response.body = self.take(length, "a body")?.to_vec();
                }
            }
            (_, [], [coding]) if coding.eq_ignore_ascii_case("chunked") => {
                if !to_head {
                    (response.body, response.trailers) = self.chunks()?;
                }
            }
            (_, [], [_]) => return Err(malformed("an unknown transfer coding")),
            (_, [], []) if response.keeps_alive && !to_head => {
                return Err(malformed("a body of unknown length on a connection that is kept"));
            }
            (_, [], []) => {
                if !to_head {
                    response.body = self.rest.to_vec();
                    self.rest = &[];
                }
            }
        }
        Ok(())
    }

    fn chunks(&mut self) -> io::Result<(Vec<u8>, Fields)> {
        let mut body = Vec::new();
        loop {
            let size = self.line("a chunk size")?;
            let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = usize::from_str_radix(size, 16).ok().filter(|_| digits);
            match size.ok_or_else(|| malformed("no chunk size"))? {
                0 => return Ok((body, self.fields("the trailers")?)),
                size => {
                    body.extend_from_slice(self.take(size, "a chunk")?);
                    if self.take(2, "a chunk")? != b"\r\n" {
                        return Err(malformed("a chunk of another size than it says"));
                    }
                }
            }
        }
    }

    fn take(&mut self, count: usize, what: &str) -> io::Result<&'b [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| cut_off(what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A line of text; no part of a line end may stand in it.
    fn line(&mut self, what: &str) -> io::Result<&'b str> {
        let end = self.rest.windows(2).position(|pair| pair == b"\r\n").ok_or_else(|| cut_off(what))?;
        let line = self.take(end, what)?;
        self.take(2, what)?;
        match std::str::from_utf8(line) {
            Ok(line) if is_field_value(line.as_bytes()) => Ok(line),
            _ => Err(malformed("a control character in a line")),
        }
    }

    /// Fields up to the empty line behind them.
    fn fields(&mut self, what: &str) -> io::Result<Fields> {
        let mut fields = Vec::new();
        loop {
            let line = self.line(what)?;
            if line.is_empty() {
                return Ok(fields);
            }
            match line.split_once(':') {
                Some((name, value)) if is_token(name.as_bytes()) => {
                    fields.push((name.to_owned(), value.trim_matches([' ', '\t']).as_bytes().to_owned()));
                }
                _ => return Err(malformed("no header field")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &[u8] =
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0002\r\nde\r\n0\r\nT: u\r\n\r\n";

    #[test]
    fn a_response_is_read_with_all_its_parts() {
        let mut reader = Reader::new(CHUNKED);
        let response = reader.response(false).expect("it is well-formed");
        assert!(reader.is_empty());
        assert_eq!(response.status(), Status::OK);
        assert_eq!(response.header("a"), Some("b"));
        assert_eq!(response.text(), "abcde");
        assert_eq!(response.trailer("t"), Some("u"));
        assert_eq!(response.interim()[0].status(), Status::CONTINUE);
        assert!(response.keeps_alive());
    }

    #[test]
    fn a_response_that_is_cut_off_anywhere_is_an_error() {
        for end in 0..CHUNKED.len() {
            let error = Reader::new(&CHUNKED[..end]).response(false).expect_err("it is not whole");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "at {end}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for output in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 +20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nNo field\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nbody",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        ] {
            let error = Reader::new(output.as_bytes()).response(false).expect_err(output);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{output:?}: {error}");
        }
    }

    #[test]
    fn what_follows_a_switch_of_protocols_is_not_interpreted() {
        let output = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n\x81\x00";
        let mut reader = Reader::new(output);
        assert_eq!(reader.response(false).expect("it is well-formed").body(), b"\x81\x00");
        assert!(reader.is_empty());
    }

    #[test]
    fn a_response_to_head_has_no_body() {
        let mut reader = Reader::new(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(reader.response(true).expect("it is well-formed").body(), b"");
    }
}
