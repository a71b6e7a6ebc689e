//! Connections that are turned away: one answer for all of them, and a close that lets the client read it.
//!
//! No thread and no buffer is spent on one, and its request is not read. A socket that is closed with unread bytes in it,
//! or that receives some afterwards, is reset, and the answer may be lost with it (RFC 9112 §9.6). So the sockets are kept
//! for a moment, a bounded number of them, by one thread that is there only while there are any; where it cannot be had, they
//! are kept until it can.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::mem;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bast::Builder;
use bast::net::TcpStream;

use crate::admission::Rarely;

/// What they are told. Constant, without a date, which a 503 need not have (RFC 9110 §6.6.1). A second is about what it takes until
/// connections have ended; a longer time would leave a server idle that has recovered.
pub(crate) const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 43\r\n\
    Retry-After: 1\r\n\
    Connection: close\r\n\
    \r\n\
    503 Service Unavailable: too many clients\r\n";

/// How often the sockets that are kept are looked at: each is kept for one to two times this.
const KEPT_FOR: Duration = Duration::from_millis(500);

/// How many sockets of one such time are kept, in descriptors beyond those of the connections. Others are closed at once.
const KEPT_MAX: usize = 128;

/// Most that is read and dropped of what such a client sent, in pieces of 4 KiB.
const DROPPED_PIECES_MAX: usize = 16;

/// Those who were turned away.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    count: AtomicU64,
    log: Rarely,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Since the last look, and since the one before.
    young: Vec<TcpStream>,
    old: Vec<TcpStream>,
    /// There is a thread that looks.
    watched: bool,
}

impl Refusals {
    /// Turns a client away, and keeps its socket until it has read why. On a green thread.
    pub(crate) fn refuse(self: &Arc<Refusals>, stream: TcpStream, reason: &str) {
        if !self.answer(&stream, reason) {
            return;
        }
        let mut kept = self.kept();
        if kept.young.len() >= KEPT_MAX {
            drop(kept);
            return drop_input(&stream);
        }
        // An allocation may let a neighbour run, which would wait for the lock and never come back here.
        bast::no_park(|| kept.young.push(stream));
        drop(kept);
        self.watch_kept();
    }

    /// Sees to it that what is kept is closed in time. Call it when threads can be had again.
    pub(crate) fn watch_kept(self: &Arc<Refusals>) {
        let mut kept = self.kept();
        let is_empty = kept.young.is_empty() && kept.old.is_empty();
        if !is_empty && !mem::replace(&mut kept.watched, true) {
            drop(kept);
            self.watch();
        }
    }

    /// The same without keeping the socket, whose descriptor is needed.
    pub(crate) fn refuse_at_once(&self, stream: &TcpStream, reason: &str) {
        if self.answer(stream, reason) {
            drop_input(stream);
        }
    }

    /// Says in the log, now and then, that clients are turned away.
    pub(crate) fn note(&self, reason: &str) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.log.is_due(bast::time::coarse_unix_seconds()) {
            log::warn!("turning clients away, {count} so far: {reason}");
        }
    }

    /// Sends the answer and ends the output. `false` where the client has gone already.
    fn answer(&self, stream: &TcpStream, reason: &str) -> bool {
        self.note(reason);
        // The buffer of a new socket has room for it: this does not wait.
        stream.unshared().write_all(ANSWER).is_ok() && stream.shutdown(Shutdown::Write).is_ok()
    }

    /// Starts the thread that closes what is kept.
    fn watch(self: &Arc<Refusals>) {
        let refusals = Arc::clone(self);
        let spawned = Builder::new().label("clients turned away").spawn(move || {
            while refusals.close_old() {
                bast::sleep(KEPT_FOR);
            }
        });
        if spawned.is_err() {
            // No thread can be had, which may be why the client is turned away. Closing its socket now could be a reset.
            self.kept().watched = false;
        }
    }

    /// Closes those that were there the last time. `false` where none is left.
    fn close_old(&self) -> bool {
        let mut kept = self.kept();
        let young = mem::take(&mut kept.young);
        let old = mem::replace(&mut kept.old, young);
        kept.watched = !old.is_empty() || !kept.old.is_empty();
        let watched = kept.watched;
        drop(kept);
        old.iter().for_each(drop_input);
        watched
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads and drops what a client has sent, so that closing its socket is not a reset.
fn drop_input(stream: &TcpStream) {
    let mut piece = [0; 4096];
    for _ in 0..DROPPED_PIECES_MAX {
        if !matches!(stream.try_read(&mut piece), Ok(Some(1..))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_well_formed() {
        let text = std::str::from_utf8(ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
        let mut fields = [httparse::EMPTY_HEADER; 8];
        let mut response = httparse::Response::new(&mut fields);
        assert!(response.parse(ANSWER).unwrap().is_complete());
    }
}
