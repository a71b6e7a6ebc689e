#![forbid(unsafe_code)]
//! What others hold of a thread: the right to join it, and a name for it.

use crate::critical;
use crate::scheduler::{current as scheduler_current, exception, park};
use crate::stack::StackError;
use crate::thread::block::BlockedOn;
use crate::thread::body::{Joiner, Payload};
use crate::thread::control::Reference;
use crate::thread::exception::Killed;
use crate::thread::{ThreadId, Woken};
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// The right to wait for a thread and to get what it returned. Dropping it lets the thread go on alone.
pub struct JoinHandle<T> {
    joiner: Joiner<T>,
    id: ThreadId,
}

impl<T> JoinHandle<T> {
    pub(crate) fn new(joiner: Joiner<T>) -> JoinHandle<T> {
        let id = joiner.control().id().expect("a spawned thread has an id");
        JoinHandle { joiner, id }
    }

    /// Waits until the thread has ended, and returns what it returned. Works from green and from OS threads.
    ///
    /// # Errors
    /// The thread panicked, was killed, or could not be started ([`JoinError`] says which).
    ///
    /// # Panics
    /// If a thread joins itself.
    ///
    /// # Cancellation
    /// Interruptible: if the caller is killed meanwhile it unwinds, and the joined thread goes on alone.
    pub fn join(self) -> Result<T, JoinError> {
        park::interruption_point();
        self.assert_not_own();
        while !self.joiner.is_done() {
            let woken = park::park(BlockedOn::Join(self.id), None, |token| self.joiner.wait(token));
            if woken != Woken::Event {
                self.joiner.give_up();
                woken.or_unwind();
            }
        }
        self.joiner.take().map_err(JoinError::new)
    }

    pub(crate) fn assert_not_own(&self) {
        if let Some((_, running)) = scheduler_current::thread() {
            let own = std::ptr::eq(running, self.joiner.control());
            assert!(!own || self.joiner.is_done(), "a thread cannot join itself");
        }
    }

    pub(crate) fn joiner(&self) -> &Joiner<T> {
        &self.joiner
    }

    /// Whether `join` would return at once.
    pub fn is_finished(&self) -> bool {
        self.joiner.is_done()
    }

    /// The thread itself.
    pub fn thread(&self) -> Thread {
        Thread { control: Reference::new(self.joiner.control()), id: self.id }
    }

    /// The thread's id.
    pub fn id(&self) -> ThreadId {
        self.id
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("thread", &self.thread()).finish_non_exhaustive()
    }
}

/// A green thread, running or not.
#[derive(Clone)]
pub struct Thread {
    control: Reference,
    id: ThreadId,
}

/// The calling green thread.
///
/// # Panics
/// Outside a green thread.
pub fn current() -> Thread {
    let (_, control) = scheduler_current::thread().expect("bast::current outside a green thread");
    let id = control.id().expect("a running thread has an id");
    Thread { control: Reference::new(control), id }
}

impl Thread {
    /// The thread's id.
    pub fn id(&self) -> ThreadId {
        self.id
    }

    /// The thread's label as text; `None` if it has none.
    pub fn name(&self) -> Option<String> {
        self.control.label().map(ToString::to_string)
    }

    /// Asks the thread to die. Returns at once; works from anywhere.
    ///
    /// The thread unwinds at its next interruptible point (a blocking call that is made, or that it is in), and its
    /// destructors run. A kill is sticky: if the thread catches the unwind, its next blocking call unwinds again. An
    /// operation that completed returns normally first. A thread that has not started never runs; killing one that
    /// has ended does nothing. Its `join` returns [`JoinError::is_killed`]. At an allocation a thread may be
    /// [switched](crate::alloc), but nothing is raised: a long computation wants [`yield_point`](crate::yield_point)s.
    ///
    /// As with any unwind, a destructor that panics meanwhile ends the process, and guards of std's mutexes that are
    /// dropped poison them.
    pub fn kill(&self) {
        exception::post_kill(self.control.clone());
    }
}

impl Thread {
    pub(crate) fn is_killed(&self) -> bool {
        self.control.control().notice().is_killed()
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("id", &self.id.get()).field("name", &self.name()).finish()
    }
}

/// Raises `payload` in `thread`, which unwinds with it, and waits until it is received. GHC's `throwTo`.
///
/// It is received at the thread's next interruptible operation or yield point, unless it is masked
/// ([`mask`](crate::mask())), and not while it unwinds. Whoever catches it ([`catch`](crate::catch()), `catch_unwind`) has
/// consumed it; uncaught, it ends the thread, without a word on stderr, and [`JoinError::into_panic`] gives it back. A thread that has not started
/// never runs. For one that has ended this returns at once. Exceptions from one thread arrive in their order.
///
/// ```
/// bast::run(|| {
///     let worker = bast::spawn(|| bast::sleep(std::time::Duration::from_secs(3600)));
///     bast::throw_to(&worker.thread(), 17);
///     let payload = worker.join().unwrap_err().into_panic().unwrap();
///     assert_eq!(payload.downcast_ref(), Some(&17));
/// });
/// ```
///
/// # Panics
/// Thrown to the caller itself it is raised here and now, masked or not.
///
/// # Cancellation
/// Interruptible while it waits; the exception is then withdrawn. So two threads that throw to each other both go on.
pub fn throw_to(thread: &Thread, payload: impl Any + Send) {
    exception::throw_to(&thread.control, Box::new(payload));
}

/// Whether a caught payload belongs to the runtime: that of a kill, or of a [`timeout`](crate::timeout()) or a
/// [`scope`](crate::scope()) on its way to its frame. Whoever catches panics on behalf of others must let it go on
/// ([`resume_unwind`](crate::resume_unwind)); if it does not, the next interruptible operation raises it again.
pub fn is_interrupt(payload: &(dyn Any + Send)) -> bool {
    exception::is_passing(payload)
}

/// Whether a caught payload is that of a kill. Whoever catches panics on behalf of others must let it go on
/// ([`resume_unwind`](crate::resume_unwind)).
pub fn is_kill(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Killed>()
}

/// Why a thread left no value.
pub struct JoinError {
    kind: Kind,
}

enum Kind {
    /// In a mutex only so that the error is `Sync`, as errors that are passed around must be.
    Panic(Mutex<Payload>),
    Killed,
    Stack(Box<StackError>),
}

impl JoinError {
    pub(crate) fn new(payload: Payload) -> JoinError {
        if payload.is::<Killed>() {
            return JoinError { kind: Kind::Killed };
        }
        let kind = match payload.downcast::<StackError>() {
            Ok(error) => Kind::Stack(error),
            Err(payload) => Kind::Panic(Mutex::new(payload)),
        };
        JoinError { kind }
    }

    /// Whether the thread panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.kind, Kind::Panic(_))
    }

    /// Whether the thread was killed.
    pub fn is_killed(&self) -> bool {
        matches!(self.kind, Kind::Killed)
    }

    /// The value that the thread panicked with.
    ///
    /// # Errors
    /// The error itself, if the thread did not panic.
    pub fn into_panic(self) -> Result<Box<dyn Any + Send + 'static>, JoinError> {
        match self.kind {
            Kind::Panic(payload) => Ok(payload.into_inner().unwrap_or_else(PoisonError::into_inner)),
            kind => Err(JoinError { kind }),
        }
    }

    /// Goes on with the panic of the thread in the caller; a kill or a failed start becomes a panic with this
    /// error's text.
    pub fn resume(self) -> ! {
        match self.into_panic() {
            Ok(payload) => park::resume_unwind(payload),
            Err(error) => panic!("{error}"),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Panic(payload) => {
                // Copied out: the writer is the user's, and may wait.
                let text = {
                    let payload = critical::lock(payload);
                    let text = payload.downcast_ref::<&str>().copied();
                    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).map(str::to_owned)
                };
                match text {
                    Some(text) => write!(f, "the thread panicked: {text}"),
                    None => f.write_str("the thread panicked"),
                }
            }
            Kind::Killed => f.write_str("the thread was killed"),
            Kind::Stack(_) => f.write_str("the thread got no stack"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

const _: fn() = || {
    fn can_be_passed_around<T: Error + Send + Sync + 'static>() {}
    can_be_passed_around::<JoinError>();
};

impl Error for JoinError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            Kind::Stack(error) => Some(error),
            Kind::Panic(_) | Kind::Killed => None,
        }
    }
}
