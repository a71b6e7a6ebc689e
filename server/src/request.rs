//! What a handler is given: the head of a request as slices of the input buffer, and its body as a reader.
//!
//! A request is a view that lives for one call of the handler. Nothing of it is copied before it is asked for.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::buffer::Input;
use crate::error::{BodyError, Error};
use crate::extensions::Extensions;
use crate::http1::body::{RequestBody, Step};
use crate::http1::encode::CONTINUE;
use crate::http1::wire::Wire;
use crate::message::{Method, Version, list};
use crate::percent;
use crate::presence::Presence;
use crate::timeout::Phase;

/// A request, while its handler runs.
pub struct Request<'c> {
    wire: &'c Wire,
    input: &'c mut Input,
    body: &'c mut RequestBody,
    /// Where the head begins in the input; it stays there for the life of the request.
    head_at: usize,
    /// The client waits for a 100 before it sends the body.
    expects_continue: &'c mut bool,
    peer: &'c Option<SocketAddr>,
    /// What the router found, if there are any.
    params: Option<Params>,
    /// Nearly always none.
    extensions: Option<Box<Extensions>>,
}

impl<'c> Request<'c> {
    /// The request whose head was parsed at `head_at` of `input`, which is consumed up to the end of the head.
    pub(crate) fn new(
        wire: &'c Wire,
        input: &'c mut Input,
        head_at: usize,
        body: &'c mut RequestBody,
        expects_continue: &'c mut bool,
        peer: &'c Option<SocketAddr>,
    ) -> Request<'c> {
        Request { wire, input, body, head_at, expects_continue, peer, params: None, extensions: None }
    }

    /// The bytes that the spans of the head refer to.
    fn head_bytes(&self) -> &[u8] {
        self.input.since(self.head_at)
    }

    /// The method.
    #[inline]
    #[must_use]
    pub fn method(&self) -> Method<'_> {
        self.input.head.method(self.head_bytes())
    }

    /// The path as it was sent: percent-encoded, without the query. It begins with `/`, except for `OPTIONS *`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.input.head.path(self.head_bytes())
    }

    /// The path without the check that it is text, for the router.
    pub(crate) fn path_bytes(&self) -> &[u8] {
        self.input.head.path_bytes(self.head_bytes())
    }

    /// The query as it was sent, without its `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.input.head.query(self.head_bytes())
    }

    /// The first value of this parameter in the query, decoded: `None` where it is absent, malformed or not UTF-8.
    #[must_use]
    pub fn query_param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query()?.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent::decode_form(key)? == name).then(|| percent::decode_form(value))?
        })
    }

    /// The whole request target as it was sent.
    #[must_use]
    pub fn target(&self) -> &str {
        self.input.head.target.text(self.head_bytes())
    }

    /// The protocol version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.input.head.version
    }

    /// The host and port the request is meant for, as the client wrote them.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.input.head.authority.map(|authority| authority.text(self.head_bytes()))
    }

    /// The address of the client; none in tests without a socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        *self.peer
    }

    /// The client of this request as long as it stays: to wait for something else, and stop when it goes.
    #[must_use]
    pub fn presence(&self) -> Presence<'_> {
        Presence::new(self.wire)
    }

    /// Has the client gone, so that nobody will read the response? See [`Presence::is_gone`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.presence().is_gone()
    }

    /// The value of the first header field with this name, in any case of letters: `None` where it is absent or not
    /// UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_bytes(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The bytes of the first header field with this name, in any case of letters.
    #[must_use]
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All header fields in their order: names as sent, values without the white space around them.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let bytes = self.head_bytes();
        self.input.head.fields.iter().map(move |field| (field.name.text(bytes), field.value.of(bytes)))
    }

    /// The protocols that the client offers to go on with ([`Response::upgrade`](crate::Response::upgrade)), in the order
    /// of its preference: the elements of `Upgrade`, `name` or `name/version` each.
    ///
    /// None for a request of HTTP/1.0, whose `Upgrade` must be ignored, and for one whose `Connection` does not name the
    /// field, so that it was not meant for this server (RFC 9110 §7.8).
    pub fn upgrade_protocols(&self) -> impl Iterator<Item = &str> {
        let elements = |name: &'static str| {
            let fields = self.headers().filter(move |(field, _)| field.eq_ignore_ascii_case(name));
            fields.flat_map(|(_, value)| list(value))
        };
        let meant = self.version() == Version::Http11
            && elements("connection").any(|option| option.eq_ignore_ascii_case(b"upgrade"));
        let offered =
            meant.then(|| elements("upgrade").filter_map(|element| std::str::from_utf8(element).ok()));
        offered.into_iter().flatten()
    }

    /// The parameter of the route with this name, decoded and parsed.
    ///
    /// # Errors
    /// A 400 where the text in the path is malformed or does not parse, a 500 where the route has no such parameter.
    pub fn param<T: FromStr>(&self, name: &str) -> Result<T, Error> {
        let text = self.param_text(name)?;
        text.parse().map_err(|_| Error::bad_request(format!("path parameter {name:?} is malformed")))
    }

    /// The parameter of the route with this name, decoded.
    ///
    /// # Errors
    /// A 400 where the path has a malformed escape or is not UTF-8, a 500 where the route has no such parameter.
    pub fn param_text(&self, name: &str) -> Result<Cow<'_, str>, Error> {
        let Some((from, to)) = self.params.as_ref().and_then(|params| params.get(name)) else {
            return Err(Error::from(io::Error::other(format!("the route has no parameter {name:?}"))));
        };
        percent::decode(&self.path()[from..to])
            .ok_or_else(|| Error::bad_request(format!("path parameter {name:?} is malformed")))
    }

    /// Keeps what the router found.
    pub(crate) fn set_params(&mut self, params: Params) {
        self.params = Some(params);
    }

    /// The values that middleware and handlers left with this request, by their types.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        const NONE: &Extensions = &Extensions::new();
        self.extensions.as_deref().unwrap_or(NONE)
    }

    /// The same, to be changed. They are dropped with the request.
    #[must_use]
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions.get_or_insert_default()
    }

    /// Replaces [`Limits::body_bytes_max`](crate::Limits::body_bytes_max) for this request, upwards or downwards: an
    /// upload may be long, a form need not. What was read before counts; a chunk that has begun may still be
    /// finished.
    pub fn limit_body(&mut self, bytes_max: u64) {
        self.body.limit(bytes_max);
    }

    /// The length of the body in bytes where the head says it: 0 without a body, `None` for a chunked one of which
    /// nothing was read.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        match self.input.head.framing {
            crate::http1::head::Framing::Empty => Some(0),
            crate::http1::head::Framing::Sized(length) => Some(length),
            crate::http1::head::Framing::Chunked => None,
        }
    }

    /// The body, as far as it was not read yet.
    ///
    /// A client that waits for `100 Continue` is sent it by the first read. What the handler leaves unread is read
    /// and dropped by the server up to a limit; beyond it the connection is closed after the response.
    pub fn body(&mut self) -> BodyReader<'_> {
        BodyReader {
            keep: self.head_at + self.input.head.len,
            wire: self.wire,
            input: self.input,
            body: self.body,
            expects_continue: self.expects_continue,
        }
    }

    /// The whole body, as far as it was not read yet.
    ///
    /// # Errors
    /// 400 where it is malformed or cut off, 408 where it comes too slowly, 413 where it is beyond
    /// [`Limits::body_bytes_max`](crate::Limits::body_bytes_max).
    pub fn read_body(&mut self) -> Result<Vec<u8>, Error> {
        /// A length is only a promise: so much is reserved for it at once, the rest as it arrives.
        const RESERVED_BYTES_MAX: u64 = 64 << 10;
        let reserve = self.content_length().unwrap_or(0).min(RESERVED_BYTES_MAX);
        let mut bytes = Vec::with_capacity(usize::try_from(reserve).unwrap_or(0));
        self.body().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The whole body as text.
    ///
    /// # Errors
    /// As [`read_body`](Request::read_body), and 400 where it is not UTF-8.
    pub fn read_text(&mut self) -> Result<String, Error> {
        String::from_utf8(self.read_body()?).map_err(|_| Error::bad_request("request body is not UTF-8"))
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method())
            .field("target", &self.target())
            .field("version", &self.version())
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Most parameters that one route may have.
pub(crate) const PARAMS_MAX: usize = 8;

/// The parameters of a route: names shared with it, and where their values lie in the path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    pub(crate) names: Option<Arc<[Box<str>]>>,
    pub(crate) values: [(u32, u32); PARAMS_MAX],
}

impl Params {
    fn get(&self, name: &str) -> Option<(usize, usize)> {
        let index = self.names.as_ref()?.iter().position(|known| **known == *name)?;
        let (from, to) = self.values[index];
        Some((from as usize, to as usize))
    }
}

/// The body of a request, as a blocking reader that ends where the body ends.
///
/// Errors of the body (malformed, too large, cut off, too slow) come as [`io::Error`]; turned into an
/// [`Error`] by `?` they are answered by 400, 413 or 408.
pub struct BodyReader<'r> {
    wire: &'r Wire,
    input: &'r mut Input,
    body: &'r mut RequestBody,
    expects_continue: &'r mut bool,
    /// What must stay in the input: the head.
    keep: usize,
}

/// From this size on a read goes to the caller's memory without passing the input buffer.
const DIRECT_READ_BYTES_MIN: usize = 4 << 10;

impl BodyReader<'_> {
    /// Waits for more of the body: into `direct` if given, else into the input buffer.
    fn receive(&mut self, direct: Option<&mut [u8]>) -> io::Result<usize> {
        if *self.expects_continue {
            *self.expects_continue = false;
            self.wire.output().bytes.extend_from_slice(CONTINUE);
            self.wire.flush()?;
        }
        let received = self.wire.in_phase(Phase::Body, || match direct {
            Some(buffer) => self.wire.read(buffer),
            None => self.wire.fill(self.input, self.keep),
        });
        match received {
            Ok(0) => {
                self.body.break_off();
                Err(BodyError::cut_off(io::ErrorKind::UnexpectedEof))
            }
            Ok(count) => Ok(count),
            Err(error) => {
                self.body.break_off();
                Err(BodyError::cut_off(error.kind()))
            }
        }
    }
}

impl Read for BodyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let (framing, step) = self.body.step(self.input.unread()).map_err(BodyError::refused)?;
            self.input.consume(framing);
            match step {
                Step::Done => return Ok(0),
                Step::Data(left) => {
                    let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let unread = self.input.unread();
                    let count = if unread.is_empty() && want >= DIRECT_READ_BYTES_MIN {
                        self.receive(Some(&mut buffer[..want]))?
                    } else if unread.is_empty() {
                        self.receive(None)?;
                        continue;
                    } else {
                        let count = want.min(unread.len());
                        buffer[..count].copy_from_slice(&unread[..count]);
                        self.input.consume(count);
                        count
                    };
                    self.body.took(count);
                    return Ok(count);
                }
                Step::More => {
                    self.receive(None)?;
                }
            }
        }
    }
}

impl fmt::Debug for BodyReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyReader").field("body", &self.body).finish_non_exhaustive()
    }
}
