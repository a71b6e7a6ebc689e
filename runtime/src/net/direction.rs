#![forbid(unsafe_code)]
//! The direction lock: several threads may use one descriptor, one at a time in each direction, first come first
//! served (Go's `fdMutex`).
//!
//! ```text
//!   holder word:  FREE ──CAS──▶ HELD ──a second comes──▶ CONTENDED     released to the next in the queue, or to FREE
//! ```
//! A closed descriptor needs no special case: whoever gets the lock looks at the readiness, sees that it is closed
//! and passes on.

use crate::io_manager::{Direction, Queued, Source, Wants};
use crate::scheduler::{self, park};
use crate::thread::block::BlockedOn;
use crate::thread::{Control, Woken};
use std::io;
use std::sync::atomic::Ordering;

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody is (or was) in the queue.
const CONTENDED: u32 = 2;

/// The right to use one direction of a descriptor.
#[must_use]
pub(super) struct DirectionGuard<'a> {
    source: &'a Source,
    direction: Direction,
}

/// Waits for the right to use a direction.
///
/// # Errors
/// `TimedOut` after the deadline; `WouldBlock` in a thread that is unwinding.
pub(super) fn lock(
    source: &Source,
    direction: Direction,
    deadline_ns: Option<u64>,
) -> io::Result<DirectionGuard<'_>> {
    let holder = source.object().holder(direction);
    if holder.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
        wait(source, direction, deadline_ns)?;
    }
    Ok(DirectionGuard { source, direction })
}

#[cold]
fn wait(source: &Source, direction: Direction, deadline_ns: Option<u64>) -> io::Result<()> {
    super::wait::may_wait()?;
    let object = source.object();
    let mut ours = None;
    let woken = scheduler::park(BlockedOn::Direction(source.raw_fd()), deadline_ns, |token| {
        let mut queue = object.lock_queue();
        if object.holder(direction).swap(CONTENDED, Ordering::Acquire) == FREE {
            return false;
        }
        ours = Some(token);
        queue.push_back(Queued { direction, token, wants: Wants::Turn });
        true
    });
    if woken == Woken::Event {
        return Ok(());
    }
    object.lock_queue().retain(|queued| Some(queued.token) != ours);
    woken.or_unwind();
    Err(io::ErrorKind::TimedOut.into())
}

impl Drop for DirectionGuard<'_> {
    fn drop(&mut self) {
        let holder = self.source.object().holder(self.direction);
        if holder.compare_exchange(HELD, FREE, Ordering::Release, Ordering::Relaxed).is_err() {
            self.pass_on();
        }
    }
}

impl DirectionGuard<'_> {
    #[cold]
    fn pass_on(&self) {
        let object = self.source.object();
        let mut queue = object.lock_queue();
        let is_next = |queued: &Queued| queued.wants == Wants::Turn && queued.direction == self.direction;
        while let Some(next) = queue.iter().position(is_next) {
            let Queued { token, .. } = queue.remove(next).expect("the position was just found");
            // Won before it is given: a waiter that timed out or was killed is passed over.
            if let Some(claim) = Control::claim(token, Woken::Event) {
                drop(queue);
                park::ready(claim);
                return;
            }
        }
        object.holder(self.direction).store(FREE, Ordering::Release);
    }
}
