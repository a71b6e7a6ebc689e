//! Faults that were found once, each with the test that showed it.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bast_server::middleware::{Compress, Effort};
use bast_server::{
    Constant, Error, Handler as _, Limits, Request, Response, Router, Server, Settings, Status, TimeLimits,
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
    let server = Server::bind("127.0.0.1:0").expect("a port is free").settings(settings);
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
                while bast::timeout(limit, || body.flush()).is_ok() {
                    body.write_all(&[b'x'; 8000])?;
                }
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

/// A limit of the producer's own passes while coded bytes wait for the client. What was written later went out plain behind a part of
/// the coded bytes, and the response ended as if it were whole.
#[test]
fn a_limit_that_passes_while_coded_bytes_are_sent_breaks_the_response_off() {
    const LATER: &[u8] = b"<what is written later>";
    /// Far longer than a piece takes to be coded, so it passes while the client does not read.
    const LIMIT: Duration = Duration::from_millis(500);
    let (late, a_limit_passed) = mpsc::channel();
    let app = Router::new().get("/{bytes}", move |request: &mut Request<'_>| -> Result<Response, Error> {
        let (bytes, late) = (request.param("bytes")?, late.clone());
        Ok(Response::stream("text/plain", move |body| {
            let mut noise = noise();
            loop {
                let piece: Vec<u8> = noise.by_ref().take(bytes).collect();
                match bast::timeout(LIMIT, || body.write_all(&piece)) {
                    Ok(written) => written?,
                    Err(bast::Elapsed) => break,
                }
            }
            let refused = body.write_all(LATER).is_err() && body.flush().is_err();
            late.send(refused).map_err(std::io::Error::other)
        }))
    });
    let server = support::start(support::settings(), app.with(Compress::new().effort(Effort::Fast)));
    for coding in ["gzip", "br", "zstd"] {
        // Pieces that are gathered, and pieces that are sent from the encoder's memory.
        for bytes in [8_000, 100_000] {
            let mut client = server.connect();
            client.send(format!(
                "GET /{bytes} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\nConnection: close\r\n\r\n"
            ));
            let refused =
                a_limit_passed.recv_timeout(DEADLINE).expect("the client does not read, so a limit passes");
            assert!(refused, "{coding} {bytes}: more was written");
            let mut received = Vec::new();
            // The end may be a reset: then what came before it is enough.
            let _ = client.stream.read_to_end(&mut received);
            assert!(received.starts_with(b"HTTP/1.1 200 "), "{coding} {bytes}");
            assert!(!received.ends_with(b"0\r\n\r\n"), "{coding} {bytes}: as if it were whole");
            let is_later = received.windows(LATER.len()).any(|window| window == LATER);
            assert!(!is_later, "{coding} {bytes}: plain among coded bytes");
        }
    }
}

/// Pieces that are gathered, of which the last one was interrupted: what was written next came behind a gap, and the response
/// ended as if it were whole.
#[test]
fn a_limit_that_passes_within_a_write_of_gathered_pieces_breaks_the_response_off() {
    const PIECE: &[u8] = &[b'x'; 3000];
    const LATER: &[u8] = b"<what is written later>";
    let (late, a_limit_passed) = mpsc::channel();
    let app = move |_: &mut Request<'_>| {
        let late = late.clone();
        Response::stream("text/plain", move |body| {
            let endless = || -> std::io::Result<()> {
                loop {
                    body.write_all(PIECE)?;
                }
            };
            assert_eq!(bast::timeout(Duration::from_millis(200), endless).map(drop), Err(bast::Elapsed));
            late.send(body.write_all(LATER).is_err()).map_err(std::io::Error::other)
        })
    };
    let server = support::start(support::settings(), app);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let refused = a_limit_passed.recv_timeout(DEADLINE).expect("the client does not read, so a limit passes");
    assert!(refused, "more was written");
    let mut received = Vec::new();
    // The end may be a reset: then what came before it is enough.
    let _ = client.stream.read_to_end(&mut received);
    assert!(received.starts_with(b"HTTP/1.1 200 "));
    assert!(!received.ends_with(b"0\r\n\r\n"), "as if it were whole");
}

/// What no coding makes smaller.
fn noise() -> impl Iterator<Item = u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    })
    .flatten()
}

/// A directory for a test's sockets, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("bast-regression-{name}-{}", process::id()));
        fs::create_dir(&path).expect("a new directory");
        Directory(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits for a server that hands over at the path, and takes over from it.
fn take_over(path: &Path) -> Server {
    let start = Instant::now();
    loop {
        if let Some(server) = Server::take_over(path).expect("no other fault") {
            return server.settings(support::settings());
        }
        assert!(start.elapsed() < DEADLINE, "nobody hands over at {}", path.display());
        thread::sleep(Duration::from_millis(1));
    }
}

/// One request over a connection of its own.
fn is_served(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("hello"), "{answer}");
}

fn hello(_: &mut Request<'_>) -> &'static str {
    "hello"
}

/// The server before was told to end, and then it was found that this one's own path cannot be used: both were gone.
#[test]
fn a_successor_that_could_not_hand_over_itself_fails_before_the_server_before_ends() {
    let directory = Directory::new("obstacle");
    let (path, obstacle) = (directory.file("socket"), directory.file("file"));
    fs::write(&obstacle, "precious").expect("a file");
    let before = Server::bind("127.0.0.1:0").expect("bind").settings(support::settings());
    let (address, before) = (before.local_addr().expect("it is bound"), before.hand_over_at(&path));
    let before = thread::spawn(move || before.serve(hello));
    let failed = take_over(&path).hand_over_at(&obstacle).serve(hello).expect_err("a file is in the way");
    assert_eq!(failed.kind(), io::ErrorKind::AlreadyExists);
    is_served(address);
    // It still hands over, to one whose path is free.
    let after = take_over(&path).hand_over_at(&path);
    let handle = after.handle();
    let after = thread::spawn(move || after.serve(hello));
    before.join().expect("it does not panic").expect("it drains");
    is_served(address);
    handle.shutdown();
    after.join().expect("it does not panic").expect("it drains");
}

/// The same where the path is taken although the server before said that it has let go, or before it says so.
#[test]
fn a_successor_serves_whatever_becomes_of_the_path_once_the_server_before_was_told_to_end() {
    for says_so in [false, true] {
        let directory = Directory::new(if says_so { "says-so" } else { "silent" });
        let path = directory.file("socket");
        let socket = bast::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = socket.local_addr().expect("it is bound");
        // A server before that hands over, and then does not leave the path.
        let before = bast::net::UnixListener::bind(&path).expect("bind");
        let taking = {
            let path = path.clone();
            thread::spawn(move || take_over(&path).hand_over_at(path))
        };
        let (mut stream, _) = before.accept().expect("a successor");
        stream.send_with_fds(b"bast handover 1 s", &[socket.as_fd()]).expect("send");
        let server = taking.join().expect("it was given all");
        let handle = server.handle();
        let served = thread::spawn(move || server.serve(hello));
        let mut word = [0; 6];
        stream.read_exact(&mut word).expect("the successor serves");
        assert_eq!(&word, b"ready\n");
        if says_so {
            stream.write_all(b"yours\n").expect("send");
        }
        drop(stream);
        // The successor looks whether somebody is still there.
        drop(before.accept().expect("a look"));
        is_served(address);
        drop(before);
        let next = take_over(&path);
        let next_handle = next.handle();
        let next = thread::spawn(move || next.serve(hello));
        served.join().expect("it does not panic").expect("it drains");
        is_served(address);
        drop(handle);
        next_handle.shutdown();
        next.join().expect("it does not panic").expect("it drains");
    }
}

#[test]
fn a_server_does_not_begin_with_settings_that_make_no_sense() {
    let limits = Limits { head_bytes_max: 10, ..Limits::default() };
    let server =
        Server::bind("127.0.0.1:0").expect("a port").settings(Settings { limits, ..Settings::default() });
    let error = server.serve(|_: &mut Request| "x").expect_err("no request could be answered");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("limits.head_bytes_max is 10"), "{error}");
    let settings = Settings { stack_bytes: Some(1 << 50), handle_signals: false, ..Settings::default() };
    let server = Server::bind("127.0.0.1:0").expect("a port").settings(settings);
    let error = server.serve(|_: &mut Request| "x").expect_err("there is no such stack");
    assert!(error.to_string().starts_with("settings: stack_bytes: "), "{error}");
}
