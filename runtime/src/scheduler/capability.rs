//! A capability: one OS thread, its green threads, and the loop that runs them. The one place of resume.
//!
//! ```text
//!   ┌▶ drain inbox ─▶ read mail ─▶ every POLL_EVERY switches, or when the slice is over: poll io, expire timers
//!   │        │
//!   │        ▼
//!   │   next: run queue and nursery in turn ── none ─▶ steal ── none ─▶ announce sleep, look again, epoll_wait
//!   │        │
//!   └─── resume it until it parks, yields or ends
//! ```
//! Everything in here is the owner's alone: plain cells, no atomics, no locks. Borrows of the cells are short and
//! never held over a resume.

use super::remote::{Mail, Remote};
use super::runtime::Inner;
use super::{current, exception, park};
use crate::coroutine::{Coroutine, Progress, Suspender};
use crate::critical::{self, Section};
use crate::event_log::ring::{Kind, Tap};
use crate::io_manager::EVENTS_MAX;
use crate::stack::{self, SizeClass, Stack, StackError, StackPool};
use crate::sys::epoll::{Events, Timeout};
use crate::sys::sample::os_thread_id;
use crate::sys::{clock, fault, fork};
use crate::thread::block::BlockedOn;
use crate::thread::body::{self, Entry, Left};
use crate::thread::control::Reference;
use crate::thread::list::RunQueue;
use crate::thread::notice::Home;
use crate::thread::token::State;
use crate::thread::{Control, ThreadId, Token, Woken};
use crate::timer::Timers;
use crate::walk;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::hint;
use std::io;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

/// Switches between two looks at io under load. GHC and Go use similar numbers; a prime keeps it out of step with
/// workloads of round numbers. At 40 ns a switch it is a look every 2.5 µs at the shortest.
const POLL_EVERY: u32 = 61;

/// Unstarted threads that go first after a thread has used up its slice. One in turn with the run queue would, beside
/// hogs, wait for a slice each: eight new connections for eight slices.
const STARTS_PER_SLICE: u32 = 16;

/// Looks at the inbox between two looks at the clock while spinning.
const SPINS_PER_CLOCK: u32 = 64;

/// What a thread that suspends itself wants.
enum Request {
    Yield,
    Park { token: Token, commit: *mut dyn FnMut(Token) -> bool },
}

pub(crate) struct Capability {
    remote: &'static Remote,
    runtime: Arc<Inner>,
    queue: RunQueue,
    running: Cell<Option<&'static Control>>,
    request: Cell<Option<Request>>,
    timers: RefCell<Timers>,
    stacks: RefCell<StackPool>,
    /// Where signal handlers of this OS thread run.
    signal_stack: Range<usize>,
    /// The bounds of the stack that was asked for last: stacks of ours stay where they are while the capability lives.
    stack_bounds: Cell<(usize, usize)>,
    events: RefCell<Events>,
    /// How many times the nursery is next, before the run queue is.
    nursery_turns: Cell<u32>,
    /// Another capability (or OS thread) woke one of ours lately: it may pay to spin before sleeping.
    woken_remotely: Cell<bool>,
    /// How deep in `no_park` the running thread is.
    no_park: Cell<u32>,
    /// Threads that are suspended while they unwind.
    unwinding_suspended: Cell<u32>,
    stopped: Cell<bool>,
    tap: Tap,
    /// The clock on the wall, as of the last look at io.
    unix_seconds: Cell<u64>,
}

impl Capability {
    /// # Errors
    /// Stacks cannot be had here: locked memory, or an unsupported guard was asked for.
    pub(super) fn new(remote: &'static Remote, runtime: Arc<Inner>) -> io::Result<Capability> {
        Ok(Capability {
            remote,
            queue: RunQueue::new(),
            running: Cell::new(None),
            request: Cell::new(None),
            timers: RefCell::new(Timers::new(remote.slot())),
            stacks: RefCell::new(StackPool::new(runtime.settings().guard)?),
            signal_stack: fault::signal_stack(),
            stack_bounds: Cell::new((0, 0)),
            events: RefCell::new(Events::new(EVENTS_MAX)),
            nursery_turns: Cell::new(0),
            woken_remotely: Cell::new(false),
            no_park: Cell::new(0),
            unwinding_suspended: Cell::new(0),
            stopped: Cell::new(false),
            tap: Tap::default(),
            unix_seconds: Cell::new(clock::realtime_coarse_seconds()),
            runtime,
        })
    }

    /// The loop. Ends when the capability is told to stop and nothing is runnable.
    pub(super) fn run(&self) {
        self.remote.set_os_thread(os_thread_id());
        current::enter(self, || {
            let mut switches = 0;
            loop {
                self.receive();
                if switches >= POLL_EVERY || self.remote.is_slice_over() {
                    self.turn();
                    switches = 0;
                }
                if self.unwinding_suspended.get() > 0 && !thread::panicking() {
                    self.nobody_unwinds();
                }
                if let Some(control) = self.next() {
                    self.resume(control);
                    switches += 1;
                } else if self.stopped.get() {
                    break;
                } else {
                    self.idle();
                    switches = 0;
                }
            }
        });
        self.remote.set_os_thread(0);
    }

    // What the running thread, and others on this OS thread, may ask.

    #[inline]
    pub(crate) fn remote(&self) -> &'static Remote {
        self.remote
    }

    pub(crate) fn runtime(&self) -> &Arc<Inner> {
        &self.runtime
    }

    #[inline]
    pub(crate) fn running(&self) -> Option<&'static Control> {
        self.running.get()
    }

    /// The clock on the wall, at most a time slice old: a thread that has run for longer asks the kernel again.
    #[inline]
    pub(crate) fn unix_seconds(&self) -> u64 {
        if self.remote.is_slice_over() {
            self.unix_seconds.set(clock::realtime_coarse_seconds());
        }
        self.unix_seconds.get()
    }

    // The event log. Each is one load and a branch while it is off.

    /// Records an event of a thread.
    #[inline]
    pub(crate) fn trace(&self, kind: Kind, control: &Control, detail: u64) {
        if self.remote.log().is_on() {
            self.record(kind, control.id().map_or(0, ThreadId::get), detail);
        }
    }

    /// Records an event of the capability.
    #[inline]
    fn trace_own(&self, kind: Kind, detail: u64) {
        if self.remote.log().is_on() {
            self.record(kind, 0, detail);
        }
    }

    #[inline(never)]
    fn record(&self, kind: Kind, thread: u64, detail: u64) {
        self.follow_log();
        self.tap.record(kind, thread, detail);
    }

    /// Writes to the log that is on now. Whoever runs when it begins has a slice in it too.
    fn follow_log(&self) {
        if self.tap.refresh(self.remote.log())
            && let Some(id) = self.running().and_then(Control::id)
        {
            self.tap.record(Kind::Run, id.get(), 0);
        }
    }

    /// Records what the running thread has to say.
    pub(crate) fn say(&self, kind: Kind, text: Cow<'static, str>) {
        let thread = self.running().and_then(Control::id).map_or(0, ThreadId::get);
        // It takes memory under a lock, on the thread's own stack: nobody else may run here meanwhile.
        self.no_park(|| {
            self.follow_log();
            self.tap.record_text(kind, thread, text);
        });
    }

    /// Counts a thread that was spawned here.
    #[inline]
    pub(super) fn spawned(&self, control: &Control) {
        self.remote.counters().spawned.count();
        self.trace(Kind::Created, control, 0);
    }

    /// Puts a claimed thread of this capability where it will run.
    #[inline]
    pub(super) fn wake(&self, control: &'static Control) {
        self.remote.counters().wakes.count();
        self.trace_wake(control);
        self.enqueue(control);
    }

    /// Counts a claimed thread that goes to another capability.
    #[inline]
    pub(super) fn wakes_elsewhere(&self, control: &'static Control) {
        self.remote.counters().wakes_sent.count();
        self.trace_wake(control);
    }

    #[inline]
    fn trace_wake(&self, control: &'static Control) {
        if self.remote.log().is_on() {
            let cause = match control.state() {
                State::ClaimedTimer => 1,
                State::ClaimedInterrupt => 2,
                _ => 0,
            };
            self.trace(Kind::Woken, control, cause);
        }
    }

    /// Puts a thread of this capability, which the caller has, at the end of the run queue.
    #[inline]
    pub(super) fn enqueue(&self, control: &'static Control) {
        self.queue.push(control);
    }

    #[inline]
    pub(crate) fn may_park(&self) -> bool {
        self.no_park.get() == 0
    }

    /// Forbids parking (and switching away) while `body` runs.
    pub(crate) fn no_park<R>(&self, body: impl FnOnce() -> R) -> R {
        struct Leave<'a>(&'a Cell<u32>);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        self.no_park.set(self.no_park.get() + 1);
        let _leave = Leave(&self.no_park);
        body()
    }

    /// How far the caller is above the guard of the stack that it runs on; `None` if that is none of ours.
    #[inline]
    pub(super) fn stack_left(&self) -> Option<usize> {
        let here = 0u8;
        let here = (&raw const here).addr();
        let (limit, end) = self.stack_bounds.get();
        if (limit..end).contains(&here) { Some(here - limit) } else { self.find_stack(here) }
    }

    #[cold]
    fn find_stack(&self, here: usize) -> Option<usize> {
        let bounds = stack::around(here)?;
        self.stack_bounds.set((bounds.start, bounds.end));
        Some(here - bounds.start)
    }

    /// Lends the running thread a further stack.
    pub(super) fn take_stack(&self, class: SizeClass) -> Result<Stack, StackError> {
        let _section = Section::enter();
        self.stacks.borrow_mut().take(class)
    }

    /// Takes a stack back that was lent, on which nothing lives any more.
    pub(super) fn give_stack(&self, stack: Stack) {
        let _section = Section::enter();
        self.stacks.borrow_mut().give(stack);
    }

    /// Whether the running thread, if it panics by std's account, does so itself.
    pub(super) fn is_unwinding(&self, control: &Control) -> bool {
        thread::panicking() && (self.unwinding_suspended.get() == 0 || control.notice().is_unwinding())
    }

    /// Arms the deadline of the running thread's next park.
    pub(super) fn arm(&self, control: &'static Control, deadline_ns: u64) {
        let _section = Section::enter(); // the heap of timers may grow
        self.timers.borrow_mut().arm(control, deadline_ns);
    }

    /// Suspends the running thread until it is claimed; see Note [park].
    #[inline(always)]
    pub(super) fn suspend_to_park(
        &self,
        control: &'static Control,
        token: Token,
        commit: &mut dyn FnMut(Token) -> bool,
    ) {
        // SAFETY: only the lifetime is erased. The commit is on the stack of the thread that suspends itself here,
        // and is used before that thread is resumed.
        let commit = unsafe {
            mem::transmute::<*mut (dyn FnMut(Token) -> bool + '_), *mut (dyn FnMut(Token) -> bool + 'static)>(
                commit,
            )
        };
        self.request.set(Some(Request::Park { token, commit }));
        self.suspend(control);
    }

    /// Puts the running thread behind all that are runnable.
    #[inline]
    pub(super) fn suspend_to_yield(&self, control: &'static Control) {
        control.word().yielding();
        self.request.set(Some(Request::Yield));
        self.suspend(control);
        control.word().running();
    }

    #[inline(always)]
    fn suspend(&self, control: &'static Control) {
        debug_assert!(!critical::is_inside(), "scheduler: a thread is suspended in a critical section");
        let unwinding =
            (thread::panicking() || control.notice().is_unwinding()) && self.suspend_unwinding(control);
        // SAFETY: the caller is the running thread, which has its own control block.
        let owned = unsafe { control.owned() };
        let here = walk::here();
        if self.signal_stack.contains(&(&raw const here).addr()) {
            // What is suspended here, the next signal would overwrite; and there is no room for a panic.
            end("blocking call in a signal handler");
        }
        // Release: who finds the address finds what lies there.
        owned.suspended_at.store((&raw const here).cast_mut(), Ordering::Release);
        let suspender = owned.suspender.get();
        let suspender = suspender.expect("a running thread was started");
        // SAFETY: the suspender was given to this thread when it started, and the caller is this thread.
        unsafe { suspender.suspend() };
        // It may have been found out meanwhile that it was not; see `nobody_unwinds`.
        if unwinding && control.notice().is_unwinding() {
            self.unwinding_suspended.set(self.unwinding_suspended.get() - 1);
        }
    }

    /// Puts the flag of a thread that is about to be suspended right, and counts the thread if it is unwinding.
    #[cold]
    fn suspend_unwinding(&self, control: &Control) -> bool {
        let unwinding = self.is_unwinding(control);
        control.notice().set_unwinding(unwinding);
        if unwinding {
            self.unwinding_suspended.set(self.unwinding_suspended.get() + 1);
        }
        unwinding
    }

    /// Puts the flags of suspended threads right that take themselves to be unwinding, when std's answer, given on the
    /// scheduler's stack, says that none of them is: they caught a panic while another was suspended in the middle of
    /// its own. An exception that waits for the end of their unwind is raised now.
    #[cold]
    fn nobody_unwinds(&self) {
        let here = Home::Capability(self.remote.slot());
        for control in self.runtime.controls() {
            if control.notice().is_unwinding() && control.home() == here {
                control.notice().set_unwinding(false);
                self.unwinding_suspended.set(self.unwinding_suspended.get() - 1);
                if control.notice().has_exception()
                    && let Some(thread) = Reference::try_new(control)
                {
                    self.interrupt(thread);
                }
            }
        }
    }

    // The loop's steps.

    /// A slice begins: who has become ready is taken in first, and so gets its turn before the one whose slice is over.
    /// With hogs about, whoever waits for io waits for each of them once, not twice.
    fn turn(&self) {
        if fork::is_child() {
            // Not by an unwind: destructors of the parent's threads would run, and shut down connections that the
            // two processes share.
            end(super::runtime::FORKED);
        }
        self.begin_slice();
        self.receive();
        self.poll(Timeout::Now);
        self.stacks.borrow_mut().decay(clock::monotonic_coarse_ns());
    }

    /// Takes in what others have sent.
    #[inline]
    fn receive(&self) {
        if !self.remote.inbox().is_empty() {
            self.woken_remotely.set(true);
            self.remote.inbox().take(|control| {
                self.remote.counters().wakes_received.count();
                self.trace(Kind::Arrived, control, 0);
                self.queue.push(control);
            });
        }
        if self.remote.has_mail() {
            self.read_mail();
        }
    }

    #[cold]
    fn read_mail(&self) {
        for mail in self.remote.take_mail() {
            match mail {
                Mail::Interrupt(thread) => self.interrupt(thread),
                Mail::Stop => self.stopped.set(true),
            }
        }
    }

    /// The thread to run next: from the run queue and the nursery in turn, so that neither starves the other.
    #[inline]
    fn next(&self) -> Option<&'static Control> {
        let turns = self.nursery_turns.get();
        if turns > 0 {
            self.nursery_turns.set(turns - 1);
            self.next_unstarted().or_else(|| self.queue.pop())
        } else {
            self.nursery_turns.set(1);
            self.queue.pop().or_else(|| self.next_unstarted())
        }
    }

    #[inline]
    fn next_unstarted(&self) -> Option<&'static Control> {
        loop {
            let control = self.remote.next_unstarted()?;
            if control.word().take() {
                if self.remote.stealable() > 0 {
                    self.runtime.wake_a_sleeper();
                }
                return Some(control);
            }
        }
    }

    /// Takes an unstarted thread from the fullest nursery of another capability.
    fn steal(&self) -> Option<&'static Control> {
        let fullest = self
            .runtime
            .remotes()
            .iter()
            .filter(|remote| remote.slot() != self.remote.slot())
            .max_by_key(|remote| remote.stealable())
            .filter(|remote| remote.stealable() > 0)?;
        while let Some(control) = fullest.steal() {
            if control.word().take() {
                control.notice().move_home(self.remote.slot());
                self.remote.counters().steals.count();
                let from = self.runtime.index_of(fullest.slot()).unwrap_or_default();
                self.trace(Kind::Stolen, control, from as u64);
                return Some(control);
            }
        }
        None
    }

    /// Nothing to run: takes work from others, or sleeps until there is some.
    fn idle(&self) {
        if let Some(control) = self.steal() {
            self.queue.push(control);
            return;
        }
        let is_decaying = self.release_stacks();
        self.publish_stack_counts();
        self.follow_log();
        if self.spin() {
            return;
        }
        self.runtime.enter_sleep();
        self.remote.set_waiting(true);
        self.remote.sleep().announce();
        // The second look; see Note in `sleep.rs`. Without it a wake between the last look and the flag is lost.
        if !self.remote.has_work() && !self.runtime.has_stealable() {
            self.remote.counters().sleeps.count();
            self.trace_own(Kind::Sleep, 0);
            let limit = self.time_to_next_timer();
            let limit = if is_decaying { limit.at_most(stack::DECAY_NS) } else { limit };
            if matches!(limit, Timeout::Never) {
                self.remote.set_boundless(true);
                self.runtime.look_whether_quiet();
            }
            self.poll(limit);
            self.remote.set_boundless(false);
            self.trace_own(Kind::Awake, 0);
        }
        self.remote.sleep().retract();
        self.remote.set_waiting(false);
        self.runtime.leave_sleep();
    }

    /// Returns memory of stacks that nobody needs. True: there is more to return, a little later.
    fn release_stacks(&self) -> bool {
        let mut stacks = self.stacks.borrow_mut();
        stacks.release_idle();
        stacks.decay(clock::monotonic_coarse_ns());
        stacks.is_decaying()
    }

    /// Waits for work from other cores without sleeping, where some came lately. True: there is some.
    fn spin(&self) -> bool {
        let spin_ns = self.runtime.settings().spin.as_nanos() as u64;
        if spin_ns == 0 || !self.woken_remotely.replace(false) {
            return false;
        }
        self.remote.counters().spins.count();
        let end_ns = clock::monotonic_ns() + spin_ns;
        loop {
            for _ in 0..SPINS_PER_CLOCK {
                if self.remote.has_work() {
                    return true;
                }
                hint::spin_loop();
            }
            if clock::monotonic_ns() >= end_ns {
                return false;
            }
        }
    }

    #[cold]
    fn begin_slice(&self) {
        if self.remote.begin_slice() {
            self.trace_own(Kind::Stall, 0);
        }
        self.publish_stack_counts();
    }

    /// Lets others see how many stacks there are.
    fn publish_stack_counts(&self) {
        let counts = self.stacks.borrow().counts();
        let counters = self.remote.counters();
        let given_back = counts.given_back + counts.trimmed;
        let before = counters.stacks_given_back.get() + counters.stacks_trimmed.get();
        if given_back > before {
            self.trace_own(Kind::GiveBack, given_back - before);
        }
        counters.stacks.set(counts.slots as u64);
        counters.stacks_warm.set(counts.warm as u64);
        counters.stacks_given_back.set(counts.given_back);
        counters.stacks_trimmed.set(counts.trimmed);
    }

    fn time_to_next_timer(&self) -> Timeout {
        match self.timers.borrow().next_ns() {
            None => Timeout::Never,
            Some(deadline_ns) => match deadline_ns.saturating_sub(clock::monotonic_ns()) {
                0 => Timeout::Now,
                ns => Timeout::Nanoseconds(ns),
            },
        }
    }

    /// Makes those ready whose descriptors or deadlines allow it.
    fn poll(&self, timeout: Timeout) {
        self.remote.counters().polls.count();
        let mut events = self.events.borrow_mut();
        match self.remote.io().poll(&mut events, timeout, park::wake_all) {
            Ok(0) => {}
            Ok(count) => self.trace_own(Kind::Poll, count as u64),
            Err(error) => panic!("io manager: epoll_wait failed: {error}"),
        }
        drop(events);
        self.unix_seconds.set(clock::realtime_coarse_seconds());
        let mut timers = self.timers.borrow_mut();
        if timers.next_ns().is_some() {
            timers.expire(clock::monotonic_ns(), |token| {
                if let Some(claim) = Control::claim(token, Woken::Timer) {
                    self.remote.counters().timers.count();
                    park::ready(claim);
                }
            });
        }
    }

    /// Runs a thread until it parks, yields or ends. The one place where a green thread gets its core.
    #[inline]
    fn resume(&self, control: &'static Control) {
        // A started thread never moves. What holds `!Send` values on its stack relies on this line.
        assert!(
            control.home() == Home::Capability(self.remote.slot()),
            "scheduler: a thread was about to run away from its home"
        );
        // SAFETY: the thread was in our queue, or taken from a nursery: we have it.
        let coroutine = unsafe { control.owned() }.coroutine.get();
        // SAFETY: as above; nobody else looks at the coroutine, and the thread itself does not.
        let coroutine = unsafe { &mut *coroutine };
        self.trace(Kind::Run, control, u64::from(coroutine.is_none()));
        let coroutine = match coroutine {
            Some(coroutine) => coroutine,
            None => match self.start(control) {
                Some(new) => coroutine.insert(new),
                None => return self.finish(control),
            },
        };
        self.remote.counters().switches.count();
        self.running.set(Some(control));
        control.count_switch();
        let progress = coroutine.resume();
        self.remote.charge(control);
        self.running.set(None);
        match progress {
            Progress::Suspended => self.serve(control),
            Progress::Finished => self.retire(control),
        }
    }

    /// Does what a thread asked for when it suspended itself.
    #[inline]
    fn serve(&self, control: &'static Control) {
        match self.request.take().expect("a thread suspends itself for a reason") {
            Request::Yield => {
                self.trace(Kind::Yield, control, 0);
                if self.remote.is_slice_over() {
                    self.turn();
                    self.nursery_turns.set(STARTS_PER_SLICE);
                }
                self.queue.push(control);
            }
            Request::Park { token, commit } => {
                if self.remote.log().is_on() {
                    self.trace(Kind::Park, control, control.blocked_on().map_or(0, BlockedOn::pack));
                }
                control.word().parked(token);
                // SAFETY: the commit is on the stack of the parked thread, which stays as it is: even if the commit
                // publishes the token and another core claims it at once, only this loop resumes the thread.
                let waits = unsafe { (*commit)(token) };
                if !waits && let Some(claim) = Control::claim(token, Woken::Event) {
                    park::ready(claim);
                }
            }
        }
    }

    /// Gives a new thread its stack. `None`: there is none, and the thread is over with that as its outcome.
    fn start(&self, control: &'static Control) -> Option<Coroutine> {
        // SAFETY: we have the thread.
        let class = unsafe { control.owned() }.stack_class.get();
        match self.stacks.borrow_mut().take(class) {
            Ok(stack) => {
                self.remote.counters().started.count();
                Some(Coroutine::new(stack, move |suspender| main(control, suspender)))
            }
            Err(error) => {
                // SAFETY: we have the thread, which never ran.
                announce(unsafe { body::enter(control, Entry::Cancel(Box::new(error))) });
                None
            }
        }
    }

    /// Takes the stack of a thread that has ended.
    fn retire(&self, control: &'static Control) {
        // SAFETY: we have the thread, whose coroutine has finished.
        let coroutine = unsafe { &mut *control.owned().coroutine.get() };
        let stack = coroutine.take().expect("a thread that ends was started").into_stack();
        self.stacks.borrow_mut().give(stack);
        self.finish(control);
    }

    fn finish(&self, control: &'static Control) {
        self.timers.borrow_mut().forget(control);
        if self.remote.log().is_on() {
            self.trace_end(control);
        }
        control.word().finished();
        exception::release_throwers(control);
        self.remote.counters().finished.count();
        // SAFETY: this is the reference that the running thread held.
        unsafe { control.release() };
        self.runtime.thread_ended();
    }

    /// Records that a thread is over, and its name, which goes with it.
    #[cold]
    fn trace_end(&self, control: &'static Control) {
        self.trace(Kind::End, control, 0);
        if let (Some(id), Some(label)) = (control.id(), Reference::new(control).label()) {
            self.tap.record_name(id.get(), label.to_string());
        }
    }
}

/// Ends the process with a message, where an unwind is not possible.
#[cold]
fn end(message: &str) -> ! {
    fault::write_stderr(b"bast: ");
    fault::write_stderr(message.as_bytes());
    fault::write_stderr(b"\n");
    std::process::abort();
}

/// What every green thread runs on its own stack.
fn main(control: &'static Control, suspender: Suspender) {
    // SAFETY: the running thread has its own control block.
    unsafe { control.owned() }.suspender.set(Some(suspender));
    control.word().running();
    let entry = exception::before_start(control).map_or(Entry::Run, Entry::Cancel);
    // SAFETY: the running thread has its block, and enters its body once, here.
    let left = unsafe { body::enter(control, entry) };
    exception::discard(control);
    announce(left);
}

fn announce(left: Left) {
    match left {
        Left::Alone => {}
        Left::Joiner(claim) => park::ready(claim),
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capability").field("remote", &self.remote).finish_non_exhaustive()
    }
}
