//! What does it cost to make, keep and wake a thread that waits?
//!
//! Each round is a process of its own, so that its memory is untouched at first: there N threads are spawned
//! and wait at a gate (cold), the memory is measured, the gate is opened and all are joined; and once more
//! (warm), with control blocks and guarded stacks that are there, though most stacks have given their pages
//! back by then. The threads wait without a timer.
#![forbid(unsafe_code)]

use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bast::sync::MVar;
use bast::{JoinHandle, Runtime};

use super::{Cost, Plan, Reading, Stopwatch};
use crate::memory::Footprint;

/// The name of the child's role.
pub(super) const ROLE: &str = "park";

/// What the threads get at the gate.
const KEY: u64 = 7;

/// What a child prints, in this order.
const READINGS: [(&str, &str); 13] = [
    ("park.cold.wall", "ns"),
    ("park.cold.cpu", "ns"),
    ("park.memory", "bytes"),
    ("park.memory.tables", "bytes"),
    ("park.wake_cold.wall", "ns"),
    ("park.wake_cold.cpu", "ns"),
    ("park.warm.wall", "ns"),
    ("park.warm.cpu", "ns"),
    ("park.wake.wall", "ns"),
    ("park.wake.cpu", "ns"),
    ("park.memory.kept", "bytes"),
    ("park.wake_latency_p50", "ns"),
    ("park.wake_latency_p99", "ns"),
];

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for _ in 0..plan.rounds {
        let output = Command::new(std::env::current_exe()?)
            .args(["--role", ROLE, "--threads", &plan.threads.to_string()])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("park: the child failed ({})", output.status)));
        }
        readings.extend(parse(&String::from_utf8_lossy(&output.stdout))?);
    }
    Ok(readings)
}

fn parse(line: &str) -> io::Result<Vec<Reading>> {
    let values: Result<Vec<f64>, _> = line.split_ascii_whitespace().map(str::parse).collect();
    let values = values.ok().filter(|values| values.len() == READINGS.len());
    let values = values.ok_or_else(|| io::Error::other(format!("park: the child said '{line}'")))?;
    Ok(READINGS.iter().zip(values).map(|(&(name, unit), value)| Reading { name, value, unit }).collect())
}

/// The child: one round.
///
/// # Errors
/// Where the runtime cannot be started, or `/proc` is not as it should be.
///
/// # Panics
/// Where a thread does not come through the gate.
pub(super) fn child(threads: usize) -> io::Result<()> {
    let runtime = Runtime::builder().capabilities(1).build()?;
    let values = runtime.run(move || round(threads))?;
    let line: Vec<String> = values.iter().map(ToString::to_string).collect();
    println!("{}", line.join(" "));
    Ok(())
}

fn round(threads: usize) -> io::Result<[f64; READINGS.len()]> {
    // The first thread of a runtime makes what all share.
    Parked::spawn(1).1.wake();
    let before = Footprint::of_this_process()?;
    let (cold, parked) = Parked::spawn(threads);
    let full = Footprint::of_this_process()?;
    let wake_cold = parked.wake();
    let kept = Footprint::of_this_process()?;
    let (warm, parked) = Parked::spawn(threads);
    let wake = parked.wake();
    let [latency_p50, latency_p99] = wake_latencies(threads);
    // The list of handles is the caller's.
    let list_bytes = (threads * size_of::<JoinHandle<u64>>()) as u64;
    let per_thread = |now: u64, then: u64| now.saturating_sub(then) as f64 / threads as f64;
    Ok([
        cold.wall_ns,
        cold.cpu_ns,
        per_thread(full.total_bytes(), before.total_bytes() + list_bytes),
        per_thread(full.tables_bytes, before.tables_bytes),
        wake_cold.wall_ns,
        wake_cold.cpu_ns,
        warm.wall_ns,
        warm.cpu_ns,
        wake.wall_ns,
        wake.cpu_ns,
        per_thread(kept.total_bytes(), before.total_bytes()),
        latency_p50,
        latency_p99,
    ])
}

/// How long after the gate was opened a thread runs, of so many that wait at it: the median, and that of the last hundredth.
/// The threads of another round, since each reads the clock.
fn wake_latencies(threads: usize) -> [f64; 2] {
    let gate = Arc::new(MVar::empty());
    let arrived = Arc::new(AtomicUsize::new(0));
    let handles: Vec<JoinHandle<Duration>> = (0..threads)
        .map(|_| {
            let (gate, arrived) = (Arc::clone(&gate), Arc::clone(&arrived));
            bast::spawn(move || {
                arrived.fetch_add(1, Ordering::Relaxed);
                let opened: Instant = gate.read();
                opened.elapsed()
            })
        })
        .collect();
    // They share a capability: who has arrived has parked when this one runs.
    while arrived.load(Ordering::Relaxed) < threads {
        bast::yield_now();
    }
    gate.put(Instant::now());
    let mut latencies: Vec<Duration> =
        handles.into_iter().map(|handle| handle.join().expect("the gate opens")).collect();
    latencies.sort_unstable();
    [0.5, 0.99].map(|quantile| latencies[((threads - 1) as f64 * quantile) as usize].as_nanos() as f64)
}

/// Threads that wait at a gate.
pub(super) struct Parked {
    gate: Arc<MVar<u64>>,
    handles: Vec<JoinHandle<u64>>,
}

impl Parked {
    pub(super) fn spawn(threads: usize) -> (Cost, Parked) {
        let gate = Arc::new(MVar::empty());
        let arrived = Arc::new(AtomicUsize::new(0));
        let all_here = Arc::new(MVar::empty());
        let watch = Stopwatch::start();
        let handles = (0..threads)
            .map(|_| {
                let (gate, arrived, all_here) =
                    (Arc::clone(&gate), Arc::clone(&arrived), Arc::clone(&all_here));
                bast::spawn(move || {
                    if arrived.fetch_add(1, Ordering::Relaxed) + 1 == threads {
                        all_here.put(());
                    }
                    gate.read()
                })
            })
            .collect();
        // The last one is at the gate, too, when this one runs: they share a capability.
        all_here.take();
        (watch.stop(threads as u64), Parked { gate, handles })
    }

    pub(super) fn wake(self) -> Cost {
        let threads = self.handles.len() as u64;
        let watch = Stopwatch::start();
        self.gate.put(KEY);
        let sum: u64 = self.handles.into_iter().map(|handle| handle.join().expect("the gate opens")).sum();
        let cost = watch.stop(threads);
        assert_eq!(sum, threads * KEY, "park: every thread gets what was put");
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_line_is_read_in_order_or_refused() {
        let line: Vec<String> = (0..READINGS.len()).map(|value| value.to_string()).collect();
        let readings = parse(&line.join(" ")).unwrap();
        assert_eq!((readings[2].name, readings[2].value), ("park.memory", 2.0));
        assert!(parse("1 2 3").is_err());
        assert!(parse(&line.join(" x")).is_err());
    }
}
