//! Threads that may borrow from their parent's stack, because the parent does not go on without them.
//!
//! ```
//! let words = ["green", "threads", "borrow"];
//! let longest = bast::run(move || {
//!     bast::scope(|scope| {
//!         let lengths: Vec<_> = words.iter().map(|word| scope.spawn(|| word.len())).collect();
//!         lengths.into_iter().map(|length| length.join().unwrap()).max()
//!     })
//! });
//! assert_eq!(longest, Some(7));
//! ```
//!
//! # Soundness
//! [`scope`] returns, or unwinds, only when every thread of the scope has ended and dropped its closure and its result.
//! The wait is in its own frame and not in a destructor, which could be leaked. Nothing unwinds out of the wait: an
//! exception that comes meanwhile is kept and cancels the threads, and what else might go wrong ends the process.

use crate::builder::Builder;
use crate::critical::{self, Locked};
use crate::handle::{JoinError, JoinHandle, Thread};
use crate::scheduler::exception::{self, Unwound};
use crate::scheduler::{self, Inner, current, park};
use crate::thread::block::BlockedOn;
use crate::thread::body::{Joiner, Payload};
use crate::thread::control::Reference;
use crate::thread::exception::Killed;
use crate::thread::{ThreadId, Token, Woken};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::process;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// Runs `body`, which may spawn threads that borrow from the caller's stack, and waits until all of them have ended.
///
/// The first failure wins: if a thread of the scope panics, the others are killed, the body is unwound at its next
/// interruptible operation, and the panic goes on in the caller. The same if the body panics. A thread that is killed by
/// somebody is no failure: its [`join`](ScopedJoinHandle::join) says so. If the caller is killed, or a
/// [`timeout`](crate::timeout()) around it passes, the threads are killed, too.
///
/// # Cancellation
/// Interruptible, in the body and while it waits; but it never returns before the threads have ended, so a thread of
/// the scope that is masked for ever keeps it.
///
/// # Panics
/// With the payload of the first failure. On a plain OS thread, and inside [`no_park`](crate::no_park).
pub fn scope<'env, F, R>(body: F) -> R
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
{
    let (capability, control) = current::thread()
        .expect("bast::scope on a plain OS thread: use bast::run or Handle::spawn, or std::thread::scope");
    assert!(capability.may_park(), "bast::scope inside bast::no_park: it has to wait for its threads");
    let scope = Scope {
        members: Arc::new(Members {
            parent: Reference::new(control),
            cancelled: Arc::new(AtomicBool::new(false)),
            state: Mutex::default(),
        }),
        runtime: Arc::clone(capability.runtime()),
        scope: PhantomData,
        env: PhantomData,
    };
    let members = &scope.members;
    let abort = AbortOnUnwind;
    let cancelled = Arc::clone(&members.cancelled);
    let result = exception::in_frame(u64::MAX, Some(cancelled), || body(&scope));
    let mut passing = None;
    let result = match result {
        Ok(value) => Some(value),
        Err(unwound) => {
            match unwound {
                Unwound::Over => {}
                Unwound::Other(payload) if exception::is_passing(&*payload) => passing = Some(payload),
                Unwound::Other(payload) => {
                    let late = members.lock().fail_first(payload);
                    drop_quietly(late);
                }
            }
            members.kill_all();
            None
        }
    };
    let interrupted = members.wait();
    std::mem::forget(abort);
    let failure = members.lock().failure.take();
    // A kill, or a limit further out, goes before what it may have caused.
    match (passing.or(interrupted).or(failure), result) {
        (Some(payload), result) => {
            drop(result);
            park::resume_unwind(payload)
        }
        (None, Some(value)) => value,
        (None, None) => unreachable!("scope: unwound without a reason"),
    }
}

/// What must not be left by an unwind.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        log::error!("bast: a scope was about to be left before its threads");
        process::abort();
    }
}

/// Where the threads of one [`scope`] are spawned.
pub struct Scope<'scope, 'env: 'scope> {
    members: Arc<Members>,
    /// The parent's.
    runtime: Arc<Inner>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl<'scope> Scope<'scope, '_> {
    /// Spawns a thread of the scope.
    ///
    /// # Panics
    /// If the limit of threads is reached; [`spawn_with`](Scope::spawn_with) returns that as an error.
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.spawn_with(Builder::new(), f)
            .unwrap_or_else(|error| panic!("failed to spawn a green thread: {error}"))
    }

    /// Spawns a thread of the scope, with a name, a stack size and so on.
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    /// If a capability was given that is not of this runtime.
    pub fn spawn_with<F, T>(&'scope self, builder: Builder, f: F) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let request = builder.request()?;
        self.admit(f, |child| {
            // SAFETY: `scope` does not return before the member has left, and the closure, with all that it borrows, is
            // consumed or dropped before that: `Child::run` and the order of its fields say so. Both are Send.
            unsafe { scheduler::spawn_unchecked(Some(&self.runtime), request, move || child.run()) }
        })
    }

    /// Spawns a thread of the scope on this capability for good, so that `f` need not be `Send`; see
    /// [`spawn_local`](crate::spawn_local).
    ///
    /// ```
    /// use std::cell::Cell;
    /// let sum = bast::run(|| {
    ///     let sum = Cell::new(0);
    ///     bast::scope(|scope| {
    ///         for number in 1..=3 {
    ///             let sum = &sum;
    ///             scope.spawn_local_with(bast::Builder::new(), move || sum.set(sum.get() + number)).unwrap();
    ///         }
    ///     });
    ///     sum.get()
    /// });
    /// assert_eq!(sum, 6);
    /// ```
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    /// As [`Builder::spawn_local`].
    pub fn spawn_local_with<F, T>(
        &'scope self,
        builder: Builder,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let request = builder.local_request()?;
        self.admit(f, |child| {
            // SAFETY: as for `spawn_with`: the closure is gone when `scope` returns. It need not be Send, because
            // `spawn_local_unchecked` runs and drops it on this OS thread, and a `T` that is not Send makes a handle that is not.
            unsafe { scheduler::spawn_local_unchecked(request, move || child.run()) }
        })
    }

    /// Makes a member of what runs `f`, and lets `spawn` make a thread of it.
    fn admit<F, T>(
        &'scope self,
        f: F,
        spawn: impl FnOnce(Child<F, T>) -> io::Result<Joiner<()>>,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let packet = Arc::new(Packet(Mutex::new(None)));
        let member = self.members.join();
        let index = member.index;
        let joiner = spawn(Child { f, packet: Arc::clone(&packet), member });
        let joiner = joiner.inspect_err(|_| self.members.forget(index))?;
        let handle = JoinHandle::new(joiner);
        self.members.introduce(index, handle.thread());
        Ok(ScopedJoinHandle { handle, packet, scope: PhantomData })
    }

    /// Kills the threads of the scope, and those that are spawned in it from now on before they start. The body goes
    /// on.
    pub fn cancel(&self) {
        self.members.kill_all();
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("threads", &self.members.lock().running.len()).finish_non_exhaustive()
    }
}

/// The right to wait for a thread of a [`scope`] and to get what it returned.
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<()>,
    packet: Arc<Packet<T>>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits until the thread has ended, and returns what it returned.
    ///
    /// # Errors
    /// The thread was killed, could not be started, or panicked; in the last case the scope fails as well, and a panic
    /// that was not of a text is only named.
    ///
    /// # Cancellation
    /// Interruptible.
    pub fn join(self) -> Result<T, JoinError> {
        self.handle.join()?;
        let outcome = self.packet.lock().take().expect("scope: a thread that has ended leaves an outcome");
        outcome.map_err(|failure| match failure {
            Failure::Killed => JoinError::new(Box::new(Killed)),
            Failure::Panic(text) => JoinError::new(Box::new(text)),
        })
    }

    /// Whether `join` would return at once.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// The thread itself.
    pub fn thread(&self) -> Thread {
        self.handle.thread()
    }

    /// The thread's id.
    pub fn id(&self) -> ThreadId {
        self.handle.id()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").field("thread", &self.thread()).finish_non_exhaustive()
    }
}

/// What a thread of the scope leaves for its handle.
struct Packet<T>(Mutex<Option<Result<T, Failure>>>);

enum Failure {
    Killed,
    Panic(String),
}

impl<T> Packet<T> {
    fn lock(&self) -> Locked<'_, Option<Result<T, Failure>>> {
        critical::lock(&self.0)
    }
}

/// What a thread of the scope runs. Dropped unrun if it is killed before it starts: the closure first, the member last.
struct Child<F, T> {
    f: F,
    packet: Arc<Packet<T>>,
    member: Member,
}

impl<F: FnOnce() -> T, T> Child<F, T> {
    fn run(self) {
        let Child { f, packet, member } = self;
        member.started.set(true);
        let outcome = match park::catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => Ok(value),
            Err(payload) if payload.is::<Killed>() => Err(Failure::Killed),
            Err(payload) => {
                let text = text_of(&payload);
                member.members.fail(payload);
                Err(Failure::Panic(text))
            }
        };
        *packet.lock() = Some(outcome);
        // If the handle is gone this drops the result: here, while what it borrows is still there.
        // Not to be cut short by an exception, which would not be a failure of the thread's either.
        if let Err(payload) = park::catch_unwind(AssertUnwindSafe(|| exception::shielded(|| drop(packet)))) {
            member.members.fail(payload);
        }
        drop(member);
    }
}

/// Drops a failure that came too late, whatever its destructor does: nothing may unwind out of a scope's own steps.
fn drop_quietly(payload: Option<Payload>) {
    exception::shielded(|| {
        let _ = park::catch_unwind(AssertUnwindSafe(|| drop(payload)));
    });
}

fn text_of(payload: &Payload) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(not a text)").to_owned()
}

/// The threads of one scope, and the wait for them.
struct Members {
    parent: Reference,
    /// The body's frame is over.
    cancelled: Arc<AtomicBool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By index, so that a thread may end before its name is known.
    running: HashMap<u64, Option<Thread>>,
    /// Those that left without having been started, before their names were known.
    unstarted: HashSet<u64>,
    next_index: u64,
    /// Threads that are spawned now are killed at once.
    killed: bool,
    failure: Option<Payload>,
    waiter: Option<Token>,
}

impl State {
    /// Keeps the first failure. A later one is given back: its destructor is not to run under the lock.
    fn fail_first(&mut self, payload: Payload) -> Option<Payload> {
        if self.failure.is_some() {
            return Some(payload);
        }
        self.failure = Some(payload);
        None
    }
}

impl Members {
    fn lock(&self) -> Locked<'_, State> {
        critical::lock(&self.state)
    }

    fn join(self: &Arc<Members>) -> Member {
        let mut state = self.lock();
        state.next_index += 1;
        let index = state.next_index;
        state.running.insert(index, None);
        Member { members: Arc::clone(self), index, started: Cell::new(false) }
    }

    /// Says which thread the member is.
    fn introduce(&self, index: u64, thread: Thread) {
        let (killed, unstarted) = {
            let mut state = self.lock();
            if let Some(member) = state.running.get_mut(&index) {
                *member = Some(thread.clone());
            }
            (state.killed, state.unstarted.remove(&index))
        };
        if killed {
            thread.kill();
        } else if unstarted {
            self.fail(not_started());
        }
    }

    /// The member was never spawned.
    fn forget(&self, index: u64) {
        self.lock().unstarted.remove(&index);
    }

    /// A member failed: the others, and the body, are to end.
    fn fail(&self, payload: Payload) {
        let late = self.lock().fail_first(payload);
        drop_quietly(late);
        exception::cancel(&self.parent, &self.cancelled);
        self.kill_all();
    }

    fn kill_all(&self) {
        let threads: Vec<Thread> = {
            let mut state = self.lock();
            state.killed = true;
            state.running.values().flatten().cloned().collect()
        };
        threads.iter().for_each(Thread::kill);
    }

    /// Waits until all have left. An exception that is received meanwhile makes them leave, and is returned.
    fn wait(&self) -> Option<Payload> {
        let interrupted = park::catch_unwind(AssertUnwindSafe(|| self.wait_interruptibly())).err()?;
        self.kill_all();
        exception::shielded(|| {
            while park::catch_unwind(AssertUnwindSafe(|| self.wait_interruptibly())).is_err() {
                // A park hook that panics. The members must be able to go on.
                park::yield_now();
            }
        });
        Some(interrupted)
    }

    fn wait_interruptibly(&self) {
        while !self.lock().running.is_empty() {
            let woken = park::park(BlockedOn::Scope, None, |token| {
                let mut state = self.lock();
                state.waiter = Some(token);
                !state.running.is_empty()
            });
            if woken != Woken::Event {
                self.lock().waiter = None;
                woken.or_unwind();
            }
        }
    }
}

/// One thread's membership.
struct Member {
    members: Arc<Members>,
    index: u64,
    started: Cell<bool>,
}

fn not_started() -> Payload {
    Box::new("a thread of the scope could not be started: there is no stack for it")
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.started.get() {
            let lost = {
                let mut state = self.members.lock();
                match state.running.get(&self.index) {
                    Some(Some(thread)) => !state.killed && !thread.is_killed(),
                    _ => {
                        state.unstarted.insert(self.index);
                        false
                    }
                }
            };
            if lost {
                self.members.fail(not_started());
            }
        }
        let waiter = {
            let mut state = self.members.lock();
            state.running.remove(&self.index);
            if state.running.is_empty() { state.waiter.take() } else { None }
        };
        if let Some(token) = waiter {
            park::wake(token);
        }
    }
}
