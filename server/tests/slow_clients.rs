//! Clients that are slow in every way there is, and honest ones beside them.
#![forbid(unsafe_code)]

mod support;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bast_server::{Error, Limits, Request, Response, Router, Settings, TimeLimits};
use support::{DEADLINE, Gate, open, settings, start};

/// All limits of these tests.
const LIMIT: Duration = Duration::from_millis(400);

/// How often a dripping client does something: 100 bytes per second.
const TICK: Duration = Duration::from_millis(10);

/// Larger than what the sockets' buffers take.
const BIG_BYTES: usize = 24 << 20;

fn short() -> TimeLimits {
    TimeLimits {
        head: LIMIT,
        keep_alive_idle: LIMIT,
        body: LIMIT,
        write: LIMIT,
        linger: LIMIT,
        ..TimeLimits::default()
    }
}

fn short_settings() -> Settings {
    Settings {
        time_limits: short(),
        limits: Limits { body_bytes_max: 1 << 30, ..Limits::default() },
        ..settings()
    }
}

fn echo(request: &mut Request<'_>) -> Result<Response, Error> {
    Ok(Response::bytes("application/octet-stream", request.read_body()?))
}

fn big(_: &mut Request<'_>) -> Response {
    Response::bytes("application/octet-stream", vec![b'x'; BIG_BYTES])
}

/// Produced in pieces, so that each is a wait of its own.
fn stream(_: &mut Request<'_>) -> Response {
    Response::stream("application/octet-stream", |body| {
        (0..BIG_BYTES / 4096).try_for_each(|_| body.write_all(&[b'x'; 4096]))
    })
}

/// What a slow client does.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    /// What it sends at once.
    begin: &'static str,
    /// What it sends in each tick.
    drip: &'static str,
    /// It has ended its output.
    half_closed: bool,
    reads: Reads,
    /// Its end comes no sooner than the limit.
    waited_for: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    All,
    OneByte,
    Nothing,
}

const BEGIN: Kind =
    Kind { name: "", begin: "", drip: "", half_closed: false, reads: Reads::All, waited_for: true };

const KINDS: &[Kind] = &[
    Kind { name: "silent", ..BEGIN },
    Kind { name: "silent after a request", begin: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", ..BEGIN },
    Kind { name: "half a head", begin: "GET / HTTP/1.1\r\nHo", ..BEGIN },
    Kind { name: "a head that drips", begin: "GET / HTTP/1.1\r\nX: ", drip: "x", ..BEGIN },
    Kind {
        name: "half a body",
        begin: "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        ..BEGIN
    },
    Kind {
        name: "a body that drips",
        begin: "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
        drip: "x",
        ..BEGIN
    },
    Kind {
        name: "the framing of a chunk that drips",
        begin: "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=",
        drip: "x",
        ..BEGIN
    },
    Kind {
        name: "a body that drips and nobody wants",
        begin: "POST /ignored HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n",
        drip: "x",
        waited_for: false,
        ..BEGIN
    },
    Kind {
        name: "dripping after the end",
        begin: "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nx",
        drip: "x",
        waited_for: false,
        ..BEGIN
    },
    Kind { name: "half-closed at once", half_closed: true, waited_for: false, ..BEGIN },
    Kind {
        name: "half-closed in a head",
        begin: "GET / HTTP/1.1\r\n",
        half_closed: true,
        waited_for: false,
        ..BEGIN
    },
    Kind {
        name: "half-closed in a body",
        begin: "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        half_closed: true,
        waited_for: false,
        ..BEGIN
    },
    Kind {
        name: "reads nothing of a response",
        begin: "GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
        drip: "x",
        reads: Reads::Nothing,
        ..BEGIN
    },
    Kind {
        name: "reads a response byte by byte",
        begin: "GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
        drip: "x",
        reads: Reads::OneByte,
        ..BEGIN
    },
    Kind {
        name: "reads nothing of a stream",
        begin: "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        drip: "x",
        reads: Reads::Nothing,
        ..BEGIN
    },
    Kind {
        name: "reads a stream byte by byte",
        begin: "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        drip: "x",
        reads: Reads::OneByte,
        ..BEGIN
    },
];

/// Behaves like this until the server has ended the connection, and says how long that took.
///
/// Who reads sees the end of the stream; who does not sees that writing fails, because the server's end is gone.
fn suffer(address: SocketAddr, kind: Kind) -> Duration {
    let mut stream = TcpStream::connect(address).expect("connect");
    let start = Instant::now();
    stream.write_all(kind.begin.as_bytes()).expect("send");
    if kind.half_closed {
        stream.shutdown(Shutdown::Write).expect("shut down");
    }
    stream.set_nonblocking(true).expect("a stream to ask");
    let mut room = vec![0; 64 << 10];
    loop {
        assert!(start.elapsed() < DEADLINE, "{}: still there", kind.name);
        let written = stream.write(kind.drip.as_bytes());
        if !kind.drip.is_empty() && written.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            return start.elapsed();
        }
        let len = match kind.reads {
            Reads::All => room.len(),
            Reads::OneByte => 1,
            Reads::Nothing => 0,
        };
        match stream.read(&mut room[..len]) {
            Ok(0) if len > 0 => return start.elapsed(),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return start.elapsed(),
            _ => thread::sleep(TICK),
        }
    }
}

#[test]
fn slow_clients_of_every_kind_are_gone_and_an_honest_one_notices_nothing() {
    let app = Router::new()
        .get("/", |_: &mut Request<'_>| "hello")
        .get("/big", big)
        .get("/stream", stream)
        .post("/echo", echo)
        .post("/ignored", |_: &mut Request<'_>| "ignored");
    let server = start(short_settings(), app);
    let address = server.address;
    let over = Arc::new(AtomicBool::new(false));
    let honest = thread::spawn({
        let over = Arc::clone(&over);
        let mut client = server.connect();
        move || {
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                assert_eq!(client.get("/").body, "hello");
                times.push(start.elapsed());
                thread::sleep(Duration::from_millis(1));
            }
            times.sort();
            times
        }
    });
    let suffering: Vec<_> = KINDS
        .iter()
        .flat_map(|kind| [kind; 3])
        .map(|&kind| (kind, thread::spawn(move || suffer(address, kind))))
        .collect();
    for (kind, thread) in suffering {
        let took = thread.join().expect("a slow client does not panic");
        if kind.waited_for {
            assert!(took >= LIMIT, "{}: gone after {took:?}", kind.name);
        }
        // Twice the limit is promised, and what lingers has another. A busy machine may add to it, but not this much.
        assert!(took < LIMIT * 10, "{}: gone after {took:?}", kind.name);
    }
    over.store(true, Ordering::Relaxed);
    let times = honest.join().expect("an honest client is served");
    assert!(times[times.len() / 2] < LIMIT / 4, "an honest client waited: {:?}", times[times.len() / 2]);
}

/// Of an ordinary close the kernel would hear only behind the megabytes that it still has for this client.
#[test]
fn a_client_that_does_not_read_is_reset() {
    for path in ["/big", "/stream"] {
        let server = start(short_settings(), Router::new().get("/big", big).get("/stream", stream));
        let mut client = server.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let start = Instant::now();
        let error = loop {
            match client.stream.take_error().expect("the socket's state") {
                Some(error) => break error,
                None => thread::sleep(TICK),
            }
            assert!(start.elapsed() < DEADLINE, "{path}: not reset");
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{path}");
    }
}

#[test]
fn honest_clients_that_take_longer_than_any_limit_are_served() {
    let server = start(short_settings(), Router::new().get("/big", big).post("/echo", echo));
    // Ten times the rate that is asked for, and each piece well within its limit.
    let mut uploading = server.connect();
    let upload = thread::spawn(move || {
        uploading.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4800\r\n\r\n");
        for _ in 0..40 {
            uploading.send([b'x'; 120]);
            thread::sleep(LIMIT / 8);
        }
        uploading.answer()
    });
    let mut downloading = server.connect();
    let start = Instant::now();
    downloading.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut received = 0;
    let mut room = vec![0; 512 << 10];
    while received < BIG_BYTES {
        let count = downloading.stream.read(&mut room).expect("receive");
        assert!(count > 0, "closed after {received} bytes");
        received += count;
        thread::sleep(LIMIT / 20);
    }
    assert!(start.elapsed() > LIMIT * 2, "this was to be a slow client: {:?}", start.elapsed());
    assert_eq!(upload.join().expect("an honest client is served").body.len(), 4800);
}

#[test]
fn a_handler_that_takes_a_body_slowly_is_not_a_slow_client() {
    let handler = |request: &mut Request<'_>| -> Result<String, Error> {
        let mut total = 0;
        let mut piece = [0; 8];
        for _ in 0..4 {
            bast::sleep(LIMIT);
            total += request.body().read(&mut piece)?;
        }
        Ok((total + request.read_body()?.len()).to_string())
    };
    let server = start(short_settings(), handler);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n");
    client.send(vec![b'x'; 50_000]);
    assert_eq!(client.answer().body, "50000");
}

#[test]
fn a_response_that_comes_slowly_is_not_a_slow_client() {
    let handler = |_: &mut Request<'_>| {
        Response::stream("text/event-stream", |body| {
            for _ in 0..40 {
                write!(body, "x")?;
                body.flush()?;
                bast::sleep(LIMIT / 8);
            }
            Ok(())
        })
    };
    let server = start(short_settings(), handler);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    while !client.buffer.ends_with(b"\r\n0\r\n\r\n") {
        assert!(client.receive() > 0, "closed before the last chunk");
    }
}

#[test]
fn a_rate_of_zero_lets_a_body_drip() {
    let time_limits = TimeLimits { body_bytes_per_second_min: 0, ..short() };
    let server = start(Settings { time_limits, ..settings() }, echo);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n");
    for _ in 0..20 {
        client.send("x");
        thread::sleep(LIMIT / 8);
    }
    assert_eq!(client.answer().body.len(), 20);
}

/// Limits of which that of the handler is the only one that can pass.
fn impatient() -> Settings {
    let time_limits = TimeLimits { handler: Some(LIMIT / 2), ..TimeLimits::default() };
    Settings { time_limits, ..settings() }
}

#[test]
fn a_handler_beyond_its_limit_is_a_503_and_the_connection_goes_on() {
    let gate = Gate::new();
    let app = Router::new().get("/", |_: &mut Request<'_>| "hello").get("/gate", gate.handler());
    let server = start(impatient(), app);
    let mut client = server.connect();
    let start = Instant::now();
    let answer = client.get("/gate");
    assert_eq!(answer.code, 503);
    assert!(start.elapsed() >= LIMIT / 2, "not before the limit: {:?}", start.elapsed());
    assert!(!answer.head.contains("Connection: close"), "{}", answer.head);
    // What waited there was unwound, and the limit has gone with it.
    assert_eq!(client.get("/").body, "hello");
    drop(gate);
    assert_eq!(client.get("/").body, "hello");
}

#[test]
fn a_body_beyond_the_handlers_limit_is_broken_off() {
    let gate = Gate::new();
    let address = gate.address;
    let server = start(impatient(), move |_: &mut Request<'_>| {
        Response::stream("text/plain", move |body| {
            write!(body, "begun")?;
            bast::net::TcpStream::connect(address)?.read_exact(&mut [0])
        })
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    while client.receive() > 0 {}
    let text = String::from_utf8_lossy(&client.buffer);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("begun"), "{text}");
    assert!(!text.contains("\r\n0\r\n"), "a client must see that this is not all: {text}");
}

#[test]
fn a_handler_within_its_limit_answers_and_a_request_that_waits_for_the_next_is_not_under_it() {
    let gate = Gate::new();
    let server = start(
        Settings {
            time_limits: TimeLimits { handler: Some(DEADLINE), ..TimeLimits::default() },
            ..settings()
        },
        gate.handler(),
    );
    let mut client = server.connect();
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        open(gate.arrival());
        assert_eq!(client.answer().body, "through");
    }
}
