//! Leaving HTTP: what is asked for, what is answered, and what the other protocol finds.
#![forbid(unsafe_code)]

use super::*;
use crate::upgrade::Upgraded;

fn ask(version: &str, fields: &str) -> String {
    format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n")
}

/// Reads everything and answers with it.
fn copy(mut stream: Upgraded) {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let _ = stream.write_all(&bytes);
}

fn upgrading(_: &mut Request<'_>) -> Response {
    Response::upgrade("Copy/2", copy).with_header("X-A", "b")
}

#[test]
fn a_101_has_its_fields_and_no_framing() {
    let request = ask("1.1", "Connection: Upgrade\r\nUpgrade: other, copy/2\r\n");
    for cut in 0..request.len() {
        let output = answer(upgrading, &[&request.as_bytes()[..cut], &request.as_bytes()[cut..], b"raw"]);
        let expected =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: Copy/2\r\nX-A: b\r\n\r\nraw";
        assert_eq!(output, expected, "cut at {cut}");
    }
}

#[test]
fn what_is_pipelined_behind_the_request_is_read_first() {
    let request = ask("1.1", "Connection: upgrade\r\nUpgrade: copy/2\r\n");
    let all = format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{request}one GET / HTTP/1.1\r\n\r\n");
    let handler = |request: &mut Request<'_>| match request.header("upgrade") {
        Some(_) => upgrading(request),
        None => Response::text("first"),
    };
    for cut in 0..all.len() {
        let output = answer(handler, &[&all.as_bytes()[..cut], &all.as_bytes()[cut..], b" two"]);
        assert_eq!(codes(&output), [200, 101], "cut at {cut}: {output}");
        assert!(output.ends_with("\r\n\r\none GET / HTTP/1.1\r\n\r\n two"), "cut at {cut}: {output}");
    }
}

#[test]
fn a_protocol_that_was_not_offered_is_a_426() {
    for (version, fields) in [
        ("1.1", ""),
        ("1.1", "Upgrade: copy/2\r\n"),
        ("1.1", "Connection: upgrade\r\n"),
        ("1.1", "Connection: upgrade\r\nUpgrade: copy\r\n"),
        ("1.1", "Connection: upgrade\r\nUpgrade: copy/3, websocket\r\n"),
        ("1.0", "Connection: keep-alive, upgrade\r\nUpgrade: copy/2\r\n"),
    ] {
        let request = ask(version, fields).into_bytes();
        let output = answer(upgrading, &[&request, &request]);
        assert_eq!(codes(&output), [426, 426], "{fields:?}: {output}");
        assert!(output.contains("Connection: upgrade\r\nUpgrade: Copy/2\r\n"), "RFC 9110 §15.5.22: {output}");
    }
}

#[test]
fn a_handler_sees_what_is_offered() {
    let offered = |request: &mut Request<'_>| request.upgrade_protocols().collect::<Vec<_>>().join("+");
    for (version, fields, expected) in [
        ("1.1", "Connection: x, UPGRADE\r\nUpgrade: a/1, b\r\nUpgrade: , c\r\n", "a/1+b+c"),
        ("1.1", "Connection: x\r\nConnection: upgrade\r\nUpgrade: a\r\n", "a"),
        ("1.1", "Upgrade: a\r\n", ""),
        ("1.0", "Connection: upgrade\r\nUpgrade: a\r\n", ""),
    ] {
        let output = answer(offered, &[ask(version, fields).as_bytes()]);
        assert!(output.ends_with(&format!("\r\n\r\n{expected}")), "{fields:?}: {output}");
    }
}

#[test]
fn the_request_ends_before_the_other_protocol_begins() {
    let post = |framing: &str, body: &str| {
        let fields = "Connection: upgrade\r\nUpgrade: copy/2\r\n";
        format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}{framing}\r\n\r\n{body}raw")
    };
    let long = "x".repeat(51);
    for (request, code) in [
        (post("Content-Length: 4", "body"), 101),
        (post("Transfer-Encoding: chunked", "4\r\nbody\r\n0\r\n\r\n"), 101),
        // Beyond what is dropped, and malformed.
        (post("Content-Length: 51", &long), 400),
        (post("Transfer-Encoding: chunked", &format!("33\r\n{long}\r\n0\r\n\r\n")), 400),
        (post("Transfer-Encoding: chunked", "4\r\nbodyX"), 400),
    ] {
        for cut in 0..request.len() {
            let output = answer(upgrading, &[&request.as_bytes()[..cut], &request.as_bytes()[cut..]]);
            assert_eq!(codes(&output), [code], "cut at {cut}: {output}");
            if code == 101 {
                assert!(output.ends_with("\r\n\r\nraw"), "cut at {cut}: {output}");
            } else {
                assert!(output.contains("Connection: close"), "cut at {cut}: {output}");
            }
        }
    }
}

#[test]
fn a_body_that_was_never_asked_for_leaves_no_place_for_another_protocol() {
    let fields = "Connection: upgrade\r\nUpgrade: copy/2\r\nExpect: 100-continue\r\nContent-Length: 4\r\n";
    let request = ask("1.1", fields);
    assert_eq!(codes(&answer(upgrading, &[request.as_bytes(), b"body"])), [400]);
    let reads = |request: &mut Request<'_>| {
        assert_eq!(request.read_body().expect("a body"), b"body");
        upgrading(request)
    };
    assert_eq!(codes(&answer(reads, &[request.as_bytes(), b"body"])), [100, 101]);
}

#[test]
fn an_upgrade_keeps_its_status_and_is_never_half_made() {
    let request = ask("1.1", "Connection: upgrade\r\nUpgrade: copy/2\r\n");
    let table: [fn() -> Response; 5] = [
        || Response::upgrade("copy/2", copy).with_status(Status::OK),
        || Response::upgrade("copy/2", copy).with_status(Status::EARLY_HINTS),
        || Response::upgrade("copy/2", copy).with_body(crate::Body::Empty),
        || Response::upgrade("copy\r\nX: y", copy),
        || Response::new(Status::SWITCHING_PROTOCOLS),
    ];
    for make in table {
        let output = answer(move |_: &mut Request<'_>| make(), &[request.as_bytes()]);
        assert_eq!(codes(&output), [500], "{output}");
    }
}

#[test]
fn an_upgraded_connection_holds_no_buffers() {
    let request = ask("1.1", "Connection: upgrade\r\nUpgrade: copy/2\r\n");
    let other = crate::buffer::Buffers::take();
    let free = &raw const *other as usize;
    other.give_back();
    let output = answer(
        move |_: &mut Request<'_>| {
            Response::upgrade("copy/2", move |_| {
                let buffers = crate::buffer::Buffers::take();
                assert_eq!(&raw const *buffers as usize, free, "they are back in the pool");
                buffers.give_back();
            })
        },
        &[request.as_bytes()],
    );
    assert_eq!(codes(&output), [101]);
}

#[test]
fn a_drain_before_the_upgrade_is_told_by_the_first_read() {
    let draining = service(|_: &mut Request<'_>| {
        Response::upgrade("copy/2", |mut stream: Upgraded| {
            let error = stream.read(&mut [0; 8]).expect_err("a drain");
            assert_eq!((error.kind(), stream.is_draining()), (io::ErrorKind::TimedOut, true));
            let mut rest = String::new();
            stream.read_to_string(&mut rest).expect("later reads read");
            write!(stream, "{rest}").expect("a client");
        })
    });
    draining.draining.store(true, Ordering::Relaxed);
    let twin = Twin::new(&[ask("1.1", "Connection: upgrade\r\nUpgrade: copy/2\r\n").as_bytes(), b"rest"]);
    run(&twin, &draining);
    assert!(twin.output().ends_with("\r\n\r\nrest"), "{}", twin.output());
}
