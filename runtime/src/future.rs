#![forbid(unsafe_code)]
//! The bridge to `async` code: a future driven by a green thread.
//!
//! ```text
//!   wake word:   QUIET ──commit──▶ token ──wake──▶ WOKEN ──next poll──▶ QUIET
//!                  └──────────────wake───────────────┘
//! ```
//! A wake in QUIET (the future was woken while it was being polled, or before its thread has parked) is found by the
//! commit, which then refuses to park. A wake that finds a token claims that park. Every wake leaves WOKEN behind, so any
//! number of them from any OS threads cost one poll. Wakers may be kept for ever: what they hold is the word, and a stale
//! token is a number that wakes nobody.
//!
//! Memory ordering: the release half of the swap in `wake` makes what the waker's thread did before visible to the
//! acquire half of the swap before the next poll.

use crate::scheduler::{self, park};
use crate::thread::block::BlockedOn;
use crate::thread::{Token, Woken};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Nobody waits, and nobody has woken the future since it was last polled. No token is 0.
const QUIET: u64 = 0;
/// The future is to be polled again. The low bits of a token are 0.
const WOKEN: u64 = 1;

/// What the wakers of one future share.
struct WakeWord(AtomicU64);

impl WakeWord {
    fn signal(&self) {
        // Neither QUIET nor WOKEN is a token.
        if let Some(token) = Token::from_raw(self.0.swap(WOKEN, Ordering::AcqRel)) {
            park::wake(token);
        }
    }
}

impl Wake for WakeWord {
    fn wake(self: Arc<Self>) {
        self.signal();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.signal();
    }
}

/// Runs a future to its end, and parks the calling green thread whenever the future waits. The other threads of the core
/// run on meanwhile. On a plain OS thread it parks that.
///
/// The future may be woken from any OS thread. It is polled on the caller's stack, so it need be neither `Send` nor
/// `'static`; code that it calls may block as any other code of a green thread, `block_on` included.
///
/// Futures that are bound to an executor (tokio's sockets and timers, say) need that executor: run it on an OS thread of
/// its own, spawn them there, and wait here for what they return. `examples/src/bin/side_runtime.rs` shows how.
///
/// ```
/// use std::future::poll_fn;
/// use std::task::Poll;
///
/// let mut polls = 0;
/// let count = bast::run(move || {
///     bast::block_on(poll_fn(|context| {
///         polls += 1;
///         if polls == 3 {
///             return Poll::Ready(polls);
///         }
///         context.waker().wake_by_ref();
///         Poll::Pending
///     }))
/// });
/// assert_eq!(count, 3);
/// ```
///
/// # Panics
/// With the future's panic; inside [`no_park`](crate::no_park), if the future has to wait.
///
/// # Cancellation
/// Interruptible, before each poll and while the future waits: then the future is dropped as the thread unwinds.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let word = Arc::new(WakeWord(AtomicU64::new(QUIET)));
    let waker = Waker::from(Arc::clone(&word));
    let mut context = Context::from_waker(&waker);
    loop {
        park::interruption_point();
        word.0.swap(QUIET, Ordering::AcqRel);
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        if word.0.load(Ordering::Relaxed) == WOKEN {
            // It woke itself: that is how async code lets others go first.
            park::yield_now();
            continue;
        }
        let woken = scheduler::park(BlockedOn::Future, None, |token| {
            word.0.compare_exchange(QUIET, token.raw(), Ordering::AcqRel, Ordering::Acquire).is_ok()
        });
        if woken != Woken::Event {
            // Wakers must not find the token of a park that is over: it would cost them a failed claim.
            word.0.store(QUIET, Ordering::Relaxed);
            woken.or_unwind();
        }
    }
}
