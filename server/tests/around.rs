//! What is around handlers, over real sockets: the access log's end, aborted responses, the log line of a panic.
#![forbid(unsafe_code)]

mod support;

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use bast_server::middleware::{AccessLog, Compress, RequestIds};
use bast_server::{Error, Handler, Next, Request, Response, Router, Status};

use support::{DEADLINE, settings, start};

/// Where the lines of all tests of this program go.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().expect("no panic").push(format!("{} {}", record.level(), record.args()));
    }
    fn flush(&self) {}
}

fn install_logger() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        log::set_logger(&Logger).expect("the only logger");
        log::set_max_level(log::LevelFilter::Error);
    });
}

#[test]
fn the_log_line_of_a_panic_names_request_route_peer_and_place() {
    install_logger();
    let line = line!() + 3;
    let app = Router::new().get("/users/{id}", |request: &mut Request| -> Response {
        let id = request.param_text("id").unwrap_or_default();
        panic!("no user {id}\u{1b}[31m")
    });
    let server = start(settings(), app);
    let mut client = server.connect();
    let peer = client.stream.local_addr().expect("an address");
    assert_eq!(client.get("/users/7").code, 500);
    assert_eq!(client.get("/users/8").code, 500, "the connection lives on");
    let lines = LINES.lock().expect("no panic");
    let logged = lines.iter().find(|line| line.contains("\"/users/7\"")).expect("a line of the panic");
    for part in [
        "ERROR GET",
        &format!("from {peer}"),
        r#"route "/users/{id}""#,
        &format!("around.rs:{line}:"),
        r#""no user 7\u{1b}[31m""#,
    ] {
        assert!(logged.contains(part), "{part:?} is not in {logged:?}");
    }
    // CI and people may ask for stacks by the environment.
    let asks = std::env::var("RUST_BACKTRACE").is_ok_and(|value| value != "0");
    let asks = std::env::var("RUST_LIB_BACKTRACE").map_or(asks, |value| value != "0");
    assert_eq!(logged.contains("the_log_line_of_a_panic"), asks, "the stack: {logged}");
}

#[test]
fn the_log_line_of_an_error_names_its_request_once_whatever_middleware_makes_of_it() {
    install_logger();
    let fail = |_: &mut Request| Err::<(), _>(io::Error::other("the disk\u{1b}[31m is gone"));
    let hide = |request: &mut Request, next: Next| match next.run(request).status() {
        Status::INTERNAL_SERVER_ERROR => Response::text("later").with_status(Status::SERVICE_UNAVAILABLE),
        _ => Response::text("well"),
    };
    let app = Router::new()
        .get("/seen/{id}", fail)
        .get("/hidden/{id}", fail.with(hide))
        .get("/missed", |_: &mut Request| Err::<(), _>(Error::not_found()));
    let server = start(settings(), app.with(RequestIds::new().trust_incoming()));
    let mut client = server.connect();
    let peer = client.stream.local_addr().expect("an address");
    for (path, code) in [("/seen/e1", 500), ("/hidden/e2", 503), ("/missed", 404)] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Request-Id: id-of{path}\r\n\r\n"));
        assert_eq!(client.answer().code, code, "{path}");
    }
    let lines = LINES.lock().expect("no panic");
    for (path, route) in [("/seen/e1", "/seen/{id}"), ("/hidden/e2", "/hidden/{id}")] {
        let of: Vec<_> = lines.iter().filter(|line| line.contains(path)).collect();
        assert_eq!(of.len(), 1, "{lines:?}");
        let expected = format!(
            "ERROR GET {path:?} from {peer}, route {route:?}, id \"id-of{path}\": \
            handler failed: 500 Internal Server Error: the disk\\u{{1b}}[31m is gone"
        );
        assert_eq!(of[0], &expected);
    }
    assert!(!lines.iter().any(|line| line.contains("/missed") || line.contains("404")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("replaced")), "{lines:?}");
}

#[test]
fn every_response_is_in_the_access_log_when_the_server_has_ended() {
    let (tx, rx) = mpsc::channel();
    let sink = AccessLog::to_fn(move |lines| tx.send(lines.to_vec()).map_err(io::Error::other));
    let app = (|request: &mut Request| request.path().to_owned()).with(AccessLog::common(sink).extended());
    let server = start(settings(), app);
    let peer = {
        let mut client = server.connect();
        for path in ["/a", "/bc", "/def"] {
            assert_eq!(client.get(path).code, 200);
        }
        client.stream.local_addr().expect("an address")
    };
    server.handle.shutdown();
    server.ended().expect("a clean end");
    let text = String::from_utf8(rx.try_iter().flatten().collect()).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, (path, bytes)) in lines.iter().zip([("/a", 2), ("/bc", 3), ("/def", 4)]) {
        assert!(line.starts_with(&format!("{} - - [", peer.ip())), "{line}");
        assert!(line.contains(&format!("\"GET {path} HTTP/1.1\" 200 {bytes} ")), "{line}");
        assert!(line.contains(" + "), "{line}");
    }
}

#[test]
fn a_response_that_its_client_did_not_take_is_marked_with_what_was_sent() {
    let (tx, rx) = mpsc::channel();
    let sink = AccessLog::to_fn(move |lines| tx.send(lines.to_vec()).map_err(io::Error::other));
    let endless = |_: &mut Request| {
        Response::stream("text/plain", |body| {
            loop {
                body.write_all(&[b'x'; 4096])?;
            }
        })
    };
    let server = start(settings(), endless.with(AccessLog::json(sink)));
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut some = [0; 1000];
    io::Read::read_exact(&mut client.stream, &mut some).expect("the beginning");
    drop(client);
    let line = String::from_utf8(rx.recv_timeout(DEADLINE).expect("a line")).expect("text");
    assert!(line.contains("\"status\":200,") && line.contains("\"complete\":false,"), "{line}");
    let bytes = line.split("\"bytes\":").nth(1).and_then(|rest| rest.split(',').next()).expect("a number");
    assert!(bytes.parse::<u64>().expect("a number") >= 700, "{line}");
}

#[test]
fn compressed_events_arrive_one_by_one() {
    let (next, waits) = mpsc::channel::<()>();
    let waits = Arc::new(Mutex::new(waits));
    let events = move |_: &mut Request| {
        let waits = Arc::clone(&waits);
        Response::stream("text/event-stream", move |body| {
            for number in 0..3 {
                let waits = Arc::clone(&waits);
                // The next event is made only when the client has read this one.
                bast::offload(move || waits.lock().expect("no panic").recv_timeout(DEADLINE))
                    .map_err(io::Error::other)?;
                write!(body, "data: {number}\n\n")?;
                body.flush()?;
            }
            Ok(())
        })
    };
    let server = start(settings(), events.with(Compress::new()));
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n");
    let mut received = Vec::new();
    for number in 0..3 {
        next.send(()).expect("the producer waits");
        let expected: String = (0..=number).map(|number| format!("data: {number}\n\n")).collect();
        while decoded(&received) != expected.as_bytes() {
            let mut some = [0; 1000];
            let count = io::Read::read(&mut client.stream, &mut some).expect("an event before the deadline");
            assert!(count > 0, "the stream ended after {number} events");
            received.extend_from_slice(&some[..count]);
        }
    }
}

/// What can be decoded of a chunked gzip response that has only begun.
fn decoded(received: &[u8]) -> Vec<u8> {
    let Some(head) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return Vec::new() };
    let (mut rest, mut coded) = (&received[head + 4..], Vec::new());
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size =
            std::str::from_utf8(&rest[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.expect("a size line");
        if size == 0 || rest.len() < end + 4 + size {
            break;
        }
        coded.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    let (mut plain, mut piece) = (Vec::new(), [0; 100]);
    let mut decoder = flate2::read::GzDecoder::new(&coded[..]);
    while let Ok(count @ 1..) = io::Read::read(&mut decoder, &mut piece) {
        plain.extend_from_slice(&piece[..count]);
    }
    plain
}
