//! How a server ends: a test for each way in which others were found to hang, or to cut off what was under way. Clients are
//! plain std streams, each with a deadline.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bast_server::{
    Error, Handler, ProxyProtocol, Request, Response, Router, Server, ServerHandle, Settings, TimeLimits,
};

/// No step takes longer unless something hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// Long before any limit of time: what ends within it was ended by the drain.
const AT_ONCE: Duration = Duration::from_secs(4);

struct Running {
    address: SocketAddr,
    handle: ServerHandle,
    served: JoinHandle<io::Result<()>>,
}

fn settings() -> Settings {
    Settings { workers: Some(2), handle_signals: false, ..Settings::default() }
}

fn start(settings: Settings, handler: impl Handler) -> Running {
    let server = Server::bind("127.0.0.1:0").expect("bind").settings(settings);
    let (address, handle) = (server.local_addr().expect("an address"), server.handle());
    Running { address, handle, served: thread::spawn(move || server.serve(handler)) }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.set_write_timeout(Some(DEADLINE)).expect("a deadline");
        stream
    }

    /// Asks the server to end, and waits until it drains: new clients are refused from then on.
    fn drain(&self) {
        self.handle.shutdown();
        let start = Instant::now();
        while TcpStream::connect(self.address).is_ok() {
            assert!(start.elapsed() < DEADLINE, "the drain does not begin");
        }
    }

    /// Waits until `serve` has returned, and says how long that took.
    fn ended(self) -> Duration {
        let start = Instant::now();
        while !self.served.is_finished() {
            assert!(start.elapsed() < DEADLINE, "serve does not return");
            thread::sleep(Duration::from_millis(1));
        }
        self.served.join().expect("serve does not panic").expect("a clean end");
        start.elapsed()
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn hello(_: &mut Request<'_>) -> &'static str {
    "hello"
}

/// What a client that sends this reads until the end.
fn rest(mut stream: &TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an end, and no reset");
    text
}

/// Reads one response with a short body.
fn answer(mut stream: &TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0; 1];
    while !text.ends_with(b"hello") {
        assert_eq!(stream.read(&mut byte).expect("an answer"), 1, "closed within an answer");
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("text")
}

/// Where handlers wait for a test: a connection on which a byte is sent lets one through.
struct Gate(TcpListener);

impl Gate {
    fn new() -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a gate");
        listener.set_nonblocking(true).expect("a listener to ask");
        Gate(listener)
    }

    /// What a handler calls to wait.
    fn pass(&self) -> impl Fn() -> io::Result<()> + Send + Sync + Clone + use<> {
        let address = self.0.local_addr().expect("an address");
        move || bast::net::TcpStream::connect(address)?.read_exact(&mut [0])
    }

    /// Waits until somebody is there.
    fn arrival(&self) -> TcpStream {
        let start = Instant::now();
        loop {
            match self.0.accept() {
                Ok((visitor, _)) => return visitor,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
            assert!(start.elapsed() < DEADLINE, "nobody comes to the gate");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn open(mut visitor: TcpStream) {
    visitor.write_all(b"!").expect("open the gate");
}

#[test]
fn a_server_that_was_told_to_end_before_it_serves_ends() {
    let server = Server::bind("127.0.0.1:0").expect("bind").settings(settings());
    server.handle().shutdown();
    let served = thread::spawn(move || server.serve(hello));
    let start = Instant::now();
    while !served.is_finished() {
        assert!(start.elapsed() < DEADLINE, "serve does not return");
        thread::sleep(Duration::from_millis(1));
    }
    served.join().expect("serve does not panic").expect("a clean end");
}

/// Whoever has not sent a whole head is closed at once, whatever there is of it: nothing, or some of it, after another
/// request or before any.
#[test]
fn connections_without_a_request_do_not_hold_a_drain_up() {
    for sent in [&b""[..], b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r"] {
        for served_before in [false, true] {
            let server = start(settings(), hello);
            let mut stream = server.connect();
            if served_before {
                stream.write_all(GET).expect("send");
                answer(&stream);
            }
            stream.write_all(sent).expect("send");
            // It is accepted before one that is answered later.
            let mut other = server.connect();
            other.write_all(GET).expect("send");
            answer(&other);
            server.handle.shutdown();
            assert_eq!(rest(&stream), "", "{sent:?}, served before: {served_before}");
            drop(stream);
            drop(other);
            let took = server.ended();
            assert!(took < AT_ONCE, "{took:?} for {sent:?}, served before: {served_before}");
        }
    }
}

/// A client that keeps its side open does not hold the drain up longer than a lingering close.
#[test]
fn a_client_that_does_not_close_does_not_hold_a_drain_up_for_ever() {
    let gate = Gate::new();
    let pass = gate.pass();
    let time_limits = TimeLimits { linger: Duration::from_millis(200), ..TimeLimits::default() };
    let settings = Settings { time_limits, ..settings() };
    let server = start(settings, move |_: &mut Request<'_>| pass().map(|()| "hello"));
    let mut stream = server.connect();
    stream.write_all(GET).expect("send");
    let visitor = gate.arrival();
    server.drain();
    open(visitor);
    assert!(rest(&stream).contains("Connection: close\r\n"));
    // `stream` is still open here.
    assert!(server.ended() < AT_ONCE);
    drop(stream);
}

#[test]
fn a_body_that_is_on_its_way_is_received_and_answered() {
    let gate = Gate::new();
    let pass = gate.pass();
    let server = start(settings(), move |request: &mut Request<'_>| -> Result<Response, Error> {
        pass()?;
        Ok(Response::bytes("text/plain", request.read_body()?))
    });
    let mut stream = server.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst").expect("send");
    let visitor = gate.arrival();
    server.drain();
    open(visitor);
    stream.write_all(b"-half").expect("send");
    let text = rest(&stream);
    assert!(text.contains("Connection: close\r\n") && text.ends_with("first-half"), "{text}");
    drop(stream);
    server.ended();
}

#[test]
fn a_stream_that_was_begun_is_finished() {
    let gate = Gate::new();
    let pass = gate.pass();
    let server = start(settings(), move |_: &mut Request<'_>| {
        let pass = pass.clone();
        Response::stream("text/plain", move |body| {
            body.write_all(b"begun")?;
            pass()?;
            body.write_all(b"finished")
        })
    });
    let mut stream = server.connect();
    stream.write_all(GET).expect("send");
    let visitor = gate.arrival();
    server.drain();
    open(visitor);
    // The head was sent before the drain began and could not say so; the connection is closed all the same.
    let text = rest(&stream);
    assert!(text.contains("begun") && text.ends_with("finished\r\n0\r\n\r\n"), "{text}");
    drop(stream);
    server.ended();
}

#[test]
fn a_stream_without_an_end_is_cut_at_the_deadline_and_not_before() {
    const LIMIT: Duration = Duration::from_millis(300);
    let server = start(Settings { drain_deadline: LIMIT, ..settings() }, |_: &mut Request<'_>| {
        Response::stream("text/plain", |body| {
            loop {
                body.write_all(b"tick")?;
                body.flush()?;
                bast::sleep(Duration::from_millis(5));
            }
        })
    });
    let mut stream = server.connect();
    stream.write_all(GET).expect("send");
    assert!(stream.read(&mut [0; 16]).expect("a beginning") > 0);
    let start = Instant::now();
    server.handle.shutdown();
    let mut received = Vec::new();
    // The end may be a reset: what was in flight is lost with it.
    let _ = stream.read_to_end(&mut received);
    assert!(start.elapsed() >= LIMIT, "{:?}", start.elapsed());
    assert!(!received.ends_with(b"0\r\n\r\n"), "the client can tell that it is not whole");
    server.ended();
}

#[test]
fn a_large_response_to_a_slow_reader_arrives_whole() {
    const BYTES: usize = 20 << 20;
    let server = start(settings(), |_: &mut Request<'_>| vec![b'x'; BYTES]);
    let mut stream = server.connect();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("send");
    let mut received = vec![0; 1 << 10];
    stream.read_exact(&mut received).expect("a beginning");
    server.handle.shutdown();
    let head = received.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let mut all = received.len() - head;
    let mut piece = vec![0; 1 << 20];
    loop {
        match stream.read(&mut piece).expect("an end, and no reset") {
            0 => break,
            count => all += count,
        }
    }
    assert_eq!(all, BYTES);
    drop(stream);
    server.ended();
}

#[test]
fn who_has_left_http_is_told_and_says_farewell() {
    let server = start(settings(), |_: &mut Request<'_>| {
        Response::upgrade("echo", |mut stream| {
            let mut piece = [0; 64];
            loop {
                match stream.read(&mut piece) {
                    Ok(0) => return,
                    Ok(count) => stream.write_all(&piece[..count]).expect("send"),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                        assert!(stream.is_draining());
                        return stream.write_all(b"farewell").expect("send");
                    }
                }
            }
        })
    });
    let mut stream = server.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello")
        .expect("send");
    assert!(answer(&stream).starts_with("HTTP/1.1 101"));
    server.handle.shutdown();
    assert_eq!(rest(&stream), "farewell");
    drop(stream);
    assert!(server.ended() < AT_ONCE);
}

#[test]
fn a_client_that_has_only_ended_its_output_gets_its_answer_in_a_drain() {
    let gate = Gate::new();
    let pass = gate.pass();
    let server = start(settings(), move |_: &mut Request<'_>| pass().map(|()| "hello"));
    let mut stream = server.connect();
    stream.write_all(GET).expect("send");
    stream.shutdown(Shutdown::Write).expect("end the output");
    let visitor = gate.arrival();
    server.drain();
    open(visitor);
    assert!(rest(&stream).ends_with("hello"));
    drop(stream);
    server.ended();
}

#[test]
fn a_handler_that_never_ends_is_killed_by_the_second_word_and_its_locals_are_dropped() {
    struct Dropped(std::sync::mpsc::Sender<()>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (dropped, receiver) = std::sync::mpsc::channel();
    let dropped = std::sync::Mutex::new(dropped);
    let gate = Gate::new();
    let pass = gate.pass();
    let app = Router::new().get("/", move |_: &mut Request<'_>| -> io::Result<&str> {
        let _guard = Dropped(dropped.lock().expect("no panic").clone());
        pass()?;
        Ok("never")
    });
    let server = start(settings(), app);
    let mut stream = server.connect();
    stream.write_all(GET).expect("send");
    let _visitor = gate.arrival();
    server.handle.shutdown();
    assert!(receiver.try_recv().is_err(), "one word is a request");
    server.handle.shutdown();
    receiver.recv_timeout(DEADLINE).expect("the handler unwinds");
    let text = rest(&stream);
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("Connection: close\r\n"), "{text:?}");
    server.ended();
}

/// A refused client that stays, and one that is answered in the drain, have their answers, and the server need not wait for all of the
/// time that a lingering close may take otherwise.
#[test]
fn a_drain_is_not_held_up_by_clients_that_have_their_last_answer() {
    let gate = Gate::new();
    let pass = gate.pass();
    let server = start(settings(), move |_: &mut Request<'_>| pass().map(|()| "hello"));
    let mut refused = server.connect();
    refused.write_all(b"nonsense\r\n\r\n").expect("send");
    assert!(rest(&refused).starts_with("HTTP/1.1 400 "));
    let mut stream = server.connect();
    stream.write_all(GET).expect("send");
    let visitor = gate.arrival();
    server.drain();
    open(visitor);
    assert!(rest(&stream).contains("Connection: close\r\n"));
    let took = server.ended();
    assert!(took < AT_ONCE, "{took:?}");
    drop((refused, stream));
}

#[test]
fn answers_that_were_given_before_a_kill_are_sent_and_the_killed_request_is_refused() {
    let (computing, computes) = std::sync::mpsc::channel();
    let computing = std::sync::Mutex::new(computing);
    let app = Router::new().get("/", hello).get("/busy", move |_: &mut Request<'_>| -> &str {
        computing.lock().expect("no panic").send(()).expect("the test waits");
        loop {
            bast::yield_point();
        }
    });
    let server = start(settings(), app);
    let mut stream = server.connect();
    stream.write_all(&[GET, b"GET /busy HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).expect("send");
    computes.recv_timeout(DEADLINE).expect("the second request is handled");
    server.handle.shutdown();
    server.handle.shutdown();
    let text = rest(&stream);
    let (first, second) = text.split_once("hello").unwrap_or_else(|| panic!("no first answer: {text:?}"));
    assert!(first.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(second.starts_with("HTTP/1.1 503 ") && second.ends_with("\r\n\r\n"), "{text}");
    server.ended();
}

/// A core that a handler keeps hears of no drain. The others do, and so does who asked for the end.
#[test]
fn a_handler_that_keeps_its_core_does_not_keep_the_second_word_from_ending_the_server() {
    static OVER: AtomicBool = AtomicBool::new(false);
    let (computing, computes) = std::sync::mpsc::channel();
    let computing = std::sync::Mutex::new(computing);
    let server = Server::bind("127.0.0.1:0").expect("bind").settings(settings());
    let (address, handle) = (server.local_addr().expect("an address"), server.handle());
    let runtime = bast::Runtime::builder().capabilities(2).build().expect("a runtime");
    let (ended, has_ended) = std::sync::mpsc::channel();
    let on_the_first = bast::Builder::new().on(runtime.handle().capability(0));
    let serving = runtime.handle().spawn_with(on_the_first, move || {
        let served = server.serve(move |_: &mut Request<'_>| {
            if bast::capability().index() == 1 {
                computing.lock().expect("no panic").send(()).expect("the test waits");
                while !OVER.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
            "hello"
        });
        ended.send(served).expect("the test waits");
    });
    drop(serving.expect("a thread"));
    let start = Instant::now();
    let mut clients = Vec::new();
    while computes.try_recv().is_err() {
        assert!(start.elapsed() < DEADLINE, "no connection comes to the second core");
        let mut stream = TcpStream::connect(address).expect("connect");
        stream.write_all(GET).expect("send");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a deadline");
        // An answer, or none from that core.
        let _ = stream.read(&mut [0; 512]);
        clients.push(stream);
    }
    handle.shutdown();
    handle.shutdown();
    let served = has_ended.recv_timeout(DEADLINE);
    OVER.store(true, Ordering::Relaxed);
    served.expect("the second word ends the server").expect("a clean end");
    drop(clients);
}

/// Connections that begin when the drain has begun: nobody waits for what proxies say of them.
#[test]
fn a_proxy_that_has_said_nothing_does_not_hold_a_drain_up() {
    let proxy_protocol = Some(ProxyProtocol::from_proxies(["127.0.0.0/8"]).expect("a range"));
    let server =
        Server::bind("127.0.0.1:0").expect("bind").settings(Settings { proxy_protocol, ..settings() });
    let (address, handle) = (server.local_addr().expect("an address"), server.handle());
    // They wait in the kernel's queue, and are accepted by the drain.
    let silent: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(address).expect("connect")).collect();
    handle.shutdown();
    let server = Running { address, handle, served: thread::spawn(move || server.serve(hello)) };
    let took = server.ended();
    assert!(took < AT_ONCE, "{took:?}");
    drop(silent);
}
