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
//! - `word`, `notice`, `refs`, `joiner`, `block`, `id`, `spawned_ns`, `slices`, `switches` and `suspended_at`: atomics, for
//!   anybody at any time; the block is type-stable, so a look at a recycled one is harmless and noticed by its token or
//!   id.
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
use super::block::BlockedOn;
use super::body::Body;
use super::exception::MaskingState;
use super::extra::Extra;
use super::label::Label;
use super::list::{Linked, Node};
use super::notice::{Home, Notice};
use super::park_word::{ParkWord, Woken};
use super::token::{State, Token};
use super::{ThreadId, table};
use crate::coroutine::{Coroutine, Suspender};
use crate::stack::SizeClass;
use crate::sys::sample::Registers;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

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

#[repr(C, align(128))]
pub(crate) struct Control {
    // The line that a switch touches.
    word: ParkWord,
    notice: Notice,
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
    /// What few threads have: local values, say.
    pub(super) extra: Cell<Option<Box<Extra>>>,
    /// The stack size class, as asked for at spawn.
    pub(crate) stack_class: Cell<SizeClass>,
    /// Whether it receives exceptions.
    pub(crate) mask: Cell<MaskingState>,
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

#[cfg(not(feature = "sanitizer"))] // which has a word of its own in each coroutine
const _: () =
    assert!(size_of::<Control>() <= 256, "a parked thread pays for every byte of its control block");

impl Control {
    /// A free block for slot `index`.
    pub(super) fn new(index: u32) -> Control {
        Control {
            word: ParkWord::new(index),
            refs: AtomicU32::new(0),
            notice: Notice::new(),
            slices: AtomicU32::new(0),
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
                extra: Cell::new(None),
                mask: Cell::new(MaskingState::Unmasked),
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
        self.notice.reset(home);
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
        self.word.occupy(state);
        // Release: whoever gets a reference by `try_reference` sees all of the above.
        self.refs.store(refs, Ordering::Release);
    }

    // Identity.

    /// The slot in the table.
    pub(crate) fn index(&self) -> u32 {
        self.word.token().index()
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
        self.notice.home()
    }

    /// What was sent to the thread, and whither.
    #[inline]
    pub(crate) fn notice(&self) -> &Notice {
        &self.notice
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
            self.word.free();
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
        self.word.state()
    }

    /// The transitions.
    #[inline]
    pub(crate) fn word(&self) -> &ParkWord {
        &self.word
    }

    /// The token of the park that the running thread is about to begin.
    #[inline]
    pub(crate) fn begin_park(&self, reason: BlockedOn) -> Token {
        self.block.store(reason.pack(), Ordering::Relaxed);
        self.word.next_token()
    }

    /// Claims the park that the token names. `None`: it is over, or somebody else won it.
    #[inline]
    pub(crate) fn claim(token: Token, cause: Woken) -> Option<Claim> {
        let control = table::control(token.index())?;
        control.word.claim(token, cause).then_some(Claim { control })
    }

    /// The same by an event, for the caller that no other claimer can race with; see [`ParkWord::claim_alone`].
    #[inline]
    pub(crate) fn claim_alone(&'static self, token: Token) -> Option<Claim> {
        self.word.claim_alone(token).then_some(Claim { control: self })
    }

    /// The thread itself, first thing after a park.
    #[inline]
    pub(crate) fn resumed(&self) -> Woken {
        let woken = self.word.resumed();
        self.block.store(0, Ordering::Relaxed);
        woken
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

    /// The thread, which is parked, waits for the mutex whose word is at `address`.
    pub(crate) fn awaits_mutex(&self, address: usize) {
        // Release: who reads the address sees that the thread is parked.
        self.block.store(BlockedOn::pack_mutex(address), Ordering::Release);
    }

    /// The address that the thread gave, if it waits for a mutex.
    pub(crate) fn awaited_mutex(&self) -> Option<usize> {
        BlockedOn::unpack_mutex(self.block.load(Ordering::Acquire))
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

    /// For the thread itself: whether it has what few threads have.
    pub(crate) fn has_extra(&self) -> bool {
        let extra = self.owned.extra.take();
        let has = extra.is_some();
        self.owned.extra.set(extra);
        has
    }

    /// Borrows what few threads have, and makes it if need be.
    ///
    /// # Safety
    /// The caller has the thread.
    pub(crate) unsafe fn with_extra<R>(&self, f: impl FnOnce(&mut Extra) -> R) -> R {
        let slot = &self.owned.extra;
        let mut extra = slot.take().unwrap_or_default();
        let result = f(&mut extra);
        slot.set(Some(extra));
        result
    }

    /// Enters a frame that may be over before its body is; see [`Frames::enter`](super::exception::Frames::enter).
    ///
    /// # Safety
    /// The caller is the thread itself.
    pub(crate) unsafe fn enter_frame(&self, deadline_ns: u64, cancelled: Option<Arc<AtomicBool>>) -> u64 {
        self.notice.set_frames(true);
        // SAFETY: the caller's promise.
        unsafe { self.with_extra(|extra| extra.frames.enter(deadline_ns, cancelled)) }
    }

    /// Leaves it. That it was over is forgotten, unless another is.
    ///
    /// # Safety
    /// The caller is the thread itself.
    pub(crate) unsafe fn leave_frame(&self, id: u64) {
        // SAFETY: the caller's promise.
        let last = unsafe {
            self.with_extra(|extra| {
                extra.frames.leave(id);
                extra.frames.is_empty()
            })
        };
        if last {
            self.notice.set_frames(false);
        }
        // SAFETY: the caller's promise.
        unsafe { self.forget_frame_over() };
    }

    /// Takes the mark away that a frame is over, unless one was cancelled.
    ///
    /// # Safety
    /// The caller is the thread itself.
    pub(crate) unsafe fn forget_frame_over(&self) {
        // SAFETY: the caller's promise.
        self.notice.forget_frame_over(|| unsafe { self.with_extra(|extra| extra.frames.is_cancelled()) });
    }

    /// Drops the local values and the like, on the thread's own stack. A destructor that panics has said so through the
    /// panic hook.
    pub(super) fn drop_extra(&self) {
        // A destructor may make new local values: as many rounds as std gives its own.
        const ROUNDS: usize = 5;
        for _ in 0..ROUNDS {
            let Some(extra) = self.owned.extra.take() else { return };
            let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(extra)));
        }
        // It does not come to an end. Whoever has the block next must not find the values.
        mem::forget(self.owned.extra.take());
    }

    /// # Safety
    /// The caller holds the lock of the object in whose queue the node is or will be linked.
    #[inline]
    pub(crate) unsafe fn node(&self) -> NonNull<Node> {
        NonNull::from(&self.node).cast()
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
