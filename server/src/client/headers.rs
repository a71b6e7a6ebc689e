//! The header fields of a message, received or to be sent.
#![forbid(unsafe_code)]

use std::fmt;
use std::mem;

use crate::class::{is_field_value, is_token};
use crate::http1::head::Field;

/// The fields of a response: its header, or its trailers.
#[derive(Clone, Default)]
pub struct Headers {
    /// What the fields lie in.
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

impl Headers {
    /// Fields whose spans are relative to `bytes`.
    pub(super) fn new(bytes: &[u8], fields: Vec<Field>) -> Headers {
        Headers { bytes: bytes.to_owned(), fields }
    }

    /// The value of the first field with this name, in any case of letters: `None` where it is absent or not UTF-8.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_bytes(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The bytes of the first field with this name, in any case of letters.
    #[must_use]
    pub fn get_bytes(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields in their order: names as sent, values without the white space around them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (field.name.text(&self.bytes), field.value.of(&self.bytes)))
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// Names and lengths only: values may be secrets.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.iter().map(|(name, value)| (name, format!("{} bytes", value.len())));
        f.debug_map().entries(fields).finish()
    }
}

/// Fields to be sent. Each was checked when it came, so that writing them copies them unread.
#[derive(Clone, Default)]
pub(super) struct Lines {
    fields: Vec<(String, Vec<u8>)>,
    /// The names, in lower case, of fields for the first origin only.
    sensitive: Vec<String>,
}

impl Lines {
    /// Adds a field, after those of the same name were removed if it replaces them. False if it is not well-formed
    /// (RFC 9110 §5.1, §5.5): it could split the request.
    #[must_use]
    pub(super) fn put(&mut self, name: &str, value: &[u8], replace: bool) -> bool {
        // Of white space only what belongs to no value (RFC 9110 §5.6.3): a line end is a fault wherever it stands.
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
        let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
        let value = &value[start..end];
        if !is_token(name.as_bytes()) || !is_field_value(value) {
            return false;
        }
        if replace {
            self.remove(name);
        }
        self.fields.push((name.to_owned(), value.to_owned()));
        true
    }

    /// Fields of this name are for the first origin only.
    pub(super) fn mark_sensitive(&mut self, name: &str) {
        self.sensitive.push(name.to_ascii_lowercase());
    }

    pub(super) fn remove_sensitive(&mut self) {
        for name in mem::take(&mut self.sensitive) {
            self.remove(&name);
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        let field = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_slice())
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.fields.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
    }

    /// Appends the lines, without the blank one.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.fields {
            encode_line(out, name, value);
        }
    }
}

/// Appends one line of what was checked.
pub(super) fn encode_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Names only: values may be secrets.
impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fields.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_can_split_a_request() {
        let mut lines = Lines::default();
        for (name, value) in [
            ("X", "a\r\nEvil: b"),
            ("X", "a\nb"),
            ("X", "a\rb"),
            ("X", "a\0"),
            ("X", "a\r\n"),
            ("X", "\na"),
            ("X", "\x0ca"),
            ("X", "\x7f"),
            ("", "a"),
            ("X Y", "a"),
            ("X:", "a"),
            ("X\r\nEvil", "a"),
        ] {
            assert!(!lines.put(name, value.as_bytes(), false), "{name:?}: {value:?}");
        }
        assert!(lines.put("X", " \u{e9}\tb ".as_bytes(), false));
        assert!(lines.put("x", b" \tc d\t ", true));
        assert!(lines.put("y", b" \t", true));
        let mut out = Vec::new();
        lines.encode(&mut out);
        assert_eq!(out, b"x: c d\r\ny: \r\n");
    }

    #[test]
    fn a_secret_is_not_printed() {
        let mut lines = Lines::default();
        assert!(lines.put("Authorization", b"Bearer hunter2", false));
        assert_eq!(format!("{lines:?}"), r#"["Authorization"]"#);
    }
}
