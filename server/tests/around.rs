//! What is around handlers, over real sockets: the access log's end, aborted responses, the log line of a panic.
#![forbid(unsafe_code)]

mod support;

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bast_server::middleware::{AccessLog, Compress, RequestIds};
use bast_server::{
    Error, FaultKind, Handler, Hooks, Next, Request, Response, Router, Settings, Status, TimeLimits,
};

use support::{DEADLINE, settings, start};

/// Where the lines of all tests of this program go.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Also behind a test that failed with the lock: the others are to say what they found.
fn lines() -> MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        lines().push(format!("{} {}", record.level(), record.args()));
    }
    fn flush(&self) {}
}

fn install_logger() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        log::set_logger(&Logger).expect("the only logger");
        log::set_max_level(log::LevelFilter::Debug);
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
    let lines = lines();
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
    // By its first frame: names of functions that were inlined are not in it.
    assert_eq!(logged.contains("   0: "), asks, "the stack: {logged}");
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
    let lines = lines();
    for (path, route) in [("/seen/e1", "/seen/{id}"), ("/hidden/e2", "/hidden/{id}")] {
        let of: Vec<_> = lines.iter().filter(|line| line.contains(path)).collect();
        assert_eq!(of.len(), 1, "{lines:?}");
        let expected = format!(
            "ERROR GET {path:?} from {peer} in phase handler, route {route:?}, id \"id-of{path}\": \
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

/// A pipe on the standard output that nobody reads, say. The server's end waited for it without a limit, so that no signal ended
/// the process.
#[test]
fn a_log_whose_sink_stands_still_does_not_hold_up_the_end_and_says_what_is_lost() {
    install_logger();
    let (enter, entered) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let sink = AccessLog::to_fn(move |_| {
        enter.send(()).map_err(io::Error::other)?;
        // Until the test is over.
        released.recv().map_err(io::Error::other)
    });
    let app = (|_: &mut Request| "hello").with(AccessLog::common(sink));
    let server = start(settings(), app);
    let mut client = server.connect();
    assert_eq!(client.get("/a").code, 200);
    entered.recv_timeout(DEADLINE).expect("the sink is given the first line");
    for _ in 0..2 {
        assert_eq!(client.get("/b").code, 200);
    }
    server.handle.shutdown();
    drop(client);
    server.ended().expect("a clean end");
    let told = "ERROR the access log does not take its last lines: 3 are lost";
    assert!(lines().iter().any(|line| line == told), "all three were not written");
    drop(release);
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

/// A client that goes away in the middle of a download made a warning that named nobody, and told the hooks twice, the second time as
/// if the producer were to blame.
#[test]
fn what_ends_a_stream_is_told_once_and_with_its_name() {
    install_logger();
    let (failed, faults) = mpsc::channel();
    let (closed, closes) = mpsc::channel();
    let hooks = Hooks::new()
        .on_error(move |fault| failed.send(fault.kind).unwrap_or(()))
        .on_close(move |_| closed.send(()).unwrap_or(()));
    let app = Router::new().get("/ends/{how}", |request: &mut Request| {
        let how = request.param_text("how").unwrap_or_default().into_owned();
        Response::stream("text/plain", move |body| {
            body.flush()?;
            match &*how {
                "fails" => return Err(io::Error::other("no more")),
                "panics" => panic!("a bug of its own"),
                _ => {}
            }
            loop {
                match body.write_all(&[b'x'; 4096]) {
                    Err(error) if how == "unwraps" => panic!("not written: {error}"),
                    written => written?,
                }
            }
        })
    });
    let server = start(Settings { hooks, ..settings() }, app);
    for (how, told, level, text) in [
        ("by-client", None, "DEBUG", ": the client did not take all: "),
        ("unwraps", None, "ERROR", r#", route "/ends/{how}": handler panicked at "#),
        ("panics", Some(FaultKind::BrokenOff), "ERROR", r#", route "/ends/{how}": handler panicked at "#),
        ("fails", Some(FaultKind::BrokenOff), "WARN", ": a response was broken off: no more"),
    ] {
        let mut client = server.connect();
        let peer = client.stream.local_addr().expect("an address");
        client.send(format!("GET /ends/{how} HTTP/1.1\r\nHost: a\r\n\r\n"));
        if told.is_none() {
            io::Read::read_exact(&mut client.stream, &mut [0; 1000]).expect("the beginning");
        } else {
            while client.receive() > 0 {}
        }
        drop(client);
        closes.recv_timeout(DEADLINE).expect("the hook is called");
        let faults: Vec<FaultKind> = faults.try_iter().collect();
        match told {
            Some(kind) => assert_eq!(faults, [kind], "{how}"),
            None => assert!(matches!(*faults, [FaultKind::Write(_)]), "{how}: {faults:?}"),
        }
        let lines = lines();
        let named = format!("GET \"/ends/{how}\"");
        let of_this: Vec<&String> = lines.iter().filter(|line| line.contains(&named)).collect();
        let [line] = *of_this else { panic!("{how}: {of_this:?}") };
        assert!(line.starts_with(level) && line.contains(text), "{how}: {line}");
        assert!(level != "ERROR" || line.contains(&format!("from {peer}")), "{how}: {line}");
    }
}

/// It runs in a drop, and while a connection is killed that is in the middle of an unwind: the process was aborted.
#[test]
fn an_observer_that_panics_harms_nobody_although_its_connection_is_killed() {
    install_logger();
    let (told, tells) = mpsc::channel();
    let gate = support::Gate::new();
    let app = Router::new().get("/", |_: &mut Request| "hello").get("/waits", gate.handler());
    let app = app.with(move |request: &mut Request<'_>, next: Next<'_>| {
        let told = told.clone();
        request.on_sent(|_| panic!("an observer that fails"));
        request.on_sent(move |sent| told.send(sent.status().map(Status::code)).unwrap_or(()));
        next.run(request)
    });
    let server = start(settings(), app);
    let mut client = server.connect();
    for _ in 0..2 {
        assert_eq!(client.get("/").code, 200, "the connection lives on");
        assert_eq!(tells.recv_timeout(DEADLINE), Ok(Some(200)));
    }
    client.send("GET /waits HTTP/1.1\r\nHost: a\r\n\r\n");
    let _visitor = gate.arrival();
    server.handle.shutdown();
    server.handle.shutdown();
    assert_eq!(tells.recv_timeout(DEADLINE), Ok(None), "killed");
    server.ended().expect("a clean end");
    let lines = lines();
    assert!(lines.iter().any(|line| line == "ERROR the hook on_sent panicked"), "{lines:?}");
}

#[test]
fn each_line_about_a_connection_that_fails_has_its_peer_and_its_phase_and_nothing_unescaped() {
    install_logger();
    let app = Router::new()
        .get("/failing/panic", |request: &mut Request| -> &'static str {
            panic!("of {}", request.header("X-Text").unwrap_or("nobody"))
        })
        .get("/failing/error", |request: &mut Request| -> Result<Response, Error> {
            let text = request.header("X-Text").unwrap_or("nobody").to_owned();
            Err(Error::from(io::Error::other(text)))
        })
        .get("/failing/faulty", |_: &mut Request| Response::text("x").with_header("X-Bad", "a\r\nb"))
        .get("/failing/stream", |_: &mut Request| {
            Response::stream("text/plain", |body| {
                body.write_all(b"begun")?;
                body.flush()?; // else it is answered by its error
                Err(io::Error::other("no \u{1b}more"))
            })
        })
        .get("/failing/upgrade", |_: &mut Request| {
            Response::upgrade("failing", |_| panic!("behind the \u{1b}upgrade"))
        });
    let time_limits = TimeLimits { head: Duration::from_millis(100), ..TimeLimits::default() };
    let server = start(Settings { time_limits, ..settings() }, app);
    let get = |path: &str, fields: &str| format!("GET /failing/{path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    // In a value a client may send what moves a terminal's cursor (U+009B, two bytes above ASCII).
    let text = "X-Text: \u{9b}2J\r\n";
    let upgrade = "Connection: upgrade\r\nUpgrade: failing\r\n";
    for (input, level, phase, said) in [
        (get("panic", text), "ERROR", "handler", r#": "of \u{9b}2J""#),
        (get("error", text), "ERROR", "handler", r"\u{9b}2J"),
        (get("faulty", ""), "ERROR", "handler", "/failing/faulty"),
        (get("stream", ""), "WARN", "handler", r"a response was broken off: no \u{1b}more"),
        (get("upgrade", upgrade), "ERROR", "upgraded", r#""behind the \u{1b}upgrade""#),
        ("GET /failing HTTP/9.9\r\n\r\n".to_owned(), "DEBUG", "new", "refused a request: 505"),
        ("GET /failing/quiet".to_owned(), "DEBUG", "head", "connection quiet for too long"),
    ] {
        let mut client = server.connect();
        let peer = client.stream.local_addr().expect("an address");
        client.send(&input);
        let named = format!("{peer} in phase {phase}");
        let start = Instant::now();
        loop {
            let lines = lines();
            let found = lines.iter().find(|line| line.contains(&named) && line.contains(said));
            if let Some(line) = found {
                assert!(line.starts_with(level), "{input:?}: {line}");
                break;
            }
            assert!(start.elapsed() < DEADLINE, "{input:?}: no {named:?} with {said:?} in {lines:#?}");
            drop(lines);
            thread::yield_now();
        }
        // A stack has several lines of its own, behind the first.
        let lines = lines();
        let of_this = lines.iter().filter(|line| line.contains(&peer.to_string()));
        let heads = of_this.filter_map(|line| line.lines().next());
        assert!(heads.flat_map(str::chars).all(|c| !c.is_control()), "{lines:?}");
    }
}
