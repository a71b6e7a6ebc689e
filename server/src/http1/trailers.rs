//! Fields behind a chunked body (RFC 9110 §6.5, RFC 9112 §7.1.2): which may be there, in requests and responses, sent and
//! received; and those of a request as they arrive.
//!
//! They are kept apart from the header and never merged into it, so nothing behind a body can change what was decided before it.
//! A field that is meant to be known before the body is dropped when it comes behind one (§6.5.1; §7.1.2 lets a
//! recipient discard trailers), and refused when a program sends it.
#![forbid(unsafe_code)]

use crate::http1::head::{Field, Span};

/// Fields that mean something only ahead of the content: framing, routing, request modifiers, authentication, response
/// control, and how the content is to be read (RFC 9110 §6.5.1); and those of the connection (§7.6.1).
const FORBIDDEN: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "server",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "warning",
    "www-authenticate",
];

/// May a field of this name stand behind a body?
pub(crate) fn is_allowed(name: &[u8]) -> bool {
    !FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
}

/// The most trailers that one request may have: as many as a head may have fields by default.
pub(crate) const TRAILERS_MAX: usize = 100;

/// The trailers of a request, byte by byte. Their sum is bounded by who feeds them.
#[derive(Debug, Default)]
pub(crate) struct Trailers {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// Where the current line begins, and where its name ends.
    line_at: usize,
    name_end: usize,
    /// Lines so far, with those that were dropped.
    lines: usize,
}

impl Trailers {
    /// The next byte of a name or of a value.
    pub(crate) fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// The name is complete.
    pub(crate) fn end_name(&mut self) {
        self.name_end = self.bytes.len();
    }

    /// The line is complete. Returns whether it is one of those that may be there.
    #[must_use]
    pub(crate) fn end_line(&mut self) -> bool {
        let value = &self.bytes[self.name_end..];
        let start = self.name_end + (value.len() - trim_start(value).len());
        let end = start + trim_end(trim_start(value)).len();
        if is_allowed(&self.bytes[self.line_at..self.name_end]) {
            let name = Span::new(self.line_at, self.name_end);
            self.fields.push(Field { name, value: Span::new(start, end) });
        } else {
            self.bytes.truncate(self.line_at);
        }
        self.line_at = self.bytes.len();
        self.lines += 1;
        self.lines <= TRAILERS_MAX
    }

    /// The fields so far, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (field.name.text(&self.bytes), field.value.of(&self.bytes)))
    }
}

fn trim_start(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    value
}

fn trim_end(mut value: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut trailers = Trailers::default();
        for (name, value) in lines {
            name.bytes().for_each(|byte| trailers.push(byte));
            trailers.end_name();
            value.bytes().for_each(|byte| trailers.push(byte));
            assert!(trailers.end_line());
        }
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        trailers.iter().map(|(name, value)| (name.to_owned(), text(value))).collect()
    }

    #[test]
    fn values_lose_the_white_space_around_them() {
        let read = read(&[("A", " b c\t "), ("Empty", " \t "), ("None", ""), ("D", "e")]);
        let expected = [("A", "b c"), ("Empty", ""), ("None", ""), ("D", "e")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_belongs_before_the_body_is_dropped_behind_it() {
        for name in FORBIDDEN {
            let upper = name.to_ascii_uppercase();
            assert_eq!(read(&[(&upper, "1"), ("X", "y")]), [("X".to_owned(), "y".to_owned())], "{name}");
        }
    }

    #[test]
    fn the_number_of_lines_is_bounded_dropped_ones_included() {
        let mut trailers = Trailers::default();
        let lines = (0..).take_while(|_| {
            b"te".iter().for_each(|&byte| trailers.push(byte));
            trailers.end_name();
            trailers.end_line()
        });
        assert_eq!(lines.count(), TRAILERS_MAX);
        assert_eq!(trailers.iter().count(), 0);
    }
}
