//! RFC 9112 §8 and §9, incomplete messages and the life of a connection.

use super::*;

/// §8: a request that is not whole is not answered, and above all not handled; at every byte.
#[test]
fn a_head_that_is_cut_off_is_never_handled() {
    for request in [
        with("Connection: close\r\nX: y\r\n"),
        post("Content-Length: 5\r\n", ""),
        "OPTIONS * HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned(),
        "\r\nGET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ] {
        check((0..request.len()).map(|len| unanswered(&request[..len])));
    }
}

/// §8, for a second request: the first has its answer.
#[test]
fn a_request_behind_another_is_not_handled_either_if_it_is_cut_off() {
    let (first, second) = (with(""), with("X: y\r\n"));
    check((0..second.len()).map(|len| Row {
        is_cut_off: true,
        ..Row::new(format!("{first}{}", &second[..len]), &[200], &["GET / "], false)
    }));
}

/// §9.3: 1.1 persists, unless one of both says close.
#[test]
fn a_1_1_connection_persists_until_close_is_asked_for() {
    for option in [
        "",
        "Connection: keep-alive\r\n",
        "Connection: x\r\n",
        "Connection:\r\n",
        "Connection: closed\r\n",
        "Close: 1\r\n",
    ] {
        check([answered(with(option), "GET / ")]);
    }
    for option in [
        "Connection: close\r\n",
        "Connection: CLOSE\r\n",
        "connection:close\r\n",
        "Connection: keep-alive, close\r\n",
        "Connection: close, keep-alive\r\n",
        "Connection: ,close,\r\n",
        "Connection: keep-alive\r\nConnection: close\r\n",
        "Connection: close\r\nConnection: keep-alive\r\n",
        "Connection: X-Y,\tclose\r\n",
    ] {
        check([closed(with(option), "GET / ")]);
    }
}

/// §9.3: 1.0 persists only if keep-alive is asked for.
#[test]
fn a_1_0_connection_persists_only_on_demand() {
    let http10 = |fields: &str| format!("GET / HTTP/1.0\r\n{fields}\r\n");
    for option in [
        "",
        "Connection: close\r\n",
        "Connection: keep-alive, close\r\n",
        "Keep-Alive: 300\r\n",
        "Host: a\r\n",
    ] {
        check([closed(http10(option), "GET / ")]);
    }
    for option in
        ["Connection: keep-alive\r\n", "Connection: Keep-Alive\r\n", "Connection: x, keep-alive\r\n"]
    {
        check([answered(http10(option), "GET / ")]);
    }
    check([
        closed("POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", "POST / hi"),
        answered("POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", "POST / hi"),
    ]);
}

/// §9.3.2: pipelined requests are answered in their order.
#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let requests = [
        with(""),
        post("Content-Length: 2\r\n", "hi"),
        "HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        "POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(),
    ];
    let calls = ["GET / ", "POST / hi", "HEAD /h ", "POST / abc", "POST /ignore ", "OPTIONS * ", "GET /k "];
    check([all_answered(requests.concat(), &calls)]);
    let many: String = (0..100).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    let calls: Vec<String> = (0..100).map(|number| format!("GET /{number} ")).collect();
    check([all_answered(many, &calls.iter().map(String::as_str).collect::<Vec<_>>())]);
}

/// §9.6: behind a close nothing is read as a request, and behind an error neither.
#[test]
fn nothing_is_served_behind_a_close_or_an_error() {
    let good = with("");
    let closing = with("Connection: close\r\n");
    for bad in [with("X : y\r\n"), with("Content-Length: x\r\n"), "GET /\r\n\r\n".to_owned()] {
        check([
            refused(400, format!("{bad}{good}{good}")),
            Row::new(format!("{good}{bad}{good}"), &[200, 400], &["GET / "], false),
            Row::new(format!("{good}{good}{bad}"), &[200, 200, 400], &["GET / ", "GET / "], false),
        ]);
    }
    check([
        Row::new(
            format!("{good}{}{good}", post("Transfer-Encoding: chunked\r\n", "x\r\n")),
            &[200, 400],
            &["GET / ", "POST / !400"],
            false,
        ),
        Row::new(format!("{good}{closing}"), &[200, 200], &["GET / ", "GET / "], false),
    ]);
}
