//! What a handler is given: the head of a request as slices of the input buffer, and its body as a reader.
//!
//! A request is a view that lives for one call of the handler. Nothing of it is copied before it is asked for.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::str::FromStr;

use crate::buffer::Input;
use crate::error::Error;
use crate::extensions::Extensions;
use crate::http1::body::RequestBody;
use crate::http1::encode;
use crate::http1::reader::BodyReader;
use crate::http1::wire::Wire;
#[cfg(feature = "gzip")]
use crate::inflate::Inflated;
use crate::inflate::{self, Coded};
use crate::message::{Method, Status, Version, list};
use crate::pattern::{self, PARAMS_MAX};
use crate::percent;
use crate::presence::Presence;
use crate::proxy::Proxied;
use crate::response::may_be_set;
use crate::sent::{Extras, Sent};
use crate::whereabouts::Whereabouts;

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
    /// Where in the path the handler is mounted.
    mount_at: usize,
    /// The prefix of that mount; empty without one.
    mount: &'static str,
    /// The pattern of the route.
    route: Option<&'static str>,
    /// Where the values of its parameters are in the path, if it has any.
    params: Option<ParamValues>,
    /// Nearly always none.
    extras: Option<Box<Extras>>,
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
        Request {
            wire,
            input,
            body,
            head_at,
            expects_continue,
            peer,
            mount_at: 0,
            mount: "",
            route: None,
            params: None,
            extras: None,
        }
    }

    /// The stream that it came by.
    pub(crate) fn wire(&self) -> &'c Wire {
        self.wire
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

    /// Is it a HEAD request?
    pub(crate) fn is_head(&self) -> bool {
        self.input.head.is_head()
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
        percent::decode_form(self.query_text(name)?)
    }

    /// The same as it was sent.
    pub(crate) fn query_text(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let found = pairs.find(|(key, _)| percent::decode_form(key).is_some_and(|key| key == name));
        found.map(|(_, value)| value)
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

    /// Where the connection comes from, if a proxy made it for the client and said so; see
    /// [`Settings::proxy_protocol`](crate::Settings).
    #[must_use]
    pub fn proxy(&self) -> Option<&Proxied> {
        self.wire.proxied()
    }

    /// The address of the client, as a proxy says it if [`proxy`](Request::proxy) is there; none in tests without a
    /// socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        *self.peer
    }

    /// Whose connection it is and what it does: for a log line.
    pub(crate) fn whereabouts(&self) -> Whereabouts {
        Whereabouts { peer: self.peer(), phase: self.wire.activity().phase() }
    }

    /// How the connection is secured, if it is; see [`tls`](crate::tls). It is put together at each call.
    ///
    /// Behind a proxy that speaks TLS for the server it is `None`.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn secured(&self) -> Option<crate::transport::tls::Secured> {
        self.wire.activity().transport().secured()
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
        let index = self.route.and_then(|route| pattern::names(route).position(|known| known == name));
        let Some((index, values)) = index.zip(self.params.as_ref()) else {
            return Err(Error::from(io::Error::other(format!("the route has no parameter {name:?}"))));
        };
        let (from, to) = values[index];
        percent::decode(&self.path()[from as usize..to as usize])
            .ok_or_else(|| Error::bad_request(format!("path parameter {name:?} is malformed")))
    }

    /// The pattern of the route that answers this request, with the prefixes that it is nested in: what to group metrics and
    /// log lines by, where paths would be too many. A router sets it, so that a middleware inside of the router
    /// finds it, and one around the router after the handler has returned; `None` where no route fits.
    ///
    /// ```
    /// use bast_server::{Handler, Next, Request, Router};
    /// let app = Router::new().get("/users/{id}", |_: &mut Request| "a user");
    /// let app = app.with(|request: &mut Request, next: Next| {
    ///     let response = next.run(request);
    ///     log::info!("{:?}", request.route()); // Some("/users/{id}")
    ///     response
    /// });
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn route(&self) -> Option<&'static str> {
        self.route
    }

    /// The path below the [mount](crate::Router::mount) that the handler is in, percent-encoded as it was sent: with a mount at
    /// `/static` the path `/static/a.css` has `/a.css`, and `/static` has the empty string. Without a mount it is the
    /// whole path.
    #[must_use]
    pub fn subpath(&self) -> &str {
        &self.path()[self.mount_at..]
    }

    /// Where the subpath begins.
    #[inline]
    pub(crate) fn mount_at(&self) -> usize {
        self.mount_at
    }

    /// A router has found this route.
    #[inline]
    pub(crate) fn set_route(&mut self, route: &'static str) {
        let route = if self.mount.is_empty() { route } else { pattern::joined(self.mount, route) };
        self.route = Some(route);
        if let Some(meter) = self.wire.activity().meter() {
            meter.routes(route);
        }
    }

    /// The parameters of the route in their order: names, and values as they stand in the path.
    #[cfg(feature = "json")]
    pub(crate) fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        let names = self.route.into_iter().flat_map(pattern::names);
        let values = self.params.iter().flatten();
        names.zip(values).map(|(name, &(from, to))| (name, &self.path()[from as usize..to as usize]))
    }

    /// It has these parameters.
    pub(crate) fn set_params(&mut self, params: ParamValues) {
        self.params = Some(params);
    }

    /// Runs what is mounted at `prefix`, which ends at `at` of the path.
    pub(crate) fn within_mount<R>(
        &mut self,
        prefix: &'static str,
        at: usize,
        body: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let outer = (self.mount, self.mount_at);
        self.mount = if self.mount.is_empty() { prefix } else { pattern::joined(self.mount, prefix) };
        self.mount_at = at;
        let result = body(self);
        // The route stays, for those who look at it from outside; the path is theirs again.
        (self.mount, self.mount_at) = outer;
        result
    }

    /// The values that middleware and handlers left with this request, by their types.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        const NONE: &Extensions = &Extensions::new();
        self.extras.as_ref().map_or(NONE, |extras| &extras.extensions)
    }

    /// The same, to be changed. They are dropped when the response has been sent.
    #[must_use]
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extras.get_or_insert_default().extensions
    }

    /// Calls `observer` when nothing more of the response will be sent, whatever became of it: also where the handler
    /// panicked, the body broke off or the connection was killed.
    ///
    /// It runs on the connection's thread, possibly while that unwinds, and should not wait. Exceptions from outside are deferred
    /// ([`bast::mask`](bast::mask())). One that panics is logged, and the others are told nevertheless.
    pub fn on_sent(&mut self, observer: impl FnOnce(&Sent<'_>) + 'static) {
        self.extras.get_or_insert_default().observers.push(Box::new(observer));
    }

    /// What outlives the handler, if there is anything.
    #[inline]
    pub(crate) fn take_extras(&mut self) -> Option<Box<Extras>> {
        let mut extras = self.extras.take()?;
        extras.route = self.route;
        Some(extras)
    }

    /// Replaces [`Limits::body_bytes_max`](crate::Limits::body_bytes_max) for this request, upwards or downwards: an
    /// upload may be long, a form need not. What was read before counts; a chunk that has begun may still be
    /// finished.
    pub fn limit_body(&mut self, bytes_max: u64) {
        self.body.limit(bytes_max);
    }

    /// The length of the body in bytes where the head says it: 0 without a body, `None` for a chunked one.
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

    /// The whole body, as far as it was not read yet. One that the client has compressed (`Content-Encoding`) is passed on as it
    /// came, unless `Decompress` of [`middleware`](crate::middleware) is around the handler.
    ///
    /// # Errors
    /// 400 where it is malformed or cut off, 408 where it comes too slowly, 413 where it is beyond
    /// [`Limits::body_bytes_max`](crate::Limits::body_bytes_max).
    pub fn read_body(&mut self) -> Result<Vec<u8>, Error> {
        #[cfg(feature = "gzip")]
        if let Some(&Inflated { bytes_max }) = self.extensions().get() {
            return match Coded::from_fields(self.headers()) {
                Coded::Otherwise => Err(inflate::unsupported(inflate::INFLATED)),
                coded => inflate::inflate(coded, self.read_raw()?, bytes_max),
            };
        }
        self.read_raw()
    }

    /// Refuses a body that is not what it says it is, but a coded form of it.
    ///
    /// # Errors
    /// 415.
    pub(crate) fn refuse_coded(&self) -> Result<(), Error> {
        #[cfg(feature = "gzip")]
        if self.extensions().get::<Inflated>().is_some() {
            return Ok(());
        }
        match Coded::from_fields(self.headers()) {
            Coded::Plain => Ok(()),
            _ => Err(inflate::unsupported(inflate::PLAIN)),
        }
    }

    fn read_raw(&mut self) -> Result<Vec<u8>, Error> {
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
    /// As [`read_body`](Request::read_body); 400 where it is not UTF-8, and 415 where it is compressed and nobody undoes that.
    pub fn read_text(&mut self) -> Result<String, Error> {
        self.refuse_coded()?;
        String::from_utf8(self.read_body()?).map_err(|_| Error::bad_request("request body is not UTF-8"))
    }

    /// The fields behind a chunked body (trailers, RFC 9110 §6.5), in their order: none before the body was read to its
    /// end. Names as sent, values without the white space around them.
    ///
    /// They are apart from the [`headers`](Request::headers), and what means something only ahead of a body (framing,
    /// routing, authentication, caching, content) is not among them. They count towards
    /// [`Limits::chunk_overhead_bytes_max`](crate::Limits::chunk_overhead_bytes_max), and there are at most 100.
    pub fn trailers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.body.trailers()
    }

    /// The value of the first trailer with this name, in any case of letters: `None` where it is absent, not UTF-8, or
    /// the body was not read to its end.
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        let found = self.trailers().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// Sends `100 Continue` to a client that waits for it before it sends the body; nothing to any other.
    ///
    /// The first read of the body does the same. Said earlier, the body is on its way while the handler does something else; not
    /// said, and nothing read, the body is refused by the response (RFC 9110 §10.1.1), and the connection is closed.
    ///
    /// # Errors
    /// The client is gone.
    pub fn send_continue(&mut self) -> io::Result<()> {
        self.body().ask()
    }

    /// Sends a `103 Early Hints` (RFC 8297) with these values of `Link`: what the client may fetch while the handler works on
    /// the response.
    ///
    /// ```
    /// use bast_server::{Error, Request, Response};
    /// fn page(request: &mut Request) -> Result<Response, Error> {
    ///     request.early_hints(&["</style.css>; rel=preload; as=style"])?;
    ///     Ok(Response::html("<link rel=stylesheet href=/style.css>"))
    /// }
    /// # let _ = page;
    /// ```
    ///
    /// # Errors
    /// As [`send_interim`](Request::send_interim).
    pub fn early_hints(&mut self, links: &[&str]) -> io::Result<()> {
        let fields: Vec<(&str, &str)> = links.iter().map(|link| ("Link", *link)).collect();
        self.send_interim(Status::EARLY_HINTS, &fields)
    }

    /// Sends an interim response (RFC 9110 §15.2) at once: a status from 102 to 199 and fields that say something before the
    /// response does. A client of HTTP/1.0 does not know such; to it nothing is sent.
    ///
    /// # Errors
    /// `InvalidInput` for any other status (100 is [`send_continue`](Request::send_continue), 101 is
    /// [`Response::upgrade`](crate::Response::upgrade)), and for fields that [`with_header`](crate::Response::with_header)
    /// would not accept; nothing is sent then. Else the client is gone.
    pub fn send_interim(&mut self, status: Status, fields: &[(&str, &str)]) -> io::Result<()> {
        let refused = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if !(102..200).contains(&status.code()) {
            return refused("this status is no interim response");
        }
        if !fields.iter().all(|(name, value)| may_be_set(name, value)) {
            return refused("an interim response cannot have such a field");
        }
        if self.version() == Version::Http10 {
            return Ok(());
        }
        encode::push_interim(status, fields, &mut self.wire.output().bytes);
        self.wire.flush()
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

/// Where the values of a route's parameters are in the path, in their order: from and to, in bytes.
pub(crate) type ParamValues = [(u32, u32); PARAMS_MAX];
