//! The single acceptor: accepts in bursts and hands each connection, not yet started, to where there is least to do.
//!
//! It keeps nothing between two connections but the state of its back-off.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bast::net::TcpStream;
use bast::{Builder, Label};

use crate::connection;
use crate::shared::{Live, Shared};

/// Accepts until the listener is closed. Call it on a green thread.
pub(crate) fn accept_all(shared: &Arc<Shared>) {
    let mut trouble = Trouble::default();
    loop {
        let admitted = match shared.listener.accept() {
            Ok((stream, peer)) => admit(shared, stream, peer),
            Err(error) => match consequence(&error) {
                Consequence::End => return,
                Consequence::Next => continue,
                Consequence::Pause => Err(error),
            },
        };
        match admitted {
            Ok(()) => trouble.is_over(),
            Err(error) => bast::sleep(trouble.pause_after(&error)),
        }
    }
}

/// Makes a connection's thread.
///
/// # Errors
/// No thread could be made; the connection is closed.
pub(crate) fn admit(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let index = shared.load.least(bast::capability().index());
    let live = Live::new(shared, index);
    // Preferred, not bound to: what is queued behind a busy core may be started by an idle one.
    // Not switched at allocations, whatever the runtime's default: the server's own code borrows what the connections of
    // a core share, and may allocate meanwhile. A handler opts in for what it computes (`bast::alloc::preemptible`).
    let mut builder = Builder::new()
        .prefer(shared.runtime.capability(index))
        .label(Label::Peer("conn", peer))
        .preempt_at_allocation(false);
    if let Some(bytes) = shared.stack_bytes {
        builder = builder.stack_size(bytes);
    }
    builder.spawn(move || connection::run(stream, peer, live)).map(drop)
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
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// How long the current trouble has lasted, in doublings of the pause.
#[derive(Debug, Default)]
struct Trouble {
    pause: Option<Duration>,
}

impl Trouble {
    /// How long to wait now. The log hears of the beginning only.
    fn pause_after(&mut self, error: &io::Error) -> Duration {
        let pause = match self.pause {
            Some(pause) => (pause * 2).min(PAUSE_MAX),
            None => {
                log::error!("cannot accept connections for now: {error}");
                PAUSE_MIN
            }
        };
        self.pause = Some(pause);
        pause
    }

    fn is_over(&mut self) {
        if self.pause.take().is_some() {
            log::info!("connections are accepted again");
        }
    }
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
    fn pauses_double_up_to_a_bound_and_start_anew_after_a_success() {
        let mut trouble = Trouble::default();
        let error = io::Error::other("too many open files");
        let pauses: Vec<u128> = (0..9).map(|_| trouble.pause_after(&error).as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 320, 320]);
        trouble.is_over();
        assert_eq!(trouble.pause_after(&error), PAUSE_MIN);
    }
}
