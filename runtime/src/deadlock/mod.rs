//! Reports of threads that wait for what can never come.
//!
//! ```
//! use bast::deadlock;
//! use bast::sync::{MVar, Mutex};
//! use std::sync::{Arc, mpsc};
//!
//! let (tx, reports) = mpsc::channel();
//! deadlock::set_hook(move |report| tx.send(report.clone()).unwrap());
//! let report = bast::run(move || {
//!     let mutex = Arc::new(Mutex::new(0));
//!     let twice = bast::Builder::new().name("twice").spawn(move || {
//!         let _guard = mutex.lock();
//!         drop(mutex.lock()); // for ever, unless it is killed
//!     })?;
//!     let report = loop {
//!         bast::yield_now();
//!         if let Ok(report) = reports.try_recv() {
//!             break report;
//!         }
//!     };
//!     twice.thread().kill();
//!     Ok::<_, std::io::Error>(report)
//! })?;
//! assert_eq!(report.kind(), deadlock::Kind::Cycle);
//! assert_eq!(report.threads()[0].label.as_deref(), Some("twice"));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Two things are found, at the moment when they come to be, without any regular work:
//!
//! - **A cycle of mutexes**: each of some threads, of any capabilities or none, waits for a [`Mutex`](crate::sync::Mutex)
//!   that the next one has. A thread that locks a mutex twice is a cycle of one. The lock that closes the cycle is where it
//!   is found. Waits inside [`timeout`](crate::timeout()) end by themselves and are not reported.
//! - **Quiescence**: [`run`](crate::run) waits, and nothing in the process can happen any more. Every green thread of
//!   the runtime waits for another thread of it (for a lock, a value, a join), none for the clock, a descriptor, a
//!   signal or other work outside; and no OS thread is left that could wake one. Any OS thread that is not the runtime's
//!   own and not waiting for it might do that, even if it never will; so in a program that has such threads nothing is
//!   reported.
//!
//! What is between the two (some threads wait for ever while others work) is not found: who waits for an
//! [`MVar`](crate::sync::MVar) or a channel can be helped by whoever has a reference to it, and Rust does not know who
//! has. In particular the count of a channel's handles proves nothing, since those who could send may be anywhere.
//!
//! A report goes to the log facade, as an error (to stderr where there is no logger), and to a hook. Nothing else happens: the threads wait on, and can be
//! killed. [`panic_on_cycle`] makes the lock that closes a cycle panic instead of waiting.

pub(crate) mod waits;

use crate::critical::{self, Locked};
use crate::sys::clock;
use crate::tell::tell as tell_user;
use crate::thread::block::BlockedOn;
use crate::thread::control::Reference;
use crate::thread::notice::Home;
use crate::thread::{Control, ThreadId, Token, table};
use crate::walk::Walker;
use crate::walk::symbols::{Frame, Symbols};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Of a quiescent runtime no more threads than these are in the report: they may be a million.
const THREADS_MAX: usize = 100;

/// From one report with stacks to the next.
const STACKS_EVERY_NS: u64 = 1_000_000_000;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Each thread waits for a mutex that the next one has, the last one for one of the first's.
    Cycle,
    /// Nothing can happen any more.
    Quiescence,
}

/// A thread of a [`Report`], and what it waits for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Waiting {
    /// The thread.
    pub id: ThreadId,
    /// Its label as text; of an OS thread its name.
    pub label: Option<String>,
    /// What it waits for.
    pub blocked_on: BlockedOn,
    /// Whether it is a green thread.
    pub is_green: bool,
    /// Where it waits, the innermost function first; empty for an OS thread, for a thread that was woken (killed, say)
    /// before its stack was looked at, and in all reports of the second after one with stacks: reading a program's debug
    /// information takes that long, at the worst.
    pub frames: Vec<Frame>,
}

impl Waiting {
    /// What there is to say of a thread that is parked. The one place to add to it.
    fn of(control: &'static Control) -> Option<Waiting> {
        let reference = Reference::try_new(control)?;
        Some(Waiting {
            id: control.id()?,
            label: reference.label().map(ToString::to_string),
            blocked_on: control.blocked_on()?,
            is_green: control.home() != Home::OsThread,
            frames: Vec::new(),
        })
    }
}

/// A thread whose stack is to be looked at as long as it is in this park.
struct Parked {
    thread: Reference,
    token: Token,
}

impl Parked {
    fn of(control: &'static Control) -> Option<Parked> {
        let thread = Reference::try_new(control)?;
        control.word().parked_token().map(|token| Parked { thread, token })
    }

    /// Its frames, unless it has gone on.
    fn frames(&self, walker: &mut Walker, symbols: &mut Symbols) -> Vec<Frame> {
        let control = self.thread.control();
        let is_there = || control.word().parked_token() == Some(self.token);
        let addresses = if is_there() { walker.suspended(control.suspended_at()).ok() } else { None };
        addresses.filter(|_| is_there()).map(|addresses| symbols.of_stack(&addresses)).unwrap_or_default()
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.is_green { "thread" } else { "OS thread" }, self.id)?;
        match &self.label {
            Some(label) => write!(f, " \"{label}\""),
            None => Ok(()),
        }
    }
}

/// Threads that wait for what can never come. `{}` prints what the log gets.
#[derive(Clone, Debug)]
pub struct Report {
    kind: Kind,
    threads: Vec<Waiting>,
    threads_in_all: usize,
}

impl Report {
    /// What was found.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The threads: of a cycle all, in its order, the one that closed it first; of quiescence a hundred at most.
    #[must_use]
    pub fn threads(&self) -> &[Waiting] {
        &self.threads
    }

    /// How many threads there are in all.
    #[must_use]
    pub fn threads_in_all(&self) -> usize {
        self.threads_in_all
    }
}

impl fmt::Display for Report {
    /// What was found, in a line; with `{:#}` the stacks of the threads follow.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sentence(f)?;
        if f.alternate() {
            for thread in self.threads.iter().filter(|thread| !thread.frames.is_empty()) {
                write!(f, "\n{thread}, blocked on {}:", thread.blocked_on)?;
                for frame in &thread.frames {
                    write!(f, "\n    {frame}")?;
                }
            }
        }
        Ok(())
    }
}

impl Report {
    fn sentence(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.threads[..]) {
            (Kind::Cycle, [only]) => {
                write!(f, "deadlock: {only} waits for a mutex that it has locked itself")
            }
            (Kind::Cycle, threads) => {
                f.write_str("deadlock: ")?;
                for (index, thread) in threads.iter().enumerate() {
                    let next = &threads[(index + 1) % threads.len()];
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{thread} waits for a mutex of {next}")?;
                }
                Ok(())
            }
            (Kind::Quiescence, threads) => {
                write!(
                    f,
                    "deadlock: nothing is left that could wake any of {} threads",
                    self.threads_in_all
                )?;
                for (index, thread) in threads.iter().enumerate() {
                    let separator = if index == 0 { ": " } else { "; " };
                    write!(f, "{separator}{thread} (blocked on {})", thread.blocked_on)?;
                }
                if threads.len() < self.threads_in_all { f.write_str("; ...") } else { Ok(()) }
            }
        }
    }
}

type Hook = Arc<dyn Fn(&Report) + Send + Sync>;

static HOOK: Mutex<Option<Hook>> = Mutex::new(None);
static PANICS: AtomicBool = AtomicBool::new(false);
static REPORTS: AtomicU64 = AtomicU64::new(0);

/// Calls `hook` with each report of this process from now on, on an OS thread of its own, after the log has got it. The
/// hook that was there before is dropped. Deadlocks are no matter of one runtime: OS threads and those of several
/// runtimes may be in one.
pub fn set_hook(hook: impl Fn(&Report) + Send + Sync + 'static) {
    let before = lock().replace(Arc::new(hook));
    // Outside the lock, since it is user code.
    drop(before);
}

/// Takes the hook away.
pub fn unset_hook() {
    let before = lock().take();
    drop(before);
}

/// Whether a lock that closes a cycle panics, after it was reported; off if not said. The guards of the thread that
/// panics go with its unwind, so that the others get on. A thread that is unwinding already waits, as ever.
pub fn panic_on_cycle(on: bool) {
    PANICS.store(on, Ordering::Relaxed);
}

/// How many reports there were in this process.
pub fn reports() -> u64 {
    REPORTS.load(Ordering::Relaxed)
}

fn lock() -> Locked<'static, Option<Hook>> {
    // Nothing of the user's runs under the lock.
    critical::lock(&HOOK)
}

/// Whether the lock that closes a cycle is to panic.
pub(crate) fn panics_on_cycle() -> bool {
    PANICS.load(Ordering::Relaxed)
}

/// Reports a cycle of parks, and returns what was said. `None`: one of them is over.
pub(crate) fn report_cycle(parks: &[Token]) -> Option<String> {
    let controls: Vec<_> = parks.iter().map(|park| table::control(park.index())).collect::<Option<_>>()?;
    let threads: Vec<Waiting> = controls.iter().map(|control| Waiting::of(control)).collect::<Option<_>>()?;
    let parked = controls.iter().map(|control| Parked::of(control)).collect();
    let threads_in_all = threads.len();
    let report = Report { kind: Kind::Cycle, threads, threads_in_all };
    let text = report.to_string();
    tell(report, parked);
    Some(text)
}

/// Reports that all of these wait in vain.
pub(crate) fn report_quiescence(threads: impl Iterator<Item = &'static Control>) {
    let mut threads_in_all = 0;
    let counted = threads.inspect(|_| threads_in_all += 1);
    let (mut threads, mut parked) = (Vec::new(), Vec::new());
    for control in counted {
        if threads.len() < THREADS_MAX
            && let Some(waiting) = Waiting::of(control)
        {
            threads.push(waiting);
            parked.push(Parked::of(control));
        }
    }
    tell(Report { kind: Kind::Quiescence, threads, threads_in_all }, parked);
}

/// Delivers a report, with the stacks of its threads, on an OS thread of its own: whoever finds a deadlock stands on a
/// scheduler's stack, where the user's code must not run.
fn tell(mut report: Report, parked: Vec<Option<Parked>>) {
    REPORTS.fetch_add(1, Ordering::Relaxed);
    let deliver = move || {
        if stacks_are_due() {
            let (mut walker, mut symbols) = (Walker::new(), Symbols::new());
            for (waiting, parked) in report.threads.iter_mut().zip(&parked) {
                if let Some(parked) = parked.as_ref().filter(|_| waiting.is_green) {
                    waiting.frames = parked.frames(&mut walker, &mut symbols);
                }
            }
        }
        drop(parked);
        tell_user(log::Level::Error, format_args!("bast: {report:#}"));
        let hook = lock().clone();
        if let Some(hook) = hook {
            hook(&report);
        }
    };
    if let Err(error) = thread::Builder::new().name("bast-deadlock".into()).spawn(deliver) {
        log::error!("bast: a deadlock was found and cannot be reported: {error}");
    }
}

/// Whether it is long enough since the last report with stacks; if so, this is the next.
fn stacks_are_due() -> bool {
    static LAST_NS: AtomicU64 = AtomicU64::new(0);
    let now_ns = clock::monotonic_ns();
    let due = |last_ns| (last_ns == 0 || now_ns >= last_ns + STACKS_EVERY_NS).then_some(now_ns);
    LAST_NS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_like_a_sentence() {
        let waiting = |id, label: Option<&str>, is_green| Waiting {
            id: ThreadId::from_raw(id).unwrap(),
            label: label.map(str::to_owned),
            blocked_on: BlockedOn::Mutex,
            is_green,
            frames: Vec::new(),
        };
        let (one, other) = (waiting(1, Some("a"), true), waiting(2, None, false));
        let report = |kind, threads: &[Waiting], threads_in_all| {
            Report { kind, threads: threads.to_vec(), threads_in_all }.to_string()
        };
        assert_eq!(
            report(Kind::Cycle, std::slice::from_ref(&one), 1),
            "deadlock: thread 1 \"a\" waits for a mutex that it has locked itself"
        );
        assert_eq!(
            report(Kind::Cycle, &[one.clone(), other.clone()], 2),
            "deadlock: thread 1 \"a\" waits for a mutex of OS thread 2; OS thread 2 waits for a mutex of thread 1 \"a\""
        );
        assert_eq!(
            report(Kind::Quiescence, &[one, other], 3),
            "deadlock: nothing is left that could wake any of 3 threads: thread 1 \"a\" (blocked on mutex); \
             OS thread 2 (blocked on mutex); ..."
        );
    }
}
