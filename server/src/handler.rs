//! The application: a function of a request to a response.
#![forbid(unsafe_code)]

use std::io;

use crate::constant::Constant;
use crate::middleware::{Middleware, With};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Answers requests. Every plain function `fn(&mut Request) -> R` is one, where `R` is anything that becomes a
/// [`Response`].
///
/// A handler runs on the green thread of its connection and may block as it likes. It is shared by all capabilities,
/// hence `Send + Sync`; what it makes for one request need be neither.
///
/// ```
/// use bast_server::{Handler, Request, Response};
/// fn is_handler(_: impl Handler) {}
/// is_handler(|_: &mut Request| "hello");
/// is_handler(|req: &mut Request| -> Result<Response, bast_server::Error> { Ok(Response::bytes("text/plain", req.read_body()?)) });
/// ```
///
/// # What handlers share
/// A handler owns what it uses. What lives as long as the program is shared most plainly by a reference that does, which is
/// copied into each closure; with an `Arc` each gets a clone.
///
/// ```
/// use bast::sync::Mutex;
/// # use bast_server::testing::TestClient;
/// use bast_server::{Error, Request, Router};
/// use std::collections::HashMap;
///
/// #[derive(Default)]
/// struct Stock {
///     items: Mutex<HashMap<String, u32>>, // Bast's: a thread that waits for it parks
/// }
///
/// impl Stock {
///     fn count(&self, request: &mut Request) -> Result<String, Error> {
///         let name: String = request.param("name")?;
///         Ok(self.items.lock().get(&name).ok_or_else(Error::not_found)?.to_string())
///     }
///
///     fn add(&self, request: &mut Request) -> Result<(), Error> {
///         *self.items.lock().entry(request.param("name")?).or_default() += 1;
///         Ok(())
///     }
/// }
///
/// let stock: &'static Stock = Box::leak(Box::default());
/// let app = Router::new()
///     .get("/stock/{name}", move |request: &mut Request| stock.count(request))
///     .post("/stock/{name}", move |request: &mut Request| stock.add(request));
/// # let client = TestClient::new(app);
/// # assert_eq!(client.post("/stock/nuts").send().status().code(), 204);
/// # assert_eq!(client.get("/stock/nuts").send().text(), "1");
/// # assert_eq!(client.get("/stock/bolts").send().status().code(), 404);
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: &mut Request<'_>) -> Response;

    /// Called once by [`Server::serve`](crate::Server::serve), before the first request. What is wrong with the handler
    /// itself comes out here. Whoever wraps another handler passes the call on.
    ///
    /// # Errors
    /// Why it cannot serve; `serve` returns it.
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    /// This handler inside of a [middleware](crate::middleware), which is given each request and the rest of the way.
    ///
    /// What is added last is outermost: it sees a request first and its response last. What comes back is a handler, and no
    /// [`Router`](crate::Router) any more, so a router gets its routes before; within another one it is
    /// [mounted](crate::Router::mount), not nested. [`Router::wrap`](crate::Router::wrap) goes around the routes and gives a
    /// router.
    ///
    /// A panic of the handler passes through every middleware and becomes a 500
    /// outside of them, unless [`CatchPanic`](crate::middleware::CatchPanic) is among them: they see no response and
    /// cannot change that one.
    ///
    /// ```
    /// use bast_server::{Handler, Next, Request, Router};
    /// let app = Router::new().get("/", |_: &mut Request| "hello");
    /// let app = app.with(|request: &mut Request, next: Next| {
    ///     next.run(request).with_header("X-Frame-Options", "DENY")
    /// });
    /// # let _ = app;
    /// ```
    fn with<M: Middleware>(self, middleware: M) -> With<Self, M>
    where
        Self: Sized,
    {
        With::new(self, middleware)
    }
}

impl<F, R> Handler for F
where
    F: Fn(&mut Request<'_>) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    fn handle(&self, request: &mut Request<'_>) -> Response {
        self(request).into_response()
    }
}

/// The same response to every request.
impl Handler for &'static Constant {
    fn handle(&self, _: &mut Request<'_>) -> Response {
        self.into_response()
    }
}
