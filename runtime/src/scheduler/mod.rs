//! The scheduler: capabilities, their loop, and how threads park, wake, start and die.
//!
//! One capability is one OS thread with all that it owns. What others may touch of it is its [`Remote`]; what only
//! it touches is its [`Capability`]. There is one place where threads are resumed (`capability.rs`) and one where
//! they are suspended (`park.rs`); timers, pollers and messages only name the parks that may end.

mod capability;
mod counters;
pub(crate) mod current;
pub(crate) mod describe;
pub(crate) mod exception;
mod inbox;
pub(crate) mod park;
pub(crate) mod preempt;
mod quiet;
mod remote;
mod runtime;
pub(crate) mod sample;
pub(crate) mod segment;
mod sleep;
mod spawn;
mod tick;
mod watch;

/// The atomics that the protocols in `sleep.rs` and `inbox.rs` use. The model test includes those two files with
/// loom's in this place.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
}

/// Likewise what can be in an inbox.
mod linked {
    pub(super) use crate::thread::list::Linked;
}

pub(crate) use capability::Capability;
pub use counters::{Counters, RuntimeCounters};
pub(crate) use park::{park, wake_all};
pub(crate) use remote::{Mail, Remote};
pub(crate) use runtime::{Inner, Settings};
pub(crate) use spawn::{Placement, Spawned, spawn, spawn_local, spawn_local_unchecked, spawn_unchecked};
pub(crate) use watch::{Held, Report, WatchSettings};
