//! Time limits of connections, without a timer or a clock read per request.
//!
//! Warp's algorithm. Each connection has an [`Activity`]; what it does to it on its way is plain stores: the phase it
//! entered, that it is not quiet, how many bytes have moved. One sweeper per capability visits them every period; it
//! counts a connection's quiet sweeps, and one that has been quiet for longer than its phase allows is *expired*: the
//! call it is parked in returns `TimedOut`, after a last look for bytes. Nothing is unwound, and the time of a handler
//! never counts, because [`Phase::Handler`] has no limit of the sweeper's.
//!
//! ```text
//! limit T, period p ≤ T/2:   a quiet connection is expired between T and T + 2p
//! ```
//! Everything here belongs to one capability, so cells do. The sweeper exists only while a connection is registered:
//! a server without connections makes no wake-ups.
//!
//! Note [rates]. A client that is never quiet may still be too slow. For a body and for a response the sweeper also looks
//! at how many bytes moved in a stretch, which is as many sweeps as span the limit. Only sweeps that find the connection
//! waiting for its client count, and the kernel says whether it does: a handler that pauses between reads, or that lost its core on
//! the way into one, has unread bytes in the socket if its client is faster; one that writes seldom has nothing
//! unacknowledged. Conversely, whoever is found waiting had read all that was sent by then, so that between two such
//! sweeps the client sent just what moved. What a client took of a response is what its system acknowledged, not what
//! went into the socket's buffer here, which may be megabytes; until it has all, it is in the phase of writing to the sweeper, although
//! the connection already waits for its next request. The two calls to the kernel (some 0.2 µs each) are made in
//! sweeps only, for connections in these phases, and once for one that is idle.
#![forbid(unsafe_code)]

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bast::Builder;

use crate::hooks::FaultKind;
use crate::meter::Meter;
use crate::transport::Transport;
use crate::whereabouts::Whereabouts;

/// How long each phase of a connection may last, and how slow a client may be.
///
/// | limit | by default | runs while | ends it | the client gets |
/// |---|---|---|---|---|
/// | [`head`](TimeLimits::head) | 10 s | a request's head is on its way, from its first byte to its last | however steadily it drips | 408, close |
/// | [`keep_alive_idle`](TimeLimits::keep_alive_idle) | 60 s | nothing of a request has arrived: between two, and before the first | silence | the end, without a word |
/// | [`body`](TimeLimits::body) | 30 s | the handler waits for the body | no byte for so long | 408 if the handler passes the error on, close |
/// | [`body_bytes_per_second_min`](TimeLimits::body_bytes_per_second_min) | 240 | likewise | fewer bytes in a stretch of `body` | the same |
/// | [`write`](TimeLimits::write) | 30 s | the client is to take a response | none taken for so long | what it took, and the end |
/// | [`write_bytes_per_second_min`](TimeLimits::write_bytes_per_second_min) | 240 | likewise | fewer bytes in a stretch of `write` | the same |
/// | [`handler`](TimeLimits::handler) | none | the handler runs, and what produces its body | that | 503, or a body that breaks off |
/// | [`linger`](TimeLimits::linger) | 5 s | the last response was sent | the client does not close | the end |
///
/// All but that of the handler are on the client: the time that a handler takes for its own work never counts, nor what
/// it waits for in a database, nor that it reads a body or writes one slowly. A connection is cut between once and twice
/// the limit.
///
/// A limit for one handler alone is [`bast::timeout`], in it or around it as middleware; what it returns by `?` is a 503:
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
    /// How many bytes of a request's body must arrive per second, on the average of each stretch of
    /// [`body`](TimeLimits::body) in which the handler waits for them: 240 by default, what a modem of 2,400 baud carries.
    /// A body that is shorter than one stretch is not judged. 0 asks for nothing: for bodies that are meant to be slow, as
    /// measurements that are sent as they are taken.
    pub body_bytes_per_second_min: u32,
    /// Between two pieces of a response that the client takes: 30 s by default. The connection is dropped.
    pub write: Duration,
    /// How many bytes of a response the client must take per second, on the average of each stretch of
    /// [`write`](TimeLimits::write) in which the server waits for it: 240 by default. 0 asks for nothing. A response that
    /// itself comes slowly, as events do, is not concerned: nobody waits for its client.
    pub write_bytes_per_second_min: u32,
    /// For a handler and for the body that it has produced ([`Response::stream`](crate::Response::stream)), together: none by
    /// default, because what is right depends on the handler. It is unwound at its next blocking call or
    /// [`bast::yield_point`], and answered by 503; a response that was begun is broken off, which the client can tell.
    ///
    /// It is by the clock: what the handler waits for its client counts as well. Streams without an end (events) need it to
    /// be off; then limit the others one by one. A connection that was [upgraded](crate::Response::upgrade) is not under it.
    pub handler: Option<Duration>,
    /// For the client to close after a response that ends the connection: 5 s by default. While the server drains it is half a second to
    /// a second, unless this is less.
    pub linger: Duration,
}

impl Default for TimeLimits {
    fn default() -> TimeLimits {
        TimeLimits {
            head: Duration::from_secs(10),
            keep_alive_idle: Duration::from_secs(60),
            body: Duration::from_secs(30),
            body_bytes_per_second_min: 240,
            write: Duration::from_secs(30),
            write_bytes_per_second_min: 240,
            handler: None,
            linger: Duration::from_secs(5),
        }
    }
}

impl TimeLimits {
    /// The limit of a phase.
    fn of(&self, phase: Phase) -> Option<Duration> {
        match phase {
            Phase::New | Phase::Idle => Some(self.keep_alive_idle),
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
#[non_exhaustive]
pub enum Phase {
    /// For the first byte of its first request.
    New,
    /// For the first byte of another request.
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

impl Phase {
    /// All of them, in their order.
    pub(crate) const ALL: [Phase; 9] = [
        Phase::New,
        Phase::Idle,
        Phase::Head,
        Phase::Handler,
        Phase::Standing,
        Phase::Upgraded,
        Phase::Body,
        Phase::Write,
        Phase::Linger,
    ];

    /// The phase in one word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::New => "new",
            Phase::Idle => "idle",
            Phase::Head => "head",
            Phase::Handler => "handler",
            Phase::Standing => "standing",
            Phase::Upgraded => "upgraded",
            Phase::Body => "body",
            Phase::Write => "write",
            Phase::Linger => "linger",
        }
    }
}

/// Whether a connection's wait was ended, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    /// It was not.
    No,
    /// Nothing moved for too long, or a drain does not wait: bytes that a last look finds are still taken.
    Quiet,
    /// Too little moved: a last look makes no difference.
    Slow,
}

/// How long a drain waits for requests; see Note [patience] in `shutdown.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Who is new, or in the middle of a head, may send a request.
    WithTheNew,
    /// Nobody may.
    Over,
}

/// What the sweeper sees of a connection.
pub(crate) struct Activity {
    phase: Cell<Phase>,
    expiry: Cell<Expiry>,
    /// Sweeps since the last progress.
    quiet: Cell<u32>,
    /// Requests whose heads have been read.
    requests: Cell<u32>,
    /// Bytes that were read within a request, and written.
    received: Cell<u64>,
    sent: Cell<u64>,
    body_pace: Pace,
    write_pace: Pace,
    /// So much of what was sent has been acknowledged for certain.
    delivered: Cell<u64>,
    /// The server is shutting down; a stream that has left HTTP has no other way to know.
    draining: Cell<bool>,
    /// Another protocol has the stream: what it lingers for is its own business.
    has_left_http: Cell<bool>,
    /// A drain has found it in a lingering close.
    found_lingering: Cell<bool>,
    /// Where the registry keeps this; meaningless while not registered.
    index: Cell<usize>,
    transport: Transport,
    /// The connection's thread, to be killed at the end of a drain; none in tests without a runtime.
    thread: Option<bast::Thread>,
    /// Where somebody wants to know what the connection does.
    meter: OnceCell<Box<Meter>>,
}

impl Activity {
    /// A new connection over `transport`, served by `thread`.
    pub(crate) fn new(transport: Transport, thread: Option<bast::Thread>) -> Rc<Activity> {
        Rc::new(Activity {
            phase: Cell::new(Phase::New),
            expiry: Cell::new(Expiry::No),
            quiet: Cell::new(0),
            requests: Cell::new(0),
            received: Cell::new(0),
            sent: Cell::new(0),
            body_pace: Pace::default(),
            write_pace: Pace::default(),
            delivered: Cell::new(0),
            draining: Cell::new(false),
            has_left_http: Cell::new(false),
            found_lingering: Cell::new(false),
            index: Cell::new(usize::MAX),
            transport,
            thread,
            meter: OnceCell::new(),
        })
    }

    /// Lets a meter count and time it from now on.
    pub(crate) fn set_meter(&self, meter: Box<Meter>) {
        let set = self.meter.set(meter);
        assert!(set.is_ok(), "timeout: a second meter");
    }

    #[inline]
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// What counts and times the connection, if anything does.
    #[inline]
    pub(crate) fn meter(&self) -> Option<&Meter> {
        self.meter.get().map(|meter| &**meter)
    }

    /// Counts bytes that arrived, for whoever wants to know.
    #[inline]
    pub(crate) fn count_received(&self, count: usize) {
        if let Some(meter) = self.meter() {
            meter.received(count);
        }
    }

    /// Notes that something failed in the current phase.
    #[cold]
    pub(crate) fn failed(&self, kind: FaultKind, detail: &dyn fmt::Display) {
        if let Some(meter) = self.meter() {
            meter.fails(self.phase.get(), kind, detail);
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Who is at the other end of the socket, and what the connection does: for a log line.
    #[cold]
    pub(crate) fn whereabouts(&self) -> Whereabouts {
        Whereabouts { peer: self.transport.peer(), phase: self.phase.get() }
    }

    /// Enters a phase with its whole limit before it.
    #[inline]
    pub(crate) fn enter(&self, phase: Phase) {
        let before = self.phase.replace(phase);
        if let Some(meter) = self.meter() {
            meter.enters(before, phase);
        }
        self.quiet.set(0);
        if self.expiry.get() != Expiry::No {
            self.revive();
        }
    }

    /// The last look found bytes, or the expiry was dealt with: later calls may wait again.
    #[cold]
    fn revive(&self) {
        self.expiry.set(Expiry::No);
        self.transport.unexpire();
    }

    /// A request's head was read, and its handler begins.
    #[inline]
    pub(crate) fn begin_request(&self) {
        self.requests.set(self.requests.get().wrapping_add(1));
        self.enter(Phase::Handler);
    }

    /// How many requests the connection has brought.
    #[inline]
    pub(crate) fn requests(&self) -> u32 {
        self.requests.get()
    }

    /// Notes that so many bytes arrived.
    ///
    /// # Errors
    /// `TimedOut` where they came too late: the client was found too slow.
    #[inline]
    pub(crate) fn received(&self, count: usize) -> io::Result<()> {
        self.count_received(count);
        self.received.set(self.received.get().wrapping_add(count as u64));
        if self.expiry.get() == Expiry::Slow {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Notes that so many bytes were written.
    ///
    /// # Errors
    /// `TimedOut` where that was the last look after the limit. The kernel finds room for a few more bytes now and then
    /// although the client reads nothing; taken for progress, that would keep such a client for minutes.
    #[inline]
    pub(crate) fn sent(&self, count: usize) -> io::Result<()> {
        if let Some(meter) = self.meter() {
            meter.sent(count);
        }
        self.sent.set(self.sent.get().wrapping_add(count as u64));
        if self.expiry.get() != Expiry::No {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Was the limit of the current phase exceeded?
    pub(crate) fn is_expired(&self) -> bool {
        self.expiry.get() != Expiry::No
    }

    /// Makes the call that the connection waits in, or its next one that would wait, fail with `TimedOut`.
    pub(crate) fn expire(&self) {
        self.expire_as(Expiry::Quiet);
    }

    fn expire_as(&self, expiry: Expiry) {
        self.expiry.set(expiry);
        self.transport.expire();
    }

    /// Was [`drain`](Activity::drain) called?
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Tells the connection that its server is shutting down: one that has received no whole head, or has left HTTP, waits no
    /// longer.
    pub(crate) fn drain(&self, patience: Patience) {
        self.draining.set(true);
        let is_over = match self.phase() {
            Phase::Idle | Phase::Standing | Phase::Upgraded => true,
            Phase::New | Phase::Head => patience == Patience::Over,
            _ => false,
        };
        if is_over {
            self.expire();
        }
    }

    /// Another protocol has the stream from now on, or no longer.
    pub(crate) fn set_left_http(&self, has_left: bool) {
        self.has_left_http.set(has_left);
    }

    /// A look during a drain. Ends a lingering close at the second one.
    fn hasten(&self) {
        if self.phase() == Phase::Linger
            && !self.has_left_http.get()
            && self.found_lingering.replace(true)
            && !self.is_expired()
        {
            self.expire();
        }
    }

    /// One sweep: has the connection been quiet for longer than its phase allows, or is its client too slow?
    fn inspect(&self, limits: &TimeLimits, sweep: Sweep) -> Expiry {
        let phase = match self.phase.get() {
            Phase::Idle if self.is_delivering() => Phase::Write,
            phase => phase,
        };
        let Some(limit) = limits.of(phase) else { return Expiry::No };
        if self.is_expired() {
            return Expiry::No;
        }
        let is_too_slow = match phase {
            Phase::Body => self.body_is_too_slow(limits.body_bytes_per_second_min, limit, sweep),
            Phase::Write => self.write_is_too_slow(limits.write_bytes_per_second_min, limit, sweep),
            _ => false,
        };
        // After n sweeps more than (n - 1) periods have passed for certain.
        let quiet = self.quiet.get().saturating_add(1);
        self.quiet.set(quiet);
        if is_too_slow {
            Expiry::Slow
        } else if sweep.period.saturating_mul(quiet - 1) >= limit {
            Expiry::Quiet
        } else {
            Expiry::No
        }
    }

    /// Is some of what was sent still on its way to the client, or in its system's way? Asks the kernel until it is not.
    pub(crate) fn is_delivering(&self) -> bool {
        let sent = self.sent.get();
        if self.delivered.get() != sent && self.transport.unacknowledged_bytes() == 0 {
            self.delivered.set(sent);
        }
        self.delivered.get() != sent
    }

    /// See Note [rates].
    fn body_is_too_slow(&self, rate_min: u32, stretch: Duration, sweep: Sweep) -> bool {
        let is_waiting = self.transport.unread_bytes() == 0;
        let moved = Moved { request: self.requests.get(), bytes: self.received.get() };
        is_waiting && self.body_pace.is_below(rate_min, stretch, sweep, moved)
    }

    /// See Note [rates].
    fn write_is_too_slow(&self, rate_min: u32, stretch: Duration, sweep: Sweep) -> bool {
        let unacknowledged = self.transport.unacknowledged_bytes();
        let gone = self.sent.get().wrapping_add(self.transport.uncounted_bytes() as u64);
        let taken = gone.saturating_sub(unacknowledged as u64);
        if self.write_pace.last.replace(taken) != taken {
            self.quiet.set(0);
        }
        let moved = Moved { request: self.requests.get(), bytes: taken };
        unacknowledged > 0 && self.write_pace.is_below(rate_min, stretch, sweep, moved)
    }
}

/// One sweep of a registry.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    /// How many there were before.
    number: u32,
    /// At least so much time is between two.
    period: Duration,
}

/// How far a transfer has come.
#[derive(Clone, Copy, Debug)]
struct Moved {
    /// The request that it belongs to.
    request: u32,
    /// Of the connection's whole life.
    bytes: u64,
}

/// How fast one direction of a connection is, in stretches of time; see Note [rates]. The sweeper's own.
#[derive(Debug, Default)]
struct Pace {
    /// Sweeps of this stretch that found the connection waiting; none where none has begun.
    waits: Cell<u32>,
    /// The sweep that it began with.
    begun: Cell<u32>,
    /// The request that it belongs to: the next one begins anew.
    request: Cell<u32>,
    /// What had moved when it began.
    begin: Cell<u64>,
    /// What had moved at the last sweep.
    last: Cell<u64>,
}

/// A stretch that has not come to its end in so many times its length is given up: waits that are so rare are not what makes
/// a connection last. Without this, a stream that lives for days would be judged by waits that are hours apart.
const SPARSE: u32 = 4;

impl Pace {
    /// Notes a sweep that found the connection waiting. Is a stretch over in which too little moved?
    fn is_below(&self, rate_min: u32, stretch: Duration, sweep: Sweep, moved: Moved) -> bool {
        if rate_min == 0 {
            return false;
        }
        let age = sweep.period.saturating_mul(sweep.number.wrapping_sub(self.begun.get()));
        if self.waits.get() == 0
            || self.request.get() != moved.request
            || age > stretch.saturating_mul(SPARSE)
        {
            self.begin(sweep, moved);
            return false;
        }
        let waited = sweep.period.saturating_mul(self.waits.get());
        self.waits.set(self.waits.get().saturating_add(1));
        if waited < stretch {
            return false;
        }
        let bytes = moved.bytes.saturating_sub(self.begin.get());
        self.begin(sweep, moved);
        u128::from(bytes) * 1000 < u128::from(rate_min) * waited.as_millis()
    }

    /// A stretch begins with the sweep that is under way.
    fn begin(&self, sweep: Sweep, moved: Moved) {
        self.waits.set(1);
        self.begun.set(sweep.number);
        self.request.set(moved.request);
        self.begin.set(moved.bytes);
    }
}

impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activity")
            .field("phase", &self.phase.get())
            .field("quiet", &self.quiet.get())
            .field("expiry", &self.expiry.get())
            .field("requests", &self.requests.get())
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

/// How many connections are woken for their end before others may run: some 0.2 ms of work.
const EXPIRED_AT_ONCE: usize = 16;

/// A connection that a sweep found quiet for too long, or too slow. It may end before it is woken, and its socket with it.
struct Overdue {
    activity: Weak<Activity>,
    why: Expiry,
    phase: Phase,
    requests: u32,
    quiet: u32,
}

impl Overdue {
    fn new(activity: &Rc<Activity>, why: Expiry) -> Overdue {
        Overdue {
            activity: Rc::downgrade(activity),
            why,
            phase: activity.phase(),
            requests: activity.requests(),
            quiet: activity.quiet.get(),
        }
    }

    /// Ends its wait, unless that has ended meanwhile: then it is not as quiet as it was, or at something else. Logs behind
    /// that: a logger may fail.
    fn expire(self) {
        let Some(activity) = self.activity.upgrade() else { return };
        let still_waits = match self.why {
            Expiry::Slow => activity.phase() == self.phase && activity.requests() == self.requests,
            _ => activity.quiet.get() == self.quiet,
        };
        if !still_waits {
            return;
        }
        // The phase is that of the sweep: what the end of the wait leads to is not what was waited for.
        let of = log::log_enabled!(log::Level::Debug)
            .then(|| Whereabouts { phase: self.phase, ..activity.whereabouts() });
        activity.expire_as(self.why);
        drop(activity);
        let what = if self.why == Expiry::Slow { "client too slow" } else { "connection quiet for too long" };
        if let Some(of) = of {
            log::debug!("{what}: {of}");
        }
    }
}

/// Says that a sweeper is there until it ends, in whatever way: then the next connection starts another.
struct Sweeping<'r>(&'r Cell<bool>);

impl Drop for Sweeping<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// The connections of one server on one capability.
#[derive(Debug)]
pub(crate) struct Registry {
    limits: TimeLimits,
    period: Duration,
    members: RefCell<Vec<Rc<Activity>>>,
    sweeping: Cell<bool>,
    /// How many sweeps there were.
    sweeps: Cell<u32>,
    /// There is a thread that ends lingering closes.
    hastening: Cell<bool>,
}

/// How often a drain looks for lingering closes, each of which it gives once to twice as long: what a client takes to read the last
/// answer. The limit for them is generous while the server has nothing else to wait for; here all of its end waits.
const HASTE: Duration = Duration::from_millis(500);

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

    pub(crate) fn new(limits: TimeLimits) -> Rc<Registry> {
        Rc::new(Registry {
            limits,
            period: limits.period(),
            members: RefCell::default(),
            sweeping: Cell::new(false),
            sweeps: Cell::new(0),
            hastening: Cell::new(false),
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
        // A switch at an allocation could come where the members are borrowed.
        let sweeper = Builder::new().label("timeout sweep").preempt_at_allocation(false);
        let spawned = sweeper.spawn_local(move || {
            let _sweeping = Sweeping(&registry.sweeping);
            while !registry.members.borrow().is_empty() {
                bast::sleep(registry.period);
                let swept = bast::catch_unwind(AssertUnwindSafe(|| registry.sweep(bast::yield_now)));
                // A panic, which only a logger has, was reported by its hook. Connections go on having limits.
                if let Err(payload) = swept
                    && bast::is_interrupt(&*payload)
                {
                    bast::resume_unwind(payload);
                }
            }
        });
        if let Err(error) = spawned {
            // The next connection tries again.
            log::error!("no thread for the timeouts of this capability: {error}");
            self.sweeping.set(false);
        }
    }

    /// Starts what ends lingering closes during a drain, if it is not there. Call it on a green thread.
    #[cold]
    pub(crate) fn ensure_haste(self: &Rc<Registry>) {
        if self.members.borrow().is_empty() || self.hastening.replace(true) {
            return;
        }
        let registry = Rc::clone(self);
        let spawned = Builder::new().label("drain").preempt_at_allocation(false).spawn_local(move || {
            let _hastening = Sweeping(&registry.hastening);
            while !registry.members.borrow().is_empty() {
                bast::sleep(HASTE);
                registry.hasten();
            }
        });
        if let Err(error) = spawned {
            log::error!("lingering closes have all of their time in this drain: {error}");
            self.hastening.set(false);
        }
    }

    /// A look of a drain at its connections.
    fn hasten(&self) {
        self.members.borrow().iter().for_each(|activity| activity.hasten());
    }

    /// One sweep: expires who has been quiet for longer than the phase allows, and whose client is too slow.
    ///
    /// Thousands may be overdue at once, and each has work to do for its end. They are woken by so many, with a `pause` in
    /// between, so that a client with a request does not wait for all of them.
    fn sweep(&self, pause: impl Fn()) {
        let sweep = Sweep { number: self.sweeps.get(), period: self.period };
        self.sweeps.set(sweep.number.wrapping_add(1));
        let mut overdue = Vec::new();
        for activity in self.members.borrow().iter() {
            match activity.inspect(&self.limits, sweep) {
                Expiry::No => {}
                why => overdue.push(Overdue::new(activity, why)),
            }
        }
        for (index, overdue) in overdue.into_iter().enumerate() {
            if index > 0 && index % EXPIRED_AT_ONCE == 0 {
                pause();
            }
            overdue.expire();
        }
    }

    /// Tells every connection that its server is shutting down, which ends the wait of those that have not received a whole
    /// head, and of those that have left HTTP.
    pub(crate) fn expire_waiting(&self) {
        self.members.borrow().iter().for_each(|activity| activity.drain(Patience::Over));
    }

    /// The same, but who has sent nothing yet may still send its first request, and who has begun a head may end it.
    pub(crate) fn expire_idle(&self) {
        self.members.borrow().iter().for_each(|activity| activity.drain(Patience::WithTheNew));
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

    /// Limits of 4 s, head of 8 s, hence a sweep every 2 s; 10 bytes per second.
    fn limits() -> TimeLimits {
        TimeLimits {
            head: T * 2,
            keep_alive_idle: T,
            body: T,
            body_bytes_per_second_min: 10,
            write: T,
            write_bytes_per_second_min: 10,
            handler: None,
            linger: T,
        }
    }

    fn registry() -> Rc<Registry> {
        Registry::new(limits())
    }

    fn member(registry: &Rc<Registry>) -> (Rc<Twin>, Rc<Activity>, Membership) {
        let twin = Twin::new(&[]);
        let activity = Activity::new((&twin).into(), None);
        let membership = registry.register(&activity);
        (twin, activity, membership)
    }

    #[test]
    fn a_connection_that_ends_while_others_are_woken_is_closed_at_once() {
        let registry = registry();
        let members: Vec<_> = (0..=EXPIRED_AT_ONCE).map(|_| member(&registry)).collect();
        let members = Cell::new(members);
        let closed = Cell::new(false);
        for _ in 0..5 {
            registry.sweep(|| {
                let mut all = members.take();
                let (twin, activity, membership) = all.pop().expect("more than are woken at once");
                drop((activity, membership));
                closed.set(Rc::strong_count(&twin) == 1);
                members.set(all);
            });
        }
        assert!(closed.get());
    }

    /// Sweeps until the twin is expired: how many sweeps that took.
    fn sweeps_until_expired(registry: &Registry, twin: &Twin) -> u32 {
        for sweep in 1..100 {
            registry.sweep(|| {});
            if twin.is_expired() {
                return sweep;
            }
        }
        panic!("never expired");
    }

    #[test]
    fn a_quiet_connection_is_expired_between_once_and_twice_its_limit() {
        for (phase, limit) in [
            (Phase::New, T),
            (Phase::Idle, T),
            (Phase::Head, T * 2),
            (Phase::Body, T),
            (Phase::Write, T),
            (Phase::Linger, T),
        ] {
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
    fn a_new_phase_starts_the_limit_anew() {
        let registry = registry();
        let (twin, activity, _membership) = member(&registry);
        for phase in [Phase::Idle, Phase::Head, Phase::Linger].repeat(20) {
            activity.enter(phase);
            registry.sweep(|| {});
            registry.sweep(|| {});
        }
        assert!(!twin.is_expired());
    }

    /// Sweeps until the end, or for an hour, before each of which so many bytes of a body arrive.
    fn is_cut_off_at(bytes_per_period: usize, limits: TimeLimits) -> Option<Duration> {
        let registry = Registry::new(limits);
        let (twin, activity, _membership) = member(&registry);
        activity.begin_request();
        for sweep in 1..1800 {
            activity.enter(Phase::Body);
            registry.sweep(|| {});
            if twin.is_expired() {
                return Some(registry.period * sweep);
            }
            activity.received(bytes_per_period).expect("in time");
        }
        None
    }

    #[test]
    fn a_body_that_is_slower_than_its_rate_is_cut_off_within_twice_the_limit() {
        let at = is_cut_off_at(19, limits()).expect("9.5 bytes per second are too few");
        assert!(T <= at && at <= T * 2, "{at:?}");
        assert_eq!(is_cut_off_at(20, limits()), None, "10 are enough");
        assert_eq!(is_cut_off_at(1, TimeLimits { body_bytes_per_second_min: 0, ..limits() }), None);
    }

    #[test]
    fn bytes_that_come_with_the_last_look_do_not_save_who_is_too_slow() {
        let registry = registry();
        let (twin, activity, _membership) = member(&registry);
        activity.begin_request();
        while !twin.is_expired() {
            activity.enter(Phase::Body);
            registry.sweep(|| {});
            if !twin.is_expired() {
                activity.received(1).expect("in time");
            }
        }
        assert_eq!(activity.received(1).expect_err("too late").kind(), io::ErrorKind::TimedOut);
        // Who was quiet is given another limit by them.
        activity.enter(Phase::Body);
        activity.expire();
        activity.received(1).expect("just in time");
    }

    #[test]
    fn a_handler_that_reads_slowly_is_not_taken_for_a_slow_client() {
        let registry = registry();
        let (twin, activity, _membership) = member(&registry);
        activity.begin_request();
        // It reads a byte per sweep, whichever phase the sweeps find, and more is there each time.
        twin.push(&[b'x'; 1000]);
        for _ in 0..500 {
            activity.enter(Phase::Body);
            registry.sweep(|| {});
            activity.received(1).expect("no limit passed");
            activity.enter(Phase::Handler);
            registry.sweep(|| {});
        }
        assert!(!twin.is_expired());
    }

    #[test]
    fn what_a_request_before_took_does_not_count() {
        let registry = registry();
        let (twin, activity, _membership) = member(&registry);
        for _ in 0..500 {
            activity.begin_request();
            activity.enter(Phase::Body);
            registry.sweep(|| {});
            activity.received(1).expect("no limit passed");
        }
        assert!(!twin.is_expired());
    }

    #[test]
    fn waits_that_are_far_apart_do_not_add_up() {
        let registry = registry();
        let (twin, activity, _membership) = member(&registry);
        activity.begin_request();
        for sweep in 0..5000 {
            activity.enter(if sweep % 10 == 0 { Phase::Body } else { Phase::Handler });
            registry.sweep(|| {});
            activity.received(1).expect("no limit passed");
        }
        assert!(!twin.is_expired());
    }

    #[test]
    fn what_a_client_has_acknowledged_counts_and_not_what_the_kernel_took() {
        // (bytes written and bytes acknowledged per sweep of 2 s, cut off)
        for (sent, acknowledged, cut) in
            [(20, 20, false), (1000, 20, false), (1000, 19, true), (1000, 0, true)]
        {
            let registry = registry();
            let (twin, activity, _membership) = member(&registry);
            activity.begin_request();
            activity.enter(Phase::Write);
            activity.sent(1 << 20).expect("no limit passed");
            let mut unacknowledged = 1 << 20;
            for _ in 0..500 {
                twin.set_unacknowledged(unacknowledged);
                registry.sweep(|| {});
                if twin.is_expired() {
                    break;
                }
                activity.sent(sent).expect("no limit passed");
                unacknowledged += sent - acknowledged;
            }
            assert_eq!(twin.is_expired(), cut, "{sent} written, {acknowledged} acknowledged");
        }
    }

    #[test]
    fn an_idle_client_that_has_not_taken_its_answer_is_under_the_limit_of_writing() {
        // (acknowledged per sweep of 2 s, cut off before its idle time)
        for (acknowledged, cut) in [(0, true), (19, true), (1000, false)] {
            let idle = Duration::from_secs(100_000);
            let registry = Registry::new(TimeLimits { keep_alive_idle: idle, ..registry().limits });
            let (twin, activity, _membership) = member(&registry);
            activity.begin_request();
            activity.enter(Phase::Write);
            activity.sent(1 << 20).expect("no limit passed");
            activity.enter(Phase::Idle);
            let mut left = 1_usize << 20;
            for _ in 0..2000 {
                twin.set_unacknowledged(left);
                registry.sweep(|| {});
                left = left.saturating_sub(acknowledged);
            }
            assert_eq!(twin.is_expired(), cut, "{acknowledged} a sweep");
            assert_eq!(activity.is_delivering(), cut, "{acknowledged} a sweep");
        }
    }

    #[test]
    fn a_response_that_comes_slowly_is_not_a_slow_client() {
        let registry = registry();
        let (twin, activity, _membership) = member(&registry);
        activity.begin_request();
        // Found writing each time, as a thread that was switched on its way into the call is; all was acknowledged.
        for _ in 0..500 {
            activity.enter(Phase::Write);
            registry.sweep(|| {});
            activity.sent(1).expect("no limit passed");
        }
        assert!(!twin.is_expired());
    }

    #[test]
    fn the_time_of_a_handler_is_not_counted() {
        let registry = registry();
        let (twin, activity, _membership) = member(&registry);
        for phase in [Phase::Handler, Phase::Standing, Phase::Upgraded] {
            activity.enter(phase);
            (0..1000).for_each(|_| registry.sweep(|| {}));
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
            (Phase::New, true, false),
            (Phase::Idle, true, true),
            (Phase::Head, true, false),
            (Phase::Standing, true, true),
            (Phase::Upgraded, true, true),
            (Phase::Handler, false, false),
            (Phase::Body, false, false),
            (Phase::Write, false, false),
            (Phase::Linger, false, false),
        ];
        let members = table.map(|_| member(&registry));
        members.iter().zip(table).for_each(|((_, activity, _), (phase, ..))| activity.enter(phase));
        registry.expire_idle();
        for ((twin, activity, _), (phase, _, at_once)) in members.iter().zip(table) {
            assert_eq!(twin.is_expired(), at_once, "{phase:?}");
            assert!(activity.is_draining(), "{phase:?}");
        }
        registry.expire_waiting();
        for ((twin, ..), (phase, expires, _)) in members.iter().zip(table) {
            assert_eq!(twin.is_expired(), expires, "{phase:?}");
        }
    }

    #[test]
    fn a_drain_ends_lingering_closes_at_its_second_look_and_nothing_else() {
        let registry = registry();
        let members = Phase::ALL.map(|phase| (phase, member(&registry)));
        members.iter().for_each(|(phase, (_, activity, _))| activity.enter(*phase));
        let (farewell, left_http, _membership) = member(&registry);
        left_http.set_left_http(true);
        left_http.enter(Phase::Linger);
        registry.hasten();
        assert!(members.iter().all(|(_, (twin, ..))| !twin.is_expired()), "it may have begun just now");
        registry.hasten();
        for (phase, (twin, ..)) in &members {
            assert_eq!(twin.is_expired(), *phase == Phase::Linger, "{phase:?}");
        }
        assert!(!farewell.is_expired(), "another protocol says farewell in its own time");
    }

    #[test]
    fn who_is_overdue_is_woken_in_batches_and_spared_if_it_has_gone_on_meanwhile() {
        let registry = registry();
        let members: Vec<_> = (0..3 * EXPIRED_AT_ONCE).map(|_| member(&registry)).collect();
        let expired = || members.iter().filter(|(twin, ..)| twin.is_expired()).count();
        let batches = RefCell::new(Vec::new());
        let (_, last, _) = members.last().expect("there are some");
        while expired() == 0 {
            registry.sweep(|| {
                batches.borrow_mut().push(expired());
                last.enter(Phase::Head);
            });
        }
        assert_eq!(*batches.borrow(), [EXPIRED_AT_ONCE, 2 * EXPIRED_AT_ONCE]);
        assert_eq!(expired(), members.len() - 1);
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
