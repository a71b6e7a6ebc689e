#![forbid(unsafe_code)]
//! The loop that all io goes through: try; on EINTR try again; on EAGAIN park until the io manager says so.
//!
//! No `WouldBlock` leaves this file, but for calls that say in their name that they do not wait.
//!
//! **Drained.** On a TCP socket a consuming read that comes back short has emptied the socket, so the next read may
//! park without trying. That saves a system call per request. What may be concluded from a result is decided in
//! `io_manager/object.rs`: nothing, if an event came while the call was made or a sticky bit is set.

use super::direction;
use crate::io_manager::{Direction, Readiness, Source};
use crate::pool;
use crate::scheduler::{self, current, park};
use crate::sys::{clock, socket};
use crate::thread::Woken;
use crate::thread::block::BlockedOn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// What is done to a descriptor, apart from the system call itself.
#[derive(Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) direction: Direction,
    /// What the thread list says meanwhile.
    pub(crate) reason: fn(i32) -> BlockedOn,
    /// Longest time to wait.
    pub(crate) limit: Option<Duration>,
    /// Nobody else can use the direction meanwhile: the direction lock is not needed.
    pub(crate) exclusive: bool,
    /// Who says that the call is worth making again.
    pub(crate) announced: Announced,
}

/// Who says that a call that had to wait is worth making again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    /// The io manager, by an event.
    ByEvent,
    /// Nobody: what is waited for is room at another socket, which epoll knows nothing of (a Unix listener's full queue,
    /// a Unix datagram socket that is not connected to the receiver). We look again after a while.
    ByNobody,
}

/// How long to wait before looking again, where no event tells: at first, and at most.
const LOOK_AGAIN_MIN: Duration = Duration::from_micros(100);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(20);

/// Makes `call` until it succeeds, fails, or the limit is over. `drained` says whether a result means that there is
/// nothing more to read.
///
/// # Errors
/// Those of the call; `TimedOut` after the limit, or if the source is expired; `NotConnected` if it was closed;
/// `WouldBlock` in a thread that is unwinding, which must not wait for a peer.
#[inline]
pub(crate) fn retry<T>(
    source: &Source,
    operation: Operation,
    call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    drained: impl Fn(&T) -> bool,
) -> io::Result<T> {
    park::interruption_point();
    let deadline_ns = operation.limit.map(crate::time::deadline_after);
    if operation.exclusive {
        return attempt(source, operation, deadline_ns, call, drained);
    }
    let _direction = direction::lock(source, operation.direction, deadline_ns)?;
    attempt(source, operation, deadline_ns, call, drained)
}

#[inline]
fn attempt<T>(
    source: &Source,
    operation: Operation,
    deadline_ns: Option<u64>,
    mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    drained: impl Fn(&T) -> bool,
) -> io::Result<T> {
    let object = source.object();
    let mut looks = 0;
    loop {
        let seen = object.readiness();
        if seen.is_closed() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the socket was closed by this process"));
        }
        if seen.is_ready(operation.direction) {
            match call(source.as_fd()) {
                Ok(value) => {
                    if drained(&value) {
                        object.drained(seen);
                    }
                    return Ok(value);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    object.clear(operation.direction, seen);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
        }
        if seen.is_expired() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match operation.announced {
            Announced::ByEvent => wait(source, operation, deadline_ns, seen)?,
            Announced::ByNobody => {
                look_again(source, operation, deadline_ns, seen, looks)?;
                looks += 1;
            }
        }
    }
}

/// Waits until a read is worth making, and makes none: an event is taken at its word. Only where it is not known
/// whether there is something (a new socket, a read that filled its buffer) does `probe` ask the kernel.
///
/// # Errors
/// As [`retry`].
#[inline]
pub(crate) fn readable(
    source: &Source,
    operation: Operation,
    probe: impl FnMut(BorrowedFd<'_>) -> io::Result<()>,
) -> io::Result<()> {
    park::interruption_point();
    let deadline_ns = operation.limit.map(crate::time::deadline_after);
    let seen = source.object().readiness();
    if !seen.is_ready(operation.direction) {
        wait(source, operation, deadline_ns, seen)?;
        if source.object().readiness().is_ready(operation.direction) {
            return Ok(());
        }
    }
    attempt(source, operation, deadline_ns, probe, |()| false)
}

/// # Errors
/// `WouldBlock` in a thread that is unwinding: what ends it must not depend on a peer.
pub(super) fn may_wait() -> io::Result<()> {
    if current::thread().is_some() && park::is_unwinding() {
        let advice = "io that would have to wait, in a thread that is unwinding";
        return Err(io::Error::new(io::ErrorKind::WouldBlock, advice));
    }
    Ok(())
}

/// Waits until an event has come since the look `seen`.
#[inline]
fn wait(source: &Source, operation: Operation, deadline_ns: Option<u64>, seen: Readiness) -> io::Result<()> {
    let Some((capability, _)) = current::thread() else {
        return wait_on_os_thread(source, operation, deadline_ns);
    };
    may_wait()?;
    let remote = capability.remote();
    remote.io().register(source, remote.slot())?;
    let object = source.object();
    assert!(
        !object.is_awaited(operation.direction),
        "two threads wait for one direction of a stream that was used as unshared"
    );
    let woken = scheduler::park((operation.reason)(source.raw_fd()), deadline_ns, |token| {
        object.wait(operation.direction, token);
        // An event between the look and here woke nobody: then there is no need to wait.
        object.readiness().same_tick(seen)
    });
    object.end_wait(operation.direction);
    match woken.or_unwind() {
        Woken::Timer => Err(io::ErrorKind::TimedOut.into()),
        Woken::Event | Woken::Interrupt => Ok(()),
    }
}

/// Waits for a while, and less if the source is closed or expired meanwhile. The socket is not registered with epoll:
/// one that is about to be connected would only be reported as hung up.
#[cold]
fn look_again(
    source: &Source,
    operation: Operation,
    deadline_ns: Option<u64>,
    seen: Readiness,
    looks: u32,
) -> io::Result<()> {
    may_wait()?;
    let pause = LOOK_AGAIN_MIN.saturating_mul(1 << looks.min(16)).min(LOOK_AGAIN_MAX);
    let next_ns = crate::time::deadline_after(pause);
    let object = source.object();
    let until_ns = deadline_ns.map_or(next_ns, |deadline| deadline.min(next_ns));
    let woken = scheduler::park((operation.reason)(source.raw_fd()), Some(until_ns), |token| {
        object.wait(operation.direction, token);
        object.readiness().same_tick(seen)
    });
    object.end_wait(operation.direction);
    if woken.or_unwind() == Woken::Timer && deadline_ns.is_some_and(|deadline| deadline <= until_ns) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    object.assume_ready();
    Ok(())
}

/// Makes a consuming read once; `None` if it would have to wait, of which the source takes note.
///
/// # Errors
/// Those of the call.
pub(crate) fn read_now<T>(
    source: &Source,
    mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
) -> io::Result<Option<T>> {
    loop {
        let seen = source.object().readiness();
        match call(source.as_fd()) {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                source.object().clear(Direction::Read, seen);
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits until one of several sources, which nobody else uses, may be worth reading, as far as [`read_now`] knows. A
/// source that has ended stays so.
///
/// # Errors
/// `WouldBlock` in a thread that is unwinding; those of epoll_ctl(2).
pub(crate) fn readable_any(sources: &[&Source]) -> io::Result<()> {
    park::interruption_point();
    let looks: Vec<Readiness> = sources.iter().map(|source| source.object().readiness()).collect();
    if looks.iter().any(|look| look.is_ready(Direction::Read)) {
        return Ok(());
    }
    let Some((capability, _)) = current::thread() else {
        let fds: Vec<BorrowedFd<'_>> = sources.iter().map(|source| source.as_fd()).collect();
        match socket::poll_readable(&fds) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => sources.iter().for_each(|source| source.object().assume_ready()),
        }
        return Ok(());
    };
    may_wait()?;
    let remote = capability.remote();
    for source in sources {
        remote.io().register(source, remote.slot())?;
    }
    let first = sources.first().expect("wait: there is something to wait for");
    let woken = scheduler::park(BlockedOn::Read(first.raw_fd()), None, |token| {
        // One token in several places: the first event claims the park, and what the others find is over.
        sources.iter().for_each(|source| source.object().wait(Direction::Read, token));
        sources.iter().zip(&looks).all(|(source, &look)| source.object().readiness().same_tick(look))
    });
    sources.iter().for_each(|source| source.object().end_wait(Direction::Read));
    woken.or_unwind();
    Ok(())
}

/// [`wait`] by poll(2). An expiry or a close is noticed by the next call only.
#[cold]
fn wait_on_os_thread(source: &Source, operation: Operation, deadline_ns: Option<u64>) -> io::Result<()> {
    let limit = deadline_ns.map(|ns| Duration::from_nanos(ns.saturating_sub(clock::monotonic_ns())));
    let poll = || socket::poll(source.as_fd(), operation.direction == Direction::Write, limit);
    match pool::while_waiting(poll) {
        Ok(true) => {
            source.object().assume_ready();
            Ok(())
        }
        Ok(false) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error),
    }
}
