#![forbid(unsafe_code)]
//! Runtimes: sets of capabilities. Any number may live in one process; they share nothing but the address space.

use crate::builder::Builder;
use crate::event_log::EventLog;
use crate::handle::JoinHandle;
use crate::io_manager::CAPABILITIES_MAX;
use crate::monitor::{self, Dump, Hog, ThreadInfo};
use crate::pool::{Limits, OffloadStats};
use crate::scheduler::{self, Inner, RuntimeCounters, Settings, WatchSettings, current};
use crate::stack::{GuardKind, SizeClass};
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// The default time slice, as in GHC.
const TIME_SLICE: Duration = Duration::from_millis(20);
/// The default limit of the off-load pool. A thread costs some 30 KiB while it has work, and nothing after it.
const OFFLOAD_THREADS: usize = 256;
/// The default time that a thread of the off-load pool rests before it ends.
const OFFLOAD_IDLE: Duration = Duration::from_secs(10);
/// A slice below this would be spent on switching.
const TIME_SLICE_MIN: Duration = Duration::from_micros(100);
/// How long a thread may hold its core while others wait until the watchdog reports it. Fifty time slices: long beyond
/// what a handler may compute at a stretch, short enough for whoever looks at why nothing moves.
const WATCHDOG: Duration = Duration::from_secs(1);

/// A set of capabilities with their OS threads. Dropping it kills its threads and waits for them to unwind, until
/// none has ended for 5 s; those that are left then are named in the log and leaked. Dropped inside a green thread,
/// where waiting would block the core, it does the same on an OS thread of its own.
pub struct Runtime {
    inner: Arc<Inner>,
    print_counters: bool,
}

/// Runs `f` as the first green thread of a runtime with default settings (a capability per CPU), and returns what it
/// returns. Threads that are left then are killed.
///
/// # Panics
/// If `f` panics, with its payload; inside a green thread; if the runtime cannot be started
/// ([`RuntimeBuilder::build`] returns that as an error).
pub fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    Runtime::builder().build().expect("failed to start a runtime").run(f)
}

impl Runtime {
    /// Settings to start a runtime with.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// Runs `f` as a green thread and waits for it on the calling OS thread.
    ///
    /// # Panics
    /// If `f` panics, with its payload; inside a green thread, where waiting would block the core.
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        assert!(
            current::get().is_none(),
            "a runtime cannot be run inside a green thread: spawn there, or use an OS thread"
        );
        let main = Builder::new().label("main");
        let main = self
            .handle()
            .spawn_with(main, f)
            .unwrap_or_else(|error| panic!("failed to spawn the main thread: {error}"));
        let joined = current::wait_for(&self.inner, || main.join());
        joined.unwrap_or_else(|error| error.resume())
    }

    /// What the capabilities have done so far; see [`RuntimeBuilder::print_counters`] for a report at the end.
    pub fn counters(&self) -> RuntimeCounters {
        counters_of(&self.inner)
    }

    /// A handle by which other OS threads, and threads of other runtimes, spawn here.
    pub fn handle(&self) -> Handle {
        Handle { inner: Arc::clone(&self.inner) }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.print_counters {
            // A closed stderr is no reason not to shut down.
            let _ = writeln!(io::stderr(), "{}", self.counters());
        }
        if current::get().is_none() {
            return self.inner.shut_down();
        }
        let inner = Arc::clone(&self.inner);
        let name = "bast-shutdown".to_owned();
        if let Err(error) = std::thread::Builder::new().name(name).spawn(move || inner.shut_down()) {
            log::error!("bast: a runtime was dropped inside a green thread and cannot be shut down: {error}");
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// How stacks are guarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StackGuard {
    /// The best that the kernel has.
    #[default]
    Auto,
    /// `MADV_GUARD_INSTALL` (Linux 6.13), or an error: any number of stacks.
    Install,
    /// `mprotect`: two mappings a stack, so that `vm.max_map_count` bounds their number (32,000 by default).
    Protect,
}

/// Settings of a [`Runtime`]. The defaults suit a process that has the machine to itself.
#[derive(Clone)]
#[must_use]
pub struct RuntimeBuilder {
    capabilities: Option<usize>,
    pin: bool,
    stack_bytes: Option<usize>,
    stack_guard: StackGuard,
    time_slice: Duration,
    preempt_at_allocation: bool,
    spin: Duration,
    offload: Limits,
    print_counters: bool,
    watchdog: Option<Duration>,
    on_hog: Option<monitor::Hook>,
}

impl Default for RuntimeBuilder {
    fn default() -> RuntimeBuilder {
        RuntimeBuilder {
            capabilities: None,
            pin: false,
            stack_bytes: None,
            stack_guard: StackGuard::Auto,
            time_slice: TIME_SLICE,
            preempt_at_allocation: false,
            spin: Duration::ZERO,
            offload: Limits {
                name: "bast-offload",
                is_shared: true,
                threads_max: OFFLOAD_THREADS,
                idle: OFFLOAD_IDLE,
            },
            print_counters: false,
            watchdog: Some(WATCHDOG),
            on_hog: None,
        }
    }
}

impl RuntimeBuilder {
    /// How many capabilities (OS threads) there are: one per CPU that the process may use if not said.
    pub fn capabilities(mut self, count: usize) -> RuntimeBuilder {
        self.capabilities = Some(count);
        self
    }

    /// Whether each capability is bound to a CPU of its own. Off by default: it pays on machines that do nothing
    /// else, and costs where the CPUs are shared.
    pub fn pin(mut self, on: bool) -> RuntimeBuilder {
        self.pin = on;
        self
    }

    /// The size of stacks where [`Builder::stack_size`] does not say another: 192 KiB if not said, which with its guard
    /// reserves 260 KiB of address space.
    pub fn stack_size(mut self, bytes: usize) -> RuntimeBuilder {
        self.stack_bytes = Some(bytes);
        self
    }

    /// How stacks are guarded.
    pub fn stack_guard(mut self, guard: StackGuard) -> RuntimeBuilder {
        self.stack_guard = guard;
        self
    }

    /// How long a thread may run while others wait, until it next calls the runtime: 20 ms if not said, 0.1 ms at
    /// the least.
    pub fn time_slice(mut self, slice: Duration) -> RuntimeBuilder {
        self.time_slice = slice;
        self
    }

    /// Whether threads may be switched at allocations where neither [`Builder::preempt_at_allocation`] nor their
    /// spawner says otherwise: off if not said. It has an effect only if the program's allocator is a
    /// [`YieldingAlloc`](crate::alloc::YieldingAlloc), and puts all code that the runtime's threads run under its
    /// contract.
    pub fn preempt_at_allocation(mut self, on: bool) -> RuntimeBuilder {
        self.preempt_at_allocation = on;
        self
    }

    /// How long an idle capability spins for wakes from other cores, where some came lately, before it sleeps.
    /// Zero (never) if not said; up to 50 µs make sense.
    pub fn spin(mut self, spin: Duration) -> RuntimeBuilder {
        self.spin = spin;
        self
    }

    /// How many OS threads of the off-load pool may be busy at a time: 256 if not said, at least one. They are started
    /// when they are needed. See [`offload`](crate::offload).
    pub fn offload_threads(mut self, count: usize) -> RuntimeBuilder {
        self.offload.threads_max = count;
        self
    }

    /// How long an OS thread of the off-load pool stays with nothing to do: 10 s if not said.
    pub fn offload_idle(mut self, limit: Duration) -> RuntimeBuilder {
        self.offload.idle = limit;
        self
    }

    /// Whether the [counters](Runtime::counters) are printed on stderr when the runtime is dropped, before its threads
    /// are killed. Off if not said. (GHC's `+RTS -s`.)
    pub fn print_counters(mut self, on: bool) -> RuntimeBuilder {
        self.print_counters = on;
        self
    }

    /// How long a thread may hold its core, while the core has other threads, until it is reported with its label and its
    /// stack: 1 s if not said, `None` for never. The report goes to the log as a warning and to the hook of
    /// [`on_hog`](RuntimeBuilder::on_hog): once, again whenever the time has doubled, and at most once a second in all.
    ///
    /// Time is counted in time slices, so that a limit below one is one. It costs running threads nothing; the thread
    /// that is reported is interrupted by SIGURG, which a handler of your own goes on to get.
    pub fn watchdog(mut self, limit: Option<Duration>) -> RuntimeBuilder {
        self.watchdog = limit;
        self
    }

    /// What else is done when a thread is reported by the [`watchdog`](RuntimeBuilder::watchdog). The hook is called on
    /// an OS thread of its own; no further report is made before it returns.
    ///
    /// ```
    /// let runtime = bast::Runtime::builder()
    ///     .on_hog(|hog| eprintln!("{:?} has held a core for {:?}", hog.thread.label, hog.held))
    ///     .build()?;
    /// runtime.run(|| ());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_hog(mut self, hook: impl Fn(&Hog) + Send + Sync + 'static) -> RuntimeBuilder {
        self.on_hog = Some(Arc::new(hook));
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    /// A setting is out of range; OS threads, descriptors or stack memory cannot be had, and the error says why.
    pub fn build(self) -> io::Result<Runtime> {
        let invalid = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        let capabilities = match self.capabilities {
            Some(0) => return invalid("a runtime needs at least one capability".into()),
            Some(count) => count,
            None => std::thread::available_parallelism()?.get(),
        };
        if capabilities > CAPABILITIES_MAX {
            return invalid(format!("at most {CAPABILITIES_MAX} capabilities are possible"));
        }
        if self.time_slice < TIME_SLICE_MIN {
            return invalid(format!("a time slice of less than {TIME_SLICE_MIN:?} is not possible"));
        }
        if self.offload.threads_max == 0 {
            return invalid("the off-load pool needs at least one OS thread".into());
        }
        let stack_class = match self.stack_bytes.map(SizeClass::for_bytes).transpose() {
            Ok(class) => class.unwrap_or(SizeClass::DEFAULT),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        };
        let guard = match self.stack_guard {
            StackGuard::Auto => GuardKind::Auto,
            StackGuard::Install => GuardKind::Install,
            StackGuard::Protect => GuardKind::Protect,
        };
        let settings = Settings {
            capabilities,
            pin: self.pin,
            stack_class,
            guard,
            time_slice: self.time_slice,
            preempt_at_allocation: self.preempt_at_allocation,
            spin: self.spin,
            offload: self.offload,
            watch: self.watchdog.map(|limit| WatchSettings {
                limit: limit.max(self.time_slice),
                report: monitor::report(self.on_hog),
            }),
        };
        Ok(Runtime { inner: Inner::start(settings)?, print_counters: self.print_counters })
    }
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder")
            .field("capabilities", &self.capabilities)
            .field("pin", &self.pin)
            .field("stack_bytes", &self.stack_bytes)
            .field("stack_guard", &self.stack_guard)
            .field("time_slice", &self.time_slice)
            .field("spin", &self.spin)
            .field("watchdog", &self.watchdog)
            .finish_non_exhaustive()
    }
}

/// A way into a runtime from outside. Outliving the runtime is harmless: spawning fails then.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

impl Handle {
    /// The runtime of the calling green thread.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn current() -> Handle {
        let capability = current::get().expect("Handle::current outside a runtime, or in an off-loaded job: take the handle before, from Runtime::handle or there");
        Handle { inner: Arc::clone(capability.runtime()) }
    }

    /// Spawns a green thread in this runtime.
    ///
    /// # Panics
    /// If it cannot be spawned; see [`spawn_with`](Handle::spawn_with).
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_with(Builder::new(), f)
            .unwrap_or_else(|error| panic!("failed to spawn a green thread: {error}"))
    }

    /// Spawns a green thread in this runtime, as the builder says.
    ///
    /// # Errors
    /// The limit of threads is reached, the stack size is out of range, or the runtime is shutting down.
    pub fn spawn_with<F, T>(&self, builder: Builder, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        scheduler::spawn(Some(&self.inner), builder.request()?, f).map(JoinHandle::new)
    }

    /// How many capabilities there are.
    pub fn capabilities(&self) -> usize {
        self.inner.remotes().len()
    }

    /// The capability with the given index.
    ///
    /// # Panics
    /// If there is none.
    pub fn capability(&self, index: usize) -> CapabilityId {
        CapabilityId { index: index as u16, slot: self.inner.remotes()[index].slot() }
    }

    /// The threads of this runtime; see [`threads`](crate::threads).
    pub fn threads(&self) -> Vec<ThreadInfo> {
        monitor::threads_of(&self.inner)
    }

    /// How busy the off-load pool of this runtime is; see [`offload_stats`](crate::offload_stats).
    pub fn offload_stats(&self) -> OffloadStats {
        self.inner.pool().stats()
    }

    /// The threads of this runtime with their stacks; see [`dump`](crate::dump()). An OS thread that is no capability
    /// takes the dump itself.
    ///
    /// # Errors
    /// In a green thread: no OS thread can be started.
    pub fn dump(&self) -> io::Result<Dump> {
        match current::get() {
            Some(_) => monitor::take_beside(Arc::clone(&self.inner)),
            None => Ok(monitor::take(&self.inner)),
        }
    }

    /// Writes a dump of this runtime to stderr on each SIGQUIT; see [`dump_on_sigquit`](crate::dump_on_sigquit).
    ///
    /// # Errors
    /// The OS thread or the descriptors that it needs cannot be had.
    pub fn dump_on_sigquit(&self) -> io::Result<()> {
        monitor::watch(&self.inner)
    }

    /// Starts a log of what the capabilities do, of so many events for each (256 at least, 2^24 at most, rounded up to
    /// a power of two; 24 bytes an event). It is on until it is stopped or dropped. See [`event_log`](crate::event_log).
    ///
    /// # Errors
    /// A log of this runtime is on already, and was not stopped; the runtime has ended.
    pub fn start_event_log(&self, events: usize) -> io::Result<EventLog> {
        EventLog::start(&self.inner, events)
    }

    /// What the capabilities have done since the runtime started. Of a runtime that is gone the numbers may be those of
    /// a later one, which took over its capabilities' places.
    pub fn counters(&self) -> RuntimeCounters {
        counters_of(&self.inner)
    }
}

fn counters_of(runtime: &Inner) -> RuntimeCounters {
    runtime.remotes().iter().map(|remote| remote.counters().read()).collect()
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.inner).finish()
    }
}

/// A capability of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CapabilityId {
    index: u16,
    slot: u16,
}

impl CapabilityId {
    /// Its number within its runtime, from 0.
    pub fn index(self) -> usize {
        usize::from(self.index)
    }

    pub(crate) fn slot(self) -> u16 {
        self.slot
    }
}

pub(crate) fn current_capability() -> Option<CapabilityId> {
    let capability = current::get()?;
    let slot = capability.remote().slot();
    let index = capability.runtime().index_of(slot)?;
    Some(CapabilityId { index: index as u16, slot })
}
