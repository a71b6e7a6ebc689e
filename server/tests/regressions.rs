//! Faults that were found once, each with the test that showed it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bast_server::{Limits, Request, Response, Router, Server, Settings, Status};

mod support;

const DEADLINE: Duration = Duration::from_secs(20);
const REQUESTS: usize = 800;

/// Larger than what the output buffer holds, together with its head, now and then.
const FILLING_BYTES: usize = 12_000;

/// Answers that are held are sent when a handler parks. If its own limit passes meanwhile, because the client does not
/// read, the bytes that were sent were sent again.
#[test]
fn held_answers_are_sent_once_although_a_handlers_limit_passes_while_they_are() {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let (late, a_limit_passed) = mpsc::channel();
    let app = Router::new().get("/", move |_: &mut Request| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let limit = Duration::from_millis(20);
        if bast::timeout(limit, || bast::sleep(Duration::from_micros(10))).is_err() {
            let _ = late.send(());
        }
        Response::text(format!("<{number:05}{}>", "x".repeat(FILLING_BYTES)))
    });
    let settings = Settings { workers: Some(1), handle_signals: false, ..Settings::default() };
    let server = Server::bind("127.0.0.1:0").expect("a port is free").with(settings);
    let (address, handle) = (server.local_addr().expect("it is bound"), server.handle());
    let serving = thread::spawn(move || server.serve(app));

    let mut client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    let mut requests = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(REQUESTS - 1);
    requests.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.write_all(&requests).expect("they fit into the socket");
    a_limit_passed.recv_timeout(DEADLINE).expect("the client does not read, so a limit passes");
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).expect("all answers and the end");

    let mut rest = std::str::from_utf8(&answers).expect("text");
    for number in 0..REQUESTS {
        let (head, after) = rest.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "answer {number} begins with {head:?}");
        let (body, next) = after.split_at(FILLING_BYTES + 7);
        assert!(body.starts_with(&format!("<{number:05}x")) && body.ends_with("x>"), "answer {number}");
        rest = next;
    }
    assert!(rest.is_empty());
    handle.shutdown();
    serving.join().expect("it does not panic").expect("it drains");
}

/// The fuzz target of whole connections found it: a 205 was sent with the body that its handler gave it, which RFC 9110
/// §15.3.6 forbids.
#[test]
fn a_205_is_sent_without_the_body_that_its_handler_gave_it() {
    let server = support::start(support::settings(), |request: &mut Request<'_>| {
        let response = if request.path() == "/stream" {
            Response::stream("text/plain", |body| body.write_all(b"unwanted"))
        } else {
            Response::text("unwanted")
        };
        response.with_status(Status::RESET_CONTENT)
    });
    let mut client = server.connect();
    for path in ["/", "/stream", "/"] {
        let answer = client.get(path);
        assert_eq!((answer.code, &*answer.body), (205, ""), "{path}");
        assert!(answer.head.contains("\r\nContent-Length: 0\r\n"), "{path}: {}", answer.head);
    }
}

#[test]
fn a_server_does_not_begin_with_settings_that_make_no_sense() {
    let limits = Limits { head_bytes_max: 10, ..Limits::default() };
    let server =
        Server::bind("127.0.0.1:0").expect("a port").with(Settings { limits, ..Settings::default() });
    let error = server.serve(|_: &mut Request| "x").expect_err("no request could be answered");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("limits.head_bytes_max is 10"), "{error}");
    let settings = Settings { stack_bytes: Some(1 << 50), handle_signals: false, ..Settings::default() };
    let server = Server::bind("127.0.0.1:0").expect("a port").with(settings);
    let error = server.serve(|_: &mut Request| "x").expect_err("there is no such stack");
    assert!(error.to_string().starts_with("settings: stack_bytes: "), "{error}");
}
