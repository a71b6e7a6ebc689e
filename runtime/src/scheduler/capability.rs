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
use super::{current, park};
use crate::coroutine::{Coroutine, Progress, Suspender};
use crate::io_manager::EVENTS_MAX;
use crate::stack::StackPool;
use crate::sys::clock;
use crate::sys::epoll::{Events, Timeout};
use crate::sys::sample::os_thread_id;
use crate::thread::body::{self, Entry, Killed, Left};
use crate::thread::control::{Home, Reference};
use crate::thread::list::RunQueue;
use crate::thread::{Control, Token, Woken};
use crate::timer::Timers;
use crate::walk;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::hint;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

/// Switches between two looks at io under load. GHC and Go use similar numbers; a prime keeps it out of step with
/// workloads of round numbers. At 40 ns a switch it is a look every 2.5 µs at the shortest.
const POLL_EVERY: u32 = 61;

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
    events: RefCell<Events>,
    /// Whether the nursery is next.
    nursery_first: Cell<bool>,
    /// Another capability (or OS thread) woke one of ours lately: it may pay to spin before sleeping.
    woken_remotely: Cell<bool>,
    /// How deep in `no_park` the running thread is.
    no_park: Cell<u32>,
    /// Threads that are suspended while they unwind.
    unwinding_suspended: Cell<u32>,
    stopped: Cell<bool>,
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
            events: RefCell::new(Events::new(EVENTS_MAX)),
            nursery_first: Cell::new(false),
            woken_remotely: Cell::new(false),
            no_park: Cell::new(0),
            unwinding_suspended: Cell::new(0),
            stopped: Cell::new(false),
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
                    self.remote.begin_slice();
                    self.poll(Timeout::Now);
                    switches = 0;
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

    /// Puts a thread of this capability, which the caller has, at the end of the run queue.
    #[inline]
    pub(super) fn enqueue(&self, control: &'static Control) {
        self.queue.push(control);
    }

    #[inline]
    pub(super) fn may_park(&self) -> bool {
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

    /// Whether the running thread, if it panics by std's account, does so itself.
    pub(super) fn is_unwinding(&self, control: &Control) -> bool {
        thread::panicking() && (self.unwinding_suspended.get() == 0 || control.is_unwinding())
    }

    /// Arms the deadline of the running thread's next park.
    pub(super) fn arm(&self, control: &'static Control, deadline_ns: u64) {
        self.timers.borrow_mut().arm(control, deadline_ns);
    }

    /// Suspends the running thread until it is claimed; see Note [park].
    #[inline]
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
        control.yielding();
        self.request.set(Some(Request::Yield));
        self.suspend(control);
        control.running();
    }

    #[inline]
    fn suspend(&self, control: &'static Control) {
        let unwinding = (thread::panicking() || control.is_unwinding()) && self.suspend_unwinding(control);
        // SAFETY: the caller is the running thread, which has its own control block.
        let owned = unsafe { control.owned() };
        let here = walk::here();
        // Release: who finds the address finds what lies there.
        owned.suspended_at.store((&raw const here).cast_mut(), Ordering::Release);
        let suspender = owned.suspender.get();
        let suspender = suspender.expect("a running thread was started");
        // SAFETY: the suspender was given to this thread when it started, and the caller runs on its stack.
        unsafe { suspender.suspend() };
        if unwinding {
            self.unwinding_suspended.set(self.unwinding_suspended.get() - 1);
        }
    }

    /// Puts the flag of a thread that is about to be suspended right, and counts the thread if it is unwinding.
    #[cold]
    fn suspend_unwinding(&self, control: &Control) -> bool {
        let unwinding = self.is_unwinding(control);
        control.set_unwinding(unwinding);
        if unwinding {
            self.unwinding_suspended.set(self.unwinding_suspended.get() + 1);
        }
        unwinding
    }

    // The loop's steps.

    /// Takes in what others have sent.
    #[inline]
    fn receive(&self) {
        if !self.remote.inbox().is_empty() {
            self.woken_remotely.set(true);
            self.remote.inbox().take(|control| self.queue.push(control));
        }
        if self.remote.has_mail() {
            self.read_mail();
        }
    }

    #[cold]
    fn read_mail(&self) {
        for mail in self.remote.take_mail() {
            match mail {
                Mail::Kill(thread) => self.kill(thread),
                Mail::Stop => self.stopped.set(true),
            }
        }
    }

    /// The home's part of a kill.
    fn kill(&self, thread: Reference) {
        let control = thread.control();
        control.mark_killed();
        if control.home() != Home::Capability(self.remote.slot()) {
            // Stolen from our nursery before it started: its new home must see to it.
            return park::post_kill(thread);
        }
        if let Some(claim) = control.parked_token().and_then(|token| Control::claim(token, Woken::Interrupt))
        {
            park::ready(claim);
        }
    }

    /// The thread to run next: from the run queue and the nursery in turn, so that neither starves the other.
    #[inline]
    fn next(&self) -> Option<&'static Control> {
        if self.nursery_first.replace(!self.nursery_first.get()) {
            self.next_unstarted().or_else(|| self.queue.pop())
        } else {
            self.queue.pop().or_else(|| self.next_unstarted())
        }
    }

    #[inline]
    fn next_unstarted(&self) -> Option<&'static Control> {
        loop {
            let control = self.remote.next_unstarted()?;
            if control.take() {
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
            if control.take() {
                control.move_home(self.remote.slot());
                self.remote.counters().steals.count();
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
        self.stacks.borrow_mut().release_idle();
        if self.spin() {
            return;
        }
        self.runtime.enter_sleep();
        self.remote.set_waiting(true);
        self.remote.sleep().announce();
        // The second look; see Note in `sleep.rs`. Without it a wake between the last look and the flag is lost.
        if !self.remote.has_work() && !self.runtime.has_stealable() {
            self.remote.counters().sleeps.count();
            self.poll(self.time_to_next_timer());
        }
        self.remote.sleep().retract();
        self.remote.set_waiting(false);
        self.runtime.leave_sleep();
    }

    /// Waits for work from other cores without sleeping, where some came lately. True: there is some.
    fn spin(&self) -> bool {
        let spin_ns = self.runtime.settings().spin.as_nanos() as u64;
        if spin_ns == 0 || !self.woken_remotely.replace(false) {
            return false;
        }
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
        if let Err(error) = self.remote.io().poll(&mut events, timeout, park::wake_all) {
            panic!("io manager: epoll_wait failed: {error}");
        }
        drop(events);
        self.unix_seconds.set(clock::realtime_coarse_seconds());
        let mut timers = self.timers.borrow_mut();
        if timers.next_ns().is_some() {
            timers.expire(clock::monotonic_ns(), |token| {
                if let Some(claim) = Control::claim(token, Woken::Timer) {
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
            Request::Yield => self.queue.push(control),
            Request::Park { token, commit } => {
                control.parked(token);
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
            Ok(stack) => Some(Coroutine::new(stack, move |suspender| main(control, suspender))),
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
        control.finished();
        self.remote.counters().finished.count();
        // SAFETY: this is the reference that the running thread held.
        unsafe { control.release() };
        self.runtime.thread_ended();
    }
}

/// What every green thread runs on its own stack.
fn main(control: &'static Control, suspender: Suspender) {
    // SAFETY: the running thread has its own control block.
    unsafe { control.owned() }.suspender.set(Some(suspender));
    control.running();
    let entry = if control.is_killed() { Entry::Cancel(Box::new(Killed)) } else { Entry::Run };
    // SAFETY: the running thread has its block, and enters its body once, here.
    announce(unsafe { body::enter(control, entry) });
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
