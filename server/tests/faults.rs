//! Faults that other servers had, each by its number in `design/COVERAGE.md`: sent over a socket, with the refusal or the bound
//! that is expected here.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, process};

use bast_server::{Error, Request, Response, Router, Settings, Status, TimeLimits};

use support::{Client, DEADLINE, Gate, Running, open, settings, start};

mod support;

/// What no server may take for a request.
const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";

/// A server whose handler notes what it was called for, and echoes bodies, but leaves those to `/ignore` unread.
struct Noting {
    server: Running,
    calls: Arc<Mutex<Vec<String>>>,
}

fn noting() -> Noting {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&calls);
    let server = start(settings(), move |request: &mut Request<'_>| -> Result<Response, Error> {
        kept.lock().expect("no handler panics").push(request.path().to_owned());
        let body = if request.path() == "/ignore" { Vec::new() } else { request.read_body()? };
        Ok(Response::bytes("application/octet-stream", body))
    });
    Noting { server, calls }
}

impl Noting {
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().expect("no handler panics"))
    }

    /// Each of these gets one response with this status and then the end, although more is sent behind it, and no
    /// handler sees it. Those whose body is at fault are seen: `seen` says so.
    fn refuses(&self, status: u16, seen: bool, inputs: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        for input in inputs {
            let input = [input.as_ref(), EVIL.as_bytes()].concat();
            let (statuses, shown) = (codes(&self.server.all_that(&input)), input.escape_ascii().to_string());
            let shown = shown.get(..600).unwrap_or(&shown);
            assert_eq!(statuses, [status], "{shown}");
            assert_eq!(self.calls(), if seen { &["/"][..] } else { &[] }, "{shown}");
        }
    }

    /// A connection on which nothing has happened yet is served.
    fn is_well(&self) {
        assert_eq!(self.server.connect().get("/well").code, 200);
        assert_eq!(self.calls(), ["/well"]);
    }
}

trait Raw {
    fn all_that(&self, input: &[u8]) -> String;
}

impl Raw for Running {
    /// All that a client is sent that sends this and then reads to the end.
    fn all_that(&self, input: &[u8]) -> String {
        let mut client = self.connect();
        client.send(input);
        rest(&mut client)
    }
}

/// What the client is still sent, to the end.
fn rest(client: &mut Client) -> String {
    let mut output = std::mem::take(&mut client.buffer);
    client.stream.read_to_end(&mut output).expect("the end, and no reset");
    String::from_utf8_lossy(&output).into_owned()
}

/// The status codes of a sequence of responses.
fn codes(output: &str) -> Vec<u16> {
    output.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

#[test]
fn fault_01_content_length_beside_transfer_encoding() {
    let server = noting();
    server.refuses(
        400,
        false,
        [
            post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"),
            post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "8\r\nSMUGGLED\r\n0\r\n\r\n"),
            post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            post("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", "hello"),
        ],
    );
    server.is_well();
}

#[test]
fn fault_02_several_lines_of_transfer_encoding_and_chunked_not_last() {
    let lines = |values: &[&str]| {
        let fields: String = values.iter().map(|value| format!("Transfer-Encoding: {value}\r\n")).collect();
        post(&fields, "0\r\n\r\n")
    };
    let server = noting();
    server.refuses(
        400,
        false,
        [
            lines(&["chunked", "identity"]),
            lines(&["chunked", "chunked"]),
            lines(&["chunked, identity"]),
            lines(&["chunked, cow"]),
            lines(&["chunked", "cow"]),
            lines(&["", "chunked"]),
        ],
    );
    server.refuses(
        501,
        false,
        [lines(&["cow", "chunked"]), lines(&["identity", "chunked"]), lines(&["cow, chunked"])],
    );
}

#[test]
fn fault_03_an_obfuscated_transfer_encoding() {
    let coded = |value: &str| post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n");
    let server = noting();
    let bad =
        ["\u{b}chunked", "chunked\u{c}", "\u{a0}chunked", "\"chunked\"", "chun\0ked", "chunked chunked"];
    server.refuses(400, false, bad.map(coded));
    server.refuses(501, false, ["xchunked", "chunked;q=0.5", "chunked ; a", "'chunked'"].map(coded));
    server.refuses(400, false, [post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n")]);
}

#[test]
fn fault_04_white_space_before_the_colon() {
    let names = ["Content-Length", "Transfer-Encoding", "Host", "X"];
    let fields =
        names.iter().flat_map(|name| [" ", "\t", "\u{b}"].map(|space| get(&format!("{name}{space}: 1\r\n"))));
    noting().refuses(400, false, fields);
}

#[test]
fn fault_05_a_content_length_that_is_no_plain_number() {
    let lengths =
        ["+5", "-5", "5 ,5", "0x5", "5 5", "5,5", "5e0", "5.", "\u{661}", "", "five", "5\u{b}", "5_0"];
    noting().refuses(
        400,
        false,
        lengths.map(|length| post(&format!("Content-Length: {length}\r\n"), "hello")),
    );
}

#[test]
fn fault_06_two_content_lengths() {
    let pairs = [("5", "0"), ("0", "5"), ("5", "5"), ("5", "05")];
    noting().refuses(
        400,
        false,
        pairs.map(|(a, b)| post(&format!("Content-Length: {a}\r\nContent-Length: {b}\r\n"), "hello")),
    );
}

#[test]
fn fault_07_lengths_and_sizes_that_overflow() {
    let server = noting();
    let lengths = ["18446744073709551616", "18446744073709551621", "340282366920938463463374607431768211461"];
    server.refuses(400, false, lengths.map(|length| post(&format!("Content-Length: {length}\r\n"), "hello")));
    let sizes = ["10000000000000000", "10000000000000005", "fffffffffffffffff0"];
    server.refuses(400, true, sizes.map(|size| chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n"))));
    // Those that can be held are beyond the limit.
    server.refuses(413, true, [post("Content-Length: 18446744073709551615\r\n", "hello")]);
    let sizes = ["ffffffffffffffff", "8000000000000000", "7fffffffffffffff", "fffffff0"];
    server.refuses(413, true, sizes.map(|size| chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n"))));
    // Two that are good by themselves.
    server.refuses(413, true, [chunked("1\r\nx\r\nffffffffffffffff\r\nhello\r\n0\r\n\r\n")]);
    server.is_well();
}

#[test]
fn fault_08_a_chunk_size_of_which_only_a_prefix_is_one() {
    let sizes = ["0x5", "5_", "5 5", "5h", "5.0", "-5", "+5", " 5", "5 ", "5,", "\u{b}5", "5\u{c}", ""];
    noting().refuses(400, true, sizes.map(|size| chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n"))));
}

#[test]
fn fault_09_bare_line_ends_in_chunks_and_extensions() {
    noting().refuses(
        400,
        true,
        [
            "5\nhello\r\n0\r\n\r\n",
            "5\rhello\r\n0\r\n\r\n",
            "5;\nhello\r\n0\r\n\r\n",
            "5;a\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhelloXX0\r\n\r\n",
            "0\n\n",
            "0\r\n\n",
        ]
        .map(chunked),
    );
}

/// The limit is 16 KiB, and it is not the end of the line that is waited for.
#[test]
fn fault_10_extensions_and_trailers_without_end() {
    let server = noting();
    for before in ["5;", "5\r\nhello\r\n0\r\nX:", "5\r\nhello\r\n0\r\nX"] {
        let mut client = server.server.connect();
        client.send(format!("{}{}", chunked(before), "x".repeat(17 << 10)));
        assert_eq!(client.answer().code, 400, "{before:?}");
        client.closed();
    }
    server.calls();
    server.refuses(400, true, [chunked(&format!("{}0\r\n\r\n", "1;abcdefghi\r\nx\r\n".repeat(2000)))]);
    server.refuses(400, true, [chunked(&format!("0\r\n{}\r\n", "A:b\r\n".repeat(9000)))]);
    // Chunks of one byte are what they are: five bytes of framing for each, and no more state than for one.
    let small = chunked(&format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(50_000)));
    let mut client = server.server.connect();
    client.send(small);
    assert_eq!(client.answer().body.len(), 50_000);
}

#[test]
fn fault_11_cr_and_nul_in_names_and_values() {
    noting().refuses(
        400,
        false,
        [
            get("X: a\rb\r\n"),
            get("X: a\r\r\n"),
            get("X\rY: a\r\n"),
            get("X: a\0b\r\n"),
            get("X\0: a\r\n"),
            get("\0X: a\r\n"),
            get("X: a\rContent-Length: 5\r\n"),
            get("X: a\nContent-Length: 5\r\n"),
            "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GE\0T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        ],
    );
}

#[test]
fn fault_12_folded_lines_and_lines_that_begin_with_a_space() {
    noting().refuses(
        400,
        false,
        [
            get("X: a\r\n b\r\n"),
            get("X: a\r\n\tb\r\n"),
            get("X:\r\n Content-Length: 5\r\n"),
            get(" Content-Length: 5\r\n"),
            get("\tX: a\r\n"),
            "GET / HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\n".to_owned(),
        ],
    );
}

#[test]
fn fault_13_fields_without_a_name_or_without_a_colon() {
    noting().refuses(
        400,
        false,
        [":\r\n", ": a\r\n", "a\r\n", "a b\r\n", "\"a\": b\r\n", "a/b: c\r\n", "a b: c\r\n"].map(get),
    );
}

#[test]
fn fault_14_host_missing_twice_malformed_or_not_the_authority() {
    let server = noting();
    let hosts = [
        "",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: u@a\r\n",
    ];
    server.refuses(400, false, hosts.map(|host| format!("GET / HTTP/1.1\r\n{host}\r\n")));
    server.refuses(
        400,
        false,
        ["GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n"],
    );
    // Two authorities: that of the target counts, alone (RFC 9112 §3.2.2).
    let server = start(settings(), |request: &mut Request<'_>| request.host().unwrap_or_default().to_owned());
    let mut client = server.connect();
    client.send("GET http://target:1/ HTTP/1.1\r\nHost: field\r\n\r\n");
    assert_eq!(client.answer().body, "target:1");
}

#[test]
fn fault_15_transfer_encoding_in_1_0_and_odd_versions() {
    let server = noting();
    for connection in ["", "Connection: keep-alive\r\n"] {
        server.refuses(
            400,
            false,
            [format!("POST / HTTP/1.0\r\n{connection}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")],
        );
    }
    let request = |version: &str| format!("GET / {version}\r\nHost: a\r\n\r\n");
    server.refuses(
        400,
        false,
        ["HTTP/1.10", "HTTP/01.1", "http/1.1", "HTTP/1.1x", "HTTP/1", "HTTP/+1.1"].map(request),
    );
    server.refuses(505, false, ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/9.9"].map(request));
}

#[test]
fn fault_16_what_follows_an_error_or_a_close_is_not_read_as_a_request() {
    let server = noting();
    server.refuses(400, false, [format!("GET /\r\n\r\n{EVIL}"), get(&format!("X : y\r\n\r\n{EVIL}"))]);
    server.refuses(400, true, [chunked(&format!("x\r\n{EVIL}"))]);
    server.refuses(200, true, [get(&format!("Connection: close\r\n\r\n{EVIL}"))]);
    server.refuses(200, true, [format!("GET / HTTP/1.0\r\n\r\n{EVIL}")]);
}

#[test]
fn fault_17_an_unread_body_is_no_request() {
    let server = noting();
    let ignored =
        |fields: &str, body: &str| format!("POST /ignore HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    let small = [
        ignored(&format!("Content-Length: {}\r\n", EVIL.len()), EVIL),
        ignored("Transfer-Encoding: chunked\r\n", &format!("{:x}\r\n{EVIL}\r\n0\r\n\r\n", EVIL.len())),
    ];
    for request in &small {
        let mut client = server.server.connect();
        client.send(format!("{request}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((client.answer().code, client.answer().code), (200, 200));
        assert_eq!(server.calls(), ["/ignore", "/next"]);
    }
    // Sent in two parts, the second one when the answer is there.
    for request in &small {
        let mut client = server.server.connect();
        let (first, second) = request.split_at(request.len() - 20);
        client.send(first);
        assert_eq!(client.answer().code, 200);
        client.send(format!("{second}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.answer().code, 200);
        assert_eq!(server.calls(), ["/ignore", "/next"]);
    }
    // More than is dropped.
    let many = EVIL.repeat(10_000);
    for request in [
        ignored(&format!("Content-Length: {}\r\n", many.len()), &many),
        ignored("Transfer-Encoding: chunked\r\n", &format!("{:x}\r\n{many}\r\n0\r\n\r\n", many.len())),
    ] {
        assert_eq!(codes(&server.server.all_that(request.as_bytes())), [200]);
        assert_eq!(server.calls(), ["/ignore"]);
    }
    // A client that was never told to go on may send the body, or its next request: nobody can tell.
    let expecting = ignored(&format!("Expect: 100-continue\r\nContent-Length: {}\r\n", EVIL.len()), "");
    let mut client = server.server.connect();
    client.send(expecting);
    assert!(client.answer().head.contains("\r\nConnection: close\r\n"));
    client.send(EVIL);
    client.closed();
    assert_eq!(server.calls(), ["/ignore"]);
}

#[test]
fn fault_18_a_100_comes_before_the_body_is_read_or_not_at_all() {
    let server = noting();
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    };
    let mut client = server.server.connect();
    for round in 0..3 {
        client.send(head("/"));
        assert_eq!(client.answer().head, "HTTP/1.1 100 Continue\r\n\r\n", "round {round}");
        client.send("hi");
        assert_eq!(client.answer().body, "hi");
    }
    // The body is there already: nothing is to be asked for.
    client.send(head("/") + "hi");
    assert_eq!(client.answer().code, 200);
    // A final status without a 100: the connection is closed.
    client.send(head("/ignore"));
    let answer = client.answer();
    assert_eq!(answer.code, 200);
    assert!(answer.head.contains("\r\nConnection: close\r\n"));
    client.closed();
    server.calls();
    server.refuses(417, false, [post("Expect: 200-ok\r\nContent-Length: 2\r\n", "hi")]);
    // The client waits for a 100 and gets none: it is still answered once.
    server.refuses(413, true, [post("Expect: 100-continue\r\nContent-Length: 99999999999\r\n", "")]);
}

#[test]
fn fault_19_a_handler_cannot_split_its_response() {
    const NAMES: [&str; 5] = ["X-A", "Location", "Set-Cookie", "Content-Type", "Cache-Control"];
    const INJECTED: [&str; 8] = [
        "a\r\nEvil: b",
        "a\nEvil: b",
        "a\rEvil: b",
        "a\r\n\r\nHTTP/1.1 200 OK\r\nEvil: b",
        "a\0Evil: b",
        "\r\nEvil: b",
        "a\u{b}Evil: b",
        "a\u{7f}Evil: b",
    ];
    let server = start(settings(), |request: &mut Request<'_>| {
        let text = request.query_param("v").expect("a value").into_owned();
        let name = NAMES.get(request.path()[1..].parse::<usize>().unwrap_or(usize::MAX));
        match (name, request.path()) {
            (Some(name), _) => Response::text("").with_header(name, text),
            (None, "/added") => Response::text("").with_added_header("Set-Cookie", text),
            (None, "/name") => Response::text("").with_header(text, "b"),
            (None, "/type") => Response::bytes(text, ""),
            (None, "/stream") => Response::stream(text, |_| Ok(())),
            _ => Response::see_other(text),
        }
    });
    let mut client = server.connect();
    let places = ["0", "1", "2", "3", "4", "added", "name", "type", "stream", "other"];
    for place in places {
        for injected in INJECTED {
            let encoded: String = injected.bytes().fold(String::new(), |mut text, byte| {
                write!(text, "%{byte:02x}").expect("a text takes all");
                text
            });
            let answer = client.get(&format!("/{place}?v={encoded}"));
            assert_eq!(answer.code, 500, "{place} {injected:?}: {}", answer.head);
            assert!(!answer.head.contains("Evil"), "{}", answer.head);
        }
    }
    assert_eq!(client.get("/0?v=fine").code, 200);
}

#[test]
fn fault_20_the_framing_of_a_response_is_right_whatever_the_handler_does() {
    let announced = |count: usize, is_sent: bool| {
        move |_: &mut Request<'_>| {
            Response::stream_sized("a/b", 5, move |body| {
                if is_sent {
                    body.flush()?;
                }
                body.write_all(&vec![b'x'; count])
            })
        }
    };
    let bodyless = |code: u16| {
        move |_: &mut Request<'_>| {
            Response::text("unwanted").with_status(Status::from_code(code).expect("a status"))
        }
    };
    let app = Router::new()
        .any("/exact", announced(5, false))
        .any("/little", announced(3, false))
        .any("/much", announced(8, false))
        .any("/nothing", announced(0, false))
        .any("/little/sent", announced(3, true))
        .any("/much/sent", announced(8, true))
        .any("/nothing/sent", announced(0, true))
        .any("/204", bodyless(204))
        .any("/205", bodyless(205))
        .any("/304", bodyless(304))
        .any("/100", bodyless(100))
        .any("/199", bodyless(199))
        .any("/stream", |_: &mut Request<'_>| Response::stream("a/b", |body| body.write_all(b"hello")))
        .any("/fails", |_: &mut Request<'_>| {
            Response::stream("a/b", |body| {
                body.write_all(b"part")?;
                body.flush()?;
                Err(std::io::Error::other("a failure that the test wants"))
            })
        });
    let server = start(settings(), app);
    let both = |method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        server.all_that(
            format!("{request}GET /exact HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
        )
    };
    // Not one byte of a body, and the next response begins where it should.
    for (path, length) in [("/204", None), ("/304", None), ("/205", Some("Content-Length: 0\r\n"))] {
        let output = both("GET", path);
        assert_eq!(codes(&output), [path[1..].parse().expect("a status"), 200], "{output}");
        assert!(!output.contains("unwanted"), "{output}");
        let head = output.split("\r\n\r\n").next().expect("a head").to_owned() + "\r\n";
        assert_eq!(head.contains("Content-Length"), length.is_some(), "{head}");
        assert!(length.is_none_or(|length| head.contains(length)), "{head}");
    }
    for path in ["/exact", "/little", "/much", "/stream", "/fails", "/204", "/304"] {
        let output = both("HEAD", path);
        assert_eq!(codes(&output).len(), 2, "{path}: {output}");
        assert_eq!(output.matches("\r\n\r\n").count(), 2, "{path}: {output}");
        assert!(output.ends_with("\r\n\r\nxxxxx"), "{path}: {output}");
    }
    // An interim status is no answer.
    for path in ["/100", "/199"] {
        assert_eq!(codes(&both("GET", path)), [500, 200]);
    }
    assert_eq!(codes(&both("GET", "/exact")), [200, 200]);
    // Too little or too much: the connection ends, and never more than announced is sent.
    // As long as nothing was sent there is a better answer.
    for path in ["/little", "/much", "/nothing"] {
        let output = both("GET", path);
        assert_eq!(codes(&output), [500, 200], "{path}: {output}");
        assert!(output.contains("Content-Length: 26\r\n"), "{path}: {output}");
    }
    for (path, sent) in [("/little/sent", 3), ("/much/sent", 5), ("/nothing/sent", 0)] {
        let output = both("GET", path);
        assert_eq!(codes(&output), [200], "{path}: {output}");
        let body = output.split_once("\r\n\r\n").expect("a head").1;
        assert_eq!(body, "x".repeat(sent), "{path}");
    }
    let output = both("GET", "/fails");
    assert_eq!(codes(&output), [200]);
    assert!(output.contains("part") && !output.ends_with("0\r\n\r\n"), "broken off visibly: {output}");
}

/// Limits that pass while a test runs, each.
fn impatient() -> Settings {
    let limit = Duration::from_millis(200);
    let time_limits = TimeLimits {
        head: limit,
        keep_alive_idle: limit,
        body: limit,
        write: limit,
        linger: limit,
        ..TimeLimits::default()
    };
    Settings { time_limits, ..settings() }
}

fn echo(request: &mut Request<'_>) -> Result<Vec<u8>, Error> {
    request.read_body()
}

/// Sends this byte by byte until the server has closed or answered.
fn drip(client: &mut Client, bytes: impl Iterator<Item = u8>) -> String {
    client.stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a pause");
    let start = Instant::now();
    let mut output = Vec::new();
    for byte in bytes {
        assert!(start.elapsed() < DEADLINE, "the server waits for ever");
        if client.stream.write_all(&[byte]).is_err() {
            break;
        }
        let mut buffer = [0; 1024];
        match client.stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => output.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&output).into_owned()
}

#[test]
fn fault_21_a_head_that_drips() {
    let server = start(impatient(), echo);
    let mut client = server.connect();
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX: ".bytes().chain(std::iter::repeat(b'x'));
    assert_eq!(codes(&drip(&mut client, head)), [408]);
    // It may be slow to begin, too, and never begin at all.
    assert_eq!(codes(&drip(&mut server.connect(), "\r\n".bytes().chain(std::iter::repeat(b'G')))), [408]);
    assert!(rest(&mut server.connect()).is_empty(), "who says nothing is told nothing");
}

#[test]
fn fault_22_bodies_that_stop_and_clients_that_do_not_read() {
    let server = start(
        impatient(),
        Router::new().any("/echo", echo).any("/big", |_: &mut Request<'_>| "x".repeat(64 << 20)),
    );
    for body in [
        "Content-Length: 5\r\n\r\nhe",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        "Transfer-Encoding: chunked\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\n{body}"));
        assert_eq!(codes(&rest(&mut client)), [408], "{body}");
    }
    // What was in the kernel's buffers still comes, and then the end: far from all.
    let mut client = server.connect();
    client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    let start = Instant::now();
    until_no_connection(server.address);
    assert!(start.elapsed() < DEADLINE);
    let mut output = Vec::new();
    let _ = client.stream.read_to_end(&mut output);
    assert!(output.len() < 32 << 20, "{} bytes", output.len());
}

#[test]
fn fault_23_idle_connections_are_closed() {
    let server = start(impatient(), echo);
    let mut clients: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    for client in clients.iter_mut().step_by(2) {
        assert_eq!(client.get("/").code, 200);
    }
    for client in &mut clients {
        client.closed();
    }
}

#[test]
fn fault_24_too_many_and_too_long_fields_and_targets() {
    let server = noting();
    server.refuses(
        431,
        false,
        [
            get(&"X: 1\r\n".repeat(100)),
            get(&"X: 1\r\n".repeat(4000)),
            get(&format!("X: {}\r\n", "x".repeat(33 << 10))),
            get(&format!("{}: x\r\n", "x".repeat(33 << 10))),
            get(&format!("X: {}\r\n", "x".repeat(500 << 10))),
        ],
    );
    server.refuses(
        414,
        false,
        [
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9 << 10)),
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(500 << 10)),
            format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "X".repeat(9 << 10)),
        ],
    );
    // It is not the end of the line that is waited for.
    let mut client = server.server.connect();
    client.send("G".repeat(33 << 10));
    assert_eq!(client.answer().code, 414);
    client.closed();
    server.is_well();
}

/// A directory of the test's own, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("bast-faults-{}-{name}", process::id()));
        fs::create_dir_all(path.join("root/dir")).expect("make the scratch directory");
        fs::write(path.join("secret"), "secret").expect("write a file");
        fs::write(path.join("root/file"), "0123456789").expect("write a file");
        fs::write(path.join("root/.hidden"), "secret").expect("write a file");
        fs::write(path.join("root/dir/inner"), "inner").expect("write a file");
        Scratch(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("remove the scratch directory");
    }
}

fn files(root: &Path) -> Running {
    start(settings(), Router::new().files("/", root))
}

#[test]
fn fault_25_ranges_that_are_many_overlapping_or_beyond_all_bounds() {
    let scratch = Scratch::new("ranges");
    let server = files(&scratch.root());
    let mut client = server.connect();
    let mut ask = |range: &str| {
        client.send(format!("GET /file HTTP/1.1\r\nHost: a\r\nRange: {range}\r\n\r\n"));
        let answer = client.answer();
        (answer.code, answer.body)
    };
    let part = |body: &str| (206, body.to_owned());
    let whole = (200, "0123456789".to_owned());
    assert_eq!(ask("bytes=2-4"), part("234"));
    assert_eq!(ask("bytes=-3"), part("789"));
    assert_eq!(ask("bytes=8-"), part("89"));
    assert_eq!(ask("bytes=0-0"), part("0"));
    assert_eq!(ask("bytes=0-18446744073709551615"), part("0123456789"));
    assert_eq!(ask("bytes=5-99999999999999999999999999"), part("56789"));
    assert_eq!(ask("bytes=-18446744073709551615"), part("0123456789"));
    assert_eq!(ask("bytes=-18446744073709551626"), part("0123456789"));
    // Never more than the file, in one piece: what was meant to be multiplied is sent once.
    let many: String = (0..1300).map(|at| format!(",{at}-")).collect();
    for several in
        [format!("bytes=0-{many}"), "bytes=0-,0-,0-".into(), "bytes=0-1,5-6".into(), "bytes=9-,-1".into()]
    {
        assert_eq!(ask(&several), whole, "{several:.40}");
    }
    for malformed in [
        "bytes=5-2",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=--1",
        "bytes=+1-2",
        "lines=0-1",
        "bytes 0-1",
        "bytes=0x0-1",
    ] {
        assert_eq!(ask(malformed), whole, "{malformed}");
    }
    for outside in
        ["bytes=10-", "bytes=10-11", "bytes=18446744073709551615-", "bytes=18446744073709551616-", "bytes=-0"]
    {
        assert_eq!(ask(outside).0, 416, "{outside}");
    }
}

#[test]
fn fault_26_no_spelling_of_a_path_leads_out_of_the_root() {
    let scratch = Scratch::new("traversal");
    let root = scratch.root();
    symlink(scratch.0.join("secret"), root.join("link")).expect("a symbolic link");
    symlink("../secret", root.join("relative")).expect("a symbolic link");
    symlink("..", root.join("up")).expect("a symbolic link");
    symlink("/", root.join("slash")).expect("a symbolic link");
    let server = files(&root);
    let mut client = server.connect();
    assert_eq!(client.get("/dir//./inner").body, "inner");
    let up = [
        "..",
        "%2e%2e",
        "%2E.",
        ".%2e",
        "%252e%252e",
        "..%00",
        "..%2f",
        "%2e%2e%2f",
        "..%5c",
        "..\\",
        "%c0%ae%c0%ae",
        "..;",
        "%u002e%u002e",
        "..%c0%af",
        "%f8%80%80%80%ae.",
        "....",
        "...",
    ];
    for up in up {
        for path in [
            format!("/{up}/secret"),
            format!("/{up}secret"),
            format!("/dir/{up}/{up}/secret"),
            format!("/dir/{up}/{up}/{up}/{up}/{up}/{up}/etc/passwd"),
            format!("//{up}//secret"),
            format!("/./{up}/secret"),
            format!("/{up}/root/file"),
        ] {
            let answer = client.get(&path);
            assert!(matches!(answer.code, 400 | 404), "{path}: {answer:?}");
            assert!(!answer.body.contains("secret") || answer.body.contains("404"), "{path}: {answer:?}");
        }
    }
    for path in [
        "/link",
        "/relative",
        "/up/secret",
        "/up/root/file",
        "/slash/etc/passwd",
        "/.hidden",
        "/%2ehidden",
        "/file%00",
        "/file%00.html",
        "/file/",
        "/file/.",
        "/file/..",
        "/dir/..",
        "/dir%2finner",
        "/dir%5cinner",
        "/%00",
        "/file%0a",
        "/file%20",
        "/dir/inner/x",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/~root",
        "/file%",
    ] {
        let answer = client.get(path);
        assert!(matches!(answer.code, 400 | 404), "{path}: {answer:?}");
        assert!(!answer.body.contains("secret"), "{path}: {answer:?}");
    }
    // In the absolute form as well.
    client.send("GET http://a/../secret HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().code, 404);
    assert_eq!(client.get("/file").body, "0123456789");
}

/// Waits until the server has no socket left that belongs to a connection, as the kernel's table says.
fn until_no_connection(server: SocketAddr) {
    let port = format!(":{:04X}", server.port());
    let start = Instant::now();
    loop {
        let table = fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
        let is_held = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            let (local, state) = (words.next(), words.nth(1));
            // Established, or closed by the client alone: in both the server has the descriptor.
            local.is_some_and(|local| local.ends_with(&port)) && matches!(state, Some("01" | "08"))
        };
        if !table.lines().any(is_held) {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "connections are left:\n{table}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn fault_42_no_odd_client_leaves_a_descriptor_behind() {
    let server = start(impatient(), echo);
    for round in 0..20 {
        for input in [
            &b""[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"SSH-2.0-x\r\n",
            b"GET / HTTP/1.1\r\nHost",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\0",
        ] {
            let mut client = server.connect();
            client.send(input);
            match round % 3 {
                // Half closed, and the rest left to the server; gone; gone with answers unread, which is a reset.
                0 => {
                    client.stream.shutdown(Shutdown::Write).expect("it is connected");
                    let _ = client.stream.read_to_end(&mut client.buffer);
                }
                1 => client.stream.shutdown(Shutdown::Both).expect("it is connected"),
                _ => {}
            }
        }
    }
    until_no_connection(server.address);
    assert_eq!(server.connect().get("/").code, 200);
}

/// The library has no unsafe code, so this is about what it does with its pooled buffers.
#[test]
fn fault_44_a_body_that_is_given_up_shows_nothing_to_the_next_connection() {
    let gate = Gate::new();
    let address = gate.address;
    let app = move |request: &mut Request<'_>| -> Result<Vec<u8>, Error> {
        let mut first = [0; 10];
        request.body().read_exact(&mut first)?;
        match request.path() {
            "/panic" => panic!("a panic that the test wants"),
            "/wait" => bast::net::TcpStream::connect(address)?.read_exact(&mut [0])?,
            _ => {}
        }
        Ok(first.to_vec())
    };
    let server = start(Settings { workers: Some(1), ..settings() }, app);
    let body = |byte: u8| String::from_utf8(vec![byte; 5000]).expect("ASCII");
    let request = |path: &str, byte| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n{}", body(byte))
    };
    // One waits in the middle of its body while others take and leave buffers.
    let mut waiting = server.connect();
    waiting.send(request("/wait", b'w'));
    let visitor = gate.arrival();
    for round in 0..30u8 {
        for (path, code) in [("/panic", 500), ("/", 200)] {
            let byte = b'a' + round % 20;
            let mut client = server.connect();
            client.send(request(path, byte));
            let answer = client.answer();
            assert_eq!(answer.code, code);
            assert!(
                code == 500 || answer.body.bytes().all(|b| b == byte),
                "{path} {}: {}",
                byte as char,
                answer.body
            );
            // Half of a body, and gone.
            let mut gone = server.connect();
            gone.send(&request("/", b'g')[..2000]);
        }
    }
    open(visitor);
    assert_eq!(waiting.answer().body, "wwwwwwwwww");
}

/// No map is keyed by what a client sends: a request's fields are a list of 100 at most, and its query is never longer than
/// its line may be.
#[test]
fn fault_50_names_that_would_collide_cost_no_more_than_others() {
    let server = start(settings(), |request: &mut Request<'_>| {
        format!("{:?} {:?}", request.header("x-last"), request.query_param("last"))
    });
    let names = |count: usize| (0..count).map(|n| format!("AaBB{n}: x\r\n")).collect::<String>();
    assert_eq!(codes(&server.all_that(get(&names(100_000)).as_bytes())), [431]);
    let query: String = (0..3900).map(|_| "a&").collect();
    let request = format!("GET /?{query}last=z HTTP/1.1\r\nHost: a\r\n{}X-Last: y\r\n\r\n", names(98));
    let mut client = server.connect();
    let start = Instant::now();
    for _ in 0..200 {
        client.send(&request);
        assert_eq!(client.answer().body, "Some(\"y\") Some(\"z\")");
    }
    // Quadratic in the pairs would be billions of steps.
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
}

/// What was logged in this process.
static LOG: Mutex<String> = Mutex::new(String::new());

struct Kept;

impl log::Log for Kept {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut log = LOG.lock().expect("nobody panics with it");
        writeln!(log, "{} {}", record.level(), record.args()).expect("a text takes all");
    }

    fn flush(&self) {}
}

fn keep_the_log() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&Kept).expect("nobody else logs here");
        log::set_max_level(log::LevelFilter::Trace);
    });
}

#[test]
fn fault_51_a_client_cannot_write_the_log_and_trace_echoes_no_secrets() {
    keep_the_log();
    let app = Router::new().any("/fails/{rest...}", |request: &mut Request<'_>| -> Result<Response, Error> {
        let value = String::from_utf8_lossy(request.header_bytes("x").unwrap_or_default()).into_owned();
        let text = request.param_text("rest")?.into_owned();
        match request.query() {
            Some("unsent") => Ok(Response::stream("a/b", move |_| Err(std::io::Error::other(text)))),
            Some("stream") => Ok(Response::stream("a/b", move |body| {
                body.flush()?;
                Err(std::io::Error::other(text))
            })),
            Some("panic") => panic!("no such thing: {text} {value}"),
            Some("header") => Ok(Response::text("").with_header(text, "x")),
            _ => Err(Error::from(std::io::Error::other(format!("no such thing: {text} {value}")))),
        }
    });
    let server = start(settings(), app);
    let mut client = server.connect();
    for query in ["?panic", "?header", "?unsent", ""] {
        client.send(format!(
            "GET /fails/%1b%5b31m%0aERROR%20forged%0d%00{query} HTTP/1.1\r\nHost: a\r\nX: \u{9b}31m\u{e9}\r\nAuthorization: Bearer hush\r\nCookie: hush\r\n\r\n"
        ));
        assert_eq!(client.answer().code, 500, "{query}");
    }
    let broken_off =
        server.all_that(b"GET /fails/no%20such%20thing%0aERROR%20forged?stream HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(codes(&broken_off), [200]);
    // What is refused is logged without what was wrong.
    for bad in [
        "GET /\x1b[31m HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \x1b[31m\r\n\r\n",
        "GET / HTTP/1.1\r\nX\x1b[31m: a\r\n\r\n",
    ] {
        assert_eq!(codes(&server.all_that(bad.as_bytes())), [400]);
    }
    client.send("TRACE /fails/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer hush\r\nCookie: hush\r\n\r\n");
    let trace = client.answer();
    assert!(!trace.head.contains("hush") && !trace.body.contains("hush"), "{trace:?}");
    client.send("TRACE /other HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer hush\r\n\r\n");
    let trace = client.answer();
    assert!(!trace.head.contains("hush") && !trace.body.contains("hush"), "{trace:?}");

    let log = LOG.lock().expect("nobody panics with it").clone();
    assert!(log.contains("no such thing"), "the failures are logged: {log}");
    assert!(!log.lines().any(|line| line.starts_with("ERROR forged")), "{log}");
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{}", log.escape_debug());
    assert!(!log.contains("hush"), "{log}");
}

/// W40, W41: the date of a response is that of its second.
#[test]
fn the_date_of_a_response_is_right_within_a_second() {
    let server = start(settings(), |_: &mut Request<'_>| "");
    let now =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let mut client = server.connect();
    for _ in 0..3 {
        let before = now();
        let answer = client.get("/");
        let date = answer.head.lines().find_map(|line| line.strip_prefix("Date: ")).expect("a date");
        let date =
            httpdate::parse_http_date(date).expect("it is a date").duration_since(std::time::UNIX_EPOCH);
        let date = date.expect("after 1970").as_secs();
        assert!((before - 1..=now()).contains(&date), "{date} is not between {before} and {}", now());
    }
}

/// A peer that is gone at once is nobody's loss.
#[test]
fn a_client_that_resets_its_connection_harms_no_other() {
    let server = noting();
    for _ in 0..50 {
        let mut client = TcpStream::connect(server.server.address).expect("it listens");
        client.write_all(post("Content-Length: 10\r\n", "half").as_bytes()).expect("sent");
        drop(client);
    }
    server.server.connect().get("/");
}
