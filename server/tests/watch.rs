//! What a server tells of itself over real sockets: hooks, metrics, the PROXY protocol, and the life of a connection from
//! outside.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bast_server::{
    Cause, Closed, Error, FaultKind, Handler, Hooks, IntoResponse, Limits, Metrics, Phase, ProxyProtocol,
    Request, Response, Router, Server, ServerHandle, Settings, Status, TimeLimits,
};

const DEADLINE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    handle: ServerHandle,
    served: Option<JoinHandle<io::Result<()>>>,
}

fn settings() -> Settings {
    Settings { workers: Some(2), handle_signals: false, ..Settings::default() }
}

fn start(settings: Settings, handler: impl Handler) -> Running {
    let server = Server::bind("127.0.0.1:0").expect("bind").settings(settings);
    let (address, handle) = (server.local_addr().expect("an address"), server.handle());
    Running { address, handle, served: Some(thread::spawn(move || server.serve(handler))) }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.set_write_timeout(Some(DEADLINE)).expect("a deadline");
        stream
    }

    /// Sends this over a connection of its own and reads what comes until the end.
    fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_ref()).expect("send");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("receive");
        text
    }

    /// The body for this path.
    fn get(&self, path: &str) -> String {
        let text = self.exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        text.split_once("\r\n\r\n").expect("a response").1.to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shutdown();
        self.handle.shutdown();
        if let Some(served) = self.served.take() {
            let result = served.join();
            if !thread::panicking() {
                result.expect("serve does not panic").expect("serve succeeds");
            }
        }
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn hello(_: &mut Request<'_>) -> &'static str {
    "hello"
}

/// Reads one response that ends with `hello`.
fn answer(mut stream: &TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0; 1];
    while !text.ends_with(b"hello") {
        assert_eq!(stream.read(&mut byte).expect("an answer"), 1, "closed within an answer");
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("text")
}

/// Hooks that tell a test, and what they tell.
fn told() -> (Hooks, Receiver<Closed>, Receiver<(Phase, FaultKind, String)>) {
    let ((closed, closes), (failed, faults)) = (mpsc::channel(), mpsc::channel());
    let (closed, failed) = (Mutex::new(closed), Mutex::new(failed));
    let hooks = Hooks::new()
        .on_close(move |summary| closed.lock().expect("no panic").send(*summary).unwrap_or(()))
        .on_error(move |fault| {
            let told = (fault.phase, fault.kind, fault.detail.to_string());
            failed.lock().expect("no panic").send(told).unwrap_or(());
        });
    (hooks, closes, faults)
}

#[test]
fn the_end_of_a_connection_is_told_with_what_it_was_and_why() {
    let (hooks, closes, faults) = told();
    let limit = Duration::from_millis(300);
    let time_limits = TimeLimits { keep_alive_idle: limit, ..TimeLimits::default() };
    let server = start(Settings { hooks, time_limits, ..settings() }, |request: &mut Request<'_>| {
        assert_ne!(request.path(), "/panic", "as asked");
        "hello"
    });
    let closed = || closes.recv_timeout(DEADLINE).expect("the hook is called");

    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(GET).expect("send");
    }
    let own = stream.local_addr().expect("an address");
    let received: usize = (0..3).map(|_| answer(&stream).len()).sum();
    drop(stream);
    let summary = closed();
    assert_eq!((summary.peer, summary.requests, summary.cause), (own, 3, Cause::Client));
    assert_eq!(summary.received_bytes, 3 * GET.len() as u64);
    assert_eq!(summary.sent_bytes, received as u64);

    server.exchange(LAST);
    assert_eq!(closed().cause, Cause::Finished);

    let mut idle = server.connect();
    let begun = Instant::now();
    assert_eq!(idle.read(&mut [0]).expect("an end"), 0);
    let summary = closed();
    assert_eq!((summary.cause, summary.requests), (Cause::Idle, 0));
    assert!(
        summary.duration >= limit && summary.duration <= begun.elapsed() + limit,
        "{:?}",
        summary.duration
    );

    server.exchange("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(closed().cause, Cause::Fault(FaultKind::Refused(Status::BAD_REQUEST)));
    let (phase, kind, _) = faults.recv_timeout(DEADLINE).expect("the hook is called");
    assert_eq!((phase, kind), (Phase::New, FaultKind::Refused(Status::BAD_REQUEST)));

    server.exchange("GET /panic HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(closed().cause, Cause::Finished);
    let (phase, kind, detail) = faults.recv_timeout(DEADLINE).expect("the hook is called");
    assert_eq!((phase, kind), (Phase::Handler, FaultKind::Panicked));
    assert!(detail.contains("as asked"), "{detail}");

    let silent = server.connect();
    let _ = (&silent).write_all(b"");
    server.handle.shutdown();
    assert_eq!(closed().cause, Cause::Drain);
    assert!(closes.recv_timeout(Duration::ZERO).is_err() && faults.try_recv().is_err(), "each once");
}

#[test]
fn a_connection_that_is_killed_is_told_too() {
    let (hooks, closes, _) = told();
    let (arrived, arrival) = mpsc::channel();
    let arrived = Mutex::new(arrived);
    let server = start(Settings { hooks, ..settings() }, move |_: &mut Request<'_>| {
        arrived.lock().expect("no panic").send(()).expect("the test waits");
        bast::sleep(DEADLINE * 10);
    });
    let mut stream = server.connect();
    stream.write_all(GET).expect("send");
    arrival.recv_timeout(DEADLINE).expect("the handler runs");
    server.handle.shutdown();
    server.handle.shutdown();
    let summary = closes.recv_timeout(DEADLINE).expect("the hook is called");
    assert_eq!(summary.cause, Cause::Killed);
}

#[test]
fn a_hook_that_panics_and_one_that_refuses() {
    let hooks = Hooks::new().on_open(|peer| !peer.ip().is_loopback());
    let metrics = Metrics::new();
    let server = start(Settings { hooks, metrics: Some(metrics.clone()), ..settings() }, hello);
    assert_eq!(server.connect().read(&mut [0]).expect("an end"), 0, "closed without a word");
    let start_of_wait = Instant::now();
    while !metrics.text().contains("http_connections_refused_total{reason=\"hook\"} 1\n") {
        assert!(start_of_wait.elapsed() < DEADLINE, "{}", metrics.text());
        thread::sleep(Duration::from_millis(1));
    }
    drop(server);
    let hooks = Hooks::new().on_close(|_| panic!("as meant")).on_error(|_| panic!("as meant"));
    let server = start(Settings { hooks, ..settings() }, hello);
    assert!(server.exchange("no HTTP\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert!(server.exchange(LAST).ends_with("hello"), "it only costs the log a line");
}

#[test]
fn a_gate_that_panics_is_shut() {
    let hooks = Hooks::new().on_open(|_| panic!("as meant"));
    let server = start(Settings { hooks, ..settings() }, hello);
    assert_eq!(server.connect().read(&mut [0]).expect("an end"), 0, "closed without a word");
}

/// The value of a series on a page.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} in {page}")).parse().expect("a number")
}

/// The value of a line with a sample.
fn number(line: &str) -> f64 {
    line.rsplit_once(' ').expect("a value").1.parse().expect("a number")
}

/// How many connections are open, whatever they do.
fn open_connections(page: &str) -> f64 {
    page.lines().filter(|line| line.starts_with("http_connections{")).map(number).sum()
}

/// Waits until a series has this value.
fn until(metrics: &Metrics, series: &str, expected: f64) {
    let start = Instant::now();
    while value(&metrics.text(), series) != expected {
        assert!(start.elapsed() < DEADLINE, "{series} is not {expected}: {}", metrics.text());
        thread::sleep(Duration::from_millis(1));
    }
}

/// The sum of a family, over its labels.
fn total(page: &str, family: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(&format!("{family}{{")));
    lines.map(|line| line.rsplit_once(' ').expect("a value").1.parse::<f64>().expect("a number")).sum()
}

#[test]
fn each_connection_that_was_accepted_is_open_or_closed_or_refused_for_a_reason() {
    let metrics = Metrics::new();
    let settings = Settings {
        hooks: Hooks::new().on_open(|peer| peer.ip().to_string() != "192.0.2.66"),
        metrics: Some(metrics.clone()),
        proxy_protocol: Some(ProxyProtocol::from_proxies(["127.0.0.1"]).expect("a range")),
        limits: Limits { connections_max: 4, connections_per_address_max: 2, ..Limits::default() },
        ..settings()
    };
    let server = start(settings, hello);
    let mut made = 0.0;
    let mut connect = |client: &str| {
        made += 1.0;
        let mut stream = server.connect();
        let header = format!("PROXY TCP4 {client} 198.51.100.7 56324 443\r\n");
        stream.write_all(&[header.as_bytes(), GET].concat()).expect("send");
        stream
    };
    let turned_away = |mut stream: TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an end, and no reset");
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    };
    let refused = |reason: &str, expected: f64| {
        until(&metrics, &format!("http_connections_refused_total{{reason=\"{reason}\"}}"), expected);
    };
    let mut open: Vec<TcpStream> = ["192.0.2.1", "192.0.2.1"].map(&mut connect).into();
    open.iter().for_each(|stream| assert!(answer(stream).starts_with("HTTP/1.1 200")));
    turned_away(connect("192.0.2.1"));
    refused("client_limit", 1.0);
    // It is aborted with unread bytes: a reset, perhaps.
    let _ = connect("192.0.2.66").read_to_end(&mut Vec::new());
    refused("hook", 1.0);
    let _ = connect("nobody").read_to_end(&mut Vec::new());
    refused("proxy", 1.0);
    let served = connect("192.0.2.2");
    answer(&served);
    drop(served);
    until(&metrics, "http_connections_closed_total{cause=\"client\"}", 1.0);
    // The places of those who have left are free, in a moment.
    let mut told = 0.0;
    while open.len() < 4 {
        let stream = connect("192.0.2.3");
        let mut code = [0; 12];
        (&stream).read_exact(&mut code).expect("an answer");
        if &code == b"HTTP/1.1 200" {
            answer(&stream);
            open.push(stream);
        } else {
            told += 1.0;
        }
    }
    turned_away(connect("192.0.2.4"));
    refused("limit", told + 1.0);
    until(&metrics, "http_connections{state=\"idle\"}", 4.0);
    let page = metrics.text();
    assert_eq!(value(&page, "http_connections{state=\"queued\"}"), 0.0, "{page}");
    assert_eq!(value(&page, "http_connections_accepted_total"), made, "{page}");
    let (refused, closed) =
        (total(&page, "http_connections_refused_total"), total(&page, "http_connections_closed_total"));
    assert_eq!((open_connections(&page), refused, closed), (4.0, told + 4.0, 1.0), "{page}");
    assert_eq!(made, 4.0 + refused + closed, "{page}");
}

#[test]
fn a_request_whose_upgrade_is_refused_is_counted_once() {
    let (hooks, closes, _) = told();
    let metrics = Metrics::new();
    let limits = Limits { drain_bytes_max: 10, ..Limits::default() };
    let settings = Settings { hooks, metrics: Some(metrics.clone()), limits, ..settings() };
    let server = start(settings, |_: &mut Request<'_>| Response::upgrade("echo", |_| {}));
    let ask = |length: usize| {
        let body = "x".repeat(length);
        let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\nContent-Length";
        server.exchange(format!("{head}: {length}\r\n\r\n{body}"))
    };
    assert!(ask(1000).starts_with("HTTP/1.1 400 "), "its body is not read that far");
    assert!(ask(5).starts_with("HTTP/1.1 101 "));
    for _ in 0..2 {
        assert_eq!(closes.recv_timeout(DEADLINE).expect("the end").requests, 1);
    }
    let page = metrics.text();
    for status in ["1xx", "4xx"] {
        assert_eq!(value(&page, &format!("http_requests_total{{method=\"POST\",status=\"{status}\"}}")), 1.0);
    }
    assert_eq!(total(&page, "http_requests_total"), 2.0, "{page}");
}

#[test]
fn the_metrics_of_a_server_tell_what_its_clients_did() {
    let metrics = Metrics::new();
    let app = Router::new().get("/", hello).get("/metrics", metrics.handler()).post(
        "/",
        |request: &mut Request<'_>| -> Result<Vec<u8>, Error> {
            bast::sleep(Duration::from_millis(20));
            request.read_body()
        },
    );
    let inner = Router::new()
        .get("/{name}", |request: &mut Request<'_>| request.param_text("name").map(String::from));
    let app = app.get("/users/{id}", hello).mount("/inner", inner);
    let server = start(Settings { metrics: Some(metrics), ..settings() }, app);
    let idle = server.connect();
    (&idle).write_all(GET).expect("send");
    answer(&idle);
    let silent = server.connect();
    for _ in 0..5 {
        server.exchange(LAST);
    }
    server.exchange("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello");
    for target in ["/none", "/users/17", "/users/18?x=17", "/inner/17"] {
        server.exchange(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    }
    server.exchange("HEAD /users/17 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    server.exchange("PURGE /users/17 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    server.exchange("GET /users/17 HTTP/9.9\r\n\r\n");
    // Connections end a moment after their clients have seen it.
    let start_of_wait = Instant::now();
    let text = loop {
        let text = server.exchange("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let open: f64 = ["new", "idle", "handler"]
            .map(|state| value(&text, &format!("http_connections{{state=\"{state}\"}}")))
            .iter()
            .sum();
        if open == 3.0 && value(&text, "http_connections{state=\"handler\"}") == 1.0 {
            break text;
        }
        assert!(start_of_wait.elapsed() < DEADLINE, "{text}");
    };
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(text.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{text}");
    for (series, expected) in [
        ("http_connections{state=\"new\"}", 1.0),
        ("http_connections{state=\"idle\"}", 1.0),
        ("http_connections{state=\"queued\"}", 0.0),
        ("http_requests_total{method=\"POST\",status=\"2xx\"}", 1.0),
        ("http_requests_total{method=\"GET\",status=\"4xx\"}", 1.0),
        ("http_connections_refused_total{reason=\"limit\"}", 0.0),
        ("http_handler_seconds_count{method=\"GET\",route=\"/\"}", 6.0),
        ("http_handler_seconds_count{method=\"POST\",route=\"/\"}", 1.0),
        ("http_handler_seconds_count{method=\"GET\",route=\"none\"}", 1.0),
        ("http_handler_seconds_count{method=\"GET\",route=\"/users/{id}\"}", 2.0),
        ("http_handler_seconds_count{method=\"HEAD\",route=\"/users/{id}\"}", 1.0),
        ("http_handler_seconds_count{method=\"GET\",route=\"/inner/{name}\"}", 1.0),
        ("http_handler_seconds_count{method=\"other\",route=\"none\"}", 1.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    // The sleep is in it, and in no other; what clients made up is in no label.
    assert!(value(&text, "http_handler_seconds_sum{method=\"POST\",route=\"/\"}") >= 0.02);
    assert!(!text.contains("/users/1") && !text.contains("inner/1") && !text.contains("PURGE"), "{text}");
    let of_others =
        |line: &&str| line.starts_with("http_handler_seconds_count") && !line.contains("/metrics");
    assert_eq!(text.lines().filter(of_others).count(), 7, "{text}");
    let of_routes: f64 =
        text.lines().filter(|line| line.starts_with("http_handler_seconds_sum")).map(number).sum();
    let of_all = value(&text, "http_request_phase_seconds_sum{phase=\"handler\"}");
    assert!((of_routes - of_all).abs() < 1e-6, "{of_routes} {of_all}");
    assert!(value(&text, "http_requests_total{method=\"GET\",status=\"2xx\"}") >= 6.0);
    assert!(value(&text, "http_received_bytes_total") >= 6.0 * GET.len() as f64);
    assert!(
        value(&text, "bast_accepts_total{capability=\"0\"}")
            + value(&text, "bast_accepts_total{capability=\"1\"}")
            >= 9.0
    );
    // What was closed lasted no less than what its requests took: the two that are open still took next to nothing, and
    // the handler's sleep is in both.
    let phase = |name: &str| value(&text, &format!("http_request_phase_seconds_sum{{phase=\"{name}\"}}"));
    let total = value(&text, "http_connection_seconds_sum");
    assert!(phase("handler") >= 0.02);
    assert!(value(&text, "http_request_seconds_sum") >= phase("handler") + phase("write"));
    let of_closed = total + value(&text, "http_request_seconds_sum") - phase("handler");
    assert!(of_closed >= value(&text, "http_connection_queue_seconds_sum") + phase("write"));
    drop((idle, silent));
}

#[test]
fn the_client_is_whom_the_proxy_speaks_for_and_strangers_are_not_believed() {
    let who = |request: &mut Request<'_>| {
        let proxied = request.proxy().map(|proxied| (proxied.destination(), proxied.proxy().ip()));
        format!("{:?} {proxied:?}", request.peer().map(|peer| peer.to_string()))
    };
    let from = |ranges: &[&str]| ProxyProtocol::from_proxies(ranges).expect("ranges");
    let with = |proxy_protocol| Settings { proxy_protocol: Some(proxy_protocol), ..settings() };
    const LINE: &str = "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n";
    let last = String::from_utf8_lossy(LAST);

    let server = start(with(from(&["127.0.0.0/8"])), who);
    let text = server.exchange(format!("{LINE}{last}"));
    assert!(text.ends_with("Some(\"192.0.2.1:56324\") Some((198.51.100.7:443, 127.0.0.1))"), "{text}");
    // A header for the whole connection, and requests in pieces.
    let mut stream = server.connect();
    for byte in format!("{LINE}{last}").bytes() {
        stream.write_all(&[byte]).expect("send");
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("receive");
    assert!(text.contains("192.0.2.1:56324"), "{text}");
    // The proxy's own health check.
    let local = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], LAST].concat();
    assert!(server.exchange(local).ends_with(" None"));
    // No header, another protocol, a second header.
    for bad in [last.to_string(), format!("PROXY TCP4 x{LINE}{last}")] {
        let mut stream = server.connect();
        stream.write_all(bad.as_bytes()).expect("send");
        let mut text = Vec::new();
        // It is aborted with unread bytes: a reset, perhaps.
        let _ = stream.read_to_end(&mut text);
        assert_eq!(text, b"", "closed without a word");
    }
    let text = server.exchange(format!("{LINE}{LINE}{last}"));
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");

    let server = start(with(from(&["192.0.2.0/24"])), who);
    let mut stream = server.connect();
    let _ = stream.write_all(LAST);
    let _ = stream.read_to_string(&mut String::new()).map(|count| assert_eq!(count, 0));

    let server = start(with(from(&["192.0.2.0/24"]).and_clients()), who);
    let text = server.exchange(LAST);
    assert!(text.contains("127.0.0.1") && text.ends_with(" None"), "{text}");
    let text = server.exchange(format!("{LINE}{last}"));
    assert!(text.starts_with("HTTP/1.1 400"), "a client's header is no request: {text}");
}

#[test]
fn a_proxy_that_does_not_send_its_header_is_cut_like_a_slow_head() {
    let limit = Duration::from_millis(200);
    let settings = Settings {
        proxy_protocol: Some(ProxyProtocol::from_proxies(["127.0.0.1"]).expect("a range")),
        time_limits: TimeLimits { head: limit, ..TimeLimits::default() },
        ..settings()
    };
    let server = start(settings, hello);
    let begun = Instant::now();
    let mut stream = server.connect();
    stream.write_all(b"PROXY TCP4 192.0.2.1 ").expect("send");
    assert_eq!(stream.read(&mut [0]).expect("an end"), 0);
    assert!(begun.elapsed() >= limit);
}

/// A page with the labels of all threads, and the id of the one that writes it.
fn threads(request: &mut Request<'_>) -> String {
    let mut page = format!("{:?}", bast::current().id());
    let prefix = request.peer().map_or_else(String::new, |_| "conn".to_owned());
    for thread in bast::threads() {
        if let Some(label) =
            thread.label.map(|label| label.to_string()).filter(|label| label.starts_with(&prefix))
        {
            page.push('\n');
            page.push_str(&label);
        }
    }
    page
}

fn page(mut stream: &TcpStream) -> String {
    stream.write_all(GET).expect("send");
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).expect("an answer");
        assert!(count > 0, "closed within an answer");
        bytes.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
        if body.len() == length.parse::<usize>().expect("a number") {
            return body.to_owned();
        }
    }
}

#[test]
fn each_open_connection_is_one_thread_and_its_end_is_the_end_of_the_thread() {
    const CONNECTIONS: usize = 50;
    let server = start(settings(), threads);
    let streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    for stream in &streams {
        page(stream);
    }
    let seen = page(&streams[0]);
    let labels: Vec<&str> = seen.lines().skip(1).collect();
    assert_eq!(labels.len(), CONNECTIONS, "{seen}");
    let peers: BTreeSet<String> =
        streams.iter().map(|stream| stream.local_addr().expect("an address").port().to_string()).collect();
    assert!(
        peers
            .iter()
            .all(|port| labels.iter().filter(|label| label.ends_with(&format!(":{port}"))).count() == 1),
        "{seen}"
    );
    // A hundred requests are answered by the same thread.
    let ids: BTreeSet<String> =
        (0..100).map(|_| page(&streams[0]).lines().next().expect("an id").to_owned()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let first = streams.into_iter().next().expect("a connection");
    let closed = Instant::now();
    while page(&first).lines().count() > 2 {
        assert!(closed.elapsed() < Duration::from_secs(1), "threads outlive their connections by a second");
    }
}

/// What a handler's response goes through, and when the connection is given up.
#[test]
fn a_response_is_made_cleaned_up_after_sent_and_then_the_connection_ends() {
    struct Slow(Arc<Mutex<Vec<&'static str>>>);
    impl IntoResponse for Slow {
        fn into_response(self) -> Response {
            self.0.lock().expect("no panic").push("serialised");
            let log = Arc::clone(&self.0);
            Response::stream("text/plain", move |body| {
                body.write_all(b"hello")?;
                body.flush()?;
                log.lock().expect("no panic").push("written");
                Ok(())
            })
        }
    }
    struct Guard(Arc<Mutex<Vec<&'static str>>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.lock().expect("no panic").push("handler cleaned up");
        }
    }
    let log = Arc::new(Mutex::new(Vec::new()));
    let (metrics, gone) = (Metrics::new(), mpsc::channel());
    let gone_sender = Mutex::new(gone.0);
    let (hook_log, page) = (Arc::clone(&log), metrics.clone());
    let hooks = Hooks::new().on_close(move |_| {
        let is_counted = open_connections(&page.text()) == 1.0;
        hook_log.lock().expect("no panic").push(if is_counted { "closed" } else { "given up too early" });
        gone_sender.lock().expect("no panic").send(()).unwrap_or(());
    });
    let handler_log = Arc::clone(&log);
    let settings = Settings { hooks, metrics: Some(metrics.clone()), ..settings() };
    let server = start(settings, move |_: &mut Request<'_>| {
        let _guard = Guard(Arc::clone(&handler_log));
        Slow(Arc::clone(&handler_log))
    });
    assert!(server.exchange(LAST).contains("hello"));
    gone.1.recv_timeout(DEADLINE).expect("the end");
    let log = log.lock().expect("no panic").clone();
    assert_eq!(log, ["handler cleaned up", "serialised", "written", "closed"]);
    let start_of_wait = Instant::now();
    while open_connections(&metrics.text()) > 0.0 {
        assert!(start_of_wait.elapsed() < DEADLINE, "{}", metrics.text());
    }
}

/// Whatever a connection does, the next one on the same core is answered like the first of a fresh server.
#[test]
fn nothing_of_a_connection_is_left_for_the_next() {
    let app = || {
        Router::new()
            .get("/", |request: &mut Request<'_>| {
                let fields: Vec<_> = request.headers().map(|(name, _)| name.to_owned()).collect();
                format!("{:?} {:?} {fields:?}", request.query(), request.content_length())
            })
            .get("/users/{id}", |request: &mut Request<'_>| request.param::<String>("id"))
            .get("/panic", |_: &mut Request<'_>| -> &str { panic!("as meant") })
            .post("/half", |request: &mut Request<'_>| {
                request.body().read(&mut [0; 3]).map(|count| count.to_string())
            })
            .get("/cut", |_: &mut Request<'_>| {
                Response::stream("text/plain", |body| {
                    body.write_all(b"some")?;
                    Err(io::Error::other("no more"))
                })
            })
    };
    let one = || Settings { workers: Some(1), ..settings() };
    let without_date = |text: String| -> String {
        text.lines().filter(|line| !line.starts_with("Date: ")).collect::<Vec<_>>().join("\n")
    };
    let clean = without_date(start(one(), app()).exchange(LAST));
    assert!(clean.ends_with("None Some(0) [\"Host\", \"Connection\"]"), "{clean}");
    let server = start(one(), app());
    let long =
        format!("GET /?{} HTTP/1.1\r\nHost: a\r\nX-Secret: {}\r\n\r\n", "q".repeat(7000), "s".repeat(20_000));
    for (nasty, then_wait) in [
        ("GET /users/7?x=y HTTP/1.1\r\nHost: a\r\nX-Extra: 1\r\n\r\n", false),
        ("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ("POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nunread", false),
        ("POST /half HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", false),
        ("POST /half HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", false),
        ("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-Half: a he", false),
        ("GARBAGE\r\n\r\n", true),
        (&long, false),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\nGET /", false),
    ] {
        let mut stream = server.connect();
        stream.write_all(nasty.as_bytes()).expect("send");
        if then_wait {
            let _ = stream.read_to_end(&mut Vec::new());
        }
        drop(stream);
        assert_eq!(without_date(server.exchange(LAST)), clean, "after {nasty:?}");
    }
    assert_eq!(server.get("/users/8"), "8");
}
