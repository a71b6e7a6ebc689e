#![forbid(unsafe_code)]
//! The tick: an OS thread that says when a time slice is over, and sleeps for good when nobody works.
//!
//! It sets a flag per capability that every runtime call and every loop head tests. After [`LINGER`] in which all
//! capabilities slept it stops; a capability that wakes up tests one word and starts it again.

use super::runtime::Inner;
use super::watch::Watch;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long after the last work the tick goes on.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Tick {
    stopped: AtomicBool,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Tick {
    /// A capability goes busy. One load; more only if the tick had stopped.
    #[inline]
    pub(super) fn start(&self) {
        // SeqCst, as the capability's flag before it: of this look and the tick's last look at the flags, one sees
        // the other's store.
        if self.stopped.load(Ordering::SeqCst) {
            self.restart();
        }
    }

    #[cold]
    fn restart(&self) {
        let _ended = self.ended.lock().expect("tick: a holder of the lock panicked");
        self.stopped.store(false, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// Ends the tick's OS thread.
    pub(super) fn end(&self) {
        *self.ended.lock().expect("tick: a holder of the lock panicked") = true;
        self.changed.notify_one();
    }

    /// The tick's OS thread.
    pub(super) fn run(runtime: &Arc<Inner>) {
        let this = runtime.tick();
        let slice = runtime.settings().time_slice;
        let linger = u32::try_from(LINGER.as_nanos() / slice.as_nanos().max(1)).unwrap_or(u32::MAX).max(1);
        let mut watch = Watch::new(runtime);
        let mut quiet_slices = 0;
        let mut ended = this.ended.lock().expect("tick: a holder of the lock panicked");
        while !*ended {
            ended = if this.stopped.load(Ordering::SeqCst) {
                this.changed.wait(ended).expect("tick: a holder of the lock panicked")
            } else {
                let (ended, _) =
                    this.changed.wait_timeout(ended, slice).expect("tick: a holder of the lock panicked");
                let mut busy = false;
                for remote in runtime.remotes() {
                    if !remote.sleep().looks_asleep() {
                        busy = true;
                        remote.end_slice();
                        if remote.stealable() > 0 {
                            runtime.wake_a_sleeper();
                        }
                    }
                }
                watch.look(runtime);
                quiet_slices = if busy { 0 } else { quiet_slices + 1 };
                if quiet_slices >= linger {
                    quiet_slices = 0;
                    this.stopped.store(true, Ordering::SeqCst);
                    // Somebody may have gone busy since the look above and not have seen the store.
                    if runtime.remotes().iter().any(|remote| !remote.sleep().looks_asleep()) {
                        this.stopped.store(false, Ordering::SeqCst);
                    }
                }
                ended
            };
        }
    }
}
