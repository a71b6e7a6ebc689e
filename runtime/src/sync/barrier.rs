#![forbid(unsafe_code)]
//! The barrier: a count of those who have come, and a queue in which they wait for the last.

use super::wait_cell::{self, Wait, WaitCell, Waited};
use crate::scheduler::park;
use crate::thread::block::BlockedOn;
use crate::time::deadline_after;
use std::fmt;
use std::mem;
use std::time::Duration;

const QUEUE: usize = 0;

/// Where a number of threads wait for each other, as in std. It can be used again and again.
///
/// # Cancellation
/// [`wait`](Barrier::wait) is interruptible. A thread that is killed (or times out) while it waits has not come: the
/// barrier waits for another in its place. Only if the last one came before the killed thread got to run does it count.
///
/// ```
/// use bast::sync::Barrier;
/// use std::sync::Arc;
///
/// bast::run(|| {
///     let barrier = Arc::new(Barrier::new(3));
///     let threads: Vec<_> = (0..3)
///         .map(|_| {
///             let barrier = Arc::clone(&barrier);
///             bast::spawn(move || barrier.wait().is_leader())
///         })
///         .collect();
///     let leaders = threads.into_iter().map(|thread| thread.join().unwrap());
///     assert_eq!(leaders.filter(|leads| *leads).count(), 1);
/// });
/// ```
pub struct Barrier {
    threads: usize,
    cell: WaitCell<State, (), 1>,
}

struct State {
    arrived: usize,
    /// How often the barrier has opened.
    round: u64,
}

type Guard<'a> = wait_cell::Guard<'a, State, (), 1>;

/// Who a thread was among those that a [`Barrier`] let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether it is the one of them that came last.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl Barrier {
    /// A barrier for so many threads. One for 0 lets each pass at once, as one for 1 does.
    pub const fn new(threads: usize) -> Barrier {
        Barrier { threads, cell: WaitCell::new(State { arrived: 0, round: 0 }) }
    }

    /// Waits until all have come. The last to come is the leader.
    pub fn wait(&self) -> BarrierWaitResult {
        self.wait_until(None).expect("a wait without a deadline is served")
    }

    /// As [`wait`](Barrier::wait), for `limit` at the most; `None` after that.
    pub fn wait_timeout(&self, limit: Duration) -> Option<BarrierWaitResult> {
        self.wait_until(Some(deadline_after(limit)))
    }

    fn wait_until(&self, deadline_ns: Option<u64>) -> Option<BarrierWaitResult> {
        park::interruption_point();
        let mut state = self.cell.lock();
        state.arrived += 1;
        if state.arrived >= self.threads {
            open(&mut state);
            return Some(BarrierWaitResult(true));
        }
        let round = state.round;
        drop(state);
        let arrival = Arrival { barrier: self, round };
        let wait = Wait { queue: QUEUE, at_front: false, reason: BlockedOn::Barrier, deadline_ns };
        let waited = self.cell.wait(wait, &mut None, |state, _| state.round != round);
        (waited == Waited::Served).then(|| {
            mem::forget(arrival);
            BarrierWaitResult(false)
        })
    }
}

/// One that has come and waits. If it stops waiting it has not come.
struct Arrival<'a> {
    barrier: &'a Barrier,
    round: u64,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let mut state = self.barrier.cell.lock();
        // Not if the barrier opened meanwhile: then it was counted.
        if state.round == self.round {
            state.arrived -= 1;
        }
    }
}

fn open(state: &mut Guard<'_>) {
    state.arrived = 0;
    state.round += 1;
    while let Some(waiter) = state.claim(QUEUE) {
        state.ready(waiter);
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrived = self.cell.lock().arrived;
        f.debug_struct("Barrier").field("threads", &self.threads).field("arrived", &arrived).finish()
    }
}
