#![forbid(unsafe_code)]
//! The off-load pool: OS threads that do what blocks, so that no capability has to.
//!
//! ```text
//!   submit ─▶ queue (by ticket: first come, first served) ─▶ a thread of the pool ─▶ Job::run
//!                │ withdraw: who waited was killed or timed out      │
//!                ▼                                                   └─▶ waits for a Bast object: not counted meanwhile
//!             (nobody runs it)
//! ```
//! Threads are started when a job finds all of them busy, up to the limit, and end after they had nothing to do for a
//! while. The one that became idle last is called first, so that the others can age.
//!
//! **The limit counts threads that are busy.** A job that waits on a channel, a lock or another object of this crate
//! waits for somebody who may need the pool himself: if it counted, a pool full of such jobs would be a deadlock. So it
//! steps aside for as long as it waits ([`while_waiting`]), another thread takes its place, and for a moment after the
//! wait there may be one too many; it is the first to rest.
//!
//! The queue has no limit of its own. Whoever has a job in it waits for it, so there are at most as many jobs as threads
//! that are blocked; what is withdrawn leaves at once.
//!
//! A job is submitted on a scheduler's stack: nothing here may park, log or call the user's code but from a thread of
//! the pool, and never with the lock held.

use crate::critical::{self, Locked};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io;
use std::panic;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// A job that waited longer than this for a thread is worth a line in the log ...
const LONG_WAIT: Duration = Duration::from_secs(1);
/// ... but not more often than this.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// How long the end of a runtime waits for jobs that are being done and that nobody waits for any more.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Something to do. It does not unwind.
pub(crate) trait Job: Send + Sync {
    /// Does it.
    fn run(&self);

    /// Says that it will not be done.
    fn refuse(&self, why: Refused);
}

/// Why a job will not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The runtime is over.
    Ended,
    /// The pool has no thread, and the system gives it none: the error's number, if it has one.
    NoThread(Option<i32>),
}

impl From<Refused> for io::Error {
    fn from(why: Refused) -> io::Error {
        match why {
            Refused::Ended => io::Error::other("the runtime is shutting down: its off-load pool is closed"),
            Refused::NoThread(number) => {
                let error =
                    number.map_or(io::Error::from(io::ErrorKind::OutOfMemory), io::Error::from_raw_os_error);
                io::Error::new(error.kind(), format!("the off-load pool cannot start an OS thread: {error}"))
            }
        }
    }
}

/// What a pool is like, and how large it may get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// What its OS threads are called.
    pub(crate) name: &'static str,
    /// Whether it is worth a line in the log if jobs wait for long.
    pub(crate) is_shared: bool,
    /// Threads that are busy at a time; at least one.
    pub(crate) threads_max: usize,
    /// How long a thread rests before it ends.
    pub(crate) idle: Duration,
}

/// How busy the off-load pool of a runtime is: see [`offload_stats`](crate::offload_stats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffloadStats {
    /// How many jobs may be done at a time ([`RuntimeBuilder::offload_threads`](crate::RuntimeBuilder::offload_threads)).
    pub threads_max: usize,
    /// OS threads that there are, busy or not.
    pub threads: usize,
    /// Jobs that are being done, those included that nobody waits for any more.
    pub running: usize,
    /// Of these, jobs that wait for an object of this crate at the moment; they do not count towards the limit.
    pub waiting: usize,
    /// Jobs that wait for a thread.
    pub queued: usize,
    /// How long the first of these has waited.
    pub longest_wait: Duration,
    /// Jobs that have been done so far.
    pub finished: u64,
    /// Jobs whose thread was killed, or out of time, before they were done: those that were taken out of the queue and
    /// those that were left to run to their end.
    pub abandoned: u64,
}

/// Fields: `limits` never changes; `state` is for everybody, for a few loads and stores at a time.
#[derive(Debug)]
pub(crate) struct Pool {
    limits: Limits,
    state: Mutex<State>,
    /// A thread has ended.
    thread_ended: Condvar,
}

#[derive(Default)]
struct State {
    queue: BTreeMap<u64, Queued>,
    last_ticket: u64,
    /// Threads with nothing to do, the one that rests since last at the end. Whoever takes one out calls it.
    idle: Vec<(u64, Thread)>,
    last_thread: u64,
    threads: usize,
    running: usize,
    waiting: usize,
    finished: u64,
    abandoned: u64,
    ended: bool,
    /// Why the last thread that was wanted could not be started, until somebody who may log has said so.
    not_started: Option<io::Error>,
    warned: Option<Instant>,
}

struct Queued {
    job: Arc<dyn Job>,
    since: Instant,
}

thread_local! {
    /// The pool that this OS thread belongs to.
    static POOL: OnceCell<Arc<Pool>> = const { OnceCell::new() };
}

impl Pool {
    pub(crate) fn new(limits: Limits) -> Arc<Pool> {
        assert!(limits.threads_max > 0, "off-load pool: no threads");
        Arc::new(Pool { limits, state: Mutex::default(), thread_ended: Condvar::new() })
    }

    /// Queues a job. It will be run or refused, unless it is withdrawn by the ticket that is returned.
    pub(crate) fn submit(self: &Arc<Pool>, job: Arc<dyn Job>) -> u64 {
        let mut state = self.lock();
        if state.ended {
            drop(state);
            job.refuse(Refused::Ended);
            return 0;
        }
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        state.queue.insert(ticket, Queued { job, since: Instant::now() });
        self.staff(state);
        ticket
    }

    /// Whether there is nothing to do, and nothing being done.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.lock();
        state.running == 0 && state.queue.is_empty()
    }

    /// Takes a job out of the queue; false if it is not there any more: somebody runs it, or has run or refused it.
    pub(crate) fn withdraw(&self, ticket: u64) -> bool {
        let mut state = self.lock();
        state.abandoned += 1;
        let queued = state.queue.remove(&ticket);
        drop(state);
        queued.is_some()
    }

    pub(crate) fn stats(&self) -> OffloadStats {
        let state = self.lock();
        OffloadStats {
            threads_max: self.limits.threads_max,
            threads: state.threads,
            running: state.running,
            waiting: state.waiting,
            queued: state.queue.len(),
            longest_wait: state
                .queue
                .first_key_value()
                .map_or(Duration::ZERO, |(_, queued)| queued.since.elapsed()),
            finished: state.finished,
            abandoned: state.abandoned,
        }
    }

    /// Refuses what is queued and what comes, and lets the threads end. Those whose job does not end are left to
    /// themselves: nobody can end an OS thread.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let refused = std::mem::take(&mut state.queue);
        state.idle.iter().for_each(|(_, thread)| thread.unpark());
        drop(state);
        refused.values().for_each(|queued| queued.job.refuse(Refused::Ended));
        drop(refused);
        let until = Instant::now() + END_LIMIT;
        let mut state = self.lock();
        while state.threads > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let running = state.running;
                drop(state);
                log::warn!("bast: {running} off-loaded jobs outlive their runtime");
                return;
            }
            state = state.wait_timeout(&self.thread_ended, left);
        }
    }

    fn lock(&self) -> Locked<'_, State> {
        critical::lock(&self.state)
    }

    /// Sees to it that somebody comes for what is queued, if the limit allows.
    fn staff(self: &Arc<Pool>, mut state: Locked<'_, State>) {
        if state.queue.is_empty() || state.busy() >= self.limits.threads_max {
            return;
        }
        if let Some((_, thread)) = state.idle.pop() {
            drop(state);
            thread.unpark();
            return;
        }
        state.threads += 1;
        state.last_thread += 1;
        let id = state.last_thread;
        drop(state);
        let pool = Arc::clone(self);
        let started = thread::Builder::new().name(self.limits.name.into()).spawn(move || pool.work(id));
        if let Err(error) = started {
            self.not_started(error);
        }
    }

    /// The other threads come to the queue by and by; if there are none, nobody ever would.
    #[cold]
    fn not_started(&self, error: io::Error) {
        let why = Refused::NoThread(error.raw_os_error());
        let mut state = self.lock();
        state.threads -= 1;
        state.not_started = Some(error);
        let refused = if state.threads == 0 { std::mem::take(&mut state.queue) } else { BTreeMap::new() };
        drop(state);
        refused.values().for_each(|queued| queued.job.refuse(why));
    }

    /// A thread of the pool.
    fn work(self: Arc<Pool>, id: u64) {
        POOL.with(|pool| pool.set(Arc::clone(&self)).expect("off-load pool: a thread is of one pool"));
        loop {
            self.work_off();
            if !self.rest(id) {
                return;
            }
        }
    }

    /// Does jobs while there are any and not too many threads are at it.
    fn work_off(&self) {
        loop {
            let mut state = self.lock();
            if state.busy() > self.limits.threads_max {
                return;
            }
            let Some((_, Queued { job, since })) = state.queue.pop_first() else { return };
            state.running += 1;
            let warning = if self.limits.is_shared { state.warning(since.elapsed()) } else { None };
            drop(state);
            if let Some(warning) = warning {
                // A logger that panics must not take the job with it.
                let _ = panic::catch_unwind(|| log::warn!("{warning}"));
            }
            job.run();
            drop(job);
            let mut state = self.lock();
            state.running -= 1;
            state.finished += 1;
        }
    }

    /// Waits to be called; false if the thread has to end.
    fn rest(&self, id: u64) -> bool {
        let until = Instant::now() + self.limits.idle;
        let mut state = self.lock();
        // A job that came since the last look has seen this thread busy and may have called nobody.
        if !state.queue.is_empty() && state.busy() <= self.limits.threads_max {
            return true;
        }
        state.idle.push((id, thread::current()));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Some(place) = state.idle.iter().position(|&(idle, _)| idle == id) else { return true };
            if state.ended || left.is_zero() {
                state.idle.remove(place);
                state.threads -= 1;
                drop(state);
                self.thread_ended.notify_all();
                return false;
            }
            drop(state);
            thread::park_timeout(left);
            state = self.lock();
        }
    }
}

impl State {
    /// Threads that count towards the limit.
    fn busy(&self) -> usize {
        self.threads - self.idle.len() - self.waiting
    }

    /// What the log should be told, if it has not been lately.
    fn warning(&mut self, waited: Duration) -> Option<String> {
        if let Some(error) = self.not_started.take() {
            return Some(format!(
                "bast: the off-load pool has {} OS threads and cannot start another: {error}",
                self.threads
            ));
        }
        if waited < LONG_WAIT || self.warned.is_some_and(|last| last.elapsed() < WARN_EVERY) {
            return None;
        }
        self.warned = Some(Instant::now());
        Some(format!(
            "bast: a job waited {waited:.1?} for the off-load pool, and {} wait still: {} OS threads are busy",
            self.queue.len(),
            self.busy()
        ))
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("queued", &self.queue.len())
            .field("threads", &self.threads)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

/// Runs `wait`, in which the calling OS thread waits for an object of this crate. If it is a thread of a pool it does
/// not count as busy meanwhile.
pub(crate) fn while_waiting<R>(wait: impl FnOnce() -> R) -> R {
    struct Waiting(Arc<Pool>);
    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.lock().waiting -= 1;
        }
    }
    // In the destructor of a thread-local of an ending OS thread there may be no pool any more.
    let pool = POOL.try_with(|pool| pool.get().cloned()).ok().flatten();
    let _waiting = pool.map(|pool| {
        let mut state = pool.lock();
        state.waiting += 1;
        pool.staff(state);
        Waiting(Arc::clone(&pool))
    });
    wait()
}
