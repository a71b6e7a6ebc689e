//! The bounds that protect a client from the servers it talks to, each named, with its reason. Plain data.
#![forbid(unsafe_code)]

use std::time::Duration;

/// What a server may send, and how many idle connections are kept. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest head of a response (status line and fields), 64 KiB by default: twice what servers take of a request, since
    /// cookies and policies are long.
    pub head_bytes_max: usize,
    /// Most fields in a head or in trailers, 200 by default.
    pub fields_max: usize,
    /// Longest body, decoded; no limit by default, because a body that is read in pieces takes no room.
    pub body_bytes_max: Option<u64>,
    /// Longest body that [`read_to_vec`](super::Response::read_to_vec), `text` and `json` gather in memory, 64 MiB by
    /// default.
    pub collected_bytes_max: u64,
    /// Most bytes that chunked framing (extensions and trailers) may add to one body, 16 KiB by default.
    pub chunk_overhead_bytes_max: usize,
    /// How much of an unwanted body is read and dropped to keep its connection, 64 KiB by default.
    pub drain_bytes_max: u64,
    /// How many idle connections are kept in all, 256 by default; each is a descriptor and a few hundred bytes. 0 keeps
    /// none.
    pub idle_connections_max: usize,
    /// How many of them to one host and port, 32 by default.
    pub idle_connections_per_host_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes_max: 64 << 10,
            fields_max: 200,
            body_bytes_max: None,
            collected_bytes_max: 64 << 20,
            chunk_overhead_bytes_max: 16 << 10,
            drain_bytes_max: 64 << 10,
            idle_connections_max: 256,
            idle_connections_per_host_max: 32,
        }
    }
}

/// How long each part of an exchange may take.
///
/// | limit | begins | ends |
/// |---|---|---|
/// | `connect` | with the look-up of the name | with the connection |
/// | `write` | with each piece of the request | when the kernel has taken some of it |
/// | `write_bytes_per_second_min` | when the server makes a piece wait | with that piece; judged over each stretch of `write` |
/// | `continue_wait` | with the head of a request that expects `100 Continue` | with any response, or by sending the body |
/// | `head` | when the request is sent | with the last byte of the response's head, however it drips |
/// | `body` | with each read of the body | when something has come |
/// | `body_bytes_per_second_min` | with the collecting of a body | with its last byte; judged over each stretch of `body` |
/// | `total` | with `send` or `start` | with the last byte of the body |
///
/// [`bast::timeout`] around any of it works as well: it unwinds the thread, and the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// For name and connection, over all addresses of the name: 10 s by default. On a plain OS thread the look-up of the
    /// name itself cannot be cut short.
    pub connect: Duration,
    /// Between two pieces of the request that the server takes: 30 s by default.
    pub write: Duration,
    /// How many bytes of the request the server must take per second while it makes the client wait, on the average of each
    /// stretch of [`write`](TimeLimits::write): 240 by default. A server that takes a little now and then would hold an upload
    /// practically for ever. Each piece is judged by itself, a body that [`send`](super::Request::send) has as one, others
    /// 16 KiB at a time; what the caller takes to make it does not count. 0 asks for nothing, and
    /// [`duplex`](super::Upload::duplex) is not judged.
    pub write_bytes_per_second_min: u32,
    /// For `100 Continue`, after which the body is sent without it: 1 s by default (RFC 9110 §10.1.1 says not to wait
    /// for an indefinite time; servers of HTTP/1.0 never send it).
    pub continue_wait: Duration,
    /// For the whole head of the response, interim responses included: 30 s by default.
    pub head: Duration,
    /// Between two pieces of the response's body: 30 s by default.
    pub body: Duration,
    /// How many bytes of the response, framing included, must arrive per second, on the average of each stretch of
    /// [`body`](TimeLimits::body), while [`read_to_vec`](super::Response::read_to_vec), `text`, `json` or
    /// [`discard`](super::Body::discard) read it: 240 by default, as the server asks of its clients. A server that sends
    /// a byte now and then would hold them practically for ever. What is shorter than one stretch is not judged; 0 asks
    /// for nothing.
    ///
    /// A body that the caller reads himself is not judged: events come as slowly as they happen. `total` bounds it.
    pub body_bytes_per_second_min: u32,
    /// For everything, redirects and retries included: none by default, for bodies may go on for ever.
    pub total: Option<Duration>,
    /// How long an idle connection is kept: 30 s by default, below the usual 60 s of servers, so that we close first.
    pub idle: Duration,
}

impl Default for TimeLimits {
    fn default() -> TimeLimits {
        TimeLimits {
            connect: Duration::from_secs(10),
            write: Duration::from_secs(30),
            write_bytes_per_second_min: 240,
            continue_wait: Duration::from_secs(1),
            head: Duration::from_secs(30),
            body: Duration::from_secs(30),
            body_bytes_per_second_min: 240,
            total: None,
            idle: Duration::from_secs(30),
        }
    }
}
