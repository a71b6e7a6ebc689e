//! The requests that llhttp, Node's parser, is tested with (`test/request` and `test/url.md` there): what it does with
//! them, what we do, and why where that is not the same.
//!
//! Only the facts are theirs: bytes, and whether they are taken. A `Host` is added to each 1.1 request that has none, since
//! otherwise that would be all we say of it. Where the original ends within a body, what is missing is added.
#![forbid(unsafe_code)]

use super::*;

/// What llhttp does with an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theirs {
    Takes,
    /// As it comes, without a switch.
    Refuses,
    /// Only with a switch for leniency. There is none here (decision 0021).
    TakesIfLenient,
}

use Theirs::{Refuses, Takes, TakesIfLenient};

/// What it is about, what llhttp does, what we do, and why that differs: empty if it does not.
type Vector = (&'static str, Theirs, Row, &'static str);

/// Drives the vectors, and holds each to what it says of the difference.
fn check_vectors(vectors: Vec<Vector>) {
    for (name, theirs, row, why) in &vectors {
        let taken = !row.statuses.is_empty() && row.statuses.iter().all(|&status| status == 200);
        let differs = taken != (*theirs == Takes);
        assert_eq!(differs, !why.is_empty(), "{name}: a reason is for what differs");
    }
    check(vectors.into_iter().map(|(_, _, row, _)| row));
}

/// A 1.1 request with a host.
fn request(line: &str, fields: &str, body: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

/// A chunked request for `/url`.
fn chunks(body: &str) -> String {
    request("PUT /url", "Transfer-Encoding: chunked\r\n", body)
}

/// A request whose body the handler finds to be faulty.
fn fails(input: impl AsRef<[u8]>, call: &str) -> Row {
    Row::new(input, &[400], &[&format!("{call} !400")], false)
}

#[test]
fn plain_requests_are_taken_as_llhttp_takes_them() {
    let old = "there is no HTTP/0.9 here (RFC 9112 §2.3)";
    check_vectors(vec![
        (
            "two fields, one with a tab before its value",
            Takes,
            answered(
                request("OPTIONS /url", "Header1: Value1\r\nHeader2:\t Value2\r\n", ""),
                "OPTIONS /url ",
            ),
            "",
        ),
        (
            "a method that begins like a response",
            Takes,
            answered(request("HEAD /url", "", ""), "HEAD /url "),
            "",
        ),
        (
            "curl",
            Takes,
            answered(
                "GET /test HTTP/1.1\r\nUser-Agent: curl/7.18.0 (i486-pc-linux-gnu) libcurl/7.18.0 OpenSSL/0.9.8g \
                 zlib/1.2.3.3 libidn/1.1\r\nHost: 0.0.0.0=5000\r\nAccept: */*\r\n\r\n",
                "GET /test ",
            ),
            "",
        ),
        (
            "Firefox",
            Takes,
            answered(
                "GET /favicon.ico HTTP/1.1\r\nHost: 0.0.0.0=5000\r\nUser-Agent: Mozilla/5.0 (X11; U; Linux i686; en-US; \
                 rv:1.9) Gecko/2008061015 Firefox/3.0\r\nAccept: \
                 text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: \
                 en-us,en;q=0.5\r\nAccept-Encoding: gzip,deflate\r\nAccept-Charset: \
                 ISO-8859-1,utf-8;q=0.7,*;q=0.7\r\nKeep-Alive: 300\r\nConnection: keep-alive\r\n\r\n",
                "GET /favicon.ico ",
            ),
            "",
        ),
        (
            "a value of plus signs",
            Takes,
            answered(request("GET /dumbpack", "aaaaaaaaaaaaa:++++++++++\r\n", ""), "GET /dumbpack "),
            "",
        ),
        (
            "no field but Host",
            Takes,
            answered(
                request("GET /get_no_headers_no_body/world", "", ""),
                "GET /get_no_headers_no_body/world ",
            ),
            "",
        ),
        (
            "one field",
            Takes,
            answered(
                request("GET /get_one_header_no_body", "Accept: */*\r\n", ""),
                "GET /get_one_header_no_body ",
            ),
            "",
        ),
        (
            "ApacheBench: 1.0, which has no body although no length says so",
            Takes,
            closed(
                "GET /test HTTP/1.0\r\nHost: 0.0.0.0:5000\r\nUser-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n",
                "GET /test ",
            ),
            "",
        ),
        (
            "an empty line before it",
            Takes,
            answered(format!("\r\n{}", request("GET /test", "", "")), "GET /test "),
            "",
        ),
        (
            "the same with a field",
            Takes,
            answered(format!("\r\n{}", request("GET /url", "Header1: Value1\r\n", "")), "GET /url "),
            "",
        ),
        ("no version", Takes, refused(400, "GET /\r\n\r\n"), old),
        ("UTF-8 in a value", Takes, answered(request("GET /", "Test: Düsseldorf\r\n", ""), "GET / "), ""),
        (
            "a byte 0xff in a value",
            Takes,
            answered(
                b"OPTIONS /url HTTP/1.1\r\nHost: a\r\nHeader1: Value1\r\nHeader2: \xffValue2\r\n\r\n",
                "OPTIONS /url ",
            ),
            "",
        ),
        ("the end behind a whole request", Takes, answered(request("GET /", "", ""), "GET / "), ""),
        (
            "the end before a body of 100 bytes",
            Refuses,
            Row { is_cut_off: true, ..fails(request("PUT /", "Content-Length: 100\r\n", ""), "PUT /") },
            "",
        ),
        ("the end within a field name", Refuses, unanswered("PUT / HTTP/1.1\r\nContent-Leng"), ""),
        (
            "three requests with a body each and an empty line between them",
            Takes,
            all_answered(
                [
                    request("POST /aaa", "Content-Length: 3\r\n", "AAA\r\n"),
                    request("PUT /bbb", "Content-Length: 4\r\n", "BBBB\r\n"),
                    request("PATCH /ccc", "Content-Length: 5\r\n", "CCCCC"),
                ]
                .concat(),
                &["POST /aaa AAA", "PUT /bbb BBBB", "PATCH /ccc CCCCC"],
            ),
            "",
        ),
    ]);
}

#[test]
fn folded_and_badly_ended_lines_are_refused_where_llhttp_takes_some() {
    const FOLDED: &str = "a folded line is refused (RFC 9112 §5.2, decision 0021)";
    let folds = "Line1:   abc\r\n\tdef\r\n ghi\r\n\t\tjkl\r\n  mno \r\n\t \tqrs\r\nLine2: \t line2\t\r\nLine3:\r\n \
                 line3\r\nLine4: \r\n \r\nConnection:\r\n close\r\n";
    let trailed = "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTrailer: Baz\r\nFoo: abc\nBar: \
                   def\n\n1\nA\n1;abc\nB\n1;def=ghi\nC\n1;jkl=\"mno\"\nD\n0\n\nBaz: ghi\n\n";
    let smuggled = "POST /hello HTTP/1.1\r\nHost: localhost\r\nFoo: bar\r\n Content-Length: 38\r\n\r\nGET /bye \
                    HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let dummy = "GET / HTTP/1.1\r\nConnection: close\r\nHost: a\r\n\rZGET /evil: HTTP/1.1\r\nHost: a\r\n\r\n";
    check_vectors(vec![
        ("folded by CRLF", Takes, refused(400, request("GET /", folds, "")), FOLDED),
        ("folded by LF", Refuses, refused(400, request("GET /", folds, "").replace("\r\n", "\n")), ""),
        (
            "a certificate over several lines",
            Takes,
            refused(
                400,
                request(
                    "GET /",
                    "X-SSL-Nonsense:   -----BEGIN CERTIFICATE-----\r\n\tMIIFbTCC\r\n\t-----END CERTIFICATE-----\r\n",
                    "",
                ),
            ),
            FOLDED,
        ),
        ("a folded length, refused as it comes", Refuses, refused(400, smuggled), ""),
        ("a folded length, leniently", TakesIfLenient, refused(400, smuggled), ""),
        (
            "a folded Connection with an empty element",
            Takes,
            refused(
                400,
                "GET /demo HTTP/1.1\r\nHost: example.com\r\nConnection: Something,\r\n Upgrade, ,Keep-Alive\r\nUpgrade: \
                 WebSocket\r\nOrigin: http://example.com\r\n\r\nHot diggity dogg",
            ),
            FOLDED,
        ),
        (
            "a folded Connection with a space before the fold",
            Takes,
            refused(
                400,
                request(
                    "GET /demo",
                    "Connection: keep-alive, \r\n upgrade\r\nUpgrade: WebSocket\r\n",
                    "Hot diggity dogg",
                ),
            ),
            FOLDED,
        ),
        (
            "a fold behind chunked, leniently: what it makes of it is no coding either",
            Refuses,
            refused(
                400,
                request("PUT /url", "Transfer-Encoding: chunked\r\n  abc\r\n", "5\r\nWorld\r\n0\r\n\r\n"),
            ),
            "",
        ),
        ("a fold in a name", Refuses, refused(400, request("GET /", "name\r\n : value\r\n", "")), ""),
        ("a CR between fields", Refuses, refused(400, request("GET /", "Foo: 1\rBar: 2\r\n", "")), ""),
        (
            "an LF between fields, the second one framing",
            Refuses,
            refused(400, request("POST /", "x:x\nTransfer-Encoding: chunked\r\n", "1\r\nA\r\n0\r\n\r\n")),
            "",
        ),
        (
            "an LF behind an empty value",
            Refuses,
            refused(400, request("POST /", "x:\nTransfer-Encoding: chunked\r\n", "1\r\nA\r\n0\r\n\r\n")),
            "",
        ),
        (
            "a CR behind an empty value",
            Refuses,
            refused(
                400,
                request(
                    "POST /",
                    "Connection: Close\r\nx:\rTransfer-Encoding: chunked\r\n",
                    "1\r\nA\r\n0\r\n\r\n",
                ),
            ),
            "",
        ),
        (
            "an LF in an empty value, with relaxed values",
            Refuses,
            refused(
                400,
                "POST / HTTP/1.1\r\nHost: localhost:5000\r\nx:\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n\r\n",
            ),
            "",
        ),
        (
            "a CR in an empty value, with relaxed values",
            Refuses,
            refused(
                400,
                "POST / HTTP/1.1\r\nHost: localhost:5000\r\nx:\rTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n\r\n",
            ),
            "",
        ),
        ("a CR and a byte where the head should end", Refuses, refused(400, dummy), ""),
        ("the same, leniently", TakesIfLenient, refused(400, dummy), ""),
        (
            "an LF between fields, the second one a length",
            Refuses,
            refused(
                400,
                "GET / HTTP/1.1\r\nHost: localhost\r\nDummy: x\nContent-Length: 23\r\n\r\nGET / HTTP/1.1\r\nDummy: GET \
                 /admin HTTP/1.1\r\nHost: localhost\r\n\r\n",
            ),
            "",
        ),
        ("all lines end by LF", Refuses, refused(400, trailed), ""),
        ("all lines end by LF, leniently", TakesIfLenient, refused(400, trailed), ""),
        (
            "white space behind the request line",
            Refuses,
            refused(400, "GET / HTTP/1.1\r\n Host: foo\r\n\r\n"),
            "",
        ),
        (
            "the same, with relaxed values",
            Refuses,
            refused(400, "GET /url HTTP/1.1\r\n Header1: value\r\nHost: a\r\n\r\n"),
            "",
        ),
        (
            "the same, leniently",
            TakesIfLenient,
            refused(400, "GET / HTTP/1.1\r\n Host: foo\r\nHost: a\r\n\r\n"),
            "",
        ),
    ]);
}

#[test]
fn field_names_and_values_are_as_strict_as_llhttp_has_them() {
    check_vectors(vec![
        ("an at sign in a name", Refuses, refused(400, request("GET /", "Fo@: Failure\r\n", "")), ""),
        (
            "control characters in a name",
            Refuses,
            refused(400, request("GET /", "Foo\u{1}\test: Bar\r\n", "")),
            "",
        ),
        ("no name", Refuses, refused(400, request("GET /", ": Bar\r\n", "")), ""),
        (
            "a broken Connection",
            Refuses,
            refused(
                400,
                b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection\r\x1b5\xd5eep-Alive\r\nAccept-Encoding: \
                  gzip\r\n\r\n",
            ),
            "",
        ),
        (
            "a broken name of another field",
            Refuses,
            refused(
                400,
                b"GET / HTTP/1.1\r\nHost: www.example.com\r\nX-Some-Header\r\x1b5\xd5eep-Alive\r\nAccept-Encoding: \
                  gzip\r\n\r\n",
            ),
            "",
        ),
        (
            "a CR instead of the dash in Content-Length",
            Refuses,
            refused(400, request("PUT /url", "Content\rLength: 003\r\n", "abc")),
            "",
        ),
        ("a form feed as a value", Refuses, refused(400, request("GET /url", "Header1: \u{c}\r\n", "")), ""),
        (
            "a form feed as a value, leniently",
            TakesIfLenient,
            refused(400, request("GET /url", "Header1: \u{c}\r\n", "")),
            "",
        ),
        (
            "the same in a second request, behind an empty line",
            TakesIfLenient,
            Row::new(
                [
                    request("GET /url", "Header1: Okay\r\n", "\r\n"),
                    request("GET /url", "Header1: \u{c}\r\n", ""),
                ]
                .concat(),
                &[200, 400],
                &["GET /url "],
                false,
            ),
            "",
        ),
        (
            "a form feed within a value",
            Refuses,
            refused(400, request("GET /url", "Header1: hello\u{c}world\r\n", "")),
            "",
        ),
        (
            "a form feed within a value, relaxed",
            TakesIfLenient,
            refused(400, request("GET /url", "Header1: hello\u{c}world\r\n", "")),
            "",
        ),
        (
            "two hosts",
            Takes,
            refused(400, "GET / HTTP/1.1\r\nhost: www.python.org\r\nhost: llhttp.org\r\n\r\n"),
            "RFC 9112 §3.2 wants a 400",
        ),
        (
            "two hosts, with the check for hosts",
            Refuses,
            refused(400, "GET /url HTTP/1.1\r\nhost: www.python.org\r\nhost: llhttp.org\r\n\r\n"),
            "",
        ),
        (
            "no host",
            Takes,
            refused(400, "GET /url HTTP/1.1\r\nHeader1: Value1\r\n\r\n"),
            "RFC 9112 §3.2 wants a 400; llhttp leaves it to who uses it",
        ),
    ]);
}

#[test]
fn connection_options_are_understood_as_llhttp_understands_them() {
    const NO_UPGRADE: &str = "nobody here accepts the upgrade, so the connection goes on with HTTP (RFC 9110 §7.8), which \
                              this is not; llhttp stops in front of it and asks";
    let put = |fields: &str| request("PUT /url", fields, "");
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 4\r\n";
    let keys = "Connection: Upgrade\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\nSec-WebSocket-Protocol: \
                sample\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nOrigin: \
                http://example.com\r\n";
    check_vectors(vec![
        ("keep-alive", Takes, answered(put("Connection: keep-alive\r\n"), "PUT /url "), ""),
        (
            "keep-alive, twice",
            Takes,
            all_answered(put("Connection: keep-alive\r\n").repeat(2), &["PUT /url ", "PUT /url "]),
            "",
        ),
        (
            "data behind a 1.0 request",
            Refuses,
            closed("PUT /url HTTP/1.0\r\n\r\n", "PUT /url "),
            "the request is answered; what comes behind it is not read as one",
        ),
        (
            "data behind a 1.0 request, leniently: nothing of it sticks to the next",
            TakesIfLenient,
            closed("PUT /url HTTP/1.0\r\nContent-Length: 0\r\n\r\n", "PUT /url "),
            "the request is answered; what comes behind it is not read as one",
        ),
        (
            "an empty line between requests",
            Takes,
            answered(request("POST /", form, "q=42\r\n"), "POST / q=42"),
            "",
        ),
        ("close", Takes, closed(put("Connection: close\r\n"), "PUT /url "), ""),
        (
            "data behind a close",
            Refuses,
            closed(request("POST /", &format!("{form}Connection: close\r\n"), "q=42"), "POST / q=42"),
            "the request is answered; what comes behind it is not read as one",
        ),
        (
            "close among other options",
            Takes,
            closed(put("Connection: close, token, upgrade, token, keep-alive\r\n"), "PUT /url "),
            "",
        ),
        (
            "an upgrade and what follows it",
            Takes,
            Row::new(
                request(
                    "GET /demo",
                    "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n",
                    "Hot diggity dogg",
                ),
                &[200, 400],
                &["GET /demo "],
                false,
            ),
            NO_UPGRADE,
        ),
        ("an upgrade", Takes, answered(put("Connection: upgrade\r\nUpgrade: ws\r\n"), "PUT /url "), ""),
        (
            "an upgrade with a body, and more behind it",
            Takes,
            Row::new(
                request(
                    "PUT /url",
                    "Connection: upgrade\r\nContent-Length: 4\r\nUpgrade: ws\r\n",
                    "abcd e f gh",
                ),
                &[200, 400],
                &["PUT /url abcd"],
                false,
            ),
            NO_UPGRADE,
        ),
        (
            "an old WebSocket handshake",
            Takes,
            Row::new(request("GET /demo", keys, "Hot diggity dogg"), &[200, 400], &["GET /demo "], false),
            NO_UPGRADE,
        ),
        (
            "a POST with an upgrade",
            Takes,
            Row::new(
                request(
                    "POST /demo",
                    "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\nContent-Length: 15\r\n",
                    "sweet post bodyHot diggity dogg",
                ),
                &[200, 400],
                &["POST /demo sweet post body"],
                false,
            ),
            NO_UPGRADE,
        ),
    ]);
}

#[test]
fn lengths_are_read_as_llhttp_reads_them() {
    let length = |length: &str, body: &str| post(&format!("Content-Length:{length}\r\n"), body);
    check_vectors(vec![
        ("leading zeros", Takes, answered(length(" 003", "abc"), "POST / abc"), ""),
        (
            "leading zeros, and a field behind it",
            Takes,
            answered(post("Content-Length: 003\r\nOhai: world\r\n", "abc"), "POST / abc"),
            "",
        ),
        ("more than 64 bits", Refuses, refused(400, length(" 1000000000000000000000", "")), ""),
        (
            "two that differ",
            Refuses,
            refused(400, request("PUT /url", "Content-Length: 1\r\nContent-Length: 2\r\n", "")),
            "",
        ),
        (
            "beside identity",
            Refuses,
            refused(400, request("PUT /url", "Content-Length: 1\r\nTransfer-Encoding: identity\r\n", "")),
            "",
        ),
        (
            "beside chunked, leniently",
            TakesIfLenient,
            refused(400, request("PUT /url", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "")),
            "",
        ),
        (
            "an odd spelling, in a 1.0 GET",
            Takes,
            closed(
                "GET /get_funky_content_length_body_hello HTTP/1.0\r\nconTENT-Length: 5\r\n\r\nHELLO",
                "GET /get_funky_content_length_body_hello HELLO",
            ),
            "",
        ),
        (
            "spaces around it",
            Takes,
            answered(length("  42 ", &"b".repeat(42)), &format!("POST / {}", "b".repeat(42))),
            "",
        ),
        ("a space within it", Refuses, refused(400, length(" 4 2", "")), ""),
        ("two numbers", Refuses, refused(400, length(" 13 37", "")), ""),
        ("none", Refuses, refused(400, length("", "")), ""),
    ]);
}

#[test]
fn any_method_is_passed_on_but_connect() {
    const NO_PROXY: &str = "CONNECT is for proxies, which this is not (RFC 9110 §9.3.6)";
    const ANY: &str = "a method that nobody knows is a method (RFC 9110 §9.1); the router answers 405 or 404";
    let connect = |authority: &str, rest: &str| {
        format!(
            "CONNECT {authority} HTTP/1.0\r\nUser-agent: Mozilla/1.1N\r\nProxy-authorization: basic x\r\n{rest}"
        )
    };
    let plain = |method: &str, target: &str, fields: &str| {
        answered(request(&format!("{method} {target}"), fields, ""), &format!("{method} {target} "))
    };
    check_vectors(vec![
        ("REPORT", Takes, plain("REPORT", "/test", ""), ""),
        (
            "CONNECT",
            Takes,
            refused(501, connect("0-home0.netscape.com:443", "\r\nsome data\r\nand more")),
            NO_PROXY,
        ),
        ("CONNECT in capitals", Takes, refused(501, connect("HOME0.NETSCAPE.COM:443", "\r\n")), NO_PROXY),
        (
            "CONNECT with a body",
            Takes,
            refused(501, connect("foo.bar.com:443", "Content-Length: 10\r\n\r\nblarfcicle")),
            NO_PROXY,
        ),
        (
            "CONNECT to a host with an underscore",
            Takes,
            refused(501, connect("home_0.netscape.com:443", "\r\n")),
            NO_PROXY,
        ),
        (
            "M-SEARCH for everything",
            Takes,
            refused(
                400,
                "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nST: \
                 \"ssdp:all\"\r\n\r\n",
            ),
            "the asterisk belongs to OPTIONS (RFC 9112 §3.2.4)",
        ),
        (
            "PATCH with a body",
            Takes,
            answered(
                request(
                    "PATCH /file.txt",
                    "Content-Type: application/example\r\nIf-Match: \"e0023aa4e\"\r\nContent-Length: 10\r\n",
                    "cccccccccc",
                ),
                "PATCH /file.txt cccccccccc",
            ),
            "",
        ),
        ("PURGE", Takes, plain("PURGE", "/file.txt", ""), ""),
        ("SEARCH", Takes, plain("SEARCH", "/", ""), ""),
        (
            "LINK with two fields of a name",
            Takes,
            plain(
                "LINK",
                "/images/my_dog.jpg",
                "Link: <http://example.com/profiles/joe>; rel=\"tag\"\r\nLink: \
                 <http://example.com/profiles/sally>; rel=\"tag\"\r\n",
            ),
            "",
        ),
        (
            "UNLINK",
            Takes,
            plain(
                "UNLINK",
                "/images/my_dog.jpg",
                "Link: <http://example.com/profiles/sally>; rel=\"tag\"\r\n",
            ),
            "",
        ),
        ("SOURCE", Takes, plain("SOURCE", "/music/sweet/music", ""), ""),
        (
            "a method of RTSP",
            Refuses,
            closed(
                "ANNOUNCE /music/sweet/music HTTP/1.0\r\nHost: example.com\r\n\r\n",
                "ANNOUNCE /music/sweet/music ",
            ),
            ANY,
        ),
        ("a letter too many", Refuses, plain("MKCOLA", "/", ""), ANY),
    ]);
}

#[test]
fn targets_and_versions_are_stricter_than_llhttps_where_a_uri_is() {
    const FRAGMENT: &str = "a target has no fragment (RFC 9112 §3.2)";
    let taken = |target: &str| answered(request(&format!("GET {target}"), "", ""), &format!("GET {target} "));
    let bad = |target: &str| refused(400, request(&format!("GET {target}"), "", ""));
    let versioned = |line: &str| format!("{line}\r\nHost: example.com\r\n\r\n");
    check_vectors(vec![
        ("quotes and backslashes", Takes, taken("/with_\"lovely\"_quotes?foo=\\\"bar\\\""), ""),
        ("a question mark in a query", Takes, taken("/test.cgi?foo=bar?baz"), ""),
        ("a bar in a query", Takes, taken("/test.cgi?query=|"), ""),
        ("a host that ends by a query", Takes, taken("http://hypnotoad.org?hail=all"), ""),
        ("a port that ends by a query", Takes, taken("http://hypnotoad.org:1234?hail=all"), ""),
        ("a port that ends by a space", Takes, taken("http://hypnotoad.org:1234"), ""),
        ("UTF-8", Refuses, bad("/δ¶/δt/pope?q=1#narf"), ""),
        ("a fragment", Takes, bad("/forums/1/topics/2375?page=1#posts-17408"), FRAGMENT),
        (
            "an absolute URL with a fragment",
            Takes,
            bad("http://example.com/path?query=value#schema"),
            FRAGMENT,
        ),
        ("a path with a fragment", Takes, bad("/path?query=value#schema"), FRAGMENT),
        (
            "user information",
            Takes,
            bad("http://a%12:b!&*$@hypnotoad.org:1234/toto"),
            "user information is refused (RFC 9110 §4.2.4)",
        ),
        ("a space", Refuses, bad("/foo bar/"), ""),
        ("a scheme without an authority", Refuses, bad("schema:/path?query=value#schema"), ""),
        ("ICE", Refuses, refused(400, versioned("GET /music/sweet/music ICE/1.0")), ""),
        ("nearly ICE", Refuses, refused(400, versioned("GET /music/sweet/music IHTTP/1.0")), ""),
        ("RTSP", Refuses, refused(400, versioned("PUT /music/sweet/music RTSP/1.0")), ""),
        ("HTTP/5.6", Refuses, refused(505, versioned("GET / HTTP/5.6")), ""),
        ("HTTP/5.6, leniently", TakesIfLenient, refused(505, versioned("GET / HTTP/5.6")), ""),
    ]);
}

#[test]
fn chunks_are_read_as_llhttp_reads_them() {
    let extended = "5;ilovew3;somuchlove=aretheseparametersfor;another=withvalue\r\nhello\r\n6;blahblah;blah\r\n \
                    world\r\n0\r\n\r\n";
    let quoted = "5;ilovew3=\"I \\\"love\\\"; \\\\extensions\\\\\";somuchlove=\"aretheseparametersfor\";blah;foo=bar\r\n\
                  hello\r\n6;blahblah;blah\r\n world\r\n0\r\n\r\n";
    let unbalanced =
        "5;ilovew3=\"abc\";somuchlove=\"def; ghi\r\nhello\r\n6;blahblah;blah\r\n world\r\n0\r\n\r\n";
    let hidden =
        "5\r\r;ABCD\r\n34\r\nE\r\n0\r\n\r\nGET / HTTP/1.1 \r\nHost: a\r\nContent-Length: 5\r\n\r\n0\r\n\r\n";
    let close = |body: &str| request("GET /", "Connection: close \r\nTransfer-Encoding: chunked \r\n", body);
    check_vectors(vec![
        ("no chunk but the last", Takes, answered(chunks("0\r\n\r\n"), "PUT /url "), ""),
        (
            "a small letter",
            Takes,
            answered(chunks("a\r\n0123456789\r\n0\r\n\r\n"), "PUT /url 0123456789"),
            "",
        ),
        ("a capital", Takes, answered(chunks("A\r\n0123456789\r\n0\r\n\r\n"), "PUT /url 0123456789"), ""),
        (
            "two digits",
            Takes,
            answered(
                chunks("1e\r\nall your base are belong to us\r\n0\r\n\r\n"),
                "PUT /url all your base are belong to us",
            ),
            "",
        ),
        (
            "three zeros at the end",
            Takes,
            answered(chunks("5\r\nhello\r\n6\r\n world\r\n000\r\n\r\n"), "PUT /url hello world"),
            "",
        ),
        (
            "trailers",
            Takes,
            answered(
                chunks("5\r\nhello\r\n6\r\n world\r\n0\r\nVary: *\r\nContent-Type: text/plain\r\n\r\n"),
                "PUT /url hello world",
            ),
            "",
        ),
        ("extensions", Takes, answered(chunks(extended), "PUT /url hello world"), ""),
        ("quoted extensions", Takes, answered(chunks(quoted), "PUT /url hello world"), ""),
        ("a quote that does not end", Refuses, fails(chunks(unbalanced), "PUT /url"), ""),
        (
            "no semicolon before an extension",
            Refuses,
            fails(chunks("2 erfrferferf\r\naa\r\n0 rrrr\r\n\r\n"), "PUT /url"),
            "",
        ),
        ("no extension behind a semicolon", Refuses, fails(chunks("2;\r\naa\r\n0\r\n\r\n"), "PUT /url"), ""),
        ("no last chunk", Refuses, fails(chunks("3\r\nfoo\r\n\r\n"), "PUT /url"), ""),
        ("an LF behind a size", Refuses, fails(chunks("3 \n  \r\nfoo\r\n"), "PUT /url"), ""),
        ("a space behind a size", Refuses, fails(chunks("a \r\n0123456789\r\n0\r\n\r\n"), "PUT /url"), ""),
        (
            "a space behind a size, leniently",
            TakesIfLenient,
            fails(chunks("a \r\n0123456789\r\n0\r\n\r\n"), "PUT /url"),
            "",
        ),
        ("a size that ends by CR CR", Refuses, fails(close(hidden), "GET /"), ""),
        ("a size that ends by CR CR, leniently", TakesIfLenient, fails(close(hidden), "GET /"), ""),
        ("data that does not end", Refuses, fails(close("5\r\nABCDE0\r\n\r\n"), "GET /"), ""),
        (
            "data that does not end, leniently",
            TakesIfLenient,
            fails(close("5\r\nABCDE0\r\n\r\n"), "GET /"),
            "",
        ),
    ]);
}

#[test]
fn transfer_codings_are_stricter_than_llhttps() {
    const UNKNOWN: &str = "no coding but chunked is implemented: a 501 (RFC 9112 §6.1)";
    let coded = |fields: &str, body: &str| request("POST /post_identity_body_world?q=search", fields, body);
    let world = "5\r\nWorld\r\n0\r\n\r\n";
    let chunked_first = "Accept: */*\r\nTransfer-Encoding: chunked, deflate\r\n";
    let chunked_above = "Accept: */*\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: deflate\r\n";
    check_vectors(vec![
        (
            "none, beside a length",
            Refuses,
            refused(400, post("Transfer-Encoding:\r\nContent-Length: 5\r\n", "hello")),
            "",
        ),
        (
            "none, three times, beside a length",
            Refuses,
            refused(
                400,
                post(
                    &format!("Content-Length: 10\r\n{}", "Transfer-Encoding:\r\n".repeat(3)),
                    "2\r\nAA\r\n0\r\n",
                ),
            ),
            "",
        ),
        ("pigeons", Refuses, refused(501, request("PUT /url", "Transfer-Encoding: pigeons\r\n", "")), ""),
        (
            "identity beside a length",
            Refuses,
            refused(400, coded("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "World")),
            "",
        ),
        (
            "identity beside a length, leniently",
            TakesIfLenient,
            refused(400, coded("Transfer-Encoding: identity\r\nContent-Length: 1\r\n", "World")),
            "",
        ),
        ("chunked before another", Refuses, refused(400, coded(chunked_first, "World")), ""),
        ("chunked above another", Refuses, refused(400, coded(chunked_above, "World")), ""),
        (
            "chunked before another, leniently",
            TakesIfLenient,
            refused(400, coded(chunked_first, "World")),
            "",
        ),
        ("chunked above another, leniently", TakesIfLenient, refused(400, coded(chunked_above, "World")), ""),
        (
            "chunked behind another",
            Takes,
            refused(501, coded("Accept: */*\r\nTransfer-Encoding: deflate, chunked\r\n", world)),
            UNKNOWN,
        ),
        (
            "chunked below another",
            Takes,
            refused(501, coded("Transfer-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n", world)),
            UNKNOWN,
        ),
        (
            "chunked twice in one word",
            Refuses,
            refused(501, coded("Transfer-Encoding: chunkedchunked\r\n", world)),
            "",
        ),
    ]);
}
