//! A server over real sockets for the tests: clients are plain std streams on OS threads, each with a deadline.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bast_server::{Error, Handler, Request, Server, ServerHandle, Settings};

/// No test may take longer for one answer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A server on an OS thread of its own, shut down at the end of the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: ServerHandle,
    served: Option<JoinHandle<io::Result<()>>>,
}

pub(crate) fn settings() -> Settings {
    Settings { workers: Some(2), handle_signals: false, ..Settings::default() }
}

pub(crate) fn start(settings: Settings, handler: impl Handler) -> Running {
    run(Server::bind("127.0.0.1:0").expect("bind").settings(settings), handler)
}

/// The same of a server that was set up.
pub(crate) fn run(server: Server, handler: impl Handler) -> Running {
    running(server, move |server| server.serve(handler))
}

/// The same in a runtime of the test's own.
pub(crate) fn run_in(
    runtime: impl FnOnce() -> bast::Runtime + Send + 'static,
    server: Server,
    handler: impl Handler,
) -> Running {
    running(server, move |server| runtime().run(move || server.serve(handler)))
}

fn running(server: Server, serve: impl FnOnce(Server) -> io::Result<()> + Send + 'static) -> Running {
    let address = server.local_addr().expect("an address");
    let handle = server.handle();
    let served = thread::spawn(move || serve(server));
    Running { address, handle, served: Some(served) }
}

impl Running {
    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.set_write_timeout(Some(DEADLINE)).expect("a deadline");
        Client { stream, buffer: Vec::new() }
    }

    /// Waits until `serve` has returned.
    pub(crate) fn ended(mut self) -> io::Result<()> {
        let served = self.served.take().expect("not ended before");
        let start = Instant::now();
        while !served.is_finished() {
            assert!(start.elapsed() < DEADLINE, "serve does not return");
            thread::sleep(Duration::from_millis(1));
        }
        served.join().expect("serve does not panic")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(served) = self.served.take() else { return };
        self.handle.shutdown();
        self.handle.shutdown();
        let result = served.join();
        if !thread::panicking() {
            result.expect("serve does not panic").expect("serve succeeds");
        }
    }
}

pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) buffer: Vec<u8>,
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("send");
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        self.answer()
    }

    /// The next response, which must have a Content-Length.
    pub(crate) fn answer(&mut self) -> Answer {
        let head_len = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.receive() > 0,
                "closed before an answer: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        let head: String =
            String::from_utf8(self.buffer.drain(..head_len).collect()).expect("a head is text");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map_or(0, |length| length.parse().expect("a length"));
        while self.buffer.len() < length {
            assert!(self.receive() > 0, "closed within a body");
        }
        let body = String::from_utf8(self.buffer.drain(..length).collect()).expect("a body of text");
        Answer { code: head[9..12].parse().expect("a status code"), head, body }
    }

    pub(crate) fn receive(&mut self) -> usize {
        let mut bytes = [0; 4096];
        let count = self.stream.read(&mut bytes).expect("receive");
        self.buffer.extend_from_slice(&bytes[..count]);
        count
    }

    /// Waits for the server to close; nothing may come before that.
    pub(crate) fn closed(&mut self) {
        assert!(self.buffer.is_empty(), "unexpected: {:?}", String::from_utf8_lossy(&self.buffer));
        assert_eq!(self.receive(), 0, "unexpected: {:?}", String::from_utf8_lossy(&self.buffer));
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Something that a handler waits for and a test opens: a connection on which a byte is sent. A green thread parks
/// in it like in any upstream.
pub(crate) struct Gate {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Gate {
    pub(crate) fn new() -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a gate");
        let address = listener.local_addr().expect("an address");
        Gate { listener, address }
    }

    /// A handler that answers once the gate is opened.
    pub(crate) fn handler(&self) -> impl Handler + use<> {
        let address = self.address;
        move |_: &mut Request<'_>| -> Result<&'static str, Error> {
            bast::net::TcpStream::connect(address)?.read_exact(&mut [0])?;
            Ok("through")
        }
    }

    /// Waits until a handler is at the gate.
    pub(crate) fn arrival(&self) -> TcpStream {
        self.listener.set_nonblocking(true).expect("a listener to ask");
        let start = Instant::now();
        loop {
            match self.listener.accept() {
                Ok((visitor, _)) => return visitor,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
            assert!(start.elapsed() < DEADLINE, "nobody comes to the gate");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

pub(crate) fn open(mut visitor: TcpStream) {
    visitor.write_all(b"!").expect("open the gate");
}
