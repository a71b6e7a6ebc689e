//! Faults that were found once, each with the test that showed it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bast_server::{
    Constant, Error, Limits, Request, Response, Router, Server, Settings, Status, TimeLimits,
    constant_response,
};
use support::Gate;

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

/// What a client reads until the end, or until it fails.
fn read_all(stream: &mut TcpStream) -> (usize, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).err();
    (bytes.len(), error.map(|error| error.kind()))
}

/// Unread bytes in the kernel made the close a reset, which destroyed what the client had not read yet.
#[test]
fn the_last_answer_is_read_whole_although_more_was_pipelined() {
    const BYTES: usize = 1 << 20;
    let gate = Gate::new();
    let address = gate.address;
    let limits = Limits { requests_per_connection_max: 1, ..Limits::default() };
    let server = support::start(
        Settings { limits, ..support::settings() },
        move |_: &mut Request<'_>| -> Result<String, Error> {
            bast::net::TcpStream::connect(address)?.read_exact(&mut [0])?;
            Ok("x".repeat(BYTES))
        },
    );
    // Of a client that wants the connection to go on, and of one that does not and sends more nevertheless.
    for lines in ["", "Connection: close\r\n"] {
        for _ in 0..10 {
            let mut client = server.connect();
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
            let visitor = gate.arrival();
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            support::open(visitor);
            let (count, error) = read_all(&mut client.stream);
            assert!(count > BYTES && error.is_none(), "{lines:?}: {count} bytes, {error:?}");
        }
    }
}

/// The producer had returned, so the end of the connection was taken for that of the body.
#[test]
fn an_old_client_sees_that_the_last_piece_of_a_body_was_not_sent() {
    for kill in [false, true] {
        let (said, produced) = mpsc::channel();
        let said = Mutex::new(said);
        let app = move |_: &mut Request<'_>| {
            let said = said.lock().expect("no panic").clone();
            Response::stream("text/plain", move |body| {
                let limit = Duration::from_millis(50);
                // Until the client's side has no room.
                while bast::timeout(limit, || body.write_all(&[b'x'; 8000])).is_ok() {}
                said.send(()).expect("a test");
                Ok(())
            })
        };
        let write = if kill { DEADLINE } else { Duration::from_millis(100) };
        let time_limits = TimeLimits { write, ..TimeLimits::default() };
        let settings = Settings { time_limits, drain_deadline: DEADLINE, ..support::settings() };
        let server = support::start(settings, app);
        let mut client = server.connect();
        client.send("GET / HTTP/1.0\r\n\r\n");
        produced.recv_timeout(DEADLINE).expect("the client reads nothing");
        server.handle.shutdown();
        if kill {
            server.handle.shutdown();
        }
        server.ended().expect("it ends");
        let (_, error) = read_all(&mut client.stream);
        assert_eq!(error, Some(ErrorKind::ConnectionReset), "killed: {kill}");
    }
}

/// A blank line behind a body was the beginning of a head: after its limit the client got a 408 that it had not asked for.
#[test]
fn a_blank_line_behind_a_body_is_no_request() {
    let limit = Duration::from_millis(100);
    let time_limits = TimeLimits { head: limit, keep_alive_idle: limit * 4, ..TimeLimits::default() };
    let settings = Settings { time_limits, ..support::settings() };
    let server = support::start(settings, |_: &mut Request<'_>| "x");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    for separately in [false, true] {
        let mut client = server.connect();
        if separately {
            client.send(post);
            assert_eq!(client.answer().code, 200);
            client.send("\r\n");
        } else {
            client.send(format!("{post}\r\n"));
            assert_eq!(client.answer().code, 200);
        }
        // Longer than a head may take.
        thread::sleep(limit * 3);
        assert_eq!(client.get("/").code, 200, "separately: {separately}");
        client.send("\r\n");
        client.closed();
    }
}

/// It did not compile, and was copied for each connection.
#[test]
fn a_large_constant_is_served_whole() {
    static LARGE: Constant = constant_response!("text/plain", &[b'x'; 1 << 20]);
    let server = support::start(support::settings(), &LARGE);
    let mut client = server.connect();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!((answer.code, answer.body.len()), (200, 1 << 20));
        assert!(answer.head.contains("\r\nContent-Type: text/plain\r\n"), "{}", answer.head);
    }
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
