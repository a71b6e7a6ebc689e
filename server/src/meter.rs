//! What is counted and timed of one connection, where somebody wants to know.
//!
//! A connection has a meter only if the server has hooks or metrics: without one, a step on its way costs a look at a
//! null pointer. With hooks alone no clock is read but at the two ends of the connection.
//!
//! ```text
//!  accepted      first bytes                      handler returns          sent or held
//!     │ ── queue ──│── idle ──│── parse ── (head) ──│── handler ── (body) ──│── respond ── (write) ──│ idle ...
//!                             └──────────────────────── request ───────────────────────────────────┘
//! ```
//! Each moment of a request belongs to exactly one step, so the steps add up to the whole. What is in brackets is
//! waiting for the client; a write can interrupt a handler and comes back to it.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::hooks::{Cause, Closed, Fault, FaultKind, Hooks};
use crate::message::{Method, Status};
use crate::metrics::{Reason, Recorder, Step};
use crate::timeout::Phase;

/// The meter of one connection.
pub(crate) struct Meter {
    peer: Cell<SocketAddr>,
    /// `on_open` has let the client in.
    is_open: Cell<bool>,
    /// Why it is not served, if it never is.
    reason: Cell<Reason>,
    /// The connection is over: what an upgrade has left with other threads may still use this.
    is_over: Cell<bool>,
    accepted: Instant,
    hooks: Hooks,
    requests: Cell<u64>,
    received: Cell<u64>,
    sent: Cell<u64>,
    /// The last thing that failed.
    fault: Cell<Option<FaultKind>>,
    times: Option<Times>,
}

/// Where the time of a connection goes.
struct Times {
    recorder: Recorder,
    /// What the connection does since `since`.
    step: Cell<Step>,
    since: Cell<Instant>,
    /// When the current request began.
    request: Cell<Instant>,
    spent: RefCell<[Duration; Step::COUNT]>,
    /// The pattern of the route that answers the current request.
    route: Cell<Option<&'static str>>,
    /// The handler has returned: what looks like a handler's time is that of the response.
    answered: Cell<bool>,
    first_byte: Cell<bool>,
}

impl Meter {
    /// A connection that was accepted then and has its thread now.
    pub(crate) fn new(
        peer: SocketAddr,
        accepted: Instant,
        hooks: Hooks,
        recorder: Option<Recorder>,
    ) -> Meter {
        let times = recorder.map(|recorder| {
            let now = Instant::now();
            recorder.queued(now - accepted);
            Times {
                recorder,
                step: Cell::new(Step::Idle),
                since: Cell::new(now),
                request: Cell::new(now),
                spent: RefCell::default(),
                route: Cell::new(None),
                answered: Cell::new(false),
                first_byte: Cell::new(false),
            }
        });
        Meter {
            peer: Cell::new(peer),
            is_open: Cell::new(false),
            // Nothing else comes before the hook.
            reason: Cell::new(Reason::Proxy),
            is_over: Cell::new(false),
            accepted,
            hooks,
            requests: Cell::new(0),
            received: Cell::new(0),
            sent: Cell::new(0),
            fault: Cell::new(None),
            times,
        }
    }

    /// Asks whether a client may come in. From now on this is whose connection it is.
    pub(crate) fn opens(&self, client: SocketAddr) -> bool {
        self.peer.set(client);
        self.reason.set(Reason::Hook);
        self.is_open.set(self.hooks.opened(client));
        self.is_open.get()
    }

    /// The client is turned away before it was asked whether it may come in.
    pub(crate) fn refuses(&self, reason: Reason) {
        self.reason.set(reason);
    }

    /// The first bytes of a request are there.
    pub(crate) fn begins(&self) {
        if let Some(times) = &self.times {
            let now = times.turn_to(Step::Parse);
            times.request.set(now);
            times.answered.set(false);
            times.route.set(None);
            *times.spent.borrow_mut() = Default::default();
            if !times.first_byte.replace(true) {
                times.recorder.first_byte(now - self.accepted);
            }
        }
    }

    /// The connection goes from one phase to another.
    pub(crate) fn enters(&self, before: Phase, phase: Phase) {
        if let Some(times) = &self.times
            && !self.is_over.get()
        {
            times.recorder.moved(before, phase);
            times.turn_to(Step::of(phase, times.answered.get()));
        }
    }

    /// A router has found the route for the request.
    pub(crate) fn routes(&self, route: &'static str) {
        if let Some(times) = &self.times {
            times.route.set(Some(route));
        }
    }

    /// There is a response. `method` is `None` where there was no request to speak of.
    pub(crate) fn answers(&self, method: Option<Method<'_>>, status: Status) {
        self.counts(method, status);
        self.responds(method);
    }

    /// Counts a response. One that is written while it is sent is counted when that has ended: until then another may take its place.
    pub(crate) fn counts(&self, method: Option<Method<'_>>, status: Status) {
        self.requests.set(self.requests.get() + 1);
        if let Some(times) = &self.times {
            times.recorder.answered(method, status);
        }
    }

    /// The handler has returned, and the time is that of the response. `handled` is what it was asked for; `None` where there was no
    /// request to speak of, or the handler's time is not the connection's.
    pub(crate) fn responds(&self, handled: Option<Method<'_>>) {
        if let Some(times) = &self.times {
            times.answered.set(true);
            times.turn_to(Step::Respond);
            if let Some(method) = handled {
                let time = times.spent.borrow()[Step::Handler as usize];
                times.recorder.handled(method, times.route.get(), time);
            }
        }
    }

    /// The response was sent, or as much of it as can be; or it is held for the next one.
    pub(crate) fn ends(&self) {
        if let Some(times) = &self.times {
            let now = times.turn_to(Step::Idle);
            if !times.answered.get() {
                // Some bytes, and then an end or nothing more: that is no request.
                return;
            }
            times.recorder.served(&times.spent.borrow(), now - times.request.get());
        }
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
        if let Some(times) = &self.times {
            times.recorder.received(bytes);
        }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
        if let Some(times) = &self.times {
            times.recorder.sent(bytes);
        }
    }

    /// Something failed in this phase.
    pub(crate) fn fails(&self, phase: Phase, kind: FaultKind, detail: &dyn fmt::Display) {
        self.fault.set(Some(kind));
        if let Some(times) = &self.times {
            times.recorder.failed(kind);
        }
        self.hooks.failed(&Fault { peer: self.peer.get(), phase, kind, detail });
    }

    /// The connection is over. `cause` counts where nothing failed.
    pub(crate) fn closes(&self, phase: Phase, cause: Cause) {
        self.is_over.set(true);
        if !self.is_open.get() {
            if let Some(times) = &self.times {
                times.recorder.refused(phase, self.reason.get());
            }
            return;
        }
        let cause = match (cause, self.fault.get()) {
            (Cause::Killed, _) | (_, None) => cause,
            // A 500 of a panic, and the like, does not end a connection.
            (_, Some(FaultKind::Panicked | FaultKind::Faulty)) => cause,
            (_, Some(kind)) => Cause::Fault(kind),
        };
        let duration = self.accepted.elapsed();
        self.hooks.closed(&Closed {
            peer: self.peer.get(),
            requests: self.requests.get(),
            received_bytes: self.received.get(),
            sent_bytes: self.sent.get(),
            duration,
            cause,
        });
        if let Some(times) = &self.times {
            times.recorder.closed(phase, cause, duration);
        }
    }
}

impl Times {
    /// Ends the current step, and begins another. Returns the time.
    fn turn_to(&self, step: Step) -> Instant {
        let now = Instant::now();
        let before = self.step.replace(step);
        self.spent.borrow_mut()[before as usize] += now - self.since.replace(now);
        now
    }
}
