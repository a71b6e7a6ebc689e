//! Where a redirect leads, and as what (RFC 9110 §15.4). Sans-IO.
#![forbid(unsafe_code)]

use super::error::Error;
use super::headers::Headers;
use super::prepared::Prepared;
use crate::coding::DIGESTS;
use crate::message::{Method, Status};

/// Is there something to follow at all?
pub(super) fn is_redirect(status: Status, headers: &Headers) -> bool {
    matches!(status.code(), 301 | 302 | 303 | 307 | 308) && headers.get_bytes("Location").is_some()
}

/// What becomes of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Kept,
    Dropped,
}

/// Fields that say who the user is, or let him in: for the origin that they were meant for only. Beside those of the standards
/// (RFC 9110 §11, RFC 6265) the usual ones of keys and tokens; of others only the caller can know, who says so by
/// [`sensitive_header`](super::Request::sensitive_header).
const CREDENTIALS: [&str; 8] = [
    "Authorization",
    "Cookie",
    "Cookie2",
    "Proxy-Authorization",
    "X-Access-Token",
    "X-Api-Key",
    "X-Auth-Token",
    "X-Csrf-Token",
];

/// Fields that describe a body: they go with it.
const OF_CONTENT: [&str; 5] =
    ["Content-Encoding", "Content-Language", "Content-Location", "Content-Type", "Last-Modified"];

/// Makes `request` the one that the redirect asks for.
///
/// 303 is a GET, and so is what follows a POST by 301 and 302, as all browsers have it; 307 and 308 repeat the request.
///
/// # Errors
/// `Location` is malformed, or leads to where this client cannot go.
pub(super) fn follow(request: &mut Prepared, status: Status, headers: &Headers) -> Result<Content, Error> {
    let location = headers.get("Location").ok_or(Error::redirect("its Location is not UTF-8"))?;
    let url = request.url.join(location).map_err(|error| Error::redirect("its Location").caused_by(error))?;
    if url.authority() != request.url.authority() {
        CREDENTIALS.iter().for_each(|name| request.lines.remove(name));
        request.lines.remove_sensitive();
        // A Host of the caller's own was meant for the origin too.
        request.lines.remove("Host");
    }
    request.url = url;
    let becomes_get = match status.code() {
        303 => request.method() != Method::Head,
        301 | 302 => request.method() == Method::Post,
        _ => false,
    };
    if !becomes_get {
        return Ok(Content::Kept);
    }
    request.method = Method::Get.as_str().to_owned();
    request.expects = false;
    OF_CONTENT.iter().chain(DIGESTS).for_each(|name| request.lines.remove(name));
    Ok(Content::Dropped)
}
