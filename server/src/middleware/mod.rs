//! What wraps a handler is a handler again: the trait of middleware, and the usual ones.
//!
//! | middleware | what it does |
//! |---|---|
//! | [`AccessLog`] | a line for each response, when it has been sent |
//! | [`RequestId`] | gives each request an id, or takes over the one a proxy gave it |
//! | [`BasicAuth`], [`BearerAuth`] | 401 for who is not known |
//! | [`Cors`] | lets pages of other origins in |
//! | [`Compress`] | content codings, as far as the client takes them |
//! | [`BodyLimit`] | another limit for request bodies |
//! | [`Timeout`] | 503 after some time |
//! | [`CatchPanic`] | a page of the program's own for its panics |
//!
//! What is added last is outermost. A sensible order, from the inside: what belongs to routes (authentication, body limits),
//! `CatchPanic`, `Timeout`, `Compress`, `Cors`, `RequestId`, `AccessLog`.
//!
//! ```
//! use bast_server::middleware::{AccessLog, BasicAuth, BodyLimit, Cors, RequestId};
//! use bast_server::{Handler, Request, Router};
//!
//! let admin = Router::new()
//!     .get("/", |_: &mut Request| "the machine room")
//!     .wrap(BasicAuth::new("machine room", |user, password| {
//!         user == "ada" && bast_server::middleware::is_same_secret(password, "engine")
//!     }));
//! let app = Router::new()
//!     .get("/", |_: &mut Request| "hello")
//!     .post("/notes", BodyLimit::new(4 << 10).around(|req: &mut Request| req.read_text()))
//!     .nest("/admin", admin);
//! let app = app.with(Cors::new().origin("https://example.com")).with(RequestId::new()).with(AccessLog::combined(std::io::sink()));
//! # let _ = app;
//! ```
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::handler::Handler;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Stands between a server and a handler: sees each request before, and each response after it, and may answer itself.
///
/// Every function `fn(&mut Request, Next) -> R` is one, where `R` is anything that becomes a [`Response`]. In a closure
/// the types have to be written down, as for handlers.
///
/// ```
/// use bast_server::{Handler, Middleware, Next, Request, Response};
///
/// struct Powered(&'static str);
///
/// impl Middleware for Powered {
///     fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
///         next.run(request).with_header("X-Powered-By", self.0)
///     }
/// }
///
/// let app = (|_: &mut Request| "hello").with(Powered("steam"));
/// let app = app.with(|request: &mut Request, next: Next| next.run(request).with_header("X-Frame-Options", "DENY"));
/// # let _ = app;
/// ```
pub trait Middleware: Send + Sync + 'static {
    /// Answers one request, usually by `next`.
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response;

    /// Called once before the first request, like [`Handler::prepare`].
    ///
    /// # Errors
    /// Why it cannot do its work; [`Server::serve`](crate::Server::serve) returns it.
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    /// The same as `handler.with(self)`, for where that reads better.
    fn around<H: Handler>(self, handler: H) -> With<H, Self>
    where
        Self: Sized,
    {
        With::new(handler, self)
    }
}

impl<F, R> Middleware for F
where
    F: Fn(&mut Request<'_>, Next<'_>) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        self(request, next).into_response()
    }
}

/// The rest of the way to the response: what a middleware calls, or does not call.
pub struct Next<'h> {
    handler: &'h dyn Handler,
}

impl Next<'_> {
    /// Goes on inwards.
    pub fn run(self, request: &mut Request<'_>) -> Response {
        self.handler.handle(request)
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Next")
    }
}

/// A handler inside of a middleware; made by [`Handler::with`].
pub struct With<H, M> {
    inner: H,
    middleware: M,
}

impl<H, M> With<H, M> {
    pub(crate) fn new(inner: H, middleware: M) -> With<H, M> {
        With { inner, middleware }
    }
}

impl<H: Handler, M: Middleware> Handler for With<H, M> {
    fn handle(&self, request: &mut Request<'_>) -> Response {
        self.middleware.handle(request, Next { handler: &self.inner })
    }

    fn prepare(&self) -> io::Result<()> {
        self.middleware.prepare()?;
        self.inner.prepare()
    }
}

impl<H: fmt::Debug, M> fmt::Debug for With<H, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("With").field(&self.inner).finish()
    }
}

/// One middleware around several handlers.
pub(crate) struct Shared<M>(pub(crate) Arc<M>);

impl<M: Middleware> Middleware for Shared<M> {
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        self.0.handle(request, next)
    }

    fn prepare(&self) -> io::Result<()> {
        self.0.prepare()
    }
}
