//! A TLS session (RFC 8446, RFC 5246) over a TCP stream, by rustls, which knows no sockets.
//!
//! ```text
//!            try or park                 never parks                  never parks
//!   socket ──────────────▶ received ──▶ ┌───────────┐ ──▶ plaintext ──▶ read
//!   socket ◀────────────── sending  ◀── │  session  │ ◀────────────────  write
//! ```
//! The stream is plain until its [`handshake`](TlsStream::handshake): what a proxy puts before it is read as on any socket.
//!
//! The session is in a cell that is borrowed for a computation only, never across a park and never where the thread could
//! be switched. So two threads of one capability may use the stream, one that reads and one that writes. What goes out goes out in the
//! order in which the session made it, so one thread at a time sends: who finds another one at it leaves its bytes in
//! the session, and they go with the others.
//!
//! Note [accepted]. Once encrypted, plaintext cannot be taken back, and must not be encrypted again. So a write has happened when its
//! bytes are in the session, and says so also where a limit, a timeout or a kill ends its sending: what is left goes out
//! with the next write, and what was raised is raised again at the thread's next blocking call. The session holds 64 KiB at
//! the most.
//!
//! Buffers are lent by the capability while bytes are on their way through them. A connection that waits holds none.
#![forbid(unsafe_code)]

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io::{self, IoSlice, Read as _, Write};
use std::mem;
use std::net::Shutdown;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bast::fs::File;
use bast::net::TcpStream;
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConfig, ServerConnection, SupportedCipherSuite};

use crate::printable::Printable;

type Session = RefCell<ServerConnection>;

/// The server's end of a connection that speaks TLS, or is going to.
pub(crate) struct TlsStream {
    tcp: TcpStream,
    /// None before the handshake.
    session: OnceCell<Session>,
    /// Received bytes that the session has no room for yet.
    received: Cell<Option<Piece>>,
    /// Bytes of the session that were not sent because that was interrupted.
    sending: Cell<Option<Piece>>,
    /// A thread is sending.
    is_sending: Cell<bool>,
    /// What has been sent of a write that has not returned.
    uncounted: Cell<usize>,
    /// The last read took all that the socket had: the next one waits before it borrows a buffer.
    is_drained: Cell<bool>,
    /// The peer is to see that something is missing.
    is_torn: Cell<bool>,
}

/// How a connection is secured, and who is at its other end: [`Request::secured`](crate::Request::secured).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Secured {
    /// TLS 1.3 or 1.2.
    pub version: Option<ProtocolVersion>,
    /// The ciphers agreed upon.
    pub cipher_suite: Option<SupportedCipherSuite>,
    /// The name of the server that the client asked for (SNI, RFC 6066 §3), in lower case. Not compared with `Host`.
    pub server_name: Option<String>,
    /// The client's own certificate and those that lead to one that the server knows; none unless the configuration
    /// asks for them. They were verified by its [`ClientCertVerifier`](rustls::server::danger::ClientCertVerifier).
    pub client_certificates: Vec<CertificateDer<'static>>,
}

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum NoSession {
    /// The client speaks HTTP without TLS.
    PlainHttp,
    /// It speaks TLS, but not so that there can be a session; it was told.
    Failed(io::Error),
    /// It has gone, or was too slow.
    Gone(io::Error),
}

impl fmt::Display for NoSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoSession::PlainHttp => f.write_str("HTTP without TLS"),
            NoSession::Failed(error) => write!(f, "no TLS session: {}", Printable(error)),
            NoSession::Gone(error) => write!(f, "no whole TLS handshake: {}", Printable(error)),
        }
    }
}

impl From<io::Error> for NoSession {
    fn from(error: io::Error) -> NoSession {
        match error.kind() {
            io::ErrorKind::InvalidData => NoSession::Failed(error),
            _ => NoSession::Gone(error),
        }
    }
}

impl TlsStream {
    /// A stream that is plain for now.
    pub(crate) fn new(tcp: TcpStream) -> TlsStream {
        TlsStream {
            tcp,
            session: OnceCell::new(),
            received: Cell::new(None),
            sending: Cell::new(None),
            is_sending: Cell::new(false),
            uncounted: Cell::new(0),
            is_drained: Cell::new(false),
            is_torn: Cell::new(false),
        }
    }

    /// The stream below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Begins the session: from now on what is read and written is what the client means.
    ///
    /// # Errors
    /// There is none. After [`NoSession::PlainHttp`] the stream is plain still.
    pub(crate) fn handshake(&self, config: Arc<ServerConfig>) -> Result<(), NoSession> {
        let piece = self.first_piece()?;
        // A method begins with a letter, by custom a capital one; a TLS record begins with its type, which is 22.
        match piece.unread().first() {
            None => return Err(NoSession::Gone(io::ErrorKind::UnexpectedEof.into())),
            Some(first) if first.is_ascii_uppercase() => return Err(NoSession::PlainHttp),
            Some(_) => {}
        }
        let session = apart(|| {
            let session = ServerConnection::new(config).map_err(invalid)?;
            io::Result::Ok(self.session.get_or_init(|| RefCell::new(session)))
        })?;
        apart(|| self.decrypt(session, piece))?;
        loop {
            self.send(session)?;
            if !with(session, |session| session.is_handshaking()) {
                return Ok(());
            }
            let piece = self.receive()?;
            if piece.is_empty() {
                return Err(NoSession::Gone(io::ErrorKind::UnexpectedEof.into()));
            }
            apart(|| self.decrypt(session, piece))?;
        }
    }

    /// The first bytes of the client; none are the end of the stream. Who has sent nothing costs no buffer.
    fn first_piece(&self) -> io::Result<Piece> {
        let mut piece = Piece::take();
        let count = match self.tcp.try_read(piece.room())? {
            Some(count) => count,
            None => {
                drop(piece);
                self.tcp.wait_readable()?;
                piece = Piece::take();
                self.tcp.unshared().read(piece.room())?
            }
        };
        self.is_drained.set(count < PIECE_BYTES);
        piece.received(count);
        Ok(piece)
    }

    /// Ends the output of a connection that has no session and waits for the client to close, so that it can read why. Drops up to so
    /// many bytes.
    pub(crate) fn drop_input(&self, bytes_max: u64) {
        if self.tcp.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut piece = [0; DROPPED_BYTES];
        let mut left = bytes_max;
        while let Ok(count @ 1..) = self.tcp.unshared().read(&mut piece)
            && let Some(rest) = left.checked_sub(count as u64)
        {
            left = rest;
        }
    }
}

/// Input is dropped in pieces of this size, on the stack: the wait for it may take seconds.
const DROPPED_BYTES: usize = 512;

/// What `Transport` asks for.
impl TlsStream {
    pub(super) fn secured(&self) -> Option<Secured> {
        let session = self.session.get()?;
        Some(with(session, |session| Secured {
            version: session.protocol_version(),
            cipher_suite: session.negotiated_cipher_suite(),
            server_name: session.server_name().map(str::to_owned),
            client_certificates: session.peer_certificates().unwrap_or_default().to_vec(),
        }))
    }

    pub(super) fn wait_readable(&self) -> io::Result<()> {
        if self.session.get().is_some_and(|session| self.has_input(session)) {
            return Ok(());
        }
        self.is_drained.set(false);
        self.tcp.wait_readable()
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(session) = self.session.get() else { return self.tcp.try_read(buffer) };
        loop {
            if let Some(count) = self.take(session, buffer)? {
                return Ok(Some(count));
            }
            let mut piece = Piece::take();
            let Some(count) = self.tcp.try_read(piece.room())? else { return Ok(None) };
            piece.received(count);
            self.decrypt(session, piece)?;
        }
    }

    /// Before the handshake only: a session gives nothing back.
    pub(super) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(self.session.get().is_none(), "tls: a look into a session");
        self.tcp.peek(buffer)
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = self.session.get() else { return self.tcp.unshared().read(buffer) };
        loop {
            if let Some(count) = self.take(session, buffer)? {
                return Ok(count);
            }
            let piece = self.receive()?;
            self.decrypt(session, piece)?;
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = self.session.get() else { return self.tcp.unshared().write(bytes) };
        let count = self.encrypt(session, |session| session.writer().write(bytes))?;
        self.send_accepted(session)?;
        Ok(count)
    }

    pub(super) fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(session) = self.session.get() else { return self.tcp.unshared().write_vectored(parts) };
        let count = self.encrypt(session, |session| session.writer().write_vectored(parts))?;
        self.send_accepted(session)?;
        Ok(count)
    }

    pub(super) fn send_more(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = self.session.get() else { return self.tcp.unshared().send_more(bytes) };
        self.encrypt(session, |session| session.writer().write(bytes))
    }

    /// The kernel cannot encrypt the file here, so it is read, a piece at a time.
    pub(super) fn send_file(&self, file: &File, offset: &mut u64, len: usize) -> io::Result<usize> {
        let Some(session) = self.session.get() else {
            return self.tcp.unshared().send_file(std::os::fd::AsFd::as_fd(file), offset, len);
        };
        let mut piece = Piece::take();
        let want = len.min(FILE_BYTES);
        let count = file.read_at(&mut piece.room()[..want], *offset)?;
        if count == 0 {
            return Ok(0);
        }
        piece.received(count);
        let count = self.encrypt(session, |session| session.writer().write(piece.unread()))?;
        drop(piece);
        *offset += count as u64;
        self.send_accepted(session)?;
        Ok(count)
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how == Shutdown::Write {
            self.farewell()?;
        }
        self.tcp.shutdown(how)
    }

    /// Sends what is left and `close_notify` (RFC 8446 §6.1), unless the peer is to see that something is missing.
    pub(super) fn farewell(&self) -> io::Result<()> {
        let Some(session) = self.session.get() else { return Ok(()) };
        if self.is_torn.get() {
            return Ok(());
        }
        with(session, |session| session.send_close_notify());
        self.send(session)
    }

    pub(super) fn reset_on_close(&self) {
        self.is_torn.set(true);
        // Where it fails the connection has ended already.
        let _ = self.tcp.set_linger(Some(Duration::ZERO));
    }

    pub(super) fn unread_bytes(&self) -> usize {
        let below = self.tcp.unread_bytes().unwrap_or(0);
        let here = self.session.get().is_some_and(|session| self.has_input(session));
        below + usize::from(here)
    }

    pub(super) fn unacknowledged_bytes(&self) -> usize {
        self.tcp.unacknowledged_bytes().unwrap_or(0)
    }

    pub(super) fn uncounted_bytes(&self) -> usize {
        self.uncounted.get()
    }
}

/// Files are read in pieces of this size: as much as the session takes at once.
const FILE_BYTES: usize = 64 << 10;

/// The way in.
impl TlsStream {
    /// Would a read return without looking at the socket?
    fn has_input(&self, session: &Session) -> bool {
        let received = self.received.take();
        let is_there = received.is_some();
        self.received.set(received);
        is_there
            || with(session, |session| match session.reader().into_first_chunk() {
                Ok(_) => true,
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            })
    }

    /// Takes plaintext that is there; `Some(0)` is the end that the client announced.
    ///
    /// # Errors
    /// `UnexpectedEof` at one that it did not announce: something may be missing.
    fn take(&self, session: &Session, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match with(session, |session| session.reader().read(buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result.map(Some),
            }
            let Some(piece) = self.received.take() else { return Ok(None) };
            self.decrypt(session, piece)?;
        }
    }

    /// Waits for bytes for the session; none are the end of the stream.
    fn receive(&self) -> io::Result<Piece> {
        if self.is_drained.take() {
            self.tcp.wait_readable()?;
        }
        let mut piece = Piece::take();
        let count = self.tcp.unshared().read(piece.room())?;
        self.is_drained.set(count < PIECE_BYTES);
        piece.received(count);
        Ok(piece)
    }

    /// Gives received bytes to the session, until there is plaintext; it holds a record or two. Keeps the rest.
    ///
    /// # Errors
    /// `InvalidData` where it is not the peer who sent them, or not by the protocol; the peer was told.
    fn decrypt(&self, session: &Session, mut piece: Piece) -> io::Result<()> {
        let decrypted = with(session, |session| {
            if piece.is_empty() {
                session.read_tls(&mut io::empty())?;
            }
            while !piece.is_empty() {
                let taken = session.read_tls(&mut piece.unread())?;
                piece.consume(taken);
                let state = session.process_new_packets().map_err(invalid)?;
                if taken == 0 {
                    // Behind close_notify nothing counts (RFC 8446 §6.1).
                    piece.clear();
                }
                if state.plaintext_bytes_to_read() > 0 {
                    break;
                }
            }
            Ok(())
        });
        if decrypted.is_err() {
            // The alert is for whoever still listens.
            let _ = self.send(session);
        } else if !piece.is_empty() {
            self.received.set(Some(piece));
        }
        decrypted
    }
}

/// The way out.
impl TlsStream {
    /// Encrypts some plaintext, when there is room for it. See Note [accepted].
    fn encrypt(
        &self,
        session: &Session,
        write: impl Fn(&mut ServerConnection) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match with(session, &write)? {
            0 => {
                self.send(session)?;
                with(session, &write)
            }
            count => Ok(count),
        }
    }

    /// Sends what a write has put into the session; see Note [accepted].
    ///
    /// # Errors
    /// The connection is broken.
    fn send_accepted(&self, session: &Session) -> io::Result<()> {
        match bast::catch_unwind(AssertUnwindSafe(|| self.send(session))) {
            Ok(Err(error)) if is_interruption(&error) => Ok(()),
            Ok(sent) => sent,
            Err(payload) if bast::is_interrupt(&*payload) => Ok(()),
            Err(payload) => {
                // Its catcher believes that nothing was written: whatever it writes now, the client would not understand it.
                self.is_torn.set(true);
                let _ = self.tcp.shutdown(Shutdown::Both);
                bast::resume_unwind(payload)
            }
        }
    }

    /// Sends all that the session has for the peer, unless another thread is doing that.
    fn send(&self, session: &Session) -> io::Result<()> {
        if self.is_sending.replace(true) {
            return Ok(());
        }
        let mut turn = Turn { stream: self, piece: self.sending.take().unwrap_or_else(Piece::take) };
        loop {
            let piece = &mut turn.piece;
            if piece.is_empty() {
                with(session, |session| {
                    while session.wants_write() && !piece.is_full() {
                        session.write_tls(piece)?;
                    }
                    io::Result::Ok(())
                })?;
            }
            if piece.is_empty() {
                return Ok(());
            }
            let sent = self.tcp.unshared().write(piece.unread())?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            piece.consume(sent);
            self.uncounted.set(self.uncounted.get() + sent);
        }
    }
}

/// A thread's turn to send. However it ends, nothing is lost.
struct Turn<'a> {
    stream: &'a TlsStream,
    piece: Piece,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.stream.is_sending.set(false);
        self.stream.uncounted.set(0);
        if !self.piece.is_empty() {
            self.stream.sending.set(Some(mem::take(&mut self.piece)));
        }
    }
}

/// Computes with the session. A switch to another thread of the connection would find it borrowed: there is none.
fn with<R>(session: &Session, body: impl FnOnce(&mut ServerConnection) -> R) -> R {
    bast::no_park(|| body(&mut session.borrow_mut()))
}

/// More than the stack of a connection's thread by default.
const APART_BYTES: usize = 256 << 10;

/// Computes on a stack that the threads of the capability share. A handshake touches less than 16 KiB (56 without
/// optimization): in the connection's own stack they would stay with it for as long as it lives.
fn apart<R>(body: impl FnOnce() -> R) -> R {
    bast::ensure_stack(APART_BYTES, body)
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A wait was ended, with nothing wrong about the connection.
fn is_interruption(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// A buffer for ciphertext, or for a piece of a file. It takes what the session makes of the most that it accepts at once:
/// four records of 16 KiB with what is around them (at most 256 bytes each, RFC 8446 §5.2, with their headers).
const PIECE_BYTES: usize = FILE_BYTES + 2 * 1024;

/// How many a capability keeps: they are in use for a computation or a system call, except by those who wait for a client
/// to take what they send.
const POOLED_MAX: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes on their way, in a buffer of the capability's. The default has none.
#[derive(Default)]
struct Piece {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Piece {
    fn take() -> Piece {
        let bytes = POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; PIECE_BYTES].into());
        Piece { bytes, start: 0, end: 0 }
    }

    /// Where to put what comes.
    fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// So many bytes were put into the room.
    fn received(&mut self, count: usize) {
        self.end += count;
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.end, "tls: consumed more than there was");
        if self.is_empty() {
            self.clear();
        }
    }

    fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn is_full(&self) -> bool {
        self.end == self.bytes.len()
    }
}

impl Write for Piece {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.room().write(bytes)?;
        self.received(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let bytes = mem::take(&mut self.bytes);
        // The pool may be gone already while the OS thread ends; then the buffer is simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOLED_MAX {
                // An allocation may let a neighbour run, which would find the pool borrowed.
                bast::no_park(|| pool.push(bytes));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bast::net::TcpListener;
    use bast::{Builder, Runtime, State};

    #[test]
    fn a_client_that_has_sent_nothing_costs_no_buffer() {
        let runtime = Runtime::builder().capabilities(1).build().expect("a runtime");
        runtime.run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
            let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
            let (stream, _) = listener.accept().expect("a client");
            drop(Piece::take());
            let pooled = || POOL.with_borrow(Vec::len);
            let before = pooled();
            let first = Builder::new().spawn_local(move || {
                TlsStream::new(stream).first_piece().map(|piece| piece.unread().to_vec())
            });
            let first = first.expect("a thread");
            let id = first.thread().id();
            while !bast::threads().iter().any(|info| info.id == id && info.state == State::Blocked) {
                bast::yield_now();
            }
            assert_eq!(pooled(), before, "a buffer is lent");
            client.write_all(b"\x16\x03").expect("send");
            let received = first.join().expect("no panic").expect("no error");
            assert_eq!(received, b"\x16\x03");
        });
    }
}
