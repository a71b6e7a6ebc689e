//! Connections that leave HTTP, over real sockets.
#![forbid(unsafe_code)]

mod support;

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bast_server::{Metrics, Request, Response, Router, Settings, TimeLimits, Upgraded};

use support::{Client, DEADLINE, settings, start};

const ASK: &str =
    "GET /lines HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: lines\r\n\r\n";

/// Sends each line back with its number, until the client ends or says `bye`.
fn lines(stream: Upgraded) {
    let (reader, mut writer) = stream.split();
    for (number, line) in BufReader::new(reader).lines().enumerate() {
        let line = line.expect("a line");
        writeln!(writer, "{number} {line}").expect("an answer");
        if line == "bye" {
            return;
        }
    }
}

fn app() -> Router {
    Router::new()
        .get("/", |_: &mut Request<'_>| "hello")
        .get("/lines", |_: &mut Request<'_>| Response::upgrade("lines", lines))
}

/// The 101, with what follows left in the client's buffer.
fn switched(client: &mut Client) {
    let answer = client.answer();
    assert_eq!(answer.code, 101, "{answer:?}");
    assert!(answer.head.contains("Connection: upgrade\r\nUpgrade: lines\r\n"), "{answer:?}");
    assert!(!answer.head.contains("Content-Length"), "{answer:?}");
}

/// The next line of the other protocol.
fn line(client: &mut Client) -> String {
    loop {
        if let Some(end) = client.buffer.iter().position(|&byte| byte == b'\n') {
            return String::from_utf8(client.buffer.drain(..=end).collect()).expect("text");
        }
        assert!(client.receive() > 0, "closed within a line");
    }
}

#[test]
fn a_line_protocol_after_an_upgrade_begins_with_what_was_pipelined() {
    let server = start(settings(), app());
    let mut client = server.connect();
    assert_eq!(client.get("/").body, "hello");
    client.send(format!("{ASK}one\ntwo\nthr"));
    switched(&mut client);
    assert_eq!((line(&mut client), line(&mut client)), ("0 one\n".into(), "1 two\n".into()));
    client.send("ee\n");
    assert_eq!(line(&mut client), "2 three\n");
    client.send("bye\n");
    assert_eq!(line(&mut client), "3 bye\n");
    client.closed();
    assert_eq!(server.connect().get("/").body, "hello", "the server lives on");
}

#[test]
fn an_answer_held_back_is_sent_before_the_101() {
    let server = start(settings(), app());
    let mut client = server.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{ASK}bye\n"));
    assert_eq!(client.answer().body, "hello");
    switched(&mut client);
    assert_eq!(line(&mut client), "0 bye\n");
}

#[test]
fn both_halves_are_used_by_two_threads_at_once() {
    const BYTES: usize = 8 << 20;
    let sends_and_receives = |stream: Upgraded| {
        let (mut reader, mut writer) = stream.split();
        let sending = bast::spawn_local(move || writer.write_all(&vec![b's'; BYTES]));
        let mut bytes = Vec::new();
        let count = reader.read_to_end(&mut bytes).expect("all of it");
        assert_eq!(count, BYTES);
        sending.join().expect("no panic").expect("a client that reads");
    };
    let server = start(settings(), move |_: &mut Request<'_>| Response::upgrade("lines", sends_and_receives));
    let mut client = server.connect();
    client.send(ASK);
    switched(&mut client);
    // The client reads nothing before it has sent all: one direction must not wait for the other.
    client.send(vec![b'c'; BYTES]);
    client.stream.shutdown(Shutdown::Write).expect("the end of the output");
    let mut bytes = Vec::new();
    client.stream.read_to_end(&mut bytes).expect("all of it");
    assert_eq!(client.buffer.len() + bytes.len(), BYTES);
}

#[test]
fn a_half_that_outlives_the_function_fails_and_the_client_sees_the_end() {
    let (said, what) = mpsc::channel();
    let said = std::sync::Mutex::new(said);
    let server = start(settings(), move |_: &mut Request<'_>| {
        let said = said.lock().expect("no panic").clone();
        Response::upgrade("lines", move |stream| {
            let (mut reader, _writer) = stream.split();
            bast::spawn_local(move || {
                let first = reader.read(&mut [0; 8]);
                let second = reader.read(&mut [0; 8]);
                said.send((first.map_err(|e| e.kind()), second.map_err(|e| e.kind()))).expect("a test");
            });
            bast::yield_now();
        })
    });
    let mut client = server.connect();
    client.send(ASK);
    switched(&mut client);
    client.closed();
    let (first, second) = what.recv_timeout(DEADLINE).expect("the reader was woken");
    assert!(first == Ok(0) || first == Err(ErrorKind::NotConnected), "{first:?}");
    assert_eq!(second, Err(ErrorKind::NotConnected));
}

/// The server is told to drain while the upgraded connection waits for its client.
#[test]
fn a_drain_tells_the_reader_once_and_leaves_time_for_a_farewell() {
    let server = start(settings(), |_: &mut Request<'_>| {
        Response::upgrade("lines", |mut stream: Upgraded| {
            assert!(!stream.is_draining());
            writeln!(stream, "ready").expect("a client");
            let error = stream.read(&mut [0; 8]).expect_err("a drain");
            assert_eq!((error.kind(), stream.is_draining()), (ErrorKind::TimedOut, true));
            writeln!(stream, "farewell").expect("a client");
            let mut bytes = [0; 8];
            let count = stream.read(&mut bytes).expect("an answer to the farewell");
            stream.write_all(&bytes[..count]).expect("a client");
        })
    });
    let mut client = server.connect();
    client.send(ASK);
    switched(&mut client);
    assert_eq!(line(&mut client), "ready\n");
    server.handle.shutdown();
    assert_eq!(line(&mut client), "farewell\n");
    client.send("you too\n");
    assert_eq!(line(&mut client), "you too\n");
    client.closed();
    drop(client);
    server.ended().expect("a graceful end");
}

#[test]
fn a_drain_reaches_the_reader_while_another_thread_writes() {
    let server = start(settings(), |_: &mut Request<'_>| {
        Response::upgrade("lines", |stream: Upgraded| {
            let (mut reader, mut writer) = stream.split();
            // Larger than all socket buffers: it writes until the client reads, after the drain.
            let writing = bast::spawn_local(move || writer.write_all(&vec![b'w'; 16 << 20]));
            let error = reader.read(&mut [0; 8]).expect_err("a drain");
            assert_eq!((error.kind(), reader.is_draining()), (ErrorKind::TimedOut, true));
            writing.join().expect("no panic").expect("a client that reads");
        })
    });
    let mut client = server.connect();
    client.send(ASK);
    switched(&mut client);
    assert!(!client.buffer.is_empty() || client.receive() > 0, "it writes");
    server.handle.shutdown();
    let mut bytes = Vec::new();
    client.stream.read_to_end(&mut bytes).expect("all of it");
    assert_eq!(client.buffer.len() + bytes.len(), 16 << 20);
    drop(client);
    server.ended().expect("a graceful end");
}

/// Such a writer is in its phase again, which takes an expiry back, before the reader that was woken has run.
#[test]
fn a_drain_reaches_the_reader_beside_a_writer_that_never_pauses() {
    for pause in [None, Some(Duration::from_millis(10))] {
        let settings = Settings { workers: Some(1), drain_deadline: DEADLINE * 2, ..settings() };
        let server = start(settings, |_: &mut Request<'_>| {
            Response::upgrade("lines", |stream: Upgraded| {
                let (mut reader, mut writer) = stream.split();
                bast::spawn_local(move || while writer.write_all(&[b'w'; 1 << 16]).is_ok() {});
                let error = reader.read(&mut [0; 8]).expect_err("a drain");
                assert_eq!((error.kind(), reader.is_draining()), (ErrorKind::TimedOut, true));
            })
        });
        let mut client = server.connect();
        client.send(ASK);
        switched(&mut client);
        assert!(!client.buffer.is_empty() || client.receive() > 0, "it writes");
        let reading = std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(1..) = client.stream.read(&mut bytes) {
                pause.into_iter().for_each(std::thread::sleep);
            }
        });
        server.handle.shutdown();
        server.ended().expect("a graceful end");
        reading.join().expect("no panic");
    }
}

/// A half that another thread has left its phase after the connection had been counted out.
#[test]
fn a_half_that_outlives_the_connection_does_not_move_the_gauges() {
    let metrics = Metrics::new();
    let (said, ended) = mpsc::channel();
    let said = std::sync::Mutex::new(said);
    let app = Router::new().get("/metrics", metrics.handler()).get("/lines", move |_: &mut Request<'_>| {
        let said = said.lock().expect("no panic").clone();
        Response::upgrade("lines", move |stream: Upgraded| {
            let (_reader, mut writer) = stream.split();
            bast::spawn_local(move || {
                while writer.write_all(&[b'w'; 1 << 16]).is_ok() {}
                said.send(()).expect("a test");
            });
            // It waits for the client then.
            bast::sleep(Duration::from_millis(50));
        })
    });
    let server = start(Settings { metrics: Some(metrics), workers: Some(1), ..settings() }, app);
    for _ in 0..3 {
        let mut client = server.connect();
        client.send(ASK);
        switched(&mut client);
        ended.recv_timeout(DEADLINE).expect("the writer was woken");
    }
    let mut client = server.connect();
    let start = Instant::now();
    loop {
        let page = client.get("/metrics").body;
        let mut states: Vec<_> = page.lines().filter(|line| line.contains("{state=")).collect();
        assert!(states.len() > 5, "{page}");
        states.retain(|line| !line.ends_with(" 0"));
        match &*states {
            [only] if only.contains("handler") && only.ends_with(" 1") => return,
            _ => assert!(start.elapsed() < DEADLINE, "{states:?}"),
        }
    }
}

#[test]
fn who_did_not_offer_the_protocol_gets_a_426_with_the_fields_of_the_response() {
    let server = start(settings(), |_: &mut Request<'_>| {
        Response::upgrade("lines", lines).with_header("X-Request-Id", "7")
    });
    let answer = server.connect().get("/");
    assert_eq!((answer.code, &*answer.body), (426, "426 Upgrade Required: this speaks \"lines\"\n"));
    for line in ["X-Request-Id: 7", "Connection: upgrade", "Upgrade: lines"] {
        assert_eq!(answer.head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{}", answer.head);
    }
}

#[test]
fn a_second_shutdown_kills_an_upgraded_connection() {
    let server = start(settings(), |_: &mut Request<'_>| {
        Response::upgrade("lines", |mut stream: Upgraded| {
            writeln!(stream, "ready").expect("a client");
            loop {
                // It does not care about the drain.
                let _ = stream.read(&mut [0; 8]);
            }
        })
    });
    let mut client = server.connect();
    client.send(ASK);
    switched(&mut client);
    assert_eq!(line(&mut client), "ready\n");
    server.handle.shutdown();
    server.handle.shutdown();
    client.closed();
    server.ended().expect("killed");
}

#[test]
fn a_client_that_is_gone_ends_the_stream() {
    let (said, what) = mpsc::channel();
    let said = std::sync::Mutex::new(said);
    let server = start(settings(), move |_: &mut Request<'_>| {
        let said = said.lock().expect("no panic").clone();
        Response::upgrade("lines", move |mut stream: Upgraded| {
            let read = stream.read(&mut [0; 8]).map_err(|error| error.kind());
            said.send(read).expect("a test");
        })
    });
    let mut client = server.connect();
    client.send(ASK);
    switched(&mut client);
    drop(client);
    assert_eq!(what.recv_timeout(DEADLINE), Ok(Ok(0)));
}

#[test]
fn reading_has_no_limit_and_writing_has() {
    let limit = Duration::from_millis(50);
    let limits = TimeLimits {
        keep_alive_idle: limit,
        head: limit,
        body: limit,
        write: limit,
        linger: limit,
        ..TimeLimits::default()
    };
    let (said, what) = mpsc::channel();
    let said = std::sync::Mutex::new(said);
    let server = start(Settings { time_limits: limits, ..settings() }, move |_: &mut Request<'_>| {
        let said = said.lock().expect("no panic").clone();
        Response::upgrade("lines", move |mut stream: Upgraded| {
            let waited = bast::timeout(limit * 6, || stream.read(&mut [0; 8]).map_err(|error| error.kind()));
            assert_eq!(waited, Err(bast::Elapsed), "reads wait as long as they like");
            let failed = loop {
                if let Err(error) = stream.write_all(&[0; 1 << 16]) {
                    break error.kind();
                }
            };
            let after = stream.write(b"x").map_err(|error| error.kind());
            said.send((failed, after)).expect("a test");
        })
    });
    let mut client = server.connect();
    client.send(ASK);
    switched(&mut client);
    let seen = what.recv_timeout(DEADLINE).expect("the limit of writing");
    assert_eq!(seen, (ErrorKind::TimedOut, Err(ErrorKind::NotConnected)));
}

#[test]
fn a_panic_of_another_protocol_ends_that_connection_only() {
    let server = start(
        settings(),
        app().get("/panic", |_: &mut Request<'_>| {
            Response::upgrade("lines", |_| panic!("a panic that the test wants"))
        }),
    );
    let mut client = server.connect();
    client.send(ASK.replace("/lines", "/panic"));
    switched(&mut client);
    client.closed();
    assert_eq!(server.connect().get("/").body, "hello");
}

#[test]
fn an_upgrade_that_nobody_reads_is_no_leak() -> io::Result<()> {
    let server = start(settings(), app());
    for _ in 0..50 {
        let mut client = server.connect();
        client.send(ASK);
        switched(&mut client);
    }
    // All have gone: the drain does not wait.
    server.handle.shutdown();
    server.ended()
}
