#![forbid(unsafe_code)]
//! The watch over threads that do not let go of their core. Part of the tick: it costs running threads nothing.
//!
//! A capability's loop takes note of each end of a time slice. How many it has not come to is how long the running
//! thread has had the core, to a slice. Above the limit that is reported: once, again when the time has doubled, and
//! so on; at most once a second in all. Who it is and where it stands is found out by the report, on an OS thread of
//! its own, since the tick must go on.

use super::runtime::Inner;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The least time from the end of a report to the next one.
const PAUSE: Duration = Duration::from_secs(1);

/// A capability whose thread does not let go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// The index of the capability.
    pub(crate) capability: usize,
    /// For how long.
    pub(crate) time: Duration,
}

/// What is done about it, on an OS thread of its own.
pub(crate) type Reporter = dyn Fn(&Inner, Held) + Send + Sync;

#[derive(Clone)]
pub(crate) struct Report(pub(crate) Arc<Reporter>);

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}

/// How a runtime is watched.
#[derive(Clone, Debug)]
pub(crate) struct WatchSettings {
    pub(crate) limit: Duration,
    pub(crate) report: Report,
}

/// What the tick and the report share.
#[derive(Clone, Copy, Debug)]
enum Reports {
    /// One may be made from this moment on.
    From(Instant),
    /// One is being made.
    Busy,
}

/// The tick's own memory of the watch.
pub(super) struct Watch {
    settings: Option<WatchSettings>,
    /// Per capability: at which time held the next report is due.
    due: Vec<Duration>,
    reports: Arc<Mutex<Reports>>,
}

impl Watch {
    pub(super) fn new(runtime: &Inner) -> Watch {
        let settings = runtime.settings().watch.clone();
        let first = settings.as_ref().map_or(Duration::MAX, |settings| settings.limit);
        Watch {
            settings,
            due: vec![first; runtime.remotes().len()],
            reports: Arc::new(Mutex::new(Reports::From(Instant::now()))),
        }
    }

    /// At the end of a time slice.
    pub(super) fn look(&mut self, runtime: &Arc<Inner>) {
        let Some(settings) = &self.settings else { return };
        for (capability, remote) in runtime.remotes().iter().enumerate() {
            let slices = if remote.sleep().looks_asleep() { 0 } else { remote.slices_held() };
            let time = runtime.settings().time_slice.saturating_mul(slices);
            if time < settings.limit {
                self.due[capability] = settings.limit;
            } else if time >= self.due[capability] && self.may_report() {
                self.due[capability] = time.saturating_mul(2);
                report(settings.report.clone(), runtime, Held { capability, time }, &self.reports);
            }
        }
    }
}

impl Watch {
    fn may_report(&self) -> bool {
        let reports = *self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(reports, Reports::From(from) if Instant::now() >= from)
    }
}

fn report(report: Report, runtime: &Arc<Inner>, held: Held, reports: &Arc<Mutex<Reports>>) {
    /// The next one may come in a while, however this one ends.
    struct Over(Arc<Mutex<Reports>>);
    impl Drop for Over {
        fn drop(&mut self) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Reports::From(Instant::now() + PAUSE);
        }
    }
    *reports.lock().unwrap_or_else(PoisonError::into_inner) = Reports::Busy;
    let (runtime, over) = (Arc::clone(runtime), Over(Arc::clone(reports)));
    let started = thread::Builder::new().name("bast-watchdog".into()).spawn(move || {
        (report.0)(&runtime, held);
        drop(over);
    });
    if let Err(error) = started {
        log::warn!(
            "bast: a thread has held capability {} for {:?}; who it is cannot be found out: {error}",
            held.capability,
            held.time
        );
    }
}
