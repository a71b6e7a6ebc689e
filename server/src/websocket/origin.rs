//! Which pages may open a WebSocket: browsers do not apply the same-origin policy to it, so the server has to (RFC 6455 §10.2).
#![forbid(unsafe_code)]

use crate::request::Request;

/// From which pages a WebSocket may be opened.
///
/// A browser sends the user's cookies with the handshake from *any* page that asks for it. Without a check every page
/// that a user visits could speak in the user's name. A client that is no browser sends no `Origin`, and is let in: it could send
/// whichever it likes.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Origins {
    /// Pages of this server itself: the host and port of `Origin` are those of `Host`. The default.
    #[default]
    Same,
    /// Those in this list, in the form that browsers send, as `https://example.org`; also the server's own only if it is
    /// listed.
    Listed(&'static [&'static str]),
    /// All. Only for what says and does nothing that depends on who asks.
    Any,
    /// Those that this function lets in. It is given `Origin`, if there is one.
    When(fn(origin: Option<&str>, request: &Request<'_>) -> bool),
}

impl Origins {
    /// May this request open a WebSocket?
    pub(super) fn allow(self, request: &Request<'_>) -> bool {
        let mut values = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case("origin"));
        let origin = values.next().map(|(_, value)| std::str::from_utf8(value).unwrap_or(""));
        if values.next().is_some() {
            // Nobody can tell which of the two was meant.
            return matches!(self, Origins::Any);
        }
        match (self, origin) {
            (Origins::When(allow), origin) => allow(origin, request),
            (Origins::Any, _) | (_, None) => true,
            (Origins::Same, Some(origin)) => request.host().is_some_and(|host| is_same(origin, host)),
            (Origins::Listed(listed), Some(origin)) => {
                listed.iter().any(|one| one.eq_ignore_ascii_case(origin))
            }
        }
    }
}

/// Is the host and port of an origin, `scheme "://" host [":" port]` (RFC 6454 §6.2), this one?
fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    // A browser leaves the port out where it is the scheme's own; other clients need not.
    let bare =
        |authority: &'_ str| authority.strip_suffix(default_port).unwrap_or(authority).to_ascii_lowercase();
    bare(authority) == bare(host)
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn an_origin_is_compared_with_the_host_of_the_request() {
        for (origin, host, same) in [
            ("http://example.org", "example.org", true),
            ("https://Example.org", "eXample.org", true),
            ("http://example.org:80", "example.org", true),
            ("https://example.org", "example.org:443", true),
            ("http://example.org:8080", "example.org:8080", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("http://example.org:8080", "example.org", false),
            ("https://example.org:80", "example.org", false),
            ("http://evil.org", "example.org", false),
            ("http://example.org.evil.org", "example.org", false),
            ("null", "example.org", false),
            ("null", "null", false),
            ("", "", false),
            ("file://example.org", "example.org", false),
        ] {
            assert_eq!(is_same(origin, host), same, "{origin} at {host}");
        }
    }
}
