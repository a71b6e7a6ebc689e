//! Idle connections of a client, to be used again.
//!
//! One pool per client, behind one lock that is held for a scan of a short list and never over a park. A connection
//! remembers the capability that it was last used on, and goes to a caller there first: its descriptor is registered
//! with that capability's epoll already. Another capability may take it all the same, which costs one epoll_ctl(2); a new
//! connection would cost a round trip. Why not one pool per capability: decision 0019.
//!
//! Only connections on which nothing is under way come here. Whoever uses one owns it, so whatever ends that use (an
//! error, a kill, a limit of time) closes it, and nobody has to be told.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bast::CapabilityId;
use bast::net::TcpStream;

/// The idle connections of a client, the one that is idle the longest first.
#[derive(Debug)]
pub(super) struct Pool {
    /// A lock of std's: callers on plain OS threads take it as well, and it is held for no longer than a look.
    idle: Mutex<VecDeque<Idle>>,
    connections_max: usize,
    per_host_max: usize,
    keep: Duration,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    /// Host and port.
    authority: Box<str>,
    since: Instant,
    /// Where it was last used, if on a green thread.
    home: Option<CapabilityId>,
}

impl Pool {
    pub(super) fn new(connections_max: usize, per_host_max: usize, keep: Duration) -> Pool {
        Pool { idle: Mutex::default(), connections_max, per_host_max, keep }
    }

    /// A connection to this host and port that is still open and silent, the one used last first.
    pub(super) fn take(&self, authority: &str) -> Option<TcpStream> {
        let here = here();
        loop {
            let found = self.with(|idle| {
                let known = |entry: &Idle| *entry.authority == *authority;
                let at_home = idle.iter().rposition(|entry| known(entry) && entry.home == here);
                at_home.or_else(|| idle.iter().rposition(known)).and_then(|index| idle.remove(index))
            })?;
            if is_silent(&found.stream) {
                return Some(found.stream);
            }
        }
    }

    /// Keeps a connection on which nothing is under way. Beyond a limit the one that is idle the longest is closed.
    pub(super) fn put(&self, authority: Box<str>, stream: TcpStream) {
        if self.connections_max == 0 || self.per_host_max == 0 {
            return;
        }
        let new = Idle { stream, authority, since: Instant::now(), home: here() };
        let surplus = self.with(|idle| {
            let same = || idle.iter().enumerate().filter(|(_, entry)| entry.authority == new.authority);
            let surplus = if same().count() >= self.per_host_max {
                same().next().map(|(index, _)| index)
            } else {
                (idle.len() >= self.connections_max).then_some(0)
            };
            let surplus = surplus.and_then(|index| idle.remove(index));
            idle.push_back(new);
            surplus
        });
        // It is closed here, without the lock.
        drop(surplus);
    }

    /// Closes what is idle.
    pub(super) fn clear(&self) {
        drop(self.with(std::mem::take));
    }

    /// How many are idle.
    pub(super) fn len(&self) -> usize {
        self.with(|idle| idle.len())
    }

    /// Looks at the list, after what was idle too long has left it.
    fn with<R>(&self, look: impl FnOnce(&mut VecDeque<Idle>) -> R) -> R {
        let (result, expired) = bast::no_park(|| {
            // Whoever panicked with the lock has left a list of whole entries.
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let is_fresh = |entry: &Idle| entry.since.elapsed() < self.keep;
            let stale = idle.iter().position(is_fresh).unwrap_or(idle.len());
            let expired: Vec<Idle> = idle.drain(..stale).collect();
            (look(&mut idle), expired)
        });
        drop(expired);
        result
    }
}

fn here() -> Option<CapabilityId> {
    bast::is_green().then(bast::capability)
}

/// Is nothing to be read, neither the end nor bytes? What came without being asked for would be taken for the
/// response to the next request (RFC 9112 §9.3, §9.5).
fn is_silent(stream: &TcpStream) -> bool {
    let result = stream.try_read(&mut [0]);
    if let Ok(Some(1..)) = result {
        log::debug!("client: bytes on an idle connection that nobody asked for; it is closed");
    }
    matches!(result, Ok(None))
}
