//! Time limits of connections, without a timer or a clock read per request.
//!
//! Warp's algorithm. Each connection has an [`Activity`]; what it does to it on its way is two plain stores: the
//! phase it entered, and that it is not quiet. One sweeper per capability visits them every period; it counts a
//! connection's quiet sweeps, and one that has been quiet for longer than its phase allows is *expired*: the call it
//! is parked in returns `TimedOut`, after a last look for bytes. Nothing is unwound, and the time of a handler never
//! counts, because [`Phase::Handler`] has no limit.
//!
//! ```text
//! limit T, period p ≤ T/2:   a quiet connection is expired between T and T + 2p
//! ```
//! Everything here belongs to one capability, so cells do. The sweeper exists only while a connection is registered:
//! a server without connections makes no wake-ups.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::transport::Transport;

/// How long each phase of a connection may last without progress.
///
/// The time that a handler takes for its own work never counts. A connection is cut between once and twice the
/// limit.
///
/// A limit for the handler itself is [`bast::timeout`], in it or around it as middleware; what it returns by `?` is a 503:
/// ```
/// use bast_server::{Error, Request, Router};
/// use std::time::Duration;
///
/// fn report(_: &mut Request) -> Result<String, Error> {
///     let rows = bast::timeout(Duration::from_secs(2), || slow_query())?;
///     Ok(format!("{rows} rows"))
/// }
/// # fn slow_query() -> u32 { 7 }
/// let app = Router::new().get("/report", report);
/// # drop(app);
/// ```
/// It ends with the handler: a body that is produced afterwards, by [`Response::stream`](crate::Response::stream), is
/// under the limit of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// From the first byte of a request's head to its last one, however slowly they drip: 10 s by default. Answered by 408.
    pub head: Duration,
    /// Between two requests, and before the first one: 60 s by default. The connection is closed silently.
    pub keep_alive_idle: Duration,
    /// Between two pieces of a request's body: 30 s by default. The handler's read fails with `TimedOut`; an
    /// [`Error`](crate::Error) made from it is a 408.
    pub body: Duration,
    /// Between two pieces of a response that the client takes: 30 s by default. The connection is dropped.
    pub write: Duration,
    /// For the client to close after a response that ends the connection: 5 s by default.
    pub linger: Duration,
}

impl Default for TimeLimits {
    fn default() -> TimeLimits {
        TimeLimits {
            head: Duration::from_secs(10),
            keep_alive_idle: Duration::from_secs(60),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            linger: Duration::from_secs(5),
        }
    }
}

impl TimeLimits {
    /// The limit of a phase.
    fn of(&self, phase: Phase) -> Option<Duration> {
        match phase {
            Phase::Idle => Some(self.keep_alive_idle),
            Phase::Head => Some(self.head),
            Phase::Handler | Phase::Standing | Phase::Upgraded => None,
            Phase::Body => Some(self.body),
            Phase::Write => Some(self.write),
            Phase::Linger => Some(self.linger),
        }
    }

    /// How often to sweep: twice within the shortest limit, within reason.
    fn period(&self) -> Duration {
        let shortest =
            [self.head, self.keep_alive_idle, self.body, self.write, self.linger].into_iter().min();
        (shortest.unwrap_or_default() / 2).clamp(PERIOD_MIN, PERIOD_MAX)
    }
}

/// Sweeping more often than this would cost more than it tells.
const PERIOD_MIN: Duration = Duration::from_millis(5);

/// Sweeping less often would keep the sweeper's stack for nothing after the last connection.
const PERIOD_MAX: Duration = Duration::from_secs(10);

/// What a connection is waiting for, which decides how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// For the first byte of a request.
    Idle,
    /// For the rest of a head.
    Head,
    /// For its handler: never counted.
    Handler,
    /// For something that may never happen, in a handler that wants to know when its client goes or the server shuts down:
    /// never counted.
    Standing,
    /// For whatever comes on a stream that has left HTTP: no business of ours.
    Upgraded,
    /// For bytes of a request's body.
    Body,
    /// For the client to take bytes of a response.
    Write,
    /// For the client to close.
    Linger,
}

/// What the sweeper sees of a connection.
pub(crate) struct Activity {
    phase: Cell<Phase>,
    /// Sweeps since the last progress.
    quiet: Cell<u32>,
    /// The transport was expired in the current phase.
    expired: Cell<bool>,
    /// The server is shutting down; a stream that has left HTTP has no other way to know.
    draining: Cell<bool>,
    /// Where the registry keeps this; meaningless while not registered.
    index: Cell<usize>,
    transport: Transport,
    /// The connection's thread, to be killed at the end of a drain; none in tests without a runtime.
    thread: Option<bast::Thread>,
}

impl Activity {
    /// A connection over `transport`, served by `thread`, idle for now.
    pub(crate) fn new(transport: Transport, thread: Option<bast::Thread>) -> Rc<Activity> {
        Rc::new(Activity {
            phase: Cell::new(Phase::Idle),
            quiet: Cell::new(0),
            expired: Cell::new(false),
            draining: Cell::new(false),
            index: Cell::new(usize::MAX),
            transport,
            thread,
        })
    }

    #[inline]
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Enters a phase with its whole limit before it.
    #[inline]
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.quiet.set(0);
        if self.expired.get() {
            self.revive();
        }
    }

    /// The last look found bytes, or the expiry was dealt with: later calls may wait again.
    #[cold]
    fn revive(&self) {
        self.expired.set(false);
        self.transport.unexpire();
    }

    /// Was the limit of the current phase exceeded?
    pub(crate) fn is_expired(&self) -> bool {
        self.expired.get()
    }

    /// Bytes moved.
    pub(crate) fn progress(&self) {
        self.quiet.set(0);
    }

    /// Makes the call that the connection waits in, or its next one that would wait, fail with `TimedOut`.
    pub(crate) fn expire(&self) {
        self.expired.set(true);
        self.transport.expire();
    }

    /// Was [`drain`](Activity::drain) called?
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Tells the connection that its server is shutting down: one that has received no whole head, or has left HTTP, waits no
    /// longer.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        if matches!(self.phase(), Phase::Idle | Phase::Head | Phase::Standing | Phase::Upgraded) {
            self.expire();
        }
    }
}

impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activity")
            .field("phase", &self.phase.get())
            .field("quiet", &self.quiet.get())
            .field("expired", &self.expired.get())
            .finish_non_exhaustive()
    }
}

/// Tells the servers of a process apart in what is kept by OS thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerId(u64);

impl ServerId {
    pub(crate) fn next() -> ServerId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        ServerId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The connections of one server on one capability.
#[derive(Debug)]
pub(crate) struct Registry {
    limits: TimeLimits,
    period: Duration,
    members: RefCell<Vec<Rc<Activity>>>,
    sweeping: Cell<bool>,
}

thread_local! {
    /// The registries of this capability, by server. Connections and sweepers keep them alive.
    static REGISTRIES: RefCell<Vec<(ServerId, Weak<Registry>)>> = const { RefCell::new(Vec::new()) };
}

impl Registry {
    /// The registry of a server on this capability.
    pub(crate) fn of(server: ServerId, limits: TimeLimits) -> Rc<Registry> {
        REGISTRIES.with_borrow_mut(|registries| {
            let known =
                registries.iter().find(|(id, _)| *id == server).and_then(|(_, registry)| registry.upgrade());
            known.unwrap_or_else(|| {
                registries.retain(|(_, registry)| registry.strong_count() > 0);
                let registry = Registry::new(limits);
                registries.push((server, Rc::downgrade(&registry)));
                registry
            })
        })
    }

    fn new(limits: TimeLimits) -> Rc<Registry> {
        Rc::new(Registry {
            limits,
            period: limits.period(),
            members: RefCell::default(),
            sweeping: Cell::new(false),
        })
    }

    /// Watches over a connection until the returned membership is dropped.
    pub(crate) fn register(self: &Rc<Registry>, activity: &Rc<Activity>) -> Membership {
        let mut members = self.members.borrow_mut();
        activity.index.set(members.len());
        members.push(Rc::clone(activity));
        Membership { registry: Rc::clone(self), activity: Rc::clone(activity) }
    }

    /// Starts the sweeper of this capability if it is not there. Call it on a green thread.
    pub(crate) fn ensure_sweeper(self: &Rc<Registry>) {
        if self.sweeping.replace(true) {
            return;
        }
        let registry = Rc::clone(self);
        let spawned = bast::Builder::new().label("timeout sweep").spawn_local(move || {
            while !registry.members.borrow().is_empty() {
                bast::sleep(registry.period);
                registry.sweep();
            }
            registry.sweeping.set(false);
        });
        if let Err(error) = spawned {
            // The next connection tries again.
            log::error!("no thread for the timeouts of this capability: {error}");
            self.sweeping.set(false);
        }
    }

    /// One sweep: expires who has been quiet for longer than the phase allows.
    fn sweep(&self) {
        for activity in self.members.borrow().iter() {
            let Some(limit) = self.limits.of(activity.phase.get()) else { continue };
            // After n sweeps more than (n - 1) periods have passed for certain.
            let quiet = activity.quiet.get().saturating_add(1);
            activity.quiet.set(quiet);
            if !activity.expired.get() && self.period.saturating_mul(quiet - 1) >= limit {
                log::debug!("connection quiet for too long in phase {:?}", activity.phase.get());
                activity.expire();
            }
        }
    }

    /// Tells every connection that its server is shutting down, which ends the wait of those that have not received a whole
    /// head, and of those that have left HTTP.
    pub(crate) fn expire_waiting(&self) {
        self.members.borrow().iter().for_each(|activity| activity.drain());
    }

    /// Kills every connection's thread.
    pub(crate) fn kill_all(&self) {
        for activity in self.members.borrow().iter() {
            if let Some(thread) = &activity.thread {
                thread.kill();
            }
        }
    }
}

/// A connection's place in the registry; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Membership {
    registry: Rc<Registry>,
    activity: Rc<Activity>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut members = self.registry.members.borrow_mut();
        let index = self.activity.index.get();
        let removed = members.swap_remove(index);
        assert!(Rc::ptr_eq(&removed, &self.activity), "timeout: a member is not where it says");
        if let Some(moved) = members.get(index) {
            moved.index.set(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::twin::Twin;

    const T: Duration = Duration::from_secs(4);

    /// Limits of 4 s, head of 8 s, hence a sweep every 2 s.
    fn registry() -> Rc<Registry> {
        Registry::new(TimeLimits { head: T * 2, keep_alive_idle: T, body: T, write: T, linger: T })
    }

    fn member(registry: &Rc<Registry>) -> (Rc<Twin>, Rc<Activity>, Membership) {
        let twin = Twin::new(&[]);
        let activity = Activity::new((&twin).into(), None);
        let membership = registry.register(&activity);
        (twin, activity, membership)
    }

    /// Sweeps until the twin is expired: how many sweeps that took.
    fn sweeps_until_expired(registry: &Registry, twin: &Twin) -> u32 {
        for sweep in 1..100 {
            registry.sweep();
            if twin.is_expired() {
                return sweep;
            }
        }
        panic!("never expired");
    }

    #[test]
    fn a_quiet_connection_is_expired_between_once_and_twice_its_limit() {
        for (phase, limit) in
            [(Phase::Idle, T), (Phase::Head, T * 2), (Phase::Body, T), (Phase::Write, T), (Phase::Linger, T)]
        {
            let registry = registry();
            let (twin, activity, _membership) = member(&registry);
            activity.enter(phase);
            let sweeps = sweeps_until_expired(&registry, &twin);
            // The phase may have begun just before the first sweep, or just after the one before it.
            assert!(registry.period * (sweeps - 1) >= limit, "{phase:?} not before the limit");
            assert!(registry.period * sweeps <= limit * 2, "{phase:?} not after twice the limit");
        }
    }

    #[test]
    fn progress_and_a_new_phase_start_the_limit_anew() {
        let registry = registry();
        let (twin, activity, _membership) = member(&registry);
        activity.enter(Phase::Body);
        for _ in 0..50 {
            registry.sweep();
            activity.progress();
            registry.sweep();
            activity.enter(Phase::Body);
        }
        assert!(!twin.is_expired());
    }

    #[test]
    fn the_time_of_a_handler_is_not_counted() {
        let registry = registry();
        let (twin, activity, _membership) = member(&registry);
        for phase in [Phase::Handler, Phase::Standing, Phase::Upgraded] {
            activity.enter(phase);
            (0..1000).for_each(|_| registry.sweep());
            assert!(!twin.is_expired(), "{phase:?}");
        }
    }

    #[test]
    fn the_next_phase_takes_an_expiry_back() {
        let registry = registry();
        let (twin, activity, _membership) = member(&registry);
        sweeps_until_expired(&registry, &twin);
        activity.enter(Phase::Handler);
        assert!(!twin.is_expired());
    }

    #[test]
    fn a_drain_expires_only_who_waits_for_a_request_or_has_left_http() {
        let registry = registry();
        let table = [
            (Phase::Idle, true),
            (Phase::Head, true),
            (Phase::Standing, true),
            (Phase::Upgraded, true),
            (Phase::Handler, false),
            (Phase::Body, false),
            (Phase::Write, false),
            (Phase::Linger, false),
        ];
        let members = table.map(|_| member(&registry));
        members.iter().zip(table).for_each(|((_, activity, _), (phase, _))| activity.enter(phase));
        registry.expire_waiting();
        for ((twin, activity, _), (phase, expires)) in members.iter().zip(table) {
            assert_eq!(twin.is_expired(), expires, "{phase:?}");
            assert!(activity.is_draining(), "{phase:?}");
        }
    }

    #[test]
    fn members_leave_in_any_order() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0], [0, 2, 1], [2, 0, 1]] {
            let registry = registry();
            let mut members: Vec<_> = (0..3).map(|_| Some(member(&registry))).collect();
            for (gone, index) in order.into_iter().enumerate() {
                assert_eq!(registry.members.borrow().len(), 3 - gone);
                members[index] = None;
            }
            assert!(registry.members.borrow().is_empty());
        }
    }
}
