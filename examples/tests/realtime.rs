//! The chat and the ticker, run as their users run them.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flate2::write::GzDecoder;

/// No step takes longer unless something hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// A program that serves until it is dropped.
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    fn start(program: &str) -> Running {
        let mut child = Command::new(program)
            .arg("127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the program");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the first line");
        let address = line.trim_end().strip_prefix("http://").and_then(|line| line.strip_suffix('/'));
        Running { address: address.expect("an address").parse().expect("an address"), child }
    }

    /// Sends a request; its head is taken from the answer and returned.
    fn ask(&self, path: &str, lines: &str) -> (String, BufReader<TcpStream>) {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        let mut reader = BufReader::new(stream);
        write!(reader.get_mut(), "GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n").expect("send");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("a line") > 0, "closed within a head: {head}");
        }
        (head, reader)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(reader: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    line
}

/// What a client of the chat says to become one.
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn what_one_says_in_the_chat_all_hear() {
    let chat = Running::start(env!("CARGO_BIN_EXE_chat"));
    assert!(chat.ask("/", "").0.contains("Content-Type: text/html"));
    let mut clients = [(); 3].map(|()| {
        let (head, client) = chat.ask("/chat", UPGRADE);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    });
    // Each says something, and hears it back, so all are in the room.
    for client in &mut clients {
        client.get_mut().write_all(b"\x81\x82\0\0\0\0me").expect("send");
        let mut heard = [0; 4];
        while heard != *b"\x81\x02me" {
            client.read_exact(&mut heard).expect("a message");
        }
    }
    clients[0].get_mut().write_all(b"\x81\x85\x01\x02\x03\x04igohn").expect("send");
    for client in &mut clients {
        let mut heard = Vec::new();
        while !heard.ends_with(b"\x81\x05hello") {
            let mut byte = [0];
            client.read_exact(&mut byte).expect("a message");
            heard.push(byte[0]);
        }
    }
}

/// The next chunk of a response; empty at its end.
fn chunk(reader: &mut BufReader<TcpStream>) -> Vec<u8> {
    let size = usize::from_str_radix(line(reader).trim_end(), 16).expect("a size");
    let mut chunk = vec![0; size + 2];
    reader.read_exact(&mut chunk).expect("a chunk");
    assert_eq!(chunk.split_off(size), b"\r\n");
    chunk
}

#[test]
fn what_is_said_is_compressed_once_for_all_who_listen() {
    let chat = Running::start(env!("CARGO_BIN_EXE_chat"));
    let mut listeners = [(); 3].map(|()| {
        let (head, listener) = chat.ask("/events", "Accept-Encoding: gzip\r\n");
        assert!(head.contains("\r\nContent-Encoding: gzip\r\n"), "{head}");
        assert!(head.contains("\r\nVary: Accept-Encoding\r\n"), "{head}");
        listener
    });
    let (head, mut plain) = chat.ask("/events", "");
    assert!(!head.contains("Content-Encoding"), "{head}");
    // All are there, and have the beginning of a member.
    let mut decoders = [(); 3].map(|()| GzDecoder::new(Vec::new()));
    for (listener, decoder) in listeners.iter_mut().zip(&mut decoders) {
        let header = chunk(listener);
        assert_eq!(header[..3], [0x1f, 0x8b, 8]);
        decoder.write_all(&header).expect("gzip");
    }
    let (_, mut speaker) = chat.ask("/chat", UPGRADE);
    let mut expected = String::new();
    for word in ["one", "two"] {
        let text = format!("{word} ").repeat(30);
        let text = text.trim_end();
        // Masked by zeros, which is no mask (RFC 6455 §5.3).
        let frame = [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat();
        speaker.get_mut().write_all(&frame).expect("say");
        expected += &format!("data: {text}\n\n");
        let fragments = listeners.each_mut().map(chunk);
        assert!(fragments.iter().all(|fragment| *fragment == fragments[0]), "the same bytes for all");
        assert!(fragments[0].len() < text.len(), "compressed: {}", fragments[0].len());
        for (fragment, decoder) in fragments.iter().zip(&mut decoders) {
            decoder.write_all(fragment).expect("deflate");
            decoder.flush().expect("a fragment is whole");
            assert_eq!(String::from_utf8_lossy(decoder.get_ref()), expected);
        }
    }
    let mut heard = String::new();
    while heard.len() < expected.len() {
        heard += &String::from_utf8(chunk(&mut plain)).expect("text");
    }
    assert_eq!(heard, expected);
}

#[test]
fn the_ticker_tells_the_same_ticks_in_both_ways() {
    let ticker = Running::start(env!("CARGO_BIN_EXE_ticker"));
    assert!(ticker.ask("/", "").0.contains("Content-Type: text/html"));
    let (head, mut events) = ticker.ask("/events", "");
    assert!(head.contains("Content-Type: text/event-stream; charset=utf-8\r\n"), "{head}");
    let mut value = |name: &str| loop {
        let line = line(&mut events);
        assert!(!line.is_empty(), "the stream ended");
        if let Some(value) = line.strip_prefix(name) {
            break value.trim_end().to_owned();
        }
    };
    let (first, _) = (value("id: "), value("data: "));
    let (second, seconds) = (value("id: "), value("data: "));
    // The same event by a poll that comes late, and by a browser that comes back.
    let (head, mut answer) = ticker.ask(&format!("/poll?after={first}"), "");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(line(&mut answer), format!("{second} {seconds}\n"));
    let (_, mut again) = ticker.ask("/events", &format!("Last-Event-ID: {first}\r\n"));
    while !line(&mut again).starts_with(&format!("id: {second}")) {}
    // One that waits is answered by the next tick.
    let (head, _) = ticker.ask("/poll", "");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(ticker.ask("/poll?after=7", "").0.starts_with("HTTP/1.1 410 "));
}
