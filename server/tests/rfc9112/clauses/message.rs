//! RFC 9112 §2, messages.

use super::*;

const GOOD: &str = "GET /a?b HTTP/1.1\r\nHost: a:80\r\nX-Y: \t1 2\t\r\nEmpty:\r\n\r\n";

/// §2.1: a start line, field lines, an empty line, a body.
#[test]
fn a_message_is_a_start_line_field_lines_and_a_body() {
    check([
        answered(GOOD, "GET /a?b "),
        answered("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", "POST /p body"),
        answered("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET / "),
    ]);
}

/// §2.2: a bare CR is refused or replaced; a line that ends by LF alone may be accepted, here it is not; a NUL never. At no
/// place of a head may one of them stand.
#[test]
fn a_bare_cr_or_lf_or_a_nul_is_refused_at_every_place() {
    for byte in *b"\r\n\0" {
        // An LF before the last one would stand behind the head.
        check((0..GOOD.len() - 1).map(|at| {
            let (before, after) = GOOD.as_bytes().split_at(at);
            refused(400, [before, &[byte], after].concat())
        }));
    }
}

/// §2.2, the same for whoever ends all lines that way.
#[test]
fn lines_that_end_by_lf_or_cr_alone_are_refused() {
    check([
        refused(400, GOOD.replace("\r\n", "\n")),
        refused(400, GOOD.replace("\r\n", "\r")),
        refused(400, GOOD.replace("\r\n", "\n\r")),
        refused(400, GOOD.replacen("\r\n", "\n", 1)),
        refused(400, GOOD.replace("\r\n\r\n", "\r\n\n")),
        refused(400, "GET / HTTP/1.0\n\n"),
    ]);
}

/// §2.2: "a server ... SHOULD ignore at least one empty line (CRLF) received prior to the request-line".
#[test]
fn one_empty_line_before_the_request_line_is_ignored_and_no_more() {
    check([
        answered(format!("\r\n{GOOD}"), "GET /a?b "),
        all_answered(format!("\r\n{GOOD}\r\n{GOOD}"), &["GET /a?b ", "GET /a?b "]),
        // As old clients did behind the body of a POST.
        answered("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\n", "POST / hi"),
        refused(400, format!("\r\n\r\n{GOOD}")),
        refused(400, format!("\n{GOOD}")),
        refused(400, format!("\r{GOOD}")),
        refused(400, format!(" \r\n{GOOD}")),
    ]);
}

/// §2.2: white space between the start line and the first field is refused, or that line is dropped; here it is refused.
#[test]
fn white_space_before_the_first_field_is_refused() {
    for space in [" ", "\t", "  ", " \r\n", "\t\r\n"] {
        check([refused(400, format!("GET / HTTP/1.1\r\n{space}Host: a\r\n\r\n"))]);
        check([refused(400, format!("GET / HTTP/1.1\r\n{space}X: y\r\nHost: a\r\n\r\n"))]);
    }
}

/// §2.2: "a recipient MUST parse ... as a sequence of octets": what is no text is no reason to fail in a value.
#[test]
fn bytes_that_are_no_text_are_accepted_in_values_alone() {
    check([
        answered(b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\xc3\x28\r\n\r\n", "GET / "),
        refused(400, b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused(400, b"G\xc3\xa9T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused(400, b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n"),
        refused(400, b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: b\r\n\r\n"),
    ]);
}

/// §2.3: the version is `HTTP/`, a digit, a dot and a digit, in capitals.
#[test]
fn no_byte_of_the_version_can_be_another() {
    let line = b"GET / HTTP/1.1";
    for at in 6..line.len() {
        let rows = (0..=255u8).filter(|&byte| byte != line[at]).map(|byte| {
            let mut line = line.to_vec();
            line[at] = byte;
            let input = [&line, &b"\r\nHost: a\r\n\r\n"[..]].concat();
            let is_version = (at == 11 || at == 13) && byte.is_ascii_digit();
            match (at, byte) {
                (13, b'0') => closed(input, "GET / "),
                _ if is_version => refused(505, input),
                _ => refused(400, input),
            }
        });
        check(rows);
    }
}

/// §2.3: other versions, and what is none.
#[test]
fn other_versions_are_refused_by_505_and_malformed_ones_by_400() {
    check(
        ["0.9", "1.2", "1.9", "2.0", "3.0", "9.9"]
            .map(|v| refused(505, format!("GET / HTTP/{v}\r\nHost: a\r\n\r\n"))),
    );
    let malformed =
        ["1", "1.", ".1", "11", "1.10", "01.1", "1.1.1", "1,1", "-1.1", "+1.1", "1.1;", "1.\u{661}", ""];
    check(malformed.map(|v| refused(400, format!("GET / HTTP/{v}\r\nHost: a\r\n\r\n"))));
    check(
        ["http/1.1", "Http/1.1", "HTTP 1.1", "HTTP/ 1.1", "HTCP/1.1", "1.1", "HTTP"]
            .map(|v| refused(400, format!("GET / {v}\r\nHost: a\r\n\r\n"))),
    );
    check([refused(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]);
}

/// The first bytes of TLS and of SSH.
#[test]
fn another_protocol_is_refused() {
    check([refused(400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), refused(400, "SSH-2.0-x\r\n\r\n")]);
}
