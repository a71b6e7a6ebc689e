//! The gateway between a client and an upstream of ours, and `fetch` as a program.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bast_examples::gateway::Gateway;
use bast_server::client::{Client, TimeLimits};
use bast_server::{
    Error, Handler, Method, Request, Response, Router, Server, ServerHandle, Settings, Status,
};

const DEADLINE: Duration = Duration::from_secs(30);

struct Running {
    address: SocketAddr,
    handle: ServerHandle,
    served: Option<JoinHandle<io::Result<()>>>,
}

fn start(handler: impl Handler) -> Running {
    let settings = Settings { workers: Some(2), handle_signals: false, ..Settings::default() };
    let server = Server::bind("127.0.0.1:0").expect("bind").settings(settings);
    let (address, handle) = (server.local_addr().expect("an address"), server.handle());
    let served = thread::spawn(move || server.serve(handler));
    Running { address, handle, served: Some(served) }
}

impl Running {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shutdown();
        self.handle.shutdown();
        let result = self.served.take().expect("dropped once").join();
        if !thread::panicking() {
            result.expect("serve does not panic").expect("serve succeeds");
        }
    }
}

fn gateway(client: Client, upstream: SocketAddr) -> Running {
    let gateway = Gateway::new(client, upstream.to_string());
    start(move |request: &mut Request<'_>| gateway.forward(request))
}

/// A client whose every request ends in time.
fn client() -> Client {
    let time_limits = TimeLimits { total: Some(DEADLINE), ..TimeLimits::default() };
    Client::builder().time_limits(time_limits).build()
}

fn app() -> Router {
    Router::new()
        .any("/echo", |request: &mut Request<'_>| -> Result<Response, Error> {
            let told = format!("{} {} {:?}", request.method(), request.target(), request.content_length());
            Ok(Response::bytes("a/b", request.read_body()?).with_header("X-Told", told))
        })
        .get("/fields", |request: &mut Request<'_>| {
            let mut names: Vec<_> = request.headers().map(|(name, _)| name.to_ascii_lowercase()).collect();
            names.sort();
            Response::text(names.join(" "))
                .with_added_header("Set-Cookie", "a=1")
                .with_added_header("Set-Cookie", "b=2")
        })
        .any("/hops", |request: &mut Request<'_>| request.header("Max-Forwards").unwrap_or("-").to_owned())
        .get("/untyped", |_: &mut Request<'_>| Response::text("?").without_header("Content-Type"))
        .get("/204", |_: &mut Request<'_>| Status::NO_CONTENT)
        .get("/304", |_: &mut Request<'_>| Status::NOT_MODIFIED)
}

#[test]
fn requests_and_responses_pass_a_gateway_unchanged() {
    let upstream = start(app());
    let gateway = gateway(Client::new(), upstream.address);
    let client = client();
    for len in [0, 10, 3 << 20] {
        let body = vec![b'x'; len];
        for chunked in [false, true] {
            let request = client.put(gateway.url("/echo?a=%20b"));
            let response =
                if chunked { request.send_reader(&body[..]) } else { request.body(body.clone()).send() };
            let response = response.expect("a response");
            let length = if chunked { None } else { Some(len as u64) };
            assert_eq!(response.header("X-Told"), Some(&*format!("PUT /echo?a=%20b {length:?}")));
            assert_eq!(response.header("Content-Type"), Some("a/b"));
            assert_eq!(response.content_length(), Some(len as u64));
            assert!(response.read_to_vec().expect("a body") == body);
        }
    }
    let head = client.head(gateway.url("/fields")).send().expect("a response");
    assert!(head.header("Content-Length").is_some());
    for status in [Status::NO_CONTENT, Status::NOT_MODIFIED] {
        let response = client.get(gateway.url(&format!("/{}", status.code()))).send().expect("a response");
        assert_eq!(response.status(), status);
    }
    let untyped = client.get(gateway.url("/untyped")).send().expect("a response");
    assert_eq!(untyped.header("Content-Type"), None);
    assert_eq!(untyped.text().expect("a body"), "?");
    assert_eq!(client.get(gateway.url("/nothing")).send().expect("a response").status(), Status::NOT_FOUND);
    assert_eq!(client.idle_connections(), 1, "the connection was good for all of them");
}

#[test]
fn fields_of_one_connection_do_not_pass_a_gateway() {
    let upstream = start(app());
    let gateway = gateway(Client::new(), upstream.address);
    let answer = by_hand(
        &gateway,
        "Connection: close, X-Hop\r\nConnection: X-Hop-Too,,x-ANOTHER\r\nX-Hop: a\r\nx-hop-too: a\r\nX-Another: a\r\n\
         Keep-Alive: b\r\nTE: trailers\r\nProxy-Connection: c\r\nX-End: d",
    );
    assert!(answer.ends_with("\r\n\r\nhost user-agent via x-end x-forwarded-for"), "{answer}");
    assert_eq!(answer.matches("Set-Cookie: ").count(), 2, "{answer}");
}

#[test]
fn fields_of_the_upstreams_connection_do_not_pass_a_gateway_back() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let gateway = gateway(Client::new(), listener.local_addr().expect("an address"));
    let upstream = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        assert!(stream.read(&mut [0; 4096]).expect("a request") > 0);
        let fields = "Connection: close\r\nConnection: X-Hop\r\nX-Hop: a\r\nX-End: d\r\nContent-Length: 0";
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes()).expect("an answer");
    });
    let answer = client().get(gateway.url("/")).send().expect("a response");
    upstream.join().expect("the upstream ends");
    assert_eq!((answer.header("X-End"), answer.header("X-Hop")), (Some("d"), None));
}

#[test]
fn a_look_at_the_way_goes_as_far_as_it_may() {
    let upstream = start(app());
    let gateway = gateway(Client::new(), upstream.address);
    let client = client();
    let ask = |method: Method<'_>, hops: &str| {
        let request = client.request(method, gateway.url("/hops")).header("Max-Forwards", hops);
        let response = request.send().expect("a response");
        (response.status().code(), response.text().expect("a body"))
    };
    for (method, hops, code, text) in [
        (Method::Options, "2", 200, "1"),
        (Method::Options, "1", 200, "0"),
        (Method::Options, "0", 204, ""),
        (Method::Trace, "1", 200, "0"),
        (Method::Trace, "0", 405, ""),
        // It means nothing with others, nor does what is no number.
        (Method::Get, "0", 200, "0"),
        (Method::Options, "x", 200, "x"),
    ] {
        assert_eq!(ask(method, hops), (code, text.into()), "{method} {hops}");
    }
}

#[test]
fn whom_a_gateway_forwards_for_is_its_own_word() {
    let upstream = start(|request: &mut Request<'_>| {
        let said = request.headers().filter(|(name, _)| name.to_ascii_lowercase().contains("forwarded"));
        let said = said.chain(request.headers().filter(|(name, _)| name.eq_ignore_ascii_case("X-Real-IP")));
        said.map(|(_, value)| String::from_utf8_lossy(value)).collect::<Vec<_>>().join("; ")
    });
    let gateway = gateway(Client::new(), upstream.address);
    let answer = by_hand(
        &gateway,
        "Connection: close\r\nX-Forwarded-For: 10.0.0.1\r\nx-forwarded-for: 10.0.0.2\r\nForwarded: for=10.0.0.3\r\n\
         X-Forwarded-Host: a\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 10.0.0.4",
    );
    assert!(answer.ends_with("\r\n\r\n127.0.0.1"), "{answer}");
}

/// Sends a request for `/fields` with these lines, which our client would not send, and returns all that comes back.
fn by_hand(gateway: &Running, fields: &str) -> String {
    let mut stream = std::net::TcpStream::connect(gateway.address).expect("connect");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    stream
        .write_all(format!("GET /fields HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n").as_bytes())
        .expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn what_is_streamed_passes_a_gateway_as_it_comes() {
    let (send, items) = mpsc::channel::<&str>();
    // The upstream is an OS thread that sends a piece when it is told to.
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    let upstream = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut bytes = [0; 4096];
        assert!(stream.read(&mut bytes).expect("a request") > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").expect("a head");
        for item in items {
            stream.write_all(format!("{:x}\r\n{item}\r\n", item.len()).as_bytes()).expect("a piece");
        }
        stream.write_all(b"0\r\n\r\n").expect("the end");
    });
    let gateway = gateway(Client::new(), address);
    let mut response = None;
    for item in ["one", "two", "three"] {
        send.send(item).expect("the upstream listens");
        let response =
            response.get_or_insert_with(|| client().get(gateway.url("/")).send().expect("a response"));
        let mut piece = vec![0; item.len()];
        response.body().read_exact(&mut piece).expect("a piece");
        assert_eq!(piece, item.as_bytes());
    }
    drop(send);
    assert_eq!(response.expect("there is one").text().expect("the end"), "");
    upstream.join().expect("the upstream ends");
}

#[test]
fn an_upstream_that_is_not_there_is_a_502_and_one_that_is_slow_a_504() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address");
    let to_nobody = gateway(Client::new(), nobody);
    assert_eq!(client().get(to_nobody.url("/")).send().expect("a response").status(), Status::BAD_GATEWAY);
    // Connections wait in its queue for ever.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let time_limits = TimeLimits { head: Duration::from_millis(50), ..TimeLimits::default() };
    let hasty = Client::builder().time_limits(time_limits).build();
    let to_silent = gateway(hasty, silent.local_addr().expect("an address"));
    assert_eq!(
        client().get(to_silent.url("/")).send().expect("a response").status(),
        Status::GATEWAY_TIMEOUT
    );
}

#[test]
fn a_body_that_the_client_fails_to_send_is_its_own_fault() {
    let upstream = start(app());
    let gateway = gateway(Client::new(), upstream.address);
    for (body, code) in [
        ("Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nabc", 400),
        ("Content-Length: 5\r\n\r\nabc", 400),
        ("Content-Length: 99999999999\r\n\r\nabc", 413),
    ] {
        let mut stream = std::net::TcpStream::connect(gateway.address).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.write_all(format!("POST /echo HTTP/1.1\r\nHost: h\r\n{body}").as_bytes()).expect("send");
        stream.shutdown(Shutdown::Write).expect("no more is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{body:?}: {answer}");
    }
}

#[test]
fn fetch_prints_what_it_fetches() {
    let server = start(app());
    let fetch = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_fetch")).args(["-m", "20"]).args(arguments).output();
        let output = output.expect("fetch runs");
        let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
        (output.status.success(), out.expect("text"), err.expect("text"))
    };
    let echo = server.url("/echo");
    assert_eq!(fetch(&["-d", "hello", &echo]), (true, "hello".to_owned(), String::new()));
    let (_, out, _) = fetch(&["-i", "-X", "BREW", "-H", "X-A: b", &echo]);
    assert!(out.starts_with("HTTP/1.1 200 OK\n") && out.contains("X-Told: BREW /echo Some(0)\n"), "{out}");
    let (done, out, err) = fetch(&["https://127.0.0.1/"]);
    assert!(!done && out.is_empty() && err.contains("TLS"), "{err}");
    let (done, _, err) = fetch(&[]);
    assert!(!done && err.contains("--help"), "{err}");
}
