//! The request line: method, target in its four forms, version (RFC 9112 §3); and the authority, which `Host` is too.
#![forbid(unsafe_code)]

use std::net::Ipv6Addr;

use crate::class::{host_len, is_digits, path_len, target_len, token_len};
use crate::http1::head::{Head, Refusal, Span, bad};
use crate::message::{Method, Status, Version};

pub(crate) const LINE_TOO_LONG: Refusal =
    Refusal { status: Status::URI_TOO_LONG, reason: "request line too long" };

/// Where the first line of `bytes` ends, or their length.
pub(crate) fn line_end(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| b == b'\r' || b == b'\n').unwrap_or(bytes.len())
}

/// Takes apart the request line at `start` (RFC 9112 §3): method, one space, target, one space, version, CRLF, and
/// nothing else. Method and target may have `bytes_max` together. Returns where the fields begin.
#[inline]
pub(crate) fn request_line(
    bytes: &[u8],
    start: usize,
    bytes_max: usize,
    head: &mut Head,
) -> Result<usize, Refusal> {
    const MALFORMED: Refusal = bad("malformed request line");
    // Nearly all requests are of one method.
    let (well_known, method_end) = if bytes[start..].starts_with(b"GET ") {
        (Some(Method::Get), start + 3)
    } else {
        let end = start + token_len(&bytes[start..]);
        if end == start || bytes.get(end) != Some(&b' ') {
            return Err(MALFORMED);
        }
        (Method::well_known(&bytes[start..end]), end)
    };
    let target_start = method_end + 1;
    let query_at = target_start + path_len(&bytes[target_start..]);
    let mut target_end = query_at;
    if bytes.get(query_at) == Some(&b'?') {
        target_end += target_len(&bytes[query_at..]);
    }
    match bytes.get(target_end) {
        Some(b' ') if target_end > target_start => {}
        Some(b'#' | 0x80..) => return Err(bad("byte not allowed in a request target")),
        _ => return Err(MALFORMED),
    }
    // As one comparison each; a match on the bytes would be taken byte by byte.
    let version: Option<&[u8; 11]> = bytes[target_end..].first_chunk();
    head.version = if version == Some(b" HTTP/1.1\r\n") {
        Version::Http11
    } else if version == Some(b" HTTP/1.0\r\n") {
        Version::Http10
    } else {
        return Err(odd_version(&bytes[start..]));
    };
    head.well_known = well_known;
    head.method = Span::new(start, method_end);
    head.target = Span::new(target_start, target_end);
    head.path = Span::new(target_start, query_at);
    head.query = (query_at < target_end).then(|| Span::new(query_at + 1, target_end));
    head.authority = None;
    if (method_end - start) + (target_end - target_start) > bytes_max {
        return Err(LINE_TOO_LONG);
    }
    if bytes[target_start] != b'/' || well_known == Some(Method::Connect) {
        other_form(bytes, head)?;
    }
    Ok(target_end + b" HTTP/1.1\r\n".len())
}

/// What to answer to a request line that does not end in a version of ours.
#[cold]
fn odd_version(head: &[u8]) -> Refusal {
    let line = &head[..line_end(head)];
    if names_other_version(line) {
        let reason = "only HTTP/1.0 and HTTP/1.1 are spoken here";
        Refusal { status: Status::HTTP_VERSION_NOT_SUPPORTED, reason }
    } else if head[line.len()..].starts_with(b"\n") {
        bad("line ends by LF alone")
    } else {
        bad("malformed HTTP version")
    }
}

/// Does this request line end in a well-formed version that is not one of ours?
fn names_other_version(line: &[u8]) -> bool {
    let version = line.rsplit(|&b| b == b' ').next().unwrap_or_default();
    match version {
        b"HTTP/1.0" | b"HTTP/1.1" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

/// Takes the target apart where it is no path, by its form (RFC 9112 §3.2).
#[cold]
#[inline(never)]
fn other_form(bytes: &[u8], head: &mut Head) -> Result<(), Refusal> {
    if head.well_known == Some(Method::Connect) {
        return Err(Refusal { status: Status::NOT_IMPLEMENTED, reason: "CONNECT is for proxies" });
    }
    let target = head.target.of(bytes);
    if target == b"*" {
        let asks_server = head.well_known == Some(Method::Options);
        return if asks_server { Ok(()) } else { Err(bad("the target * is for OPTIONS only")) };
    }
    let Some(scheme) = [&b"http://"[..], b"https://"].iter().map(|scheme| scheme.len()).find(|&len| {
        target.len() > len && {
            let scheme = &target[..len];
            scheme.eq_ignore_ascii_case(b"http://") || scheme.eq_ignore_ascii_case(b"https://")
        }
    }) else {
        return Err(bad("malformed request target"));
    };
    let path_end = head.path.len();
    let authority_end =
        target[scheme..path_end].iter().position(|&b| b == b'/').map_or(path_end, |slash| scheme + slash);
    let authority = &target[scheme..authority_end];
    if authority.is_empty() || !is_authority(authority) {
        return Err(bad("malformed authority in the request target"));
    }
    head.authority = Some(Span::locate(bytes, authority));
    head.path = Span::locate(bytes, &target[authority_end..path_end]);
    Ok(())
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2) as RFC 3986 §3.2.2 spells it, without user information. An empty one is allowed
/// where the URI has no authority, but a port needs its host (RFC 9110 §4.2.1).
#[inline(never)]
pub(crate) fn is_authority(value: &[u8]) -> bool {
    if value.first() == Some(&b'[') {
        return is_literal(value);
    }
    let (host, port) = value.split_at(host_len(value));
    is_port(port) && (!host.is_empty() || port.is_empty()) && escapes_are_whole(host)
}

/// Nothing, or a colon and digits.
#[inline]
fn is_port(rest: &[u8]) -> bool {
    match rest {
        [] => true,
        [b':', port @ ..] => is_digits(port),
        _ => false,
    }
}

/// Do two hexadecimal digits follow each percent sign (RFC 3986 §2.1)?
#[inline]
fn escapes_are_whole(host: &[u8]) -> bool {
    host.split(|&byte| byte == b'%').skip(1).all(|behind| {
        behind.first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// The same for `"[" IP-literal "]" [ ":" port ]`. Zones (RFC 6874) mean something on the client's machine only.
#[cold]
fn is_literal(value: &[u8]) -> bool {
    let Some(end) = value.iter().position(|&byte| byte == b']') else { return false };
    let address = &value[1..end];
    let is_v6 = || str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
    (is_v6() || is_future_address(address)) && is_port(&value[end + 1..])
}

/// `"v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )`: an address of a kind that is not known yet.
fn is_future_address(address: &[u8]) -> bool {
    let [b'v' | b'V', rest @ ..] = address else { return false };
    let Some(dot) = rest.iter().position(|&byte| byte == b'.') else { return false };
    let (version, address) = (&rest[..dot], &rest[dot + 1..]);
    !version.is_empty()
        && version.iter().all(u8::is_ascii_hexdigit)
        && !address.is_empty()
        && address
            .split(|&byte| byte == b':')
            .all(|part| host_len(part) == part.len() && !part.contains(&b'%'))
}
