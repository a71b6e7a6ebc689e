//! The bounds that protect a server from its clients, each named, with its reason.
//!
//! Plain data: nothing here reads a clock or a socket. Sizes are bytes. The time limits live in
//! [`crate::Settings`], because they need the runtime and these do not.
#![forbid(unsafe_code)]

/// What a client may send before it is refused.
///
/// The defaults suit a server that faces the open Internet. Each limit is independent; the request that crosses
/// one gets exactly one answer (named at the field) and the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest method plus target in bytes, 8 KiB by default; beyond it the answer is 414. RFC 9112 §3 recommends at least 8,000.
    pub request_line_bytes_max: usize,
    /// Longest head (request line and fields) in bytes, 32 KiB by default; beyond it the answer is 431.
    pub head_bytes_max: usize,
    /// Most fields in a head, 100 by default; beyond it the answer is 431.
    pub fields_max: usize,
    /// Longest request body in bytes, decoded, 8 MiB by default; beyond it the answer is 413.
    pub body_bytes_max: u64,
    /// Most bytes that chunked framing (extensions and trailers) may add to one body, 16 KiB by default; beyond it the
    /// answer is 400.
    pub chunk_overhead_bytes_max: usize,
    /// How many bytes of a body that the handler left unread are read and dropped to keep the connection, 64 KiB by
    /// default; beyond it the connection is closed instead.
    pub drain_bytes_max: u64,
    /// How many bytes a lingering close reads and drops so that the client can still read its answer: 1 MiB by
    /// default.
    pub linger_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_line_bytes_max: 8 << 10,
            head_bytes_max: 32 << 10,
            fields_max: 100,
            body_bytes_max: 8 << 20,
            chunk_overhead_bytes_max: 16 << 10,
            drain_bytes_max: 64 << 10,
            linger_bytes_max: 1 << 20,
        }
    }
}
