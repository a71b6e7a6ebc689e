//! Ways into the server for the fuzz targets of `tests/fuzz`, which else see only what every program sees. It is there under
//! `--cfg fuzzing` alone, and no part of the library.
#![forbid(unsafe_code)]
#![expect(missing_docs, reason = "nobody but the fuzz targets sees this")]

use std::sync::atomic::AtomicBool;

use crate::handler::Handler;
use crate::http1::serve::{Service, serve};
use crate::http1::wire::Wire;
use crate::limits::Limits;
use crate::timeout::{Activity, ServerId};
use crate::transport::twin::{Event, Twin};

pub use crate::file::{Asked, ask_for_part};

/// Serves a client that sends these parts, one by one, and closes. Returns what it is sent.
pub fn serve_parts(parts: &[&[u8]], limits: &Limits, handler: impl Handler) -> Vec<u8> {
    let twin = Twin::new(parts);
    let service = Service {
        id: ServerId::next(),
        handler: Box::new(handler),
        limits: limits.clone(),
        server_line: b"".as_slice().into(),
        draining: AtomicBool::new(false),
        unix_seconds: || 784_111_777,
    };
    serve(&Wire::new(Activity::new((&twin).into(), None)), &service, None);
    let sent = twin.events().into_iter().filter_map(|event| match event {
        Event::Sent(bytes) => Some(bytes),
        _ => None,
    });
    sent.collect::<Vec<_>>().concat()
}

/// Decodes a part of a path, or (with `form`) of a query.
pub fn percent_decode(text: &str, form: bool) -> Option<String> {
    let decoded = if form { crate::percent::decode_form(text) } else { crate::percent::decode(text) };
    decoded.map(std::borrow::Cow::into_owned)
}
