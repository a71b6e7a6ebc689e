//! The floor: the smallest epoll loop that answers HTTP requests, as the physical limit of the kernel.
//!
//! One OS thread, edge-triggered, two system calls per request. It looks at nothing of a request but its
//! end, has one answer for all of them, and knows no time limits: a real server can approach it, not beat it.
//! It must never learn to do anything that it is not measured for.
//!
//! ```text
//! readable ──recv until short──▶ heads counted ──▶ owed += count ──one send──▶ owed = 0 (or wait: writable)
//!                                             └─▶ asleep (delayed answers) ──▲
//! ```
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use crate::answer::{Answer, count_heads};
use crate::sys::{self, Epoll, Event, More};

const INPUT_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 512;
const LISTENER: u64 = u64::MAX;

/// Serves `answer` on `addr` for ever.
///
/// # Errors
/// The listening socket's and epoll's; a connection's own only end that connection.
pub fn serve(addr: SocketAddr, answer: Answer) -> io::Result<()> {
    serve_on(sys::listen(addr)?, answer)
}

/// How an answer that is a head and a file goes out (FEATURES W57).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// The head with MSG_MORE: both in one segment.
    Joined,
    /// The head at once, and then the file: two segments.
    Apart,
    /// The same with Nagle's algorithm: the file waits until the head is acknowledged, which the client's system puts off.
    Nagle,
}

/// Serves `answer` like [`serve`], every file from the page cache.
///
/// # Errors
/// Those of [`serve`].
pub fn serve_file(addr: SocketAddr, answer: Answer, sending: Sending) -> io::Result<()> {
    let listener = sys::listen(addr)?;
    sys::set_nodelay(listener.as_fd(), sending != Sending::Nagle)?;
    let head_says_more = if sending == Sending::Joined { More::Follows } else { More::No };
    serve_on(listener, Answer { page_cache_bytes_min: 0, head_says_more, ..answer })
}

fn serve_on(listener: TcpListener, answer: Answer) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut floor = Floor {
        epoll: Epoll::new()?,
        answer,
        connections: Vec::new(),
        accepted: 0,
        asleep: VecDeque::new(),
        input: vec![0; INPUT_BYTES],
        output: Vec::new(),
    };
    floor.epoll.add(listener.as_fd(), LISTENER)?;
    let mut events = [Event::EMPTY; EVENTS_MAX];
    loop {
        let next =
            floor.asleep.front().map(|sleeper| sleeper.until.saturating_duration_since(Instant::now()));
        let found = floor.epoll.wait(&mut events, next)?;
        for event in &events[..found] {
            if event.token() == LISTENER {
                floor.accept(&listener)?;
            } else {
                floor.serve(event.token() as usize, event.is_hangup());
            }
        }
        floor.wake();
    }
}

struct Floor {
    epoll: Epoll,
    answer: Answer,
    /// By descriptor number.
    connections: Vec<Option<Connection>>,
    accepted: u64,
    /// Delayed answers, all by the same time, hence in the order of their deadlines.
    asleep: VecDeque<Sleeper>,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// What this loop remembers of a connection, in bytes.
pub const CONNECTION_BYTES: usize = size_of::<Option<Connection>>();

struct Connection {
    fd: OwnedFd,
    /// Tells this connection from later ones of the same descriptor number.
    serial: u64,
    /// The last bytes received, which may be the start of a head's end.
    left: [u8; 3],
    /// Answers not sent in whole, and how much of the first of them has been.
    owed: usize,
    sent_bytes: usize,
}

struct Sleeper {
    until: Instant,
    slot: usize,
    serial: u64,
    owed: usize,
}

/// Whether a connection goes on.
#[derive(PartialEq)]
enum Next {
    Wait,
    Close,
}

impl Floor {
    /// Accepts all that wait. A new connection is served before it is registered: its request has often
    /// arrived with it, and where only one is answered it never needs to be.
    fn accept(&mut self, listener: &impl AsFd) -> io::Result<()> {
        loop {
            let fd = match sys::accept(listener.as_fd()) {
                Ok(fd) => fd,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let slot = fd.as_raw_fd() as usize;
            if self.connections.len() <= slot {
                self.connections.resize_with(slot + 1, || None);
            }
            self.accepted += 1;
            self.connections[slot] =
                Some(Connection { fd, serial: self.accepted, left: [0; 3], owed: 0, sent_bytes: 0 });
            self.serve(slot, false);
            if let Some(connection) = &self.connections[slot] {
                self.epoll.add(connection.fd.as_fd(), slot as u64)?;
            }
        }
    }

    /// Reads what there is and answers it.
    fn serve(&mut self, slot: usize, hangup: bool) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { return };
        let mut next = Next::Wait;
        let mut heads = 0;
        loop {
            self.input[..3].copy_from_slice(&connection.left);
            match sys::recv(connection.fd.as_fd(), &mut self.input[3..]) {
                Ok(0) => {
                    next = Next::Close;
                    break;
                }
                Ok(len) => {
                    let count;
                    (count, connection.left) = count_heads(&self.input[..3 + len]);
                    heads += count;
                    // A short read has emptied the socket, and what comes later is a new edge.
                    if 3 + len < INPUT_BYTES && !hangup {
                        break;
                    }
                }
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        next = Next::Close;
                    }
                    break;
                }
            }
        }
        if heads > 0 && !self.answer.delay.is_zero() {
            let until = Instant::now() + self.answer.delay;
            self.asleep.push_back(Sleeper { until, slot, serial: connection.serial, owed: heads });
            heads = 0;
        }
        connection.owed += heads;
        if connection.owed > 0 && connection.flush(&self.answer, &mut self.output) == Next::Close {
            next = Next::Close;
        }
        if next == Next::Close {
            self.connections[slot] = None;
        }
    }

    /// Answers those whose delay is over.
    fn wake(&mut self) {
        if self.asleep.is_empty() {
            return;
        }
        let now = Instant::now();
        while self.asleep.front().is_some_and(|sleeper| sleeper.until <= now) {
            let Some(sleeper) = self.asleep.pop_front() else { return };
            let Some(connection) = &mut self.connections[sleeper.slot] else { continue };
            if connection.serial != sleeper.serial {
                continue;
            }
            connection.owed += sleeper.owed;
            if connection.flush(&self.answer, &mut self.output) == Next::Close {
                self.connections[sleeper.slot] = None;
            }
        }
    }
}

impl Connection {
    /// Sends what is owed, as far as the socket takes it; an edge tells when it takes more.
    fn flush(&mut self, answer: &Answer, output: &mut Vec<u8>) -> Next {
        let sent = if answer.is_sent_from_page_cache() {
            self.send_from_page_cache(answer)
        } else {
            self.send_composed(answer, output)
        };
        match sent {
            Ok(()) if answer.close => Next::Close,
            Ok(()) => Next::Wait,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Wait,
            Err(_) => Next::Close,
        }
    }

    fn send_composed(&mut self, answer: &Answer, output: &mut Vec<u8>) -> io::Result<()> {
        answer.compose(self.owed, output)?;
        while self.owed > 0 {
            let unsent = &output[self.sent_bytes..self.owed * answer.bytes_each()];
            let sent = sys::send(self.fd.as_fd(), unsent, More::No)?;
            self.advance(sent, answer);
        }
        Ok(())
    }

    fn send_from_page_cache(&mut self, answer: &Answer) -> io::Result<()> {
        let Some((file, _)) = &answer.file else { return Ok(()) };
        let each = answer.bytes_each();
        while self.owed > 0 {
            let sent = match self.sent_bytes.checked_sub(answer.head.len()) {
                None => sys::send(self.fd.as_fd(), &answer.head[self.sent_bytes..], answer.head_says_more)?,
                Some(offset) => {
                    match sys::send_file(self.fd.as_fd(), file.as_fd(), offset, each - self.sent_bytes)? {
                        // The file has become shorter than the head says.
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        sent => sent,
                    }
                }
            };
            self.advance(sent, answer);
        }
        Ok(())
    }

    fn advance(&mut self, sent: usize, answer: &Answer) {
        self.sent_bytes += sent;
        self.owed -= self.sent_bytes / answer.bytes_each();
        self.sent_bytes %= answer.bytes_each();
    }
}
