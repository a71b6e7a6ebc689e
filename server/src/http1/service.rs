//! What all connections of a server share: its handler, its limits, and whether it is shutting down.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::handler::Handler;
use crate::limits::Limits;
use crate::settings::Settings;
use crate::timeout::{Patience, ServerId};

/// What all connections of a server share.
pub(crate) struct Service {
    pub(crate) id: ServerId,
    pub(crate) handler: Box<dyn Handler>,
    pub(crate) limits: Limits,
    /// How long a handler may take, if that is limited.
    pub(crate) handler_limit: Option<Duration>,
    /// How many pipelined requests of a connection are handled at a time.
    pub(crate) parallel: usize,
    /// What a thread is given that runs a handler; `None` is the runtime's.
    pub(crate) stack_bytes: Option<usize>,
    /// The `Server` line, or nothing.
    pub(crate) server_line: Box<[u8]>,
    /// The server is shutting down: answer what was received, and close.
    pub(crate) draining: AtomicBool,
    /// While it does: who has connected and sent no request yet may still do so. See Note [patience] in `shutdown.rs`.
    pub(crate) patient: AtomicBool,
    /// Seconds since 1970, coarsely: for `Date`.
    pub(crate) unix_seconds: fn() -> u64,
}

impl Service {
    /// What connections share that `handler` answers.
    pub(crate) fn new(handler: Box<dyn Handler>, settings: &Settings) -> Service {
        Service {
            id: ServerId::next(),
            handler,
            limits: settings.limits.clone(),
            handler_limit: settings.time_limits.handler,
            parallel: settings.pipelined_requests_parallel.map_or(1, NonZeroUsize::get),
            stack_bytes: settings.stack_bytes,
            server_line: settings.server_line(),
            draining: AtomicBool::new(false),
            patient: AtomicBool::new(false),
            unix_seconds: bast::time::coarse_unix_seconds,
        }
    }

    /// May pipelined requests be handled at the same time?
    #[inline]
    pub(crate) fn is_parallel(&self) -> bool {
        self.parallel > 1
    }

    /// Begins to drain.
    pub(crate) fn drain(&self, patience: Patience) {
        self.patient.store(patience == Patience::WithTheNew, Ordering::SeqCst);
        self.draining.store(true, Ordering::SeqCst);
    }

    /// From now on nobody's first request is waited for.
    pub(crate) fn lose_patience(&self) {
        self.patient.store(false, Ordering::SeqCst);
    }

    /// No further request is waited for.
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        // Relaxed: the flag carries no data. A connection that misses it is expired by its capability's registry.
        self.draining.load(Ordering::Relaxed)
    }

    /// A request that has not come whole by now is not waited for. Acquire: `patient` is set before `draining`.
    pub(crate) fn is_in_haste(&self) -> bool {
        self.draining.load(Ordering::Acquire) && !self.patient.load(Ordering::Relaxed)
    }
}
