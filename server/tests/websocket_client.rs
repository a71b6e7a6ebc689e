//! The client's side of WebSockets: against our own server, and against a scripted one that breaks the rules. Each test has
//! a deadline.
#![cfg(feature = "websocket")]
#![forbid(unsafe_code)]

mod support;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bast_server::client::Client;
use bast_server::client::websocket::{Receiver, Sender, WebSocket as ClientSocket};
use bast_server::websocket::{CloseCode, Message, Options, WebSocket};
use bast_server::{Request, Response, Router, Status};
use sha1::{Digest as _, Sha1};

use support::{DEADLINE, settings, start};

/// Runs a test on a green thread, with a deadline.
fn green(test: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let running = thread::spawn(move || {
        bast::Runtime::builder().capabilities(2).build().expect("a runtime").run(test);
        let _ = tell.send(());
    });
    if told.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("the test takes too long");
    }
    if let Err(panic) = running.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Says everything again, until it is told to end.
fn echo(request: &mut Request<'_>) -> Response {
    const OPTIONS: Options = Options { protocols: &["second", "first"], ..Options::DEFAULT };
    OPTIONS.upgrade(request, |socket: &mut WebSocket| {
        while let Some(message) = socket.recv() {
            if message.as_text() == Some("end") {
                return socket.close(CloseCode::new(4001).expect("a code of ours"), "as you like");
            }
            if socket.send(message).is_err() {
                return;
            }
        }
    })
}

fn app() -> Router {
    let private = |_: &mut Request<'_>| Response::text("no\n").with_status(Status::FORBIDDEN);
    Router::new().get("/echo", echo).get("/private", private)
}

#[test]
fn messages_of_all_sizes_go_both_ways_and_it_is_closed_in_order() {
    let server = start(settings(), app());
    let url = format!("ws://{}/echo", server.address);
    green(move || {
        let request = Client::new().get(url).header("Sec-WebSocket-Protocol", "first, second");
        let mut socket = request.websocket().unwrap();
        assert_eq!(socket.protocol(), Some("second"));
        for len in [0, 1, 125, 126, 0xffff, 0x1_0000, 300_000] {
            let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            socket.send(bytes.clone()).unwrap();
            assert!(socket.recv().unwrap() == Some(Message::Binary(bytes)), "{len} bytes");
        }
        socket.send("grün").unwrap();
        assert_eq!(socket.recv().unwrap().unwrap().as_text(), Some("grün"));
        socket.send("is on its way at the end").unwrap();
        let farewell = socket.close(CloseCode::GOING_AWAY, "enough").unwrap().unwrap();
        assert_eq!(farewell.code, CloseCode::GOING_AWAY);
    });
}

#[test]
fn the_servers_farewell_is_told_and_answered() {
    let server = start(settings(), app());
    let url = format!("http://{}/echo", server.address);
    green(move || {
        let mut socket = Client::new().get(url).websocket().unwrap();
        assert_eq!((socket.protocol(), socket.farewell()), (None, None));
        socket.send("end").unwrap();
        assert_eq!(socket.recv().unwrap(), None);
        let farewell = socket.farewell().unwrap();
        assert_eq!((farewell.code.get(), &*farewell.reason), (4001, "as you like"));
        assert_eq!(socket.recv().unwrap(), None);
        assert_eq!(socket.send("more").unwrap_err().kind(), io::ErrorKind::NotConnected);
    });
}

#[test]
fn two_threads_share_it_and_a_limit_around_a_wait_loses_nothing() {
    let server = start(settings(), app());
    let url = format!("ws://{}/echo", server.address);
    green(move || {
        let (mut receiver, sender) = Client::new().get(url).websocket().unwrap().split();
        assert!(bast::timeout(Duration::from_millis(1), || receiver.recv()).is_err(), "nothing was said");
        let speaking = bast::spawn(move || {
            for number in 0..1000 {
                sender.send(number.to_string()).unwrap();
            }
            sender.send("end").unwrap();
        });
        for number in 0..1000 {
            let message = loop {
                if let Ok(message) = bast::timeout(Duration::from_millis(1), || receiver.recv()) {
                    break message.unwrap().unwrap();
                }
            };
            assert_eq!(message.as_text(), Some(&*number.to_string()));
        }
        assert_eq!(receiver.recv().unwrap(), None);
        assert_eq!(receiver.farewell().unwrap().code.get(), 4001);
        speaking.join().unwrap();
    });
    fn can_be_sent<T: Send>() {}
    can_be_sent::<(ClientSocket, Receiver, Sender)>();
}

#[test]
fn a_server_that_answers_something_else_is_an_error_with_its_status() {
    let server = start(settings(), app());
    let base = format!("ws://{}", server.address);
    green(move || {
        let client = Client::new();
        let open = |path: &str| client.get(format!("{base}{path}?token=secret")).websocket();
        let error = open("/private").unwrap_err();
        assert_eq!(error.refusal(), Some(Status::FORBIDDEN));
        let name = format!("GET {}/private", base.replace("ws:", "http:"));
        assert_eq!(
            error.to_string(),
            format!("{name}: it is no WebSocket: the server answers 403 Forbidden")
        );
        assert_eq!(open("/nowhere").unwrap_err().refusal(), Some(Status::NOT_FOUND));
        let posted = client.post(format!("{base}/echo")).websocket().unwrap_err();
        assert!(posted.is_request() && posted.refusal().is_none(), "{posted}");
        assert!(client.get("wss://127.0.0.1/").websocket().unwrap_err().is_request());
    });
}

/// A server for one client: answers its request with 101 and these lines, in which KEY stands for the right answer, says
/// these bytes, and returns what the client says until its end.
fn scripted(lines: &'static str, says: Vec<u8>) -> (String, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let running = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let head = head(&mut stream);
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
        let hash =
            Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
        let lines = lines.replace("KEY", &STANDARD.encode(hash));
        write!(stream, "HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n").unwrap();
        stream.write_all(&says).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => said,
        }
    });
    (url, running)
}

fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed within the head");
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

const GOOD: &str = "Connection: keep-alive\r\nConnection: other, upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: KEY\r\n";

#[test]
fn a_handshake_that_is_not_for_this_client_is_malformed() {
    green(|| {
        for lines in [
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
            "Connection: Upgrade\r\nUpgrade: chat\r\nSec-WebSocket-Accept: KEY\r\n",
            "Upgrade: websocket\r\nSec-WebSocket-Accept: KEY\r\n",
            "Connection: upgraded\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: KEY\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: KEY\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: KEY\r\nSec-WebSocket-Protocol: chat\r\n",
        ] {
            let (url, server) = scripted(lines, Vec::new());
            let error = Client::new().get(url).websocket().unwrap_err();
            assert!(error.is_malformed(), "{lines}: {error}");
            assert_eq!(server.join().unwrap(), b"", "{lines}");
        }
    });
}

/// The client's frames, without their masks: first byte and payload.
fn frames(mut said: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, a, b, c, d, rest @ ..] = said {
        assert!((0x80..0x80 + 126).contains(second), "a short masked frame: {second}");
        let (payload, behind) = rest.split_at(usize::from(second & 0x7f));
        let mask = [a, b, c, d];
        frames.push((
            *first,
            payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ **mask).collect(),
        ));
        said = behind;
    }
    assert!(said.is_empty());
    frames
}

#[test]
fn pings_are_answered_and_what_breaks_the_rules_is_told_to_the_server() {
    green(|| {
        let rows: [(&[u8], io::ErrorKind, &[u8]); 5] = [
            (b"\x81\x85\0\0\0\0Hello", io::ErrorKind::InvalidData, b"\x03\xeaa server's frame with a mask"),
            (b"\xc1\x01x", io::ErrorKind::InvalidData, b"\x03\xeaa reserved bit is set"),
            (b"\x81\x01\xff", io::ErrorKind::InvalidData, b"\x03\xeftext that is not UTF-8"),
            (
                b"\x82\x7f\0\0\0\0\xff\xff\xff\xff",
                io::ErrorKind::InvalidData,
                b"\x03\xf1a message beyond the limit",
            ),
            (b"\x81", io::ErrorKind::UnexpectedEof, b""),
        ];
        for (bytes, kind, told) in rows {
            let says = [b"\x89\x04ping\x01\x02on\x00\x01e\x80\x00", bytes].concat();
            let (url, server) = scripted(GOOD, says);
            let mut socket = Client::new().get(url).websocket().unwrap();
            assert_eq!(socket.recv().unwrap().unwrap().as_text(), Some("one"));
            assert_eq!(socket.recv().unwrap_err().kind(), kind, "{bytes:?}");
            drop(socket);
            let mut expected = vec![(0x8a, b"ping".to_vec())];
            if !told.is_empty() {
                expected.push((0x88, told.to_vec()));
            }
            assert_eq!(frames(&server.join().unwrap()), expected, "{bytes:?}");
        }
    });
}
