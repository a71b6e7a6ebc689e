#![forbid(unsafe_code)]
//! Names to addresses, without holding a core: numbers are read in place, names are looked up by the off-load pool.
//!
//! The system's resolver is the one that is asked (getaddrinfo(3)), so `/etc/hosts`, `/etc/resolv.conf` and the name
//! service switch mean what they mean elsewhere. It may take seconds, and nobody can cut it short.

use crate::offload;
use crate::scheduler::park;
use crate::time::deadline_after;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;
use std::vec;

/// What can be resolved to socket addresses, in the manner of `std::net::ToSocketAddrs`, and for the same types.
///
/// ```
/// use bast::net::ToSocketAddrs;
///
/// bast::run(|| {
///     let addresses: Vec<_> = "127.0.0.1:80".to_socket_addrs().unwrap().collect();
///     assert_eq!(addresses, ["127.0.0.1:80".parse().unwrap()]);
///     assert!(("localhost", 80).to_socket_addrs().unwrap().all(|address| address.ip().is_loopback()));
/// });
/// ```
pub trait ToSocketAddrs {
    /// The addresses, at once or by parking the calling green thread only. On a plain OS thread a name blocks.
    ///
    /// An interruptible point if a name has to be looked up. A look-up whose thread was killed goes on, on its OS
    /// thread of the pool, until the resolver gives up.
    ///
    /// # Errors
    /// The text is malformed, the name is not known (both are in the message), or the pool cannot start an OS thread.
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>>;
}

/// The addresses of a host and port, as [`ToSocketAddrs::to_socket_addrs`] finds them.
///
/// # Errors
/// As there.
pub fn lookup_host(host: impl ToSocketAddrs) -> io::Result<vec::IntoIter<SocketAddr>> {
    host.to_socket_addrs()
}

/// The addresses of a name, looked up for `limit` at the most. On a plain OS thread there is no limit.
///
/// # Errors
/// As [`lookup_host`]; `TimedOut` after the limit.
pub fn lookup_host_timeout(name: &str, port: u16, limit: Duration) -> io::Result<vec::IntoIter<SocketAddr>> {
    resolve(name, port, Some(deadline_after(limit)))
}

fn resolve(name: &str, port: u16, deadline_ns: Option<u64>) -> io::Result<vec::IntoIter<SocketAddr>> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(one(SocketAddr::new(ip, port)));
    }
    park::interruption_point();
    let asked = name.to_owned();
    let found =
        offload::attempt(deadline_ns, move || std::net::ToSocketAddrs::to_socket_addrs(&(&*asked, port)))?;
    // The resolver's errors do not say which name they are about.
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", name.escape_debug()));
    found.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())).map_err(named)
}

fn one(address: impl Into<SocketAddr>) -> vec::IntoIter<SocketAddr> {
    vec![address.into()].into_iter()
}

impl ToSocketAddrs for str {
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        if let Ok(address) = self.parse::<SocketAddr>() {
            return Ok(one(address));
        }
        let malformed =
            |what| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {what}", self.escape_debug()));
        let (name, port) = self.rsplit_once(':').ok_or_else(|| malformed("an address without a port"))?;
        resolve(name, port.parse().map_err(|_| malformed("the port is none of 0 to 65535"))?, None)
    }
}

impl ToSocketAddrs for (&str, u16) {
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        resolve(self.0, self.1, None)
    }
}

impl ToSocketAddrs for (String, u16) {
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        resolve(&self.0, self.1, None)
    }
}

impl ToSocketAddrs for String {
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        self.as_str().to_socket_addrs()
    }
}

impl ToSocketAddrs for [SocketAddr] {
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        Ok(Vec::from(self).into_iter())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        (**self).to_socket_addrs()
    }
}

/// Implements the trait for types that are an address already.
macro_rules! literals {
    ($($type:ty),+) => {
        $(
            impl ToSocketAddrs for $type {
                fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
                    Ok(one(*self))
                }
            }
        )+
    };
}

literals!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));
