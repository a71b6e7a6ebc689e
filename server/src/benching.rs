//! Ways into the server for the benches of this project, which else see only what every program sees. No part of the
//! library: what is here may change or go with any version.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "nobody but the benches sees this")]

use crate::date;
use crate::http1::encode::{Length, ResponseHead};
use crate::http1::head::Head;
use crate::http1::parse::{Progress, Scan, parse};
use crate::http1::persistence::Persistence;
use crate::http1::preamble;
use crate::limits::Limits;
use crate::message::Version;
use crate::response::Response;
use crate::timeout::ServerId;

/// Composes heads as a connection does that stays open.
#[derive(Debug)]
pub struct Composer {
    id: ServerId,
}

impl Composer {
    #[expect(clippy::new_without_default, reason = "each is another server")]
    pub fn new() -> Composer {
        Composer { id: ServerId::next() }
    }

    #[inline]
    pub fn compose(&self, response: &Response, length: u64, unix_seconds: u64, out: &mut Vec<u8>) {
        preamble::with(self.id, b"Server: bast\r\n", unix_seconds, |preamble| {
            let head = ResponseHead {
                status: response.status(),
                preamble,
                header_lines: response.headers().lines(),
                content_type: response.headers().content_type(),
                length: Length::Sized(length),
                version: Version::Http11,
                persistence: Persistence::Reuse,
            };
            head.encode(out);
        });
    }
}

/// Reads heads into the same memory again and again.
#[derive(Debug, Default)]
pub struct HeadReader {
    head: Head,
    limits: Limits,
}

impl HeadReader {
    /// How many fields the head has, if it is a whole one.
    #[inline]
    pub fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        match parse(bytes, &mut Scan::default(), &self.limits, &mut self.head) {
            Ok(Progress::Complete) => Some(self.head.fields.len()),
            _ => None,
        }
    }
}

/// The line of the response's date.
#[inline]
pub fn date_line(unix_seconds: u64) -> [u8; 37] {
    date::line(unix_seconds)
}
