//! WebSocket (RFC 6455): messages in both directions over one connection.
//!
//! ```
//! use bast_server::websocket::{self, WebSocket};
//! use bast_server::{Request, Response, Router};
//!
//! fn echo(request: &mut Request) -> Response {
//!     websocket::upgrade(request, |socket: &mut WebSocket| {
//!         while let Some(message) = socket.recv() { // parks this thread only
//!             if socket.send(message).is_err() {
//!                 break;
//!             }
//!         }
//!     })
//! }
//! let app = Router::new().get("/echo", echo);
//! # drop(app);
//! ```
//! Pings are answered, silent clients are found by pings of our own, and the closing handshake is done, without any
//! help. The client's side is [`client::websocket`](crate::client::websocket). [`Options`] has the limits, the subprotocols, the check of `Origin` and compression.
//!
//! ```text
//! frame          headers of frames, the mask                  sans-IO, tested cut at every byte
//! close          codes and reasons
//! message        what is sent and received
//! deflate        permessage-deflate (RFC 7692)
//! decode         messages out of bytes
//! origin, handshake, options                                  a request, and how it is answered
//! sink, source   the two directions of a stream
//! socket         what a handler is given
//! ```
#![forbid(unsafe_code)]

mod close;
mod decode;
#[cfg(feature = "gzip")]
mod deflate;
#[cfg(not(feature = "gzip"))]
#[path = "no_deflate.rs"]
mod deflate;
mod frame;
#[cfg(fuzzing)]
mod fuzzed;
mod handshake;
mod message;
mod options;
mod origin;
mod sink;
mod socket;
mod source;

// The client speaks by the same codecs.
pub(crate) use close::Violation;
pub use close::{CloseCode, CloseFrame};
pub(crate) use decode::{Decoded, Decoder, MessageLimits};
#[cfg(feature = "gzip")]
pub use deflate::Compression;
pub(crate) use frame::{Opcode, encode_masked};
pub(crate) use handshake::{PROTOCOL, accept_of};
pub use message::{Message, Prepared};
pub use options::Options;
pub use origin::Origins;
pub use socket::{End, Receiver, Sender, WebSocket};

#[cfg(fuzzing)]
pub use fuzzed::decode_parts;

use crate::request::Request;
use crate::response::Response;

/// The response that opens a WebSocket, with the default [`Options`]; `serve` is called when it has been sent, on the connection's
/// own thread. A request that is none for a WebSocket is answered by a 400, 403, 405 or 426, and `serve` dropped.
///
/// When `serve` returns, the WebSocket is closed with 1000 unless it was before; if it panics, with 1011; if it is killed, as at
/// the deadline of a shutdown, with 1001.
pub fn upgrade(request: &Request<'_>, serve: impl FnOnce(&mut WebSocket) + 'static) -> Response {
    Options::DEFAULT.upgrade(request, serve)
}
