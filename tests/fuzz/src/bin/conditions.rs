//! Any values of the conditional fields and of Range: the part lies within the file, and a second reading of a plain
//! range says the same.
//!
//! The first line of an input is the length of the file, each other one a field.
#![no_main]

use bast_server::fuzzing::{Asked, ask_for_part};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|&byte| byte == b'\n');
    let length = lines.next().and_then(|line| std::str::from_utf8(line).ok()?.parse().ok());
    let Some(length) = length else { return };
    let fields: Vec<(&str, &[u8])> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((std::str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
        })
        .collect();
    let asked = ask_for_part(fields.iter().copied(), true, length);
    if let Asked::Part { offset, len } = asked {
        assert!(len > 0 && offset.checked_add(len).is_some_and(|end| end <= length), "{asked:?}");
    }
    let head = ask_for_part(fields.iter().copied(), false, length);
    assert!(matches!(head, Asked::Whole | Asked::Nothing(304 | 412)), "no ranges for HEAD: {head:?}");
    if let [(name, value)] = &fields[..]
        && name.eq_ignore_ascii_case("range")
        && let Some(expected) = plain_range(value, length)
    {
        assert_eq!(asked, expected);
    }
});

/// What RFC 9110 §14.1.2 says to `bytes=A-B`, `bytes=A-` and `bytes=-N` with numbers that are not too long.
fn plain_range(value: &[u8], length: u64) -> Option<Asked> {
    let value = std::str::from_utf8(value).ok()?.strip_prefix("bytes=")?;
    let (first, last) = value.split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        (!text.is_empty() && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
    };
    if length == 0 {
        return None;
    }
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => return Some(Asked::Whole),
        (Some(first), Some(last)) => (first, last.min(length - 1)),
        (Some(first), None) if last.is_empty() => (first, length - 1),
        (None, Some(0)) if first.is_empty() => return Some(Asked::Nothing(416)),
        (None, Some(count)) if first.is_empty() => (length - count.min(length), length - 1),
        _ => return None,
    };
    if first >= length {
        return Some(Asked::Nothing(416));
    }
    Some(Asked::Part { offset: first, len: last - first + 1 })
}
