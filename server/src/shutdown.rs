//! Ending a server: what sets it off, and how it is known that the last connection has gone.
//!
//! ```text
//! Serving ──stop──▶ Draining ──last connection gone──▶ Ended
//!                      └──stop again, or deadline──▶ Killing ──gone, or grace over──▶ Ended
//! ```
//! A hand-over begins a drain, too, a patient one:
//!
//! Note [patience]. A client of a shutdown that has connected and said nothing is closed at once: whoever serves next is
//! another address, or nobody. After a hand-over the same client's request is on its way, and it knows nothing of two processes:
//! closing would reset it. So it has [`PATIENCE`] to send its first request, and only connections that wait between two
//! requests, which their clients know may end at any time, are closed at once. `patient` is set before `draining`,
//! and cleared when the time is over.
//!
//! Signals, [`ServerHandle::shutdown`] and the last connection all speak through one channel to the thread that called
//! `serve`, which alone moves between the states, at the deadline by itself.
//!
//! Note [the last connection]. The counters of the load table are not read at one instant, so their sum means
//! something only when none can grow: after the acceptor has ended. Then `counting` is set. A connection that ends
//! counts down and then reads `counting`; the server sets `counting` and then reads the counters. All four are
//! SeqCst, so one of the two sees the other, and either of them finds the sum 0.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bast::signal::Signal;
use bast::sync::{Receiver, Sender, unbounded};

use crate::load::LoadTable;

/// What the serving thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A signal came or a handle was used: drain, and the second time do not wait any longer.
    Stop,
    /// Another process serves from now on: drain, patiently.
    HandedOver,
    /// No connection is left, and none can come.
    Gone,
}

/// How long a client that connected before a hand-over may take to send its first request: time enough for a lost segment to
/// be sent again, twice (RFC 6298 §2: after one second, then two).
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

/// Two signals of one wish are not further apart than this: timeout(1) sends one to its child and one to the group within
/// a microsecond, and a busy machine may let time pass between them. No human presses Ctrl-C twice within it.
const REPEAT_MAX: Duration = Duration::from_millis(100);

/// Is this signal the same wish as the one that was heeded before?
pub(crate) fn is_repeat(before: Option<(Signal, Instant)>, signal: Signal, now: Instant) -> bool {
    before.is_some_and(|(known, at)| known == signal && now.saturating_duration_since(at) < REPEAT_MAX)
}

/// The connections' side of the shutdown.
#[derive(Debug)]
pub(crate) struct Shutdown {
    events: Sender<Event>,
    counting: AtomicBool,
}

impl Shutdown {
    pub(crate) fn new() -> (Shutdown, Receiver<Event>) {
        let (events, receiver) = unbounded();
        (Shutdown { events, counting: AtomicBool::new(false) }, receiver)
    }

    pub(crate) fn send(&self, event: Event) {
        // The receiver is gone only when the server has ended; then nobody needs to know.
        let _ = self.events.send(event);
    }

    /// From now on the end of the last connection is reported. Call it when none can be added any more.
    pub(crate) fn report_the_last(&self, load: &LoadTable) {
        self.counting.store(true, Ordering::SeqCst);
        self.connection_ended(load);
    }

    /// A connection was counted down; see Note [the last connection].
    pub(crate) fn connection_ended(&self, load: &LoadTable) {
        if self.counting.load(Ordering::SeqCst) && load.total() == 0 {
            self.send(Event::Gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_connection_is_reported_once_none_can_come() {
        let load = LoadTable::new(2);
        let (shutdown, events) = Shutdown::new();
        load.add(0);
        load.add(1);
        load.remove(0);
        shutdown.connection_ended(&load);
        shutdown.report_the_last(&load);
        assert!(events.try_recv().is_err(), "one is left");
        load.remove(1);
        shutdown.connection_ended(&load);
        assert!(matches!(events.try_recv(), Ok(Event::Gone)));
    }

    #[test]
    fn a_signal_that_is_sent_twice_at_once_is_one_wish() {
        let at = Instant::now();
        let first = Some((Signal::Terminate, at));
        assert!(!is_repeat(None, Signal::Terminate, at));
        assert!(is_repeat(first, Signal::Terminate, at));
        assert!(is_repeat(first, Signal::Terminate, at + Duration::from_millis(99)));
        assert!(!is_repeat(first, Signal::Terminate, at + REPEAT_MAX), "somebody has become impatient");
        assert!(!is_repeat(first, Signal::Interrupt, at), "another signal is another wish");
    }

    #[test]
    fn a_server_without_connections_is_gone_at_once() {
        let (shutdown, events) = Shutdown::new();
        shutdown.report_the_last(&LoadTable::new(2));
        assert!(matches!(events.try_recv(), Ok(Event::Gone)));
    }
}
