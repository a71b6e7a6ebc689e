#![forbid(unsafe_code)]
//! What reaches a thread from outside first: the flags that say what was sent to it, and its home, which is to be told.
//!
//! Two races are decided here. `tests/tests/model.rs` runs this file under loom.
//!
//! **Sent and stolen.** A thread that has not started may be stolen while something is sent to it. The sender marks and
//! then looks at the home; the thief sets the home and then starts the thread, which looks at the marks; each with a
//! fence in between. So either the sender tells the new home or the thread finds the mark when it starts.
//!
//! **Cancelled and left.** A frame may be left while somebody cancels it, or one around it. The canceller sets the frame's
//! flag and then the mark; who leaves takes the mark away and then looks at the flags of the frames that are left. The
//! mark's release and acquire make sure that either that look finds the flag or the mark is set after it was taken away.

use super::atomic::{AtomicU32, Ordering, fence};

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
/// Exceptions were thrown to it (see `exception.rs`).
const THROWN: u32 = 1 << 1;
/// One of its frames was cancelled, or found to be past its deadline.
const FRAME_OVER: u32 = 1 << 2;
/// It has frames that may be over before their bodies are.
const FRAMES: u32 = 1 << 3;
/// The thread is unwinding, as far as it knows (see `scheduler/park.rs`).
const UNWINDING: u32 = 1 << 4;
/// The thread may be switched at an allocation; see Note [preemption] in `scheduler/preempt.rs`.
const PREEMPTIBLE: u32 = 1 << 5;
/// Its body is over, or will never run: what is left are destructors, which are not to be cut short.
const ENDING: u32 = 1 << 6;

pub(crate) struct Notice {
    flags: AtomicU32,
    home: AtomicU32,
}

impl Notice {
    pub(crate) fn new() -> Notice {
        Notice { flags: AtomicU32::new(0), home: AtomicU32::new(HOME_OS_THREAD) }
    }

    /// For a new thread: nothing was sent to it yet.
    pub(crate) fn reset(&self, home: Home) {
        self.flags.store(0, Ordering::Relaxed);
        self.set_home(home);
    }

    #[inline]
    pub(crate) fn home(&self) -> Home {
        match self.home.load(Ordering::Relaxed) {
            HOME_OS_THREAD => Home::OsThread,
            slot => Home::Capability(slot as u16),
        }
    }

    fn set_home(&self, home: Home) {
        let raw = match home {
            Home::OsThread => HOME_OS_THREAD,
            Home::Capability(slot) => u32::from(slot),
        };
        self.home.store(raw, Ordering::Relaxed);
    }

    /// Gives a thread that was just taken from another capability's nursery its new home.
    pub(crate) fn move_home(&self, slot: u16) {
        self.set_home(Home::Capability(slot));
        fence(Ordering::SeqCst); // with that of `mark`
    }

    /// Sets a flag of something that was sent. The home is to be looked at, and told, after this.
    fn mark(&self, flag: u32) {
        self.flags.fetch_or(flag, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    #[inline]
    fn has(&self, flags: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flags != 0
    }

    fn set(&self, flag: u32, on: bool) {
        if on {
            self.flags.fetch_or(flag, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flag, Ordering::Relaxed);
        }
    }

    /// Whether there may be an exception to raise in the thread.
    #[inline]
    pub(crate) fn has_exception(&self) -> bool {
        self.has(KILLED | THROWN | FRAME_OVER)
    }

    /// The same, or deadlines of frames to look at.
    #[inline]
    pub(crate) fn has_exception_or_frames(&self) -> bool {
        self.has(KILLED | THROWN | FRAME_OVER | FRAMES)
    }

    #[inline]
    pub(crate) fn is_killed(&self) -> bool {
        self.has(KILLED)
    }

    pub(crate) fn mark_killed(&self) {
        self.mark(KILLED);
    }

    pub(crate) fn is_thrown_to(&self) -> bool {
        self.has(THROWN)
    }

    pub(crate) fn mark_thrown(&self) {
        self.mark(THROWN);
    }

    /// For whoever found, under the lock of what was thrown, that there is nothing left.
    pub(crate) fn clear_thrown(&self) {
        self.set(THROWN, false);
    }

    pub(crate) fn is_frame_over(&self) -> bool {
        self.has(FRAME_OVER)
    }

    /// One of the thread's frames is over: for the thread itself, and for whoever cancelled the frame just before.
    pub(crate) fn mark_frame_over(&self) {
        self.flags.fetch_or(FRAME_OVER, Ordering::Release);
    }

    /// Takes that mark away, unless a frame that is left was cancelled. For the thread itself.
    pub(crate) fn forget_frame_over(&self, is_cancelled: impl FnOnce() -> bool) {
        if self.is_frame_over() {
            self.flags.fetch_and(!FRAME_OVER, Ordering::Acquire);
            if is_cancelled() {
                self.mark_frame_over();
            }
        }
    }

    #[inline]
    pub(crate) fn has_frames(&self) -> bool {
        self.has(FRAMES)
    }

    pub(crate) fn set_frames(&self, on: bool) {
        self.set(FRAMES, on);
    }

    pub(crate) fn is_unwinding(&self) -> bool {
        self.has(UNWINDING)
    }

    pub(crate) fn set_unwinding(&self, on: bool) {
        self.set(UNWINDING, on);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.has(ENDING)
    }

    pub(crate) fn set_ending(&self) {
        self.set(ENDING, true);
    }

    #[inline]
    pub(crate) fn is_preemptible(&self) -> bool {
        self.has(PREEMPTIBLE)
    }

    pub(crate) fn set_preemptible(&self, on: bool) {
        if on != self.is_preemptible() {
            self.set(PREEMPTIBLE, on);
        }
    }
}
