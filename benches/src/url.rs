//! Where a load goes: `http://HOST[:PORT]/PATH`, taken apart and resolved.
#![forbid(unsafe_code)]

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// A resource on a server whose address is known.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server's address.
    pub addr: SocketAddr,
    /// What the Host field says.
    pub host: String,
    /// The request target, from `/` on.
    pub path: String,
}

impl Target {
    /// `path` on the server at `addr`, which is also what Host says.
    #[must_use]
    pub fn new(addr: SocketAddr, path: &str) -> Target {
        Target { addr, host: addr.to_string(), path: path.to_owned() }
    }

    /// Takes a URL apart and resolves its host.
    ///
    /// # Errors
    /// `InvalidInput` where it is not of the form `http://HOST[:PORT][/PATH]`, or resolution's.
    pub fn parse(url: &str) -> io::Result<Target> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("not an http:// URL: {url}"));
        let rest = url.strip_prefix("http://").ok_or_else(invalid)?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let ends_in_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        let named = if ends_in_port { authority.to_owned() } else { format!("{authority}:80") };
        let addr = named.to_socket_addrs()?.next().ok_or_else(invalid)?;
        Ok(Target { addr, host: authority.to_owned(), path: path.to_owned() })
    }

    /// The bytes of one GET. An HTTP/1.1 connection is kept unless `close` asks for its end.
    #[must_use]
    pub fn request(&self, close: bool) -> Vec<u8> {
        let Target { host, path, .. } = self;
        let connection = if close { "Connection: close\r\n" } else { "" };
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{connection}\r\n").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let target = Target::parse("http://127.0.0.1:8080/a/b?c").unwrap();
        assert_eq!(target.addr, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.0.1:8080", "/a/b?c"));
    }

    #[test]
    fn port_and_path_have_defaults() {
        let target = Target::parse("http://[::1]").unwrap();
        assert_eq!(target.addr, "[::1]:80".parse().unwrap());
        assert_eq!((target.host.as_str(), target.path.as_str()), ("[::1]", "/"));
    }

    #[test]
    fn other_schemes_are_refused() {
        assert_eq!(Target::parse("https://localhost/").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
