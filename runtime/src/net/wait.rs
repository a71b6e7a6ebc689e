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
}

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
        wait(source, operation, deadline_ns, seen)?;
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

/// The same by poll(2). An expiry or a close is noticed by the next call only.
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
