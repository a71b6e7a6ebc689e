//! How a server fares, in numbers: for Prometheus, or whatever reads its text format.
//!
//! ```no_run
//! use bast_server::{Metrics, Request, Router, Server, Settings};
//!
//! # fn main() -> std::io::Result<()> {
//! let metrics = Metrics::new();
//! let app = Router::new()
//!     .get("/", |_: &mut Request| "hello")
//!     .get("/metrics", metrics.handler()); // where only you can reach it
//! let settings = Settings { metrics: Some(metrics), ..Settings::default() };
//! Server::bind("127.0.0.1:8080")?.settings(settings).serve(app)
//! # }
//! ```
//!
//! | series | type | labels | meaning |
//! |---|---|---|---|
//! | `http_connections` | gauge | `state` | open connections: `queued` (accepted, no thread yet), or what they do ([`Phase`]) |
//! | `http_connections_accepted_total` | counter | | accepted: each is open, refused or closed |
//! | `http_connections_refused_total` | counter | `reason` | turned away before a request was read: `limit` and `client_limit` ([`Limits`](crate::Limits)), `descriptors` and `thread` (for want of one), `hook` (`on_open`), `proxy` (its header) |
//! | `http_connections_closed_total` | counter | `cause` | served and over, by [`Cause`] |
//! | `http_requests_total` | counter | `method`, `status` | answered; `method` is `other` for what is not registered and `none` where no head could be read, `status` a class such as `2xx` |
//! | `http_errors_total` | counter | `kind` | what `on_error` is told, by [`FaultKind`] |
//! | `http_received_bytes_total`, `http_sent_bytes_total` | counter | | on the wire |
//! | `http_request_seconds` | histogram | | from the first bytes of a request until its response is sent, or held for the next; what was never answered is not in it |
//! | `http_request_phase_seconds` | histogram | `phase` | its parts: `parse`, `head` (waiting for the rest of it), `handler`, `body` (waiting for it), `respond` (composing, or producing a stream), `write`; those that are waits only where there was one |
//! | `http_handler_seconds` | histogram | `method`, `route` | the phase `handler` of each request by the [pattern](crate::Request::route) that answered it; `none` where no route fits, or where somebody answered before the router; requests that are handled [at the same time](crate::Settings::pipelined_requests_parallel) have none. Up to 512 pairs for each capability have a series, more are `others` |
//! | `http_connection_queue_seconds` | histogram | | from its acceptance until its thread runs |
//! | `http_connection_first_byte_seconds` | histogram | | from its acceptance until its first request begins |
//! | `http_connection_seconds` | histogram | | from its acceptance to its end |
//! | `bast_…` | | `capability` | the [counters](bast::Counters) of the runtime in which they are asked for |
//!
//! The time of handlers by route, as a page has it:
//! ```text
//! # HELP http_handler_seconds The handlers' own time, by method and route.
//! # TYPE http_handler_seconds histogram
//! http_handler_seconds_bucket{method="GET",route="/users/{id}",le="0.000001"} 0
//! http_handler_seconds_bucket{method="GET",route="/users/{id}",le="0.0000025"} 7
//! ...
//! http_handler_seconds_bucket{method="GET",route="/users/{id}",le="+Inf"} 9
//! http_handler_seconds_sum{method="GET",route="/users/{id}"} 0.000021402
//! http_handler_seconds_count{method="GET",route="/users/{id}"} 9
//! ```
//! No client can make a series: routes are part of the program, and a target is never a label.
//!
//! # Cost
//! Without metrics, a null pointer is looked at where they would count. With them each request reads the clock seven
//! times (some 20 ns each) and adds to cells of its own capability, without locked instructions; they are summed when
//! somebody asks. Numbers of one page can be of moments that lie microseconds apart.
#![forbid(unsafe_code)]

mod histogram;
pub(crate) mod page;
mod routes;

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use histogram::Histogram;
use routes::Routes;

use crate::hooks::{Cause, FaultKind};
use crate::message::{Method, Status};
use crate::timeout::Phase;

/// The numbers of a server, or of several that share it: a clone is the same one. See the [module](self) for what is
/// counted.
#[derive(Clone, Default)]
pub struct Metrics {
    /// Those that have ended stay: a counter does not go back.
    servers: Arc<Mutex<Vec<Arc<ServerCells>>>>,
}

impl Metrics {
    /// Numbers that are all 0, for [`Settings::metrics`](crate::Settings).
    #[must_use]
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// The cells of a server with so many capabilities.
    pub(crate) fn add_server(&self, capabilities: usize) -> Arc<ServerCells> {
        let cells = Arc::new(ServerCells {
            capabilities: (0..capabilities).map(|_| Cells::default()).collect(),
            accepted: AtomicU64::new(0),
            refused: Default::default(),
        });
        // As in `all`.
        bast::no_park(|| self.servers().push(Arc::clone(&cells)));
        cells
    }

    /// The servers so far. Copied without a switch to another thread at the allocation: it might want the lock.
    fn all(&self) -> Vec<Arc<ServerCells>> {
        bast::no_park(|| self.servers().clone())
    }

    /// Never held over anything that waits.
    fn servers(&self) -> MutexGuard<'_, Vec<Arc<ServerCells>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What of one connection is timed apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing of a request: not recorded.
    Idle,
    Parse,
    Head,
    Handler,
    Body,
    Respond,
    Write,
}

impl Step {
    pub(crate) const COUNT: usize = 7;

    /// The steps of a request: their names, and whether they are waits for the client, recorded only where there was one.
    const RECORDED: [(Step, &str, bool); 6] = [
        (Step::Parse, "parse", false),
        (Step::Head, "head", true),
        (Step::Handler, "handler", false),
        (Step::Body, "body", true),
        (Step::Respond, "respond", false),
        (Step::Write, "write", true),
    ];

    /// The step that a phase is, before or after the handler has answered.
    pub(crate) fn of(phase: Phase, answered: bool) -> Step {
        match phase {
            Phase::New | Phase::Idle | Phase::Linger | Phase::Upgraded => Step::Idle,
            Phase::Head => Step::Head,
            Phase::Handler | Phase::Standing if answered => Step::Respond,
            Phase::Handler | Phase::Standing => Step::Handler,
            Phase::Body => Step::Body,
            Phase::Write => Step::Write,
        }
    }
}

/// A number that one capability adds to, and others read: a plain load and a plain store.
#[derive(Debug, Default)]
struct Cell(AtomicU64);

impl Cell {
    /// For the owner only.
    fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// For the owner only.
    fn subtract(&self, count: u64) {
        self.add(count.wrapping_neg());
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The methods that are told apart.
const METHODS: [&str; 11] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other", "none"];

fn method_index(method: Option<Method<'_>>) -> usize {
    let name = match method {
        Some(Method::Other(_)) => "other",
        Some(ref method) => method.as_str(),
        None => "none",
    };
    METHODS.iter().position(|known| *known == name).unwrap_or(METHODS.len() - 1)
}

/// The classes of status codes (RFC 9110 §15), and of those that are in none.
const STATUSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

fn status_index(status: Status) -> usize {
    (usize::from(status.code()) / 100 - 1).min(STATUSES.len() - 1)
}

/// The causes of ends that are told apart.
const CAUSES: [&str; 6] = ["client", "finished", "idle", "drain", "fault", "killed"];

fn cause_index(cause: Cause) -> usize {
    match cause {
        Cause::Client => 0,
        Cause::Finished => 1,
        Cause::Idle => 2,
        Cause::Drain => 3,
        Cause::Fault(_) => 4,
        Cause::Killed => 5,
    }
}

/// Why a connection is turned away before a request of it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// There are as many as there may be.
    Limit,
    /// Its client has as many as it may.
    ClientLimit,
    /// No descriptor was left for it.
    Descriptors,
    /// No thread could be made for it, or none has started by the end of the runtime.
    Thread,
    /// `on_open` said no.
    Hook,
    /// Its PROXY header was not there, malformed, or from a stranger.
    Proxy,
}

/// The reasons, in their order there.
const REASONS: [&str; 6] = ["limit", "client_limit", "descriptors", "thread", "hook", "proxy"];

/// The kinds of failures that are told apart.
const KINDS: [&str; 7] = ["refused", "panicked", "faulty", "broken_off", "write", "proxy", "tls"];

fn kind_index(kind: FaultKind) -> usize {
    match kind {
        FaultKind::Refused(_) => 0,
        FaultKind::Panicked => 1,
        FaultKind::Faulty => 2,
        FaultKind::BrokenOff => 3,
        FaultKind::Write(_) => 4,
        FaultKind::Proxy => 5,
        FaultKind::Tls => 6,
    }
}

/// What one capability counts: nobody else writes it, so it is on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cells {
    states: [Cell; Phase::ALL.len()],
    requests: [[Cell; STATUSES.len()]; METHODS.len()],
    closed: [Cell; CAUSES.len()],
    errors: [Cell; KINDS.len()],
    received_bytes: Cell,
    sent_bytes: Cell,
    steps: [Histogram; Step::RECORDED.len()],
    routes: Routes,
    request: Histogram,
    queue: Histogram,
    first_byte: Histogram,
    connection: Histogram,
}

/// What one server counts.
#[derive(Debug)]
pub(crate) struct ServerCells {
    capabilities: Box<[Cells]>,
    /// These are counted where a connection begins and is turned away, which may be anywhere, and once for each.
    accepted: AtomicU64,
    /// Of those that were accepted.
    refused: [AtomicU64; REASONS.len()],
}

impl ServerCells {
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection that was accepted is turned away.
    pub(crate) fn refused(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection's way to the cells of its capability. It stays on that capability's OS thread.
pub(crate) struct Recorder {
    server: Arc<ServerCells>,
    capability: usize,
    pinned: PhantomData<Rc<()>>,
}

impl Recorder {
    /// For a connection that begins now, in [`Phase::New`], on this capability, which is the caller's.
    pub(crate) fn new(server: Arc<ServerCells>, capability: usize) -> Recorder {
        server.capabilities[capability].states[Phase::New as usize].add(1);
        Recorder { server, capability, pinned: PhantomData }
    }

    fn cells(&self) -> &Cells {
        &self.server.capabilities[self.capability]
    }

    pub(crate) fn queued(&self, time: Duration) {
        self.cells().queue.record(time);
    }

    pub(crate) fn first_byte(&self, time: Duration) {
        self.cells().first_byte.record(time);
    }

    pub(crate) fn moved(&self, before: Phase, phase: Phase) {
        let states = &self.cells().states;
        states[before as usize].subtract(1);
        states[phase as usize].add(1);
    }

    pub(crate) fn answered(&self, method: Option<Method<'_>>, status: Status) {
        self.cells().requests[method_index(method)][status_index(status)].add(1);
    }

    /// The handler has returned, after so long.
    pub(crate) fn handled(&self, method: Method<'_>, route: Option<&'static str>, time: Duration) {
        self.cells().routes.record(method_index(Some(method)), route, time);
    }

    /// A request is over: the time of each step, and of all of it.
    pub(crate) fn served(&self, steps: &[Duration; Step::COUNT], total: Duration) {
        let cells = self.cells();
        for ((step, _, is_wait), histogram) in Step::RECORDED.into_iter().zip(&cells.steps) {
            let time = steps[step as usize];
            if !is_wait || !time.is_zero() {
                histogram.record(time);
            }
        }
        cells.request.record(total);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.cells().received_bytes.add(bytes as u64);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.cells().sent_bytes.add(bytes as u64);
    }

    pub(crate) fn failed(&self, kind: FaultKind) {
        self.cells().errors[kind_index(kind)].add(1);
    }

    /// The connection is over, in this phase.
    pub(crate) fn closed(&self, phase: Phase, cause: Cause, time: Duration) {
        let cells = self.cells();
        cells.states[phase as usize].subtract(1);
        cells.closed[cause_index(cause)].add(1);
        cells.connection.record(time);
    }

    /// The connection is over before it began.
    pub(crate) fn refused(&self, phase: Phase, reason: Reason) {
        self.cells().states[phase as usize].subtract(1);
        self.server.refused(reason);
    }
}
