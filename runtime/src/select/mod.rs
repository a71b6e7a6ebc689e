#![forbid(unsafe_code)]
//! Waiting for the first of several things.
//!
//! ```
//! use bast::Select;
//! use bast::sync::{MVar, channel};
//! use std::time::Duration;
//!
//! bast::run(|| {
//!     let (jobs, queue) = channel(4);
//!     let stop = MVar::empty();
//!     jobs.send("sweep").unwrap();
//!     let what = Select::new()
//!         .recv(&queue, |job| job.unwrap())
//!         .read(&stop, |()| "stop")
//!         .after(Duration::from_secs(5), || "idle")
//!         .wait();
//!     assert_eq!(what, "sweep");
//! });
//! ```
//!
//! # How it works
//! The arms are tried in turn, from a random one on. If none is ready the thread parks, once, and leaves the token of that
//! park in every arm's queue. Whoever would complete an arm has to win the token first (`scheduler/park.rs`), so one does,
//! and nothing is transferred for the others. Then the thread leaves all queues, whatever ended the park, and calls the
//! winner's closure.

mod io;
mod join;

use crate::handle::JoinHandle;
use crate::net::Socket;
use crate::scheduler::{self, park};
use crate::sync::{Arm, MVar, Receiver, RecvError, SendError, Sender, broadcast, oneshot};
use crate::thread::block::BlockedOn;
use crate::thread::{Token, Woken};
use crate::time::deadline_after;
use io::{Awaited, IoArm};
use join::JoinArm;
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

/// A choice among operations: the first that is possible is done, and its closure makes the result.
///
/// Made by adding *arms*, and used once. An arm that is not chosen has had no effect: nothing was received, and what it
/// would have sent is in its `Option` as before. An arm that would send `None` is never chosen.
///
/// # Fairness
/// Among arms that are ready it is chance that decides. In the queues of channels and MVars a select waits in its turn, as
/// a thread with a plain receive does.
///
/// # Cancellation
/// [`wait`](Select::wait) is interruptible, as each of its operations is: if the thread is killed while it waits, no
/// operation was done. One that was done is returned.
///
/// # Cost
/// One allocation per arm, and one more per arm of a channel or MVar if it has to wait.
#[must_use = "a select does nothing before it waits"]
pub struct Select<'a, R> {
    arms: Vec<Box<dyn Choice<R> + 'a>>,
    timer: Option<Timer<'a, R>>,
}

struct Timer<'a, R> {
    deadline_ns: u64,
    then: Box<dyn FnOnce() -> R + 'a>,
}

impl<'a, R> Select<'a, R> {
    /// A choice among nothing yet. To wait for nothing takes for ever.
    pub fn new() -> Select<'a, R> {
        Select { arms: Vec::new(), timer: None }
    }

    /// Receives from a channel. One whose senders are all gone is always ready, with an error: a loop must leave it out.
    pub fn recv<T>(
        self,
        rx: &'a Receiver<T>,
        then: impl FnOnce(Result<T, RecvError>) -> R + 'a,
    ) -> Select<'a, R> {
        self.arm(rx.recv_arm(), then)
    }

    /// Sends what is in `item`, which is `None` afterwards if it was sent (or is in the error).
    pub fn send<T>(
        self,
        tx: &'a Sender<T>,
        item: &'a mut Option<T>,
        then: impl FnOnce(Result<(), SendError<T>>) -> R + 'a,
    ) -> Select<'a, R> {
        self.arm(tx.send_arm(item), then)
    }

    /// Receives the item of a [`oneshot`] channel.
    pub fn oneshot<T>(
        self,
        rx: &'a oneshot::Receiver<T>,
        then: impl FnOnce(Result<T, RecvError>) -> R + 'a,
    ) -> Select<'a, R> {
        self.arm(rx.recv_arm(), then)
    }

    /// Receives from a [`broadcast`] channel.
    pub fn broadcast<T: Clone>(
        self,
        rx: &'a mut broadcast::Receiver<T>,
        then: impl FnOnce(Result<T, broadcast::RecvError>) -> R + 'a,
    ) -> Select<'a, R> {
        self.arm(rx.recv_arm(), then)
    }

    /// Takes the value of an MVar.
    pub fn take<T>(self, mvar: &'a MVar<T>, then: impl FnOnce(T) -> R + 'a) -> Select<'a, R> {
        self.arm(mvar.take_arm(), then)
    }

    /// Reads the value of an MVar, which stays.
    pub fn read<T: Clone>(self, mvar: &'a MVar<T>, then: impl FnOnce(T) -> R + 'a) -> Select<'a, R> {
        self.arm(mvar.read_arm(), then)
    }

    /// Puts what is in `value`, which is `None` afterwards if it was put.
    pub fn put<T>(
        self,
        mvar: &'a MVar<T>,
        value: &'a mut Option<T>,
        then: impl FnOnce() -> R + 'a,
    ) -> Select<'a, R> {
        self.arm(mvar.put_arm(value), |()| then())
    }

    /// Waits for the end of a thread: [`join`](JoinHandle::join) will not wait then.
    ///
    /// ```
    /// use bast::Select;
    /// use std::time::Duration;
    ///
    /// bast::run(|| {
    ///     let mut worker = bast::spawn(|| 6 * 7);
    ///     let ended = Select::new().join(&mut worker, || true).after(Duration::from_secs(5), || false).wait();
    ///     assert!(ended);
    ///     assert_eq!(worker.join().unwrap(), 42);
    /// });
    /// ```
    ///
    /// # Panics
    /// [`wait`](Select::wait) does if it is the calling thread's own.
    pub fn join<T>(self, thread: &'a mut JoinHandle<T>, then: impl FnOnce() -> R + 'a) -> Select<'a, R> {
        self.arm(JoinArm::new(thread), |()| then())
    }

    /// Waits until a socket has something to read, the end or an error included: as poll(2) tells. Nothing is read. Any
    /// number of threads may wait for one socket, and read from it meanwhile: whether a read waits after all is decided
    /// when it is made.
    ///
    /// # Panics
    /// [`wait`](Select::wait) does on a plain OS thread, which has no io manager.
    pub fn readable(self, socket: impl Into<Socket<'a>>, then: impl FnOnce() -> R + 'a) -> Select<'a, R> {
        self.arm(IoArm::new(socket.into(), Awaited::Readable), |()| then())
    }

    /// The same for room to write.
    ///
    /// # Panics
    /// As [`readable`](Select::readable).
    pub fn writable(self, socket: impl Into<Socket<'a>>, then: impl FnOnce() -> R + 'a) -> Select<'a, R> {
        self.arm(IoArm::new(socket.into(), Awaited::Writable), |()| then())
    }

    /// Waits until the peer of a stream has ended its side, or the connection has failed. Bytes that were sent before that
    /// may still be there to read; ones that arrive do not end the wait. A peer that only shuts down its writing (a
    /// client of a single request may) looks the same as one that is gone.
    ///
    /// # Panics
    /// As [`readable`](Select::readable).
    pub fn hung_up(self, socket: impl Into<Socket<'a>>, then: impl FnOnce() -> R + 'a) -> Select<'a, R> {
        self.arm(IoArm::new(socket.into(), Awaited::HungUp), |()| then())
    }

    /// Waits for no longer than `limit` from now. Of several such arms the earliest counts.
    pub fn after(mut self, limit: Duration, then: impl FnOnce() -> R + 'a) -> Select<'a, R> {
        let deadline_ns = deadline_after(limit);
        if self.timer.as_ref().is_none_or(|timer| deadline_ns < timer.deadline_ns) {
            self.timer = Some(Timer { deadline_ns, then: Box::new(then) });
        }
        self
    }

    /// Waits until an operation is possible, does it and returns what its closure returns.
    pub fn wait(self) -> R {
        self.until(None).expect("a select without a limit waits for one of its arms")
    }

    /// As [`wait`](Select::wait), but not for longer than the peer of a stream stays: `None` when it has hung up, as
    /// [`hung_up`](Select::hung_up) says.
    ///
    /// # Panics
    /// As [`readable`](Select::readable).
    pub fn wait_while_connected(mut self, socket: impl Into<Socket<'a>>) -> Option<R> {
        self.arms.push(Box::new(GivesUp(IoArm::new(socket.into(), Awaited::HungUp))));
        self.until(None)
    }

    /// As [`wait`](Select::wait), for `limit` at the most; `None` after that.
    pub fn wait_timeout(self, limit: Duration) -> Option<R> {
        self.until(Some(deadline_after(limit)))
    }

    /// Does an operation that is possible now, if there is one. Never waits.
    pub fn try_wait(mut self) -> Option<R> {
        park::interruption_point();
        self.poll().flatten()
    }

    fn arm<A: Arm + 'a>(mut self, arm: A, then: impl FnOnce(A::Output) -> R + 'a) -> Select<'a, R> {
        self.arms.push(Box::new(Both { arm, then }));
        self
    }

    fn until(mut self, limit_ns: Option<u64>) -> Option<R> {
        park::interruption_point();
        loop {
            if let Some(result) = self.poll() {
                return result;
            }
            match self.park(limit_ns) {
                Parked::Served(index) => return self.finish(index),
                Parked::TimedOut => {
                    let timer =
                        self.timer.filter(|timer| limit_ns.is_none_or(|limit| timer.deadline_ns <= limit));
                    return timer.map(|timer| (timer.then)());
                }
                Parked::Again => {}
            }
        }
    }

    /// Tries each arm once.
    fn poll(&mut self) -> Option<Option<R>> {
        let count = self.arms.len();
        let start = random_below(count);
        let index = (start..count).chain(0..start).find(|&index| self.arms[index].poll())?;
        Some(self.finish(index))
    }

    fn finish(&mut self, index: usize) -> Option<R> {
        self.arms.swap_remove(index).finish()
    }

    /// Parks with all arms entered, and leaves them.
    fn park(&mut self, limit_ns: Option<u64>) -> Parked {
        let arms = &mut self.arms;
        arms.iter_mut().for_each(|arm| arm.prepare());
        let timer_ns = self.timer.as_ref().map(|timer| timer.deadline_ns);
        let deadline_ns = limit_ns.into_iter().chain(timer_ns).min();
        let woken = scheduler::park(BlockedOn::Select, deadline_ns, |token| {
            arms.iter_mut().all(|arm| arm.enter(token))
        });
        let mut served = None;
        for (index, arm) in arms.iter_mut().enumerate() {
            if arm.leave() {
                assert!(served.is_none(), "select: two arms were served");
                served = Some(index);
            }
        }
        if let Some(index) = served {
            return Parked::Served(index);
        }
        match woken.or_unwind() {
            Woken::Timer => Parked::TimedOut,
            // An arm that is ready and has served nobody (a socket, the end of a thread), or was before the park.
            Woken::Event | Woken::Interrupt => Parked::Again,
        }
    }
}

/// How a park ended.
enum Parked {
    /// The operation of the arm with that index was done.
    Served(usize),
    TimedOut,
    /// The arms are to be tried.
    Again,
}

/// An arm with its closure.
trait Choice<R> {
    fn poll(&mut self) -> bool;
    fn prepare(&mut self);
    fn enter(&mut self, token: Token) -> bool;
    fn leave(&mut self) -> bool;
    /// The result, if it is one that has any.
    fn finish(self: Box<Self>) -> Option<R>;
}

struct Both<A, F> {
    arm: A,
    then: F,
}

impl<R, A: Arm, F: FnOnce(A::Output) -> R> Choice<R> for Both<A, F> {
    fn poll(&mut self) -> bool {
        self.arm.poll()
    }

    fn prepare(&mut self) {
        self.arm.prepare();
    }

    fn enter(&mut self, token: Token) -> bool {
        self.arm.enter(token)
    }

    fn leave(&mut self) -> bool {
        self.arm.leave()
    }

    fn finish(self: Box<Self>) -> Option<R> {
        Some((self.then)(self.arm.output()))
    }
}

/// An arm that ends the wait without a result.
struct GivesUp<A>(A);

impl<R, A: Arm> Choice<R> for GivesUp<A> {
    fn poll(&mut self) -> bool {
        self.0.poll()
    }

    fn prepare(&mut self) {
        self.0.prepare();
    }

    fn enter(&mut self, token: Token) -> bool {
        self.0.enter(token)
    }

    fn leave(&mut self) -> bool {
        self.0.leave()
    }

    fn finish(self: Box<Self>) -> Option<R> {
        None
    }
}

impl<R> Default for Select<'_, R> {
    fn default() -> Self {
        Select::new()
    }
}

impl<R> fmt::Debug for Select<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("arms", &self.arms.len()).finish_non_exhaustive()
    }
}

thread_local! {
    /// The state of a small generator (xorshift): fairness needs no more.
    static RANDOM: Cell<u32> = const { Cell::new(0x9e37_79b9) };
}

fn random_below(limit: usize) -> usize {
    let random = RANDOM.get();
    let random = random ^ random << 13;
    let random = random ^ random >> 17;
    let random = random ^ random << 5;
    RANDOM.set(random);
    ((u64::from(random) * limit as u64) >> 32) as usize
}
