//! A request as it is put together, and the two ways to send it: with its body, or before its body is written.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::Shared;
use super::error::Error;
use super::headers::{Headers, Lines};
use super::place::Place;
use super::prepared::{Prepared, is_reserved};
use super::redirect::{self, Content};
use super::response::Response;
use super::sending::{Length, OnInterim, Sending};
use super::upload::Upload;
use super::url::Url;
use crate::class::{is_field_value, is_token};
use crate::http1::request_line::is_authority;
use crate::message::{Method, Status};
use crate::percent;
use crate::response::Bytes;

/// A request to be sent, made by a [`Client`](super::Client).
///
/// What is wrong with it (a malformed URL, a field that could split the request) is said by what sends it.
#[must_use = "a request is sent by `send` or `start`"]
pub struct Request {
    shared: Arc<Shared>,
    method: String,
    url: String,
    lines: Lines,
    body: Option<Bytes>,
    length: Option<u64>,
    upgrade: Option<String>,
    expects: bool,
    closes: bool,
    accepts_trailers: bool,
    redirects_max: u32,
    total: Option<Duration>,
    on_interim: Option<OnInterim>,
    /// The first thing that cannot be sent.
    refused: Option<Error>,
}

impl Request {
    pub(super) fn new(shared: Arc<Shared>, method: Method<'_>, url: &str) -> Request {
        let refused = if !is_token(method.as_str().as_bytes()) {
            Some(Error::request("its method is no token"))
        } else if method == Method::Connect {
            Some(Error::request("CONNECT is for proxies"))
        } else {
            None
        };
        let (redirects_max, total) = (shared.redirects_max, shared.time_limits.total);
        Request {
            shared,
            method: method.as_str().to_owned(),
            url: url.to_owned(),
            lines: Lines::default(),
            body: None,
            length: None,
            upgrade: None,
            expects: false,
            closes: false,
            accepts_trailers: false,
            redirects_max,
            total,
            on_interim: None,
            refused,
        }
    }

    /// Sets a header field, replacing what had the same name.
    ///
    /// A name that is no token, a value with a control character in it, and the fields that belong to the client
    /// (Connection, Content-Length, Expect, Keep-Alive, Proxy-Connection, TE, Trailer, Transfer-Encoding, Upgrade) spoil
    /// the request. `Host` may be set: it is sent instead of that of the URL.
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Request {
        self.put(name.as_ref(), value.as_ref(), true)
    }

    /// Adds a header field beside those of the same name. Checked like [`header`](Request::header).
    pub fn added_header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Request {
        let replace = name.as_ref().eq_ignore_ascii_case("host");
        self.put(name.as_ref(), value.as_ref(), replace)
    }

    /// Sets a header field as [`header`](Request::header) does, for the origin of the URL only: a
    /// [redirect](Request::follow) to another one does not take it along. For keys and tokens in fields of their own.
    pub fn sensitive_header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Request {
        self.lines.mark_sensitive(name.as_ref());
        self.header(name, value)
    }

    fn put(mut self, name: &str, value: &[u8], replace: bool) -> Request {
        let is_host = name.eq_ignore_ascii_case("host");
        if is_reserved(name) {
            self.refuse(Error::request("a header field that belongs to the client"));
        } else if is_host && (value.is_empty() || !is_authority(value)) {
            self.refuse(Error::request("a malformed Host"));
        } else if !self.lines.put(name, value, replace) {
            self.refuse(Error::request("a malformed header field"));
        }
        self
    }

    /// What all requests of the client share.
    #[cfg(feature = "websocket")]
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The value of the field that was set with this name; empty where none was.
    #[cfg(feature = "websocket")]
    pub(super) fn field(&self, name: &str) -> Vec<u8> {
        self.lines.get(name).unwrap_or_default().to_vec()
    }

    /// Takes `ws` for what it is, another name of `http` (RFC 6455 §3).
    #[cfg(feature = "websocket")]
    pub(super) fn speak_http(&mut self) {
        if let Some((scheme, rest)) = self.url.split_once("://")
            && scheme.eq_ignore_ascii_case("ws")
        {
            self.url = format!("http://{rest}");
        }
    }

    /// Refuses any other method.
    #[cfg(feature = "websocket")]
    pub(super) fn only(mut self, method: Method<'_>, reason: &'static str) -> Request {
        if self.method != method.as_str() {
            self.refuse(Error::request(reason));
        }
        self
    }

    fn refuse(&mut self, error: Error) {
        self.refused.get_or_insert(error);
    }

    /// Sets the body, for [`send`](Request::send).
    pub fn body(mut self, body: impl Into<Bytes>) -> Request {
        self.body = Some(body.into());
        self
    }

    /// Sets the body to this as JSON, and the `Content-Type` unless it is set. Needs the feature `json`.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(mut self, value: &T) -> Request {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.body = Some(bytes.into()),
            Err(error) => self.refuse(Error::request("its body is no JSON").caused_by(error)),
        }
        self.of_type("application/json")
    }

    /// Sets the body to these fields of an HTML form, and the `Content-Type` unless it is set.
    pub fn form<K: AsRef<str>, V: AsRef<str>>(mut self, fields: impl IntoIterator<Item = (K, V)>) -> Request {
        self.body = Some(percent::encode_pairs(fields).into());
        self.of_type("application/x-www-form-urlencoded")
    }

    fn of_type(self, media_type: &str) -> Request {
        if self.lines.has("Content-Type") { self } else { self.header("Content-Type", media_type) }
    }

    /// Adds parameters to the query of the URL, encoded as a form's fields are.
    ///
    /// ```no_run
    /// use bast_server::client::Client;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let found = Client::new()
    ///     .get("http://127.0.0.1:8080/search?lang=en")
    ///     .query([("q", "cats & dogs"), ("page", "2")]) // ?lang=en&q=cats+%26+dogs&page=2
    ///     .send()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn query<K: AsRef<str>, V: AsRef<str>>(
        mut self,
        parameters: impl IntoIterator<Item = (K, V)>,
    ) -> Request {
        let encoded = percent::encode_pairs(parameters);
        if encoded.is_empty() {
            return self;
        }
        // A fragment is not sent, and what came behind it would not be either.
        self.url.truncate(self.url.find('#').unwrap_or(self.url.len()));
        let joint = match self.url.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some((_, query)) if query.ends_with('&') => "",
            Some(_) => "&",
        };
        self.url.push_str(joint);
        self.url.push_str(&encoded);
        self
    }

    /// Says how long the body is that will be written, for [`start`](Request::start) and
    /// [`send_reader`](Request::send_reader). Without this it is sent in chunks, which a server of HTTP/1.0 does not know.
    pub fn content_length(mut self, bytes: u64) -> Request {
        self.length = Some(bytes);
        self
    }

    /// Asks the server for leave before a body is sent: `Expect: 100-continue`. Without an answer the body is sent after
    /// [`TimeLimits::continue_wait`](super::TimeLimits::continue_wait).
    pub fn expect_continue(mut self) -> Request {
        self.expects = true;
        self
    }

    /// Asks the server to change to this protocol. If it does, the response has status 101 and
    /// [`Response::into_upgraded`] has the connection.
    pub fn upgrade(mut self, protocol: &str) -> Request {
        if protocol.is_empty() || !is_field_value(protocol.as_bytes()) {
            self.refuse(Error::request("a malformed protocol to upgrade to"));
        }
        self.upgrade = Some(protocol.to_owned());
        self
    }

    /// Tells the server that trailers are understood: `TE: trailers`.
    pub fn accept_trailers(mut self) -> Request {
        self.accepts_trailers = true;
        self
    }

    /// Uses the connection for this request only, and tells the server so: `Connection: close`.
    pub fn close(mut self) -> Request {
        self.closes = true;
        self
    }

    /// Limits the time for all of it, to the last byte of the response's body; see
    /// [`TimeLimits::total`](super::TimeLimits::total).
    pub fn timeout(mut self, total: Duration) -> Request {
        self.total = Some(total);
        self
    }

    /// Follows so many redirects. Bodies that are written or read while they are sent cannot be sent twice: where that
    /// would be needed, the redirect itself is the response.
    ///
    /// To another origin (host or port) no credentials go along: not `Authorization`, `Proxy-Authorization`, `Cookie` and
    /// the usual fields of keys (`X-Api-Key`, `X-Auth-Token`, `X-Access-Token`, `X-Csrf-Token`), and none that was set by
    /// [`sensitive_header`](Request::sensitive_header); nor a `Host` of the caller's. All others do, and the body, where
    /// the redirect repeats it (307, 308).
    pub fn follow(mut self, redirects_max: u32) -> Request {
        self.redirects_max = redirects_max;
        self
    }

    /// Calls this for each interim response but 101, such as `103 Early Hints` with its fields.
    pub fn on_interim(mut self, tell: impl Fn(Status, &Headers) + Send + Sync + 'static) -> Request {
        self.on_interim = Some(Arc::new(tell));
        self
    }

    /// Sends the request and waits for the head of the response.
    ///
    /// A request that may be repeated (GET, HEAD, OPTIONS, TRACE, PUT, DELETE) and that meets the end of a connection which
    /// was used before, without a byte of a response, is sent once more on a new one: the server has closed it in the same
    /// moment (RFC 9112 §9.3.1).
    ///
    /// # Errors
    /// The request cannot be sent as it is, there is no connection or no response, or it is not one of HTTP/1.
    pub fn send(mut self) -> Result<Response, Error> {
        let redirects_max = self.redirects_max;
        let mut body = self.body.take();
        let body_bytes = body.as_ref().map_or(0, |body| body.as_slice().len() as u64);
        if self.length.is_some_and(|length| length != body_bytes) {
            self.refuse(Error::request("its body is not as long as was announced"));
        }
        let mut prepared = self.prepare()?;
        let mut followed = 0;
        loop {
            let response = send_bytes(&prepared, body.as_ref())?;
            if redirects_max == 0 || !redirect::is_redirect(response.status(), response.headers()) {
                return Ok(response);
            }
            if followed == redirects_max {
                return Err(Error::redirect("there are too many").about(&prepared.place()));
            }
            followed += 1;
            let content = redirect::follow(&mut prepared, response.status(), response.headers())
                .map_err(|error| error.about(response.place()))?;
            if content == Content::Dropped {
                body = None;
            }
            response.discard();
        }
    }

    /// Sends the request with all that the reader has as its body, and waits for the head of the response. It goes out as it
    /// is read, 16 KiB at a time, and no further once the server has answered with an error or a redirect.
    ///
    /// Nothing of it can be sent twice, so redirects are not followed and the request is not repeated.
    ///
    /// # Errors
    /// As [`send`](Request::send); those of the reader; the reader has more or less than
    /// [was announced](Request::content_length). The server sees a body that was cut off then.
    pub fn send_reader(self, mut reader: impl Read) -> Result<Response, Error> {
        let mut upload = self.start()?;
        upload.copy_from(&mut reader)?;
        upload.finish()
    }

    /// Begins the request; its body is then written. Nothing is sent twice, as with [`send_reader`](Request::send_reader).
    ///
    /// # Errors
    /// The request cannot be sent as it is, or there is no connection.
    pub fn start(mut self) -> Result<Upload, Error> {
        if self.body.is_some() {
            self.refuse(Error::request("a body that is written beside one that was set"));
        }
        let length = self.length.map_or(Length::Chunked, Length::Sized);
        let sending = Sending::begin(&self.prepare()?, length, false)?;
        Ok(Upload::new(sending, length == Length::Chunked))
    }

    fn prepare(self) -> Result<Prepared, Error> {
        let url = Url::parse(&self.url);
        if let Some(error) = self.refused {
            return Err(match url {
                Ok(url) => error.about(&Arc::new(Place::new(&self.method, url))),
                Err(_) => error,
            });
        }
        let deadline = self.total.and_then(|total| Instant::now().checked_add(total));
        Ok(Prepared {
            url: url?,
            shared: self.shared,
            method: self.method,
            lines: self.lines,
            upgrade: self.upgrade,
            expects: self.expects,
            closes: self.closes,
            accepts_trailers: self.accepts_trailers,
            on_interim: self.on_interim,
            deadline,
        })
    }
}

/// Sends a request whose body is all there, a second time if that is allowed.
fn send_bytes(prepared: &Prepared, body: Option<&Bytes>) -> Result<Response, Error> {
    let bytes = body.map_or(&[][..], Bytes::as_slice);
    let length = if body.is_some() || prepared.anticipates_body() {
        Length::Sized(bytes.len() as u64)
    } else {
        Length::Absent
    };
    let mut fresh = false;
    loop {
        let mut sending = Sending::begin(prepared, length, fresh)?;
        let may_repeat = sending.is_reused() && prepared.is_idempotent();
        match sending.write(bytes).and_then(|()| sending.finish(&Lines::default())) {
            // A new connection is not one that was used before, so this happens once.
            Err(error) if may_repeat && error.is_unanswered() => fresh = true,
            result => return result,
        }
    }
}

/// Without the query and the values of the fields, where keys and tokens travel.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As errors name it; of a URL that is none, what is wrong with it.
        let url = match Url::parse(&self.url) {
            Ok(url) => Place::new(&self.method, url).url_without_query(),
            Err(error) => error.to_string(),
        };
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &format_args!("{url}"))
            .field("headers", &self.lines)
            .finish_non_exhaustive()
    }
}
