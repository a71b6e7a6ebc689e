//! A limit for the time that a handler takes.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::{Middleware, Next};
use crate::error::Error;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Answers 503 where the handler takes longer ([`bast::timeout`]): its thread is interrupted where it waits, its
/// destructors run, and the connection lives on.
///
/// Only what runs before the handler returns counts: neither waiting for the request's head nor producing a streamed body.
/// A handler that computes without a runtime call is not interrupted before its next one.
///
/// ```
/// use bast_server::middleware::Timeout;
/// use bast_server::{Handler, Request};
/// use std::time::Duration;
/// let app = (|_: &mut Request| "in time").with(Timeout::new(Duration::from_secs(10)));
/// # let _ = app;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    duration: Duration,
}

impl Timeout {
    /// At most so long.
    #[must_use]
    pub fn new(duration: Duration) -> Timeout {
        Timeout { duration }
    }
}

impl Middleware for Timeout {
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        bast::timeout(self.duration, || next.run(request))
            .unwrap_or_else(|elapsed| Error::from(elapsed).into_response())
    }
}
