//! Another limit for the bodies of some requests.
#![forbid(unsafe_code)]

use super::{Middleware, Next};
use crate::request::Request;
use crate::response::Response;

/// Replaces [`Limits::body_bytes_max`](crate::Limits::body_bytes_max) for the requests it is around, upwards or
/// downwards: see [`Request::limit_body`].
///
/// A limit that is higher than the memory that each client may have is for bodies that are taken piece by piece, such as into a file;
/// [`read_body`](Request::read_body) and the like keep all of it.
///
/// ```
/// use bast_server::middleware::BodyLimit;
/// use bast_server::{Error, Handler, Request, Router, Status};
/// use std::io;
///
/// let upload = |request: &mut Request| -> Result<Status, Error> {
///     let id: u64 = request.param("id")?; // a number: no client chooses a path
///     let mut file = bast::fs::File::create(format!("/srv/videos/{id}.part"))?;
///     io::copy(&mut request.body(), &mut file)?;
///     bast::fs::rename(format!("/srv/videos/{id}.part"), format!("/srv/videos/{id}"))?;
///     Ok(Status::CREATED)
/// };
/// let app = Router::new().put("/videos/{id}", upload.with(BodyLimit::new(4 << 30)));
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
