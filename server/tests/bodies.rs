//! Bodies over real sockets, where buffers are finite and clients slow.
#![forbid(unsafe_code)]

mod support;

use std::io::{self, ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use bast_server::{Bytes, Error, Limits, Request, Response, Router, Settings, TimeLimits};

use support::{Client, Gate, open, settings, start};

/// More than the buffers of both sockets hold: 4 MiB to send and 6 MiB to receive at most (tcp(7)).
const LARGE: usize = 32 << 20;

/// Bytes that show where they are: they come again only after a number of bytes that nothing else is a multiple of.
fn pattern(len: usize) -> Vec<u8> {
    const PERIOD: usize = 65_521;
    let period: Vec<u8> = (0..PERIOD).map(|index| (index * 31 + index / 256) as u8).collect();
    let mut bytes = period.repeat(len.div_ceil(PERIOD));
    bytes.truncate(len);
    bytes
}

fn echo(_: &mut Request<'_>) -> Response {
    Response::duplex("application/octet-stream", |body, out| io::copy(body, out).map(drop))
}

fn large() -> Settings {
    let limits = Limits { body_bytes_max: 1 << 30, ..Limits::default() };
    Settings { limits, ..settings() }
}

/// The head of the response.
fn head(client: &mut Client) -> String {
    loop {
        if let Some(at) = client.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return String::from_utf8(client.buffer.drain(..at + 4).collect()).expect("text");
        }
        assert!(client.receive() > 0, "closed within a head");
    }
}

/// The data of a chunked body, up to its end.
fn chunks(client: &mut Client) -> Vec<u8> {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let end = loop {
            if let Some(end) = client.buffer[at..].windows(2).position(|window| window == b"\r\n") {
                break at + end;
            }
            assert!(client.receive() > 0, "closed within a chunk's size");
        };
        let size = std::str::from_utf8(&client.buffer[at..end]).expect("digits");
        let size = usize::from_str_radix(size, 16).expect("a size");
        while client.buffer.len() < end + 2 + size + 2 {
            assert!(client.receive() > 0, "closed within a chunk");
        }
        data.extend_from_slice(&client.buffer[end + 2..end + 2 + size]);
        at = end + 2 + size + 2;
        if size == 0 {
            client.buffer.drain(..at);
            return data;
        }
        if at > 1 << 20 {
            client.buffer.drain(..at);
            at = 0;
        }
    }
}

#[test]
fn a_body_larger_than_all_buffers_is_echoed_while_it_is_sent() {
    let server = start(large(), echo);
    for framing in ["sized", "chunked"] {
        let mut client = server.connect();
        let mut sender = client.stream.try_clone().expect("a second handle");
        let body = pattern(LARGE);
        let sent = body.clone();
        let sending = thread::spawn(move || -> io::Result<()> {
            if framing == "sized" {
                write!(sender, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n")?;
                return sender.write_all(&sent);
            }
            write!(sender, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for piece in sent.chunks(70_001) {
                write!(sender, "{:x}\r\n", piece.len())?;
                sender.write_all(piece)?;
                sender.write_all(b"\r\n")?;
            }
            sender.write_all(b"0\r\n\r\n")
        });
        let head = head(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(chunks(&mut client) == body, "{framing}: byte for byte");
        sending.join().expect("no panic").expect("all is taken");
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nnext");
        self::head(&mut client);
        assert_eq!(chunks(&mut client), b"next", "the connection lives on");
    }
}

#[test]
fn a_client_that_sends_all_before_it_reads_is_dropped_at_the_limit_of_writing() {
    let time_limits = TimeLimits { write: Duration::from_millis(200), ..TimeLimits::default() };
    let server = start(Settings { time_limits, ..large() }, Router::new().post("/", echo).get("/", hello));
    let mut client = server.connect();
    write!(client.stream, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 8 * LARGE)
        .expect("a head");
    let piece = pattern(LARGE);
    let error = (0..8).find_map(|_| client.stream.write_all(&piece).err()).expect("it is not for ever");
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    assert_eq!(server.connect().get("/").body, "hello", "nobody else noticed");
}

fn hello(_: &mut Request<'_>) -> &'static str {
    "hello"
}

#[test]
fn each_piece_goes_both_ways_before_the_next_is_sent() {
    let server = start(settings(), echo);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for number in 0..20 {
        client.send(format!("2\r\n{number:02}\r\n"));
        if number == 0 {
            head(&mut client);
        }
        let expected = format!("0002\r\n{number:02}\r\n");
        while client.buffer.len() < expected.len() {
            assert!(client.receive() > 0, "closed early");
        }
        assert_eq!(client.buffer, expected.as_bytes(), "the client waits for each");
        client.buffer.clear();
    }
    client.send("0\r\n\r\n");
    assert_eq!(chunks(&mut client), b"");
}

#[test]
fn hints_arrive_while_the_handler_is_still_at_work() {
    let gate = Gate::new();
    let work = gate.handler();
    let server = start(settings(), move |request: &mut Request<'_>| -> Result<Response, Error> {
        request.early_hints(&["</style.css>; rel=preload"])?;
        Ok(bast_server::Handler::handle(&work, request))
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head(&mut client), "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
    assert!(client.buffer.is_empty());
    open(gate.arrival());
    assert_eq!(client.answer().body, "through");
}

#[test]
fn a_stream_to_a_1_0_client_that_fails_is_no_end_of_the_stream() {
    let server = start(settings(), |request: &mut Request<'_>| {
        let fails = request.path() == "/fails";
        Response::stream("text/plain", move |body| {
            body.write_all(b"begun")?;
            body.flush()?;
            if fails { Err(ErrorKind::Other.into()) } else { Ok(()) }
        })
    });
    for (path, resets) in [("/fails", true), ("/", false)] {
        let mut client = server.connect();
        client.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
        let mut all = Vec::new();
        let end = client.stream.read_to_end(&mut all).map_err(|error| error.kind());
        assert_eq!(end.is_err(), resets, "{path}: {end:?}");
        if resets {
            assert_eq!(end, Err(ErrorKind::ConnectionReset));
        } else {
            assert!(all.ends_with(b"\r\n\r\nbegun"));
        }
    }
}

#[test]
fn many_large_parts_arrive_in_order() {
    const PARTS: usize = 5000;
    let whole = pattern(PARTS * 4000);
    let server = start(settings(), move |_: &mut Request<'_>| {
        Response::parts("a/b", whole.chunks(4000).map(|part| Bytes::from(part.to_vec())))
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let head = head(&mut client);
    assert!(head.contains(&format!("Content-Length: {}\r\n", PARTS * 4000)), "{head}");
    let mut body = std::mem::take(&mut client.buffer);
    client.stream.read_to_end(&mut body).expect("all of it");
    assert!(body == pattern(PARTS * 4000));
}
