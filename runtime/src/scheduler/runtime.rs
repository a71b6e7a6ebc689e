#![forbid(unsafe_code)]
//! What the capabilities of one runtime share, and how they are started and stopped.

use super::quiet::Quiet;
use super::remote::{Mail, Remote};
use super::tick::Tick;
use super::watch::WatchSettings;
use super::{Capability, describe, exception};
use crate::critical::Section;
use crate::pool::{self, Pool};
use crate::stack::{self, GuardKind, SizeClass};
use crate::sys::{affinity, fork};
use crate::thread::Control;
use crate::thread::control::Reference;
use crate::thread::notice::Home;
use crate::thread::table::{self, ThreadLimit};
use crate::thread::token::State;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a shutdown waits for the next of the killed threads to unwind.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);
/// How often a shutdown looks for threads that were spawned meanwhile.
const SHUTDOWN_LOOK: Duration = Duration::from_millis(5);
/// How many threads a shutdown names that did not end.
const NAMED_MAX: usize = 10;

/// How a runtime is set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) capabilities: usize,
    pub(crate) pin: bool,
    pub(crate) stack_class: SizeClass,
    pub(crate) guard: GuardKind,
    pub(crate) time_slice: Duration,
    pub(crate) preempt_at_allocation: bool,
    pub(crate) spin: Duration,
    pub(crate) offload: pool::Limits,
    pub(crate) watch: Option<WatchSettings>,
}

/// Fields: all atomics, for anybody; `os_threads` for whoever shuts down.
pub(crate) struct Inner {
    settings: Settings,
    thread_limit: ThreadLimit,
    remotes: Box<[&'static Remote]>,
    /// Capabilities that announced that they sleep.
    sleepers: AtomicUsize,
    /// Somebody was woken to take unstarted threads and has not looked yet: at most one such wake is out.
    waking: AtomicBool,
    /// Threads spawned from elsewhere than a capability of this runtime.
    spawned_outside: AtomicU64,
    stopping: AtomicBool,
    /// Its capabilities may be those of another runtime by now.
    stopped: AtomicBool,
    tick: Tick,
    pool: Arc<Pool>,
    quiet: Quiet,
    ended: Condvar,
    os_threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Inner {
    /// Starts the OS threads.
    ///
    /// # Errors
    /// OS threads, descriptors or stacks cannot be had; the error says which. Nothing is left behind then.
    pub(crate) fn start(settings: Settings) -> io::Result<Arc<Inner>> {
        let _section = Section::enter(); // what is initialised once is so under locks of std
        refuse_in_forked_child()?;
        fork::watch(Remote::end_all_slices);
        stack::overflow::install(describe::describe_running, describe::stack_set_by);
        describe::install_panic_hook();
        crate::sys::signal::ignore_sigpipe();
        let (max, reason) = stack::stacks_max(settings.guard)?;
        let mut remotes: Vec<&'static Remote> = Vec::with_capacity(settings.capabilities);
        for _ in 0..settings.capabilities {
            match Remote::occupy() {
                Ok(remote) => remotes.push(remote),
                Err(error) => {
                    remotes.into_iter().for_each(Remote::vacate);
                    return Err(error);
                }
            }
        }
        let pool = Pool::new(settings.offload);
        let inner = Arc::new(Inner {
            settings,
            pool,
            thread_limit: ThreadLimit::new(max, reason),
            remotes: remotes.into_boxed_slice(),
            sleepers: AtomicUsize::new(0),
            waking: AtomicBool::new(false),
            spawned_outside: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            tick: Tick::default(),
            quiet: Quiet::default(),
            ended: Condvar::new(),
            os_threads: Mutex::default(),
        });
        match inner.start_os_threads() {
            Ok(()) => Ok(inner),
            Err(error) => {
                inner.shut_down();
                Err(error)
            }
        }
    }

    fn start_os_threads(self: &Arc<Self>) -> io::Result<()> {
        let cpus = if self.settings.pin { affinity::allowed_cpus()? } else { Vec::new() };
        let (report, reports) = mpsc::channel();
        for (index, &remote) in self.remotes.iter().enumerate() {
            let inner = Arc::clone(self);
            let report = report.clone();
            let cpu = cpus.get(index % cpus.len().max(1)).copied();
            let body = move || {
                let prepared = cpu.map_or(Ok(()), affinity::bind_to).and_then(|()| {
                    let alt_stack = stack::overflow::AltStack::install()?;
                    Ok((alt_stack, Capability::new(remote, inner)?))
                });
                match prepared {
                    Ok((_alt_stack, capability)) => {
                        let _ = report.send(Ok(()));
                        drop(report);
                        capability.run();
                    }
                    Err(error) => {
                        let _ = report.send(Err(error));
                    }
                }
            };
            let os_thread = thread::Builder::new().name(format!("bast-{index}")).spawn(body)?;
            self.os_threads.lock().expect("runtime: a holder of the lock panicked").push(os_thread);
        }
        drop(report);
        let started = reports.into_iter().collect::<io::Result<Vec<()>>>()?;
        if started.len() < self.remotes.len() {
            // std prepares an OS thread before it calls us, and panics where it cannot.
            return Err(io::Error::other("a capability's OS thread ended before it began"));
        }
        let inner = Arc::clone(self);
        let tick = thread::Builder::new().name("bast-tick".into()).spawn(move || Tick::run(&inner))?;
        self.os_threads.lock().expect("runtime: a holder of the lock panicked").push(tick);
        Ok(())
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn remotes(&self) -> &[&'static Remote] {
        &self.remotes
    }

    /// The index of the capability that has `slot`.
    pub(crate) fn index_of(&self, slot: u16) -> Option<usize> {
        self.remotes.iter().position(|remote| remote.slot() == slot)
    }

    /// The OS threads for what blocks.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(super) fn tick(&self) -> &Tick {
        &self.tick
    }

    pub(super) fn quiet(&self) -> &Quiet {
        &self.quiet
    }

    /// Where a thread that is spawned from outside goes: in turn.
    pub(super) fn next_outside(&self) -> &'static Remote {
        let count = self.spawned_outside.fetch_add(1, Ordering::Relaxed);
        self.remotes[(count % self.remotes.len() as u64) as usize]
    }

    // Sleeping capabilities and unstarted threads.

    pub(super) fn enter_sleep(&self) {
        self.sleepers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave_sleep(&self) {
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        self.waking.store(false, Ordering::Relaxed);
        self.tick.start();
    }

    pub(super) fn has_stealable(&self) -> bool {
        self.remotes.iter().any(|remote| remote.stealable() > 0)
    }

    /// Wakes a capability to take unstarted threads, if one sleeps and none is on its way.
    #[inline]
    pub(super) fn wake_a_sleeper(&self) {
        if self.sleepers.load(Ordering::Relaxed) > 0 && !self.waking.load(Ordering::Relaxed) {
            self.wake_one();
        }
    }

    #[cold]
    fn wake_one(&self) {
        if self.waking.swap(true, Ordering::Relaxed) {
            return;
        }
        match self.remotes.iter().find(|remote| remote.sleep().looks_asleep()) {
            Some(remote) => remote.nudge(),
            None => self.waking.store(false, Ordering::Relaxed),
        }
    }

    // The end.

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The same, for a caller that has just made a thread. Of the shutdown's look at the table and this look at the
    /// flag one sees the other: a thread is cancelled here, or killed and waited for there.
    pub(super) fn is_stopping_beyond_doubt(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_stopping()
    }

    pub(crate) fn thread_limit(&self) -> ThreadLimit {
        self.thread_limit
    }

    pub(super) fn thread_ended(&self) {
        if self.is_stopping() {
            self.ended.notify_all();
        }
    }

    /// The threads of this runtime that are in use, by a walk over the table.
    pub(crate) fn controls(&self) -> impl Iterator<Item = &'static Control> {
        let stopped = self.stopped.load(Ordering::Acquire);
        table::all().take_while(move |_| !stopped).filter(|control| self.has(control))
    }

    /// Whether the thread is one of this runtime and not over.
    fn has(&self, control: &Control) -> bool {
        match control.home() {
            Home::Capability(slot) => {
                !matches!(control.state(), State::Free | State::Finished) && self.index_of(slot).is_some()
            }
            Home::OsThread => false,
        }
    }

    /// Kills every thread, waits for them to unwind (within a limit), and ends the OS threads. What does not end in
    /// time is leaked, with its capability's slot, and named in the log.
    pub(crate) fn shut_down(&self) {
        if fork::is_child() {
            return; // none of its OS threads are here
        }
        self.stopping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst); // see `is_stopping_beyond_doubt`
        let mut os_threads =
            std::mem::take(&mut *self.os_threads.lock().expect("runtime: a holder of the lock panicked"));
        let mut fewest = usize::MAX;
        let mut limit = Instant::now() + SHUTDOWN_LIMIT;
        loop {
            let left = self.kill_all();
            if left < fewest {
                // A million threads take more than the limit to unwind, but they get fewer.
                fewest = left;
                limit = Instant::now() + SHUTDOWN_LIMIT;
            }
            if left == 0 || Instant::now() >= limit {
                break;
            }
            let guard = self.os_threads.lock().expect("runtime: a holder of the lock panicked");
            let _ = self.ended.wait_timeout(guard, SHUTDOWN_LOOK);
        }
        for remote in &self.remotes {
            remote.send(Mail::Stop);
        }
        self.tick.end();
        self.pool.end();
        let left: Vec<String> = self.controls().take(NAMED_MAX).map(describe::describe).collect();
        if left.is_empty() {
            for os_thread in os_threads.drain(..) {
                if os_thread.join().is_err() {
                    log::error!("bast: a capability's OS thread panicked");
                }
            }
            self.stopped.store(true, Ordering::Release);
            self.remotes.iter().copied().for_each(Remote::vacate);
        } else {
            log::error!("bast: leaking threads that did not end when killed: {}", left.join(", "));
        }
    }

    /// Posts a kill to every thread that has none yet. Returns how many threads there are.
    fn kill_all(&self) -> usize {
        let mut count = 0;
        for control in self.controls() {
            count += 1;
            if !control.notice().is_killed()
                && let Some(thread) = Reference::try_new(control)
                // The block may have gone to a thread of another runtime since the first look.
                && self.has(control)
            {
                exception::post_kill(thread);
            }
        }
        count
    }
}

/// What a forked child is told, that goes on with a runtime of its parent's instead of another program.
pub(super) const FORKED: &str = "a runtime was used in a forked child process, where its other OS threads do not exist: call exec or _exit \
     after fork, or use std::process::Command";

/// # Errors
/// This process is a forked child of one that had a runtime.
pub(super) fn refuse_in_forked_child() -> io::Result<()> {
    if fork::is_child() { Err(io::Error::new(io::ErrorKind::Unsupported, FORKED)) } else { Ok(()) }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("settings", &self.settings).finish_non_exhaustive()
    }
}
