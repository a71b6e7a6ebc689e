//! What a client asked to be true before it wants a file, and which part of it: RFC 9110 §13 and §14.
//!
//! Field values in, a verdict out; nothing here knows requests, responses or descriptors. A field that is not
//! understood is ignored, as the RFC asks for each of these.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use crate::message;

/// What a condition is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Representation<'a> {
    /// The strong entity tag, with its quotes.
    pub(super) etag: &'a str,
    /// The value of Last-Modified …
    pub(super) last_modified: &'a str,
    /// … and the instant that it spells.
    pub(super) modified_unix_seconds: u64,
    /// True if nothing else was written within that second (RFC 9110 §8.8.2.2).
    pub(super) last_modified_is_strong: bool,
    /// The whole length in bytes.
    pub(super) len_bytes: u64,
}

/// How to answer a GET or HEAD of an existing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 200 with everything.
    Whole,
    /// 206 with `len` bytes from `offset`; `len` is not 0.
    Part {
        /// First byte of the part.
        offset: u64,
        /// Number of bytes in it.
        len: u64,
    },
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    Unsatisfiable,
}

/// The conditional fields of a request, and its range.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions<'a> {
    if_match: Field<'a>,
    if_unmodified_since: Field<'a>,
    if_none_match: Field<'a>,
    if_modified_since: Field<'a>,
    if_range: Field<'a>,
    range: Field<'a>,
}

type Field<'a> = Option<Cow<'a, [u8]>>;

impl<'a> Conditions<'a> {
    /// Picks the fields that matter here, in one pass. Lines of one name are joined with a comma (RFC 9110
    /// §5.3): right for the lists, and it makes a date that is given twice no date at all.
    pub(super) fn from_fields(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Conditions<'a> {
        let mut conditions = Conditions::default();
        for (name, value) in fields {
            if let Some(field) = conditions.field(name) {
                match field {
                    None => *field = Some(Cow::Borrowed(value)),
                    Some(earlier) => {
                        let earlier = earlier.to_mut();
                        earlier.extend_from_slice(b", ");
                        earlier.extend_from_slice(value);
                    }
                }
            }
        }
        conditions
    }

    /// The length of a name rules out nearly every other field before a byte of it is compared.
    fn field(&mut self, name: &str) -> Option<&mut Field<'a>> {
        let (ours, field) = match name.len() {
            5 => ("range", &mut self.range),
            8 if name.ends_with(['h', 'H']) => ("if-match", &mut self.if_match),
            8 => ("if-range", &mut self.if_range),
            13 => ("if-none-match", &mut self.if_none_match),
            17 => ("if-modified-since", &mut self.if_modified_since),
            19 => ("if-unmodified-since", &mut self.if_unmodified_since),
            _ => return None,
        };
        name.eq_ignore_ascii_case(ours).then_some(field)
    }

    /// Evaluates the conditions in the order of RFC 9110 §13.2.2. `is_get` tells a GET from a HEAD, for which
    /// ranges are not defined (§14.2).
    pub(super) fn verdict(&self, is_get: bool, current: &Representation<'_>) -> Verdict {
        let may_proceed = match (&self.if_match, &self.if_unmodified_since) {
            (Some(tags), _) => tags_hold(tags, |tag| tag == current.etag.as_bytes()),
            (None, Some(date)) => !modified_since(date, current).unwrap_or(false),
            (None, None) => true,
        };
        if !may_proceed {
            return Verdict::PreconditionFailed;
        }
        let is_modified = match (&self.if_none_match, &self.if_modified_since) {
            // Weak comparison (§8.8.3.2): the mark of a weak tag does not count.
            (Some(tags), _) => {
                !tags_hold(tags, |tag| tag.strip_prefix(b"W/").unwrap_or(tag) == current.etag.as_bytes())
            }
            (None, Some(date)) => modified_since(date, current).unwrap_or(true),
            (None, None) => true,
        };
        if !is_modified {
            return Verdict::NotModified;
        }
        match &self.range {
            Some(range) if is_get && self.if_range_holds(current) => part(range, current.len_bytes),
            _ => Verdict::Whole,
        }
    }

    /// §13.1.5: the range is for one version, named by a strong validator; of any other, send everything.
    fn if_range_holds(&self, current: &Representation<'_>) -> bool {
        self.if_range.as_deref().is_none_or(|validator| {
            validator == current.etag.as_bytes()
                || (current.last_modified_is_strong && validator == current.last_modified.as_bytes())
        })
    }
}

/// True if the list is `*`, which any existing file satisfies, or holds a tag that `matches`. A tag that has a
/// comma within its quotes is cut in two; neither half can equal one of ours.
fn tags_hold(list: &[u8], matches: impl Fn(&[u8]) -> bool) -> bool {
    list == b"*" || message::list(list).any(matches)
}

/// Was the file modified after this date? `None` if that is not a date.
fn modified_since(date: &[u8], current: &Representation<'_>) -> Option<bool> {
    // A browser sends back what it was told: no parsing then.
    if date == current.last_modified.as_bytes() {
        return Some(false);
    }
    let date = httpdate::parse_http_date(str::from_utf8(date).ok()?).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(current.modified_unix_seconds) > date)
}

/// Reads a Range of one part (§14.1.2). Several parts, other units and what is malformed ask for nothing that we
/// must give: the answer is everything (§14.2).
fn part(range: &[u8], len_bytes: u64) -> Verdict {
    match one_range(range) {
        // No Content-Range can name a part of nothing.
        _ if len_bytes == 0 => Verdict::Whole,
        None => Verdict::Whole,
        Some(OneRange::From { first, last }) if first < len_bytes => {
            let last = last.unwrap_or(u64::MAX).min(len_bytes - 1);
            Verdict::Part { offset: first, len: last - first + 1 }
        }
        Some(OneRange::Suffix { len }) if len > 0 => {
            let len = len.min(len_bytes);
            Verdict::Part { offset: len_bytes - len, len }
        }
        Some(_) => Verdict::Unsatisfiable,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OneRange {
    /// `first-last` or `first-`; `last` is not below `first`.
    From { first: u64, last: Option<u64> },
    /// `-len`
    Suffix { len: u64 },
}

fn one_range(range: &[u8]) -> Option<OneRange> {
    let (unit, set) = range.split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut specs = message::list(set);
    let spec = specs.next()?;
    if specs.next().is_some() {
        return None;
    }
    let dash = spec.iter().position(|&b| b == b'-')?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        return Some(OneRange::Suffix { len: number(last)? });
    }
    let first = number(first)?;
    let last = if last.is_empty() { None } else { Some(number(last)?) };
    last.is_none_or(|last| first <= last).then_some(OneRange::From { first, last })
}

/// A number of digits only; one beyond `u64` is as good as the largest, since no file is that long.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |n, b| n.checked_mul(10)?.checked_add(u64::from(b - b'0')));
    Some(value.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::Verdict::{NotModified, PreconditionFailed, Unsatisfiable, Whole};
    use super::*;

    const FILE: Representation<'static> = Representation {
        etag: "\"ours\"",
        last_modified: "Mon, 01 Oct 2012 07:38:50 GMT",
        modified_unix_seconds: 1_349_077_130,
        last_modified_is_strong: true,
        len_bytes: 100,
    };
    const SAME: &str = FILE.last_modified;
    const BEFORE: &str = "Mon, 01 Oct 2012 07:38:49 GMT";
    const AFTER: &str = "Mon, 01 Oct 2012 07:38:51 GMT";

    fn conditions<'a>(fields: &[(&'a str, &'a str)]) -> Conditions<'a> {
        Conditions::from_fields(fields.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[track_caller]
    fn assert_get(fields: &[(&str, &str)], verdict: Verdict) {
        assert_eq!(conditions(fields).verdict(true, &FILE), verdict, "{fields:?}");
    }

    #[test]
    fn a_request_without_conditions_gets_everything() {
        assert_get(
            &[("Host", "h"), ("Accept", "*/*"), ("X-Rang", "1"), ("abcde", "1"), ("if-motch", "*")],
            Whole,
        );
    }

    #[test]
    fn if_none_match_compares_weakly_and_beats_the_date() {
        for matching in ["\"ours\"", "W/\"ours\"", "\"a\", \"ours\"", "\"a\" ,W/\"ours\",", "*"] {
            assert_get(&[("If-None-Match", matching)], NotModified);
            assert_get(&[("if-none-match", matching), ("If-Modified-Since", BEFORE)], NotModified);
        }
        for other in ["\"other\"", "ours", "\"OURS\"", "", "\"ours", "w/\"ours\"", "\"*\"", "\"a,\"ours\"b\""]
        {
            assert_get(&[("If-None-Match", other)], Whole);
            assert_get(&[("If-None-Match", other), ("If-Modified-Since", SAME)], Whole);
        }
        assert_get(&[("If-None-Match", "\"a\""), ("If-None-Match", "\"ours\"")], NotModified);
    }

    #[test]
    fn if_modified_since_compares_seconds_and_ignores_what_is_no_date() {
        assert_get(&[("If-Modified-Since", SAME)], NotModified);
        assert_get(&[("If-Modified-Since", AFTER)], NotModified);
        assert_get(&[("If-Modified-Since", "Monday, 01-Oct-12 07:38:50 GMT")], NotModified);
        assert_get(&[("If-Modified-Since", "Mon Oct  1 07:38:50 2012")], NotModified);
        for ignored in [BEFORE, "", "yesterday", "1349077130", "Mon, 41 Oct 2012 07:38:50 GMT"] {
            assert_get(&[("If-Modified-Since", ignored)], Whole);
        }
        assert_get(&[("If-Modified-Since", SAME), ("If-Modified-Since", SAME)], Whole);
    }

    #[test]
    fn if_match_compares_strongly_and_comes_first() {
        for matching in ["\"ours\"", "\"a\", \"ours\"", "*"] {
            assert_get(&[("If-Match", matching)], Whole);
            assert_get(&[("If-Match", matching), ("If-Unmodified-Since", BEFORE)], Whole);
            assert_get(&[("If-Match", matching), ("If-None-Match", "*")], NotModified);
        }
        for other in ["W/\"ours\"", "\"a\"", "", "ours"] {
            assert_get(&[("If-Match", other)], PreconditionFailed);
            assert_get(
                &[("If-Match", other), ("If-None-Match", "*"), ("Range", "bytes=0-")],
                PreconditionFailed,
            );
        }
    }

    #[test]
    fn if_unmodified_since_fails_only_when_modified_later() {
        assert_get(&[("If-Unmodified-Since", BEFORE)], PreconditionFailed);
        for fine in [SAME, AFTER, "never"] {
            assert_get(&[("If-Unmodified-Since", fine)], Whole);
        }
    }

    #[test]
    fn one_range_is_given_and_everything_else_is_everything() {
        let part = |offset, len| Verdict::Part { offset, len };
        for (range, verdict) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-99", part(0, 100)),
            ("bytes=10-19", part(10, 10)),
            ("bytes=99-", part(99, 1)),
            ("bytes=0-", part(0, 100)),
            ("bytes=90-1000", part(90, 10)),
            ("bytes=0-18446744073709551615", part(0, 100)),
            ("bytes=1-99999999999999999999999", part(1, 99)),
            ("bytes=-1", part(99, 1)),
            ("bytes=-100", part(0, 100)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=-99999999999999999999999", part(0, 100)),
            ("BYTES=5-6", part(5, 2)),
            ("bytes= 5-6 ,", part(5, 2)),
            ("bytes=100-", Unsatisfiable),
            ("bytes=100-100", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=0-1,5-6", Whole),
            ("bytes=0-,0-,0-,0-", Whole),
            ("bytes=2-1", Whole),
            ("bytes=", Whole),
            ("bytes", Whole),
            ("bytes=-", Whole),
            ("bytes=--1", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1 - 2", Whole),
            ("bytes=0x1-2", Whole),
            ("bytes=1-2-3", Whole),
            ("bytes=a-b", Whole),
            ("bytes:0-1", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            assert_get(&[("Range", range)], verdict);
            assert_eq!(conditions(&[("Range", range)]).verdict(false, &FILE), Whole, "HEAD {range}");
        }
        assert_get(&[("Range", "bytes=0-1"), ("Range", "bytes=5-6")], Whole);
    }

    #[test]
    fn no_part_is_cut_from_an_empty_file() {
        let empty = Representation { len_bytes: 0, ..FILE };
        for range in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"] {
            assert_eq!(conditions(&[("Range", range)]).verdict(true, &empty), Whole, "{range}");
        }
    }

    #[test]
    fn every_part_lies_within_the_file() {
        for first in 0..12u64 {
            for last in 0..12u64 {
                for len_bytes in 0..10u64 {
                    let file = Representation { len_bytes, ..FILE };
                    let range = format!("bytes={first}-{last}");
                    match conditions(&[("Range", &range)]).verdict(true, &file) {
                        Verdict::Part { offset, len } => {
                            assert_eq!(offset, first);
                            assert_eq!(len, last.min(len_bytes - 1) - first + 1);
                        }
                        Unsatisfiable => assert!(first >= len_bytes && first <= last && len_bytes > 0),
                        Whole => assert!(first > last || len_bytes == 0),
                        other => panic!("{range} of {len_bytes}: {other:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn if_range_wants_a_strong_validator() {
        let part = Verdict::Part { offset: 0, len: 1 };
        for (validator, verdict) in [
            ("\"ours\"", part),
            (SAME, part),
            ("W/\"ours\"", Whole),
            ("\"other\"", Whole),
            (BEFORE, Whole),
            (AFTER, Whole),
            ("*", Whole),
        ] {
            assert_get(&[("Range", "bytes=0-0"), ("If-Range", validator)], verdict);
        }
        let young = Representation { last_modified_is_strong: false, ..FILE };
        let by_date = conditions(&[("Range", "bytes=0-0"), ("If-Range", SAME)]);
        assert_eq!(by_date.verdict(true, &young), Whole);
    }
}
