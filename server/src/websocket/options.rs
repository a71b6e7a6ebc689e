//! How a WebSocket is set up.
#![forbid(unsafe_code)]

use std::time::Duration;

#[cfg(feature = "gzip")]
use super::deflate::Compression;
use super::origin::Origins;
use super::socket::{self, WebSocket};
use crate::request::Request;
use crate::response::Response;

/// How a WebSocket is set up; every default is meant for production.
///
/// ```
/// use bast_server::websocket::{Options, WebSocket};
/// use bast_server::{Request, Response, Router};
///
/// const OPTIONS: Options = Options { message_bytes_max: 16 << 10, protocols: &["chat.v2", "chat"], ..Options::DEFAULT };
///
/// fn chat(request: &mut Request) -> Response {
///     OPTIONS.upgrade(request, |socket: &mut WebSocket| {
///         let hello = format!("this is {}", socket.protocol().unwrap_or("chat"));
///         let _ = socket.send(hello);
///     })
/// }
/// let app = Router::new().get("/chat", chat);
/// # drop(app);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Longest message in bytes, inflated if it was compressed: 1 MiB by default. Beyond it the WebSocket is closed with 1009.
    pub message_bytes_max: usize,
    /// Most frames that a message may come in, 4096 by default: empty ones would be endless otherwise. Beyond it the WebSocket
    /// is closed with 1009.
    pub fragments_max: usize,
    /// How long a message may take from its first byte to its last: 60 s by default. Beyond it the WebSocket is closed with
    /// 1008: a client that sends a byte now and then is never silent, and would keep a message's memory for ever. It is
    /// counted from the first wait in the midst of the message; a function that does not receive for so long then finds it
    /// over. `None` is no limit, for large messages on slow lines.
    pub message_time_max: Option<Duration>,
    /// A client that has sent nothing for so long is sent a ping: 30 s by default. `None` is never; then one whose machine
    /// is gone keeps its thread for ever.
    pub ping_interval: Option<Duration>,
    /// How long to wait for anything after a ping: 10 s by default. Then the client counts as gone.
    pub pong_timeout: Duration,
    /// How long to wait for a client's answer to a Close: 5 s by default.
    pub close_timeout: Duration,
    /// The protocols that are spoken (Sec-WebSocket-Protocol), the best first. None by default. Where the client offers
    /// none of them none is named in the answer; a browser that had asked for one closes the WebSocket then.
    pub protocols: &'static [&'static str],
    /// From which pages it may be opened: the server's own by default.
    pub origins: Origins,
    /// Compression by permessage-deflate, for clients that offer it. Off by default: it takes CPU time, and where a message
    /// mixes secrets with what an attacker chose its length can tell the secret (as in the CRIME attack).
    #[cfg(feature = "gzip")]
    pub compression: Option<Compression>,
}

impl Options {
    /// The defaults, for constants.
    pub const DEFAULT: Options = Options {
        message_bytes_max: 1 << 20,
        fragments_max: 4096,
        message_time_max: Some(Duration::from_secs(60)),
        ping_interval: Some(Duration::from_secs(30)),
        pong_timeout: Duration::from_secs(10),
        close_timeout: Duration::from_secs(5),
        protocols: &[],
        origins: Origins::Same,
        #[cfg(feature = "gzip")]
        compression: None,
    };

    /// The response that opens a WebSocket, or says why not. See [`upgrade`](super::upgrade).
    pub fn upgrade(self, request: &Request<'_>, serve: impl FnOnce(&mut WebSocket) + 'static) -> Response {
        socket::upgrade(request, self, serve)
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::DEFAULT
    }
}
