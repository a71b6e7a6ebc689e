#![forbid(unsafe_code)]
//! Looking at what a capability runs, from another OS thread.

use super::{Remote, current};
use crate::stack;
use crate::sys::sample::{self, Sample, Subject};
use std::time::Duration;

/// How long an OS thread may take to answer. It does so as soon as it gets a CPU, which on a machine with ten times as much
/// to do as it can has been seen to take more than 200 ms.
const LIMIT: Duration = Duration::from_secs(2);

/// The green thread that runs on the capability, with the top of its stack. `None`: none does, or it does not answer.
pub(crate) fn running_on(remote: &Remote) -> Option<Sample> {
    match sample::take(remote.os_thread()?, identify, LIMIT) {
        Ok(sample) => sample,
        Err(error) => {
            log::debug!("bast: a capability cannot be looked at: {error}");
            None
        }
    }
}

/// In a signal handler, on the OS thread that is looked at: reads, and nothing else.
fn identify(stack_pointer: usize) -> Option<Subject> {
    let (_, control) = current::thread()?;
    Some(Subject { id: control.id()?.get(), stack_end: stack::around(stack_pointer)?.end })
}
