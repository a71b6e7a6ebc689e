//! Heads of responses: accepted, refused, cut at every byte, and compared with httparse.
#![forbid(unsafe_code)]

use super::*;

const EMPTY: Framing = Framing::Known(head::Framing::Empty);

fn whole(text: &str, to_head: bool) -> Result<Head, Error> {
    match parse(text.as_bytes(), &mut Scan::default(), to_head, &Limits::default())? {
        Some((head, len)) => {
            assert_eq!(len, text.len(), "{text:?}");
            Ok(head)
        }
        None => Err(Error::malformed("incomplete")),
    }
}

fn accepted(text: &str) -> Head {
    whole(text, false).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn with(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n")
}

#[test]
fn a_head_is_status_line_and_fields() {
    let head = accepted("HTTP/1.1 404 Not  Found!\r\nServer: s\r\nx-y:  z \t\r\nContent-Length: 7\r\n\r\n");
    assert_eq!(
        (head.version, head.status.code(), &*head.reason),
        (Version::Http11, 404, &b"Not  Found!"[..])
    );
    assert_eq!(head.headers.get("X-Y"), Some("z"));
    assert_eq!(head.headers.iter().count(), 3);
    assert_eq!(head.framing, Framing::Known(head::Framing::Sized(7)));
    assert_eq!(head.persistence, Persistence::Reuse);
    for line in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.0 999 \u{e9}\t", "HTTP/1.1 100 x"] {
        accepted(&format!("{line}\r\n\r\n"));
    }
}

#[test]
fn status_lines_that_are_none_are_refused() {
    for line in [
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20",
        "HTTP/1.1 2000",
        "HTTP/1.1 20x OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 099 X",
        "HTTP/1.1 +20 X",
        "HTTP/1.1 200 a\0b",
        "HTTP/1.1 200 a\x7f",
        "HTTP/1.1 200 a\rb",
        "http/1.1 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.10 200 OK",
        "HTTP/1.1200 OK",
        "ICY 200 OK",
        " HTTP/1.1 200 OK",
        "",
        "\r\nHTTP/1.1 200 OK",
        "SSH-2.0-x",
        "HTTP/0.9 200 OK",
    ] {
        let error = whole(&format!("{line}\r\n\r\n"), false).expect_err(line);
        assert!(error.is_malformed(), "{line:?}: {error}");
    }
}

#[test]
fn malformed_fields_are_refused() {
    for fields in [
        "X : 1\r\n",
        " X: 1\r\n",
        ": 1\r\n",
        "X\r\n",
        "X: 1\r\n folded\r\n",
        "X: a\rb\r\n",
        "X: a\0b\r\n",
        "X: a\nY: b\r\n",
        "(X): a\r\n",
        "X: a\x7f\r\n",
        "X: a\n",
        "X\u{e9}: a\r\n",
    ] {
        let error = whole(&with(fields), false).expect_err(fields);
        assert!(error.is_malformed(), "{fields:?}: {error}");
    }
}

#[test]
fn the_end_of_a_body_is_known_as_rfc_9112_says() {
    let sized = |length| Framing::Known(head::Framing::Sized(length));
    let chunked = Framing::Known(head::Framing::Chunked);
    let table: &[(&str, Option<Framing>)] = &[
        ("", Some(Framing::UntilClose)),
        ("Content-Length: 0\r\n", Some(EMPTY)),
        ("Content-Length: 5\r\n", Some(sized(5))),
        ("content-length: 18446744073709551615\r\n", Some(sized(u64::MAX))),
        ("Content-Length: 18446744073709551616\r\n", None),
        ("Content-Length: -1\r\n", None),
        ("Content-Length: +1\r\n", None),
        ("Content-Length: 0x1\r\n", None),
        ("Content-Length: 1 2\r\n", None),
        ("Content-Length:\r\n", None),
        ("Content-Length: 5, 5\r\n", None),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", None),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", None),
        ("Transfer-Encoding: chunked\r\n", Some(chunked)),
        ("Transfer-Encoding: Chunked\r\n", Some(chunked)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", None),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", None),
        ("Transfer-Encoding: gzip, chunked\r\n", None),
        ("Transfer-Encoding: chunked, gzip\r\n", None),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", None),
        ("Transfer-Encoding: gzip\r\n", None),
        ("Transfer-Encoding: identity\r\n", None),
        ("Transfer-Encoding: \x0bchunked\r\n", None),
        ("Transfer-Encoding:\r\n", None),
    ];
    for (fields, expected) in table {
        assert_eq!(whole(&with(fields), false).ok().map(|head| head.framing), *expected, "{fields:?}");
        if expected.is_some() {
            assert_eq!(whole(&with(fields), true).unwrap().framing, EMPTY, "to HEAD: {fields:?}");
            for code in [100, 101, 103, 204, 304] {
                let text = format!("HTTP/1.1 {code} X\r\n{fields}\r\n");
                assert_eq!(accepted(&text).framing, EMPTY, "{text:?}");
            }
        }
    }
    assert!(
        whole("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false).unwrap_err().is_malformed()
    );
}

#[test]
fn the_connection_persists_as_both_versions_have_it() {
    let persistence = |version: &str, options: &str| {
        accepted(&format!("HTTP/{version} 204 X\r\n{options}\r\n")).persistence
    };
    assert_eq!(persistence("1.1", ""), Persistence::Reuse);
    assert_eq!(persistence("1.1", "Connection: foo, Close\r\n"), Persistence::Close);
    assert_eq!(persistence("1.0", ""), Persistence::Close);
    assert_eq!(persistence("1.0", "Connection: keep-alive\r\n"), Persistence::Reuse);
}

#[test]
fn a_head_may_come_in_any_two_pieces() {
    let text = "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n";
    let len = text.len() - 3;
    for cut in 0..len {
        let mut scan = Scan::default();
        let first = parse(&text.as_bytes()[..cut], &mut scan, false, &Limits::default());
        assert!(matches!(first, Ok(None)), "{cut} bytes: {first:?}");
        let second = parse(text.as_bytes(), &mut scan, false, &Limits::default()).unwrap();
        assert_eq!(second.expect("complete").1, len, "cut at {cut}");
    }
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let text = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    let mut scan = Scan::default();
    for end in 1..text.len() {
        assert!(parse(&text[..end], &mut scan, false, &Limits::default()).unwrap().is_none());
    }
    assert!(parse(text, &mut scan, false, &Limits::default()).unwrap().is_some());
}

#[test]
fn what_cannot_become_a_head_is_refused_at_once() {
    for text in ["SSH", "HTTQ", "\x16\x03", "\n", "HTTP/1.1 200 OK\n", "HTTP/1.1 200 OK\r\nA: b\n", "<html>"]
    {
        let result = parse(text.as_bytes(), &mut Scan::default(), false, &Limits::default());
        assert!(result.expect_err(text).is_malformed(), "{text:?}");
    }
}

#[test]
fn a_head_is_bounded_in_bytes_and_fields() {
    let limits = Limits { head_bytes_max: 64, fields_max: 2, ..Limits::default() };
    let parse = |text: &str| parse(text.as_bytes(), &mut Scan::default(), false, &limits);
    let of_length = |len: usize| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(len - 24));
    assert!(parse(&of_length(64)).unwrap().is_some());
    assert!(parse(&of_length(65)).unwrap_err().is_too_large());
    assert!(parse(&of_length(65)[..64]).unwrap_err().is_too_large(), "before its end is known");
    assert!(parse(&with("A:\r\nB:\r\n")).unwrap().is_some());
    assert!(parse(&with("A:\r\nB:\r\nC:\r\n")).unwrap_err().is_too_large());
}

/// Whatever is accepted here httparse accepts, and understands alike.
#[test]
fn what_is_accepted_httparse_understands_alike() {
    let seeds = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y z\r\n\r\n",
        "HTTP/1.0 301 \r\nLocation: http://a/\r\n\r\n",
        "HTTP/1.1 204\r\nA:\r\nB: \t c\t\r\n\r\n",
    ];
    let mut agreed = 0;
    for seed in seeds {
        for at in 0..seed.len() {
            for byte in 0..=255u8 {
                for insert in [false, true] {
                    let mut bytes = seed.as_bytes().to_vec();
                    if insert {
                        bytes.insert(at, byte);
                    } else {
                        bytes[at] = byte;
                    }
                    let Ok(Some((head, len))) =
                        parse(&bytes, &mut Scan::default(), false, &Limits::default())
                    else {
                        continue;
                    };
                    let mut fields = [httparse::EMPTY_HEADER; 8];
                    let mut theirs = httparse::Response::new(&mut fields);
                    let status = theirs.parse(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}"));
                    assert_eq!(status, httparse::Status::Complete(len));
                    assert_eq!(theirs.code, Some(head.status.code()));
                    assert_eq!(theirs.version, Some(u8::from(head.version == Version::Http11)));
                    let theirs = theirs.headers.iter().map(|field| (field.name, field.value));
                    assert!(theirs.eq(head.headers.iter()), "{bytes:?}");
                    agreed += 1;
                }
            }
        }
    }
    assert!(agreed > 1000, "{agreed}");
}

#[test]
fn no_bytes_make_the_parser_panic() {
    // A small generator (xorshift) over the bytes that matter, cut anywhere.
    let alphabet = b"HTTP/1.1 200 OK\r\n\r\n:,;\t\0\x7f\xffcontent-length: 5chunked";
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20_000 {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        bytes.truncate(next() as usize % 18);
        for _ in 0..next() % 40 {
            bytes.push(alphabet[next() as usize % alphabet.len()]);
        }
        let _ = parse(&bytes, &mut Scan::default(), false, &Limits::default());
    }
}
