//! The opening handshake (RFC 6455 §4.2): is this a request for a WebSocket that may be answered, and with what?
#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::options::Options;
use crate::message::{Method, Status, list};
use crate::request::Request;
use crate::response::Response;

/// The token of `Upgrade`.
pub(crate) const PROTOCOL: &str = "websocket";

/// The one version of the protocol (RFC 6455 §4.1).
const VERSION: &[u8] = b"13";

/// What is hashed behind the key (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What the answer to a good request says.
#[derive(Debug)]
pub(super) struct Accepted {
    /// The value of Sec-WebSocket-Accept.
    pub(super) accept: String,
    pub(super) protocol: Option<&'static str>,
    #[cfg(feature = "gzip")]
    pub(super) compression: Option<super::deflate::Agreed>,
}

/// Checks a request.
///
/// # Errors
/// The response to a bad one.
pub(super) fn accept(request: &Request<'_>, options: &Options) -> Result<Accepted, Response> {
    if request.method() != Method::Get {
        let refused =
            Response::text("a WebSocket is opened by GET\n").with_status(Status::METHOD_NOT_ALLOWED);
        return Err(refused.with_header("Allow", "GET"));
    }
    if !request.upgrade_protocols().any(|offer| offer.eq_ignore_ascii_case(PROTOCOL)) {
        return Err(upgrade_required());
    }
    match single(request, "sec-websocket-version") {
        Ok(Some(VERSION)) => {}
        Ok(Some(_)) => return Err(upgrade_required()),
        Ok(None) | Err(Repeated) => return Err(bad("Sec-WebSocket-Version is needed, once")),
    }
    let key = match single(request, "sec-websocket-key") {
        Ok(Some(key)) if is_key(key) => key,
        _ => return Err(bad("Sec-WebSocket-Key is needed, once, as 16 bytes in base64")),
    };
    if request.content_length() != Some(0) {
        return Err(bad("a request for a WebSocket has no body"));
    }
    if !options.origins.allow(request) {
        let origin = request.header("origin").unwrap_or_default();
        log::debug!("{}: refused a WebSocket for a page of {origin:?}", request.whereabouts());
        return Err(Response::text("a page of this origin may not\n").with_status(Status::FORBIDDEN));
    }
    Ok(Accepted {
        accept: accept_of(key),
        protocol: choose(request, options.protocols),
        #[cfg(feature = "gzip")]
        compression: options.compression.and_then(|compression| {
            super::deflate::Agreed::of(texts(request, "sec-websocket-extensions"), compression)
        }),
    })
}

/// Which of our protocols to speak: the first, in the order of the server's preference, that the client names.
fn choose(request: &Request<'_>, protocols: &'static [&'static str]) -> Option<&'static str> {
    let offers = |protocol: &str| {
        texts(request, "sec-websocket-protocol")
            .flat_map(|value| list(value.as_bytes()))
            .any(|offer| offer == protocol.as_bytes())
    };
    protocols.iter().copied().find(|protocol| offers(protocol))
}

/// The values of all fields with this name that are text.
fn texts<'r>(request: &'r Request<'_>, name: &'static str) -> impl Iterator<Item = &'r str> {
    let fields = request.headers().filter(move |(field, _)| field.eq_ignore_ascii_case(name));
    fields.filter_map(|(_, value)| std::str::from_utf8(value).ok())
}

/// A field was there more than once.
struct Repeated;

/// The value of a field that may be there once.
fn single<'r>(request: &'r Request<'_>, name: &'static str) -> Result<Option<&'r [u8]>, Repeated> {
    let mut values = request.headers().filter(|(field, _)| field.eq_ignore_ascii_case(name));
    let first = values.next().map(|(_, value)| value);
    if values.next().is_some() { Err(Repeated) } else { Ok(first) }
}

/// Is it 16 bytes in base64 (RFC 6455 §4.2.1)?
fn is_key(key: &[u8]) -> bool {
    STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// The value of Sec-WebSocket-Accept for a key (RFC 6455 §4.2.2).
pub(crate) fn accept_of(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

fn bad(reason: &'static str) -> Response {
    Response::text(format!("{}: {reason}\n", Status::BAD_REQUEST)).with_status(Status::BAD_REQUEST)
}

/// The answer to one that speaks HTTP only, or another version (RFC 6455 §4.4).
fn upgrade_required() -> Response {
    Response::upgrade_required(PROTOCOL).with_header("Sec-WebSocket-Version", "13")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_accepted_as_there() {
        assert_eq!(accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_sixteen_bytes() {
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for key in [
            &b""[..],
            b"x",
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25j",
            b"dGhlIHNhbXBsZSBub25jZQo=",
            b"dGhlIHNhbXBsZSBub25jZR==",
            b" GhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert!(!is_key(key), "{key:?}");
        }
    }
}
