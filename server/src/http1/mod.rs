//! HTTP/1.1 and 1.0 (RFC 9112): sans-IO codecs, and the loop that speaks them over a transport.
//!
//! `head`, `request_line`, `fields`, `parse`, `body`, `chunk_extension`, `trailers`, `encode` and `persistence` know bytes
//! only; their tests cut every input at every position. `wire`, `reader` and `stream` receive bodies, hold back and send
//! output.
//!
//! `serve` tells the story of a connection. Its steps are in files of their own: `receive` waits for a request, `call` runs the
//! handler, `send`, `produce` and `switch` are the three ways to go on from its response, `rest` drops what nobody reads. An
//! `exchange` is what they hand to each other, `service` what all connections share.
#![forbid(unsafe_code)]

pub(crate) mod ahead;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod chunk_extension;
pub(crate) mod encode;
pub(crate) mod exchange;
pub(crate) mod fields;
pub(crate) mod head;
pub(crate) mod parse;
pub(crate) mod persistence;
pub(crate) mod preamble;
pub(crate) mod produce;
pub(crate) mod reader;
pub(crate) mod receive;
pub(crate) mod request_line;
pub(crate) mod rest;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod stream;
pub(crate) mod switch;
pub(crate) mod trailers;
pub(crate) mod wire;
