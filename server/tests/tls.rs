//! HTTPS, over real sockets, with the client side of rustls.
//!
//! The certificate is for `localhost` and signed with its own key, valid for a thousand years; there is nothing that the
//! key protects. `openssl ca -selfsign -startdate … -enddate …` made it, from a P-256 key.
#![forbid(unsafe_code)]

mod support;

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bast_server::tls::rustls::pki_types::pem::PemObject as _;
use bast_server::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use bast_server::tls::rustls::server::WebPkiClientVerifier;
use bast_server::tls::rustls::version::{TLS12, TLS13};
use bast_server::tls::rustls::{
    self, AlertDescription, ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
};
use bast_server::{
    Error, FaultKind, Handler, Hooks, ProxyProtocol, Request, Response, Router, Server, Settings, TimeLimits,
    Upgraded,
};

use support::{Client, DEADLINE, Gate, Running, open, run, settings};

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(include_bytes!("tls/certificate.pem")).expect("a certificate")
}

fn key() -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(include_bytes!("tls/key.pem")).expect("a key")
}

/// Whoever knows the certificate knows who has it.
fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).expect("a root");
    roots
}

fn start(settings: Settings, handler: impl Handler) -> Running {
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate()], key());
    start_with(config.expect("they belong together"), settings, handler)
}

fn start_with(config: ServerConfig, settings: Settings, handler: impl Handler) -> Running {
    run(Server::bind("127.0.0.1:0").expect("bind").settings(settings).tls(Arc::new(config)), handler)
}

fn client_config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(roots())
        .with_no_client_auth()
}

fn session(config: ClientConfig) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}

/// A client whose handshake is made with its first bytes.
fn secured(client: Client, config: ClientConfig) -> Client<Tls> {
    Client { stream: StreamOwned::new(session(config), client.stream), buffer: client.buffer }
}

fn connect(server: &Running) -> Client<Tls> {
    secured(server.connect(), client_config(&TLS13))
}

/// What a client says first, as one TLS record.
fn client_hello() -> (ClientConnection, Vec<u8>) {
    let mut session = session(client_config(&TLS13));
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("a vector");
    (session, hello)
}

/// Makes the handshake of a client that has said hello already, and asks.
fn go_on(session: ClientConnection, client: Client) {
    let mut client = Client { stream: StreamOwned::new(session, client.stream), buffer: client.buffer };
    assert_eq!(client.get("/").body, "hello");
}

fn hello(_: &mut Request<'_>) -> &'static str {
    "hello"
}

/// Bytes of which no stretch looks like the one before it.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn requests_are_answered_one_after_another_and_pipelined() {
    let server = start(settings(), hello);
    for version in [&TLS12, &TLS13] {
        let mut client = secured(server.connect(), client_config(version));
        assert_eq!(client.get("/").body, "hello");
        assert_eq!(client.get("/").body, "hello");
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50));
        for _ in 0..50 {
            assert_eq!(client.answer().body, "hello");
        }
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer().body, "hello");
        // An end without close_notify would be an error here.
        client.closed();
    }
}

#[test]
fn http_1_1_is_agreed_upon_and_nothing_else() {
    let server = start(settings(), hello);
    let with = |protocols: &[&[u8]]| {
        let mut config = client_config(&TLS13);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        secured(server.connect(), config)
    };
    let mut client = with(&[b"h2", b"http/1.1"]);
    assert_eq!(client.get("/").body, "hello");
    assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    let error = with(&[b"h2"]).stream.write(b"GET").expect_err("no protocol in common");
    let told = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let expected = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(told, Some(&expected), "{error}");
}

#[test]
fn a_handler_sees_how_its_connection_is_secured_and_who_the_client_is() {
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots())).build().expect("a verifier");
    let config = ServerConfig::builder().with_client_cert_verifier(verifier);
    let config = config.with_single_cert(vec![certificate()], key()).expect("they belong together");
    let server = start_with(config, settings(), |request: &mut Request<'_>| {
        let secured = request.secured().expect("a session");
        let is_known = secured.client_certificates == [certificate()];
        format!("{:?} {:?} {is_known}", secured.version, secured.server_name)
    });
    let config = ClientConfig::builder().with_root_certificates(roots());
    let config = config.with_client_auth_cert(vec![certificate()], key()).expect("they belong together");
    let mut client = secured(server.connect(), config);
    assert_eq!(client.get("/").body, "Some(TLSv1_3) Some(\"localhost\") true");
    let error = connect(&server).stream.read(&mut [0]).expect_err("a certificate is missing");
    let told = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let expected = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
    assert_eq!(told, Some(&expected), "{error}");
    // Without TLS there is nothing to see.
    let plain =
        support::start(settings(), |request: &mut Request<'_>| request.secured().is_none().to_string());
    assert_eq!(plain.connect().get("/").body, "true");
}

#[test]
fn large_bodies_go_both_ways() {
    let echo = |request: &mut Request<'_>| -> Result<Response, Error> {
        let mut body = Vec::new();
        request.body().read_to_end(&mut body)?;
        Ok(Response::bytes("a/b", body))
    };
    let mut settings = settings();
    settings.limits.body_bytes_max = 1 << 30;
    let server = start(settings, echo);
    for version in [&TLS12, &TLS13] {
        let mut client = secured(server.connect(), client_config(version));
        for len in [1, 16 << 10, (64 << 10) + 1, 5_000_001] {
            let body = noise(len);
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n"));
            client.send(&body);
            receive_body(&mut client, &body);
        }
    }
}

/// The next answer must have this body.
fn receive_body(client: &mut Client<Tls>, body: &[u8]) {
    let head_len = loop {
        if let Some(at) = client.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        assert!(client.receive() > 0, "closed before an answer");
    };
    let head = String::from_utf8(client.buffer.drain(..head_len).collect()).expect("a head is text");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    while client.buffer.len() < body.len() {
        assert!(client.receive() > 0, "closed after {} of {} bytes", client.buffer.len(), body.len());
    }
    assert!(client.buffer == body, "{} other bytes", body.len());
    client.buffer.clear();
}

#[test]
fn files_of_all_sizes_arrive_byte_for_byte() {
    let folder = std::env::temp_dir().join(format!("bast-tls-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let server = start(settings(), Router::new().files("/", &folder));
    let mut client = connect(&server);
    for len in [1, 16 << 10, (16 << 10) + 1, 64 << 10, (64 << 10) + 1, 3_000_003] {
        let body = noise(len);
        fs::write(folder.join(len.to_string()), &body).expect("a file");
        client.send(format!("GET /{len} HTTP/1.1\r\nHost: a\r\n\r\n"));
        receive_body(&mut client, &body);
    }
    fs::remove_dir_all(&folder).expect("the folder of this test");
}

#[test]
fn what_a_stream_flushes_arrives_before_it_goes_on() {
    let gate = Gate::new();
    let address = gate.address;
    let server = start(settings(), move |_: &mut Request<'_>| {
        Response::stream("text/plain", move |body| {
            body.write_all(b"first")?;
            body.flush()?;
            bast::net::TcpStream::connect(address)?.read_exact(&mut [0])?;
            body.write_all(b"second")
        })
    });
    let mut client = connect(&server);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    while !client.buffer.ends_with(b"first\r\n") {
        assert!(client.receive() > 0, "closed before the first part");
    }
    open(gate.arrival());
    client.stream.read_to_end(&mut client.buffer).expect("the rest, and close_notify");
    assert!(client.buffer.ends_with(b"second\r\n0\r\n\r\n"));
}

/// Settings of which the hook says why connections end, and what failed.
fn told(settings: Settings) -> (Settings, Receiver<(FaultKind, String)>) {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let hooks = Hooks::new().on_error(move |fault| {
        sender.lock().expect("no panic").send((fault.kind, fault.detail.to_string())).unwrap_or(());
    });
    (Settings { hooks, ..settings }, receiver)
}

const LIMIT: Duration = Duration::from_millis(200);

#[test]
fn a_client_that_stops_reading_is_cut_off() {
    let time_limits = TimeLimits { write: LIMIT, ..TimeLimits::default() };
    let (settings, faults) = told(Settings { time_limits, ..settings() });
    let server = start(settings, |_: &mut Request<'_>| Response::bytes("a/b", vec![0; 64 << 20]));
    let mut client = connect(&server);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let (kind, _) = faults.recv_timeout(DEADLINE).expect("it is cut off");
    assert_eq!(kind, FaultKind::Write(ErrorKind::TimedOut));
    let error = client.stream.read_to_end(&mut Vec::new()).expect_err("an end that was not announced");
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
}

#[test]
fn a_silent_and_a_slow_handshake_are_cut_off_within_twice_the_limit() {
    let time_limits = TimeLimits { head: LIMIT, ..TimeLimits::default() };
    let (settings, faults) = told(Settings { time_limits, ..settings() });
    let server = start(settings, hello);
    let (_, hello) = client_hello();
    for is_silent in [true, false] {
        let start = Instant::now();
        let mut client = server.connect();
        if !is_silent {
            client.stream.set_nodelay(true).expect("no delay");
            client.stream.set_read_timeout(Some(LIMIT / 10)).expect("a limit");
            for byte in &hello {
                // The wait for an answer is what lets the time pass.
                let cut_off = client.stream.write_all(&[*byte]).is_err()
                    || client.stream.read(&mut [0]).is_ok_and(|count| count == 0);
                if cut_off {
                    break;
                }
            }
        } else {
            client.closed();
        }
        let (kind, detail) = faults.recv_timeout(DEADLINE).expect("it is cut off");
        assert_eq!(kind, FaultKind::Tls, "{detail}");
        let elapsed = start.elapsed();
        assert!(LIMIT <= elapsed, "{elapsed:?} is before the limit");
        // Twice the limit, and what a busy machine needs.
        assert!(elapsed < LIMIT * 2 + Duration::from_secs(2), "{elapsed:?}");
    }
}

#[test]
fn a_client_without_tls_is_told_so_without_tls() {
    let (settings, faults) = told(settings());
    let server = start(settings, hello);
    let mut client = server.connect();
    let answer = client.get("/secret");
    assert_eq!(answer.code, 400, "{answer:?}");
    assert!(answer.head.contains("Connection: close\r\n"), "{answer:?}");
    assert!(answer.body.contains("HTTPS"), "{answer:?}");
    client.closed();
    let (kind, detail) = faults.recv_timeout(DEADLINE).expect("the hook is called");
    assert_eq!((kind, detail.as_str()), (FaultKind::Tls, "HTTP without TLS"));
}

#[test]
fn what_is_no_tls_at_all_gets_an_alert_and_the_end() {
    let (settings, faults) = told(settings());
    let server = start(settings, hello);
    let mut client = server.connect();
    client.send([0x80; 100]);
    let mut bytes = Vec::new();
    client.stream.read_to_end(&mut bytes).expect("an orderly end");
    // A record of type alert (21), its version and length, and a fatal (2) alert (RFC 8446 §6).
    assert_eq!((bytes.first(), bytes.get(5)), (Some(&21), Some(&2)), "{bytes:?}");
    assert_eq!(faults.recv_timeout(DEADLINE).expect("the hook is called").0, FaultKind::Tls);
}

#[test]
fn a_client_hello_may_be_cut_into_segments_anywhere() {
    let server = start(settings(), hello);
    let (_, first) = client_hello();
    for cut in 1..first.len() {
        let (session, hello) = client_hello();
        let mut client = server.connect();
        client.stream.set_nodelay(true).expect("no delay");
        client.send(&hello[..cut]);
        client.send(&hello[cut..]);
        go_on(session, client);
    }
}

/// RUSTSEC-2024-0399 was a panic at such a hello.
#[test]
fn a_client_hello_may_be_cut_into_records_anywhere() {
    let server = start(settings(), hello);
    let (_, first) = client_hello();
    for cut in 6..first.len() {
        let (session, hello) = client_hello();
        let record = |payload: &[u8]| {
            let len = u16::try_from(payload.len()).expect("a short hello").to_be_bytes();
            [&hello[..3], &len[..], payload].concat()
        };
        let mut client = server.connect();
        client.send([record(&hello[5..cut]), record(&hello[cut..])].concat());
        go_on(session, client);
    }
}

/// What the client said is over; CVE-2024-32650 was an endless loop here.
#[test]
fn data_behind_close_notify_neither_counts_nor_loops() {
    let server = start(settings(), hello);
    let mut client = connect(&server);
    assert_eq!(client.get("/").body, "hello");
    client.stream.conn.send_close_notify();
    let mut bytes = Vec::new();
    client.stream.conn.write_tls(&mut bytes).expect("a vector");
    bytes.extend(noise(100_000));
    // The server may close while this is under way.
    let _ = client.stream.sock.write_all(&bytes);
    match client.stream.read(&mut [0]) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    drop(client);
    server.handle.shutdown();
    server.ended().expect("nothing is left that computes");
}

fn body_error(server_says: Sender<ErrorKind>) -> impl Handler {
    let server_says = Mutex::new(server_says);
    move |request: &mut Request<'_>| {
        let error = request.body().read_to_end(&mut Vec::new()).expect_err("no whole body");
        server_says.lock().expect("no panic").send(error.kind()).expect("a test");
        "too short"
    }
}

#[test]
fn a_body_that_ends_without_close_notify_or_too_early_is_an_error() {
    let (server_says, said) = mpsc::channel();
    let server = start(settings(), body_error(server_says));
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        for is_announced in [false, true] {
            let mut client = connect(&server);
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n5\r\nhal"));
            if is_announced {
                client.stream.conn.send_close_notify();
                client.stream.flush().expect("sent");
            }
            client.stream.sock.shutdown(Shutdown::Write).expect("an end");
            let kind = said.recv_timeout(DEADLINE).expect("an error");
            assert_eq!(kind, ErrorKind::UnexpectedEof, "{framing}, announced: {is_announced}");
        }
    }
}

#[test]
fn an_idle_connection_that_ends_without_close_notify_is_no_fault() {
    let (settings, faults) = told(settings());
    let server = start(settings, hello);
    let mut client = connect(&server);
    assert_eq!(client.get("/").body, "hello");
    client.stream.sock.shutdown(Shutdown::Write).expect("an end");
    client.closed();
    drop(client);
    server.handle.shutdown();
    server.ended().expect("a graceful end");
    assert_eq!(faults.try_iter().collect::<Vec<_>>(), []);
}

#[test]
fn a_record_that_was_changed_on_its_way_ends_the_connection() {
    let server = start(settings(), hello);
    let mut client = connect(&server);
    assert_eq!(client.get("/").body, "hello");
    client.stream.conn.writer().write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
    let mut bytes = Vec::new();
    client.stream.conn.write_tls(&mut bytes).expect("a vector");
    *bytes.last_mut().expect("a record") ^= 1;
    client.stream.sock.write_all(&bytes).expect("sent");
    let error = client.stream.read(&mut [0]).expect_err("no answer");
    let told = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    assert_eq!(told, Some(&rustls::Error::AlertReceived(AlertDescription::BadRecordMac)), "{error}");
}

#[test]
fn a_drain_announces_the_end_to_an_idle_client_and_cuts_off_a_handshake() {
    let server = start(settings(), hello);
    let mut client = connect(&server);
    assert_eq!(client.get("/").body, "hello");
    let mut hesitant = server.connect();
    let (_, hello) = client_hello();
    hesitant.send(&hello[..100]);
    server.handle.shutdown();
    client.closed();
    // Nobody else may have to wait for it.
    while hesitant.receive() > 0 {}
    server.ended().expect("a graceful end");
}

#[test]
fn a_proxy_speaks_before_the_handshake() {
    let proxy_protocol = Some(ProxyProtocol::from_proxies(["127.0.0.1"]).expect("a range"));
    let server = start(Settings { proxy_protocol, ..settings() }, |request: &mut Request<'_>| {
        request.peer().map_or_else(String::new, |peer| peer.to_string())
    });
    let mut client = server.connect();
    client.send("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n");
    let mut client = secured(client, client_config(&TLS13));
    assert_eq!(client.get("/").body, "192.0.2.1:56324");
}

const ASK: &str = "GET /lines HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n";

fn switched(client: &mut Client<Tls>) {
    client.send(ASK);
    assert_eq!(client.answer().code, 101);
}

#[test]
fn an_upgraded_stream_is_a_stream_like_any_other() {
    let lines = |stream: Upgraded| {
        let (reader, mut writer) = stream.split();
        for line in BufReader::new(reader).lines() {
            writeln!(writer, "{}!", line.expect("a line")).expect("a client");
        }
    };
    let server = start(settings(), move |_: &mut Request<'_>| Response::upgrade("lines", lines));
    let mut client = connect(&server);
    switched(&mut client);
    for line in ["one", "two", "three"] {
        client.send(format!("{line}\n"));
        while !client.buffer.ends_with(b"\n") {
            assert!(client.receive() > 0, "closed within a line");
        }
        assert_eq!(client.buffer, format!("{line}!\n").into_bytes());
        client.buffer.clear();
    }
    client.stream.conn.send_close_notify();
    client.stream.flush().expect("sent");
    client.closed();
}

#[test]
fn the_halves_of_an_upgraded_stream_are_used_by_two_threads_at_once() {
    const BYTES: usize = 8 << 20;
    let sends_and_receives = |stream: Upgraded| {
        let (mut reader, mut writer) = stream.split();
        let sending = bast::spawn_local(move || writer.write_all(&noise(BYTES)));
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).expect("all of it");
        assert!(bytes == noise(BYTES), "{} other bytes", bytes.len());
        sending.join().expect("no panic").expect("a client that reads");
    };
    let server = start(settings(), move |_: &mut Request<'_>| Response::upgrade("lines", sends_and_receives));
    let mut client = connect(&server);
    switched(&mut client);
    // The client reads nothing before it has sent all: one direction must not wait for the other.
    client.send(noise(BYTES));
    client.stream.conn.send_close_notify();
    client.stream.flush().expect("sent");
    client.stream.read_to_end(&mut client.buffer).expect("all of it, and close_notify");
    assert!(client.buffer == noise(BYTES), "{} other bytes", client.buffer.len());
}

/// A timeout ends writes in the middle of a record. What was written is what writes said, no byte more or less.
#[test]
fn a_write_that_is_interrupted_is_neither_lost_nor_repeated() {
    // More than a socket holds on both sides.
    const BYTES: usize = 24 << 20;
    let (interruptions, count) = mpsc::channel();
    let interruptions = Mutex::new(interruptions);
    let server = start(settings(), move |_: &mut Request<'_>| {
        let interruptions = interruptions.lock().expect("no panic").clone();
        Response::upgrade("lines", move |mut stream: Upgraded| {
            let mut left: VecDeque<u8> = noise(BYTES).into();
            let mut interrupted = 0;
            while !left.is_empty() {
                let piece = left.make_contiguous();
                let piece = &piece[..piece.len().min(100_000)];
                match bast::timeout(Duration::from_millis(5), || stream.write(piece)) {
                    Ok(count) => drop(left.drain(..count.expect("a client"))),
                    Err(_) => {
                        interrupted += 1;
                        if interrupted == 3 {
                            interruptions.send(()).expect("a test");
                        }
                    }
                }
            }
        })
    });
    let mut client = connect(&server);
    switched(&mut client);
    // It begins to read when the socket is full and writes have been in vain.
    count.recv_timeout(DEADLINE).expect("interruptions");
    client.stream.read_to_end(&mut client.buffer).expect("all of it, and close_notify");
    assert!(client.buffer == noise(BYTES), "{} other bytes", client.buffer.len());
}

#[test]
fn a_response_that_breaks_off_ends_without_close_notify() {
    let server = start(settings(), |_: &mut Request<'_>| {
        Response::stream("text/plain", |body| {
            body.write_all(b"half of it")?;
            body.flush()?;
            Err(io::ErrorKind::Other.into())
        })
    });
    for version in ["1.0", "1.1"] {
        let mut client = connect(&server);
        client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
        let error = client.stream.read_to_end(&mut client.buffer).expect_err("something is missing");
        assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    }
}
