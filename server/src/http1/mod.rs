//! HTTP/1.1 and 1.0 (RFC 9112): sans-IO codecs, and the loop that speaks them over a transport.
//!
//! `head`, `request_line`, `fields`, `parse`, `body`, `chunk_extension`, `trailers`, `encode` and `persistence` know bytes
//! only; their tests cut every input at every position. `wire`, `reader` and `stream` receive bodies, hold back and send
//! output; `serve` tells the story of a connection.
#![forbid(unsafe_code)]

pub(crate) mod body;
pub(crate) mod chunk_extension;
pub(crate) mod encode;
pub(crate) mod fields;
pub(crate) mod head;
pub(crate) mod parse;
pub(crate) mod persistence;
pub(crate) mod preamble;
pub(crate) mod reader;
pub(crate) mod request_line;
pub(crate) mod serve;
pub(crate) mod stream;
pub(crate) mod trailers;
pub(crate) mod wire;
