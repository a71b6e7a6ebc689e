//! Forks: a child of fork(2) has the OS thread that forked and no other, so a runtime is dead there.
//!
//! What runs in the child right after the fork must be async-signal-safe (fork(2)): here a store and a hook that must
//! keep to that too.

use std::sync::Once;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static FORKED: AtomicBool = AtomicBool::new(false);
static IN_CHILD: OnceLock<fn()> = OnceLock::new();

/// Calls `in_child` in each forked child of this process, before fork(2) returns there. The first call of a process
/// counts, later ones do nothing.
pub(crate) fn watch(in_child: fn()) {
    static WATCHED: Once = Once::new();
    IN_CHILD.get_or_init(|| in_child);
    WATCHED.call_once(|| {
        // SAFETY: the function stays, and is async-signal-safe. The one failure is a lack of memory: forks go unnoticed.
        unsafe { libc::pthread_atfork(None, None, Some(on_fork)) };
    });
}

extern "C" fn on_fork() {
    FORKED.store(true, Ordering::Relaxed);
    if let Some(in_child) = IN_CHILD.get() {
        in_child();
    }
}

/// Whether this process is a forked child of one that had a runtime.
pub(crate) fn is_child() -> bool {
    FORKED.load(Ordering::Relaxed)
}
