//! A look at all green threads from outside, for whoever may make such requests.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::request::Request;
use crate::response::Response;

/// Answers with the threads of the runtime and their stacks as text: [`bast::dump`].
///
/// It shows the insides of a program, and at 100,000 threads it takes the better part of a second of one CPU: put it
/// where only you can reach it.
///
/// ```
/// use bast_server::{Router, dump_handler};
/// let admin = Router::new().get("/threads/dump", dump_handler);
/// # let _ = admin;
/// ```
///
/// # Errors
/// A 500 if no OS thread can be started for it.
pub fn dump_handler(_: &mut Request<'_>) -> Result<Response, Error> {
    Ok(Response::text(bast::dump()?.to_string()).with_header("Cache-Control", "no-store"))
}
