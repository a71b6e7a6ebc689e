//! Another limit for the bodies of some requests.
#![forbid(unsafe_code)]

use super::{Middleware, Next};
use crate::request::Request;
use crate::response::Response;

/// Replaces [`Limits::body_bytes_max`](crate::Limits::body_bytes_max) for the requests it is around, upwards or
/// downwards: see [`Request::limit_body`].
///
/// ```
/// use bast_server::middleware::BodyLimit;
/// use bast_server::{Handler, Request, Router};
/// let upload = |request: &mut Request| request.read_body().map(|body| body.len().to_string());
/// let app = Router::new().put("/videos/{name}", upload.with(BodyLimit::new(4 << 30)));
/// # let _ = app;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit {
    bytes_max: u64,
}

impl BodyLimit {
    /// Bodies of up to so many bytes; a longer one is a 413 when it is read.
    #[must_use]
    pub fn new(bytes_max: u64) -> BodyLimit {
        BodyLimit { bytes_max }
    }
}

impl Middleware for BodyLimit {
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        request.limit_body(self.bytes_max);
        next.run(request)
    }
}
