//! The PROXY protocol: what a load balancer in front of the server says about whom it speaks for.
//!
//! ```
//! use bast_server::{ProxyProtocol, Request, Settings};
//!
//! # fn main() -> std::io::Result<()> {
//! let settings = Settings {
//!     // Connections of these must begin with the header, and there are no others.
//!     proxy_protocol: Some(ProxyProtocol::from_proxies(["10.0.0.0/8", "::1"])?),
//!     ..Settings::default()
//! };
//! fn who(request: &mut Request) -> String {
//!     format!("{:?} by way of {:?}", request.peer(), request.proxy().map(|proxied| proxied.proxy()))
//! }
//! # drop((settings, who as fn(&mut Request) -> String));
//! # Ok(())
//! # }
//! ```
//! Versions 1 and 2 of the
//! [specification](https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt) are read, told apart by their first
//! byte. The header must be whole and right: otherwise the connection is closed without a word. It is under the limits
//! of a head, of time ([`TimeLimits::head`](crate::TimeLimits)) and of length
//! ([`Limits::head_bytes_max`](crate::Limits)). Extensions (TLS details and the like) are skipped; a checksum among them
//! is verified.
//!
//! A relayed connection counts as one of the client that the proxy speaks for
//! ([`Limits::connections_per_address_max`](crate::Limits)), from the end of its header on; as one of the proxy's it counts at
//! no time, and neither do those that the proxy makes for itself, such as health checks.
#![forbid(unsafe_code)]

pub(crate) mod header;
mod range;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use header::{Header, Progress};
use range::Range;

use crate::timeout::Activity;

/// Who must begin a connection with the header of the PROXY protocol; see [`Settings::proxy_protocol`](crate::Settings).
///
/// Whether there is a header is decided by who connects, and never guessed from what is sent: a client that could send
/// one itself could choose its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    proxies: Vec<Range>,
    others: Others,
}

/// What becomes of connections from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Closed,
    Served,
}

impl ProxyProtocol {
    /// Connections from these addresses must begin with the header; others are closed. An address is `192.0.2.1` or
    /// `2001:db8::1`, a range of them `192.0.2.0/24` or `2001:db8::/32`. IPv4 addresses include those that a socket for
    /// both versions reports as `::ffff:192.0.2.1`.
    ///
    /// # Errors
    /// `InvalidInput` where a text is neither.
    pub fn from_proxies<T: AsRef<str>>(proxies: impl IntoIterator<Item = T>) -> io::Result<ProxyProtocol> {
        let proxies = proxies
            .into_iter()
            .map(|text| {
                let text = text.as_ref();
                Range::parse(text).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?} is no range of addresses"))
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(ProxyProtocol { proxies, others: Others::Closed })
    }

    /// Clients that connect from elsewhere are served as they come, without a header: a server that is reached directly
    /// as well.
    #[must_use]
    pub fn and_clients(mut self) -> ProxyProtocol {
        self.others = Others::Served;
        self
    }

    /// Must a connection from this address begin with the header?
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|range| range.contains(address))
    }
}

/// The addresses of a relayed connection; see [`Request::proxy`](crate::Request::proxy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    client: SocketAddr,
    destination: SocketAddr,
    proxy: SocketAddr,
}

impl Proxied {
    /// The client that the proxy speaks for: what [`Request::peer`](crate::Request::peer) says, too.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Where the client connected to.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// The proxy itself, which made the connection to this server.
    #[must_use]
    pub fn proxy(&self) -> SocketAddr {
        self.proxy
    }
}

/// Why a connection is not served.
#[derive(Debug)]
pub(crate) enum Rejected {
    /// Only proxies may connect.
    Stranger,
    Malformed(header::Malformed),
    /// The header did not come, or not in time.
    Io(io::Error),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejected::Stranger => f.write_str("not one of the proxies"),
            Rejected::Malformed(malformed) => malformed.fmt(f),
            Rejected::Io(error) => write!(f, "no whole PROXY header: {error}"),
        }
    }
}

/// Reads the header at the start of a connection from `peer`, if it must have one, and not a byte beyond it. `None`
/// where the connection speaks for itself. It is in the phase of a head.
pub(crate) fn receive(
    protocol: &ProxyProtocol,
    activity: &Activity,
    peer: SocketAddr,
    bytes_max: usize,
) -> Result<Option<Proxied>, Rejected> {
    if !protocol.trusts(peer.ip()) {
        return match protocol.others {
            Others::Served => Ok(None),
            Others::Closed => Err(Rejected::Stranger),
        };
    }
    match receive_header(activity, bytes_max)? {
        Header::Direct => Ok(None),
        Header::Relayed { source, destination } => {
            Ok(Some(Proxied { client: source, destination, proxy: peer }))
        }
    }
}

/// A header comes in one piece and is shorter than this, unless the proxy adds the details of a TLS session.
const PIECE_BYTES: usize = 256;

fn receive_header(activity: &Activity, bytes_max: usize) -> Result<Header, Rejected> {
    let transport = activity.transport();
    let mut received = Vec::new();
    let mut piece = [0; PIECE_BYTES];
    loop {
        // Looked at first: how much of it belongs to the header is not known before.
        let seen = transport.peek(&mut piece).map_err(Rejected::Io)?;
        if seen == 0 {
            return Err(Rejected::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let before = received.len();
        received.extend_from_slice(&piece[..seen]);
        let progress = header::parse(&received, bytes_max).map_err(Rejected::Malformed)?;
        let end = match progress {
            Progress::Complete { len, .. } => len,
            Progress::Incomplete => received.len(),
        };
        let mut rest = &mut piece[..end - before];
        while !rest.is_empty() {
            // What was seen is there: this does not wait.
            let count = transport.read(rest).map_err(Rejected::Io)?;
            rest = &mut rest[count..];
        }
        if let Progress::Complete { header, .. } = progress {
            return Ok(header);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::twin::Twin;

    fn protocol() -> ProxyProtocol {
        ProxyProtocol::from_proxies(["127.0.0.0/8"]).expect("a range")
    }

    fn receive_from(peer: &str, parts: &[&[u8]]) -> (Result<Option<Proxied>, Rejected>, Vec<u8>) {
        let twin = Twin::new(parts);
        let activity = Activity::new((&twin).into(), None);
        let peer = peer.parse().expect("an address");
        let received = receive(&protocol(), &activity, peer, 1000);
        let mut rest = Vec::new();
        let mut byte = [0; 1];
        while activity.transport().read(&mut byte).is_ok_and(|count| count > 0) {
            rest.extend(byte);
        }
        (received, rest)
    }

    const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n";

    #[test]
    fn a_header_in_two_pieces_cut_anywhere_leaves_the_request_where_it_is() {
        let bytes = [LINE, b"GET / HTTP/1.1\r\n\r\n"].concat();
        for cut in 0..bytes.len() {
            let (received, rest) = receive_from("127.0.0.1:9", &[&bytes[..cut], &bytes[cut..]]);
            let proxied = received.expect("a header").expect("an address");
            assert_eq!(proxied.client().to_string(), "192.0.2.1:56324");
            assert_eq!(proxied.destination().to_string(), "198.51.100.7:443");
            assert_eq!(proxied.proxy().to_string(), "127.0.0.1:9");
            assert_eq!(rest, b"GET / HTTP/1.1\r\n\r\n", "cut at {cut}");
        }
    }

    #[test]
    fn a_header_that_ends_early_is_an_end() {
        for cut in 0..LINE.len() {
            let (received, _) = receive_from("127.0.0.1:9", &[&LINE[..cut]]);
            assert!(matches!(received, Err(Rejected::Io(_))), "cut at {cut}");
        }
    }

    #[test]
    fn strangers_are_closed_or_served_but_never_believed() {
        let (received, _) = receive_from("192.0.2.99:9", &[LINE]);
        assert!(matches!(received, Err(Rejected::Stranger)));
        let twin = Twin::new(&[LINE]);
        let activity = Activity::new((&twin).into(), None);
        let peer = "192.0.2.99:9".parse().expect("an address");
        let received = receive(&protocol().and_clients(), &activity, peer, 1000);
        assert!(matches!(received, Ok(None)));
        assert!(twin.events().is_empty(), "nothing was read");
    }
}
