//! RFC 9112 §3, the request line.

use super::*;

fn line(line: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), b"\r\nHost: a\r\n\r\n"].concat()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// §3: one space between the parts, and nothing else.
#[test]
fn the_parts_of_a_request_line_are_one_space_apart() {
    check([answered(line("GET / HTTP/1.1"), "GET / ")]);
    for bad in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / \tHTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\t",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.1 x",
        "GET\u{b}/ HTTP/1.1",
        "GET /\u{c}HTTP/1.1",
        "GET",
        "GET /",
        "GET HTTP/1.1",
        " / HTTP/1.1",
        "/ HTTP/1.1",
        "GET ",
        " ",
    ] {
        check([refused(400, line(bad))]);
    }
}

/// §3.1: a method is a token, any one, and capitals matter (RFC 9110 §9.1).
#[test]
fn a_method_is_a_token_byte_by_byte() {
    for at in [0, 1, 2] {
        check((0..=255u8).map(|byte| {
            let mut method = *b"ABC";
            method[at] = byte;
            let input = line([&method, &b" / HTTP/1.1"[..]].concat());
            if is_token(byte) {
                answered(input, &format!("{} / ", method.escape_ascii().to_string().replace("\\'", "'")))
            } else {
                refused(400, input)
            }
        }));
    }
    check(
        ["get", "Get", "PROPFIND", "M-SEARCH", "!"]
            .map(|m| answered(line(format!("{m} / HTTP/1.1")), &format!("{m} / "))),
    );
}

/// §3: a request line that is too long for a server is a 414, one with a long method too; of 8000 bytes each server should
/// be capable.
#[test]
fn a_long_request_line_is_served_up_to_the_limit_and_then_refused() {
    let path = |len: usize| format!("/{}", "p".repeat(len - 1));
    let long = path(8000);
    check([
        answered(line(format!("GET {long} HTTP/1.1")), &format!("GET {long} ")),
        answered(line(format!("GET {} HTTP/1.1", path(8189))), &format!("GET {} ", path(8189))),
        refused(414, line(format!("GET {} HTTP/1.1", path(8190)))),
        refused(414, line(format!("GET /?{} HTTP/1.1", "q".repeat(9000)))),
        refused(414, line(format!("{} / HTTP/1.1", "M".repeat(9000)))),
    ]);
}

/// §3.2, §3.2.1: a target has no white space, control characters or bytes beyond ASCII, and no fragment. Other bytes that
/// a URI should have encoded are passed on as they are: browsers send some of them.
#[test]
fn a_target_is_visible_ascii_byte_by_byte() {
    for (before, after) in [("/", ""), ("/", "x"), ("/x?", "y")] {
        check((0..=255u8).map(|byte| {
            let target = [before.as_bytes(), &[byte], after.as_bytes()].concat();
            let input = line([b"GET ", &target[..], b" HTTP/1.1"].concat());
            if byte.is_ascii_graphic() && byte != b'#' {
                answered(input, &format!("GET {} ", str::from_utf8(&target).expect("ASCII")))
            } else {
                refused(400, input)
            }
        }));
    }
}

/// §3.2.1: a path begins with a slash.
#[test]
fn the_origin_form_is_a_path_with_a_query_or_without() {
    for target in
        ["/", "/a/b", "/?", "/a?b=c&d", "//a", "/a//b", "/..", "/%2e%zz", "/http://b/", "/*", "/?/", "/:80"]
    {
        check([answered(line(format!("GET {target} HTTP/1.1")), &format!("GET {target} "))]);
    }
    for target in ["a", "?a", "a/b", "./a", "..", "a:80", "-", "%2f", "\\a", "&"] {
        check([refused(400, line(format!("GET {target} HTTP/1.1")))]);
    }
}

/// §3.2.2: a server must accept the absolute form; user information is refused (RFC 9110 §4.2.4), and so is an empty host
/// (§4.2.1).
#[test]
fn the_absolute_form_is_a_url_of_http() {
    for target in [
        "http://a",
        "http://a/",
        "http://a?q",
        "HTTP://a/",
        "hTTps://a:443/b?c",
        "http://1.2.3.4/",
        "http://[::1]:8/",
        "http://[v7.a]/",
        "http://a:/",
        "http://a%20b/",
        "http://a/http://b",
        "http://other/",
    ] {
        check([answered(line(format!("GET {target} HTTP/1.1")), &format!("GET {target} "))]);
    }
    for target in [
        "http:",
        "http:/a",
        "http://",
        "http:///a",
        "http://?q",
        "http://:80/",
        "http://u@a/",
        "http://u:p@a/",
        "http://a:b/",
        "http://a:80:80/",
        "http://a b/",
        "http://[::1/",
        "http://[::g]/",
        "http://[]/",
        "http://[::1]a/",
        "http://::1/",
        "http://a%zz/",
        "http://a\\b/",
        "ftp://a/",
        "file:///a",
        "httpx://a/",
        "://a/",
        "mailto:a",
    ] {
        check([refused(400, line(format!("GET {target} HTTP/1.1")))]);
    }
}

/// §3.2.3: the authority form is for CONNECT, which is for proxies (RFC 9110 §9.3.6); §3.2.4: the asterisk is for OPTIONS.
#[test]
fn the_authority_and_the_asterisk_belong_to_one_method_each() {
    check([
        answered(line("OPTIONS * HTTP/1.1"), "OPTIONS * "),
        answered(line("OPTIONS / HTTP/1.1"), "OPTIONS / "),
        answered(line("OPTIONS http://a HTTP/1.1"), "OPTIONS http://a "),
        refused(501, line("CONNECT a:80 HTTP/1.1")),
        refused(501, line("CONNECT / HTTP/1.1")),
        refused(400, line("GET * HTTP/1.1")),
        refused(400, line("options * HTTP/1.1")),
        refused(400, line("OPTIONS ** HTTP/1.1")),
        refused(400, line("OPTIONS *?a HTTP/1.1")),
        refused(400, line("OPTIONS */ HTTP/1.1")),
        refused(400, line("GET a:80 HTTP/1.1")),
    ]);
}

/// §3.2: 400 to a 1.1 request without Host, to any with more than one, and to any whose Host is malformed.
#[test]
fn there_is_exactly_one_host_and_it_is_well_formed() {
    let host = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n");
    for good in [
        "Host: a\r\n",
        "hOST:a\r\n",
        "Host:\r\n",
        "Host: \t a \t\r\n",
        "Host: a:\r\n",
        "Host: a:80\r\n",
        "Host: a.b-c_d~e\r\n",
        "Host: 1.2.3.4:5\r\n",
        "Host: [::1]\r\n",
        "Host: [::ffff:1.2.3.4]:5\r\n",
        "Host: a%41\r\n",
        "Host: a!$&'()*+;=\r\n",
        "X-Host: b\r\nHost: a\r\n",
    ] {
        check([answered(host(good), "GET / ")]);
    }
    for bad in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nX: y\r\nhost: b\r\n",
        "Host:\r\nHost:\r\n",
        "Host: a b\r\n",
        "Host: a\tb\r\n",
        "Host: a/b\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a@b\r\n",
        "Host: a:b\r\n",
        "Host: a:-1\r\n",
        "Host: a:80:80\r\n",
        "Host: :80\r\n",
        "Host: http://a\r\n",
        "Host: \"a\"\r\n",
        "Host: <a>\r\n",
        "Host: a\\b\r\n",
        "Host: [::1\r\n",
        "Host: ::1\r\n",
        "Host: [a]\r\n",
        "Host: [::1]]\r\n",
        "Host: a[::1]\r\n",
        "Host: a%4\r\n",
    ] {
        check([refused(400, host(bad))]);
    }
    check([
        refused(400, "GET http://a/ HTTP/1.1\r\n\r\n"),
        closed("GET / HTTP/1.0\r\n\r\n", "GET / "),
        refused(400, "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
        refused(400, "GET / HTTP/1.0\r\nHost: a b\r\n\r\n"),
    ]);
}

/// §3.2 and RFC 9110 §7.2, byte by byte.
#[test]
fn a_host_has_only_the_bytes_of_a_host() {
    check((0..=255u8).map(|byte| {
        let input = [b"GET / HTTP/1.1\r\nHost: a", &[byte][..], b"b\r\n\r\n"].concat();
        // A colon wants digits behind it, and a percent sign two hexadecimal ones.
        let good = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte);
        if good { answered(input, "GET / ") } else { refused(400, input) }
    }));
}
