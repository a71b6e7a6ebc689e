#![forbid(unsafe_code)]
//! Children that were dropped before they were waited for. Nobody watches them: whoever has to do with processes next
//! reaps those that have ended.

use std::process::Child;
use std::sync::{Mutex, PoisonError};

static ORPHANS: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Reaps what has ended.
pub(super) fn reap() {
    let mut orphans = ORPHANS.lock().unwrap_or_else(PoisonError::into_inner);
    // An error (somebody else has reaped it) is an end as well.
    orphans.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

/// Takes over a child.
pub(super) fn adopt(child: Child) {
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    reap();
}
