//! The single acceptor: accepts in bursts and hands each connection, not yet started, to where there is least to do.
//!
//! It keeps nothing between two connections but the state of a shortage.
//!
//! Note [shortage]. Where no descriptor (or no memory) is left, accept(2) fails, the connection stays in the queue, and
//! trying again at once would fail at once. So the acceptor pauses: until a connection ends, for 5 ms at first, and for up
//! to 160 ms when that did not help. Who waited in the queue for a whole pause in vain is told so, if that is what the
//! settings want: the acceptor has a descriptor in reserve, which it gives up for each of them in turn. So there is a
//! pause between two rounds of failures, however many clients there are, and nobody waits much longer than one.
#![forbid(unsafe_code)]

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use bast::net::TcpStream;
use bast::{Builder, Label, Role};

use crate::admission::Rarely;
use crate::connection;
use crate::limits::Overload;
use crate::metrics::Reason;
use crate::shared::{Live, Shared};

/// Accepts until the listener is closed. Call it on a green thread.
pub(crate) fn accept_all(shared: &Arc<Shared>) {
    let mut shortage = Shortage::new();
    let mut without_threads = false;
    loop {
        if shared.admission.overload == Overload::Wait {
            let admission = &shared.admission;
            admission
                .departures
                .wait_until(|| shared.is_stopping() || admission.has_room(shared.load.total()));
        }
        match shared.listener.accept() {
            Ok((stream, peer)) => {
                shortage.is_over(shared);
                match admit(shared, stream, peer) {
                    // Who was told while no thread could be had is looked after by one now.
                    Ok(()) if mem::take(&mut without_threads) => shared.refusals.watch_kept(),
                    Ok(()) => {}
                    // The client has been told: there is nothing to pause for.
                    Err(_) => without_threads = true,
                }
            }
            Err(error) => match consequence(&error) {
                Consequence::End => return,
                Consequence::Next => {}
                Consequence::Pause => shortage.endure(shared, &error),
            },
        }
    }
}

/// What the threads of connections are.
static CONNECTION: Role = Role { name: "conn", stack_set_by: "bast_server::Settings::stack_bytes" };

/// Makes a connection's thread, or turns the client away where there is no room for it.
///
/// # Errors
/// No thread could be made; the client is told so.
pub(crate) fn admit(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    shared.accepted();
    let index = shared.load.least(bast::capability().index());
    let live = match Live::new(shared, index, stream, peer.ip()) {
        Ok(live) => live,
        Err((no_room, stream)) => {
            shared.refused(Reason::from(no_room));
            shared.refusals.refuse(stream, no_room.text());
            return Ok(());
        }
    };
    // Preferred, not bound to: what is queued behind a busy core may be started by an idle one.
    // Not switched at allocations, whatever the runtime's default: the server's own code borrows what the connections of
    // a core share, and may allocate meanwhile. A handler opts in for what it computes (`bast::alloc::preemptible`).
    let mut builder = Builder::new()
        .prefer(shared.runtime.capability(index))
        .label(Label::Role(&CONNECTION, peer))
        .preempt_at_allocation(false);
    if let Some(bytes) = shared.service.stack_bytes {
        builder = builder.stack_size(bytes);
    }
    builder.spawn(move || connection::run(peer, live)).map(drop)
}

/// What a failed accept means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consequence {
    /// The listener was closed.
    End,
    /// It concerned one connection, which has left the queue.
    Next,
    /// The connection is still there, and trying at once would fail at once: descriptors or memory are short.
    Pause,
}

/// Whether a failed accept concerned one connection only, so that the next may be tried at once.
pub(crate) fn concerns_one_connection(error: &io::Error) -> bool {
    consequence(error) == Consequence::Next
}

fn consequence(error: &io::Error) -> Consequence {
    match error.kind() {
        io::ErrorKind::NotConnected => Consequence::End,
        // accept(2): errors of the new socket's network are to be treated like EAGAIN.
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => Consequence::Next,
        _ => Consequence::Pause,
    }
}

/// The first pause after an accept that could not be done.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// The longest pause: how late a connection may be accepted once the trouble is over.
const PAUSE_MAX: Duration = Duration::from_millis(160);

/// How many clients are turned away after one pause, at the most: some milliseconds of work.
const REFUSED_MAX: usize = 256;

/// What the acceptor does while it cannot accept; see Note [shortage].
#[derive(Debug)]
struct Shortage {
    /// The pause after the next failure; none outside of a shortage.
    pause: Option<Duration>,
    /// The last pause was over before any connection had ended.
    in_vain: bool,
    /// The log was told of the beginning, and is to be told of the end.
    said: bool,
    log: Rarely,
    reserve: Option<UnixDatagram>,
}

impl Shortage {
    fn new() -> Shortage {
        Shortage { pause: None, in_vain: false, said: false, log: Rarely::default(), reserve: reserve() }
    }

    /// Pauses after an accept that failed.
    fn endure(&mut self, shared: &Shared, error: &io::Error) {
        let departures = &shared.admission.departures;
        if self.pause.is_none() && self.log.is_due(bast::time::coarse_unix_seconds()) {
            log::error!("cannot accept connections for now: {error}");
            self.said = true;
        }
        let in_vain = mem::take(&mut self.in_vain);
        if in_vain && shared.admission.overload == Overload::Refuse && self.refuse_queue(shared, error) {
            return;
        }
        departures.set_awaited(true);
        let pause = self.next_pause();
        self.in_vain = !shared.is_stopping() && !departures.wait(pause);
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause.unwrap_or(PAUSE_MIN);
        self.pause = Some((pause * 2).min(PAUSE_MAX));
        pause
    }

    /// Turns away who waits in the queue, one at a time, with the descriptor in reserve. `false` if some still wait.
    fn refuse_queue(&mut self, shared: &Shared, error: &io::Error) -> bool {
        let reason = error.to_string();
        self.reserve = None;
        let mut is_empty = false;
        for _ in 0..REFUSED_MAX {
            match shared.listener.try_accept() {
                Ok(Some((stream, _))) => {
                    shared.accepted();
                    shared.refused(Reason::Descriptors);
                    shared.refusals.refuse_at_once(&stream, &reason);
                }
                Err(error) if concerns_one_connection(&error) => {}
                Ok(None) => {
                    is_empty = true;
                    break;
                }
                // Somebody else has taken the descriptor.
                Err(_) => break,
            }
        }
        self.reserve = reserve();
        is_empty
    }

    /// An accept succeeded.
    fn is_over(&mut self, shared: &Shared) {
        if self.pause.take().is_none() {
            return;
        }
        self.in_vain = false;
        shared.admission.departures.set_awaited(false);
        if self.reserve.is_none() {
            self.reserve = reserve();
        }
        if mem::take(&mut self.said) {
            log::info!("connections are accepted again");
        }
    }
}

/// A descriptor to give up when none is left. A socket of its own: a duplicate of another descriptor would not help
/// where the system has no more open files (ENFILE), and a device need not be there (chroot).
fn reserve() -> Option<UnixDatagram> {
    UnixDatagram::unbound().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_pauses_and_a_lost_connection_does_not() {
        const EMFILE: i32 = 24;
        const ENFILE: i32 = 23;
        const ENOMEM: i32 = 12;
        const ENOBUFS: i32 = 105;
        const ECONNABORTED: i32 = 103;
        for code in [EMFILE, ENFILE, ENOMEM, ENOBUFS] {
            assert_eq!(consequence(&io::Error::from_raw_os_error(code)), Consequence::Pause, "{code}");
        }
        assert_eq!(consequence(&io::Error::from_raw_os_error(ECONNABORTED)), Consequence::Next);
        assert_eq!(consequence(&io::ErrorKind::NotConnected.into()), Consequence::End);
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut shortage = Shortage::new();
        let pauses: Vec<u128> = (0..9).map(|_| shortage.next_pause().as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 160, 160, 160]);
    }
}
