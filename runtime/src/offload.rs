#![forbid(unsafe_code)]
//! Off-loading: what blocks an OS thread is done by one of the pool, and only the green thread waits.
//!
//! ```text
//!   Queued ──begin──▶ Running ──finish──▶ Done ──the waiter takes it──▶ Over
//!     │                  │
//!     └─ withdrawn: the waiter drops the closure      └─ abandoned ─▶ Over: the pool drops the result
//! ```
//! The job, with its closure and its result, is shared by the waiter and the pool, and holds nothing of the waiter's
//! frame but the token of its park. So a waiter that is killed can leave at once, whatever the job is doing. What is
//! dropped, is dropped outside of the lock.

use crate::critical::{self, Locked};
use crate::pool::{Job, OffloadStats, Pool, Refused};
use crate::scheduler::{current, park};
use crate::thread::block::BlockedOn;
use crate::thread::{Token, Woken};
use crate::time::deadline_after;
use std::any::Any;
use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Runs `f` on an OS thread of the runtime's off-load pool, and parks only the calling green thread until it has
/// returned: for calls that block the OS thread and know nothing of green threads (a database driver, a C library, a
/// long computation).
///
/// On a plain OS thread, one of the pool included, `f` is called in place.
///
/// ```
/// use std::time::Duration;
///
/// bast::run(|| {
///     let slow = bast::spawn(|| bast::offload(|| {
///         std::thread::sleep(Duration::from_millis(20)); // blocks an OS thread of the pool, and no core
///         42
///     }));
///     bast::sleep(Duration::from_millis(1)); // others run meanwhile
///     assert_eq!(slow.join().unwrap(), 42);
/// });
/// ```
///
/// # The pool
/// First come, first served; as many OS threads as are needed, up to
/// [`RuntimeBuilder::offload_threads`](crate::RuntimeBuilder::offload_threads), beyond which jobs queue. A job that
/// waits for an object of this crate (a channel, a lock, a socket, the end of a thread) does not count while it waits,
/// so that jobs may wait for green threads that off-load themselves. One that blocks in the kernel does. How busy the pool is,
/// is told by [`offload_stats`]; a job that had to wait for more than a second is a warning in the log.
///
/// # Cancellation
/// An interruptible point, before anything happens and while it waits. A thread that is killed leaves at once: if `f`
/// has not been begun it is dropped and never runs; if it has, it runs to its end (nobody can stop an OS thread), and
/// its result is dropped on the pool's thread. When the runtime ends its threads are killed, so what is queued is
/// dropped then; what runs is waited for, for one second.
///
/// # Panics
/// If `f` panics, with its payload. Inside [`no_park`](crate::no_park). If the pool has no OS thread and the system
/// gives it none.
///
/// The closure runs on a plain OS thread, outside of the runtime: to spawn from there, or to look at threads, take
/// [`Handle::current`](crate::Handle::current) before and move it in. Bast's channels and locks work there as anywhere.
pub fn offload<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match attempt(None, f) {
        Ok(done) => done.expect("a wait without a deadline is not cut short"),
        Err(error) => panic!("bast::offload: {error}"),
    }
}

/// As [`offload`], for `limit` at the most; `None` after that, and then the job is abandoned as by a kill. On a plain
/// OS thread there is no limit.
///
/// # Panics
/// As [`offload`].
pub fn offload_timeout<F, T>(limit: Duration, f: F) -> Option<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match attempt(Some(deadline_after(limit)), f) {
        Ok(done) => done,
        Err(error) => panic!("bast::offload_timeout: {error}"),
    }
}

/// How busy the off-load pool of the caller's runtime is.
///
/// # Panics
/// Outside a runtime; see [`Handle::offload_stats`](crate::Handle::offload_stats).
pub fn offload_stats() -> OffloadStats {
    current::get()
        .expect("bast::offload_stats outside a runtime: use Handle::offload_stats")
        .runtime()
        .pool()
        .stats()
}

/// What [`offload`] does, with a deadline on the monotonic clock; `None` if it passed.
///
/// # Errors
/// The job was refused: the pool cannot start an OS thread, or the runtime is over.
pub(crate) fn attempt<F, T>(deadline_ns: Option<u64>, f: F) -> io::Result<Option<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let Some((capability, _)) = current::thread() else {
        assert!(current::get().is_none(), "{}", park::ON_SCHEDULER);
        return Ok(Some(f()));
    };
    attempt_on(capability.runtime().pool(), BlockedOn::Offload, deadline_ns, f)
}

/// The same on a pool of the caller's choice, by OS threads, too.
pub(crate) fn attempt_on<F, T>(
    pool: &Arc<Pool>,
    reason: BlockedOn,
    deadline_ns: Option<u64>,
    f: F,
) -> io::Result<Option<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    park::interruption_point();
    let task = Task { stage: Mutex::new(Stage::New(f)) };
    let mut waiter = Waiter { pool, task: Arc::new(task), ticket: None };
    loop {
        match park::park(reason, deadline_ns, |token| waiter.wait(token)).or_unwind() {
            Woken::Event => return waiter.take().map(Some),
            Woken::Timer => return Ok(None),
            // A kill that may not be delivered, since the thread is unwinding already, is no reason to stop waiting.
            Woken::Interrupt => {}
        }
    }
}

/// A job with everything that belongs to it.
struct Task<F, T> {
    stage: Mutex<Stage<F, T>>,
}

enum Stage<F, T> {
    New(F),
    Queued(F, Token),
    Running(Token),
    Done(Outcome<T>),
    /// With the closure, which is the waiter's to drop.
    Refused(F, Refused),
    /// The waiter has what it wanted, or has gone.
    Over,
}

enum Outcome<T> {
    Returned(T),
    Panicked(Box<dyn Any + Send>),
}

impl<F, T> Task<F, T> {
    fn lock(&self) -> Locked<'_, Stage<F, T>> {
        // Nothing of the user's runs under the lock.
        critical::lock(&self.stage)
    }

    fn replace(&self, stage: Stage<F, T>) -> Stage<F, T> {
        mem::replace(&mut *self.lock(), stage)
    }

    /// Gives the outcome to the waiter; back, if there is none.
    fn finish(&self, outcome: Outcome<T>) -> Option<Outcome<T>> {
        let mut stage = self.lock();
        match *stage {
            Stage::Running(token) => {
                *stage = Stage::Done(outcome);
                drop(stage);
                // If a kill or the deadline has won, the waiter is about to abandon the task.
                park::wake(token);
                None
            }
            Stage::Over => Some(outcome),
            _ => unreachable!("offload: a job is finished by who runs it"),
        }
    }
}

impl<F, T> Job for Task<F, T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn run(&self) {
        let mut stage = self.lock();
        let f = match mem::replace(&mut *stage, Stage::Over) {
            Stage::Queued(f, token) => {
                *stage = Stage::Running(token);
                f
            }
            Stage::Over => return,
            _ => unreachable!("offload: a job is run once, after it was queued"),
        };
        drop(stage);
        let outcome = match panic::catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => Outcome::Returned(value),
            Err(payload) => Outcome::Panicked(payload),
        };
        if let Some(left) = self.finish(outcome) {
            // Nobody is there to be told of a panic in a destructor, and the thread goes on with other jobs.
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(left))) {
                mem::forget(payload);
            }
        }
    }

    fn refuse(&self, why: Refused) {
        let mut stage = self.lock();
        if let Stage::Queued(f, token) = mem::replace(&mut *stage, Stage::Over) {
            *stage = Stage::Refused(f, why);
            drop(stage);
            park::wake(token);
        }
    }
}

/// Who waits for a task. Dropped before it has the outcome, it abandons the task.
struct Waiter<'a, F, T> {
    pool: &'a Arc<Pool>,
    task: Arc<Task<F, T>>,
    /// The place in the pool's queue, once there is one.
    ticket: Option<u64>,
}

impl<F, T> Waiter<'_, F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    /// The commit of a park: leaves the token with the task, and the task with the pool; false if it is done.
    fn wait(&mut self, token: Token) -> bool {
        let mut stage = self.task.lock();
        *stage = match mem::replace(&mut *stage, Stage::Over) {
            Stage::New(f) | Stage::Queued(f, _) => Stage::Queued(f, token),
            Stage::Running(_) => Stage::Running(token),
            done @ (Stage::Done(_) | Stage::Refused(..)) => {
                *stage = done;
                return false;
            }
            Stage::Over => unreachable!("offload: only the waiter ends a task"),
        };
        drop(stage);
        if self.ticket.is_none() {
            self.ticket = Some(self.pool.submit(Arc::clone(&self.task) as Arc<dyn Job>));
        }
        true
    }

    fn take(&mut self) -> io::Result<T> {
        let stage = self.task.replace(Stage::Over);
        self.ticket = None;
        match stage {
            Stage::Done(Outcome::Returned(value)) => Ok(value),
            Stage::Done(Outcome::Panicked(payload)) => park::resume_unwind(payload),
            Stage::Refused(_, why) => Err(why.into()),
            _ => unreachable!("offload: woken by a task that is not done"),
        }
    }
}

impl<F, T> Drop for Waiter<'_, F, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket
            && !self.pool.withdraw(ticket)
        {
            let left = self.task.replace(Stage::Over);
            drop(left);
        }
    }
}
