//! Where a request goes: `http` URLs (RFC 3986, RFC 9110 §4.2), and what a `Location` refers to. Sans-IO.
//!
//! Percent-encoding is left as it is: nothing is decoded and nothing is encoded. What could end a line or a request
//! target is refused, so that no URL can split a request.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::Ipv6Addr;

use super::error::Error;
use crate::class::{host_len, is_digits, target_len};
use crate::message::Method;

/// Longest URL in bytes. Servers refuse targets far below it (8 KiB is common); it bounds what a `Location` can cost.
const URL_BYTES_MAX: usize = 64 << 10;

/// The port of the scheme `http`.
const PORT_DEFAULT: u16 = 80;

/// An absolute `http` URL, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// What the `Host` field says: host in small letters, IPv6 in brackets, the port unless it is the scheme's. It
    /// names the origin, too.
    authority: String,
    /// How many bytes of the authority are the host.
    host_bytes: usize,
    port: u16,
    /// Path and query, in the form that a request line has them. Never empty.
    target: String,
}

const fn bad(reason: &'static str) -> Error {
    Error::url(reason)
}

impl Url {
    /// Takes an absolute URL apart. A fragment is dropped: it is the client's own affair (RFC 9110 §4.2.5).
    ///
    /// # Errors
    /// It is not well-formed, has another scheme, or names a user.
    pub(super) fn parse(text: &str) -> Result<Url, Error> {
        if text.len() > URL_BYTES_MAX {
            return Err(bad("longer than 64 KiB"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad("not absolute: it has to begin with http://"));
        };
        if scheme.eq_ignore_ascii_case("https") {
            return Err(bad("https is not supported: this client has no TLS"));
        }
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(bad("only the scheme http is supported"));
        }
        Url::behind_scheme(rest)
    }

    /// The same from the authority on.
    fn behind_scheme(rest: &str) -> Result<Url, Error> {
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // RFC 9110 §4.2.4: what names a user is mostly meant to deceive.
        if authority.contains('@') {
            return Err(bad("it holds a user name or password"));
        }
        let (host, port) = split_authority(authority)?;
        let port = match port {
            "" => PORT_DEFAULT,
            digits if is_digits(digits.as_bytes()) => match digits.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(bad("the port is none of 1 to 65535")),
            },
            _ => return Err(bad("the port is no number")),
        };
        let mut authority = host.to_ascii_lowercase();
        let host_bytes = authority.len();
        if port != PORT_DEFAULT {
            authority.push_str(&format!(":{port}"));
        }
        Ok(Url { authority, host_bytes, port, target: sent_target(target)? })
    }

    /// What this text refers to, seen from here (RFC 3986 §5.2).
    ///
    /// # Errors
    /// As [`parse`](Url::parse).
    pub(super) fn join(&self, reference: &str) -> Result<Url, Error> {
        if reference.len() > URL_BYTES_MAX {
            return Err(bad("longer than 64 KiB"));
        }
        let reference = reference.split('#').next().unwrap_or_default();
        let path = reference.split('?').next().unwrap_or_default();
        // A scheme comes before anything that a path begins with (RFC 3986 §4.2).
        if path.split('/').next().is_some_and(|first| first.contains(':')) {
            return Url::parse(reference);
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return Url::behind_scheme(rest);
        }
        let own = self.target(Method::Get);
        let own_path = own.split('?').next().unwrap_or_default();
        let target = if reference.is_empty() {
            own.to_owned()
        } else if path.is_empty() {
            format!("{own_path}{reference}")
        } else {
            let query = &reference[path.len()..];
            let merged = if path.starts_with('/') {
                path.to_owned()
            } else {
                let folder = own_path.rfind('/').map_or(0, |slash| slash + 1);
                format!("{}{path}", &own_path[..folder])
            };
            format!("{}{query}", without_dots(&merged))
        };
        Ok(Url { target: sent_target(&target)?, ..self.clone() })
    }

    /// Host and port as `Host` has them.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// The host as a resolver wants it: an IPv6 address without its brackets.
    pub(super) fn host(&self) -> &str {
        self.authority[..self.host_bytes].trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What the request line asks for. RFC 9112 §3.2.4: OPTIONS for the server as a whole is `*`.
    pub(super) fn target(&self, method: Method<'_>) -> &str {
        if self.target == "*" && method != Method::Options { "/" } else { &self.target }
    }
}

/// Host, with its brackets if it has them, and port without the colon.
fn split_authority(authority: &str) -> Result<(&str, &str), Error> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or(bad("the host lacks its closing bracket"))?;
        let (host, rest) = authority.split_at(end + 1);
        if host[1..end].parse::<Ipv6Addr>().is_err() {
            return Err(bad("the host is no IPv6 address"));
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, port)),
            None if rest.is_empty() => Ok((host, "")),
            None => Err(bad("the host is malformed")),
        };
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    // No resolver knows escapes.
    if host.is_empty() || host_len(host.as_bytes()) != host.len() || host.contains('%') {
        return Err(bad("the host is malformed"));
    }
    Ok((host, port))
}

/// Path and query as they are sent: without the fragment, and with the slash that may be missing.
fn sent_target(text: &str) -> Result<String, Error> {
    let text = text.split('#').next().unwrap_or_default();
    if target_len(text.as_bytes()) != text.len() {
        return Err(bad("it holds a byte that has to be percent-encoded"));
    }
    Ok(match text.as_bytes().first() {
        Some(b'/') => text.to_owned(),
        // Only OPTIONS is sent like this: see `target`.
        None => "*".to_owned(),
        Some(_) => format!("/{text}"),
    })
}

/// The path without its `.` and `..` segments (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.target(Method::Get))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_host_port_and_target() {
        let table = [
            ("http://a", "a", "a", 80, "/"),
            ("HTTP://A.b-c/", "a.b-c", "a.b-c", 80, "/"),
            ("http://a:80/p", "a", "a", 80, "/p"),
            ("http://a:/p", "a", "a", 80, "/p"),
            ("http://a:8080/p%20q/%zz", "a:8080", "a", 8080, "/p%20q/%zz"),
            ("http://127.0.0.1:1/?a=b&c=http://d@e", "127.0.0.1:1", "127.0.0.1", 1, "/?a=b&c=http://d@e"),
            ("http://a?q", "a", "a", 80, "/?q"),
            ("http://a#f", "a", "a", 80, "/"),
            ("http://a/p#f?g", "a", "a", 80, "/p"),
            ("http://[::1]/", "[::1]", "::1", 80, "/"),
            ("http://[2001:DB8::1]:65535/x", "[2001:db8::1]:65535", "2001:db8::1", 65535, "/x"),
            ("http://a//b/../c", "a", "a", 80, "//b/../c"),
        ];
        for (text, authority, host, port, target) in table {
            let url = Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (url.authority(), url.host(), url.port(), url.target(Method::Get)),
                (authority, host, port, target),
                "{text}"
            );
        }
    }

    #[test]
    fn options_for_a_whole_server_is_an_asterisk() {
        let target = |text: &str| Url::parse(text).unwrap().target(Method::Options).to_owned();
        assert_eq!([target("http://a"), target("http://a/"), target("http://a?q")], ["*", "/", "/?q"]);
    }

    #[test]
    fn what_could_split_or_divert_a_request_is_refused() {
        for text in [
            "",
            "a",
            "/p",
            "http:/a",
            "http//a",
            "https://a/",
            "ftp://a/",
            "http://",
            "http:///p",
            "http://:80/",
            "http://u@a/",
            "http://u:p@a/",
            "http://a:x/",
            "http://a:0/",
            "http://a:65536/",
            "http://a:-1/",
            "http://a:+1/",
            "http://a b/",
            "http://a\r\n/",
            "http://a/ HTTP/1.1\r\nX: y",
            "http://a/\n",
            "http://a/\r",
            "http://a/\0",
            "http://a/\x7f",
            "http://a/\t",
            "http://a/é",
            "http://é/",
            "http://[::1",
            "http://[::1]x/",
            "http://[::g]/",
            "http://[fe80::1%25eth0]/",
            "http://::1/",
            "http://a%41/",
            "http://a\\b/",
        ] {
            assert!(Url::parse(text).is_err(), "{text:?}");
        }
        assert!(Url::parse(&format!("http://a/{}", "x".repeat(URL_BYTES_MAX))).is_err());
        assert!(Url::parse("https://a/").unwrap_err().to_string().contains("TLS"));
    }

    #[test]
    fn a_reference_is_resolved_as_rfc_3986_says() {
        // The normal and abnormal examples of RFC 3986 §5.4, and what else a Location may hold.
        let base = Url::parse("http://a/b/c/d;p?q").unwrap();
        let table = [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            ("..g", "http://a/b/c/..g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("HTTP://H:81/p", "http://h:81/p"),
            ("//h:81?q", "http://h:81/?q"),
        ];
        for (reference, expected) in table {
            assert_eq!(base.join(reference).unwrap().to_string(), expected, "{reference:?}");
        }
        assert_eq!(Url::parse("http://a").unwrap().join("g").unwrap().to_string(), "http://a/g");
        for bad in ["g:h", "https://a/", "http:g", "//u@h/", "/a b", "/é", "/\r\nX: y", "javascript:alert(1)"]
        {
            assert!(base.join(bad).is_err(), "{bad:?}");
        }
    }
}
