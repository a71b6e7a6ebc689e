//! Typed extractors: bodies, queries and path parameters as values of the program's own types.
//!
//! They are methods of [`Request`] and fail with an [`Error`](crate::Error), so a handler asks for what it wants where it
//! wants it, and `?` answers the client. What goes wrong, and what it is answered by:
//!
//! | | not what it claims to be | not readable | does not fit the type |
//! |---|---|---|---|
//! | `json` | 415 | 400 | 422 |
//! | `form` | 415 | 400 | 422 |
//! | `query_as`, `query_value` | | 400 | 400 |
//! | `path_as` | | 400 | 400; 500 where it does not fit the route |
//!
//! A body with a `Content-Encoding` is a 415 as well, unless [`Decompress`](crate::middleware) undoes it.
//! Bodies beyond their limit are a 413 as everywhere. Messages name the field and say no more: neither the value, which
//! a client could use to have a text of its own shown to others, nor the names of types. The whole story is the error's
//! source, for a log.
#![forbid(unsafe_code)]

#[cfg(feature = "json")]
mod form;
#[cfg(feature = "json")]
pub(crate) mod json;
#[cfg(feature = "json")]
mod pairs;
#[cfg(feature = "json")]
mod path;
#[cfg(feature = "json")]
mod text;
mod value;

#[cfg(feature = "json")]
use crate::request::Request;

/// The media type of the body, without its parameters: empty where none is given.
#[cfg(feature = "json")]
fn media_type<'r>(request: &'r Request<'_>) -> &'r str {
    without_parameters(request.header("Content-Type").unwrap_or(""))
}

/// The media type of a value of `Content-Type`.
#[cfg(feature = "json")]
pub(crate) fn without_parameters(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or("").trim_matches([' ', '\t'])
}

/// A name that may come from the client, for a message: quoted, escaped, and no longer than a name should be.
#[cfg(feature = "json")]
fn quoted(name: &str) -> String {
    /// Long enough for the names in programs, too short for a text.
    const CHARS_MAX: usize = 64;
    match name.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{:?}...", &name[..end]),
        None => format!("{name:?}"),
    }
}

#[cfg(all(test, feature = "json"))]
mod tests;
