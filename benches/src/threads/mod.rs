//! The threads bench: what threads cost to make, keep, switch and wake.
//!
//! A measure answers one question with figures, each read once a round. What a round can verify it verifies
//! (sums, counts, no timer early), and panics where it does not hold: a bench that computes nothing is fast.
#![forbid(unsafe_code)]

mod dump;
mod interrupt;
mod locks;
mod log;
mod memory;
mod mutex;
mod offload;
pub mod options;
mod os;
mod park;
mod pass;
mod select;
mod spawn;
mod switch;
mod timers;

use std::io;
use std::time::{Duration, Instant};

use crate::report::{self, Figure};
use crate::{program, sys};

/// Is the child of this name, for so many threads.
///
/// # Errors
/// The child's, or `InvalidInput` for an unknown name.
pub fn be_child(role: &str, threads: usize) -> io::Result<()> {
    sys::die_with_parent()?;
    match role {
        park::ROLE => park::child(threads),
        memory::GREEN_ROLE => memory::green_child(threads),
        memory::OS_ROLE => memory::os_child(threads),
        _ => Err(program::no_such_role(role)),
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many threads "many" is.
    pub threads: usize,
    /// How often each figure is read.
    pub rounds: usize,
    /// A first look only: few switches and messages, short timers.
    pub smoke: bool,
}

impl Plan {
    /// `count`, or the few that a smoke test needs.
    fn count(&self, count: u64) -> u64 {
        if self.smoke { (count / 1000).max(1000) } else { count }
    }
}

/// A value read in one round.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    name: &'static str,
    value: f64,
    unit: &'static str,
}

/// A question, and how it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What it asks.
    pub question: &'static str,
    read: fn(&Plan) -> io::Result<Vec<Reading>>,
}

/// All measures.
pub const MEASURES: &[Measure] = &[
    Measure {
        name: "spawn",
        question: "what does it cost to spawn and join a thread that does nothing?",
        read: spawn::read,
    },
    Measure {
        name: "park",
        question: "what does it cost to make, keep and wake a thread that waits?",
        read: park::read,
    },
    Measure {
        name: "memory",
        question: "what does it take to keep something that waits: an OS thread, a green one, an event loop's state?",
        read: memory::read,
    },
    Measure {
        name: "switch",
        question: "what does yield_now cost, among 2 threads and among many?",
        read: switch::read,
    },
    Measure {
        name: "mvar",
        question: "what does a message through an MVar cost, between two that wait for each other?",
        read: pass::read_mvar,
    },
    Measure { name: "channel", question: "the same through a bounded channel", read: pass::read_channel },
    Measure {
        name: "os",
        question: "the same between two OS threads, by std's channels, on one CPU and on two",
        read: os::read,
    },
    Measure {
        name: "ring",
        question: "what does a hop of a token cost, in a ring of 503 threads?",
        read: pass::read_ring,
    },
    Measure { name: "log", question: "what does the event log cost while it is on?", read: log::read },
    Measure { name: "mutex", question: "what does a mutex cost, free and waited for?", read: mutex::read },
    Measure {
        name: "interrupt",
        question: "what does it cost to kill a blocked thread, to limit a call in time, and to mask one?",
        read: interrupt::read,
    },
    Measure {
        name: "locks",
        question: "what does a lock cost, alone and in turns, on one core?",
        read: locks::read,
    },
    Measure {
        name: "select",
        question: "what does a select over some channels cost, when one is ready and when it waits?",
        read: select::read,
    },
    Measure {
        name: "timers",
        question: "how late are sleepers woken, and what does a sleep cost?",
        read: timers::read,
    },
    Measure {
        name: "offload",
        question: "what does a job for an OS thread of the pool cost, and a read of a cached file?",
        read: offload::read,
    },
    Measure {
        name: "dump",
        question: "what does a dump of many threads cost, and how long do others wait for it?",
        read: dump::read,
    },
];

impl Measure {
    /// The measure of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Measure> {
        MEASURES.iter().find(|measure| measure.name == name).copied()
    }

    /// The medians of all rounds, in the order in which they were first read.
    ///
    /// # Errors
    /// Where a runtime cannot be started, or `/proc` is not as it should be.
    ///
    /// # Panics
    /// Where something measured did not do what it should.
    pub fn run(&self, plan: &Plan) -> io::Result<Vec<Figure>> {
        Ok(medians((self.read)(plan)?))
    }
}

fn medians(readings: Vec<Reading>) -> Vec<Figure> {
    let mut groups: Vec<(Reading, Vec<f64>)> = Vec::new();
    for reading in readings {
        match groups.iter_mut().find(|(first, _)| first.name == reading.name) {
            Some((_, values)) => values.push(reading.value),
            None => groups.push((reading, vec![reading.value])),
        }
    }
    groups
        .into_iter()
        .map(|(first, values)| report::median(first.name.to_owned(), first.unit, values))
        .collect()
}

/// Time that runs: on the wall, and on the CPUs for all of this process.
#[derive(Clone, Copy, Debug)]
struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

/// What a [`Stopwatch`] showed, per unit of work in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Cost {
    wall_ns: f64,
    cpu_ns: f64,
}

impl Stopwatch {
    fn start() -> Stopwatch {
        let cpu = process_cpu();
        Stopwatch { wall: Instant::now(), cpu }
    }

    fn stop(self, units: u64) -> Cost {
        let wall = self.wall.elapsed();
        let cpu = process_cpu().saturating_sub(self.cpu);
        let per_unit = |time: Duration| time.as_nanos() as f64 / units as f64;
        Cost { wall_ns: per_unit(wall), cpu_ns: per_unit(cpu) }
    }
}

impl Cost {
    /// The mean of parts of equal size.
    fn mean(costs: impl Iterator<Item = Cost>) -> Cost {
        let (mut sum, mut count) = (Cost { wall_ns: 0.0, cpu_ns: 0.0 }, 0.0);
        for cost in costs {
            sum = Cost { wall_ns: sum.wall_ns + cost.wall_ns, cpu_ns: sum.cpu_ns + cost.cpu_ns };
            count += 1.0;
        }
        Cost { wall_ns: sum.wall_ns / count, cpu_ns: sum.cpu_ns / count }
    }

    fn readings(self, wall: &'static str, cpu: &'static str) -> [Reading; 2] {
        [
            Reading { name: wall, value: self.wall_ns, unit: "ns" },
            Reading { name: cpu, value: self.cpu_ns, unit: "ns" },
        ]
    }
}

fn process_cpu() -> Duration {
    sys::process_cpu(std::process::id()).expect("a process can read its own clock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_gathered_by_name() {
        let read = |name, value| Reading { name, value, unit: "ns" };
        let figures = medians(vec![read("a", 3.0), read("b", 7.0), read("a", 1.0), read("a", 2.0)]);
        let lines: Vec<String> = figures.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["a 2.000 ns  (1.000 [1.500..2.500] 3.000)", "b 7.000 ns"]);
    }

    #[test]
    fn a_busy_stopwatch_shows_cpu_time() {
        let watch = Stopwatch::start();
        let until = process_cpu() + Duration::from_millis(5);
        while process_cpu() < until {}
        let cost = watch.stop(10);
        assert!(cost.cpu_ns >= 500_000.0, "{cost:?}");
    }
}
