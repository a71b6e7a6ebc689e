#![forbid(unsafe_code)]
//! Whether anything can still happen: asked by a capability that is about to sleep without a limit, and by the OS thread
//! that begins to wait in `run`.
//!
//! Nothing can if all capabilities sleep like that; every thread of the runtime waits for another thread; and no OS
//! thread is left that could wake one. The OS threads that are known not to are the capabilities, the tick, and those
//! that wait for threads themselves, as the caller of `run` does. Any further one in the process might hold the other end
//! of a channel, so they are counted; what they do is not known.
//!
//! # No false report
//! The table is looked through while, for all we know, the others run. But whatever changes a thread's state is done by
//! a running thread, or by an io manager or a timer, and no thread waits for those; so if no thread ran between the
//! beginning and the end (no capability counted a switch, and all still sleep), all that was seen held at once.
//!
//! # Cost
//! Servers go idle often, and always have a thread that waits for something outside. The one that was met last is looked
//! at first: as long as it waits, a look is a few loads. A program with OS threads of its own pays a system call per look.

use super::runtime::Inner;
use super::{Remote, current};
use crate::deadlock;
use crate::sys::process;
use crate::thread::block::BlockedOn;
use crate::thread::notice::Home;
use crate::thread::table;
use crate::thread::token::State;
use crate::thread::{Control, Token};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Fields: for whoever looks, one at a time.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// The thread that was last seen to wait for something outside; 0 is none.
    witness: AtomicU32,
    /// The switches at the last report: what they had led to was reported.
    reported: AtomicU64,
    looking: Mutex<()>,
}

/// What a thread's state says.
enum Seen {
    /// No thread of this runtime's concern.
    Nobody,
    /// It waits for another thread.
    Waits,
    /// It waits for something outside.
    WaitsOutside,
    /// It will run.
    Runs,
}

impl Inner {
    /// Looks whether anything can still happen, and reports if not. The caller has announced its sleep, or is parked.
    pub(super) fn look_whether_quiet(&self) {
        let quiet = self.quiet();
        if !self.all_sleep() || self.has_witness() {
            return;
        }
        let _looking = quiet.looking.lock().expect("quiet: a holder of the lock panicked");
        if self.is_quiet() {
            let waiting = table::all().filter(|control| matches!(self.see(control), Seen::Waits));
            deadlock::report_quiescence(waiting);
        }
    }

    fn all_sleep(&self) -> bool {
        self.remotes().iter().all(|remote| remote.sleeps_boundlessly() && !remote.has_work())
    }

    /// Whether the thread that waited for something outside at the last look still does.
    fn has_witness(&self) -> bool {
        let witness = table::control(self.quiet().witness.load(Ordering::Relaxed));
        witness.is_some_and(|control| matches!(self.see(control), Seen::WaitsOutside))
    }

    fn is_quiet(&self) -> bool {
        let own = self.remotes().len() + 1;
        let waiting = current::os_threads_waiting();
        // Without an OS thread that waits nobody is kept from going on.
        if waiting == 0 || process::os_threads() != Some(own + waiting) {
            return false;
        }
        let switches = self.switches();
        if self.quiet().reported.load(Ordering::Relaxed) == switches {
            return false;
        }
        fence(Ordering::SeqCst);
        let (mut green_threads, mut os_threads) = (0, 0);
        for control in table::all() {
            match self.see(control) {
                Seen::Nobody => {}
                Seen::Waits if control.home() == Home::OsThread => os_threads += 1,
                Seen::Waits => green_threads += 1,
                Seen::WaitsOutside => {
                    self.quiet().witness.store(control.index(), Ordering::Relaxed);
                    return false;
                }
                Seen::Runs => return false,
            }
        }
        fence(Ordering::SeqCst);
        let is_quiet =
            green_threads > 0 && os_threads == waiting && self.switches() == switches && self.all_sleep();
        if is_quiet {
            self.quiet().reported.store(switches, Ordering::Relaxed);
        }
        is_quiet
    }

    /// One more than the number of times that threads ran.
    fn switches(&self) -> u64 {
        1 + self.remotes().iter().map(|remote| remote.counters().switches.get()).sum::<u64>()
    }

    fn see(&self, control: &'static Control) -> Seen {
        let home = control.home();
        if let Home::Capability(slot) = home
            && self.index_of(slot).is_none()
        {
            return Seen::Nobody;
        }
        let Some(park): Option<Token> = control.word().parked_token() else {
            return match control.state() {
                State::Free | State::Finished => Seen::Nobody,
                // What it does is not known: it is counted where OS threads are.
                _ if home == Home::OsThread => Seen::Nobody,
                _ => Seen::Runs,
            };
        };
        let for_a_thread = control.blocked_on().is_some_and(BlockedOn::is_for_a_thread);
        let has_deadline = control.deadline_ns().load(Ordering::Relaxed) != 0;
        if control.word().parked_token() != Some(park) {
            Seen::Runs
        } else if for_a_thread && !has_deadline {
            Seen::Waits
        } else {
            Seen::WaitsOutside
        }
    }
}

impl Remote {
    /// The owner sleeps, and nothing of its own will end that.
    fn sleeps_boundlessly(&self) -> bool {
        self.is_boundless() && self.sleep().looks_asleep()
    }
}
