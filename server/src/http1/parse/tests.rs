//! Heads, whole and cut at every byte.

use super::*;
use crate::http1::fields::TOO_MANY_FIELDS;
use crate::message::Method;

/// Parses `input` fed in two parts, cut at every position, and checks that the cut changes nothing that the
/// client can see but the wording of a refusal.
fn parse_cut(input: &[u8], limits: &Limits) -> Result<Option<Head>, Refusal> {
    let visible = |parts: &[&[u8]]| feed(parts, limits).map_err(|refusal| refusal.status);
    let whole = visible(&[input]);
    for cut in 0..input.len() {
        assert_eq!(visible(&[&input[..cut], &input[cut..]]), whole, "cut at {cut}: {}", input.escape_ascii());
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(visible(&bytes), whole, "byte by byte: {}", input.escape_ascii());
    feed(&[input], limits)
}

fn feed(parts: &[&[u8]], limits: &Limits) -> Result<Option<Head>, Refusal> {
    let (mut bytes, mut scan, mut head) = (Vec::new(), Scan::default(), Head::default());
    for part in parts {
        bytes.extend_from_slice(part);
        if parse(&bytes, &mut scan, limits, &mut head)? == Progress::Complete {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

fn status_of(input: &str) -> Option<Status> {
    parse_cut(input.as_bytes(), &Limits::default()).err().map(|refusal| refusal.status)
}

fn accepted(input: &str) -> Head {
    match parse_cut(input.as_bytes(), &Limits::default()) {
        Ok(Some(head)) => head,
        other => panic!("{input:?}: {other:?}"),
    }
}

/// A complete 1.1 request with these extra field lines.
fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn a_plain_request_is_taken_apart() {
    let input = "GET /a/b?c=d?e HTTP/1.1\r\nHost: x.org:80\r\nX-Y:  spaced out \t\r\n\r\nrest";
    let head = parse_cut(input.as_bytes(), &Limits::default()).unwrap().unwrap();
    let bytes = input.as_bytes();
    assert_eq!(head.len, input.len() - 4);
    assert_eq!(head.method(bytes), Method::Get);
    assert_eq!(head.path(bytes), "/a/b");
    assert_eq!(head.query(bytes), Some("c=d?e"));
    assert_eq!(head.authority.unwrap().text(bytes), "x.org:80");
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.framing, Framing::Empty);
    assert_eq!(head.fields.len(), 2);
    assert_eq!(head.fields[1].name.text(bytes), "X-Y");
    assert_eq!(head.fields[1].value.of(bytes), b"spaced out");
}

#[test]
fn every_incomplete_prefix_of_a_good_request_asks_for_more() {
    let input = with("Content-Length: 3\r\n");
    for len in 0..input.len() {
        assert_eq!(feed(&[&input.as_bytes()[..len]], &Limits::default()), Ok(None), "{len} bytes");
    }
}

#[test]
fn one_leading_blank_line_is_tolerated_and_no_more() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(accepted(&format!("\r\n{request}")).len, request.len() + 2);
    assert_eq!(status_of(&format!("\r\n\r\n{request}")), Some(Status::BAD_REQUEST));
    assert_eq!(status_of(&format!("\n{request}")), Some(Status::BAD_REQUEST));
}

#[test]
fn an_unknown_method_is_kept_and_case_matters() {
    let input = "get / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(accepted(input).method(input.as_bytes()), Method::Other("get"));
}

#[test]
fn the_four_forms_of_a_target() {
    let form = |line: &str| {
        let input = format!("{line} HTTP/1.1\r\nHost: field\r\n\r\n");
        let head = accepted(&input);
        let b = input.as_bytes();
        (
            head.path(b).to_owned(),
            head.query(b).map(str::to_owned),
            head.authority.unwrap().text(b).to_owned(),
        )
    };
    let parts =
        |path: &str, query: Option<&str>, host: &str| (path.into(), query.map(Into::into), host.into());
    assert_eq!(form("GET /p?q"), parts("/p", Some("q"), "field"));
    assert_eq!(form("GET http://h:1/p?q=/"), parts("/p", Some("q=/"), "h:1"));
    assert_eq!(form("GET HTTPS://h"), parts("/", None, "h"));
    assert_eq!(form("GET http://h?q"), parts("/", Some("q"), "h"));
    assert_eq!(form("OPTIONS *"), parts("*", None, "field"));
    assert_eq!(form("GET http://[::1]:8/"), parts("/", None, "[::1]:8"));
}

#[test]
fn malformed_request_lines_are_refused() {
    let table = [
        ("GET  / HTTP/1.1", 400),
        ("GET /  HTTP/1.1", 400),
        (" GET / HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("GET /", 400),
        ("GET", 400),
        ("GET HTTP/1.1", 400),
        ("G(T / HTTP/1.1", 400),
        ("GET /a#b HTTP/1.1", 400),
        ("GET /\u{e9} HTTP/1.1", 400),
        ("GET /\x07 HTTP/1.1", 400),
        ("GET /\tx HTTP/1.1", 400),
        ("GET x HTTP/1.1", 400),
        ("GET ftp://h/ HTTP/1.1", 400),
        ("GET http:///p HTTP/1.1", 400),
        ("GET http://u@h/ HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        ("GET / http/1.1", 400),
        ("GET / HTTP/1.x", 400),
        ("GET / HTTP/11", 400),
        ("GET / HTTP/1.10", 400),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/1.2", 505),
        ("GET / HTTP/0.9", 505),
        ("PRI * HTTP/2.0", 505),
        ("CONNECT h:1 HTTP/1.1", 501),
    ];
    for (line, code) in table {
        assert_eq!(
            status_of(&format!("{line}\r\nHost: a\r\n\r\n")).map(Status::code),
            Some(code),
            "{line:?}"
        );
    }
}

#[test]
fn malformed_field_lines_are_refused() {
    let table = [
        "X : 1\r\n",
        "X\t: 1\r\n",
        " X: 1\r\n",
        ": 1\r\n",
        "X\r\n",
        "X: 1\r\n folded\r\n",
        "X: 1\r\n\tfolded\r\n",
        "X: a\rb\r\n",
        "X: a\0b\r\n",
        "X: a\x7fb\r\n",
        "X: a\x0bb\r\n",
        "X\0: a\r\n",
        "(X): a\r\n",
        "X: a\n",
        "X: a\nY: b\r\n",
        "X\u{e9}: a\r\n",
    ];
    for fields in table {
        assert_eq!(status_of(&with(fields)), Some(Status::BAD_REQUEST), "{fields:?}");
    }
}

#[test]
fn a_bare_line_feed_is_refused_wherever_it_stands() {
    for input in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.0\n\n",
        "GET / HTTP/1.0\n\nGET / HTTP/1.0\r\n\r\n",
    ] {
        assert_eq!(status_of(input), Some(Status::BAD_REQUEST), "{input:?}");
    }
}

#[test]
fn obs_text_in_a_value_is_kept_as_bytes() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n";
    let fields = parse_cut(input, &Limits::default()).unwrap().unwrap().fields;
    assert_eq!(fields[1].value.of(input), b"\xe9");
}

#[test]
fn exactly_one_well_formed_host_is_required_of_http_1_1() {
    for (head, refused) in [
        ("GET / HTTP/1.1\r\n\r\n", true),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: :80\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a%4\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a%41\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: []\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: [a]\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: [1:2]\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: [v1.a:b]\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: [v.a]\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: [v1.]\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: [::ffff:1.2.3.4]:80\r\n\r\n", false),
        ("GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a:80\r\n\r\n", false),
    ] {
        assert_eq!(status_of(head), refused.then_some(Status::BAD_REQUEST), "{head:?}");
    }
}

#[test]
fn a_host_is_checked_whatever_the_one_before_it_was() {
    let mut head = Head::default();
    let mut status = |host: &str| {
        let input = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        parse(input.as_bytes(), &mut Scan::default(), &Limits::default(), &mut head)
            .map(|_| head.authority.unwrap().text(input.as_bytes()).to_owned())
            .map_err(|refusal| refusal.status.code())
    };
    let long = "a".repeat(HOST_KNOWN_BYTES_MAX + 1);
    for host in ["a:80", "a:80", "b", "a:80", "", &long, "b"] {
        assert_eq!(status(host), Ok(host.to_owned()));
        for bad in ["a:8x", "b b", "a:80/", &format!("{long}/")] {
            assert_eq!(status(bad), Err(400), "{bad} after {host}");
        }
    }
}

#[test]
fn framing_follows_rfc_9112_section_6() {
    let framing = |fields: &str| {
        parse_cut(with(fields).as_bytes(), &Limits::default())
            .map(|parsed| parsed.unwrap().framing)
            .map_err(|refusal| refusal.status.code())
    };
    let table = [
        ("", Ok(Framing::Empty)),
        ("Content-Length: 0\r\n", Ok(Framing::Empty)),
        ("Content-Length: 12\r\n", Ok(Framing::Sized(12))),
        ("content-length: 0012\r\n", Ok(Framing::Sized(12))),
        ("Content-Length: 18446744073709551615\r\n", Ok(Framing::Sized(u64::MAX))),
        ("Content-Length: 18446744073709551616\r\n", Err(400)),
        ("Content-Length: +1\r\n", Err(400)),
        ("Content-Length: -1\r\n", Err(400)),
        ("Content-Length: 1 2\r\n", Err(400)),
        ("Content-Length: 0x1\r\n", Err(400)),
        ("Content-Length: 1_0\r\n", Err(400)),
        ("Content-Length: 5, 5\r\n", Err(400)),
        ("Content-Length:\r\n", Err(400)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: CHUNKED\r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: , chunked\r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(400)),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked, gzip\r\n", Err(400)),
        ("Transfer-Encoding: gzip\r\n", Err(501)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
        ("Transfer-Encoding: identity\r\n", Err(501)),
        ("Transfer-Encoding: chunked;q=1\r\n", Err(501)),
        ("Transfer-Encoding: xchunked\r\n", Err(501)),
        ("Transfer-Encoding: \"chunked\"\r\n", Err(400)),
        ("Transfer-Encoding: chun\u{a0}ked\r\n", Err(400)),
        ("Transfer-Encoding:\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", Err(400)),
    ];
    for (fields, expected) in table {
        assert_eq!(framing(fields), expected, "{fields:?}");
    }
    let http10 = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(status_of(http10), Some(Status::BAD_REQUEST));
}

#[test]
fn only_the_expectation_100_continue_is_known() {
    assert!(accepted(&with("Expect: 100-Continue\r\nContent-Length: 1\r\n")).expect_continue);
    assert!(!accepted(&with("Expect: 100-continue\r\n")).expect_continue, "nothing to wait for");
    assert!(
        !accepted("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").expect_continue
    );
    assert_eq!(status_of(&with("Expect: tea\r\n")), Some(Status::EXPECTATION_FAILED));
}

#[test]
fn each_limit_has_its_own_answer() {
    let limits =
        Limits { request_line_bytes_max: 30, head_bytes_max: 80, fields_max: 18, ..Limits::default() };
    let code = |input: &str| feed(&[input.as_bytes()], &limits).err().map(|refusal| refusal.status.code());
    let path = |len| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(len));
    assert_eq!(code(&path(26)), None);
    assert_eq!(code(&path(27)), Some(414));
    assert_eq!(code(&path(200)), Some(414));
    assert_eq!(code(&"p".repeat(42)), Some(414), "certain before the line has ended");
    let longest = path(26);
    for cut in 1..longest.len() {
        let (first, second) = longest.as_bytes().split_at(cut);
        assert!(feed(&[first, second], &limits).is_ok(), "cut at {cut}");
    }
    let value = |len| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(len));
    assert_eq!(code(&value(48)), None);
    assert_eq!(code(&value(49)), Some(431));
    assert_eq!(code(&value(49)[..80]), Some(431), "certain before the head has ended");
}

#[test]
fn the_number_of_fields_is_limited() {
    let head = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(count - 1));
    for max in [3, 16, 17, 100] {
        let limits = Limits { fields_max: max, ..Limits::default() };
        let parsed = feed(&[head(max).as_bytes()], &limits).unwrap().unwrap();
        assert_eq!(parsed.fields.len(), max);
        let refusal = feed(&[head(max + 1).as_bytes()], &limits).unwrap_err();
        assert_eq!(refusal, TOO_MANY_FIELDS, "max {max}");
    }
}

#[test]
fn the_bytes_of_another_protocol_are_refused_at_once() {
    let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    assert_eq!(feed(&[client_hello], &Limits::default()).unwrap_err().status, Status::BAD_REQUEST);
}

#[test]
fn the_search_for_the_end_finds_the_first_one_at_every_offset() {
    for before in 0..12 {
        let mut bytes = vec![b'x'; before];
        bytes.extend_from_slice(b"\r\n\r\n\r\n\r\n");
        for from in 0..=before {
            assert_eq!(end_of_head(&bytes, from), Some(before + 4), "{before} {from}");
        }
    }
    assert_eq!(end_of_head(b"\r\r\n\r\n", 0), Some(5));
    assert_eq!(end_of_head(b"\n\r\n\r\n", 0), Some(5));
    assert_eq!(end_of_head(b"\r\n\r", 0), None);
}

/// Every head that is accepted here says the same to httparse, which many others rely on: a reading of our own would be a way to
/// smuggle something past one of the two. The heads are good ones with any byte in any place.
#[test]
fn what_is_accepted_is_read_as_httparse_reads_it() {
    let heads: [&[u8]; 4] = [
        b"GET /a?b HTTP/1.1\r\nHost: a:80\r\nX-Y: \t1  2 \t\r\nEmpty:\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nConnection: close\r\n\r\n",
        b"PUT * HTTP/1.0\r\nTransfer-Encoding: chunked\r\nhost:a\r\n\r\n",
        b"OPTIONS http://h:1/p HTTP/1.1\r\nHost: h:1\r\nExpect: 100-continue\r\n\r\n",
    ];
    let mut accepted = 0;
    for head in heads {
        for at in 0..head.len() {
            for byte in 0..=255 {
                let mut bytes = head.to_vec();
                bytes[at] = byte;
                let Ok(Some(ours)) = feed(&[&bytes], &Limits::default()) else { continue };
                accepted += 1;
                let mut fields = [httparse::EMPTY_HEADER; 8];
                let mut theirs = httparse::Request::new(&mut fields);
                let shown = bytes.escape_ascii();
                assert_eq!(theirs.parse(&bytes), Ok(httparse::Status::Complete(ours.len)), "{shown}");
                assert_eq!(theirs.method, Some(ours.method(&bytes).as_str()), "{shown}");
                assert_eq!(theirs.path, Some(ours.target.text(&bytes)), "{shown}");
                assert_eq!(theirs.version, Some(u8::from(ours.version == Version::Http11)), "{shown}");
                let theirs = theirs.headers.iter().map(|field| (field.name.as_bytes(), field.value));
                let ours = ours.fields.iter().map(|field| (field.name.of(&bytes), field.value.of(&bytes)));
                assert!(theirs.eq(ours), "{shown}");
            }
        }
    }
    assert!(accepted > 5_000, "{accepted}: the test has to see good heads");
}
