#![forbid(unsafe_code)]
//! What others may touch of a capability: inbox, nursery, mail, io manager, flags and counters.
//!
//! Remotes are type-stable: a slot that has been a capability's stays in the table with its descriptors and serves
//! the next one. So a waker that pushed a thread may still look at the flag and write the eventfd after that very
//! thread has finished and its runtime is gone: it wakes somebody for nothing, at worst.
//!
//! # Fields: who may touch what, when
//! - `inbox`, `nursery`, `placed`, `mail`, `io`, `sleep`: anybody.
//! - `waiting`, `boundless`: written by the owner only, read by thieves and by capabilities that go to sleep.
//! - `slice_over`, `overran`: set by the tick, taken by the owner.
//! - `slices`: written by the tick only, `slices_seen` and `os_thread` by the owner only; read by anybody.
//! - `log`: opened and closed by whoever keeps a log, looked at by the owner.
//! - `counters`: written by the owner only, read by anybody.

use super::counters::Cells;
use super::exception;
use super::inbox::Inbox;
use super::sleep::SleepFlag;
use crate::critical::Section;
use crate::event_log::ring::Port;
use crate::io_manager::{CAPABILITIES_MAX, IoManager};
use crate::thread::Control;
use crate::thread::control::Reference;
use crossbeam_queue::SegQueue;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

static SLOTS: [OnceLock<Remote>; CAPABILITIES_MAX] = [const { OnceLock::new() }; CAPABILITIES_MAX];
static IN_USE: Mutex<[bool; CAPABILITIES_MAX]> = Mutex::new([false; CAPABILITIES_MAX]);

/// A message that is too rare, or too large, for the inbox.
pub(crate) enum Mail {
    /// Something was sent to the thread.
    Interrupt(Reference),
    /// End the loop.
    Stop,
}

#[repr(align(128))]
pub(crate) struct Remote {
    slot: u16,
    inbox: Inbox<Control>,
    sleep: SleepFlag,
    has_mail: AtomicBool,
    /// From before the owner waits until it is awake again, whoever woke it.
    waiting: AtomicBool,
    /// While the owner waits: no timer of its own will end that.
    boundless: AtomicBool,
    slice_over: AtomicBool,
    /// Of the slice that is over, a whole further one has passed.
    overran: AtomicBool,
    log: Port,
    /// The time slices that have ended while the owner was awake.
    slices: AtomicU32,
    /// How many of them had ended when the owner last had the core to itself.
    slices_seen: AtomicU32,
    /// The kernel's id of the owner's OS thread; 0: there is none.
    os_thread: AtomicI32,
    io: IoManager,
    nursery: SegQueue<&'static Control>,
    placed: SegQueue<&'static Control>,
    mail: Mutex<Vec<Mail>>,
    counters: Cells,
}

impl Remote {
    /// Takes a slot for a new capability.
    ///
    /// # Errors
    /// No slot is left, or the kernel gives no descriptors for its io manager.
    pub(crate) fn occupy() -> io::Result<&'static Remote> {
        let mut in_use = IN_USE.lock().expect("capabilities: a holder of the lock panicked");
        let slot = in_use.iter().position(|used| !used).ok_or_else(|| {
            io::Error::other(format!("all {CAPABILITIES_MAX} capabilities of this process are in use"))
        })?;
        let remote = match SLOTS[slot].get() {
            Some(remote) => remote,
            None => {
                let remote = Remote::new(slot as u16)?;
                SLOTS[slot].get_or_init(|| remote)
            }
        };
        in_use[slot] = true;
        remote.counters.reset();
        remote.log.clear();
        Ok(remote)
    }

    /// Gives the slot to the next capability that needs one. What is in the mail goes: an order to stop that nobody
    /// was there to read, since the start of the OS thread failed; exceptions for threads that are over.
    pub(crate) fn vacate(&'static self) {
        for mail in self.take_mail() {
            if let Mail::Interrupt(thread) = mail {
                exception::release_throwers(thread.control());
            }
        }
        IN_USE.lock().expect("capabilities: a holder of the lock panicked")[usize::from(self.slot)] = false;
    }

    fn new(slot: u16) -> io::Result<Remote> {
        Ok(Remote {
            slot,
            inbox: Inbox::new(),
            sleep: SleepFlag::new(),
            has_mail: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            boundless: AtomicBool::new(false),
            slice_over: AtomicBool::new(false),
            overran: AtomicBool::new(false),
            log: Port::new(),
            slices: AtomicU32::new(0),
            slices_seen: AtomicU32::new(0),
            os_thread: AtomicI32::new(0),
            io: IoManager::new()?,
            nursery: SegQueue::new(),
            placed: SegQueue::new(),
            mail: Mutex::new(Vec::new()),
            counters: Cells::default(),
        })
    }

    /// The remote of the capability in `slot`.
    #[inline]
    pub(crate) fn of(slot: u16) -> &'static Remote {
        SLOTS[usize::from(slot)].get().expect("capabilities: a thread's home has a remote")
    }

    #[inline]
    pub(crate) fn slot(&self) -> u16 {
        self.slot
    }

    pub(crate) fn io(&self) -> &IoManager {
        &self.io
    }

    pub(super) fn sleep(&self) -> &SleepFlag {
        &self.sleep
    }

    /// Where the owner finds the ring for its events.
    #[inline]
    pub(crate) fn log(&self) -> &Port {
        &self.log
    }

    #[inline]
    pub(crate) fn counters(&self) -> &Cells {
        &self.counters
    }

    /// Hands over a claimed thread whose home this is, and wakes the owner if it sleeps.
    pub(super) fn push(&self, control: &'static Control) {
        self.inbox.push(control);
        self.nudge();
    }

    pub(super) fn inbox(&self) -> &Inbox<Control> {
        &self.inbox
    }

    /// Leaves a message.
    pub(crate) fn send(&self, mail: Mail) {
        let section = Section::enter();
        self.mail.lock().expect("mail: a holder of the lock panicked").push(mail);
        drop(section);
        self.has_mail.store(true, Ordering::Release);
        self.nudge();
    }

    #[inline]
    pub(super) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Relaxed)
    }

    pub(super) fn take_mail(&self) -> Vec<Mail> {
        let mut mail = self.mail.lock().expect("mail: a holder of the lock panicked");
        self.has_mail.store(false, Ordering::Relaxed);
        std::mem::take(&mut mail)
    }

    /// Leaves an unstarted thread with its spawner's capability. Whoever is idle may take it.
    pub(super) fn nurse(&self, control: &'static Control) {
        self.nursery.push(control);
    }

    /// Leaves an unstarted thread that was placed here by load. Another takes it only if the owner does not come to it.
    pub(super) fn place(&self, control: &'static Control) {
        self.placed.push(control);
    }

    /// Takes an unstarted thread, for its owner. It may have been started, or taken, by somebody else.
    #[inline]
    pub(super) fn next_unstarted(&self) -> Option<&'static Control> {
        // Looking first is cheaper than a pop that fails, which has a fence in it.
        if !self.placed.is_empty()
            && let Some(control) = self.placed.pop()
        {
            return Some(control);
        }
        if self.nursery.is_empty() { None } else { self.nursery.pop() }
    }

    /// Takes an unstarted thread, for another capability.
    pub(super) fn steal(&self) -> Option<&'static Control> {
        self.nursery.pop().or_else(|| if self.is_slice_over() { self.placed.pop() } else { None })
    }

    #[inline]
    pub(super) fn has_unstarted(&self) -> bool {
        !self.nursery.is_empty() || !self.placed.is_empty()
    }

    /// How many unstarted threads another capability may take from here. None while the owner waits: who put them here
    /// meanwhile wakes it, and it is where they were meant to run, but a thief that is awake would always be faster.
    /// A single one, and what was placed here by load, only when the owner has not come to it for a time slice.
    #[inline]
    pub(super) fn stealable(&self) -> usize {
        if self.waiting.load(Ordering::Relaxed) {
            0
        } else if self.is_slice_over() {
            self.nursery.len() + self.placed.len()
        } else {
            match self.nursery.len() {
                1 => 0,
                count => count,
            }
        }
    }

    /// The owner begins, or has ceased, to wait.
    pub(super) fn set_waiting(&self, on: bool) {
        self.waiting.store(on, Ordering::Relaxed);
    }

    /// The owner begins, or has ceased, to wait without a limit. SeqCst: of two that begin, one sees the other.
    pub(super) fn set_boundless(&self, on: bool) {
        self.boundless.store(on, Ordering::SeqCst);
    }

    pub(super) fn is_boundless(&self) -> bool {
        self.boundless.load(Ordering::SeqCst)
    }

    /// Wakes the owner if it sleeps: the last step of whoever published something for it.
    pub(super) fn nudge(&self) {
        if self.sleep.must_wake() {
            self.io.interrupt();
        }
    }

    /// Whether there is anything here that the owner must see before it sleeps.
    #[inline]
    pub(super) fn has_work(&self) -> bool {
        !self.inbox.is_empty() || self.has_mail() || self.has_unstarted()
    }

    /// Says that the time slice is over.
    pub(super) fn end_slice(&self) {
        if self.is_slice_over() {
            self.overran.store(true, Ordering::Relaxed);
        }
        self.slices.store(self.slices.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.slice_over.store(true, Ordering::Relaxed);
    }

    /// Marks every slice of the process as over, so that whoever runs comes to its scheduler at its next call.
    /// Async-signal-safe.
    pub(super) fn end_all_slices() {
        SLOTS.iter().filter_map(OnceLock::get).for_each(Remote::end_slice);
    }

    /// The mark itself, for who tests it at every allocation.
    pub(super) fn slice_mark(&self) -> &AtomicBool {
        &self.slice_over
    }

    #[inline]
    pub(crate) fn is_slice_over(&self) -> bool {
        self.slice_over.load(Ordering::Relaxed)
    }

    /// A new slice begins. True: a thread held the capability for a whole one longer than it should have.
    pub(super) fn begin_slice(&self) -> bool {
        self.slices_seen.store(self.slices.load(Ordering::Relaxed), Ordering::Relaxed);
        self.slice_over.store(false, Ordering::Relaxed);
        let overran = self.overran.load(Ordering::Relaxed);
        if overran {
            self.overran.store(false, Ordering::Relaxed);
            self.counters.stalls.count();
        }
        overran
    }
}

impl Remote {
    /// A thread leaves the core: it is charged with the slices that ended while it had it. For the owner.
    #[inline]
    pub(super) fn charge(&self, control: &Control) {
        if self.is_slice_over() {
            self.charge_slices(control);
        }
    }

    #[cold]
    fn charge_slices(&self, control: &Control) {
        control.charge(self.slices_held());
        self.slices_seen.store(self.slices.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// How many time slices have ended while the running thread has had the core.
    pub(crate) fn slices_held(&self) -> u32 {
        let seen = self.slices_seen.load(Ordering::Relaxed);
        self.slices.load(Ordering::Relaxed).wrapping_sub(seen)
    }

    /// The owner's loop begins, or ends (0).
    pub(super) fn set_os_thread(&self, id: i32) {
        self.os_thread.store(id, Ordering::Relaxed);
    }

    /// The kernel's id of the owner's OS thread.
    pub(super) fn os_thread(&self) -> Option<i32> {
        match self.os_thread.load(Ordering::Relaxed) {
            0 => None,
            id => Some(id),
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("slot", &self.slot).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines are fetched in pairs of 64 bytes.
    const LINES_BYTES: usize = 128;

    #[test]
    fn what_different_cores_write_is_never_on_one_cache_line() {
        let neighbours = [(&raw const SLOTS[0]).addr(), (&raw const SLOTS[1]).addr()];
        assert!(neighbours.iter().all(|address| address.is_multiple_of(LINES_BYTES)));
        // A thread's own, which its core writes at each switch; threads of different cores lie side by side.
        assert!(align_of::<Control>().is_multiple_of(LINES_BYTES));
        assert!(size_of::<Control>().is_multiple_of(LINES_BYTES));
    }
}
