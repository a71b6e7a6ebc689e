#![forbid(unsafe_code)]
//! Children that were dropped before they were waited for. Nobody watches them: whoever has to do with processes next
//! reaps those that have ended.

use crate::critical;
use std::process::Child;
use std::sync::Mutex;

static ORPHANS: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Reaps what has ended.
pub(super) fn reap() {
    let mut orphans = critical::lock(&ORPHANS);
    // An error (somebody else has reaped it) is an end as well.
    orphans.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

/// Takes over a child.
pub(super) fn adopt(child: Child) {
    critical::lock(&ORPHANS).push(child);
    reap();
}
