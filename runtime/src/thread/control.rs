//! The control block: everything the runtime knows of one green thread (or of one OS thread that blocks on our
//! objects), in 256 bytes.
//!
//! ```text
//!          spawn          take            begin_park, parked
//!   Free ───────▶ New ─────────▶ Runnable ──▶ Running ──────────────▶ Parked
//!    ▲                              ▲  ▲        │  │                    │ claim (one winner per park)
//!    │                        yield │  │        │  │                    ▼
//!    │                              └──┼────────┘  │            Claimed(Event | Timer | Interrupt)
//!    │                                 │           │                    │
//!    │ last reference                  └───────────┼────────────────────┘  queued by the winner, then resumed
//!    └────────────────── Finished ◀────────────────┘
//! ```
//!
//! # Fields: who may touch what, when
//! - `word`, `refs`, `flags`, `joiner`, `block`, `id`, `spawned_ns`, `home`, `slices`, `switches` and `suspended_at`:
//!   atomics, for anybody at any time; the block is type-stable, so a look at a recycled one is harmless and noticed by
//!   its token or id.
//! - `deadline_ns`, `timer_ns`: the home capability (see `timer.rs`); others look at them through a stale timer
//!   entry only to find that it is stale.
//! - `next`: the list that the thread is in, which somebody has.
//! - `label`: written while the block is being made (no references yet), read by holders of a reference.
//! - `owned`: whoever *has* the thread. That is the spawner before it publishes the block; then whoever took it from
//!   New; then its home capability, except between a claim and the push into a queue, when the claimer has it.
//! - `node`: whoever holds the lock of the object in whose queue the node is linked; else the thread itself.
//! - `body`: the thread's own body while it runs; before, whoever has the thread; after, whoever the `joiner` word
//!   says (see `body.rs`).
//!
//! # Memory ordering
//! `parked` is a release store and `claim` an acquire exchange, so what the parking thread did happens before what
//! its waker does; the claimer hands the block on through a queue whose push releases and whose pop acquires (or
//! which is its own OS thread's), so what the waker did happens before the thread goes on.

use super::block::BlockedOn;
use super::body::Body;
use super::label::Label;
use super::list::{Linked, Node};
use super::locals::Locals;
use super::token::{State, Token};
use super::{ThreadId, table};
use crate::coroutine::{Coroutine, Suspender};
use crate::stack::SizeClass;
use crate::sys::sample::Registers;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// Why a parked thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// What it waited for happened (or the commit found that there was no need to wait).
    Event,
    /// Its deadline passed first.
    Timer,
    /// An exception is to be raised in it: a kill, say.
    Interrupt,
}

/// A parked thread, claimed: nobody else can wake it now, and it stays where it is until the claim is handed to the
/// scheduler. Whatever it waited for is given to it in between.
#[must_use = "a claimed thread that is not made ready sleeps for ever"]
pub(crate) struct Claim {
    control: &'static Control,
}

impl Claim {
    #[inline]
    pub(crate) fn control(&self) -> &'static Control {
        self.control
    }

    /// The claim of a thread that came out of a list of claims.
    #[inline]
    pub(super) fn from_list(control: &'static Control) -> Claim {
        Claim { control }
    }
}

/// The capability that a thread belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// The slot of a capability.
    Capability(u16),
    /// None: the block stands for a plain OS thread.
    OsThread,
}

const HOME_OS_THREAD: u32 = u32::MAX;

/// The thread is to be killed at its next interruptible point, and at every one from then on.
const KILLED: u32 = 1 << 0;
/// The thread is unwinding, as far as it knows (see `scheduler/park.rs`).
const UNWINDING: u32 = 1 << 1;

#[repr(C, align(128))]
pub(crate) struct Control {
    // The line that a switch touches.
    word: AtomicU64,
    flags: AtomicU32,
    home: AtomicU32,
    next: AtomicPtr<Control>,
    block: AtomicU64,
    owned: Owned,
    // The rest.
    refs: AtomicU32,
    slices: AtomicU32,
    joiner: AtomicU64,
    id: AtomicU64,
    spawned_ns: AtomicU64,
    deadline_ns: AtomicU64,
    timer_ns: AtomicU64,
    label: UnsafeCell<Option<Box<Label>>>,
    node: UnsafeCell<Node>,
    body: Body,
}

/// What only the one who has the thread may touch.
#[repr(C)]
pub(crate) struct Owned {
    /// Set while the thread is started and not finished.
    pub(crate) coroutine: UnsafeCell<Option<Coroutine>>,
    /// How the thread gets back to the scheduler; set by the thread itself when it starts.
    pub(crate) suspender: Cell<Option<Suspender>>,
    /// Where its stack was when it last suspended itself: what to fetch before it is resumed.
    /// What the stack walker begins with lies there (`walk::here`). Null in a thread that has not been suspended yet.
    pub(crate) suspended_at: AtomicPtr<Registers>,
    /// Called before each park.
    pub(crate) park_hook: Cell<Option<*const dyn Fn()>>,
    /// The thread's local values.
    pub(crate) locals: Cell<Option<Box<Locals>>>,
    /// The stack size class, as asked for at spawn.
    pub(crate) stack_class: Cell<SizeClass>,
    /// How often it got the core; the low part, and the carries of it. For anybody to read, and its home to count.
    switches_high: AtomicU16,
    switches: AtomicU32,
}

// SAFETY: the atomics may be shared. The other fields follow the rules in the module's documentation, which their
// accessors (all `unsafe`) repeat; what they hold is moved between OS threads only by the spawner (`F: Send`, or a
// thread that never leaves home) and by the joiner (`T: Send`, see `JoinHandle`).
unsafe impl Sync for Control {}
// SAFETY: as above. Blocks are made where the table grows and then stay where they are for ever.
unsafe impl Send for Control {}

const _: () =
    assert!(size_of::<Control>() <= 256, "a parked thread pays for every byte of its control block");

impl Control {
    /// A free block for slot `index`.
    pub(super) fn new(index: u32) -> Control {
        Control {
            word: AtomicU64::new(Token::first(index).with(State::Free)),
            refs: AtomicU32::new(0),
            slices: AtomicU32::new(0),
            flags: AtomicU32::new(0),
            home: AtomicU32::new(HOME_OS_THREAD),
            joiner: AtomicU64::new(0),
            block: AtomicU64::new(0),
            id: AtomicU64::new(0),
            spawned_ns: AtomicU64::new(0),
            deadline_ns: AtomicU64::new(0),
            timer_ns: AtomicU64::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
            label: UnsafeCell::new(None),
            owned: Owned {
                stack_class: Cell::new(SizeClass::DEFAULT),
                suspended_at: AtomicPtr::new(ptr::null_mut()),
                switches_high: AtomicU16::new(0),
                switches: AtomicU32::new(0),
                park_hook: Cell::new(None),
                locals: Cell::new(None),
                coroutine: UnsafeCell::new(None),
                suspender: Cell::new(None),
            },
            node: UnsafeCell::new(Node::new()),
            body: Body::new(),
        }
    }

    /// Makes a free block that of a new thread with `refs` references. The caller then writes what it owns and
    /// publishes the block.
    ///
    /// # Safety
    /// The block is free and the caller took it from the table.
    pub(super) unsafe fn occupy(
        &'static self,
        id: ThreadId,
        home: Home,
        label: Label,
        spawned_ns: u64,
        refs: u32,
    ) {
        let word = self.word.load(Ordering::Relaxed);
        debug_assert_eq!(State::of(word), State::Free, "control block: taken twice");
        self.flags.store(0, Ordering::Relaxed);
        self.set_home(home);
        self.joiner.store(0, Ordering::Relaxed);
        self.block.store(0, Ordering::Relaxed);
        self.id.store(id.get(), Ordering::Relaxed);
        self.spawned_ns.store(spawned_ns, Ordering::Relaxed);
        self.deadline_ns.store(0, Ordering::Relaxed);
        self.timer_ns.store(0, Ordering::Relaxed);
        self.slices.store(0, Ordering::Relaxed);
        self.owned.switches.store(0, Ordering::Relaxed);
        self.owned.switches_high.store(0, Ordering::Relaxed);
        self.owned.suspended_at.store(ptr::null_mut(), Ordering::Relaxed);
        if !label.is_none() {
            // SAFETY: no references exist yet, so nobody else looks at the label.
            unsafe { *self.label.get() = Some(Box::new(label)) };
        }
        let state = if home == Home::OsThread { State::Running } else { State::New };
        self.word.store(token_of(word).next().with(state), Ordering::Relaxed);
        // Release: whoever gets a reference by `try_reference` sees all of the above.
        self.refs.store(refs, Ordering::Release);
    }

    // Identity.

    /// The slot in the table.
    pub(crate) fn index(&self) -> u32 {
        token_of(self.word.load(Ordering::Relaxed)).index()
    }

    pub(crate) fn id(&self) -> Option<ThreadId> {
        ThreadId::from_raw(self.id.load(Ordering::Relaxed))
    }

    pub(crate) fn spawned_ns(&self) -> u64 {
        self.spawned_ns.load(Ordering::Relaxed)
    }

    /// # Safety
    /// The caller holds a reference, or is the thread itself.
    pub(crate) unsafe fn label(&self) -> Option<&Label> {
        // SAFETY: the label is written before the first reference is given out, and taken after the last is gone.
        unsafe { (*self.label.get()).as_deref() }
    }

    #[inline]
    pub(crate) fn home(&self) -> Home {
        match self.home.load(Ordering::Relaxed) {
            HOME_OS_THREAD => Home::OsThread,
            slot => Home::Capability(slot as u16),
        }
    }

    pub(crate) fn set_home(&self, home: Home) {
        let raw = match home {
            Home::OsThread => HOME_OS_THREAD,
            Home::Capability(slot) => u32::from(slot),
        };
        self.home.store(raw, Ordering::Relaxed);
    }

    /// Gives a thread that was just taken from another capability's nursery its new home.
    pub(crate) fn move_home(&self, slot: u16) {
        self.home.store(u32::from(slot), Ordering::Relaxed);
        fence(Ordering::SeqCst); // see `mark_killed`
    }

    // References: the running thread, its JoinHandle, every `Thread` and every look of the monitor hold one.

    pub(crate) fn reference(&self) {
        let before = self.refs.fetch_add(1, Ordering::Relaxed);
        debug_assert!(before > 0, "control block: referenced when nobody had it");
    }

    /// Takes a reference if anybody still has one.
    pub(crate) fn try_reference(&self) -> bool {
        self.refs
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |refs| (refs > 0).then(|| refs + 1))
            .is_ok()
    }

    /// Gives a reference up; the last one frees the block.
    ///
    /// # Safety
    /// The caller holds the reference and does not use it again.
    pub(crate) unsafe fn release(&'static self) {
        let before = self.refs.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "control block: released when nobody had it");
        if before == 1 {
            fence(Ordering::Acquire);
            // SAFETY: nobody has a reference, and `try_reference` gives none out at 0: the label is ours.
            drop(unsafe { (*self.label.get()).take() });
            let token = token_of(self.word.load(Ordering::Relaxed));
            self.word.store(token.next().with(State::Free), Ordering::Relaxed);
            self.id.store(0, Ordering::Relaxed);
            table::give_back(self);
        }
    }

    /// Frees the block of a thread that a test made, with one reference and without a body.
    #[cfg(test)]
    pub(crate) fn release_only_reference(&'static self) {
        assert_eq!(self.refs.load(Ordering::Relaxed), 1);
        // SAFETY: it is the test's.
        unsafe { self.release() };
    }

    // States.

    #[inline]
    pub(crate) fn state(&self) -> State {
        State::of(self.word.load(Ordering::Acquire))
    }

    /// New → Runnable, for one winner: the one who starts the thread.
    #[must_use]
    pub(crate) fn take(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        State::of(word) == State::New
            && self
                .word
                .compare_exchange(
                    word,
                    token_of(word).with(State::Runnable),
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// Runnable → Running: the thread itself, when it starts or goes on after a yield.
    #[inline]
    pub(crate) fn running(&self) {
        let word = self.word.load(Ordering::Relaxed);
        debug_assert_eq!(State::of(word), State::Runnable, "thread: goes on without having been queued");
        self.word.store(token_of(word).with(State::Running), Ordering::Relaxed);
    }

    /// Running → Runnable: the thread itself, before it yields.
    #[inline]
    pub(crate) fn yielding(&self) {
        let word = self.word.load(Ordering::Relaxed);
        debug_assert_eq!(State::of(word), State::Running, "thread: yields without running");
        self.word.store(token_of(word).with(State::Runnable), Ordering::Relaxed);
    }

    /// The token of the park that the running thread is about to begin.
    #[inline]
    pub(crate) fn begin_park(&self, reason: BlockedOn) -> Token {
        let word = self.word.load(Ordering::Relaxed);
        debug_assert_eq!(State::of(word), State::Running, "thread: parks without running");
        self.block.store(reason.pack(), Ordering::Relaxed);
        token_of(word).next()
    }

    /// Running → Parked: from here on `claim` may win. The thread is off its stack already.
    #[inline]
    pub(crate) fn parked(&self, token: Token) {
        debug_assert_eq!(
            State::of(self.word.load(Ordering::Relaxed)),
            State::Running,
            "thread: parked twice"
        );
        self.word.store(token.with(State::Parked), Ordering::Release);
    }

    /// Parked → Claimed, for one winner per park. `None`: that park is over, or somebody else won it.
    #[inline]
    pub(crate) fn claim(token: Token, cause: Woken) -> Option<Claim> {
        let control = table::control(token.index())?;
        let state = match cause {
            Woken::Event => State::ClaimedEvent,
            Woken::Timer => State::ClaimedTimer,
            Woken::Interrupt => State::ClaimedInterrupt,
        };
        control
            .word
            .compare_exchange(
                token.with(State::Parked),
                token.with(state),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
            .then_some(Claim { control })
    }

    /// The token of the park that the thread is in just now.
    pub(crate) fn parked_token(&self) -> Option<Token> {
        let word = self.word.load(Ordering::Acquire);
        (State::of(word) == State::Parked).then(|| token_of(word))
    }

    /// Claimed → Runnable, for an OS thread, which is in no queue: its claimer, once it has given it what it waited for.
    /// Release: the thread sees what it was given.
    pub(crate) fn let_go(&self) {
        let word = self.word.load(Ordering::Relaxed);
        debug_assert_eq!(State::of(word), State::ClaimedEvent, "thread: let go without having been claimed");
        self.word.store(token_of(word).with(State::Runnable), Ordering::Release);
    }

    /// Claimed (an OS thread: Runnable) → Running: the thread itself, first thing after a park.
    #[inline]
    pub(crate) fn resumed(&self) -> Woken {
        let word = self.word.load(Ordering::Acquire);
        let woken = match State::of(word) {
            State::ClaimedEvent | State::Runnable => Woken::Event,
            State::ClaimedTimer => Woken::Timer,
            State::ClaimedInterrupt => Woken::Interrupt,
            state => unreachable!("thread: goes on after a park while {state:?}"),
        };
        self.word.store(token_of(word).with(State::Running), Ordering::Relaxed);
        self.block.store(0, Ordering::Relaxed);
        woken
    }

    /// Running → Finished.
    pub(crate) fn finished(&self) {
        let word = self.word.load(Ordering::Relaxed);
        self.word.store(token_of(word).with(State::Finished), Ordering::Release);
    }

    // Timer (see `timer.rs`).

    /// When the park that the thread is in ends at the latest; 0 is never.
    #[inline]
    pub(crate) fn deadline_ns(&self) -> &AtomicU64 {
        &self.deadline_ns
    }

    /// The deadline of the thread's entry in the timer heap; 0 when it has none.
    #[inline]
    pub(crate) fn timer_ns(&self) -> &AtomicU64 {
        &self.timer_ns
    }

    /// What the thread waits for, if it does.
    pub(crate) fn blocked_on(&self) -> Option<BlockedOn> {
        BlockedOn::unpack(self.block.load(Ordering::Relaxed))
    }

    /// The park word itself: what an OS thread sleeps on.
    pub(crate) fn park_word(&'static self) -> &'static AtomicU64 {
        &self.word
    }

    // Flags.

    #[inline]
    pub(crate) fn is_killed(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & KILLED != 0
    }

    /// Of a kill and a steal at the same time, one sees the other: the killer looks at the home after this fence, the
    /// thief starts the thread, which looks at the flag, after that of `move_home`.
    pub(crate) fn mark_killed(&self) {
        self.flags.fetch_or(KILLED, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn is_unwinding(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & UNWINDING != 0
    }

    pub(crate) fn set_unwinding(&self, on: bool) {
        if on {
            self.flags.fetch_or(UNWINDING, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!UNWINDING, Ordering::Relaxed);
        }
    }

    /// Fetches the top of the thread's stack into the cache. For whoever has the thread; a look at a thread that
    /// somebody else has would fetch the wrong lines, no more.
    #[inline]
    pub(super) fn prefetch_stack(&self) {
        super::list::prefetch_stack(self.owned.suspended_at.load(Ordering::Relaxed).cast());
    }

    // What it has used.

    /// The thread gets the core. For its home only.
    #[inline]
    pub(crate) fn count_switch(&self) {
        let count = self.owned.switches.load(Ordering::Relaxed).wrapping_add(1);
        self.owned.switches.store(count, Ordering::Relaxed);
        if count == 0 {
            let high = self.owned.switches_high.load(Ordering::Relaxed);
            self.owned.switches_high.store(high.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// How often the thread got the core. Counts to 2^48.
    pub(crate) fn switches(&self) -> u64 {
        // A look in the middle of a carry, once in four billion, is told too few.
        let high = self.owned.switches_high.load(Ordering::Relaxed);
        let low = self.owned.switches.load(Ordering::Relaxed);
        u64::from(high) << 32 | u64::from(low)
    }

    /// The thread had the core at the ends of so many time slices. For its home only.
    pub(crate) fn charge(&self, slices: u32) {
        let sum = self.slices.load(Ordering::Relaxed).saturating_add(slices);
        self.slices.store(sum, Ordering::Relaxed);
    }

    /// At the ends of how many time slices the thread had the core.
    pub(crate) fn slices(&self) -> u32 {
        self.slices.load(Ordering::Relaxed)
    }

    /// The park word, to compare with that of a later look: equal ones of a parked thread are of the same park.
    pub(crate) fn word(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    /// Where the thread left the registers that a walk of its stack begins with, when it last suspended itself; 0: it has
    /// not done that yet. What lies there is the thread's only while it is suspended.
    pub(crate) fn suspended_at(&self) -> usize {
        self.owned.suspended_at.load(Ordering::Acquire).addr()
    }

    // The parts with owners.

    /// # Safety
    /// The caller has the thread (see the module's documentation).
    #[inline]
    pub(crate) unsafe fn owned(&self) -> &Owned {
        &self.owned
    }

    /// Borrows the local values. Only the thread itself has any use for them: the caller must be it, which is
    /// asserted in debug builds by its state.
    pub(crate) fn with_locals<R>(&self, f: impl FnOnce(&mut Locals) -> R) -> R {
        debug_assert_eq!(self.state(), State::Running, "locals: asked for by another thread");
        let slot = &self.owned.locals;
        let mut locals = slot.take().unwrap_or_default();
        let result = f(&mut locals);
        slot.set(Some(locals));
        result
    }

    /// Drops the local values, on the thread's own stack. A destructor that panics has said so through the panic hook.
    pub(super) fn drop_locals(&self) {
        // A destructor may make new local values: as many rounds as std gives its own.
        const ROUNDS: usize = 5;
        for _ in 0..ROUNDS {
            let Some(locals) = self.owned.locals.take() else { return };
            let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(locals)));
        }
        // It does not come to an end. Whoever has the block next must not find the values.
        mem::forget(self.owned.locals.take());
    }

    /// # Safety
    /// The caller holds the lock of the object in whose queue the node is or will be linked.
    pub(crate) unsafe fn node(&self) -> *mut Node {
        self.node.get()
    }

    pub(super) fn body(&self) -> &Body {
        &self.body
    }

    pub(super) fn joiner(&self) -> &AtomicU64 {
        &self.joiner
    }
}

/// A counted reference: as long as it lives the block stays that of its thread.
pub(crate) struct Reference(&'static Control);

impl Reference {
    /// A further reference to the block of a thread that somebody else has one to.
    pub(crate) fn new(control: &'static Control) -> Reference {
        control.reference();
        Reference(control)
    }

    /// A reference, if anybody still has one.
    pub(crate) fn try_new(control: &'static Control) -> Option<Reference> {
        // Not `then_some`: it would make a reference, and give it up, where there is none.
        control.try_reference().then(|| Reference(control))
    }

    pub(crate) fn control(&self) -> &'static Control {
        self.0
    }

    pub(crate) fn label(&self) -> Option<&Label> {
        // SAFETY: `self` is a reference.
        unsafe { self.0.label() }
    }
}

impl Clone for Reference {
    fn clone(&self) -> Reference {
        Reference::new(self.0)
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // SAFETY: the reference is ours and goes.
        unsafe { self.0.release() };
    }
}

impl Linked for Control {
    #[inline]
    fn link(&self) -> &AtomicPtr<Control> {
        &self.next
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("id", &self.id())
            .field("state", &self.state())
            .field("blocked_on", &self.blocked_on())
            .finish_non_exhaustive()
    }
}

fn token_of(word: u64) -> Token {
    Token::from_raw(word).expect("a slot's index is not 0")
}
