//! Who is let in: how many connections there may be, in all and for each client, and the news that one has ended.
//!
//! ```text
//! acceptor:  is there room? ──yes──▶ enter ─▶ a connection's thread … its end: leave, tell
//!                  │                                                            │
//!                  └─no─▶ turn away, or wait ◀────────── one has ended ─────────┘
//! ```
//! All of it happens once for a connection, not for a request. Only the acceptor lets in, so what it has found of the number
//! of all stays true until it acts on it. Whose connection it is may be known later, where a proxy is to say it first. The counts by client are in a map of std's, whose keyed hash no client can aim at, under a lock
//! that nobody holds while parked. It has as many entries as there are clients with connections, hence no more than
//! `connections_max`, and gives memory back when they have gone. It allocates under that lock: a thread that may be switched at
//! allocations must not be then, as the next one of its core to come would wait for it for ever.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bast::sync::{Receiver, Sender, channel};

use crate::limits::{Limits, Overload};
use crate::metrics::Reason;

/// The limits on connections, and who is in.
#[derive(Debug)]
pub(crate) struct Admission {
    connections_max: usize,
    pub(crate) overload: Overload,
    /// None where the limit on a client is no less than that on all.
    clients: Option<Clients>,
    pub(crate) departures: Departures,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// There are as many as there may be.
    InAll,
    /// The client has as many as it may.
    ForClient,
}

impl NoRoom {
    /// For the log.
    pub(crate) fn text(self) -> &'static str {
        match self {
            NoRoom::InAll => "as many connections as Limits::connections_max",
            NoRoom::ForClient => "as many of one client as Limits::connections_per_address_max",
        }
    }
}

impl From<NoRoom> for Reason {
    fn from(no_room: NoRoom) -> Reason {
        match no_room {
            NoRoom::InAll => Reason::Limit,
            NoRoom::ForClient => Reason::ClientLimit,
        }
    }
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Admission {
        let max = limits.connections_per_address_max;
        Admission {
            connections_max: limits.connections_max,
            overload: limits.overload,
            clients: (max < limits.connections_max).then(|| Clients { max, counts: Mutex::default() }),
            departures: Departures::new(),
        }
    }

    /// Is there room for one more than these?
    pub(crate) fn has_room(&self, connections: usize) -> bool {
        connections < self.connections_max
    }

    /// Lets a connection of this client in, where there are so many already. It must [`leave`](Admission::leave).
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn enter(&self, client: Client, connections: usize) -> Result<(), NoRoom> {
        if !self.has_room(connections) {
            return Err(NoRoom::InAll);
        }
        self.count(client)
    }

    /// The second half of that, for a connection that was let in before it was known whose it is.
    ///
    /// # Errors
    /// [`NoRoom::ForClient`].
    pub(crate) fn count(&self, client: Client) -> Result<(), NoRoom> {
        match &self.clients {
            Some(clients) => clients.enter(client),
            None => Ok(()),
        }
    }

    /// A connection of this client has ended.
    pub(crate) fn leave(&self, client: Client) {
        if let Some(clients) = &self.clients {
            clients.leave(client);
        }
    }
}

/// Whom connections are counted for: an IPv4 address, or the first 64 bits of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Client {
        match address.to_canonical() {
            IpAddr::V4(address) => Client::V4(address.to_bits()),
            IpAddr::V6(address) => Client::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// How many connections each client has.
#[derive(Debug)]
struct Clients {
    max: usize,
    counts: Mutex<HashMap<Client, usize>>,
}

/// Up to this size the map's memory is kept.
const KEPT_CLIENTS_MAX: usize = 1024;

impl Clients {
    fn enter(&self, client: Client) -> Result<(), NoRoom> {
        bast::no_park(|| self.enter_at_once(client))
    }

    fn enter_at_once(&self, client: Client) -> Result<(), NoRoom> {
        let mut counts = self.counts();
        let count = counts.entry(client).or_default();
        if *count >= self.max {
            // With a limit of 0 the entry is new.
            if *count == 0 {
                counts.remove(&client);
            }
            return Err(NoRoom::ForClient);
        }
        *count += 1;
        Ok(())
    }

    fn leave(&self, client: Client) {
        bast::no_park(|| self.leave_at_once(client));
    }

    fn leave_at_once(&self, client: Client) {
        let mut counts = self.counts();
        let Entry::Occupied(mut entry) = counts.entry(client) else {
            panic!("admission: a client leaves that was not let in");
        };
        *entry.get_mut() -= 1;
        if *entry.get() > 0 {
            return;
        }
        entry.remove();
        if counts.capacity() > KEPT_CLIENTS_MAX && counts.len() < counts.capacity() / 8 {
            let kept = (counts.len() * 2).max(KEPT_CLIENTS_MAX / 2);
            counts.shrink_to(kept);
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the acceptor, if it wants to know, that a connection has ended.
///
/// A connection that ends first gives up what it has (its descriptor, its place) and then reads `awaited`; the acceptor
/// sets `awaited` and then looks for room. Both are SeqCst, so that one of the two sees the other. A message that nobody
/// waited for stays in the channel, which has room for one, and costs a look for nothing.
#[derive(Debug)]
pub(crate) struct Departures {
    awaited: AtomicBool,
    sender: Sender<()>,
    receiver: Receiver<()>,
}

impl Departures {
    fn new() -> Departures {
        let (sender, receiver) = channel(1);
        Departures { awaited: AtomicBool::new(false), sender, receiver }
    }

    /// A connection has ended.
    pub(crate) fn tell(&self) {
        if self.awaited.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Ends the wait of the acceptor, now or the next time, for another reason.
    pub(crate) fn wake(&self) {
        // A message that is there already does as well.
        let _ = self.sender.try_send(());
    }

    /// From now on the end of a connection is told, or no longer.
    pub(crate) fn set_awaited(&self, awaited: bool) {
        self.awaited.store(awaited, Ordering::SeqCst);
    }

    /// Waits until a connection ends; false after `limit`. For the acceptor, on a green thread.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        self.receiver.recv_timeout(limit).is_ok()
    }

    /// Waits until `condition` holds, which only the end of a connection or a [`wake`](Departures::wake) can bring about.
    pub(crate) fn wait_until(&self, condition: impl Fn() -> bool) {
        if condition() {
            return;
        }
        self.set_awaited(true);
        while !condition() {
            // The sender is in `self`.
            let _ = self.receiver.recv();
        }
        self.set_awaited(false);
    }
}

/// Lets a thing that may happen thousands of times a second be said every ten.
#[derive(Debug, Default)]
pub(crate) struct Rarely {
    /// When it was said last, in seconds since 1970.
    said: AtomicU64,
}

/// How long to be silent about it.
const SILENCE_SECONDS: u64 = 10;

impl Rarely {
    /// Is it to be said, now that it is `unix_seconds`?
    pub(crate) fn is_due(&self, unix_seconds: u64) -> bool {
        let said = self.said.load(Ordering::Relaxed);
        unix_seconds >= said.saturating_add(SILENCE_SECONDS)
            && self.said.compare_exchange(said, unix_seconds, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn admission(connections_max: usize, connections_per_address_max: usize) -> Admission {
        Admission::new(&Limits { connections_max, connections_per_address_max, ..Limits::default() })
    }

    fn client(address: &str) -> Client {
        Client::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_client_is_an_address_or_an_ipv6_network() {
        assert_ne!(client("10.0.0.1"), client("10.0.0.2"));
        assert_eq!(client("10.0.0.1"), client("::ffff:10.0.0.1"));
        assert_eq!(client("2001:db8:0:1::1"), client("2001:db8:0:1:ffff::2"));
        assert_ne!(client("2001:db8:0:1::1"), client("2001:db8:0:2::1"));
        assert_ne!(client("0.0.0.1"), client("::1"));
    }

    #[test]
    fn a_client_that_has_all_it_may_is_refused_until_one_has_left_and_others_are_not() {
        let admission = admission(100, 2);
        let (greedy, other) = (client("10.0.0.1"), client("10.0.0.2"));
        assert_eq!(admission.enter(greedy, 0), Ok(()));
        assert_eq!(admission.enter(greedy, 1), Ok(()));
        assert_eq!(admission.enter(greedy, 2), Err(NoRoom::ForClient));
        assert_eq!(admission.enter(other, 2), Ok(()));
        admission.leave(greedy);
        assert_eq!(admission.enter(greedy, 2), Ok(()));
    }

    #[test]
    fn at_the_limit_on_all_nobody_is_let_in_or_counted() {
        let admission = admission(2, 1);
        let one = client("10.0.0.1");
        assert_eq!(admission.enter(one, 2), Err(NoRoom::InAll));
        assert_eq!(admission.enter(one, 1), Ok(()));
    }

    #[test]
    fn the_map_has_no_client_that_has_left_and_gives_its_memory_back() {
        let admission = admission(1 << 20, 1 << 10);
        let client_of = |number: u32| Client::from(IpAddr::V6(Ipv6Addr::from_bits(u128::from(number) << 64)));
        (0..50_000).for_each(|number| admission.enter(client_of(number), 0).unwrap());
        let clients = admission.clients.as_ref().unwrap();
        assert_eq!(clients.counts().len(), 50_000);
        (0..50_000).for_each(|number| admission.leave(client_of(number)));
        assert_eq!(clients.counts().len(), 0);
        assert!(clients.counts().capacity() <= KEPT_CLIENTS_MAX, "{}", clients.counts().capacity());
        let none = Clients { max: 0, counts: Mutex::default() };
        assert_eq!(none.enter(client_of(1)), Err(NoRoom::ForClient));
        assert_eq!(none.counts().len(), 0, "who is refused leaves nothing");
    }

    #[test]
    fn an_end_that_comes_before_the_wait_is_not_missed() {
        bast::run(|| {
            let departures = Departures::new();
            departures.tell();
            assert!(!departures.wait(Duration::from_millis(1)), "nobody wanted to know");
            departures.set_awaited(true);
            departures.tell();
            departures.tell();
            assert!(departures.wait(Duration::from_secs(20)));
            assert!(!departures.wait(Duration::from_millis(1)), "two ends are one message");
        });
    }

    #[test]
    fn what_happens_often_is_said_every_ten_seconds() {
        let rarely = Rarely::default();
        let said: Vec<u64> =
            (1000..1031).flat_map(|now| [now, now]).filter(|&now| rarely.is_due(now)).collect();
        assert_eq!(said, [1000, 1010, 1020, 1030]);
    }
}
