#![forbid(unsafe_code)]
//! What happened when: a log of what the capabilities did, and of what the program says, for the timeline of a trace
//! viewer.
//!
//! ```
//! use bast::{Handle, event_log};
//!
//! let trace = bast::run(|| {
//!     let log = Handle::current().start_event_log(100_000)?;
//!     let thread = bast::Builder::new().name("worker").spawn(|| {
//!         let _span = event_log::span("polish");
//!         event_log::event("half way");
//!         bast::yield_now();
//!     })?;
//!     thread.join().unwrap();
//!     let mut trace = Vec::new(); // or a file
//!     log.write_chrome(&mut trace)?;
//!     Ok::<_, std::io::Error>(trace)
//! })?;
//! assert!(String::from_utf8(trace).unwrap().contains("half way"));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The file opens in <https://ui.perfetto.dev> and `chrome://tracing`: a track per capability with a slice for each
//! time that a thread ran (what ended it is in its arguments), marks for wakes, steals, io, kills and overrun slices,
//! an arrow from each wake to the run that it led to, and the spans of each thread.
//!
//! Each capability writes a ring of its own, without locks; when it is full the oldest events go, and are counted.
//! Recording costs some ten nanoseconds an event. While no log is on, an event costs a load and a branch.

mod chrome;
pub(crate) mod ring;

use crate::scheduler::{Inner, current};
use crate::thread::control::Reference;
use ring::{Kind, Ring, Stamps};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::sync::Arc;

/// Fewer events than this tell nothing; more than this are some gigabytes of trace.
const EVENTS_MIN: usize = 1 << 8;
const EVENTS_MAX: usize = 1 << 24;

/// A log that is on until it is stopped or dropped; see [`Handle::start_event_log`](crate::Handle::start_event_log).
pub struct EventLog {
    runtime: Arc<Inner>,
    rings: Vec<Arc<Ring>>,
    stamps: Stamps,
}

impl EventLog {
    pub(crate) fn start(runtime: &Arc<Inner>, events: usize) -> io::Result<EventLog> {
        if runtime.is_stopping() {
            return Err(io::Error::other("an event log of a runtime that has ended"));
        }
        let stamps = Stamps::start();
        let capacity = events.clamp(EVENTS_MIN, EVENTS_MAX);
        let rings = runtime.remotes().iter().map(|_| Arc::new(Ring::new(stamps, capacity))).collect();
        let log = EventLog { runtime: Arc::clone(runtime), rings, stamps };
        for (remote, ring) in runtime.remotes().iter().zip(&log.rings) {
            // Dropping the log closes what it has opened.
            if !remote.log().open(Arc::clone(ring)) {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "an event log of this runtime is on already",
                ));
            }
        }
        Ok(log)
    }

    /// Stops recording. What was recorded stays, to be written.
    pub fn stop(&self) {
        for (remote, ring) in self.runtime.remotes().iter().zip(&self.rings) {
            remote.log().close(ring);
        }
    }

    /// How many events were overwritten by newer ones so far.
    pub fn lost(&self) -> u64 {
        self.copy().iter().map(|copied| copied.lost).sum()
    }

    fn copy(&self) -> Vec<ring::Copied> {
        let copy = || self.rings.iter().map(|ring| ring.copy()).collect();
        match current::get() {
            // It takes memory under locks that the capability's other threads take too.
            Some(capability) => capability.no_park(copy),
            None => copy(),
        }
    }

    /// Writes what is recorded as a trace in the JSON format that Perfetto and Chrome open. Buffer `out` if it is a
    /// file. It may be called while the log is on: then events may be missing that are younger than the call.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_chrome(&self, out: &mut impl Write) -> io::Result<()> {
        let tracks = self.copy();
        let mut names: HashMap<u64, String> = HashMap::new();
        for control in self.runtime.controls() {
            let Some(reference) = Reference::try_new(control) else { continue };
            if let (Some(id), Some(label)) = (control.id(), reference.label()) {
                names.insert(id.get(), label.to_string());
            }
        }
        names.extend(tracks.iter().flat_map(|track| track.names.iter().cloned()));
        let clock = chrome::Clock { ns_per_tick: self.stamps.ns_per_tick(), end: self.stamps.now() };
        chrome::write(out, &tracks, &names, clock)
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog").field("rings", &self.rings).finish_non_exhaustive()
    }
}

/// Whether events of the caller's capability are recorded: to save making a text that nobody reads.
#[inline]
pub fn is_on() -> bool {
    current::get().is_some_and(|capability| capability.remote().log().is_on())
}

/// Marks this moment on the caller's track. Nothing happens while no log is on, and on plain OS threads.
///
/// No interruptible point.
#[inline]
pub fn event(text: impl Into<Cow<'static, str>>) {
    if is_on() {
        record(Kind::User, text.into());
    }
}

/// Marks the time from now until the guard is dropped, as a slice on a track of the calling thread. The thread may park
/// meanwhile. Nothing happens while no log is on, and on plain OS threads.
///
/// No interruptible point.
#[inline]
pub fn span(text: impl Into<Cow<'static, str>>) -> Span {
    let is_on = is_on();
    if is_on {
        record(Kind::SpanBegin, text.into());
    }
    Span { is_on, not_send: PhantomData }
}

#[cold]
fn record(kind: Kind, text: Cow<'static, str>) {
    if let Some(capability) = current::get() {
        capability.say(kind, text);
    }
}

/// A span that is dropped ends; see [`span`].
#[derive(Debug)]
#[must_use = "a span that is dropped at once has no length"]
pub struct Span {
    is_on: bool,
    /// It is the thread's that began it.
    not_send: PhantomData<*const ()>,
}

impl Drop for Span {
    fn drop(&mut self) {
        if self.is_on
            && let Some((capability, control)) = current::thread()
        {
            capability.trace(Kind::SpanEnd, control, 0);
        }
    }
}
