//! The bounds that protect a server from its clients, each named, with its reason.
//!
//! Plain data: nothing here reads a clock or a socket. Sizes are bytes. The time limits are
//! [`crate::TimeLimits`], because they need the runtime and these do not.
#![forbid(unsafe_code)]

/// What a client may send before it is refused, and how many connections there may be.
///
/// The defaults suit a server that faces the open Internet. Each limit is independent; the request that crosses
/// one gets exactly one answer (named at the field) and the connection is closed.
///
/// ```
/// use bast_server::{Limits, Overload, Settings};
/// let limits = Limits { connections_max: 1_000, overload: Overload::Wait, ..Limits::default() };
/// let settings = Settings { limits, ..Settings::default() };
/// # drop(settings);
/// ```
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
    /// How many requests a connection may bring, 1,000,000 by default; the last answer says `Connection: close`. It lets
    /// load that was balanced by connection be balanced anew, at a cost that nobody can measure.
    pub requests_per_connection_max: u32,
    /// How many connections there may be at a time, 262,144 by default: idle, they are some 2 GiB of memory, the kernel's
    /// included. Where the process may open fewer descriptors, those end first; see [`overload`](Limits::overload) for
    /// what happens then.
    pub connections_max: usize,
    /// How many of them may come from one client, 32,768 by default: an eighth of all, so that a few clients cannot have
    /// them all, and more than the 28,232 ports that a Linux host uses towards one server, so that a proxy is not
    /// concerned. Where clients come directly some hundreds are enough.
    ///
    /// A client is an IPv4 address or an IPv6 network of 64 bits, since a single customer is given at least such a
    /// network (RFC 6177). One connection more is answered by 503, whatever `overload` says, as nothing else can be done
    /// for one client alone.
    ///
    /// Behind a proxy that says by the [PROXY protocol](crate::ProxyProtocol) whom it speaks for, those are the clients that
    /// are counted, once the header has been read; the proxy itself is not.
    pub connections_per_address_max: usize,
    /// What becomes of clients beyond `connections_max`, or beyond the descriptors that the process may open.
    pub overload: Overload,
}

impl Limits {
    /// What makes no sense: under it no request at all could be answered.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (field, value, min) in [
            ("request_line_bytes_max", self.request_line_bytes_max, REQUEST_LINE_BYTES_MIN),
            ("head_bytes_max", self.head_bytes_max, REQUEST_LINE_BYTES_MIN),
            // Host (RFC 9112 §3.2).
            ("fields_max", self.fields_max, 1),
            ("requests_per_connection_max", self.requests_per_connection_max as usize, 1),
            ("connections_max", self.connections_max, 1),
            ("connections_per_address_max", self.connections_per_address_max, 1),
        ] {
            if value < min {
                return Err(format!("limits.{field} is {value}: at least {min} is needed"));
            }
        }
        Ok(())
    }
}

/// The shortest request: `GET / HTTP/1.1` and its line end.
const REQUEST_LINE_BYTES_MIN: usize = 16;

/// What becomes of clients that there is no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overload {
    /// They are told at once: their connection is accepted, answered by `503` with `Retry-After`, and closed; no request is
    /// read and no thread is made for it. A load balancer can ask another server then. This is the default.
    ///
    /// Where descriptors are short, as opposed to connections, they wait for a moment first (5 to 160 ms), as
    /// descriptors come and go.
    #[default]
    Refuse,
    /// They wait in the kernel's queue, without an answer, until a connection ends. For servers whose requests are
    /// short and whose clients are patient. The queue holds 4,096 (and `net.core.somaxconn`); beyond it, a client's
    /// system tries again by itself for some time.
    Wait,
}

// One client alone cannot have all connections.
const _: () = assert!(CONNECTIONS_PER_ADDRESS_MAX <= CONNECTIONS_MAX / 8);

const CONNECTIONS_MAX: usize = 1 << 18;
const CONNECTIONS_PER_ADDRESS_MAX: usize = 1 << 15;

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
            requests_per_connection_max: 1_000_000,
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            overload: Overload::default(),
        }
    }
}
