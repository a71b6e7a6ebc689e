//! What wraps a handler is a handler again: the trait of middleware, and the usual ones.
//!
//! | middleware | what it does |
//! |---|---|
//! | [`AccessLog`] | a line for each response, when it has been sent |
//! | [`RequestIds`] | gives each request an id, or takes over the one a proxy gave it |
//! | [`BasicAuth`], [`BearerAuth`] | 401 for who is not known |
//! | [`Cors`] | lets pages of other origins in |
//! | [`Compress`] | content codings, as far as the client takes them |
//! | [`Decompress`] | request bodies that come compressed |
//! | [`BodyLimit`] | another limit for request bodies |
//! | [`Timeout`] | 503 after some time |
//! | [`Errors`] | one form for all errors |
//! | [`CatchPanic`] | a page of the program's own for its panics |
//!
//! What is added last is outermost: it sees a request first and its response last. A sensible order, from the inside: what belongs to routes (authentication, body limits),
//! `CatchPanic`, `Timeout`, `Errors`, `Compress`, `Cors`, `RequestIds`, `AccessLog`.
//!
//! ```
//! use bast_server::middleware::{AccessLog, BasicAuth, BodyLimit, Cors, RequestIds};
//! use bast_server::{Handler, Middleware, Request, Router};
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
//! let app = app.with(Cors::new().origin("https://example.com")).with(RequestIds::new()).with(AccessLog::combined(std::io::sink()));
//! # let _ = app;
//! ```
#![forbid(unsafe_code)]

mod access_log;
mod auth;
mod body_limit;
mod catch_panic;
#[cfg(feature = "gzip")]
mod compress;
mod cors;
#[cfg(feature = "gzip")]
mod decompress;
mod errors;
mod request_id;
mod timeout;

use std::fmt;
use std::io;
use std::sync::Arc;

pub use access_log::{AccessLog, LogFile};
pub use auth::{BasicAuth, BearerAuth, User, Verdict, is_same_secret};
pub use body_limit::BodyLimit;
pub use catch_panic::CatchPanic;
pub(crate) use catch_panic::{Described, log_panic, panic_message};
#[cfg(feature = "gzip")]
pub use compress::{Compress, Effort};
pub use cors::Cors;
#[cfg(feature = "gzip")]
pub use decompress::Decompress;
pub use errors::{ErrorView, Errors};
pub use request_id::{RequestId, RequestIds};
pub use timeout::Timeout;

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
        let mut response = self.handler.handle(request);
        // The middleware may replace it, and then nobody further out would know what failed.
        response.log_cause(&Described(request));
        response
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

/// Says that the response depends on this field of requests, unless it says so already (RFC 9110 §12.5.5).
pub(crate) fn add_vary(response: Response, field: &str) -> Response {
    let is_known = |value: &str| {
        value.split(',').map(str::trim).any(|known| known == "*" || known.eq_ignore_ascii_case(field))
    };
    let varies = |(name, value): (&str, &str)| name.eq_ignore_ascii_case("Vary") && is_known(value);
    let is_said = response.headers().iter().any(varies);
    if is_said { response } else { response.with_added_header("Vary", field) }
}

#[cfg(test)]
pub(crate) mod tests {
    //! What the tests of this folder share, and those of the small ones.

    use std::time::Duration;

    use super::*;
    use crate::http1::serve::tests::{answer, codes};
    use crate::message::Status;

    /// All that a client of these bytes gets.
    pub(crate) fn ask(app: impl Handler, request: &str) -> String {
        answer(app, &[request.as_bytes()])
    }

    /// The value of the first field of this name.
    pub(crate) fn field<'o>(output: &'o str, name: &str) -> Option<&'o str> {
        let head = output.split("\r\n\r\n").next()?;
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn three_values_compose_and_the_last_is_outermost() {
        struct Tag(&'static str);
        impl Middleware for Tag {
            fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
                let inner = next.run(request);
                let trace = format!("{}{}", self.0, inner.header("X-Trace").unwrap_or(""));
                inner.with_header("X-Trace", trace)
            }
        }
        let app = (|_: &mut Request<'_>| "x").with(Tag("a")).with(Tag("b")).with(Tag("c"));
        assert_eq!(field(&ask(app, GET), "X-Trace"), Some("cba"));
        let app = Tag("c").around(Tag("b").around(Tag("a").around(|_: &mut Request<'_>| "x")));
        assert_eq!(field(&ask(app, GET), "X-Trace"), Some("cba"));
    }

    #[test]
    fn a_middleware_that_cannot_work_stops_the_server_before_it_serves() {
        struct Broken;
        impl Middleware for Broken {
            fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
                next.run(request)
            }
            fn prepare(&self) -> io::Result<()> {
                Err(io::Error::other("no disk"))
            }
        }
        let handler = |_: &mut Request<'_>| "x";
        assert!(handler.with(Broken).prepare().is_err());
        assert!(handler.with(BodyLimit::new(1)).with(Broken).with(BodyLimit::new(1)).prepare().is_err());
        assert!(crate::Router::new().get("/", handler).wrap(Broken).prepare().is_err());
        assert!(crate::Router::new().get("/", handler).wrap(BodyLimit::new(1)).prepare().is_ok());
    }

    #[test]
    fn a_body_has_the_limit_of_its_route() {
        let read = |request: &mut Request<'_>| request.read_body();
        let app = crate::Router::new()
            .post("/small", read.with(BodyLimit::new(3)))
            .post("/usual", read)
            .post("/large", read.with(BodyLimit::new(1000)));
        let app: Arc<dyn Handler> = Arc::new(app);
        for (path, length, code) in [
            ("small", 3, 200),
            ("small", 4, 413),
            ("usual", 100, 200),
            ("usual", 101, 413),
            ("large", 500, 200),
        ] {
            let app = Arc::clone(&app);
            let request = format!(
                "POST /{path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}",
                "x".repeat(length)
            );
            let output = ask(move |request: &mut Request<'_>| app.handle(request), &request);
            assert_eq!(codes(&output), [code], "{path} {length}");
        }
    }

    #[test]
    fn a_handler_that_takes_too_long_is_a_503_and_the_connection_lives_on() {
        let slow = |request: &mut Request<'_>| {
            if request.path() == "/slow" {
                bast::time::sleep(Duration::from_secs(3600));
            }
            "in time"
        };
        let output = bast::run(move || {
            let requests = GET.replace("GET /", "GET /slow") + GET;
            ask(slow.with(Timeout::new(Duration::from_millis(5))), &requests)
        });
        assert_eq!(codes(&output), [503, 200]);
    }

    #[test]
    fn a_program_has_a_page_of_its_own_for_panics() {
        let app = (|_: &mut Request<'_>| -> Response { panic!("secret {}", 7) })
            .with(CatchPanic::new(|request: &mut Request<'_>, panic: &str| {
                assert_eq!(panic, "secret 7");
                format!("sorry about {}", request.path())
            }))
            .with(|request: &mut Request<'_>, next: Next<'_>| {
                next.run(request).with_header("X-Outer", "saw it")
            });
        let output = ask(app, GET);
        assert_eq!(codes(&output), [500]);
        assert!(output.contains("X-Outer: saw it\r\n") && output.ends_with("sorry about /"), "{output}");
        let teapot = Status::from_code(418).expect("a status");
        let app = (|_: &mut Request<'_>| -> Response { panic!("x") })
            .with(CatchPanic::new(move |_: &mut Request<'_>, _: &str| teapot));
        assert_eq!(codes(&ask(app, GET)), [418]);
    }

    #[test]
    fn a_limit_further_out_passes_through_a_catcher_of_panics() {
        let app = (|_: &mut Request<'_>| bast::time::sleep(Duration::from_secs(3600)))
            .with(CatchPanic::new(|_: &mut Request<'_>, _: &str| "caught"))
            .with(Timeout::new(Duration::from_millis(5)));
        assert_eq!(codes(&bast::run(move || ask(app, GET))), [503]);
    }
}
