//! The server over real sockets.
#![forbid(unsafe_code)]

mod support;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bast_server::{Error, Handler, Limits, Next, Request, Response, Router, Server, Settings, TimeLimits};

use support::{Client, DEADLINE, Gate, open, run, settings, start};

fn hello(_: &mut Request<'_>) -> &'static str {
    "hello"
}

fn echo(request: &mut Request<'_>) -> Result<Response, Error> {
    Ok(Response::bytes("application/octet-stream", request.read_body()?))
}

#[test]
fn a_connection_serves_many_requests() {
    let server = start(settings(), Router::new().get("/", hello).post("/echo", echo));
    let mut client = server.connect();
    for round in 0..100 {
        let answer = client.get("/");
        assert_eq!((answer.code, &*answer.body), (200, "hello"));
        client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{round:03}"));
        assert_eq!(client.answer().body, format!("{round:03}"));
    }
    assert_eq!(client.get("/nothing").code, 404);
}

#[test]
fn a_large_body_goes_there_and_back() {
    let server = start(settings(), echo);
    let body = "0123456789".repeat(200_000);
    let mut client = server.connect();
    let mut sender =
        Client { stream: client.stream.try_clone().expect("a second handle"), buffer: Vec::new() };
    let sent = body.clone();
    let sending = thread::spawn(move || {
        sender.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", sent.len()));
        sender.send(sent);
    });
    assert!(client.answer().body == body, "another body came back");
    sending.join().expect("the sender does not panic");
}

#[test]
fn a_client_that_has_ended_its_output_gets_its_answers() {
    let server = start(settings(), hello);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.stream.shutdown(Shutdown::Write).expect("shut down");
    assert_eq!((client.answer().code, client.answer().code), (200, 200));
    client.closed();
}

#[test]
fn the_client_can_read_a_413_although_it_is_still_sending() {
    let limits = Limits { body_bytes_max: 1000, ..Limits::default() };
    let server = start(Settings { limits, ..settings() }, echo);
    for _ in 0..20 {
        let mut client = server.connect();
        let body = vec![b'x'; 200_000];
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(body);
        let answer = client.answer();
        assert_eq!(answer.code, 413);
        assert!(answer.head.contains("Connection: close"));
        client.closed();
    }
}

#[test]
fn an_answer_does_not_wait_for_the_next_request_to_be_handled() {
    let gate = Gate::new();
    let server = start(settings(), Router::new().get("/", hello).get("/gate", gate.handler()));
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /gate HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().body, "hello", "sent by the park hook, before the gate is open");
    open(gate.arrival());
    assert_eq!(client.answer().body, "through");
}

#[test]
fn each_piece_of_a_stream_is_sent_before_the_next_is_waited_for() {
    let gate = Gate::new();
    let address = gate.address;
    let server = start(settings(), move |_: &mut Request<'_>| {
        Response::stream("text/event-stream", move |body| {
            for number in 0..3 {
                write!(body, "event {number}")?;
                bast::net::TcpStream::connect(address)?.read_exact(&mut [0])?;
            }
            Ok(())
        })
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for number in 0..3 {
        let event = format!("event {number}");
        while !String::from_utf8_lossy(&client.buffer).contains(&event) {
            assert!(client.receive() > 0, "closed before {event}");
        }
        open(gate.arrival());
    }
    while !client.buffer.ends_with(b"\r\n0\r\n\r\n") {
        assert!(client.receive() > 0, "closed before the last chunk");
    }
}

/// A write that is to be seen at once although its writer goes on computing is followed by a flush: what was flushed is at the client
/// while the writer keeps its core. Each is a chunk of its own.
#[test]
fn what_a_stream_has_flushed_is_seen_while_its_writer_computes() {
    let seen = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&seen);
    let server = start(settings(), move |_: &mut Request<'_>| {
        let seen = Arc::clone(&seen);
        Response::stream("text/plain", move |body| {
            for number in 0..3 {
                write!(body, "piece")?;
                write!(body, " {number}")?;
                body.flush()?;
                let begun = Instant::now();
                // No park: nothing but the flush can have sent it.
                while seen.load(Ordering::SeqCst) <= number && begun.elapsed() < DEADLINE {
                    std::hint::spin_loop();
                }
            }
            Ok(())
        })
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for number in 0..3 {
        let chunk = format!("\r\n0007\r\npiece {number}\r\n");
        while !client.buffer.ends_with(chunk.as_bytes()) {
            assert!(client.receive() > 0, "closed before {chunk:?}");
        }
        told.store(number + 1, Ordering::SeqCst);
    }
    while !client.buffer.ends_with(b"\r\n0\r\n\r\n") {
        assert!(client.receive() > 0, "closed before the last chunk");
    }
}

#[test]
fn connections_are_spread_over_the_capabilities() {
    let server = start(settings(), |_: &mut Request<'_>| bast::capability().index().to_string());
    let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    let mut counts = BTreeMap::new();
    for client in &mut clients {
        *counts.entry(client.get("/").body).or_insert(0) += 1;
    }
    // Five and five, unless a capability got no processor for a time slice while a connection waited for it.
    assert!(counts.len() == 2 && counts.values().all(|&count| count >= 3), "{counts:?}");
}

#[test]
fn files_are_served_below_a_prefix_and_a_missing_root_is_an_error_of_serve() {
    let root = env!("CARGO_MANIFEST_DIR");
    let app = Router::new().get("/static/own", hello).files("/static/", root).get("/{name}", hello);
    let server = start(settings(), app);
    let mut client = server.connect();
    let manifest = client.get("/static/Cargo.toml");
    assert_eq!(manifest.body, std::fs::read_to_string(format!("{root}/Cargo.toml")).expect("a manifest"));
    assert_eq!(client.get("/static/own").body, "hello");
    assert_eq!(client.get("/static/nothing").code, 404);
    client.send("OPTIONS /static/Cargo.toml HTTP/1.1\r\nHost: a\r\n\r\n");
    let options = client.answer();
    assert_eq!(options.code, 204);
    assert!(options.head.contains("Allow: GET, HEAD, OPTIONS\r\n"), "{}", options.head);
    let this = client.get("/static/tests/sockets.rs");
    assert!(
        this.body.contains("larger than what is copied") && this.body.len() > 16 << 10,
        "larger than what is copied"
    );

    let missing = Router::new().get(
        "/a/{b}",
        Router::new()
            .files("/", "/does/not/exist")
            .with(|request: &mut Request, next: Next| next.run(request)),
    );
    let server = Server::bind("127.0.0.1:0").expect("bind").settings(settings());
    assert_eq!(server.serve(missing).expect_err("no root").kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_part_of_a_file_may_lie_beyond_4_gib() {
    const AT: u64 = 5 << 30;
    let root = std::env::temp_dir().join(format!("bast-sockets-{}", std::process::id()));
    std::fs::create_dir(&root).expect("make a directory");
    // Sparse: it takes a page or two.
    let file = std::fs::File::create(root.join("large")).expect("make a file");
    file.write_all_at(b"here", AT).expect("write");
    let server = start(settings(), Router::new().files("/", &root));
    let mut client = server.connect();
    for (range, expected) in [(format!("{AT}-"), "here"), (format!("{}-{}", AT + 1, AT + 2), "er")] {
        client.send(format!("GET /large HTTP/1.1\r\nHost: a\r\nRange: bytes={range}\r\n\r\n"));
        let answer = client.answer();
        assert_eq!((answer.code, &*answer.body), (206, expected));
        assert!(answer.head.contains(&format!("/{}\r\n", AT + 4)), "{}", answer.head);
    }
    // By sendfile, whose offset is as wide.
    client.send(format!("GET /large HTTP/1.1\r\nHost: a\r\nRange: bytes={}-\r\n\r\n", AT - 99_996));
    let answer = client.answer();
    assert_eq!((answer.code, answer.body.len()), (206, 100_000));
    assert!(answer.body.ends_with("\0here"));
    std::fs::remove_dir_all(root).expect("remove the directory");
}

#[test]
fn a_panic_ends_one_request_and_nothing_else() {
    let server = start(settings(), |request: &mut Request<'_>| {
        assert!(request.path() != "/panic", "a panic that the test wants");
        "fine"
    });
    let mut neighbour = server.connect();
    assert_eq!(neighbour.get("/").code, 200);
    let mut client = server.connect();
    assert_eq!(client.get("/panic").code, 500);
    assert_eq!(client.get("/").code, 200);
    assert_eq!(neighbour.get("/").code, 200);
}

#[test]
fn the_workers_that_were_asked_for_survive_settings_before_and_after() {
    let capabilities = |set_up: fn(Server) -> Server| {
        let server = set_up(Server::bind("127.0.0.1:0").expect("bind"));
        let server = run(server, |_: &mut Request<'_>| bast::Handle::current().capabilities().to_string());
        server.connect().get("/").body
    };
    assert_eq!(capabilities(|server| server.settings(Settings { workers: Some(1), ..settings() })), "1");
    assert_eq!(capabilities(|server| server.workers(3).settings(settings())), "3");
    assert_eq!(
        capabilities(|server| server.workers(3).settings(Settings { workers: Some(1), ..settings() })),
        "3"
    );
    assert_eq!(
        capabilities(|server| server.settings(Settings { workers: Some(1), ..settings() }).workers(3)),
        "3"
    );
}

/// Uses about 1 KiB of stack for each level.
fn deep(level: usize) -> u8 {
    let frame = std::hint::black_box([1; 1024]);
    if level == 0 { frame[0] } else { std::hint::black_box(deep(level - 1)) | frame[level % 1024] }
}

#[test]
fn a_handler_has_the_stack_that_the_settings_say_and_a_size_that_does_not_exist_is_an_error() {
    // 1 MiB and more, of which the runtime's own size would overflow.
    let handler = |_: &mut Request<'_>| deep(1024).to_string();
    let server = start(Settings { stack_bytes: Some(8 << 20), ..settings() }, handler);
    assert_eq!(server.connect().get("/").body, "1");

    for stack_bytes in [Some(0), Some(1 << 30)] {
        let server =
            Server::bind("127.0.0.1:0").expect("bind").settings(Settings { stack_bytes, ..settings() });
        assert_eq!(server.serve(hello).expect_err("no such stack").kind(), io::ErrorKind::InvalidInput);
    }
}

/// Limits short enough for a test.
fn short(limit: Duration) -> TimeLimits {
    TimeLimits {
        head: limit,
        keep_alive_idle: limit,
        body: limit,
        write: limit,
        linger: limit,
        ..TimeLimits::default()
    }
}

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn a_slow_head_is_answered_by_408_however_steadily_it_drips() {
    let server = start(Settings { time_limits: short(SHORT), ..settings() }, hello);
    let mut client = server.connect();
    let start = Instant::now();
    let mut dripping = client.stream.try_clone().expect("a second handle");
    let dripper = thread::spawn(move || {
        // Until the server has closed; a byte each 10 ms is far more often than the limit asks for.
        while dripping.write_all(b"X").is_ok() && start.elapsed() < DEADLINE {
            thread::sleep(Duration::from_millis(10));
        }
    });
    assert_eq!(client.answer().code, 408);
    assert!(start.elapsed() >= SHORT, "not before the limit: {:?}", start.elapsed());
    drop(client);
    dripper.join().expect("the dripper does not panic");
}

#[test]
fn an_idle_connection_is_closed_without_a_word_and_a_slow_handler_is_not() {
    let gate = Gate::new();
    let server = start(
        Settings { time_limits: short(SHORT), ..settings() },
        Router::new().get("/", hello).get("/gate", gate.handler()),
    );
    let mut working = server.connect();
    working.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n");
    let visitor = gate.arrival();
    let mut fresh = server.connect();
    let mut used = server.connect();
    assert_eq!(used.get("/").code, 200);
    let start = Instant::now();
    used.closed();
    assert!(start.elapsed() >= SHORT, "not before the limit: {:?}", start.elapsed());
    fresh.closed();
    // By now the handler has worked for longer than any limit.
    open(visitor);
    assert_eq!(working.answer().body, "through");
}

#[test]
fn a_slow_body_is_a_408_for_the_handler_that_reads_it() {
    let server = start(Settings { time_limits: short(SHORT), ..settings() }, echo);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(client.answer().code, 408);
    client.closed();
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let gate = Gate::new();
    let address = gate.address;
    let server = start(Settings { time_limits: short(SHORT), ..settings() }, move |_: &mut Request<'_>| {
        Response::stream("text/plain", move |body| {
            let piece = [b'x'; 4096];
            while body.write_all(&piece).is_ok() {}
            // Tells the test that writing has failed.
            bast::net::TcpStream::connect(address).map(drop)
        })
    });
    let mut client = server.connect();
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.arrival();
    assert!(start.elapsed() >= SHORT, "not before the limit: {:?}", start.elapsed());
    // Twice the limit is promised; a busy machine may add to it, but not this much.
    assert!(start.elapsed() < SHORT * 10, "the room that the kernel finds was taken for progress");
}

#[test]
fn a_drain_answers_what_was_received_and_closes_the_rest_at_once() {
    let gate = Gate::new();
    let server = start(settings(), Router::new().get("/", hello).get("/gate", gate.handler()));
    let mut working = server.connect();
    working.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let visitor = gate.arrival();
    let mut idle = server.connect();
    assert_eq!(idle.get("/").code, 200);
    let mut silent = server.connect();
    let mut partial = server.connect();
    partial.send("GET / HTTP/1.1\r\nHo");
    server.handle.shutdown();
    idle.closed();
    silent.closed();
    partial.closed();
    open(visitor);
    let (first, last) = (working.answer(), working.answer());
    assert_eq!((&*first.body, &*last.body), ("through", "hello"));
    assert!(!first.head.contains("Connection: close"), "{}", first.head);
    assert!(last.head.contains("Connection: close"), "{}", last.head);
    working.closed();
    let address = server.address;
    drop(working);
    server.ended().expect("a graceful end");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn a_drain_refuses_new_clients_while_it_waits_for_the_last_request() {
    let gate = Gate::new();
    let server = start(settings(), gate.handler());
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let visitor = gate.arrival();
    server.handle.shutdown();
    let start = Instant::now();
    let refusal = loop {
        match TcpStream::connect_timeout(&server.address, DEADLINE) {
            // The drain has not begun yet.
            Ok(_) => assert!(start.elapsed() < DEADLINE, "new clients are let in"),
            // The listener was closed in the middle of this handshake.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => break error,
        }
    };
    assert_eq!(refusal.kind(), io::ErrorKind::ConnectionRefused);
    open(visitor);
    assert_eq!(client.answer().body, "through");
    drop(client);
    server.ended().expect("a clean end");
}

#[test]
fn a_drain_leaves_a_socket_that_it_was_given_to_whoever_listens_too() {
    let successor = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = successor.local_addr().expect("an address");
    let given = successor.try_clone().expect("a duplicate").try_into().expect("a listener");
    let server = Server::from_listener(given).expect("a server").settings(settings());
    server.handle().shutdown();
    thread::spawn(move || server.serve(hello)).join().expect("serve does not panic").expect("a clean end");
    let connected = TcpStream::connect_timeout(&address, DEADLINE).expect("the socket still listens");
    // The duplicate shares the non-blocking mode, and the connection is there.
    let (_, peer) = successor.accept().expect("a connection");
    assert_eq!(peer, connected.local_addr().expect("an address"));
}

#[test]
fn a_second_shutdown_does_not_wait() {
    let gate = Gate::new();
    let server = start(settings(), gate.handler());
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let _visitor = gate.arrival();
    server.handle.shutdown();
    server.handle.shutdown();
    server.ended().expect("an end");
    assert_eq!(client.answer().code, 503, "its handler was killed");
    client.closed();
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let gate = Gate::new();
    let server = start(Settings { drain_deadline: SHORT, ..settings() }, gate.handler());
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let _visitor = gate.arrival();
    let start = Instant::now();
    server.handle.shutdown();
    server.ended().expect("an end");
    assert!(start.elapsed() >= SHORT);
    assert_eq!(client.answer().code, 503, "its handler was killed");
    client.closed();
}

#[test]
fn under_load_a_drain_loses_no_request_that_was_sent() {
    let server = start(settings(), hello);
    let address = server.address;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = server.connect();
            thread::spawn(move || {
                let mut answered = 0u32;
                loop {
                    if client.stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_err() {
                        return (answered, false);
                    }
                    let mut byte = [0; 1];
                    match client.stream.read(&mut byte) {
                        // Closed at rest, while the request was on its way: the client may send it again elsewhere.
                        Ok(0) | Err(_) => return (answered, false),
                        Ok(_) => client.buffer.extend_from_slice(&byte),
                    }
                    let answer = client.answer();
                    assert_eq!(answer.body, "hello", "never a part of an answer");
                    answered += 1;
                    if answer.head.contains("Connection: close") {
                        return (answered, true);
                    }
                }
            })
        })
        .collect();
    let mut warm = server.connect();
    (0..50).for_each(|_| assert_eq!(warm.get("/").code, 200));
    drop(warm);
    server.handle.shutdown();
    server.ended().expect("a graceful end");
    for client in clients {
        let (answered, _) = client.join().expect("no client met a broken answer");
        assert!(answered > 0);
    }
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_server_runs_within_a_runtime_that_is_there_already() {
    let body = bast::run(|| {
        let server = Server::bind("127.0.0.1:0")?.settings(settings());
        let (address, handle) = (server.local_addr()?, server.handle());
        let serving = bast::spawn(move || server.serve(hello));
        let mut stream = bast::net::TcpStream::connect(address)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        handle.shutdown();
        serving.join().expect("serve does not panic")?;
        Ok::<_, io::Error>(answer)
    });
    assert!(body.expect("io").ends_with("hello"));
}
