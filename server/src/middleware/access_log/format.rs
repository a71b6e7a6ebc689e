//! Lines of an access log: Common Log Format, combined, and JSON (RFC 8259). Values in, bytes out.
//!
//! What a client sent is escaped byte by byte in the two old formats, as nginx does it: `\xHH` for quotes, backslashes and all
//! that is not printable ASCII. In JSON what is UTF-8 stays, but for control characters, those beyond ASCII as well
//! (a terminal obeys U+009B like ESC and a bracket); a byte that is no UTF-8 becomes U+FFFD.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::FIELDS;
use crate::message::Status;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Common,
    Combined,
    ExtendedCommon,
    ExtendedCombined,
    Json,
}

impl Form {
    pub(super) fn extended(self) -> Form {
        match self {
            Form::Common => Form::ExtendedCommon,
            Form::Combined => Form::ExtendedCombined,
            other => other,
        }
    }

    pub(super) fn is_json(self) -> bool {
        self == Form::Json
    }

    fn is_extended(self) -> bool {
        matches!(self, Form::ExtendedCommon | Form::ExtendedCombined)
    }

    /// Does it have referer and user agent?
    pub(super) fn has_agents(self) -> bool {
        !matches!(self, Form::Common | Form::ExtendedCommon)
    }

    /// Appends what a client sent, so that it means nothing where it stands.
    pub(super) fn escape(self, field: &[u8], out: &mut Vec<u8>) {
        if self.is_json() { escape_json(field, out) } else { escape_bytes(field, out) }
    }
}

fn escape_bytes(field: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in field {
        match byte {
            b'"' | b'\\' | 0..b' ' | 0x7f.. => {
                out.extend_from_slice(&[
                    b'\\',
                    b'x',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 15)],
                ]);
            }
            _ => out.push(byte),
        }
    }
}

fn escape_json(field: &[u8], out: &mut Vec<u8>) {
    for chunk in field.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                // They end lines where JSON is taken for JavaScript.
                '\u{2028}' | '\u{2029}' => push(out, format_args!("\\u{:04x}", u32::from(character))),
                _ if character.is_control() => push(out, format_args!("\\u{:04x}", u32::from(character))),
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Appends; memory takes everything.
fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("access log: memory is full");
}

/// All that a line may say.
pub(super) struct Line<'l> {
    /// Method, target, version, host, referer and user agent, escaped.
    pub(super) fields: [Option<&'l [u8]>; FIELDS],
    pub(super) unix_seconds: u64,
    pub(super) peer: Option<SocketAddr>,
    pub(super) user: Option<&'l str>,
    pub(super) request_id: Option<&'l str>,
    pub(super) route: Option<&'static str>,
    pub(super) status: Option<Status>,
    pub(super) body_bytes: u64,
    pub(super) is_whole: bool,
    pub(super) duration: Duration,
}

impl Line<'_> {
    /// The line with its end.
    pub(super) fn compose(&self, form: Form) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        if form.is_json() {
            self.json(&mut out);
        } else {
            self.plain(form, &mut out);
        }
        out.push(b'\n');
        out
    }

    fn plain(&self, form: Form, out: &mut Vec<u8>) {
        let [method, target, version, _, referer, agent] = self.fields.map(|field| field.unwrap_or(b"-"));
        match self.peer {
            Some(peer) => push(out, format_args!("{}", peer.ip())),
            None => out.push(b'-'),
        }
        out.extend_from_slice(b" - ");
        word(self.user, out);
        let time = Time::of(self.unix_seconds);
        push(out, format_args!(" [{}] \"", time.common()));
        for (part, end) in [(method, b' '), (target, b' '), (version, b'"')] {
            out.extend_from_slice(part);
            out.push(end);
        }
        push(out, format_args!(" {:03} {}", self.status.map_or(0, Status::code), self.body_bytes));
        if form.has_agents() {
            for quoted in [referer, agent] {
                out.extend_from_slice(b" \"");
                out.extend_from_slice(quoted);
                out.push(b'"');
            }
        }
        if form.is_extended() {
            let mark = if self.is_whole { '+' } else { 'X' };
            push(out, format_args!(" {} {mark} \"", self.duration.as_micros()));
            escape_bytes(self.route.unwrap_or("-").as_bytes(), out);
            out.extend_from_slice(b"\" ");
            word(self.request_id, out);
        }
    }

    fn json(&self, out: &mut Vec<u8>) {
        let [method, target, version, host, referer, agent] = self.fields;
        push(out, format_args!("{{\"time\":\"{}\",\"peer\":", Time::of(self.unix_seconds).rfc3339()));
        match self.peer {
            Some(peer) => push(out, format_args!("\"{peer}\"")),
            None => out.extend_from_slice(b"null"),
        }
        let escaped = |text: Option<&str>| {
            text.map(|text| {
                let mut escaped = Vec::with_capacity(text.len());
                escape_json(text.as_bytes(), &mut escaped);
                escaped
            })
        };
        let (user, route, id) = (escaped(self.user), escaped(self.route), escaped(self.request_id));
        let before = [
            ("user", user.as_deref()),
            ("method", method),
            ("target", target),
            ("version", version),
            ("host", host),
            ("route", route.as_deref()),
        ];
        before.into_iter().for_each(|(name, value)| member(name, value, out));
        match self.status {
            Some(status) => push(out, format_args!(",\"status\":{}", status.code())),
            None => out.extend_from_slice(b",\"status\":null"),
        }
        push(
            out,
            format_args!(
                ",\"bytes\":{},\"complete\":{},\"duration_us\":{}",
                self.body_bytes,
                self.is_whole,
                self.duration.as_micros()
            ),
        );
        let after = [("referer", referer), ("user_agent", agent), ("request_id", id.as_deref())];
        after.into_iter().for_each(|(name, value)| member(name, value, out));
        out.push(b'}');
    }
}

/// Appends a word that stands between spaces, so that one in it is escaped, too.
fn word(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        None | Some("") => out.push(b'-'),
        Some(text) => {
            for part in text.split_inclusive(' ') {
                escape_bytes(part.trim_end_matches(' ').as_bytes(), out);
                if part.ends_with(' ') {
                    out.extend_from_slice(b"\\x20");
                }
            }
        }
    }
}

/// Appends a member whose value is escaped already.
fn member(name: &str, value: Option<&[u8]>, out: &mut Vec<u8>) {
    push(out, format_args!(",\"{name}\":"));
    match value {
        Some(value) => {
            out.push(b'"');
            out.extend_from_slice(value);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

/// A second in UTC.
#[derive(Clone, Copy, Debug)]
struct Time {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Time {
    /// From days to a civil date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms". Years begin in March there, so
    /// that the leap day is the last one.
    fn of(unix_seconds: u64) -> Time {
        let days = unix_seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let second = unix_seconds % 86_400;
        Time {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted + 2) / 5 + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    fn common(self) -> String {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let Time { year, month, day, hour, minute, second } = self;
        let month = MONTHS[usize::try_from(month - 1).expect("access log: a month")];
        format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
    }

    fn rfc3339(self) -> String {
        let Time { year, month, day, hour, minute, second } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_dates() {
        for (seconds, common, rfc3339) in [
            (0, "01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00Z"),
            (784_111_777, "06/Nov/1994:08:49:37 +0000", "1994-11-06T08:49:37Z"),
            (951_782_399, "28/Feb/2000:23:59:59 +0000", "2000-02-28T23:59:59Z"),
            (951_782_400, "29/Feb/2000:00:00:00 +0000", "2000-02-29T00:00:00Z"),
            (4_107_542_400, "01/Mar/2100:00:00:00 +0000", "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(
                (Time::of(seconds).common(), Time::of(seconds).rfc3339()),
                (common.into(), rfc3339.into())
            );
        }
    }

    #[test]
    fn no_byte_of_a_client_means_anything_in_a_line() {
        for byte in 0..=255u8 {
            let (mut plain, mut json) = (Vec::new(), Vec::new());
            Form::Combined.escape(&[byte], &mut plain);
            Form::Json.escape(&[byte], &mut json);
            assert!(plain.iter().all(|b| matches!(b, b' '..=b'~' if *b != b'"')), "{byte:#x}: {plain:?}");
            let is_plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
            assert_eq!(plain == [byte], is_plain, "{byte:#x}");
            let json = String::from_utf8(json).expect("UTF-8");
            assert!(!json.contains(char::is_control), "{byte:#x}: {json:?}");
            assert!(!json.ends_with('"') || json.ends_with("\\\""), "{byte:#x}: {json:?}");
        }
        let mut json = Vec::new();
        Form::Json.escape("\u{9b}31m\u{2028}\u{e9}\u{1F33F}".as_bytes(), &mut json);
        assert_eq!(String::from_utf8_lossy(&json), "\\u009b31m\\u2028\u{e9}\u{1F33F}");
    }
}
