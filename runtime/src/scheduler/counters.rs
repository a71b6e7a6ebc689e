#![forbid(unsafe_code)]
//! How often things happened on each capability.
//!
//! The owner counts, by a plain load and a plain store on lines that nobody else writes: no locked instructions.
//! Anybody may read; what is read may be a few events old, and two counters may be of two moments.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one OS thread writes and anybody reads.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds one. For the owner only.
    #[inline]
    pub(crate) fn count(&self) {
        self.set(self.get().wrapping_add(1));
    }

    /// For the owner only.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares the counters once: as cells, as the public snapshot of them, and as the rows of its table.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident $row:literal;)*) => {
        /// The cells of one capability. What most switches count comes first, on a line of its own.
        #[derive(Default)]
        #[repr(C, align(128))]
        pub(crate) struct Cells {
            $(pub(crate) $name: Counter,)*
        }

        /// How often things happened on one capability since its runtime started. But for the gauges, which say so,
        /// the numbers only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Cells {
            /// For a capability that begins: nobody owns the cells yet.
            pub(super) fn reset(&self) {
                $(self.$name.set(0);)*
            }

            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.get(),)* }
            }
        }

        impl Counters {
            fn plus(self, other: Counters) -> Counters {
                Counters { $($name: self.$name.wrapping_add(other.$name),)* }
            }
        }

        /// The rows of the table: what they are called, and where they are.
        const ROWS: &[(&str, fn(&Counters) -> u64)] = &[$(($row, |counters| counters.$name),)*];
    };
}

counters! {
    /// Times that a thread got the core.
    switches "switches";
    /// Threads of this capability that were made runnable on it.
    wakes "wakes";
    /// Threads of other capabilities that were made runnable from here.
    wakes_sent "wakes sent to others";
    /// Threads that others, OS threads included, made runnable here.
    wakes_received "wakes from others";
    /// Looks at the io manager.
    polls "polls";
    /// Threads spawned by threads of this capability.
    spawned "threads spawned";
    /// Threads that began to run here.
    started "threads started";
    /// Threads that ended here.
    finished "threads finished";
    /// Unstarted threads taken from other capabilities.
    steals "threads stolen";
    /// Connections accepted here.
    accepts "accepts";
    /// Waits that ended because their time was over.
    timers "timers fired";
    /// Times that a kill (or another exception from outside) began to unwind a thread.
    exceptions "exceptions raised";
    /// Spins for want of work, each before a sleep that it may have saved.
    spins "spins";
    /// Times that the capability went to sleep for want of work.
    sleeps "sleeps";
    /// Times that a thread held the capability for at least a whole time slice after its own was over.
    stalls "slices overrun";
    /// Gauge: stacks that exist, in use or free; as of the last idle moment or time slice.
    stacks "stacks";
    /// Gauge: free stacks that keep their memory, likewise.
    stacks_warm "stacks free and warm";
    /// Free stacks whose memory was given back to the kernel.
    stacks_given_back "stacks given back";
    /// Free stacks that gave back what deep use had left below their first pages.
    stacks_trimmed "stacks trimmed";
}

/// The [`Counters`] of all capabilities of a runtime, in their order: a slice of them, which prints as a table.
///
/// ```
/// let runtime = bast::Runtime::builder().capabilities(2).build()?;
/// runtime.run(|| bast::spawn(bast::yield_now).join().unwrap());
/// let counters = runtime.counters();
/// assert_eq!(counters.len(), 2);
/// assert!(counters.total().switches >= 2);
/// println!("{counters}");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeCounters(Box<[Counters]>);

impl RuntimeCounters {
    /// Of all capabilities together.
    #[must_use]
    pub fn total(&self) -> Counters {
        self.0.iter().copied().fold(Counters::default(), Counters::plus)
    }
}

impl FromIterator<Counters> for RuntimeCounters {
    fn from_iter<I: IntoIterator<Item = Counters>>(each: I) -> RuntimeCounters {
        RuntimeCounters(each.into_iter().collect())
    }
}

impl Deref for RuntimeCounters {
    type Target = [Counters];

    fn deref(&self) -> &[Counters] {
        &self.0
    }
}

/// Wide enough for the longest name.
const NAME_WIDTH: usize = 20;
/// Wide enough for what some years of switches come to.
const NUMBER_WIDTH: usize = 14;

impl fmt::Display for RuntimeCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:NAME_WIDTH$} {:>NUMBER_WIDTH$}", "capability", "all")?;
        for index in 0..self.len() {
            write!(f, " {index:>NUMBER_WIDTH$}")?;
        }
        let total = self.total();
        for (name, of) in ROWS {
            write!(f, "\n{name:NAME_WIDTH$} {:>NUMBER_WIDTH$}", of(&total))?;
            for counters in self.iter() {
                write!(f, " {:>NUMBER_WIDTH$}", of(counters))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_counter_and_a_column_for_each_capability() {
        let one = Counters { switches: 12, stacks_trimmed: 3, ..Counters::default() };
        let other = Counters { switches: 30, ..Counters::default() };
        let counters: RuntimeCounters = [one, other].into_iter().collect();
        assert_eq!((counters.total().switches, counters[1].switches), (42, 30));
        let table = counters.to_string();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 1 + ROWS.len());
        assert_eq!(lines[0], ["capability", "all", "0", "1"]);
        assert_eq!(lines[1], ["switches", "42", "12", "30"]);
        assert_eq!(lines.last().unwrap()[..], ["stacks", "trimmed", "3", "3", "0"]);
        assert!(ROWS.iter().all(|(name, _)| name.len() <= NAME_WIDTH));
    }
}
