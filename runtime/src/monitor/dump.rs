#![forbid(unsafe_code)]
//! Dumps: every thread of a runtime with its stack.
//!
//! Nobody is stopped. The walk over the table and all that follows run on one OS thread, beside the capabilities:
//! stacks of suspended threads are copied out and unwound there, and whoever runs at the moment is interrupted once,
//! for the copy of its own (see `walk/mod.rs`). So a dump works when every core is stuck, and at 100,000 threads it costs
//! some hundred milliseconds of one CPU and no core a pause.

use super::{ThreadInfo, look};
use crate::scheduler::{Inner, current, sample};
use crate::stack;
use crate::sync::channel;
use crate::sys::{clock, memory};
use crate::thread::Control;
use crate::thread::control::Reference;
use crate::thread::notice::Home;
use crate::thread::token::State;
use crate::walk::symbols::{Frame, Symbols};
use crate::walk::{NoStack, Walker};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;

/// How often a thread is looked at again that ran on meanwhile.
const LOOKS_MAX: usize = 4;

/// How many threads of a group `{}` names.
const NAMED_MAX: usize = 10;

/// All threads of a runtime with their stacks, those with the same stack together.
///
/// `{}` prints it for people, the largest groups first and ten threads of each named; `{:#}` names all.
///
/// ```
/// let dump = bast::run(|| {
///     let sleeper = bast::spawn(|| bast::sleep(std::time::Duration::from_secs(3600)));
///     while bast::threads().iter().all(|thread| thread.id != sleeper.id() || thread.switches == 0) {
///         bast::yield_now();
///     }
///     bast::dump()
/// });
/// let text = dump?.to_string();
/// assert!(text.contains("bast::time::sleep") && text.contains("blocked on timer"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dump {
    groups: Vec<Group>,
}

/// Threads that have the same stack.
#[derive(Clone, Debug)]
pub struct Group {
    threads: Vec<ThreadDump>,
    stack: Result<Vec<Frame>, NoStack>,
}

/// A thread of a [`Dump`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ThreadDump {
    /// What [`threads`](crate::threads) tells of it.
    pub info: ThreadInfo,
    /// How much of its stack is in memory, in bytes; `None` if it has none yet.
    pub stack_committed: Option<usize>,
}

impl Dump {
    /// The threads by their stacks, the largest group first.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// All threads, group by group.
    pub fn threads(&self) -> impl Iterator<Item = &ThreadDump> {
        self.groups.iter().flat_map(|group| &group.threads)
    }
}

impl Group {
    /// The threads, by their ids.
    pub fn threads(&self) -> &[ThreadDump] {
        &self.threads
    }

    /// Their stack, the innermost function first, without the scheduler's frames at either end. Empty where there is
    /// none to show: a thread that has not started, one that would not answer. At most 128 frames of the innermost 64 KiB
    /// are told.
    pub fn frames(&self) -> &[Frame] {
        self.stack.as_deref().unwrap_or_default()
    }
}

/// The threads of the caller's runtime with their stacks.
///
/// A program that was built without debug information has only the names of functions that were not inlined: build with
/// `debug = "line-tables-only"` in the profile. The thread that asks is shown where it waits for the dump. Parks the calling thread while an OS thread takes the dump.
///
/// Every thread that lives during the whole dump is in it once. Each is as of the moment when it was looked at; of one
/// that runs on meanwhile the state may be of another moment than the stack.
///
/// Interruptible by a kill.
///
/// # Errors
/// No OS thread can be started.
///
/// # Panics
/// Outside a runtime; see [`Handle::dump`](crate::Handle::dump).
pub fn dump() -> io::Result<Dump> {
    let capability = current::get().expect("bast::dump outside a runtime: use Handle::dump");
    take_beside(Arc::clone(capability.runtime()))
}

/// On an OS thread of its own, for a caller that must not block its core or has little stack.
pub(crate) fn take_beside(runtime: Arc<Inner>) -> io::Result<Dump> {
    let (tx, rx) = channel(1);
    thread::Builder::new().name("bast-dump".into()).spawn(move || {
        // Whoever asked may have been killed meanwhile.
        let _ = tx.send(take(&runtime));
    })?;
    rx.recv().map_err(|_| io::Error::other("the dump panicked"))
}

/// On the calling OS thread, which needs an ordinary stack.
pub(crate) fn take(runtime: &Inner) -> Dump {
    let mut walker = Walker::new();
    let mut groups: HashMap<Result<Vec<usize>, NoStack>, Vec<ThreadDump>> = HashMap::new();
    for control in runtime.controls() {
        // With a reference the block stays that of this thread.
        let Some(reference) = Reference::try_new(control) else { continue };
        let stack = stack_of(&mut walker, runtime, control);
        let Some(info) = look(runtime, &reference, clock::monotonic_coarse_ns()) else { continue };
        let stack_committed =
            stack::around(control.suspended_at()).and_then(|range| memory::resident_bytes(range).ok());
        groups.entry(stack).or_default().push(ThreadDump { info, stack_committed });
    }
    let mut symbols = Symbols::new();
    let mut groups: Vec<Group> = groups
        .into_iter()
        .map(|(stack, mut threads)| {
            threads.sort_unstable_by_key(|thread| thread.info.id);
            Group { threads, stack: stack.map(|addresses| symbols.of_stack(&addresses)) }
        })
        .collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.threads.len()), group.threads[0].info.id));
    Dump { groups }
}

/// The return addresses of a thread's stack, of one moment.
pub(super) fn stack_of(
    walker: &mut Walker,
    runtime: &Inner,
    control: &'static Control,
) -> Result<Vec<usize>, NoStack> {
    let mut found = Err(NoStack::Moved);
    for _ in 0..LOOKS_MAX {
        let before = control.word().load();
        found = match State::of(before) {
            State::Free | State::New | State::Finished => return Err(NoStack::NotStarted),
            State::Running => match running(walker, runtime, control) {
                Err(NoStack::Moved) => continue,
                // It may have parked before the signal came.
                Err(NoStack::NoAnswer) if control.word().load() != before => continue,
                found => return found,
            },
            State::Runnable
            | State::Parked
            | State::ClaimedEvent
            | State::ClaimedTimer
            | State::ClaimedInterrupt => match control.suspended_at() {
                0 => Err(NoStack::NotStarted),
                at => walker.suspended(at),
            },
        };
        if still_there(before, control.word().load()) {
            return found;
        }
    }
    found.and(Err(NoStack::Moved))
}

/// Whether a thread that was suspended has not run between two looks at its word. A parked one may have been claimed;
/// had it run, it would be running, or in a later park. (One that yields twice looks the same: then some of its frames
/// may be of an earlier moment.)
fn still_there(before: u64, after: u64) -> bool {
    let park = |word: u64| word & !0xff;
    park(before) == park(after)
        && match State::of(before) {
            State::Runnable => before == after,
            _ => matches!(
                State::of(after),
                State::Parked | State::ClaimedEvent | State::ClaimedTimer | State::ClaimedInterrupt
            ),
        }
}

fn running(walker: &mut Walker, runtime: &Inner, control: &'static Control) -> Result<Vec<usize>, NoStack> {
    let Home::Capability(slot) = control.home() else { return Err(NoStack::Moved) };
    let remote = runtime.remotes().iter().find(|remote| remote.slot() == slot).ok_or(NoStack::Moved)?;
    let sample = sample::running_on(remote).ok_or(NoStack::NoAnswer)?;
    if control.id().is_none_or(|id| id.get() != sample.id) {
        return Err(NoStack::Moved);
    }
    walker.sampled(&sample)
}

impl fmt::Display for ThreadDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)?;
        match self.stack_committed {
            Some(bytes) => write!(f, ", stack {} KiB", bytes >> 10),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = if f.alternate() { self.threads.len() } else { NAMED_MAX };
        for thread in self.threads.iter().take(named) {
            writeln!(f, "{thread}")?;
        }
        if self.threads.len() > named {
            writeln!(f, "and {} more threads with the same stack", self.threads.len() - named)?;
        }
        match &self.stack {
            Ok(frames) => frames.iter().try_for_each(|frame| writeln!(f, "    {frame}")),
            Err(why) => writeln!(f, "    no stack: {why}"),
        }
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads: usize = self.groups.iter().map(|group| group.threads.len()).sum();
        writeln!(f, "{threads} threads with {} different stacks", self.groups.len())?;
        for group in &self.groups {
            writeln!(f)?;
            group.fmt(f)?;
        }
        Ok(())
    }
}
