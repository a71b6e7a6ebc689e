//! What a handler is given, and how it ends.
//!
//! ```text
//!                    ┌───── Core ─────┐
//!   Receiver ──lock──▶ source         │      a reader answers pings, so it uses the sink as well:
//!   Sender ────lock──▶ sink           │      a frame is written under the lock, whole
//!                    │ farewell, end  │
//!                    └────────────────┘
//!   open ──a Close sent──▶ closing ──the client's Close, or time over──▶ ended
//!     └──the client's Close (answered), a violation (told), the stream broken──▶ ended
//! ```
//! All of it belongs to one capability: the locks make threads take turns, cells do for the rest.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bast::sync::Mutex;

use super::close::{CloseCode, CloseFrame, Violation};
use super::decode::{Decoder, MessageLimits};
use super::frame::Opcode;
use super::handshake::{self, Accepted};
use super::message::{Message, Prepared};
use super::options::Options;
use super::sink::Sink;
use super::source::{Received, Source};
use crate::request::Request;
use crate::response::Response;
use crate::upgrade::Upgraded;

/// The response that opens a WebSocket, or says why not.
pub(super) fn upgrade(
    request: &Request<'_>,
    options: Options,
    serve: impl FnOnce(&mut WebSocket) + 'static,
) -> Response {
    let accepted = match handshake::accept(request, &options) {
        Ok(accepted) => accepted,
        Err(refused) => return refused,
    };
    let accept = accepted.accept.clone();
    let protocol = accepted.protocol;
    #[cfg(feature = "gzip")]
    let extension = accepted.compression.map(|agreed| agreed.answer());
    #[cfg(not(feature = "gzip"))]
    let extension: Option<String> = None;
    let mut response = Response::upgrade(handshake::PROTOCOL, move |stream| {
        run(WebSocket { core: Rc::new(Core::new(stream, options, &accepted)) }, serve);
    });
    response = response.with_header("Sec-WebSocket-Accept", accept);
    if let Some(protocol) = protocol {
        response = response.with_header("Sec-WebSocket-Protocol", protocol);
    }
    if let Some(extension) = extension {
        response = response.with_header("Sec-WebSocket-Extensions", extension);
    }
    response
}

/// Lets `serve` have the WebSocket, and closes it afterwards, in whichever way that ends.
fn run(mut socket: WebSocket, serve: impl FnOnce(&mut WebSocket)) {
    let core = Rc::clone(&socket.core);
    // What is used after a panic is consistent at every step: frames are whole, or the stream is marked as broken.
    match bast::catch_unwind(AssertUnwindSafe(|| serve(&mut socket))) {
        Ok(()) => core.finish(CloseCode::NORMAL),
        Err(payload) if bast::is_interrupt(&*payload) => {
            let _farewell = Farewell(&core);
            bast::resume_unwind(payload);
        }
        Err(payload) => {
            core.finish(CloseCode::INTERNAL_ERROR);
            bast::resume_unwind(payload);
        }
    }
}

/// Says farewell while the thread unwinds from a kill: as far as that can be done without waiting.
struct Farewell<'a>(&'a Core);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        if self.0.farewell.get().is_none()
            && self.0.end.borrow().is_none()
            && let Some(mut sink) = self.0.sink.try_lock()
        {
            let _ = sink.control(Opcode::Close, &CloseFrame::encode(CloseCode::GOING_AWAY, ""));
        }
    }
}

/// A WebSocket, on the server's side. The calls wait and park only their thread.
pub struct WebSocket {
    core: Rc<Core>,
}

impl WebSocket {
    /// Waits for the next message. `None` when there will be none: [`end`](WebSocket::end) says why.
    ///
    /// # Cancellation
    /// [`bast::timeout`] around it ends the wait and loses nothing.
    pub fn recv(&mut self) -> Option<Message> {
        self.core.recv()
    }

    /// Sends a message; waits while the client does not read.
    ///
    /// # Errors
    /// The WebSocket was closed, or the client is gone or does not read for longer than
    /// [`TimeLimits::write`](crate::TimeLimits::write).
    pub fn send(&mut self, message: impl Into<Message>) -> io::Result<()> {
        self.core.send(&message.into())
    }

    /// Sends a message that was framed before, for many.
    ///
    /// # Errors
    /// As [`send`](WebSocket::send).
    pub fn send_prepared(&mut self, message: &Prepared) -> io::Result<()> {
        self.core.send_prepared(message)
    }

    /// Closes it: says why, and waits for the client to confirm, for [`Options::close_timeout`] at the most. Messages that
    /// come meanwhile are dropped. A reason of more than 123 bytes is cut.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        if self.core.close(code, reason).is_ok() {
            while self.core.recv().is_some() {}
        }
    }

    /// The subprotocol that was agreed upon.
    #[must_use]
    pub fn protocol(&self) -> Option<&'static str> {
        self.core.protocol
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.core.end.borrow().clone()
    }

    /// An end for a thread that receives and one for threads that send, for green threads of this capability
    /// ([`bast::spawn_local`]). They work until the function that serves the WebSocket returns; threads that still use
    /// them then get an end and errors.
    ///
    /// Somebody has to receive, also where no message is expected: that is what answers pings, notices that the client is gone,
    /// and that the server is shutting down.
    #[must_use]
    pub fn split(&mut self) -> (Receiver, Sender) {
        (Receiver { core: Rc::clone(&self.core) }, Sender { core: Rc::clone(&self.core) })
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt("WebSocket", f)
    }
}

/// The receiving end of a [`WebSocket`].
pub struct Receiver {
    core: Rc<Core>,
}

impl Receiver {
    /// As [`WebSocket::recv`].
    pub fn recv(&mut self) -> Option<Message> {
        self.core.recv()
    }

    /// As [`WebSocket::end`].
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.core.end.borrow().clone()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt("Receiver", f)
    }
}

/// The sending end of a [`WebSocket`]. Clones send on the same one; their messages do not mix.
#[derive(Clone)]
pub struct Sender {
    core: Rc<Core>,
}

impl Sender {
    /// As [`WebSocket::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&mut self, message: impl Into<Message>) -> io::Result<()> {
        self.core.send(&message.into())
    }

    /// As [`WebSocket::send_prepared`].
    ///
    /// # Errors
    /// As there.
    pub fn send_prepared(&mut self, message: &Prepared) -> io::Result<()> {
        self.core.send_prepared(message)
    }

    /// Begins to close it, and does not wait: the receiver gets the messages that are on their way, and then its end.
    ///
    /// # Errors
    /// As [`send`](Sender::send).
    pub fn close(&mut self, code: CloseCode, reason: &str) -> io::Result<()> {
        self.core.close(code, reason)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt("Sender", f)
    }
}

/// How a WebSocket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The client closed it, or confirmed that it was closed, and said this, if anything.
    Closed(Option<CloseFrame>),
    /// The client broke the protocol, or a limit, and was told so.
    Refused(CloseFrame),
    /// The client did not answer a ping, or a Close, in time.
    Silent,
    /// The connection broke, without a Close.
    Lost(io::ErrorKind),
}

/// A longer time for the answer to a Close is as good as none, and a moment so far away may be one that there is not.
const CLOSE_TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What the ends of a WebSocket share.
struct Core {
    source: Mutex<Source>,
    sink: Mutex<Sink>,
    /// A Close was sent; until then its answer is waited for.
    farewell: Cell<Option<Instant>>,
    /// The last thing that was sent was a ping of ours, and nothing came since.
    pinged: Cell<bool>,
    end: RefCell<Option<End>>,
    options: Options,
    protocol: Option<&'static str>,
}

impl Core {
    fn new(stream: Upgraded, options: Options, accepted: &Accepted) -> Core {
        #[cfg(feature = "gzip")]
        let (inflater, deflater) = match (accepted.compression, options.compression) {
            (Some(agreed), Some(compression)) => {
                (Some(agreed.inflater()), Some(agreed.deflater(compression)))
            }
            _ => (None, None),
        };
        #[cfg(not(feature = "gzip"))]
        let (inflater, deflater) = (None, None);
        let limits =
            MessageLimits { bytes_max: options.message_bytes_max, fragments_max: options.fragments_max };
        let (reader, writer) = stream.split();
        Core {
            source: Mutex::new(Source::new(reader, Decoder::new(limits, inflater))),
            sink: Mutex::new(Sink::new(writer, deflater)),
            farewell: Cell::new(None),
            pinged: Cell::new(false),
            end: RefCell::new(None),
            options,
            protocol: accepted.protocol,
        }
    }

    fn recv(&self) -> Option<Message> {
        let mut source = self.source.lock();
        while self.end.borrow().is_none() {
            match self.next(&mut source) {
                Ok(Received::Message(message)) => return Some(message),
                Ok(Received::Close(frame)) => {
                    // The answer has the same code, or none (RFC 6455 §5.5.1).
                    let payload = frame.as_ref().map(|frame| CloseFrame::encode(frame.code, ""));
                    let _ = self.close_with(&payload.unwrap_or_default());
                    self.set_end(End::Closed(frame));
                }
                Err(end) => self.set_end(end),
            }
        }
        None
    }

    /// Waits for what comes next, pinging a silent client.
    fn next(&self, source: &mut Source) -> Result<Received, End> {
        loop {
            if let Some(received) = self.received(source)? {
                return Ok(received);
            }
            let farewell = self.farewell.get();
            let silence = match farewell {
                Some(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
                None if self.pinged.get() => Some(self.options.pong_timeout),
                None => self.options.ping_interval,
            };
            let unfinished = if farewell.is_none() { self.message_time_left(source) } else { None };
            let limit = [silence, unfinished].into_iter().flatten().min();
            let filled = match limit {
                Some(limit) => bast::timeout(limit, || source.fill()),
                None => Ok(source.fill()),
            };
            match filled {
                Ok(Ok(true)) => self.pinged.set(false),
                Ok(Ok(false)) => return Err(End::Lost(io::ErrorKind::UnexpectedEof)),
                Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut && source.is_draining() => {
                    if farewell.is_some() {
                        return Err(End::Silent);
                    }
                    let _ = self.close(CloseCode::GOING_AWAY, "the server is shutting down");
                }
                Ok(Err(error)) => return Err(End::Lost(error.kind())),
                // A Close may have been sent by another thread meanwhile: then its answer has its own time.
                Err(_elapsed) if farewell.is_none() && self.farewell.get().is_some() => {}
                Err(_elapsed) if unfinished.is_some() && unfinished == limit => {
                    return Err(self.refuse(Violation::policy("a message that takes too long")));
                }
                Err(_elapsed) if farewell.is_some() || self.pinged.get() => return Err(End::Silent),
                Err(_elapsed) => {
                    self.pinged.set(true);
                    self.reply(Opcode::Ping, &[])?;
                }
            }
        }
    }

    /// A message or a Close, if one is whole. Of the pings before it only the last is answered (RFC 6455 §5.5.3 allows it): an
    /// answer to each would be a system call for every 6 bytes of a client.
    fn received(&self, source: &mut Source) -> Result<Option<Received>, End> {
        source.decode().map_err(|violation| self.refuse(violation))?;
        // The answer may wait and be interrupted: until it is sent the source keeps both.
        if let Some(payload) = &source.ping {
            self.reply(Opcode::Pong, payload)?;
            source.ping = None;
        }
        Ok(source.received.take())
    }

    /// How long a message that was begun may still take, if there is one.
    fn message_time_left(&self, source: &mut Source) -> Option<Duration> {
        let limit = self.options.message_time_max?;
        let since = source.unfinished_since()?;
        Some(limit.saturating_sub(since.elapsed()))
    }

    /// Tells the client what it did wrong.
    #[cold]
    fn refuse(&self, violation: Violation) -> End {
        let Violation { code, reason } = violation;
        log::debug!("closed a WebSocket: {code} {reason}");
        let _ = self.close(code, reason);
        End::Refused(CloseFrame { code, reason: reason.to_owned() })
    }

    /// Sends a ping or a pong. Nothing is sent behind a Close (RFC 6455 §5.5.1).
    fn reply(&self, opcode: Opcode, payload: &[u8]) -> Result<(), End> {
        let mut sink = self.sink.lock();
        if self.farewell.get().is_some() {
            return Ok(());
        }
        sink.control(opcode, payload).map_err(|error| End::Lost(error.kind()))
    }

    fn send(&self, message: &Message) -> io::Result<()> {
        self.write(|sink| sink.send(message))
    }

    fn send_prepared(&self, message: &Prepared) -> io::Result<()> {
        self.write(|sink| sink.send_prepared(message))
    }

    fn write(&self, send: impl FnOnce(&mut Sink) -> io::Result<()>) -> io::Result<()> {
        let mut sink = self.sink.lock();
        if self.farewell.get().is_some() || self.end.borrow().is_some() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the WebSocket is closed"));
        }
        send(&mut sink)
    }

    fn close(&self, code: CloseCode, reason: &str) -> io::Result<()> {
        self.close_with(&CloseFrame::encode(code, reason))
    }

    /// Sends a Close unless one was sent.
    fn close_with(&self, payload: &[u8]) -> io::Result<()> {
        let mut sink = self.sink.lock();
        if self.farewell.get().is_some() || self.end.borrow().is_some() {
            return Ok(());
        }
        self.farewell.set(Some(Instant::now() + self.options.close_timeout.min(CLOSE_TIMEOUT_MAX)));
        sink.control(Opcode::Close, payload)
    }

    /// Closes it, and waits for the client's answer unless another thread waits for what the client says.
    fn finish(&self, code: CloseCode) {
        if self.end.borrow().is_none() && self.close(code, "").is_ok() && !self.source.is_locked() {
            while self.recv().is_some() {}
        }
    }

    fn set_end(&self, end: End) {
        self.end.borrow_mut().get_or_insert(end);
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("protocol", &self.protocol)
            .field("end", &self.end.borrow())
            .finish_non_exhaustive()
    }
}
