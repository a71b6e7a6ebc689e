//! What wraps a handler is a handler again.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::handler::Handler;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

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
pub struct With<H, F> {
    inner: H,
    middleware: F,
}

impl<H, F> With<H, F> {
    pub(crate) fn new(inner: H, middleware: F) -> With<H, F> {
        With { inner, middleware }
    }
}

impl<H, F, R> Handler for With<H, F>
where
    H: Handler,
    F: Fn(&mut Request<'_>, Next<'_>) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    fn handle(&self, request: &mut Request<'_>) -> Response {
        (self.middleware)(request, Next { handler: &self.inner }).into_response()
    }

    fn prepare(&self) -> io::Result<()> {
        self.inner.prepare()
    }
}

impl<H: fmt::Debug, F> fmt::Debug for With<H, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("With").field(&self.inner).finish()
    }
}
