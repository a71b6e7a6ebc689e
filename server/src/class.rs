//! What each byte may be part of: tokens, field values, hosts, request targets.
//!
//! One table with a bit per class. Where texts are long, eight bytes are looked at in one word, and the table is asked
//! only about those that stand out; both ways say the same of every byte, which a test goes through.
#![forbid(unsafe_code)]

/// Bits of [`CLASSES`]: may the byte stand in a token (RFC 9110 §5.6.2)?
const TOKEN: u8 = 1;
/// ... in a field value without ending the line: no control character but the tab (RFC 9110 §5.5)?
const VALUE: u8 = 2;
/// ... in a host name or IPv4 address, percent-encoded ones included (RFC 3986 §3.2.2)?
const HOST: u8 = 4;
/// ... in a request target: visible ASCII (RFC 3986 §2), but a fragment is never sent?
const TARGET: u8 = 8;
/// ... in a request target before its query?
const PATH: u8 = 16;
/// ... in a number?
const DIGIT: u8 = 32;

/// What each byte may be part of: one load per byte instead of a dozen comparisons.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let unreserved = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if unreserved
            || matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'^' | b'`' | b'|')
        {
            classes[byte] |= TOKEN;
        }
        if b == b'\t' || (b >= 0x20 && b != 0x7f) {
            classes[byte] |= VALUE;
        }
        if unreserved
            || matches!(b, b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
        {
            classes[byte] |= HOST;
        }
        if b > b' ' && b < 0x7f && b != b'#' {
            classes[byte] |= TARGET;
            if b != b'?' {
                classes[byte] |= PATH;
            }
        }
        if b.is_ascii_digit() {
            classes[byte] |= DIGIT;
        }
        byte += 1;
    }
    classes
};

#[inline]
fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Is this byte allowed in a token?
pub(crate) fn is_token_byte(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// Is this a token, hence a possible method or field name?
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && token_len(bytes) == bytes.len()
}

/// Can these bytes stand in a field value without ending the line?
#[inline]
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    value_len(bytes) == bytes.len()
}

/// How many of the first bytes can be a token.
#[inline]
pub(crate) fn token_len(bytes: &[u8]) -> usize {
    len_of(bytes, TOKEN)
}

/// How many of the first bytes can be a request target.
pub(crate) fn target_len(bytes: &[u8]) -> usize {
    len_of(bytes, TARGET)
}

/// How many of the first bytes can be a host name or an IPv4 address.
#[inline]
pub(crate) fn host_len(bytes: &[u8]) -> usize {
    len_of(bytes, HOST)
}

/// Are these digits, if any?
#[inline]
pub(crate) fn is_digits(bytes: &[u8]) -> bool {
    len_of(bytes, DIGIT) == bytes.len()
}

/// How many of the first bytes can be a request target up to its query.
#[inline]
pub(crate) fn path_len(bytes: &[u8]) -> usize {
    // With its second highest bit set, `?` is DEL.
    len_by_words(bytes, PATH, |word| {
        below(word, b'!') | word | equal(word | EACH << 6, 0x7f) | equal(word, b'#')
    })
}

/// How many of the first bytes can stand in a field value.
#[inline]
pub(crate) fn value_len(bytes: &[u8]) -> usize {
    len_by_words(bytes, VALUE, |word| below(word, b' ') | equal(word, 0x7f))
}

/// How many of the first bytes are of a class.
#[inline]
fn len_of(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|&byte| !is(byte, class)).unwrap_or(bytes.len())
}

/// The same where most bytes are. `suspects` sets the highest bit of the bytes in a word that may not be of the class;
/// the first of them (not those behind it) has to be one for which it was meant.
#[inline]
fn len_by_words(bytes: &[u8], class: u8, suspects: impl Fn(u64) -> u64) -> usize {
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        let suspects = suspects(u64::from_le_bytes(*word)) & HIGHEST_BITS;
        if suspects == 0 {
            rest = behind;
            continue;
        }
        let good = suspects.trailing_zeros() as usize / 8;
        if !is(word[good], class) {
            return bytes.len() - rest.len() + good;
        }
        rest = &rest[good + 1..];
    }
    bytes.len() - rest.len() + len_of(rest, class)
}

/// A one in each byte of a word.
const EACH: u64 = u64::from_le_bytes([1; 8]);
const HIGHEST_BITS: u64 = EACH << 7;

// In each of these the first byte of the word (the lowest) whose highest bit is set is meant. A bit behind it may be set by the
// borrow of a subtraction.

/// The bytes that are less than `limit`, which is ASCII.
#[inline]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(EACH * u64::from(limit)) & !word
}

/// The bytes that are `byte`.
#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (EACH * u64::from(byte)), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_values_never_hold_a_line_end() {
        assert!(is_field_value("text\tand \u{e9}".as_bytes()));
        for bad in [&b"a\rb"[..], b"a\nb", b"a\0b", b"a\x7fb", b"\x1b[31m"] {
            assert!(!is_field_value(bad), "{bad:?}");
        }
    }

    #[test]
    fn words_and_bytes_say_the_same() {
        // A good text, any byte in it, and any other behind that one: a borrow must not hide or invent anything.
        for at in 0..17 {
            for byte in 0..=255u8 {
                for next in [b'v', 0, b' ', b'!', b'"', b'#', b'?', b'@', 0x7f, 0x80, 0xff, b'\t'] {
                    let mut text = [b'v'; 19];
                    text[at] = byte;
                    text[at + 1] = next;
                    assert_eq!(value_len(&text), len_of(&text, VALUE), "{text:x?}");
                    assert_eq!(path_len(&text), len_of(&text, PATH), "{text:x?}");
                }
            }
        }
    }
}
