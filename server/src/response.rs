//! What a handler returns: status, header fields and a body.
//!
//! A response is built on the connection's own green thread and never leaves it, so it may hold an `Rc`. Framing
//! (Content-Length, Transfer-Encoding, Connection) and Date belong to the server: a handler cannot set them, so it
//! cannot contradict what is sent. Names and values are checked here, once; the encoder copies them unread.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use crate::buffer;
use crate::class::{is_field_value, is_token};
use crate::constant::Constant;
use crate::error::{Cause, Error};
use crate::http1::reader::BodyReader;
use crate::http1::stream::BodyWriter;
#[cfg(feature = "gzip")]
use crate::http1::stream::Encode;
use crate::message::Status;
use crate::upgrade::{Upgrade, Upgraded};

/// An answer to a request.
///
/// ```
/// use bast_server::{Response, Status};
/// let response = Response::text("made").with_status(Status::CREATED).with_header("Location", "/things/7");
/// assert_eq!(response.header("location"), Some("/things/7"));
/// ```
#[derive(Debug)]
pub struct Response {
    status: Status,
    headers: HeaderBlock,
    body: Body,
    close: bool,
    /// What was prepared for just this media type and this body.
    constant: Option<&'static Constant>,
    /// What few responses have, in one place, so that the others stay small.
    failure: Option<Box<Failure>>,
}

/// What went wrong before there was a response.
#[derive(Debug, Default)]
struct Failure {
    /// The first header that could not be accepted, and why; such a response is answered as a 500 instead.
    refused: Option<Box<str>>,
    /// The error it was made from, if any.
    cause: Option<Cause>,
}

const CONTENT_TYPE: &str = "Content-Type";

impl Response {
    /// A response with this status, no fields and no body.
    #[must_use]
    pub fn new(status: Status) -> Response {
        let headers = HeaderBlock::default();
        Response { status, headers, body: Body::Empty, close: false, constant: None, failure: None }
    }

    /// A `200 OK` with this body, of this media type.
    #[must_use]
    pub fn bytes(content_type: impl Into<Cow<'static, str>>, body: impl Into<Bytes>) -> Response {
        let content_type = content_type.into();
        if is_field_value(content_type.as_bytes()) {
            return Response::of_type(content_type, body.into());
        }
        let mut response = Response::new(Status::OK).with_body(Body::Bytes(body.into()));
        if let Some(refusal) = refusal_of(CONTENT_TYPE, &content_type) {
            response = response.refuse(&refusal);
        }
        response
    }

    /// A `200 OK` with this body, of a media type that is known to be a field value.
    #[inline]
    fn of_type(content_type: Cow<'static, str>, body: Bytes) -> Response {
        let headers = HeaderBlock { content_type: Some(content_type), lines: String::new() };
        let body = Body::Bytes(body);
        Response { status: Status::OK, headers, body, close: false, constant: None, failure: None }
    }

    /// A `200 OK` with a body of several parts, of this media type.
    ///
    /// They are sent one behind the other without being put together first: one gathered write for up to 1,024 of them. What
    /// is shared ([`Bytes::Shared`]) is in memory once, however many connections it is being sent to.
    ///
    /// ```
    /// use bast_server::{Bytes, Response};
    /// use std::sync::Arc;
    /// let page: Arc<[u8]> = Arc::from(&b"<p>the same for all</p>"[..]);
    /// let response = Response::parts("text/html", [Bytes::from("<h1>Hello</h1>"), page.into()]);
    /// # let _ = response;
    /// ```
    #[must_use]
    pub fn parts(
        content_type: impl Into<Cow<'static, str>>,
        parts: impl IntoIterator<Item = Bytes>,
    ) -> Response {
        Response::bytes(content_type, "").with_body(Body::Parts(parts.into_iter().collect()))
    }

    /// A `200 OK` with plain text in UTF-8.
    #[must_use]
    pub fn text(body: impl Into<Bytes>) -> Response {
        Response::of_type(Cow::Borrowed("text/plain; charset=utf-8"), body.into())
    }

    /// A `200 OK` with an HTML page in UTF-8.
    #[must_use]
    pub fn html(body: impl Into<Bytes>) -> Response {
        Response::of_type(Cow::Borrowed("text/html; charset=utf-8"), body.into())
    }

    /// A `200 OK` whose body `produce` writes while it is sent.
    ///
    /// `produce` runs on the connection's thread after the handler has returned, and not at all for a HEAD request.
    /// What it writes is gathered; it is sent when the buffer is full, when it calls
    /// [`flush`](std::io::Write::flush), and whenever its thread waits for anything.
    ///
    /// # Errors and panics of `produce`
    /// As long as nothing has been sent, what was gathered is dropped, and the error is answered as if the handler had returned it: a
    /// 500, or the status that [`Error`](crate::Error) has for it. Afterwards the status cannot change any more, and the
    /// connection is broken off, so that the client cannot take the part for the whole: without the last chunk, short of the
    /// length, or by a reset where the end of the connection is the end of the body (HTTP/1.0).
    #[must_use]
    pub fn stream(
        content_type: impl AsRef<str>,
        produce: impl FnOnce(&mut BodyWriter<'_>) -> io::Result<()> + 'static,
    ) -> Response {
        Response::producing(
            content_type,
            StreamBody { length: None, reads_request: false, produce: Box::new(|_, body| produce(body)) },
        )
    }

    fn producing(content_type: impl AsRef<str>, body: StreamBody) -> Response {
        Response::new(Status::OK).with_header("Content-Type", content_type).with_body(Body::Stream(body))
    }

    /// A `200 OK` whose body `converse` writes while it reads the body of the request: full duplex. An echo, a
    /// translation, a call that streams both ways.
    ///
    /// Everything said of [`stream`](Response::stream) holds. A client that waits for `100 Continue` is sent it before the
    /// response begins. What is written goes out before a read waits for the client, so neither waits for the other in vain;
    /// but a client that sends all of a large body before it reads anything fills the buffers on the way, and is
    /// dropped at [`TimeLimits::write`](crate::TimeLimits::write). What is left of the request's body is dropped as usual.
    ///
    /// ```
    /// use bast_server::{Request, Response, Router};
    /// let app = Router::new().post("/echo", |_: &mut Request| {
    ///     Response::duplex("application/octet-stream", |body, out| std::io::copy(body, out).map(drop))
    /// });
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn duplex(
        content_type: impl AsRef<str>,
        converse: impl FnOnce(&mut BodyReader<'_>, &mut BodyWriter<'_>) -> io::Result<()> + 'static,
    ) -> Response {
        let produce = Box::new(converse);
        Response::producing(content_type, StreamBody { length: None, reads_request: true, produce })
    }

    /// The same where the length in bytes is known beforehand. Writing more is an error for the writer, writing less
    /// is one of `produce`.
    #[must_use]
    pub fn stream_sized(
        content_type: impl AsRef<str>,
        length: u64,
        produce: impl FnOnce(&mut BodyWriter<'_>) -> io::Result<()> + 'static,
    ) -> Response {
        let mut response = Response::stream(content_type, produce);
        if let Body::Stream(stream) = &mut response.body {
            stream.length = Some(length);
        }
        response
    }

    /// Leaves HTTP: a `101 Switching Protocols` to `protocol`, after which `serve` has the raw stream, on the connection's
    /// own thread.
    ///
    /// Only a client that offered the protocol ([`Request::upgrade_protocols`](crate::Request::upgrade_protocols), in any
    /// case of letters) gets the 101; any other is answered as by [`upgrade_required`](Response::upgrade_required). The
    /// request ends before the other protocol begins: what the handler left of its body is read and dropped, and where that
    /// is not possible the answer is a 400. Further header fields are set as usual; a status and a body of its own such a response
    /// cannot have.
    ///
    /// When `serve` returns the connection is closed. A panic in it is logged and closes the connection as well.
    ///
    /// ```
    /// use bast_server::{Request, Response, Router};
    /// use std::io::{Read, Write};
    ///
    /// let app = Router::new().get("/echo", |_: &mut Request| {
    ///     Response::upgrade("echo", |mut stream| {
    ///         let mut bytes = [0; 1024];
    ///         while let Ok(count @ 1..) = stream.read(&mut bytes) {
    ///             if stream.write_all(&bytes[..count]).is_err() {
    ///                 return;
    ///             }
    ///         }
    ///     })
    /// });
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn upgrade(protocol: impl AsRef<str>, serve: impl FnOnce(Upgraded) + 'static) -> Response {
        let protocol = protocol.as_ref();
        let mut response = Response::new(Status::SWITCHING_PROTOCOLS);
        response.put_upgrade(protocol);
        response
            .with_body(Body::Upgrade(Box::new(Upgrade { protocol: protocol.into(), serve: Box::new(serve) })))
    }

    /// A `426 Upgrade Required`: this resource is served by another protocol only.
    #[must_use]
    pub fn upgrade_required(protocol: impl AsRef<str>) -> Response {
        let protocol = protocol.as_ref();
        let mut response =
            Response::text(upgrade_required_text(protocol)).with_status(Status::UPGRADE_REQUIRED);
        response.put_upgrade(protocol);
        response
    }

    /// Makes the same of an upgrade, whose other header fields stay.
    pub(crate) fn refuse_upgrade(&mut self) {
        let Body::Upgrade(upgrade) = &self.body else { return };
        let text = upgrade_required_text(&upgrade.protocol);
        self.headers.put(CONTENT_TYPE, "text/plain; charset=utf-8", true);
        self.status = Status::UPGRADE_REQUIRED;
        self.body = Body::Bytes(text.into());
    }

    /// Names a protocol in `Upgrade`, and that in `Connection` (RFC 9110 §7.8).
    fn put_upgrade(&mut self, protocol: &str) {
        // protocol = protocol-name ["/" protocol-version], both tokens.
        let (name, version) = protocol.split_once('/').unwrap_or((protocol, "1"));
        if is_token(name.as_bytes()) && is_token(version.as_bytes()) {
            self.headers.put("Connection", "upgrade", false);
            self.headers.put("Upgrade", protocol, false);
        } else {
            self.put_refusal(&format!("{protocol:?} is no name of a protocol"));
        }
    }

    /// A `303 See Other`: the client fetches `location` by GET.
    #[must_use]
    pub fn see_other(location: impl AsRef<str>) -> Response {
        Response::new(Status::SEE_OTHER).with_header("Location", location)
    }

    /// Sets the status. A final response needs one from 200 up: an interim one is answered as a 500.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Response {
        self.status = status;
        self
    }

    /// Sets a header field, replacing what had the same name.
    ///
    /// A name that is no token, a value with a control character in it (CR, LF and NUL above all), and the fields
    /// that belong to the server (Connection, Content-Length, Date, Keep-Alive, Server, Transfer-Encoding, Upgrade)
    /// spoil the response: the client gets a plain 500 and the log says why. So what a handler copies from a request
    /// can never split a response.
    #[must_use]
    pub fn with_header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Response {
        self.put(name.as_ref(), value.as_ref(), true);
        self
    }

    /// Adds a header field beside those of the same name, as Set-Cookie wants it. Checked like
    /// [`with_header`](Response::with_header).
    #[must_use]
    pub fn with_added_header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Response {
        self.put(name.as_ref(), value.as_ref(), false);
        self
    }

    /// Adds a field of the server's own making, which is well-formed and there once because of who made it; reading
    /// every byte of it again would cost a small file a tenth of a microsecond per response.
    pub(crate) fn with_own_header(mut self, name: &'static str, value: &str) -> Response {
        debug_assert!(is_token(name.as_bytes()) && is_field_value(value.as_bytes()) && !is_reserved(name));
        debug_assert!(self.header(name).is_none());
        self.headers.put(name, value, false);
        self
    }

    /// Removes all header fields of this name.
    #[must_use]
    pub fn without_header(mut self, name: impl AsRef<str>) -> Response {
        let name = name.as_ref();
        if name.eq_ignore_ascii_case(CONTENT_TYPE) {
            self.constant = None;
        }
        self.headers.remove(name);
        self
    }

    fn put(&mut self, name: &str, value: &str, replace: bool) {
        let Some(refusal) = refusal_of(name, value) else {
            if self.constant.is_some() && name.eq_ignore_ascii_case(CONTENT_TYPE) {
                self.constant = None;
            }
            return self.headers.put(name, value, replace);
        };
        self.put_refusal(&refusal);
    }

    /// Spoils the response because of a field that was not let in; `what` says which and why.
    pub(crate) fn refuse(mut self, what: &str) -> Response {
        self.put_refusal(what);
        self
    }

    #[cold]
    fn put_refusal(&mut self, what: &str) {
        self.failure.get_or_insert_default().refused.get_or_insert_with(|| what.into());
    }

    #[inline]
    fn refused(&self) -> Option<&str> {
        self.failure.as_ref()?.refused.as_deref()
    }

    /// Sets the body; the header fields stay as they are.
    #[must_use]
    pub fn with_body(mut self, body: Body) -> Response {
        self.body = body;
        self.constant = None;
        self
    }

    /// Keeps the error that it was made from.
    pub(crate) fn with_cause(mut self, error: Error) -> Response {
        self.failure.get_or_insert_default().cause = Some(Cause::new(error));
        self
    }

    /// The error it was made from.
    pub(crate) fn cause(&self) -> Option<&Error> {
        self.failure.as_ref()?.cause.as_ref().map(Cause::error)
    }

    /// Puts the error it was made from into the log, if that is a fault of the server and not there yet.
    #[inline]
    pub(crate) fn log_cause(&mut self, request: &dyn fmt::Display) {
        if let Some(failure) = &mut self.failure
            && let Some(cause) = &mut failure.cause
        {
            cause.log(request);
        }
    }

    /// Closes the connection after this response.
    #[must_use]
    pub fn and_close(mut self) -> Response {
        self.close = true;
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The value of the first header field with this name, in any case of letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    pub(crate) fn headers(&self) -> &HeaderBlock {
        &self.headers
    }

    /// What was prepared of this response.
    #[inline]
    pub(crate) fn constant(&self) -> Option<&'static Constant> {
        self.constant
    }

    /// Takes the body out, to be sent.
    pub(crate) fn take_body(&mut self) -> Body {
        self.constant = None;
        mem::replace(&mut self.body, Body::Empty)
    }

    /// Is the body of the request read while this one is written?
    pub(crate) fn reads_request(&self) -> bool {
        matches!(&self.body, Body::Stream(stream) if stream.reads_request)
    }

    pub(crate) fn closes(&self) -> bool {
        self.close
    }

    /// Must it not be sent? [`fault`](Response::fault) says why.
    #[inline]
    pub(crate) fn is_faulty(&self) -> bool {
        self.refused().is_some()
            || ((self.status.is_informational() || self.is_upgrade())
                && !(self.status == Status::SWITCHING_PROTOCOLS && self.is_upgrade()))
    }

    /// Is its body written while it is sent? To a HEAD request it has none.
    #[inline]
    pub(crate) fn streams_to(&self, head_only: bool) -> bool {
        matches!(self.body, Body::Stream(_)) && !head_only && self.status.allows_content()
    }

    /// Does it leave HTTP?
    #[inline]
    pub(crate) fn is_upgrade(&self) -> bool {
        matches!(self.body, Body::Upgrade(_))
    }

    /// Why this cannot be sent, if it cannot.
    pub(crate) fn fault(&self) -> Option<String> {
        match self.refused() {
            Some(refusal) => Some(format!("the handler set a header that is not allowed: {refusal}")),
            None if self.is_upgrade() => {
                Some(format!("the handler gave an upgrade another status: {}", self.status))
            }
            None if self.status.is_informational() => {
                Some(format!("the handler answered with an interim status: {}", self.status))
            }
            None => None,
        }
    }
}

fn upgrade_required_text(protocol: &str) -> String {
    format!("{}: this speaks {protocol:?}\n", Status::UPGRADE_REQUIRED)
}

/// May a handler set this field? It is well-formed, and not the server's own.
pub(crate) fn may_be_set(name: &str, value: &str) -> bool {
    is_token(name.as_bytes()) && is_field_value(value.as_bytes()) && !is_reserved(name)
}

/// Why a handler may not set this field, if so. The value may be a secret, so it is not said.
fn refusal_of(name: &str, value: &str) -> Option<String> {
    if may_be_set(name, value) {
        return None;
    }
    Some(if !is_token(name.as_bytes()) {
        format!("{name:?} is no name of a header (a token)")
    } else if is_reserved(name) {
        format!("{name:?} belongs to the server")
    } else {
        let bad = value.char_indices().find(|(_, c)| !is_field_value(c.encode_utf8(&mut [0; 4]).as_bytes()));
        match bad {
            Some((at, c)) => format!("the value of {name:?} has a control character, {c:?} at byte {at}"),
            None => format!("the value of {name:?} is not well-formed"),
        }
    })
}

/// Is this field the server's own? Their lengths sort out most others.
pub(crate) fn is_reserved(name: &str) -> bool {
    let reserved: &[&str] = match name.len() {
        4 => &["date"],
        6 => &["server"],
        7 => &["upgrade"],
        10 => &["connection", "keep-alive"],
        14 => &["content-length"],
        17 => &["transfer-encoding"],
        _ => return false,
    };
    reserved.iter().any(|field| name.eq_ignore_ascii_case(field))
}

/// The body of a response.
#[derive(Debug)]
#[non_exhaustive]
pub enum Body {
    /// No bytes.
    Empty,
    /// These bytes.
    Bytes(Bytes),
    /// These bytes, one part behind the other.
    Parts(Vec<Bytes>),
    /// A part of an open file.
    File(FilePart),
    /// What a function writes while it is sent.
    Stream(StreamBody),
    /// Nothing: what follows is another protocol.
    Upgrade(Box<Upgrade>),
}

/// A range of bytes of a file.
#[derive(Debug)]
pub struct FilePart {
    /// The file, open for as long as anybody sends from it.
    pub file: Rc<crate::file::Entry>,
    /// The first byte to send.
    pub offset: u64,
    /// How many bytes to send.
    pub len: u64,
}

/// A body that is produced while it is sent; made by [`Response::stream`] and [`Response::duplex`].
pub struct StreamBody {
    pub(crate) length: Option<u64>,
    /// It reads the body of the request.
    pub(crate) reads_request: bool,
    pub(crate) produce: Producer,
}

/// What writes a streamed body.
pub(crate) type Producer = Box<dyn FnOnce(&mut BodyReader<'_>, &mut BodyWriter<'_>) -> io::Result<()>>;

#[cfg(feature = "gzip")]
impl StreamBody {
    /// A body of unknown length.
    pub(crate) fn new(produce: impl FnOnce(&mut BodyWriter<'_>) -> io::Result<()> + 'static) -> StreamBody {
        StreamBody { length: None, reads_request: false, produce: Box::new(|_, body| produce(body)) }
    }

    /// The same through a content coding, which is made, knowing the length that was announced, when the body is produced.
    pub(crate) fn coded(
        self,
        make: impl FnOnce(Option<u64>) -> io::Result<Box<dyn Encode>> + 'static,
    ) -> StreamBody {
        let StreamBody { length, reads_request, produce } = self;
        let coded: Producer = Box::new(move |request, body| {
            body.encode_by(make(length)?);
            produce(request, body)?;
            body.end_encoding()
        });
        StreamBody { length: None, reads_request, produce: coded }
    }
}

impl fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamBody").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Bytes that are borrowed for ever, owned, or shared among many responses without a copy.
#[derive(Clone)]
pub enum Bytes {
    /// Part of the program.
    Static(&'static [u8]),
    /// This response's own.
    Owned(Vec<u8>),
    /// Shared, for instance one event that thousands of connections are sent.
    Shared(Arc<[u8]>),
}

impl Bytes {
    /// The bytes themselves.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Static(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.as_slice().len())
    }
}

impl From<&'static str> for Bytes {
    fn from(text: &'static str) -> Bytes {
        Bytes::Static(text.as_bytes())
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Bytes {
        Bytes::Static(bytes)
    }
}

impl<const N: usize> From<&'static [u8; N]> for Bytes {
    fn from(bytes: &'static [u8; N]) -> Bytes {
        Bytes::Static(bytes)
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Bytes {
        Bytes::Owned(text.into_bytes())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes::Owned(bytes)
    }
}

impl From<Arc<[u8]>> for Bytes {
    fn from(bytes: Arc<[u8]>) -> Bytes {
        Bytes::Shared(bytes)
    }
}

/// The header fields of a response: the media type, which nearly all have, and then the others as they go on the wire:
/// `name: value` and CRLF, one after the other.
///
/// Composing a head copies them in one piece, and any number of them costs one allocation, which is pooled. To find
/// one again means to look through the lines; that is rare and they are few.
#[derive(Default)]
pub(crate) struct HeaderBlock {
    /// The `Content-Type` that the response was made with: a plain response needs no memory for its fields.
    content_type: Option<Cow<'static, str>>,
    lines: String,
}

impl HeaderBlock {
    /// The media type, if it is not among the lines.
    #[inline]
    pub(crate) fn content_type(&self) -> Option<&Cow<'static, str>> {
        self.content_type.as_ref()
    }

    /// The lines. Every one was checked by `Response::put`, so there is no line end but at the end of each.
    pub(crate) fn lines(&self) -> &str {
        &self.lines
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.lines.split_terminator("\r\n").filter_map(|line| line.split_once(": "));
        self.content_type().map(|value| (CONTENT_TYPE, &**value)).into_iter().chain(lines)
    }

    fn put(&mut self, name: &str, value: &str, replace: bool) {
        if replace {
            self.remove(name);
        }
        if self.lines.capacity() == 0 {
            self.lines = buffer::take_lines();
        }
        for part in [name, ": ", value, "\r\n"] {
            self.lines.push_str(part);
        }
    }

    fn remove(&mut self, name: &str) {
        if name.eq_ignore_ascii_case(CONTENT_TYPE) {
            self.content_type = None;
        }
        let mut at = 0;
        while let Some(len) = self.lines[at..].find("\r\n").map(|end| end + 2) {
            let line = &self.lines[at..at + len];
            if line.split(':').next().is_some_and(|field| field.eq_ignore_ascii_case(name)) {
                self.lines.replace_range(at..at + len, "");
            } else {
                at += len;
            }
        }
    }
}

impl Drop for HeaderBlock {
    #[inline]
    fn drop(&mut self) {
        if self.lines.capacity() > 0 {
            buffer::return_lines(&mut self.lines);
        }
    }
}

impl fmt::Debug for HeaderBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// What a handler may return.
pub trait IntoResponse {
    /// The response that is sent.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for &'static Constant {
    #[inline]
    fn into_response(self) -> Response {
        let body = Bytes::Static(self.body());
        let response = Response::of_type(Cow::Borrowed(self.media_type()), body);
        Response { constant: Some(self), ..response }
    }
}

impl IntoResponse for Status {
    fn into_response(self) -> Response {
        Response::new(self)
    }
}

/// An empty `204 No Content`.
impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::new(Status::NO_CONTENT)
    }
}

impl IntoResponse for &'static str {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Response {
        Response::bytes("application/octet-stream", self)
    }
}

impl<R: IntoResponse> IntoResponse for (Status, R) {
    fn into_response(self) -> Response {
        self.1.into_response().with_status(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_could_split_a_response_spoils_it() {
        for (name, value) in [
            ("X", "a\r\nSet-Cookie: b"),
            ("X", "a\nb"),
            ("X", "a\0"),
            ("X", "a\x7f"),
            ("X\r\nY", "a"),
            ("", "a"),
            ("X:", "a"),
        ] {
            let response = Response::text("x").with_header(name, value);
            assert!(response.fault().is_some(), "{name:?}: {value:?}");
            assert_eq!(response.headers().iter().count(), 1, "and is not kept");
        }
    }

    #[test]
    fn a_content_type_that_could_split_a_response_spoils_it() {
        assert!(Response::bytes("text/plain\r\nX: y", "x").fault().is_some());
        assert!(Response::stream("a/b\n", |_| Ok(())).fault().is_some());
    }

    #[test]
    fn framing_belongs_to_the_server() {
        for name in
            ["Content-Length", "transfer-encoding", "CONNECTION", "Date", "Keep-Alive", "Server", "Upgrade"]
        {
            assert!(Response::text("x").with_header(name, "1").fault().is_some(), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_header_is_said() {
        for (name, value, expected) in [
            ("X A", "1", r#""X A" is no name of a header (a token)"#),
            ("X-A", "secret\nx", r#"the value of "X-A" has a control character, '\n' at byte 6"#),
            ("Content-Type", "a\0", r#"the value of "Content-Type" has a control character, '\0' at byte 1"#),
            ("date", "1", r#""date" belongs to the server"#),
        ] {
            let fault = Response::text("x").with_header(name, value).fault().expect("a fault");
            assert_eq!(fault, format!("the handler set a header that is not allowed: {expected}"));
        }
        let fault = Response::bytes("a\r/b", "").fault().expect("a fault");
        assert!(
            fault.ends_with(r#"the value of "Content-Type" has a control character, '\r' at byte 1"#),
            "{fault}"
        );
    }

    #[test]
    fn an_interim_status_is_no_answer() {
        assert!(Response::new(Status::CONTINUE).fault().is_some());
        assert!(Response::new(Status::OK).fault().is_none());
    }

    #[test]
    fn headers_are_replaced_or_added() {
        let response = Response::new(Status::OK)
            .with_header("X-A", "1")
            .with_header("X-AB", "x-a: 2")
            .with_added_header("X-A", "3")
            .with_header("Empty", "");
        assert_eq!(response.headers().lines(), "X-A: 1\r\nX-AB: x-a: 2\r\nX-A: 3\r\nEmpty: \r\n");
        assert_eq!(response.header("x-ab"), Some("x-a: 2"));
        assert_eq!(response.header("empty"), Some(""));
        let response = response.with_header("x-a", "4");
        assert_eq!(response.headers().lines(), "X-AB: x-a: 2\r\nEmpty: \r\nx-a: 4\r\n", "both are replaced");
    }

    #[test]
    fn the_type_of_a_text_is_replaced_like_any_field() {
        let response = Response::text("x").with_header("content-type", "a/b").with_header("X-A", "1");
        let fields: Vec<_> = response.headers().iter().collect();
        assert_eq!(fields, [("content-type", "a/b"), ("X-A", "1")]);
        let response = Response::html("x").with_added_header("X-A", "1").with_header("X-A", "2");
        assert_eq!(response.header("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(response.headers().iter().count(), 2);
    }
}
