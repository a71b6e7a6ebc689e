#![forbid(unsafe_code)]
//! Looking at threads: read-only, without stopping anybody.
//!
//! The list is a walk over the table of control blocks. Every thread that lives during the whole walk is in it once;
//! those that come or go meanwhile may be. Fields are read one by one: of a thread that runs on, the state and what
//! it is blocked on may be from two moments.

mod dump;
mod hog;
mod sigquit;

pub use crate::walk::symbols::Frame;
pub use dump::{Dump, Group, ThreadDump, dump};
pub(crate) use dump::{take, take_beside};
pub use hog::Hog;
pub(crate) use hog::{Hook, report};
pub use sigquit::dump_on_sigquit;
pub(crate) use sigquit::watch;

use crate::scheduler::{Inner, current};
use crate::sys::clock;
use crate::thread::ThreadId;
use crate::thread::block::BlockedOn;
use crate::thread::control::Reference;
use crate::thread::notice::Home;
use crate::thread::token;
use std::fmt;
use std::time::Duration;

/// How far a thread has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Spawned; no capability has taken it yet.
    Unstarted,
    /// Waiting for its turn.
    Runnable,
    /// On a core.
    Running,
    /// Waiting for something; [`ThreadInfo::blocked_on`] says for what.
    Blocked,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Unstarted => "unstarted",
            State::Runnable => "runnable",
            State::Running => "running",
            State::Blocked => "blocked",
        })
    }
}

/// What is known of a thread.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ThreadInfo {
    /// Its id.
    pub id: ThreadId,
    /// Its label as text.
    pub label: Option<String>,
    /// How far it has come.
    pub state: State,
    /// What it waits for, if it is blocked.
    pub blocked_on: Option<BlockedOn>,
    /// The index of the capability that it belongs to (or whose nursery it is in).
    pub capability: usize,
    /// How long ago it was spawned, to a few milliseconds.
    pub age: Duration,
    /// How much of the core it has had: the time slices at whose ends it was running. A sample, since nobody reads a
    /// clock on a switch: over many slices it comes near the truth, and a thread that always yields before its slice is
    /// over may have had more, or less, by any part of it. Of a slice in which the capability slept nobody is charged.
    pub cpu_time: Duration,
    /// How often it got the core.
    pub switches: u64,
}

impl fmt::Display for ThreadInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {}", self.id)?;
        if let Some(label) = &self.label {
            write!(f, " \"{label}\"")?;
        }
        match self.blocked_on {
            Some(what) => write!(f, ": blocked on {what}")?,
            None => write!(f, ": {}", self.state)?,
        }
        let (age, cpu) = (self.age.as_secs_f64(), self.cpu_time.as_secs_f64());
        write!(
            f,
            ", capability {}, age {age:.1} s, cpu {cpu:.2} s, switches {}",
            self.capability, self.switches
        )
    }
}

/// The threads of the caller's runtime, by a walk that stops nobody. At 100,000 threads it takes some ten
/// milliseconds of the caller's time.
///
/// # Panics
/// Outside a runtime; see [`Handle::threads`](crate::Handle::threads).
pub fn threads() -> Vec<ThreadInfo> {
    let capability = current::get().expect("bast::threads outside a runtime: use Handle::threads");
    threads_of(capability.runtime())
}

pub(crate) fn threads_of(runtime: &Inner) -> Vec<ThreadInfo> {
    let now_ns = clock::monotonic_coarse_ns();
    // With a reference the block stays that of this thread.
    let references = runtime.controls().filter_map(Reference::try_new);
    references.filter_map(|reference| look(runtime, &reference, now_ns)).collect()
}

fn look(runtime: &Inner, reference: &Reference, now_ns: u64) -> Option<ThreadInfo> {
    let control = reference.control();
    let state = match control.state() {
        token::State::New => State::Unstarted,
        token::State::Runnable => State::Runnable,
        token::State::Running => State::Running,
        token::State::Parked => State::Blocked,
        token::State::ClaimedEvent | token::State::ClaimedTimer | token::State::ClaimedInterrupt => {
            State::Runnable
        }
        token::State::Free | token::State::Finished => return None,
    };
    let Home::Capability(slot) = control.home() else { return None };
    let capability = runtime.index_of(slot)?;
    // What a running thread will be charged when it lets go.
    let held = if state == State::Running { runtime.remotes()[capability].slices_held() } else { 0 };
    Some(ThreadInfo {
        id: control.id()?,
        label: reference.label().map(ToString::to_string),
        state,
        blocked_on: if state == State::Blocked { control.blocked_on() } else { None },
        capability,
        age: Duration::from_nanos(now_ns.saturating_sub(control.spawned_ns())),
        cpu_time: runtime.settings().time_slice.saturating_mul(control.slices().saturating_add(held)),
        switches: control.switches(),
    })
}
