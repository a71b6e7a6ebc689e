//! Interim responses: 100 when it is asked for, 103 when there is something to say before the response.
#![forbid(unsafe_code)]

use super::*;

const LINK: &str = "</style.css>; rel=preload; as=style";

#[test]
fn early_hints_are_sent_before_the_handler_goes_on() {
    let twin = Twin::new(&[&[GET, GET].concat()]);
    run(
        &twin,
        &service(|request: &mut Request<'_>| {
            request.early_hints(&[LINK, "</a.js>; rel=preload"]).expect("a client");
            "page"
        }),
    );
    let hints = format!("HTTP/1.1 103 Early Hints\r\nLink: {LINK}\r\nLink: </a.js>; rel=preload\r\n\r\n");
    assert_eq!(twin.sends().len(), 3);
    assert_eq!(twin.sends()[0], hints);
    assert!(
        twin.sends()[1].ends_with(&format!("page{hints}")),
        "with the answer that was held: {:?}",
        twin.sends()
    );
    assert_eq!(codes(&twin.output()), [103, 200, 103, 200]);
}

#[test]
fn a_1_0_client_gets_no_interim_response() {
    let handler = |request: &mut Request<'_>| {
        request.early_hints(&[LINK]).expect("nothing to send");
        request.send_continue().expect("nothing to send");
        "page"
    };
    let request = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(codes(&answer(handler, &[request])), [200]);
}

#[test]
fn a_wrong_interim_response_is_an_error_and_sends_nothing() {
    let handler = |request: &mut Request<'_>| {
        let status = |code| Status::from_code(code).expect("three digits");
        for (code, name, value) in [
            (100, "X", "y"),
            (101, "X", "y"),
            (200, "X", "y"),
            (404, "X", "y"),
            (103, "Link", "a\r\nSet-Cookie: b"),
            (103, "Link\r\nX", "a"),
            (103, "Content-Length", "0"),
            (103, "Transfer-Encoding", "chunked"),
            (103, "Connection", "close"),
        ] {
            let error = request.send_interim(status(code), &[("A", "b"), (name, value)]).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{code} {name}");
        }
        request.send_interim(status(199), &[]).expect("an unknown one is fine");
        "page"
    };
    let output = answer(handler, &[GET]);
    assert!(output.starts_with("HTTP/1.1 199 \r\n\r\nHTTP/1.1 200 OK\r\n"), "{output}");
}

#[test]
fn continue_can_be_said_before_the_body_is_read_and_is_said_once() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let says = |request: &mut Request<'_>| -> Result<Vec<u8>, Error> {
        request.send_continue()?;
        request.send_continue()?;
        request.read_body()
    };
    let twin = Twin::new(&[head, b"body", GET]);
    run(&twin, &service(says));
    assert_eq!(codes(&twin.output()), [100, 200, 200]);
    assert_eq!(twin.events()[1], Event::Sent(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()));

    let says_and_ignores = |request: &mut Request<'_>| request.send_continue().map(|()| "fine");
    let output = answer(says_and_ignores, &[head, b"body", GET]);
    assert_eq!(codes(&output), [100, 200, 200], "the body comes for certain, and is dropped");
}

#[test]
fn other_expectations_are_refused() {
    for value in ["tea", "100-continue, tea", "100-continue;q=1", ""] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: {value}\r\nContent-Length: 1\r\n\r\nx");
        let output = answer(hello, &[request.as_bytes(), GET]);
        assert_eq!(codes(&output), [417], "{value:?}");
        assert!(output.contains("Connection: close"));
    }
}
