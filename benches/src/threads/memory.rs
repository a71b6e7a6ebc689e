//! What does it take to keep something that waits, as an OS thread, as a green thread, and as the state of an event loop?
//!
//! Each kind is counted in a process of its own, whose memory is untouched at first. Of an OS thread the kernel's stack is
//! counted, too, by the whole machine's sum; its descriptor of the task, some 10 KiB more, is not. The state is that of a
//! connection in the floor of the http bench: what an event loop must remember between two events, and so the least there is.
#![forbid(unsafe_code)]

use std::io;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;

use bast::Runtime;

use super::park::Parked;
use super::{Plan, Reading};
use crate::floor;
use crate::memory::{Footprint, kernel_stacks_bytes};

/// The names of the children's roles.
pub(super) const GREEN_ROLE: &str = "memory-green";
pub(super) const OS_ROLE: &str = "memory-os";

/// OS threads at the most: a system has room for some ten thousand, and the mean is the same.
const OS_THREADS_MAX: usize = 4000;

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for _ in 0..plan.rounds {
        let [user, kernel] = ask(OS_ROLE, plan.threads.min(OS_THREADS_MAX))?;
        let [green] = ask(GREEN_ROLE, plan.threads)?;
        for (name, value) in [
            ("memory.os_thread", user + kernel),
            ("memory.os_thread.kernel_stack", kernel),
            ("memory.green_thread", green),
            ("memory.event_state", floor::CONNECTION_BYTES as f64),
        ] {
            readings.push(Reading { name, value, unit: "bytes" });
        }
    }
    Ok(readings)
}

/// What the child of this role says, in bytes per thread.
fn ask<const N: usize>(role: &str, threads: usize) -> io::Result<[f64; N]> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--role", role, "--threads", &threads.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{role}: the child failed ({})", output.status)));
    }
    let line = String::from_utf8_lossy(&output.stdout);
    let values: Option<Vec<f64>> = line.split_ascii_whitespace().map(|word| word.parse().ok()).collect();
    let values = values.and_then(|values| values.try_into().ok());
    values.ok_or_else(|| io::Error::other(format!("{role}: the child said '{line}'")))
}

/// Green threads that wait at a gate.
///
/// # Errors
/// Where the runtime cannot be started, or `/proc` is not as it should be.
pub(super) fn green_child(threads: usize) -> io::Result<()> {
    let bytes: io::Result<f64> = Runtime::builder().capabilities(1).build()?.run(move || {
        // The first thread of a runtime makes what all share.
        Parked::spawn(1).1.wake();
        let before = Footprint::of_this_process()?;
        let (_, parked) = Parked::spawn(threads);
        let taken = Footprint::of_this_process()?.total_bytes() - before.total_bytes();
        parked.wake();
        Ok(taken as f64 / threads as f64)
    });
    println!("{}", bytes?);
    Ok(())
}

/// OS threads that wait at a barrier, with std's stacks.
///
/// # Errors
/// Where they cannot be started, or `/proc` is not as it should be.
///
/// # Panics
/// Where one does not come through the barrier.
pub(super) fn os_child(threads: usize) -> io::Result<()> {
    let (arrived, opened) = (Arc::new(Barrier::new(threads + 1)), Arc::new(Barrier::new(threads + 1)));
    let before = (Footprint::of_this_process()?, kernel_stacks_bytes()?);
    let handles: Vec<thread::JoinHandle<()>> = (0..threads)
        .map(|_| {
            let (arrived, opened) = (Arc::clone(&arrived), Arc::clone(&opened));
            thread::Builder::new().spawn(move || {
                arrived.wait();
                opened.wait();
            })
        })
        .collect::<io::Result<_>>()?;
    arrived.wait();
    let user = Footprint::of_this_process()?.total_bytes() - before.0.total_bytes();
    // Others start and end OS threads meanwhile, but not by the thousand.
    let kernel = kernel_stacks_bytes()?.saturating_sub(before.1);
    opened.wait();
    handles.into_iter().for_each(|handle| handle.join().expect("the barrier opens"));
    println!("{} {}", user as f64 / threads as f64, kernel as f64 / threads as f64);
    Ok(())
}
