//! Signals (sigaction(2)): a handler that only sets a bit and makes an eventfd readable.

use super::eventfd::EventFd;
use std::io;
use std::mem;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The most `Inbox`es that may be live at once: the handler walks this table, since it must not take a lock.
const INBOXES_MAX: usize = 16;

static INBOXES: [AtomicPtr<Inbox>; INBOXES_MAX] = [const { AtomicPtr::new(ptr::null_mut()) }; INBOXES_MAX];

/// Receives signals. Lives for ever once made (a handler on another OS thread may be reading it), so that dropping
/// a receiver means returning its inbox to `FREE_INBOXES`, not freeing it.
#[derive(Debug)]
pub(crate) struct Inbox {
    event: EventFd,
    wanted: AtomicU64,
    pending: AtomicU64,
}

impl Inbox {
    pub(crate) fn event(&self) -> &EventFd {
        &self.event
    }

    /// Takes the lowest signal that has arrived since it was last taken.
    pub(crate) fn take(&self) -> Option<i32> {
        let pending = self.pending.load(Ordering::Acquire);
        if pending == 0 {
            return None;
        }
        let signal = pending.trailing_zeros();
        self.pending.fetch_and(!(1 << signal), Ordering::AcqRel);
        Some(signal as i32)
    }
}

/// Starts to receive `signals` (numbers below 64) in a new inbox, in addition to whoever else receives them.
///
/// # Errors
/// Signals that cannot be caught, or too many inboxes.
pub(crate) fn subscribe(signals: &[i32]) -> io::Result<&'static Inbox> {
    let inbox = free_inbox()?;
    inbox.pending.store(0, Ordering::Release);
    // A stale count from the inbox's former life would only be a spurious wake; EAGAIN is the usual answer here.
    let _ = inbox.event.drain();
    inbox.wanted.store(signals.iter().fold(0, |set, signal| set | 1 << signal), Ordering::Release);
    for &signal in signals {
        if let Err(error) = install(signal) {
            unsubscribe(inbox);
            return Err(error);
        }
    }
    Ok(inbox)
}

/// Ends what `subscribe` began. The handler stays installed: a signal that nobody wants any more is ignored.
pub(crate) fn unsubscribe(inbox: &'static Inbox) {
    inbox.wanted.store(0, Ordering::Release);
    free_inboxes().lock().unwrap().push(inbox);
}

/// Makes writes to closed pipes and sockets an error (EPIPE) instead of the end of the process. send(2) has a flag
/// for it, sendfile(2) has not.
pub(crate) fn ignore_sigpipe() {
    // SAFETY: SIG_IGN is a valid disposition for SIGPIPE.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

fn free_inboxes() -> &'static std::sync::Mutex<Vec<&'static Inbox>> {
    static FREE_INBOXES: OnceLock<std::sync::Mutex<Vec<&'static Inbox>>> = OnceLock::new();
    FREE_INBOXES.get_or_init(std::sync::Mutex::default)
}

fn free_inbox() -> io::Result<&'static Inbox> {
    if let Some(inbox) = free_inboxes().lock().unwrap().pop() {
        return Ok(inbox);
    }
    let inbox = Box::into_raw(Box::new(Inbox {
        event: EventFd::new()?,
        wanted: AtomicU64::new(0),
        pending: AtomicU64::new(0),
    }));
    for slot in &INBOXES {
        if slot.compare_exchange(ptr::null_mut(), inbox, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            // SAFETY: the inbox came from a Box and is never freed from here on.
            return Ok(unsafe { &*inbox });
        }
    }
    // SAFETY: the inbox came from the Box above and was published nowhere.
    drop(unsafe { Box::from_raw(inbox) });
    Err(io::Error::other(format!("more than {INBOXES_MAX} signal receivers")))
}

fn install(signal: i32) -> io::Result<()> {
    // SAFETY: all zeroes is a valid sigaction (default action, empty mask).
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = on_signal as extern "C" fn(i32) as usize;
    // SA_RESTART: system calls of OS threads that know nothing of us go on as if nothing had happened.
    // SA_ONSTACK: a green thread near the end of its stack has no room for the handler's frame, and need not commit a
    // page for it.
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    block_all(&mut action);
    // SAFETY: `action` is a live sigaction whose handler does only async-signal-safe things.
    super::check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })?;
    Ok(())
}

/// Lets the handler finish before the next one begins. Signals that are pending together would otherwise each put a frame
/// on top of the last (more than 3 KiB with AVX-512), and a signal stack of 8 KiB (std's) takes no three of them.
pub(super) fn block_all(action: &mut libc::sigaction) {
    // SAFETY: the kernel's set in the action is written, no more.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
}

extern "C" fn on_signal(signal: i32) {
    // SAFETY: errno is the interrupted code's; __errno_location always returns a valid pointer.
    let errno = unsafe { *libc::__errno_location() };
    for slot in &INBOXES {
        // SAFETY: inboxes are never freed once published in the table.
        if let Some(inbox) = unsafe { slot.load(Ordering::Acquire).as_ref() }
            && inbox.wanted.load(Ordering::Acquire) & 1 << signal != 0
        {
            inbox.pending.fetch_or(1 << signal, Ordering::AcqRel);
            inbox.event.signal();
        }
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

pub(crate) const INTERRUPT: i32 = libc::SIGINT;
pub(crate) const TERMINATE: i32 = libc::SIGTERM;
pub(crate) const HANG_UP: i32 = libc::SIGHUP;
pub(crate) const USER_1: i32 = libc::SIGUSR1;
pub(crate) const USER_2: i32 = libc::SIGUSR2;
pub(crate) const QUIT: i32 = libc::SIGQUIT;
pub(crate) const CHILD: i32 = libc::SIGCHLD;
pub(crate) const WINDOW_CHANGE: i32 = libc::SIGWINCH;
