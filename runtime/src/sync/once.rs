#![forbid(unsafe_code)]
//! What is done once, and values that are made once.
//!
//! ```text
//!   New ──call_once──▶ Running ──▶ Done
//!    ▲                    │
//!    └── it unwound ──────┘        the next of those who wait tries
//! ```
//! The value of a [`OnceLock`] is in a cell of std's, which only the one in `Running` sets: nobody ever waits in that.

use super::wait_cell::{Wait, WaitCell, Waited};
use crate::scheduler::park;
use crate::thread::block::BlockedOn;
use crate::time::deadline_after;
use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock as StdOnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const QUEUE: usize = 0;

/// Something that is done once, by whoever comes first, while the others wait for it.
///
/// As in std, but waiting parks only the green thread, and there is no poisoning: if the one that does it panics or is
/// killed, the next of those who wait tries. `call_once` of a `Once` within its own closure waits for itself.
///
/// # Cancellation
/// Interruptible while another thread does it, and wherever the closure is.
///
/// ```
/// use bast::sync::Once;
///
/// static START: Once = Once::new();
/// START.call_once(|| println!("hello"));
/// START.call_once(|| unreachable!());
/// assert!(START.is_completed());
/// ```
pub struct Once {
    /// As `Progress::Done`, for a look without the lock.
    done: AtomicBool,
    cell: WaitCell<Progress, (), 1>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    New,
    Running,
    Done,
}

/// What a thread finds that would do it, or wait for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attended {
    /// It is the caller's to do now.
    Yours,
    /// There is no more to wait for.
    Over,
    /// Who was at it has stopped, one way or the other.
    GaveUp,
}

impl Once {
    /// Nobody has done it yet.
    pub const fn new() -> Once {
        Once { done: AtomicBool::new(false), cell: WaitCell::new(Progress::New) }
    }

    /// Calls `f` if no such call has returned yet; waits if another thread is at it. When this returns it is done, and
    /// the caller sees what was done.
    #[inline]
    pub fn call_once(&self, f: impl FnOnce()) {
        if !self.is_completed() && self.begin() {
            self.run(f);
        }
    }

    /// Whether it is done.
    #[inline]
    pub fn is_completed(&self) -> bool {
        // Acquire, with the release in `Running::drop`: what was done is seen.
        self.done.load(Ordering::Acquire)
    }

    /// Waits until it is done, by whomever.
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// As [`wait`](Once::wait), for `limit` at the most; whether it is done.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.wait_until(Some(deadline_after(limit)));
        self.is_completed()
    }

    fn wait_until(&self, deadline_ns: Option<u64>) {
        park::interruption_point();
        while self.attend(false, deadline_ns) == Attended::GaveUp {}
    }

    /// Whether it is the caller's to do.
    #[cold]
    fn begin(&self) -> bool {
        park::interruption_point();
        loop {
            match self.attend(true, None) {
                Attended::Yours => return true,
                Attended::Over => return false,
                Attended::GaveUp => {}
            }
        }
    }

    /// Waits while another thread does it.
    fn attend(&self, begin: bool, deadline_ns: Option<u64>) -> Attended {
        let mut found = Attended::GaveUp;
        let wait = Wait { queue: QUEUE, at_front: false, reason: BlockedOn::Once, deadline_ns };
        let waited = self.cell.wait(wait, &mut None, |progress, _| {
            found = match **progress {
                Progress::New if begin => Attended::Yours,
                Progress::Done => Attended::Over,
                Progress::New | Progress::Running => Attended::GaveUp,
            };
            if found == Attended::Yours {
                **progress = Progress::Running;
            }
            found != Attended::GaveUp
        });
        if waited == Waited::TimedOut { Attended::Over } else { found }
    }

    fn run(&self, f: impl FnOnce()) {
        let mut running = Running { once: self, progress: Progress::New };
        f();
        running.progress = Progress::Done;
    }
}

/// What is being done. When it is dropped that is over, done or not.
struct Running<'a> {
    once: &'a Once,
    progress: Progress,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let done = self.progress == Progress::Done;
        let mut progress = self.once.cell.lock();
        *progress = self.progress;
        self.once.done.store(done, Ordering::Release);
        // They look again. If it is not done, the first of them that would do it does.
        while let Some(waiter) = progress.claim(QUEUE) {
            progress.ready(waiter);
        }
    }
}

impl Default for Once {
    fn default() -> Once {
        Once::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("is_completed", &self.is_completed()).finish()
    }
}

/// A place for a value that is put there once, as in std; but only the green thread that waits for it is parked.
///
/// If an initialiser panics or is killed, the next one tries.
///
/// ```
/// use bast::sync::OnceLock;
///
/// static CONFIG: OnceLock<String> = OnceLock::new();
/// assert_eq!(CONFIG.get_or_init(|| "default".to_owned()), "default");
/// assert_eq!(CONFIG.set("late".to_owned()), Err("late".to_owned()));
/// ```
pub struct OnceLock<T> {
    once: Once,
    value: StdOnceLock<T>,
}

impl<T> OnceLock<T> {
    /// An empty place.
    pub const fn new() -> OnceLock<T> {
        OnceLock { once: Once::new(), value: StdOnceLock::new() }
    }

    /// The value, if it is there.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value, if it is there.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// Puts a value. Waits if another thread is about to.
    ///
    /// # Errors
    /// The value, if there is one already.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.once.call_once(|| self.put(value.take()));
        value.map_or(Ok(()), Err)
    }

    /// The value; made by `f` if there is none. Waits if another thread is making it.
    #[inline]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        self.once.call_once(|| self.put(Some(f())));
        self.get().expect("once: what is done has left its value")
    }

    /// The value; made by `f` if there is none and it can be made.
    ///
    /// # Errors
    /// Those of `f`, to whom it happens: the next one tries again.
    pub fn get_or_try_init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if self.get().is_none() && self.once.begin() {
            let mut running = Running { once: &self.once, progress: Progress::New };
            self.put(Some(f()?));
            running.progress = Progress::Done;
        }
        Ok(self.get().expect("once: what is done has left its value"))
    }

    /// Waits until somebody has put the value.
    pub fn wait(&self) -> &T {
        self.once.wait();
        self.get().expect("once: what is done has left its value")
    }

    /// As [`wait`](OnceLock::wait), for `limit` at the most; `None` after that.
    pub fn wait_timeout(&self, limit: Duration) -> Option<&T> {
        self.once.wait_timeout(limit);
        self.get()
    }

    /// The value, if it is there; the place is empty then.
    pub fn take(&mut self) -> Option<T> {
        let value = self.value.take();
        if value.is_some() {
            self.once = Once::new();
        }
        value
    }

    /// The value, if it is there.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// The place is empty, and the caller alone may fill it.
    fn put(&self, value: Option<T>) {
        let filled = value.is_some_and(|value| self.value.set(value).is_ok());
        assert!(filled, "once: filled twice");
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        let place = OnceLock::new();
        let put = place.set(value);
        assert!(put.is_ok(), "a new place is empty");
        place
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = f.debug_tuple("OnceLock");
        match self.get() {
            Some(value) => place.field(value),
            None => place.field(&format_args!("<empty>")),
        };
        place.finish()
    }
}

/// A value that is made when it is first used, as in std; but only green threads that wait for it are parked, and if
/// making it panics or is killed, the next use tries again. That is why `F` is a `Fn`.
///
/// ```
/// use bast::sync::LazyLock;
///
/// static PRIMES: LazyLock<Vec<u32>> = LazyLock::new(|| vec![2, 3, 5, 7]);
/// assert_eq!(PRIMES.len(), 4);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    value: OnceLock<T>,
    make: F,
}

impl<T, F: Fn() -> T> LazyLock<T, F> {
    /// A value that `make` will make.
    pub const fn new(make: F) -> LazyLock<T, F> {
        LazyLock { value: OnceLock::new(), make }
    }

    /// The value, made if there is none yet; waits if another thread is making it.
    #[inline]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        this.value.get_or_init(&this.make)
    }
}

impl<T, F: Fn() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
