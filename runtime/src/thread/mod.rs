//! Green threads as data: the control block, its states, its place in the table, and what its owners hold.
//!
//! Nothing here schedules: a transition returns what became possible (a [`Claim`], say) and the scheduler, one
//! layer up, acts on it.

pub(crate) mod block;
pub(crate) mod body;
pub(crate) mod control;
pub(crate) mod exception;
pub(crate) mod extra;
pub(crate) mod label;
pub(crate) mod list;
pub(crate) mod locals;
pub(crate) mod scoped;
pub(crate) mod table;
pub(crate) mod token;

pub(crate) use control::{Claim, Control, Woken};
pub(crate) use token::Token;

use std::fmt;
use std::num::NonZeroU64;

/// A number that names a green thread; unique within the process and never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId(NonZeroU64);

impl ThreadId {
    pub(crate) fn from_raw(raw: u64) -> Option<ThreadId> {
        NonZeroU64::new(raw).map(ThreadId)
    }

    /// The number itself: what logs and the thread list show.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadId({})", self.0)
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
