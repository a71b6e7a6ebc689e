//! The client over real sockets: against servers of this crate, and against scripted ones that misbehave. Each test has
//! a deadline; scripted servers are std sockets on an OS thread.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bast_server::client::{Client, Error, Limits, TimeLimits};
use bast_server::{Handler, Method, Request, Response, Router, Status};
use support::DEADLINE;

mod support;

/// Longer than anything takes here that is not to take for ever.
const LONG: Duration = Duration::from_secs(15);

/// Runs a test on a green thread, with a deadline.
fn green(test: impl FnOnce() + Send + 'static) {
    within(|| bast::Runtime::builder().capabilities(2).build().expect("a runtime").run(test));
}

/// Runs a test on a plain OS thread, with a deadline.
fn within(test: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let running = thread::spawn(move || {
        test();
        let _ = tell.send(());
    });
    if told.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("the test takes too long");
    }
    if let Err(panic) = running.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A server of ours, on an OS thread of its own, and where it is.
struct Running {
    url: String,
    _server: support::Running,
}

fn start(handler: impl Handler) -> Running {
    let server = support::start(support::settings(), handler);
    Running { url: format!("http://{}", server.address), _server: server }
}

/// The server's side of one connection of a script.
struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Peer {
    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("say");
    }

    /// The head of the next request, without its last line.
    fn head(&mut self) -> String {
        self.until(b"\r\n\r\n")
    }

    /// What comes up to and without this.
    fn until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|window| window == end) {
                let text: Vec<u8> = self.received.drain(..at + end.len()).collect();
                return String::from_utf8(text[..at].to_vec()).expect("text");
            }
            assert!(
                self.receive() > 0,
                "closed before {end:?}: {:?}",
                String::from_utf8_lossy(&self.received)
            );
        }
    }

    /// So many bytes of a body.
    fn body(&mut self, len: usize) -> Vec<u8> {
        while self.received.len() < len {
            assert!(self.receive() > 0, "closed within a body");
        }
        self.received.drain(..len).collect()
    }

    fn receive(&mut self) -> usize {
        let mut bytes = [0; 4096];
        let count = self.stream.read(&mut bytes).expect("receive");
        self.received.extend_from_slice(&bytes[..count]);
        count
    }

    /// Waits until the client has closed; returns what came before.
    fn closed(mut self) -> Vec<u8> {
        loop {
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return self.received,
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return self.received,
                Err(error) => panic!("the client does not close: {error}"),
            }
        }
    }
}

type Act = Box<dyn FnOnce(Peer) + Send>;

/// A server that deals with each connection in turn, and ends with the script.
struct Script {
    address: SocketAddr,
    acting: Option<JoinHandle<()>>,
}

fn script(acts: Vec<Act>) -> Script {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    let acting = thread::spawn(move || {
        for act in acts {
            let (stream, _) = listener.accept().expect("accept");
            stream.set_read_timeout(Some(LONG)).expect("a deadline");
            stream.set_write_timeout(Some(LONG)).expect("a deadline");
            stream.set_nodelay(true).expect("no delay");
            act(Peer { stream, received: Vec::new() });
        }
    });
    Script { address, acting: Some(acting) }
}

impl Script {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits for the end of the script, in which all it has found to be as expected.
    fn ends(mut self) {
        let result = self.acting.take().expect("ended once").join();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }
}

/// An act that answers one request with these bytes and closes.
fn answers(bytes: impl AsRef<[u8]> + Send + 'static) -> Act {
    Box::new(move |mut peer| {
        peer.head();
        peer.say(bytes);
    })
}

/// What one such answer is to the client.
fn answered(bytes: &str) -> Result<(u16, Vec<u8>), Error> {
    let script = script(vec![answers(bytes.to_owned())]);
    let response = Client::new().get(script.url("/")).send();
    let result = response.and_then(|response| Ok((response.status().code(), response.read_to_vec()?)));
    script.ends();
    result
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn quick() -> TimeLimits {
    let soon = Duration::from_millis(60);
    TimeLimits {
        connect: LONG,
        write: soon,
        continue_wait: soon,
        head: soon,
        body: soon,
        ..TimeLimits::default()
    }
}

fn echo(request: &mut Request<'_>) -> Result<Response, bast_server::Error> {
    let method = request.method().to_string();
    Ok(Response::bytes("application/octet-stream", request.read_body()?).with_header("X-Method", method))
}

fn the_matrix_of_bodies() {
    let server = start(echo);
    let client = Client::new();
    for len in [0, 1, 15_000, 16 << 10, 100_000, 2 << 20] {
        let body: Vec<u8> = (0..len).map(|at| at as u8).collect();
        for way in ["bytes", "sized reader", "chunked reader", "written", "written in small pieces"] {
            for expects in [false, true] {
                let request = client.request(Method::Other("BREW"), &server.url);
                let request = if expects { request.expect_continue() } else { request };
                let response = match way {
                    "bytes" => request.body(body.clone()).send(),
                    "sized reader" => request.content_length(len as u64).send_reader(&body[..]),
                    "chunked reader" => request.send_reader(&body[..]),
                    "written" => request.start().and_then(|mut upload| {
                        upload.write_all(&body).expect("written");
                        upload.finish()
                    }),
                    _ => request.start().and_then(|mut upload| {
                        for piece in body.chunks(1000) {
                            upload.write_all(piece).expect("written");
                        }
                        upload.finish()
                    }),
                };
                let response = response.unwrap_or_else(|error| panic!("{len} {way} {expects}: {error:?}"));
                assert_eq!(response.header("x-method"), Some("BREW"));
                assert_eq!(response.content_length(), Some(len as u64));
                assert!(response.read_to_vec().expect("the body") == body, "{len} {way} {expects}");
            }
        }
    }
    assert_eq!(client.idle_connections(), 1, "one connection has served them all");
}

#[test]
fn every_kind_of_body_goes_there_and_back_on_one_connection() {
    green(the_matrix_of_bodies);
}

#[test]
fn the_same_works_on_a_plain_os_thread() {
    within(the_matrix_of_bodies);
}

#[test]
fn a_response_without_a_body_ends_with_its_head() {
    let app = Router::new()
        .get("/text", |_: &mut Request<'_>| "text")
        .get("/204", |_: &mut Request<'_>| Status::NO_CONTENT)
        .get("/304", |_: &mut Request<'_>| Status::NOT_MODIFIED);
    let server = start(app);
    green(move || {
        let client = Client::new();
        for (method, path, length) in
            [(Method::Head, "/text", Some("4")), (Method::Get, "/204", None), (Method::Get, "/304", None)]
        {
            let response =
                client.request(method, format!("{}{path}", server.url)).send().expect("a response");
            assert_eq!(response.header("Content-Length"), length, "{path}");
            assert_eq!(response.content_length(), Some(0));
            assert_eq!(client.idle_connections(), 1, "it is idle before the body is asked for");
            assert_eq!(response.text().expect("no body"), "");
        }
        assert_eq!(client.get(format!("{}/text", server.url)).send().unwrap().text().unwrap(), "text");
    });
}

#[test]
fn many_threads_share_a_client_and_its_connections() {
    let server = start(|request: &mut Request<'_>| request.query().unwrap_or_default().to_owned());
    green(move || {
        let client = Client::new();
        let workers: Vec<_> = (0..32)
            .map(|worker| {
                let (client, url) = (client.clone(), server.url.clone());
                bast::spawn(move || {
                    for round in 0..20 {
                        let text = format!("{worker}-{round}");
                        let response = client.get(format!("{url}/?{text}")).send().expect("a response");
                        assert_eq!(response.text().expect("a body"), text);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("a worker");
        }
        assert!((1..=32).contains(&client.idle_connections()));
        client.close_idle();
        assert_eq!(client.idle_connections(), 0);
    });
}

#[test]
fn a_head_says_what_was_asked_for_and_nothing_else() {
    green(|| {
        let script = script(vec![Box::new(|mut peer| {
            assert_eq!(
                peer.head(),
                format!(
                    "GET /p?q=%20 HTTP/1.1\r\nHost: {}\r\nUser-Agent: bast/{}\r\nX-A: b\r\nX-A: c",
                    peer.stream.local_addr().unwrap(),
                    env!("CARGO_PKG_VERSION")
                )
            );
            peer.say(OK);
            assert_eq!(
                peer.head(),
                "POST / HTTP/1.1\r\nHost: other:1\r\nUser-Agent: me\r\nConnection: close, TE\r\nTE: trailers\r\nContent-Length: 0"
            );
            peer.say(OK);
            assert_eq!(peer.closed(), b"");
        })]);
        let client = Client::new();
        let request = client.get(script.url("/p?q=%20#f")).header("X-A", "0").header("x-a", "1");
        request.header("X-A", "b").added_header("X-A", "c").send().unwrap().discard();
        let request = client.post(script.url("/")).header("Host", "other:1").header("User-Agent", "me");
        request.close().accept_trailers().send().unwrap().discard();
        script.ends();
    });
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_is_sent() {
    let client = Client::new();
    let get = || client.get("http://127.0.0.1:1/");
    let requests = [
        get().header("X", "a\r\nEvil: b"),
        get().header("X\r\nEvil", "b"),
        get().header("X", "a\0"),
        get().header("Content-Length", "5"),
        get().header("transfer-encoding", "chunked"),
        get().header("Connection", "close"),
        get().header("Upgrade", "x"),
        get().header("Host", "a b"),
        get().header("Host", "a\r\nb"),
        get().header("Host", ""),
        get().upgrade("a\r\nb"),
        get().upgrade(""),
        get().body("abc").content_length(2),
        client.get("http://127.0.0.1:1/ HTTP/1.1\r\nEvil: b\r\n\r\n"),
        client.get("https://127.0.0.1:1/"),
        client.get("http://user:secret@127.0.0.1:1/"),
        client.request(Method::Other("GET / HTTP/1.1\r\nEvil:"), "http://127.0.0.1:1/"),
        client.request(Method::Other(""), "http://127.0.0.1:1/"),
        client.request(Method::Connect, "http://127.0.0.1:1/"),
    ];
    for request in requests {
        let shown = format!("{request:?}");
        let error = request.send().expect_err(&shown);
        assert!(error.is_request() && !error.is_connect(), "{shown}: {error}");
    }
    assert!(get().body("a").start().unwrap_err().is_request());
}

#[test]
fn a_request_is_shown_without_its_secrets() {
    let client = Client::new();
    for (url, expected) in [
        ("http://127.0.0.1:1/path?token=secret#secret", "http://127.0.0.1:1/path"),
        ("http://user:secret@127.0.0.1:1/", "user name or password"),
        ("127.0.0.1/secret", "not absolute"),
    ] {
        let shown = format!("{:?}", client.get(url).header("Authorization", "secret"));
        assert!(!shown.contains("secret"), "{shown}");
        assert!(shown.contains(expected) && shown.contains("Authorization"), "{shown}");
    }
}

#[test]
fn a_body_that_is_not_as_long_as_announced_is_an_error_and_ends_the_connection() {
    green(|| {
        for written in ["abc", "abcdef"] {
            let script = script(vec![Box::new(|peer: Peer| drop(peer.closed()))]);
            let client = Client::new();
            let error =
                client.post(script.url("/")).content_length(5).send_reader(written.as_bytes()).unwrap_err();
            assert!(error.is_request(), "{written}: {error}");
            assert_eq!(client.idle_connections(), 0);
            script.ends();
        }
    });
}

/// Two requests, the first of whose bodies the test deals with: did the second use the same connection?
fn is_reused_after(first: &'static [u8], deal: impl FnOnce(bast_server::client::Response)) -> bool {
    let connections = Arc::new(AtomicUsize::new(0));
    let act = |count: Arc<AtomicUsize>| -> Act {
        Box::new(move |mut peer| {
            count.fetch_add(1, Ordering::SeqCst);
            peer.head();
            peer.say(first);
            // The second request comes here, or this is closed and it comes on another.
            if peer.received.is_empty() && peer.receive() == 0 {
                return;
            }
            peer.head();
            peer.say(OK);
        })
    };
    let script = script(vec![
        act(Arc::clone(&connections)),
        Box::new(|mut peer| {
            if peer.receive() > 0 {
                peer.head();
                peer.say(OK);
            }
        }),
    ]);
    let client = Client::new();
    deal(client.get(script.url("/")).send().expect("a response"));
    let reused = client.idle_connections() == 1;
    assert_eq!(client.get(script.url("/")).send().expect("a second response").text().expect("a body"), "ok");
    if reused {
        // The script wants its second connection.
        drop(TcpStream::connect(script.address).expect("connect"));
    }
    // An idle connection would keep the first act waiting.
    client.close_idle();
    script.ends();
    reused
}

#[test]
fn a_connection_is_used_again_when_its_body_was_read() {
    green(|| {
        assert!(is_reused_after(OK.as_bytes(), |response| assert_eq!(response.text().unwrap(), "ok")));
        assert!(is_reused_after(OK.as_bytes(), drop), "what has arrived is dropped with the response");
        assert!(is_reused_after(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            drop
        ));
        assert!(is_reused_after(
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            drop
        ));
    });
}

#[test]
fn a_connection_is_not_used_again_when_it_must_not() {
    green(|| {
        let read = |response: bast_server::client::Response| assert_eq!(response.text().unwrap(), "ok");
        assert!(!is_reused_after(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", read));
        assert!(!is_reused_after(
            b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok",
            read
        ));
        // More than its length: it would be the head of the next response.
        assert!(!is_reused_after(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 X\r\n\r\n",
            read
        ));
        assert!(!is_reused_after(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot all", drop));
        assert!(!is_reused_after(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot all",
            |mut response| {
                let mut byte = [0; 1];
                response.body().read_exact(&mut byte).expect("a byte");
            }
        ));
    });
}

#[test]
fn an_unwanted_body_is_read_up_to_a_limit_to_keep_the_connection() {
    let server = start(|request: &mut Request<'_>| {
        let bytes: usize = request.query().and_then(|bytes| bytes.parse().ok()).unwrap_or_default();
        vec![b'x'; bytes]
    });
    green(move || {
        let limits = Limits { drain_bytes_max: 300_000, ..Limits::default() };
        for (bytes, kept) in [(300_000, 1), (300_001, 0)] {
            let client = Client::builder().limits(limits.clone()).build();
            client.get(format!("{}/?{bytes}", server.url)).send().unwrap().discard();
            assert_eq!(client.idle_connections(), kept, "{bytes}");
        }
    });
}

#[test]
fn a_connection_that_was_closed_while_idle_is_noticed() {
    green(|| {
        let (tell, told) = mpsc::channel();
        let script = script(vec![
            Box::new(move |mut peer| {
                peer.head();
                peer.say(OK);
                peer.stream.shutdown(Shutdown::Both).expect("close");
                drop(peer);
                tell.send(()).expect("the test listens");
            }),
            answers(OK),
        ]);
        let client = Client::new();
        // A POST would not be repeated: the close has to be seen beforehand.
        assert_eq!(client.post(script.url("/")).send().unwrap().text().unwrap(), "ok");
        told.recv().expect("closed");
        assert_eq!(client.post(script.url("/")).send().unwrap().text().unwrap(), "ok");
        script.ends();
    });
}

#[test]
fn bytes_on_an_idle_connection_never_become_a_response() {
    green(|| {
        let (tell, told) = mpsc::channel();
        let script = script(vec![
            Box::new(move |mut peer| {
                peer.head();
                peer.say(OK);
                tell.send(peer).expect("the test listens");
            }),
            answers(OK),
        ]);
        let client = Client::new();
        assert_eq!(client.get(script.url("/")).send().unwrap().text().unwrap(), "ok");
        assert_eq!(client.idle_connections(), 1);
        let mut first = told.recv().expect("the first connection");
        first.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        assert_eq!(client.get(script.url("/")).send().unwrap().text().unwrap(), "ok");
        assert_eq!(first.closed(), b"");
        script.ends();
    });
}

/// A server that answers the first request, and closes on the second without a word.
fn forgets_the_second(then: Vec<Act>) -> Script {
    let mut acts: Vec<Act> = vec![Box::new(|mut peer| {
        peer.head();
        peer.say(OK);
        peer.head();
    })];
    acts.extend(then);
    script(acts)
}

#[test]
fn a_request_that_may_be_repeated_is_repeated_once_on_a_new_connection() {
    green(|| {
        for method in [Method::Get, Method::Head, Method::Put, Method::Delete, Method::Options] {
            let script = forgets_the_second(vec![answers("HTTP/1.1 201 X\r\nContent-Length: 0\r\n\r\n")]);
            let client = Client::new();
            client.get(script.url("/")).send().unwrap().discard();
            let response = client.request(method, script.url("/")).send().expect("a response");
            assert_eq!(response.status(), Status::CREATED);
            script.ends();
        }
        // On a connection that was not used before it is not the server's idle limit that was met.
        let script = script(vec![Box::new(|mut peer| drop(peer.head()))]);
        assert!(Client::new().get(script.url("/")).send().unwrap_err().is_closed());
        script.ends();
    });
}

#[test]
fn a_request_that_may_have_had_an_effect_is_not_repeated() {
    green(|| {
        for method in [Method::Post, Method::Patch, Method::Other("BREW")] {
            let script = forgets_the_second(Vec::new());
            let client = Client::new();
            client.get(script.url("/")).send().unwrap().discard();
            let error = client.request(method, script.url("/")).send().unwrap_err();
            assert!(error.is_closed(), "{method}: {error}");
            script.ends();
        }
        // Nor is one of which a part of the response came.
        let script = script(vec![Box::new(|mut peer| {
            peer.head();
            peer.say(OK);
            peer.head();
            peer.say("HTTP/1.1 2");
        })]);
        let client = Client::new();
        client.get(script.url("/")).send().unwrap().discard();
        assert!(client.get(script.url("/")).send().unwrap_err().is_closed());
        script.ends();
    });
}

#[test]
fn a_body_follows_a_100() {
    green(|| {
        let (seen, hinted) = mpsc::channel();
        let script = script(vec![Box::new(move |mut peer| {
            assert!(peer.head().contains("\r\nExpect: 100-continue\r\nContent-Length: 4"));
            // An interim response of another kind is no leave.
            peer.say("HTTP/1.1 103 Early Hints\r\n\r\n");
            hinted.recv().expect("the client has seen it");
            assert!(peer.stream.set_nonblocking(true).is_ok() && peer.stream.peek(&mut [0]).is_err());
            peer.stream.set_nonblocking(false).expect("a stream that waits");
            peer.say("HTTP/1.1 100 Continue\r\n\r\n");
            assert_eq!(peer.body(4), b"body");
            peer.say(OK);
            drop(peer.closed());
        })]);
        let client = Client::builder()
            .time_limits(TimeLimits { continue_wait: LONG, ..TimeLimits::default() })
            .build();
        let response = client
            .post(script.url("/"))
            .expect_continue()
            .on_interim(move |_, _| seen.send(()).expect("the script listens"))
            .body("body")
            .send()
            .unwrap();
        assert_eq!(response.text().unwrap(), "ok");
        assert_eq!(client.idle_connections(), 1);
        drop(client);
        script.ends();
    });
}

#[test]
fn a_connection_whose_body_was_never_sent_is_not_used_again() {
    // The server would take the next request for the body (Go's CVE-2024-24791).
    green(|| {
        for status in ["200 OK", "403 No", "307 There\r\nLocation: /x"] {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
            let script = script(vec![
                Box::new(move |mut peer| {
                    peer.head();
                    peer.say(answer);
                    assert_eq!(peer.closed(), b"", "no body and no other request");
                }),
                answers(OK),
            ]);
            let limits = TimeLimits { continue_wait: LONG, ..TimeLimits::default() };
            let client = Client::builder().time_limits(limits).build();
            let response = client.put(script.url("/")).expect_continue().body("body").send().unwrap();
            assert_eq!(response.text().unwrap(), "ok", "{status}");
            assert_eq!(client.idle_connections(), 0);
            client.get(script.url("/")).send().unwrap().discard();
            script.ends();
        }
    });
}

#[test]
fn a_server_that_never_says_100_gets_the_body_after_a_while() {
    green(|| {
        let script = script(vec![Box::new(|mut peer| {
            peer.head();
            assert_eq!(peer.body(4), b"body");
            // Late, but allowed.
            peer.say(format!("HTTP/1.1 100 Continue\r\n\r\n{OK}"));
        })]);
        let limits = TimeLimits { continue_wait: Duration::from_millis(20), ..TimeLimits::default() };
        let client = Client::builder().time_limits(limits).build();
        let response = client.post(script.url("/")).expect_continue().body("body").send().unwrap();
        assert_eq!(response.text().unwrap(), "ok");
        script.ends();
    });
}

#[test]
fn a_417_repeats_the_request_without_the_expectation() {
    green(|| {
        let script = script(vec![
            answers("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"),
            Box::new(|mut peer| {
                assert!(!peer.head().contains("Expect"));
                assert_eq!(peer.until(b"0\r\n\r\n"), "0004\r\nbody\r\n");
                peer.say(OK);
            }),
        ]);
        let response =
            Client::new().post(script.url("/")).expect_continue().send_reader(&b"body"[..]).unwrap();
        assert_eq!(response.text().unwrap(), "ok");
        script.ends();
    });
}

/// A body without end.
struct Endless;

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'x');
        Ok(buffer.len())
    }
}

#[test]
fn an_error_that_comes_while_the_body_is_sent_is_read() {
    const REFUSED: &str = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo much";
    green(|| {
        let acts: [Waiting; 4] = [
            // Closes at once, with bytes unread: the kernel resets the connection.
            |mut peer, _| {
                peer.head();
                peer.say(REFUSED);
            },
            // Says so, and takes nothing more.
            |mut peer, _| {
                peer.head();
                peer.say(REFUSED);
                peer.stream.shutdown(Shutdown::Write).expect("shut down");
                peer.stream.set_read_timeout(Some(LONG)).expect("a deadline");
                peer.closed();
            },
            // Keeps the connection open and drops what comes.
            |mut peer, _| {
                peer.head();
                peer.say(REFUSED);
                peer.closed();
            },
            // Keeps it open and reads nothing until the client has its answer.
            |mut peer, answered| {
                peer.head();
                peer.say(REFUSED);
                answered.recv().expect("the test says so");
                peer.closed();
            },
        ];
        for (index, act) in acts.into_iter().enumerate() {
            for way in ["chunked", "sized", "bytes", "written"] {
                let (tell, answered) = mpsc::channel();
                let script = script(vec![Box::new(move |peer| act(peer, answered))]);
                let client = Client::new();
                let request = client.post(script.url("/"));
                let response = match way {
                    "chunked" => request.send_reader(Endless),
                    "sized" => request.content_length(1 << 40).send_reader(Endless),
                    "bytes" => request.body(vec![b'x'; 64 << 20]).send(),
                    _ => request.start().and_then(|mut upload| {
                        let error = io::copy(&mut Endless, &mut upload).unwrap_err();
                        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
                        upload.finish()
                    }),
                };
                let response = response.unwrap_or_else(|error| panic!("{index} {way}: {error:?}"));
                assert_eq!(response.status(), Status::CONTENT_TOO_LARGE);
                assert_eq!(response.text().unwrap(), "too much", "{index} {way}");
                assert_eq!(client.idle_connections(), 0);
                // Most servers do not wait for it.
                let _ = tell.send(());
                script.ends();
            }
        }
    });
}

#[test]
fn an_answer_that_is_no_error_does_not_end_the_sending() {
    green(|| {
        let script = script(vec![Box::new(|mut peer| {
            peer.head();
            peer.say(OK);
            assert_eq!(peer.body(10 << 20).len(), 10 << 20);
            assert_eq!(peer.closed(), b"");
        })]);
        let client = Client::new();
        let body = Endless.take(10 << 20);
        let response = client.post(script.url("/")).content_length(10 << 20).send_reader(body).unwrap();
        assert_eq!(response.text().unwrap(), "ok");
        assert_eq!(client.idle_connections(), 1);
        client.close_idle();
        script.ends();
    });
}

/// A server that may wait for the client to have failed.
type Waiting = fn(Peer, mpsc::Receiver<()>);

#[test]
fn a_request_and_its_response_stream_at_the_same_time() {
    const BYTES: usize = 16 << 20;
    green(|| {
        // Takes nothing more before what it has said was taken.
        let script = script(vec![Box::new(|mut peer| {
            peer.head();
            peer.say("HTTP/1.1 200 OK\r\n\r\n");
            for _ in 0..BYTES >> 12 {
                let piece = peer.body(1 << 12);
                peer.say(piece);
            }
        })]);
        let client = Client::new();
        let upload = client.post(script.url("/")).content_length(BYTES as u64).start().unwrap();
        let (mut request, answer) = upload.duplex().unwrap();
        let writing = bast::spawn(move || {
            io::copy(&mut Endless.take(BYTES as u64), &mut request).expect("all is taken");
            request.finish()
        });
        let body = answer.wait().unwrap().read_to_vec().unwrap();
        assert!(body == vec![b'x'; BYTES]);
        writing.join().unwrap().unwrap();
        assert_eq!(client.idle_connections(), 0);
        script.ends();
    });
}

#[test]
fn a_duplex_request_that_is_not_finished_is_broken_off() {
    green(|| {
        let script = script(vec![Box::new(|mut peer| {
            peer.head();
            assert_eq!(peer.until(b"half\r\n"), "0004\r\n");
            assert_eq!(peer.receive(), 0, "and no last chunk");
            peer.say(OK);
        })]);
        let upload = Client::new().post(script.url("/")).start().unwrap();
        let (mut request, answer) = upload.duplex().unwrap();
        request.write_all(b"half").unwrap();
        request.flush().unwrap();
        drop(request);
        assert_eq!(answer.wait().unwrap().text().unwrap(), "ok");
        script.ends();
    });
}

/// It sends often enough for the limit of one read, and so little that it would take hours.
#[test]
fn an_upstream_that_drips_does_not_hold_who_wants_the_whole_body() {
    green(|| {
        let stretch = Duration::from_millis(300);
        let time_limits =
            TimeLimits { body: stretch, body_bytes_per_second_min: 10_000, ..TimeLimits::default() };
        let client = Client::builder().time_limits(time_limits).build();
        // Data to the end of the connection, of a known length, in chunks, and an extension of a chunk without data.
        for (head, drip) in [
            ("\r\n", "x"),
            ("Content-Length: 60000\r\n\r\n", "x"),
            ("Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
            ("Transfer-Encoding: chunked\r\n\r\n1;x=", "x"),
        ] {
            for collects in [true, false] {
                let script = script(vec![Box::new(move |mut peer: Peer| {
                    peer.head();
                    peer.say(format!("HTTP/1.1 200 OK\r\n{head}"));
                    while peer.stream.write_all(drip.as_bytes()).is_ok() {
                        thread::sleep(Duration::from_millis(2));
                    }
                })]);
                let start = Instant::now();
                let response = client.get(script.url("/")).send().expect("a head");
                if collects {
                    let error = response.read_to_vec().expect_err("it comes too slowly");
                    assert!(error.is_timeout(), "{error:?}");
                    assert!(start.elapsed() >= stretch, "{head:?}: {:?}", start.elapsed());
                } else {
                    response.discard();
                }
                assert!(start.elapsed() < LONG / 2, "{head:?}: {:?}", start.elapsed());
                script.ends();
            }
        }
    });
}

/// As events do.
#[test]
fn an_upstream_that_takes_a_little_now_and_then_does_not_hold_who_sends_it_much() {
    const PIECE_BYTES: usize = 64 << 10;
    /// At a piece each time, more than a minute.
    const BODY_BYTES: usize = 256 << 20;
    green(|| {
        // The buffers of both kernels make steps of what is taken; none is as long as this.
        let stretch = Duration::from_secs(3);
        let time_limits =
            TimeLimits { write: stretch, write_bytes_per_second_min: u32::MAX, ..TimeLimits::default() };
        let client = Client::builder().time_limits(time_limits).build();
        let (tell, told) = mpsc::channel();
        let script = script(vec![Box::new(move |mut peer: Peer| {
            let mut piece = vec![0; PIECE_BYTES];
            while peer.stream.read(&mut piece).is_ok_and(|count| count > 0) {
                let _ = tell.send(());
                thread::sleep(Duration::from_millis(20));
            }
        })]);
        let start = Instant::now();
        let answer = client.post(script.url("/")).body(vec![b'x'; BODY_BYTES]).send();
        let error = answer.expect_err("it is taken too slowly");
        assert!(error.is_timeout(), "{error:?}");
        assert!(start.elapsed() >= stretch && start.elapsed() < LONG, "{:?}", start.elapsed());
        assert!(told.try_iter().count() > 10, "it was taken all the time");
        script.ends();
    });
}

#[test]
fn a_slow_body_that_is_read_piece_by_piece_is_not_too_slow() {
    green(|| {
        let (tell, told) = mpsc::channel::<()>();
        let script = script(vec![Box::new(move |mut peer: Peer| {
            peer.head();
            peer.say("HTTP/1.1 200 OK\r\n\r\n");
            told.iter().for_each(|()| peer.say("x"));
        })]);
        let stretch = Duration::from_millis(500);
        let time_limits =
            TimeLimits { body: stretch, body_bytes_per_second_min: u32::MAX, ..TimeLimits::default() };
        let client = Client::builder().time_limits(time_limits).build();
        let mut response = client.get(script.url("/")).send().expect("a head");
        let start = Instant::now();
        while start.elapsed() < stretch * 2 {
            tell.send(()).expect("the script listens");
            response.body().read_exact(&mut [0]).expect("a byte");
            bast::sleep(Duration::from_millis(20));
        }
        drop(tell);
        assert_eq!(response.text().expect("the end"), "");
        script.ends();
    });
}

fn every_limit_of_time_passes() {
    let silent: Waiting = |peer, _| drop(peer.closed());
    let dripping: Waiting = |mut peer, _| {
        peer.head();
        let mut drip = b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
        while drip.next().is_some_and(|byte| peer.stream.write_all(&[*byte]).is_ok()) {
            thread::sleep(Duration::from_millis(2));
        }
    };
    let dripping_body: Waiting = |mut peer, _| {
        peer.head();
        peer.say("HTTP/1.1 200 OK\r\n\r\n");
        while peer.stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(2));
        }
    };
    let no_body: Waiting = |mut peer, _| {
        peer.head();
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc");
        peer.closed();
    };
    let not_reading: Waiting = |peer, failed| {
        failed.recv().expect("the test says so");
        peer.closed();
    };
    let soon = Duration::from_millis(60);
    let long = TimeLimits { head: LONG, body: LONG, write: LONG, ..TimeLimits::default() };
    let table = [
        ("head", silent, 0, TimeLimits { head: soon, ..long }),
        ("a head that drips", dripping, 0, TimeLimits { head: soon, ..long }),
        ("body", no_body, 0, TimeLimits { body: soon, ..long }),
        ("write", not_reading, 32 << 20, TimeLimits { write: soon, ..long }),
        ("all, silent", silent, 0, TimeLimits { total: Some(soon), ..long }),
        ("all, a body that drips", dripping_body, 0, TimeLimits { total: Some(soon), ..long }),
        ("all, not reading", not_reading, 32 << 20, TimeLimits { total: Some(soon), ..long }),
    ];
    for (what, act, body_bytes, time_limits) in table {
        let (tell, failed) = mpsc::channel();
        let script = script(vec![Box::new(move |peer| act(peer, failed))]);
        let client = Client::builder().time_limits(time_limits).build();
        let start = Instant::now();
        let response = client.post(script.url("/")).body(vec![0; body_bytes]).send();
        let error = response.and_then(bast_server::client::Response::read_to_vec).unwrap_err();
        assert!(error.is_timeout() && !error.is_connect(), "{what}: {error:?}");
        assert!(start.elapsed() >= soon && start.elapsed() < LONG / 2, "{what}: {:?}", start.elapsed());
        assert_eq!(client.idle_connections(), 0);
        // Most servers do not wait for it.
        let _ = tell.send(());
        script.ends();
    }
}

#[test]
fn every_limit_of_time_passes_on_a_green_thread() {
    green(every_limit_of_time_passes);
}

#[test]
fn every_limit_of_time_passes_on_a_plain_os_thread() {
    within(every_limit_of_time_passes);
}

#[test]
fn no_connection_is_told_from_no_answer() {
    green(|| {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Client::new().get(format!("http://{closed}/")).send().unwrap_err();
        assert!(error.is_connect() && !error.is_timeout(), "{error:?}");
        assert!(std::error::Error::source(&error).is_some());
        let error = Client::new().get("http://no-such-name.invalid/").send().unwrap_err();
        assert!(error.is_connect(), "{error:?}");
    });
}

#[test]
fn a_name_is_looked_up() {
    let server = start(|request: &mut Request<'_>| request.host().unwrap_or_default().to_owned());
    green(move || {
        let url = server.url.replace("127.0.0.1", "LocalHost");
        let text = Client::new().get(&url).send().unwrap().text().unwrap();
        assert_eq!(text, url.to_ascii_lowercase().strip_prefix("http://").unwrap());
    });
}

#[test]
fn a_response_that_is_cut_off_anywhere_is_an_error() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const BODY: &str = "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n";
    green(|| {
        let whole = format!("{HEAD}{BODY}");
        for cut in 0..=whole.len() {
            let result = answered(&whole[..cut]);
            if cut == whole.len() {
                assert_eq!(result.unwrap(), (200, b"abcde".to_vec()));
            } else {
                assert!(result.unwrap_err().is_closed(), "cut at {cut}");
            }
        }
        assert!(answered("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd").unwrap_err().is_closed());
        assert_eq!(answered("HTTP/1.1 200 OK\r\n\r\nto the end").unwrap(), (200, b"to the end".to_vec()));
        assert_eq!(answered("HTTP/1.0 200 OK\r\n\r\n").unwrap(), (200, Vec::new()));
    });
}

#[test]
fn a_response_may_come_byte_by_byte() {
    green(|| {
        let script = script(vec![Box::new(|mut peer| {
            peer.head();
            let text = "HTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
            for byte in text.bytes() {
                peer.say([byte]);
            }
            assert_eq!(peer.closed(), b"");
        })]);
        let client = Client::new();
        assert_eq!(client.get(script.url("/")).send().unwrap().text().unwrap(), "abc");
        assert_eq!(client.idle_connections(), 1);
        client.close_idle();
        script.ends();
    });
}

#[test]
fn an_error_names_its_request_and_what_failed_but_no_query() {
    green(|| {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (said, failed) in [
            ("", "the server closed the connection without a response"),
            ("HTTP/1.1 20", "the response was cut off within its head"),
            ("SSH-2.0\r\n\r\n", "malformed response: "),
            (chunked, "the response was cut off within its body"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\u{1}", ""),
            (
                "HTTP/1.1 302 Found\r\nLocation: https://other/?t=secret\r\nContent-Length: 0\r\n\r\n",
                "the redirect ",
            ),
        ] {
            let said = said.to_owned();
            let script = script(vec![Box::new(move |mut peer| {
                peer.head();
                peer.say(said);
            })]);
            let url = script.url("/a/b?key=secret#secret");
            let name = format!("POST {}: ", url.split('?').next().unwrap());
            let sent = Client::new().post(&url).follow(1).send();
            let error = match sent.and_then(bast_server::client::Response::json::<u32>) {
                Ok(value) => panic!("{value}"),
                Err(error) => error,
            };
            let failed = if failed.is_empty() { "unexpected content: " } else { failed };
            assert!(error.to_string().starts_with(&format!("{name}{failed}")), "{failed}: {error}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
            script.ends();
        }
        let refused = Client::new().get("http://a/b?key=secret").header("X", "a\nb").send().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "GET http://a/b: the request cannot be sent: a malformed header field"
        );
        let bad = Client::new().get("ftp://secret@a/").send().unwrap_err();
        assert!(bad.is_request() && !bad.to_string().contains("secret"), "{bad}");
    });
}

#[test]
fn an_error_of_a_body_that_is_read_as_a_stream_names_its_request_too() {
    green(|| {
        let script = script(vec![Box::new(|mut peer| {
            peer.head();
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        })]);
        let url = script.url("/long");
        let mut response = Client::new().get(&url).send().unwrap();
        let error = response.body().read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(error.to_string(), format!("GET {url}: the response was cut off within its body"));
        script.ends();
    });
}

#[test]
fn parameters_and_fields_are_encoded_and_added() {
    let server = start(|request: &mut Request<'_>| -> Result<String, bast_server::Error> {
        let content_type = request.header("Content-Type").unwrap_or("none").to_owned();
        let body = request.read_text()?;
        Ok(format!("{} {content_type} {body}", request.target()))
    });
    green(move || {
        let client = Client::new();
        let ask = |request: bast_server::client::Request| request.send().unwrap().text().unwrap();
        let pairs = [("q", "cats & dogs"), ("é", "=/")];
        let encoded = "q=cats+%26+dogs&%C3%A9=%3D%2F";
        for (path, target) in [
            ("/s", format!("/s?{encoded}")),
            ("/s?", format!("/s?{encoded}")),
            ("/s?a=b", format!("/s?a=b&{encoded}")),
            ("/s?a&", format!("/s?a&{encoded}")),
            ("/s#top", format!("/s?{encoded}")),
            ("", format!("/?{encoded}")),
        ] {
            let url = format!("{}{path}", server.url);
            assert_eq!(ask(client.get(&url).query(pairs)), format!("{target} none "), "{path}");
        }
        let url = format!("{}/s?a", server.url);
        let none: [(&str, &str); 0] = [];
        assert_eq!(ask(client.get(&url).query(none)), "/s?a none ");
        assert_eq!(ask(client.get(&url).query([("b", "1")]).query([("c", "2")])), "/s?a&b=1&c=2 none ");
        let form = format!("/s?a application/x-www-form-urlencoded {encoded}");
        assert_eq!(ask(client.post(&url).form(pairs)), form);
        let typed = client.post(&url).header("Content-Type", "text/plain").form(pairs);
        assert_eq!(ask(typed), format!("/s?a text/plain {encoded}"));
    });
}

#[test]
fn what_is_no_http_is_malformed() {
    green(|| {
        for text in [
            "SSH-2.0-OpenSSH_9.9\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
            "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ] {
            let error = answered(text).expect_err(text);
            assert!(error.is_malformed(), "{text:?}: {error}");
        }
    });
}

#[test]
fn everything_that_a_server_sends_is_bounded() {
    green(|| {
        let limits = Limits {
            head_bytes_max: 200,
            fields_max: 5,
            body_bytes_max: Some(100),
            collected_bytes_max: 50,
            chunk_overhead_bytes_max: 64,
            ..Limits::default()
        };
        let body =
            |len: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{}", "x".repeat(len));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let table = [
            (body(50), true),
            (body(51), false),
            (format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(50)), true),
            (format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(51)), false),
            (format!("{chunked}32\r\n{}\r\n0\r\n\r\n", "x".repeat(50)), true),
            (format!("{chunked}33\r\n{}\r\n0\r\n\r\n", "x".repeat(51)), false),
            (format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200)), false),
            (format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: x\r\n".repeat(6)), false),
            ("HTTP/1.1 102 Processing\r\n\r\n".repeat(32) + &body(1), true),
            ("HTTP/1.1 102 Processing\r\n\r\n".repeat(33) + &body(1), false),
        ];
        for (text, fits) in table {
            let script = script(vec![answers(text.clone())]);
            let client = Client::builder().limits(limits.clone()).build();
            let response = client.get(script.url("/")).send();
            let result = response.and_then(bast_server::client::Response::read_to_vec);
            match result {
                Ok(_) => assert!(fits, "{text}"),
                Err(error) => assert!(!fits && error.is_too_large(), "{text}: {error}"),
            }
            script.ends();
        }
        // What is not gathered has the larger bound, and framing its own.
        for (text, kind) in
            [(body(101), true), (format!("{chunked}1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(65)), false)]
        {
            let script = script(vec![answers(text)]);
            let client = Client::builder().limits(limits.clone()).build();
            let mut response = client.get(script.url("/")).send().unwrap();
            let error = io::copy(response.body(), &mut io::sink()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let error = *error.into_inner().unwrap().downcast::<Error>().unwrap();
            assert_eq!((error.is_too_large(), error.is_malformed()), (kind, !kind), "{error}");
            let again = response.body().read(&mut [0]).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::UnexpectedEof, "it does not end as if all had come");
            script.ends();
        }
    });
}

#[test]
fn interim_responses_are_told_and_skipped() {
    green(|| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = script(vec![answers(format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}"
        ))]);
        let tell = {
            let seen = Arc::clone(&seen);
            move |status: Status, headers: &bast_server::client::Headers| {
                seen.lock().unwrap().push((status.code(), headers.get("link").map(str::to_owned)));
            }
        };
        let response = Client::new().get(script.url("/")).on_interim(tell).send().unwrap();
        assert_eq!(response.text().unwrap(), "ok");
        assert_eq!(*seen.lock().unwrap(), [(100, None), (103, Some("</a>".to_owned()))]);
        script.ends();
    });
}

#[test]
fn a_connection_that_changes_its_protocol_is_handed_over() {
    green(|| {
        let script = script(vec![Box::new(|mut peer| {
            assert!(peer.head().ends_with("Connection: upgrade\r\nUpgrade: shout"));
            peer.say("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\nHELLO");
            assert_eq!(peer.until(b"\n"), "hello");
            peer.say("BYE");
        })]);
        let client = Client::new();
        let response = client.get(script.url("/")).upgrade("shout").send().unwrap();
        assert_eq!(response.status(), Status::SWITCHING_PROTOCOLS);
        let mut raw = response.into_upgraded().expect("a raw connection");
        raw.write_all(b"hello\n").unwrap();
        let mut text = String::new();
        raw.read_to_string(&mut text).unwrap();
        assert_eq!(text, "HELLOBYE");
        assert_eq!(client.idle_connections(), 0);
        script.ends();
    });
}

#[test]
fn a_protocol_is_not_changed_before_the_request_is_sent() {
    let script = script(vec![answers(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
    )]);
    green(move || {
        let request = Client::new().post(script.url("/")).upgrade("other").expect_continue().body("owed");
        let error = request.send().expect_err("half of a request");
        assert!(error.is_malformed(), "{error:?}");
        script.ends();
    });
}

#[test]
fn a_server_of_ours_changes_its_protocol() {
    let server = start(|_: &mut Request<'_>| {
        Response::upgrade("shout", |mut raw| {
            let mut text = [0; 5];
            while raw.read_exact(&mut text).is_ok() && raw.write_all(&text.to_ascii_uppercase()).is_ok() {}
        })
    });
    green(move || {
        let response = Client::new().get(&server.url).upgrade("shout").send().unwrap();
        let mut raw = response.into_upgraded().expect("a raw connection");
        for word in [b"hello", b"world"] {
            raw.write_all(word).unwrap();
            let mut text = [0; 5];
            raw.read_exact(&mut text).unwrap();
            assert_eq!(text, *word.to_ascii_uppercase());
        }
        let (received, stream) = raw.into_parts();
        assert!(received.is_empty());
        stream.shutdown(Shutdown::Both).unwrap();
    });
}

#[test]
fn a_server_that_does_not_change_its_protocol_answers_as_ever() {
    green(|| {
        let script = script(vec![answers(OK)]);
        let response = Client::new().get(script.url("/")).upgrade("shout").send().unwrap();
        let response = response.into_upgraded().expect_err("no 101");
        assert_eq!(response.text().unwrap(), "ok");
        script.ends();
    });
}

#[test]
fn trailers_go_both_ways() {
    green(|| {
        let script = script(vec![Box::new(|mut peer| {
            assert!(peer.head().ends_with("Transfer-Encoding: chunked"));
            assert_eq!(peer.until(b"\r\n\r\n"), "0004\r\nbody\r\n0\r\nX-Sum: 7\r\nX-Sum: 8");
            peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0;last\r\nX-A: b\r\nSet-Cookie: s\r\nx-c:  d \r\nCONTENT-LENGTH: 9\r\n\r\n");
        })]);
        let mut upload = Client::new().post(script.url("/")).start().unwrap();
        upload.write_all(b"body").unwrap();
        upload.trailer("X-Sum", "7").unwrap();
        upload.trailer("X-Sum", "8").unwrap();
        for (name, value) in [
            ("Content-Length", "7"),
            ("Host", "a"),
            ("If-Match", "b"),
            ("Pragma", "c"),
            ("X", "a\r\nb"),
            ("", "a"),
        ] {
            assert!(upload.trailer(name, value).unwrap_err().is_request(), "{name}");
        }
        let mut response = upload.finish().unwrap();
        assert!(response.body().trailers().is_empty());
        let mut text = String::new();
        response.body().read_to_string(&mut text).unwrap();
        assert!(response.body().is_done());
        let trailers = response.body().trailers();
        assert_eq!((&*text, trailers.get("x-a"), trailers.get("X-C")), ("ok", Some("b"), Some("d")));
        assert_eq!(
            trailers.iter().count(),
            2,
            "what belongs before a body is dropped behind it: {trailers:?}"
        );
        assert_eq!(response.header("X-A"), None, "they are not mixed with the header");
        script.ends();
    });
}

#[test]
fn redirects_are_followed_only_when_asked_for() {
    let app = Router::new()
        .any("/to/{code}", |request: &mut Request<'_>| -> Result<Response, bast_server::Error> {
            let status = Status::from_code(request.param("code")?).expect("a status");
            request.read_body()?;
            Ok(Response::new(status).with_header("Location", "../end?x#f"))
        })
        .any("/loop", |_: &mut Request<'_>| Response::see_other("/loop"))
        .any("/tls", |_: &mut Request<'_>| Response::see_other("https://example.org/"))
        .any("/end", |request: &mut Request<'_>| -> Result<String, bast_server::Error> {
            let body = request.read_text()?;
            let of_content = request.header("Content-Type").or(request.header("Repr-Digest"));
            let kind = of_content.unwrap_or("-").to_owned();
            Ok(format!("{} {} {kind} {body}", request.method(), request.target()))
        });
    let server = start(app);
    green(move || {
        let client = Client::builder().follow(3).build();
        let url = |path: &str| format!("{}{path}", server.url);
        let table = [
            ("301", Method::Get, "GET /end?x t body"),
            ("301", Method::Post, "GET /end?x - "),
            ("302", Method::Post, "GET /end?x - "),
            ("302", Method::Put, "PUT /end?x t body"),
            ("303", Method::Put, "GET /end?x - "),
            ("307", Method::Post, "POST /end?x t body"),
            ("308", Method::Post, "POST /end?x t body"),
            ("300", Method::Get, ""),
            ("304", Method::Get, ""),
        ];
        for (code, method, expected) in table {
            let request =
                client.request(method, url(&format!("/to/{code}"))).header("Content-Type", "t").body("body");
            let response = request.header("Repr-Digest", "d").send().unwrap();
            let end = if expected.is_empty() { url(&format!("/to/{code}")) } else { url("/end?x") };
            assert_eq!(response.url(), end);
            assert_eq!(response.text().unwrap(), expected, "{code} {method}");
        }
        assert_eq!(client.idle_connections(), 1);
        assert_eq!(client.get(url("/to/302")).follow(0).send().unwrap().status(), Status::FOUND);
        assert!(client.get(url("/loop")).send().unwrap_err().is_redirect());
        let error = client.get(url("/tls")).send().unwrap_err();
        assert!(error.is_redirect() && format!("{error:?}").contains("TLS"), "{error:?}");
    });
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    fn names(request: &mut Request<'_>) -> String {
        let sent = request.headers().filter(|(name, _)| !["Host", "User-Agent"].contains(name));
        sent.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    }
    let other = start(names);
    let location = other.url.clone();
    let app = Router::new()
        .get("/away", move |_: &mut Request<'_>| Response::see_other(&location))
        .get("/home", |_: &mut Request<'_>| Response::see_other("/names"))
        .get("/names", names);
    let server = start(app);
    green(move || {
        let get = |path: &str| {
            let request = Client::new().get(format!("{}{path}", server.url)).follow(1);
            let request = request.header("Authorization", "Bearer s").header("cookie", "s=1");
            request.header("x-api-key", "s").sensitive_header("X-Ours", "s").header("X-Kept", "k")
        };
        assert_eq!(get("/away").send().unwrap().text().unwrap(), "X-Kept");
        // It stays sensitive, whoever sets it later.
        assert_eq!(get("/away").added_header("x-ours", "t").send().unwrap().text().unwrap(), "X-Kept");
        let at_home = get("/home").send().unwrap().text().unwrap();
        assert_eq!(at_home, "Authorization cookie x-api-key X-Ours X-Kept");
        drop(other);
    });
}

#[test]
fn a_killed_thread_and_a_limit_of_time_close_their_connections() {
    green(|| {
        for way in ["kill", "timeout"] {
            let (tell, told) = mpsc::channel();
            let script = script(vec![
                Box::new(move |mut peer| {
                    peer.head();
                    peer.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
                    assert_eq!(peer.closed(), b"");
                    tell.send(()).expect("the test listens");
                }),
                answers(OK),
            ]);
            let client = Client::new();
            let (reader, url) = (client.clone(), script.url("/"));
            let begun = Arc::new(bast::sync::MVar::empty());
            let started = Arc::clone(&begun);
            let read = move || {
                let mut response = reader.get(url).send().expect("a response");
                response.body().read_exact(&mut [0; 4]).expect("the first half");
                started.put(());
                response.text()
            };
            if way == "kill" {
                let thread = bast::spawn(read);
                begun.take();
                thread.thread().kill();
                assert!(thread.join().is_err());
            } else {
                assert_eq!(bast::timeout(Duration::from_millis(50), read).map(drop), Err(bast::Elapsed));
            }
            told.recv().expect("the connection is closed");
            assert_eq!(client.idle_connections(), 0, "a connection that is half used is not kept");
            assert_eq!(client.get(script.url("/")).send().unwrap().text().unwrap(), "ok");
            script.ends();
        }
    });
}

#[test]
fn threads_killed_at_random_leave_a_client_that_works() {
    let server = start(|_: &mut Request<'_>| vec![b'x'; 50_000]);
    green(move || {
        let client = Client::new();
        for round in 0..200u64 {
            let (worker, url) = (client.clone(), server.url.clone());
            let thread = bast::spawn(move || {
                for _ in 0..3 {
                    let body = worker.get(&url).send().expect("a response").read_to_vec().expect("a body");
                    assert!(body == vec![b'x'; 50_000], "the body of another request");
                }
            });
            bast::sleep(Duration::from_micros(round * 7));
            thread.thread().kill();
            if let Err(error) = thread.join() {
                assert!(!error.is_panic(), "{error}");
            }
        }
        assert_eq!(client.get(&server.url).send().unwrap().read_to_vec().unwrap().len(), 50_000);
    });
}

#[test]
fn idle_connections_are_limited_in_number_and_time() {
    let server = start(|_: &mut Request<'_>| "x");
    let other = start(|_: &mut Request<'_>| "y");
    green(move || {
        let limits =
            Limits { idle_connections_max: 3, idle_connections_per_host_max: 2, ..Limits::default() };
        let client = Client::builder().limits(limits).build();
        // All are under way at once, so that each has a connection of its own.
        let open = |url: &str, count: usize| -> Vec<_> {
            (0..count).map(|_| client.get(url).send().expect("a response")).collect()
        };
        let (here, there) = (open(&server.url, 4), open(&other.url, 4));
        drop(here);
        assert_eq!(client.idle_connections(), 2);
        drop(there);
        assert_eq!(client.idle_connections(), 3);

        let none = Client::builder().limits(Limits { idle_connections_max: 0, ..Limits::default() }).build();
        none.get(&server.url).send().unwrap().discard();
        assert_eq!(none.idle_connections(), 0);

        let limits = TimeLimits { idle: Duration::from_millis(1), ..TimeLimits::default() };
        let short = Client::builder().time_limits(limits).build();
        short.get(&server.url).send().unwrap().discard();
        let start = Instant::now();
        while short.idle_connections() > 0 {
            assert!(start.elapsed() < DEADLINE, "it is kept for ever");
            bast::yield_now();
        }
    });
}

#[test]
fn a_body_can_be_read_by_another_thread() {
    let server = start(|_: &mut Request<'_>| "x".repeat(100_000));
    green(move || {
        let client = Client::new();
        let mut body = client.get(&server.url).send().unwrap().into_body();
        let reader = bast::spawn(move || {
            let mut text = String::new();
            body.read_to_string(&mut text).map(|_| text)
        });
        assert_eq!(reader.join().unwrap().unwrap().len(), 100_000);
        assert_eq!(client.idle_connections(), 1);
    });
}

#[test]
fn a_slow_reader_slows_the_server_down() {
    green(|| {
        let (tell, told) = mpsc::channel();
        let script = script(vec![Box::new(move |mut peer| {
            peer.head();
            peer.say("HTTP/1.1 200 OK\r\n\r\n");
            peer.stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a deadline");
            let mut sent = 0;
            let error = loop {
                match peer.stream.write(&[0; 1 << 16]) {
                    Ok(count) => sent += count,
                    Err(error) => break error,
                }
            };
            tell.send((sent, error.kind())).expect("the test listens");
        })]);
        let response = Client::new().get(script.url("/")).send().unwrap();
        let (sent, error) = told.recv().expect("the server could send no more");
        assert_eq!(error, io::ErrorKind::WouldBlock);
        assert!(sent < 64 << 20, "{sent} bytes were taken, and nobody has read them");
        drop(response);
        script.ends();
    });
}

#[test]
fn json_goes_there_and_back() {
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Point {
        x: i32,
        y: i32,
    }
    let server = start(|request: &mut Request<'_>| -> Result<Response, bast_server::Error> {
        let media_type = request.header("Content-Type").unwrap_or_default().to_owned();
        Ok(Response::bytes(media_type, request.read_body()?))
    });
    green(move || {
        let client = Client::new();
        let response = client.post(&server.url).json(&Point { x: 1, y: -2 }).send().unwrap();
        assert_eq!(response.header("Content-Type"), Some("application/json"));
        assert_eq!(response.json::<Point>().unwrap(), Point { x: 1, y: -2 });
        assert!(client.post(&server.url).body("{").send().unwrap().json::<Point>().unwrap_err().is_content());
        assert!(client.post(&server.url).body(vec![0xff]).send().unwrap().text().unwrap_err().is_content());
    });
}

/// How deep an answer is nested is the choice of whoever sends it. A stack that overflows ends the process.
#[test]
fn json_that_is_nested_deep_does_not_overflow_the_stack_of_who_asked_for_it() {
    let server = start(|request: &mut Request<'_>| {
        let depth = request.path()[1..].parse().expect("a number");
        Response::bytes("application/json", ["[".repeat(depth), "]".repeat(depth)].concat())
    });
    green(move || {
        let ask = move || {
            let read = |depth: usize| {
                let response = Client::new().get(format!("{}/{depth}", server.url)).send().unwrap();
                response.json::<serde_json::Value>()
            };
            assert!(read(127).unwrap().is_array());
            assert!(read(128).unwrap_err().is_content());
        };
        bast::Builder::new().stack_size(64 << 10).spawn(ask).unwrap().join().unwrap();
    });
}

#[test]
fn quick_limits_do_not_hurt_what_is_quick() {
    let server = start(echo);
    green(move || {
        let client = Client::builder()
            .time_limits(TimeLimits { write: LONG, head: LONG, body: LONG, ..quick() })
            .build();
        let response = client.post(&server.url).expect_continue().body("quick").timeout(LONG).send().unwrap();
        assert_eq!(response.text().unwrap(), "quick");
    });
}
