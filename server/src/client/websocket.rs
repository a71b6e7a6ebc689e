//! WebSocket (RFC 6455), from the client's side.
//!
//! ```
//! use bast_server::client::Client;
//! use bast_server::websocket::{self, CloseCode, WebSocket};
//! use bast_server::{Request, Router, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let app = Router::new().get("/echo", |request: &mut Request| {
//!     websocket::upgrade(request, |socket: &mut WebSocket| {
//!         while let Some(message) = socket.recv() {
//!             let _ = socket.send(message);
//!         }
//!     })
//! });
//! let server = Server::bind("127.0.0.1:0")?;
//! let (address, handle) = (server.local_addr()?, server.handle());
//! bast::run(move || {
//!     let served = bast::spawn(move || server.serve(app));
//!
//!     let mut socket = Client::new().get(format!("ws://{address}/echo")).websocket()?;
//!     socket.send("hello")?;
//!     assert_eq!(socket.recv()?.unwrap().as_text(), Some("hello"));
//!     let farewell = socket.close(CloseCode::NORMAL, "")?;
//!     assert_eq!(farewell.unwrap().code, CloseCode::NORMAL);
//!
//!     handle.shutdown();
//!     served.join()??;
//!     Ok(())
//! })
//! # }
//! ```
//! Pings are answered while somebody receives. No extension is offered, so nothing is compressed.
#![forbid(unsafe_code)]

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bast::net::TcpStream;
use bast::sync::Mutex;

use super::connection::Shared;
use super::error::Error;
use super::request::Request;
use super::response::Response;
use crate::message::{Method, Status, list};
use crate::websocket::{
    CloseCode, CloseFrame, Decoded, Decoder, Message, MessageLimits, Opcode, PROTOCOL, Violation, accept_of,
    encode_masked,
};

/// How much is received at once.
const PIECE_BYTES: usize = 16 << 10;

/// Most frames of one message: empty ones would be endless otherwise. As many as our server takes.
const FRAGMENTS_MAX: usize = 4096;

/// How long [`WebSocket::close`] waits for the server's answer, whatever else comes meanwhile.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// A wait of nothing at all is not known to sockets.
const TICK: Duration = Duration::from_millis(1);

impl Request {
    /// Opens a WebSocket: sends the request, and waits for the server's consent. The URL may begin with `ws://`; `wss`
    /// needs TLS, which this client has not. Subprotocols are offered by [`header`](Request::header) as
    /// `Sec-WebSocket-Protocol`, the best first.
    ///
    /// A message is limited by [`Limits::collected_bytes_max`](super::Limits::collected_bytes_max), and sending by
    /// [`TimeLimits::write`](super::TimeLimits::write). Receiving waits as long as it takes: put [`bast::timeout`] around it.
    ///
    /// # Errors
    /// As [`send`](Request::send). The server answers with something else ([`Error::refusal`]), or not as the RFC
    /// demands.
    pub fn websocket(mut self) -> Result<WebSocket, Error> {
        self.speak_http();
        let shared = self.shared();
        let offered = self.field("Sec-WebSocket-Protocol");
        let random = RandomState::new();
        let key =
            STANDARD.encode([random.hash_one(0).to_ne_bytes(), random.hash_one(1).to_ne_bytes()].concat());
        let response = self
            .only(Method::Get, "a WebSocket is opened by GET")
            .upgrade(PROTOCOL)
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", &key)
            .send()?;
        let place = Arc::clone(response.place());
        WebSocket::open(response, &accept_of(key.as_bytes()), &offered, &shared)
            .map_err(|error| error.about(&place))
    }
}

/// A WebSocket, on the client's side. Dropped without a [`close`](WebSocket::close) it breaks off.
#[derive(Debug)]
pub struct WebSocket {
    receiver: Receiver,
    sender: Sender,
    protocol: Option<String>,
}

impl WebSocket {
    fn open(response: Response, accept: &str, offered: &[u8], shared: &Shared) -> Result<WebSocket, Error> {
        if response.status() != Status::SWITCHING_PROTOCOLS {
            return Err(Error::refused(response.status()));
        }
        // RFC 6455 §4.1, what a client has to check besides what is so of every change of protocols.
        if !response.header("Upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case(PROTOCOL)) {
            return Err(Error::malformed("it changes to another protocol than WebSocket"));
        }
        if response.header("Sec-WebSocket-Accept") != Some(accept) {
            return Err(Error::malformed("its Sec-WebSocket-Accept is not for this request"));
        }
        if response.headers().get_bytes("Sec-WebSocket-Extensions").is_some() {
            return Err(Error::malformed("an extension that nobody asked for"));
        }
        let protocol = response.header("Sec-WebSocket-Protocol").map(str::to_owned);
        if let Some(protocol) = &protocol
            && !list(offered).any(|offer| offer == protocol.as_bytes())
        {
            return Err(Error::malformed("a subprotocol that nobody asked for"));
        }
        let upgraded = response.into_upgraded().map_err(|response| Error::refused(response.status()))?;
        let (received, stream) = upgraded.into_parts();
        let limits = MessageLimits {
            bytes_max: usize::try_from(shared.limits.collected_bytes_max).unwrap_or(usize::MAX),
            fragments_max: FRAGMENTS_MAX,
        };
        WebSocket::over(stream, received, shared.time_limits.write, limits, protocol)
            .map_err(|error| Error::io("the connection has no second handle", error))
    }

    /// One over a connection on which it was agreed upon, and from which so much was received already.
    fn over(
        stream: TcpStream,
        received: Vec<u8>,
        write_limit: Duration,
        limits: MessageLimits,
        protocol: Option<String>,
    ) -> io::Result<WebSocket> {
        let writer = stream.try_clone()?;
        writer.set_write_timeout(Some(write_limit.max(TICK)))?;
        let sink = Sink { stream: writer, random: RandomState::new(), frames: 0, state: State::Open };
        let way_out = Arc::new(WayOut { sink: Mutex::new(sink), owed: Mutex::new(None) });
        Ok(WebSocket {
            receiver: Receiver {
                stream,
                received,
                at: 0,
                decoder: Decoder::of_server(limits),
                deadline: None,
                way_out: Arc::clone(&way_out),
                end: None,
            },
            sender: Sender { way_out },
            protocol,
        })
    }

    /// Waits for the next message. `None` when the server has closed it: [`farewell`](WebSocket::farewell) says why.
    ///
    /// # Errors
    /// `UnexpectedEof` where the connection ended without a Close, `InvalidData` where the server broke the protocol or a limit,
    /// which it is told, and those of the connection.
    ///
    /// # Cancellation
    /// [`bast::timeout`] around it ends the wait and loses no message.
    pub fn recv(&mut self) -> io::Result<Option<Message>> {
        self.receiver.recv()
    }

    /// Sends a message; waits while the server does not read.
    ///
    /// # Errors
    /// `NotConnected` where it was closed, `TimedOut` where the server takes nothing for too long, and those of the
    /// connection. After the latter nothing can be sent any more, as a part of a frame may have been.
    ///
    /// # Cancellation
    /// As after such an error.
    pub fn send(&self, message: impl Into<Message>) -> io::Result<()> {
        self.sender.send(message)
    }

    /// Closes it: says why, as [`send`](WebSocket::send) does, and then waits for the server's answer, for 5 s at the most.
    /// Messages that come meanwhile are dropped. A reason of more than 123 bytes is cut. What the server said at the end is
    /// returned.
    ///
    /// # Errors
    /// As [`recv`](WebSocket::recv); `TimedOut` where no answer comes.
    pub fn close(self, code: CloseCode, reason: &str) -> io::Result<Option<CloseFrame>> {
        self.close_within(CLOSE_WAIT, code, reason)
    }

    fn close_within(
        mut self,
        limit: Duration,
        code: CloseCode,
        reason: &str,
    ) -> io::Result<Option<CloseFrame>> {
        self.sender.close(code, reason)?;
        // Not `bast::timeout`: that waits for the end of a mask, and a plain OS thread has none.
        self.receiver.deadline = Some(Instant::now() + limit);
        while self.recv()?.is_some() {}
        Ok(self.receiver.end.flatten())
    }

    /// What the server said when it closed, if it has, and said anything.
    #[must_use]
    pub fn farewell(&self) -> Option<&CloseFrame> {
        self.receiver.farewell()
    }

    /// The subprotocol that was agreed upon.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// An end for a thread that receives and one for threads that send. Somebody has to receive, also where no message is
    /// expected: that is what answers pings.
    #[must_use]
    pub fn split(self) -> (Receiver, Sender) {
        (self.receiver, self.sender)
    }
}

/// The receiving end of a [`WebSocket`].
pub struct Receiver {
    stream: TcpStream,
    received: Vec<u8>,
    /// So much of it is decoded.
    at: usize,
    decoder: Decoder,
    /// Until then something is received, if there is a limit: for all waits together, as a server may say without end what is
    /// no message.
    deadline: Option<Instant>,
    way_out: Arc<WayOut>,
    /// The server's Close has come, with this.
    end: Option<Option<CloseFrame>>,
}

impl Receiver {
    /// As [`WebSocket::recv`].
    ///
    /// # Errors
    /// As there.
    pub fn recv(&mut self) -> io::Result<Option<Message>> {
        while self.end.is_none() {
            let mut unread = &self.received[self.at..];
            let count = unread.len();
            let decoded = self.decoder.decode(&mut unread);
            self.at += count - unread.len();
            match decoded {
                Ok(Some(Decoded::Message(message))) => return Ok(Some(message)),
                Ok(Some(Decoded::Ping(payload))) => self.way_out.answer(payload)?,
                Ok(Some(Decoded::Pong)) => {}
                Ok(Some(Decoded::Close(frame))) => {
                    // The answer has the same code, or none (RFC 6455 §5.5.1). A server that has gone meanwhile needs none.
                    let payload = frame.as_ref().map(|frame| CloseFrame::encode(frame.code, ""));
                    let _ = self.way_out.close(&payload.unwrap_or_default());
                    self.end = Some(frame);
                }
                Ok(None) => self.fill()?,
                Err(violation) => return Err(self.refuse(violation)),
            }
        }
        Ok(None)
    }

    /// As [`WebSocket::farewell`].
    #[must_use]
    pub fn farewell(&self) -> Option<&CloseFrame> {
        self.end.as_ref()?.as_ref()
    }

    fn fill(&mut self) -> io::Result<()> {
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left.max(TICK)))?;
        }
        self.received.resize(PIECE_BYTES, 0);
        // Nothing is there until something has come, also for who catches an interrupt.
        self.at = PIECE_BYTES;
        let count = self.stream.read(&mut self.received)?;
        self.received.truncate(count);
        self.at = 0;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed without a farewell"));
        }
        Ok(())
    }

    #[cold]
    fn refuse(&mut self, violation: Violation) -> io::Error {
        let Violation { code, reason } = violation;
        let _ = self.way_out.close(&CloseFrame::encode(code, reason));
        self.end = Some(None);
        io::Error::new(io::ErrorKind::InvalidData, reason)
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("stream", &self.stream)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// The sending end of a [`WebSocket`]. Clones send on the same one; their messages do not mix.
#[derive(Clone)]
pub struct Sender {
    way_out: Arc<WayOut>,
}

impl Sender {
    /// As [`WebSocket::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&self, message: impl Into<Message>) -> io::Result<()> {
        let message = message.into();
        self.way_out.with_sink(|sink| sink.frame(message.opcode(), message.as_bytes()))
    }

    /// Begins to close it, and does not wait: the receiver gets the messages that are on their way, and then its end.
    ///
    /// # Errors
    /// As [`send`](Sender::send).
    pub fn close(&self, code: CloseCode, reason: &str) -> io::Result<()> {
        self.way_out.close(&CloseFrame::encode(code, reason))
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// What senders and receiver share.
///
/// A receiver that waited until a sender is done would not read meanwhile. If both ends do so while both connections are full,
/// nobody reads any more. So the receiver leaves its pong to whoever sends. Where nobody does, it sends it itself, and waits if the
/// connection is full.
///
/// No pong is forgotten between them: the receiver puts it down and then tries the lock; a sender lets go of the lock and then
/// looks for a pong. Whichever comes second sees what the other did.
struct WayOut {
    sink: Mutex<Sink>,
    /// The content of the last ping that nobody has answered yet. Earlier ones need no answer (RFC 6455 §5.5.3).
    owed: Mutex<Option<Vec<u8>>>,
}

impl WayOut {
    /// Sends by it, and then what the receiver has left behind meanwhile.
    fn with_sink(&self, send: impl FnOnce(&mut Sink) -> io::Result<()>) -> io::Result<()> {
        let sent = send(&mut self.sink.lock());
        // If the pong fails, the next frame says so: this one was sent.
        let _ = self.settle();
        sent
    }

    fn close(&self, payload: &[u8]) -> io::Result<()> {
        self.with_sink(|sink| sink.close(payload))
    }

    /// Answers a ping, or leaves that to who sends at the moment.
    fn answer(&self, ping: Vec<u8>) -> io::Result<()> {
        *self.owed.lock() = Some(ping);
        self.settle()
    }

    fn settle(&self) -> io::Result<()> {
        while self.owed.lock().is_some() {
            // Whoever has it comes here afterwards.
            let Some(mut sink) = self.sink.try_lock() else { break };
            let ping = self.owed.lock().take();
            if let Some(ping) = ping {
                sink.reply(Opcode::Pong, &ping)?;
            }
        }
        Ok(())
    }
}

/// Writes frames, whole.
struct Sink {
    stream: TcpStream,
    /// Keys from the system's random numbers: nobody who chooses payloads can foresee a mask (RFC 6455 §5.3).
    random: RandomState,
    /// The masks are the hashes of this count.
    frames: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A Close was sent, behind which nothing is (RFC 6455 §5.5.1).
    Closed,
    /// A part of a frame may have been sent.
    Broken,
}

impl Sink {
    fn frame(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        match self.state {
            State::Open => {}
            State::Closed => {
                return Err(io::Error::new(io::ErrorKind::NotConnected, "the WebSocket is closed"));
            }
            State::Broken => {
                return Err(io::Error::new(
                    io::ErrorKind::BrokenPipe,
                    "an earlier message could not be sent",
                ));
            }
        }
        self.frames += 1;
        let [a, b, c, d, ..] = self.random.hash_one(self.frames).to_ne_bytes();
        let mut frame = Vec::new();
        encode_masked(&mut frame, opcode, payload, [a, b, c, d]);
        // Until all of it is sent; an interrupt may end the wait.
        self.state = State::Broken;
        self.stream.write_all(&frame)?;
        self.state = State::Open;
        Ok(())
    }

    /// Sends a pong, unless a Close was sent.
    fn reply(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        if self.state == State::Closed { Ok(()) } else { self.frame(opcode, payload) }
    }

    /// Sends a Close, unless one was sent.
    fn close(&mut self, payload: &[u8]) -> io::Result<()> {
        if self.state == State::Closed {
            return Ok(());
        }
        self.frame(Opcode::Close, payload)?;
        self.state = State::Closed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// How long a test takes at the most.
    const DEADLINE: Duration = Duration::from_secs(60);

    /// A WebSocket that is open, and the server's end of it, which the test plays.
    fn pair() -> (WebSocket, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        server.set_write_timeout(Some(DEADLINE)).unwrap();
        let limits = MessageLimits { bytes_max: 1 << 20, fragments_max: FRAGMENTS_MAX };
        (WebSocket::over(stream, Vec::new(), DEADLINE, limits, None).unwrap(), server)
    }

    /// Runs a test on a green thread, with a deadline.
    fn green(test: impl FnOnce() + Send + 'static) {
        let (tell, told) = mpsc::channel();
        let running = thread::spawn(move || {
            bast::run(test);
            let _ = tell.send(());
        });
        assert_ne!(told.recv_timeout(DEADLINE), Err(mpsc::RecvTimeoutError::Timeout), "it takes too long");
        if let Err(panic) = running.join() {
            std::panic::resume_unwind(panic);
        }
    }

    /// The content, of one byte, of the pong that comes next.
    fn pong(server: &mut std::net::TcpStream) -> u8 {
        let mut frame = [0; 7];
        server.read_exact(&mut frame).unwrap();
        let [first, second, mask, _, _, _, content] = frame;
        assert_eq!((first, second), (0x8a, 0x81));
        content ^ mask
    }

    #[test]
    fn a_server_that_only_pings_does_not_hold_up_a_close() {
        const LIMIT: Duration = Duration::from_millis(200);
        let (socket, mut server) = pair();
        // Each ping comes long before the limit, until the client has gone.
        let pinging = thread::spawn(move || {
            while server.write_all(b"\x89\x00").is_ok() {
                thread::sleep(LIMIT / 20);
            }
        });
        green(move || {
            let error = socket.close_within(LIMIT, CloseCode::NORMAL, "").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
        pinging.join().unwrap();
    }

    #[test]
    fn a_receiver_reads_on_while_a_message_is_stuck_and_the_last_ping_is_answered_behind_it() {
        // More than the buffers of both ends take.
        const STUCK_BYTES: usize = 32 << 20;
        const BEGIN_BYTES: usize = 1 << 10;
        let (socket, mut server) = pair();
        let (mut receiver, sender) = socket.split();
        green(move || {
            let sending = bast::spawn(move || sender.send(vec![0; STUCK_BYTES]));
            let mut server = bast::offload(move || {
                // It has the lock, and keeps it: nobody reads on.
                server.read_exact(&mut [0; BEGIN_BYTES]).unwrap();
                server.write_all(b"\x89\x01a\x89\x01b\x81\x04text").unwrap();
                server
            });
            assert_eq!(receiver.recv().unwrap().unwrap().as_text(), Some("text"));
            let mut server = bast::offload(move || {
                // A header of 14 bytes is before the message.
                server.read_exact(&mut vec![0; 14 + STUCK_BYTES - BEGIN_BYTES]).unwrap();
                assert_eq!(pong(&mut server), b'b');
                server
            });
            sending.join().unwrap().unwrap();
            // While nobody sends, an answer goes at once.
            server.write_all(b"\x89\x01c\x81\x00").unwrap();
            assert!(receiver.recv().unwrap().is_some());
            assert_eq!(bast::offload(move || pong(&mut server)), b'c');
        });
    }
}
