//! What a thread runs and what it leaves behind: the closure, then its result, in the control block itself where
//! they fit (else in a box).
//!
//! Who may touch the storage, and when, is said by the `joiner` word:
//! ```text
//!             join parks: CAS                     body over: swap
//!   Nobody ──────────────────▶ Token of the joiner ─────────────▶ Done: the handle owns the result
//!     │ ◀────────────────────────────┘ the joiner gave up: CAS
//!     ├─ body over: swap ─────────────────────────────────────────▶ Done
//!     └─ handle dropped: swap ──▶ Detached: the thread drops its own result
//! ```
//! `Done` and `Detached` are both written by a swap; who comes second sees what the first wrote, and drops the result.

use super::control::{Claim, Control};
use super::park_word::Woken;
use super::token::Token;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering;

/// What ended a thread other than its return.
pub(crate) type Payload = Box<dyn Any + Send>;
/// What a thread leaves.
pub(crate) type Outcome<T> = Result<T, Payload>;

/// What fits in the control block.
const INLINE_BYTES: usize = 48;

type Storage = MaybeUninit<[u64; INLINE_BYTES / 8]>;

const NOBODY: u64 = 0;
const DONE: u64 = 1;
const DETACHED: u64 = 2;

/// The storage, and how to use it.
pub(crate) struct Body {
    entry: Cell<unsafe fn(&'static Control, Entry) -> Left>,
    storage: UnsafeCell<Storage>,
}

/// How a body is entered.
pub(crate) enum Entry {
    /// Run it.
    Run,
    /// It never ran: drop the closure and leave this in its place.
    Cancel(Payload),
}

/// What the end of a body found.
#[must_use = "the joiner is to be made ready"]
pub(crate) enum Left {
    /// Nobody waits (any more, or yet).
    Alone,
    /// Somebody waits: the claim is to be made ready.
    Joiner(Claim),
}

impl Body {
    pub(super) fn new() -> Body {
        Body { entry: Cell::new(no_entry), storage: UnsafeCell::new(Storage::uninit()) }
    }
}

/// Puts a closure into a block that is being made.
///
/// # Safety
/// The caller has the thread, which is not published yet. `T` is the type that the only `JoinHandle` names. `F` and
/// `T` may be used on whatever OS thread the body runs and is joined on.
pub(crate) unsafe fn write<F, T>(control: &Control, f: F)
where
    F: FnOnce() -> T,
{
    control.body().entry.set(enter_typed::<F, T>);
    // SAFETY: the caller has the thread, and the storage of a new block is empty.
    unsafe { put(control, f) };
}

/// Runs the body on the thread's own stack (or drops the closure) and leaves the outcome. From then on the thread
/// may be joined.
///
/// # Safety
/// The caller has the thread, has not done this yet, and the body was written.
pub(crate) unsafe fn enter(control: &'static Control, entry: Entry) -> Left {
    // SAFETY: passed on to the caller.
    unsafe { (control.body().entry.get())(control, entry) }
}

unsafe fn no_entry(_: &'static Control, _: Entry) -> Left {
    unreachable!("body: entered before it was written");
}

unsafe fn enter_typed<F, T>(control: &'static Control, entry: Entry) -> Left
where
    F: FnOnce() -> T,
{
    // SAFETY: `write::<F, T>` put the closure there, and nobody has taken it (the body is entered once).
    let f = unsafe { take::<F>(control) };
    let outcome: Outcome<T> = match entry {
        Entry::Run => {
            let outcome = panic::catch_unwind(AssertUnwindSafe(f));
            control.notice().set_ending();
            outcome
        }
        Entry::Cancel(payload) => {
            control.notice().set_ending();
            let dropped = panic::catch_unwind(AssertUnwindSafe(|| drop(f)));
            Err(dropped.err().unwrap_or(payload))
        }
    };
    // Before the thread counts as over.
    control.drop_extra();
    // SAFETY: the closure is gone, and the handle looks at the storage only after the swap below.
    unsafe { put(control, outcome) };
    // Release: the joiner sees the outcome. Acquire: we see that the handle is done with the block.
    match control.joiner().swap(DONE, Ordering::AcqRel) {
        NOBODY => Left::Alone,
        DETACHED => {
            // SAFETY: the outcome was just put, and the handle went before it could see DONE.
            let outcome = unsafe { take::<Outcome<T>>(control) };
            // A panic in the drop of a result that nobody wanted ends here, as that of a detached thread does.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(outcome)));
            control.drop_extra();
            Left::Alone
        }
        raw => match Token::from_raw(raw).and_then(|token| Control::claim(token, Woken::Event)) {
            Some(claim) => Left::Joiner(claim),
            None => Left::Alone,
        },
    }
}

/// The right to a thread's outcome: what a `JoinHandle` is made of. Holds a reference to the control block.
pub(crate) struct Joiner<T> {
    control: &'static Control,
    outcome: PhantomData<T>,
}

// SAFETY: the joiner only moves a `T` from where it was left to where it is taken; `T: Send` says that it may.
unsafe impl<T: Send> Send for Joiner<T> {}
// SAFETY: nothing can be done to a `T` through a shared joiner.
unsafe impl<T: Send> Sync for Joiner<T> {}

impl<T> Joiner<T> {
    /// # Safety
    /// The body that was written into `control` leaves a `T`; there is one joiner for it, and it gets a reference.
    pub(crate) unsafe fn new(control: &'static Control) -> Joiner<T> {
        Joiner { control, outcome: PhantomData }
    }

    pub(crate) fn control(&self) -> &'static Control {
        self.control
    }

    pub(crate) fn is_done(&self) -> bool {
        self.control.joiner().load(Ordering::Acquire) == DONE
    }

    /// Puts the joiner's token up. False: there is nothing to wait for.
    pub(crate) fn wait(&self, token: Token) -> bool {
        let word = self.control.joiner();
        word.compare_exchange(NOBODY, token.raw(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes the joiner's token down again, when it stopped waiting for another reason than the end.
    pub(crate) fn give_up(&self) {
        let word = self.control.joiner();
        let seen = word.load(Ordering::Relaxed);
        if seen != DONE {
            // A failure means that the body is over, which the caller will see or does not want to.
            let _ = word.compare_exchange(seen, NOBODY, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Takes the outcome of a thread that is done.
    pub(crate) fn take(self) -> Outcome<T> {
        assert!(self.is_done(), "join: the outcome is not there yet");
        // SAFETY: DONE is stored after the outcome (a `T`, says `new`) was put, only the joiner takes it then, and
        // it is consumed: `detach` is not reached.
        let outcome = unsafe { take::<Outcome<T>>(self.control) };
        let this = ManuallyDrop::new(self);
        // SAFETY: the joiner's reference, which is not used again.
        unsafe { this.control.release() };
        outcome
    }
}

impl<T> Drop for Joiner<T> {
    fn drop(&mut self) {
        let is_done = self.control.joiner().swap(DETACHED, Ordering::AcqRel) == DONE;
        // SAFETY: as in `take`; the swap made sure that nobody else takes the outcome.
        let outcome = is_done.then(|| unsafe { take::<Outcome<T>>(self.control) });
        // SAFETY: the joiner's reference, which is not used again.
        unsafe { self.control.release() };
        // Last: its destructor may panic.
        drop(outcome);
    }
}

const fn fits<V>() -> bool {
    size_of::<V>() <= size_of::<Storage>() && align_of::<V>() <= align_of::<Storage>()
}

/// # Safety
/// The caller may write the storage, which is empty.
unsafe fn put<V>(control: &Control, value: V) {
    let storage = control.body().storage.get();
    // SAFETY: the storage is ours (the caller's promise); size and alignment were checked, or it takes a pointer.
    unsafe {
        if fits::<V>() {
            storage.cast::<V>().write(value);
        } else {
            storage.cast::<*mut V>().write(Box::into_raw(Box::new(value)));
        }
    }
}

/// # Safety
/// The storage holds a `V` that was put there, and the caller may take it.
unsafe fn take<V>(control: &Control) -> V {
    let storage = control.body().storage.get();
    // SAFETY: the value is there (the caller's promise) in the form that `put` chose for its type.
    unsafe {
        if fits::<V>() { storage.cast::<V>().read() } else { *Box::from_raw(storage.cast::<*mut V>().read()) }
    }
}

const _: () = assert!(mem::size_of::<Option<Payload>>() <= INLINE_BYTES);
