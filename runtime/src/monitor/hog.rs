#![forbid(unsafe_code)]
//! Threads that do not let go of their core: who they are and where they stand. The scheduler's watch says which core
//! and for how long; this runs on an OS thread that it starts.

use super::dump::stack_of;
use super::{ThreadInfo, look};
use crate::scheduler::{Held, Inner, Report, sample};
use crate::sys::clock;
use crate::tell::tell;
use crate::thread::Control;
use crate::thread::control::Reference;
use crate::thread::notice::Home;
use crate::thread::token::State;
use crate::walk::Walker;
use crate::walk::symbols::{Frame, Symbols};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A thread that has held its core for too long while others wait.
///
/// `{}` prints what the log gets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Hog {
    /// The thread.
    pub thread: ThreadInfo,
    /// For how long it has held its core, to a time slice.
    pub held: Duration,
    /// Where it stands, the innermost function first; empty if that cannot be found out.
    pub frames: Vec<Frame>,
}

/// What a program wants to be told.
pub(crate) type Hook = Arc<dyn Fn(&Hog) + Send + Sync>;

/// The report for the scheduler's watch.
pub(crate) fn report(hook: Option<Hook>) -> Report {
    Report(Arc::new(move |runtime, held| {
        if let Some(hog) = find(runtime, held) {
            tell(log::Level::Warn, format_args!("bast: {hog}"));
            if let Some(hook) = &hook {
                hook(&hog);
            }
        }
    }))
}

/// `None`: it has let go meanwhile, or there is nobody else whom it could keep waiting.
fn find(runtime: &Inner, held: Held) -> Option<Hog> {
    let remote = runtime.remotes()[held.capability];
    let id = sample::running_on(remote)?.id;
    let home = Home::Capability(remote.slot());
    let mut hog = None;
    let mut others = false;
    for control in runtime.controls().filter(|control| control.home() == home) {
        if control.id().is_some_and(|of| of.get() == id) {
            hog = Reference::try_new(control);
        } else {
            others = true;
        }
    }
    let hog = hog.filter(|_| others)?;
    let control: &'static Control = hog.control();
    let addresses = stack_of(&mut Walker::new(), runtime, control);
    let still_held = runtime.settings().time_slice.saturating_mul(remote.slices_held());
    if control.state() != State::Running || still_held < held.time {
        return None;
    }
    let frames = addresses.map_or_else(|_| Vec::new(), |addresses| Symbols::new().of_stack(&addresses));
    Some(Hog { thread: look(runtime, &hog, clock::monotonic_coarse_ns())?, held: still_held, frames })
}

impl fmt::Display for Hog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a thread has held its core for {:?} while others wait (bast::yield_point in its loop lets them run, \
             bast::offload takes what blocks elsewhere): {}",
            self.held, self.thread
        )?;
        self.frames.iter().try_for_each(|frame| write!(f, "\n    {frame}"))
    }
}
