//! epoll(7), edge-triggered.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// One epoll instance.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
}

/// How long a wait may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// Only look.
    Now,
    /// Until something happens.
    Never,
    /// This many nanoseconds at the most.
    Nanoseconds(u64),
}

impl Timeout {
    /// The same, but not for longer than `limit_ns`.
    pub(crate) fn at_most(self, limit_ns: u64) -> Timeout {
        match self {
            Timeout::Now => Timeout::Now,
            Timeout::Never => Timeout::Nanoseconds(limit_ns),
            Timeout::Nanoseconds(ns) => Timeout::Nanoseconds(ns.min(limit_ns)),
        }
    }
}

/// What a wait reported of one registration.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Event(libc::epoll_event);

impl Event {
    /// The word given at registration.
    pub(crate) fn data(&self) -> u64 {
        self.0.u64
    }

    /// The EPOLL* bits.
    pub(crate) fn bits(&self) -> u32 {
        self.0.events
    }
}

/// Room for the events of one wait.
pub(crate) struct Events {
    buffer: Vec<Event>,
}

impl Events {
    /// Room for `events_max` events at a time.
    pub(crate) fn new(events_max: usize) -> Events {
        Events { buffer: Vec::with_capacity(events_max) }
    }

    /// The events of the last wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.buffer.iter().copied()
    }
}

pub(crate) const IN: u32 = libc::EPOLLIN as u32;
pub(crate) const OUT: u32 = libc::EPOLLOUT as u32;
pub(crate) const RDHUP: u32 = libc::EPOLLRDHUP as u32;
pub(crate) const HUP: u32 = libc::EPOLLHUP as u32;
pub(crate) const ERR: u32 = libc::EPOLLERR as u32;
pub(crate) const PRI: u32 = libc::EPOLLPRI as u32;
const EDGE: u32 = libc::EPOLLET as u32;

/// Set once `epoll_pwait2` (Linux 5.11) was found missing: waits are rounded up to milliseconds from then on.
static PWAIT2_MISSING: AtomicBool = AtomicBool::new(false);

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers are passed.
        let fd = super::check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        Ok(Epoll { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Registers `fd` edge-triggered for the given bits; `data` comes back with its events. What is ready already is
    /// an event.
    ///
    /// An entry outlives its descriptor where the open file has another one (epoll(7), Q6). Under a number that is
    /// used again for the same file it is found in the set; then it is made over.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, bits: u32, data: u64) -> io::Result<()> {
        let control = |operation| {
            let mut event = libc::epoll_event { events: bits | EDGE, u64: data };
            // SAFETY: both descriptors are open (owned and borrowed) and `event` is live.
            super::check(unsafe {
                libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event)
            })
        };
        match control(libc::EPOLL_CTL_ADD) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => control(libc::EPOLL_CTL_MOD)?,
            result => result?,
        };
        Ok(())
    }

    /// Waits for events and puts them in place of those in `events`.
    ///
    /// # Errors
    /// `Interrupted` after a signal; nothing else that a correct program meets.
    pub(crate) fn wait(&self, events: &mut Events, timeout: Timeout) -> io::Result<()> {
        events.buffer.clear();
        let room = events.buffer.capacity();
        let buffer = events.buffer.as_mut_ptr().cast::<libc::epoll_event>();
        let fd = self.fd.as_raw_fd();
        let count = match timeout {
            // SAFETY: `buffer` has room for `room` events; `Event` is a transparent epoll_event.
            Timeout::Now => super::check(unsafe { libc::epoll_wait(fd, buffer, room as i32, 0) })?,
            // SAFETY: as above.
            Timeout::Never => super::check(unsafe { libc::epoll_wait(fd, buffer, room as i32, -1) })?,
            Timeout::Nanoseconds(ns) => wait_ns(fd, buffer, room, ns)?,
        };
        // SAFETY: the kernel wrote the first `count` events, which is at most `room`.
        unsafe { events.buffer.set_len(count as usize) };
        Ok(())
    }
}

fn wait_ns(fd: i32, buffer: *mut libc::epoll_event, room: usize, ns: u64) -> io::Result<i32> {
    if !PWAIT2_MISSING.load(Ordering::Relaxed) {
        let limit =
            libc::timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 };
        // SAFETY: `buffer` has room for `room` events (the caller's Vec), `limit` is live, a null mask is allowed.
        let result = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                fd,
                buffer,
                room as i32,
                &raw const limit,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        if result >= 0 {
            return Ok(result as i32);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOSYS) {
            return Err(error);
        }
        PWAIT2_MISSING.store(true, Ordering::Relaxed);
    }
    // Rounded up: a timer that fires early would be found not to be due, and the loop would spin.
    let ms = i32::try_from(ns.div_ceil(1_000_000)).unwrap_or(i32::MAX);
    // SAFETY: `buffer` has room for `room` events.
    super::check(unsafe { libc::epoll_wait(fd, buffer, room as i32, ms) })
}
