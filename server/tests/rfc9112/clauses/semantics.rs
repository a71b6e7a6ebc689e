//! RFC 9110, where the core of a server is concerned.

use super::*;

/// §7.8: "A server MAY ignore a received Upgrade header field".
#[test]
fn an_upgrade_that_nobody_takes_up_is_ignored() {
    for fields in [
        "Connection: upgrade\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Upgrade: TLS/1.2\r\n",
        "Upgrade: a, b/1, c\r\nConnection: upgrade\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade:\r\n",
    ] {
        check([answered(with(fields), "GET / ")]);
    }
    check([closed(with("Connection: upgrade, close\r\nUpgrade: x\r\n"), "GET / ")]);
    check([closed("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "GET / ")]);
}

/// §9.3.2: a response to HEAD has no body, whatever its length says.
#[test]
fn head_is_answered_without_a_body() {
    let head = "HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n";
    check([
        answered(head, "HEAD /h "),
        all_answered(head.repeat(3), &["HEAD /h "; 3]),
        closed("HEAD /h HTTP/1.0\r\n\r\n", "HEAD /h "),
        // Capitals matter: this is another method.
        answered("head /h HTTP/1.1\r\nHost: a\r\n\r\n", "head /h "),
    ]);
}

/// §9.3.6: CONNECT is not implemented here, and what follows it may be anything: the connection is closed.
#[test]
fn connect_is_refused_and_nothing_behind_it_is_read() {
    for target in ["a:443", "[::1]:443", "a", "/", "http://a/"] {
        check([refused(
            501,
            format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"),
        )]);
    }
}

/// §9.3.7 and §9.3.8: OPTIONS and TRACE are methods like others to the core.
#[test]
fn options_and_trace_reach_the_handler() {
    check([
        answered("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * "),
        answered("OPTIONS /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", "OPTIONS /x hi"),
        answered("TRACE / HTTP/1.1\r\nHost: a\r\nAuthorization: secret\r\n\r\n", "TRACE / "),
    ]);
}

/// §10.1.1: whoever waits for a 100 gets it before the body is read, or a final status instead; other expectations are
/// 417; a 1.0 client has none.
#[test]
fn an_expectation_is_100_continue_or_417() {
    let expecting = |value: &str| post(&format!("Expect: {value}\r\nContent-Length: 2\r\n"), "hi");
    for good in ["100-continue", "100-Continue", "100-CONTINUE", " 100-continue\t"] {
        check([answered(expecting(good), "POST / hi")]);
    }
    for bad in
        ["100", "continue", "101-continue", "100-continue, x", "100-continue;q=1", "tea", "\"100-continue\""]
    {
        check([refused(417, expecting(bad))]);
    }
    check([
        answered(with("Expect: 100-continue\r\n"), "GET / "),
        answered(
            post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"),
            "POST / hi",
        ),
        closed("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi", "POST / hi"),
    ]);
}

/// §8.6 and §15.5.14: a body that is too large is a 413, known from its length or from its chunks.
#[test]
fn a_body_beyond_the_limit_is_a_413() {
    let limit = 8 << 20;
    check([
        failed(413, post(&format!("Content-Length: {}\r\n", limit + 1), "")),
        failed(413, post("Content-Length: 18446744073709551615\r\n", "")),
        failed(413, post("Transfer-Encoding: chunked\r\n", &format!("{:x}\r\n", limit + 1))),
        failed(413, post("Transfer-Encoding: chunked\r\n", &format!("1\r\nx\r\n{limit:x}\r\n"))),
    ]);
}

/// §6.4: content has no meaning in GET and others, but it is framed all the same.
#[test]
fn content_of_a_get_is_no_next_request() {
    check([
        answered(
            "GET /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "GET /ignore ",
        ),
        answered("DELETE /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", "DELETE /x hi"),
    ]);
}
