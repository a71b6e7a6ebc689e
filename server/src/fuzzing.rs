//! Ways into the server for the fuzz targets of `tests/fuzz`, which else see only what every program sees. It is there under
//! `--cfg fuzzing` alone, and no part of the library.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "nobody but the fuzz targets sees this")]

use std::net::SocketAddr;

use crate::handler::Handler;
use crate::http1::serve::serve;
use crate::http1::service::Service;
use crate::http1::wire::Wire;
use crate::limits::Limits;
use crate::settings::Settings;
use crate::timeout::Activity;
use crate::transport::twin::Twin;

pub use crate::client::{read_head, read_url};
pub use crate::file::{Asked, ask_for_part};
pub use crate::websocket::decode_parts as decode_websocket;

/// Serves a client that sends these parts, one by one, and closes. Returns what it is sent.
pub fn serve_parts(parts: &[&[u8]], limits: &Limits, handler: impl Handler) -> Vec<u8> {
    let twin = Twin::new(parts);
    let settings = Settings { limits: limits.clone(), server_name: "", ..Settings::default() };
    let service = Service { unix_seconds: || 784_111_777, ..Service::new(Box::new(handler), &settings) };
    serve(&Wire::new(Activity::new((&twin).into(), None)), &service, None);
    twin.output_bytes()
}

/// Decodes a part of a path, or (with `form`) of a query.
pub fn percent_decode(text: &str, form: bool) -> Option<String> {
    let decoded = if form { crate::percent::decode_form(text) } else { crate::percent::decode(text) };
    decoded.map(std::borrow::Cow::into_owned)
}

/// Reads the header of the PROXY protocol: its length and the two addresses, if it relays a connection; `None` where more is
/// needed.
#[expect(clippy::type_complexity, reason = "one caller, which takes it apart")]
pub fn proxy_header(
    bytes: &[u8],
    bytes_max: usize,
) -> Result<Option<(usize, Option<(SocketAddr, SocketAddr)>)>, &'static str> {
    use crate::proxy::header::{Header, Progress, parse};
    Ok(match parse(bytes, bytes_max).map_err(|malformed| malformed.0)? {
        Progress::Incomplete => None,
        Progress::Complete { len, header: Header::Direct } => Some((len, None)),
        Progress::Complete { len, header: Header::Relayed { source, destination } } => {
            Some((len, Some((source, destination))))
        }
    })
}
