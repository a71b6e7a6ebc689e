//! WebSocket (RFC 6455): messages in both directions over one connection.
#![forbid(unsafe_code)]

mod close;
mod decode;
#[cfg(feature = "gzip")]
mod deflate;
#[cfg(not(feature = "gzip"))]
#[path = "no_deflate.rs"]
mod deflate;
mod frame;
mod message;

pub use close::{CloseCode, CloseFrame};
#[cfg(feature = "gzip")]
pub use deflate::Compression;
pub use message::{Message, Prepared};
