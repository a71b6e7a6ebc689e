//! RFC 9112 §5, field syntax.

use super::*;

/// §5 and RFC 9110 §5.1: a name is a token, at each place of it.
#[test]
fn a_field_name_is_a_token_byte_by_byte() {
    for at in [0, 1, 2] {
        check((0..=255u8).map(|byte| {
            let mut name = *b"X-Y";
            name[at] = byte;
            let input = [b"GET / HTTP/1.1\r\nHost: a\r\n", &name[..], b": 1\r\n\r\n"].concat();
            // A colon within is the end of a shorter name.
            let good = byte.is_ascii_alphanumeric()
                || b"!#$%&'*+-.^_`|~".contains(&byte)
                || (byte == b':' && at > 0);
            if good { answered(input, "GET / ") } else { refused(400, input) }
        }));
    }
}

/// §5 and RFC 9110 §5.5: a value has visible ASCII, spaces, tabs and bytes above 0x7F.
#[test]
fn a_field_value_has_no_control_characters_byte_by_byte() {
    for (before, after) in [("", ""), ("", "b"), ("a", ""), ("a", "b"), ("a ", " b")] {
        check((0..=255u8).map(|byte| {
            let value = [before.as_bytes(), &[byte], after.as_bytes()].concat();
            let input = [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &value[..], b"\r\n\r\n"].concat();
            let good = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
            if good { answered(input, "GET / ") } else { refused(400, input) }
        }));
    }
}

/// §5.1: "No whitespace is allowed between the field name and colon": 400, whatever the field.
#[test]
fn white_space_before_the_colon_is_refused() {
    for name in ["X", "Host", "Content-Length", "Transfer-Encoding", "Connection"] {
        for space in [" ", "\t", "  ", "\u{b}", "\u{c}", "\u{a0}", "\r"] {
            check([refused(400, with(&format!("{name}{space}: 1\r\n")))]);
        }
    }
}

/// §5: no name, no colon, nothing.
#[test]
fn a_line_without_a_name_or_without_a_colon_is_refused() {
    for line in [
        ":", ": a", ":a: b", "a", "a b", "=", "-", "\"a\": b", "a b: c", "(a): b", "{a}: b", "a/b: c",
        "@a: b",
    ] {
        check([refused(400, with(&format!("{line}\r\n")))]);
        check([refused(400, with(&format!("X: y\r\n{line}\r\nZ: z\r\n")))]);
    }
}

/// §5.1: white space around a value is no part of it; an empty value is one.
#[test]
fn white_space_around_a_value_is_not_part_of_it() {
    check([
        answered(with("X:\r\n"), "GET / "),
        answered(with("X: \t \r\n"), "GET / "),
        answered(with("X:a\r\nY: a:b:c \r\n"), "GET / "),
        answered(post("Content-Length:2\r\n", "hi"), "POST / hi"),
        answered(post("Content-Length: \t 2\t \r\n", "hi"), "POST / hi"),
        answered(post("content-LENGTH:   2\r\n", "hi"), "POST / hi"),
    ]);
}

/// §5.2: a server must refuse line folding, or replace it; here it is refused.
#[test]
fn line_folding_is_refused() {
    for fold in [" b", "\tb", "  b", " ", "\t", " b: c", "\t: c", " Content-Length: 5"] {
        check([
            refused(400, with(&format!("X: a\r\n{fold}\r\n"))),
            refused(400, with(&format!("X:\r\n{fold}\r\nY: c\r\n"))),
            refused(400, post(&format!("Transfer-Encoding:\r\n{fold}chunked\r\n"), "0\r\n\r\n")),
        ]);
    }
}

/// §5.4 leaves the bounds to the server: 431 says so.
#[test]
fn too_many_and_too_long_fields_are_refused_by_431() {
    let fields = |count: usize| with(&"X: 1\r\n".repeat(count - 1));
    let value = |len: usize| with(&format!("X: {}\r\n", "v".repeat(len)));
    let rest = value(0).len();
    check([
        answered(fields(100), "GET / "),
        refused(431, fields(101)),
        refused(431, fields(1000)),
        answered(value((32 << 10) - rest), "GET / "),
        refused(431, value((32 << 10) - rest + 1)),
        refused(431, with(&format!("{}: 1\r\n", "n".repeat(33_000)))),
    ]);
}
