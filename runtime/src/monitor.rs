#![forbid(unsafe_code)]
//! Looking at threads: read-only, without stopping anybody.
//!
//! The list is a walk over the table of control blocks. Every thread that lives during the whole walk is in it once;
//! those that come or go meanwhile may be. Fields are read one by one: of a thread that runs on, the state and what
//! it is blocked on may be from two moments.

use crate::scheduler::{Inner, current};
use crate::sys::clock;
use crate::thread::block::BlockedOn;
use crate::thread::control::Reference;
use crate::thread::notice::Home;
use crate::thread::token;
use crate::thread::{Control, ThreadId};
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
}

/// The threads of the caller's runtime, by a walk that stops nobody. At 100,000 threads it takes some ten
/// milliseconds of the caller's time.
///
/// # Panics
/// Outside a runtime; see [`Handle::threads`](crate::Handle::threads).
pub fn threads() -> Vec<ThreadInfo> {
    let capability = current::get().expect("bast::threads outside a runtime");
    threads_of(capability.runtime())
}

pub(crate) fn threads_of(runtime: &Inner) -> Vec<ThreadInfo> {
    let now_ns = clock::monotonic_coarse_ns();
    runtime.controls().filter_map(|control| look(runtime, control, now_ns)).collect()
}

fn look(runtime: &Inner, control: &'static Control, now_ns: u64) -> Option<ThreadInfo> {
    // With a reference the block stays that of this thread.
    let reference = Reference::try_new(control)?;
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
    Some(ThreadInfo {
        id: control.id()?,
        label: reference.label().map(ToString::to_string),
        state,
        blocked_on: if state == State::Blocked { control.blocked_on() } else { None },
        capability: runtime.index_of(slot)?,
        age: Duration::from_nanos(now_ns.saturating_sub(control.spawned_ns())),
    })
}
