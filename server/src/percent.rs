//! Percent-decoding of paths and query parameters (RFC 3986 §2.1).
//!
//! Pure functions. A malformed escape or a result that is not UTF-8 is `None`, never a guess.
#![forbid(unsafe_code)]

use std::borrow::Cow;

/// Decodes a part of a path; borrows where there is nothing to decode.
pub(crate) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    decode_bytes(text.as_bytes(), |byte| byte)
}

/// Decodes a key or value of a query as HTML forms encode it: `+` is a space.
pub(crate) fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    decode_bytes(text.as_bytes(), |byte| if byte == b'+' { b' ' } else { byte })
}

fn decode_bytes(text: &[u8], plain: impl Fn(u8) -> u8) -> Option<Cow<'static, str>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        decoded.push(if byte == b'%' { hex(*rest.next()?)? << 4 | hex(*rest.next()?)? } else { plain(byte) });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// Encodes a key or value of a form (`application/x-www-form-urlencoded` in the URL Standard): what is neither a letter, a digit
/// nor one of `*-._` is escaped, a space is `+`.
fn encode_form(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => encoded.push('+'),
            b'*' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Names and values as a form or a query has them: `name=value&name=value`.
pub(crate) fn encode_pairs<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> String {
    let mut encoded = String::new();
    for (name, value) in pairs {
        if !encoded.is_empty() {
            encoded.push('&');
        }
        encoded.push_str(&encode_form(name.as_ref()));
        encoded.push('=');
        encoded.push_str(&encode_form(value.as_ref()));
    }
    encoded
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_malformed_ones_refused() {
        assert_eq!(decode("a%20b%C3%a9+").as_deref(), Some("a b\u{e9}+"));
        assert_eq!(decode_form("a+b%2B").as_deref(), Some("a b+"));
        for bad in ["%", "%2", "%zz", "%+1", "%ff"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_needs_no_decoding_is_borrowed() {
        assert!(matches!(decode("plain"), Some(Cow::Borrowed("plain"))));
    }
}
