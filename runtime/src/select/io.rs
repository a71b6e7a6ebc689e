#![forbid(unsafe_code)]
//! A socket's readiness, or the end of its peer, as an arm of a select. It watches: the direction's own user, if there is
//! one, is not disturbed.

use crate::io_manager::{Direction, Readiness};
use crate::net::Socket;
use crate::scheduler::current;
use crate::sync::Arm;
use crate::sys::socket;
use crate::thread::Token;
use std::os::fd::AsFd;
use std::time::Duration;

/// What an arm waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    Readable,
    Writable,
    /// The peer has ended its side, or the connection has failed.
    HungUp,
}

impl Awaited {
    /// Whose events tell of it.
    fn direction(self) -> Direction {
        match self {
            Awaited::Readable | Awaited::HungUp => Direction::Read,
            Awaited::Writable => Direction::Write,
        }
    }
}

pub(super) struct IoArm<'a> {
    socket: Socket<'a>,
    awaited: Awaited,
    /// As of the last poll.
    seen: Option<Readiness>,
    /// Events of the socket cannot be had.
    deaf: bool,
    watched: Option<Token>,
}

impl<'a> IoArm<'a> {
    pub(super) fn new(socket: Socket<'a>, awaited: Awaited) -> IoArm<'a> {
        IoArm { socket, awaited, seen: None, deaf: false, watched: None }
    }
}

impl Arm for IoArm<'_> {
    type Output = ();

    fn poll(&mut self) -> bool {
        let source = self.socket.source();
        let seen = source.object().readiness();
        self.seen = Some(seen);
        if self.deaf || seen.is_closed() || seen.is_expired() {
            return true;
        }
        if self.awaited == Awaited::HungUp {
            // Events alone tell, and never take it back. What came before the registration is told by it.
            return seen.is_hung_up();
        }
        let direction = self.awaited.direction();
        if !seen.is_ready(direction) {
            return false;
        }
        // Not known, or known from before somebody else read: the kernel decides.
        let writes = direction == Direction::Write;
        let ready = socket::poll(source.as_fd(), writes, Some(Duration::ZERO)).unwrap_or(true);
        if !ready {
            source.object().clear(direction, seen);
        }
        ready
    }

    fn prepare(&mut self) {
        let (capability, _) = current::thread().expect("select: sockets need a green thread");
        let remote = capability.remote();
        // Then the arm counts as ready: the operation itself will meet the error.
        self.deaf = remote.io().register(self.socket.source(), remote.slot()).is_err();
    }

    fn enter(&mut self, token: Token) -> bool {
        let object = self.socket.source().object();
        object.watch(self.awaited.direction(), token);
        self.watched = Some(token);
        // An event since the poll woke nobody.
        !self.deaf && self.seen.is_some_and(|seen| object.readiness().same_tick(seen))
    }

    /// Never served: readiness is seen by the next poll.
    fn leave(&mut self) -> bool {
        if let Some(token) = self.watched.take() {
            self.socket.source().object().unwatch(self.awaited.direction(), token);
        }
        false
    }

    fn output(self) {}
}

impl Drop for IoArm<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
