//! What memory a process takes, page tables included.
//!
//! A parked thread is little more than a page of stack, so its share of the page tables (and of the guard
//! markers in them) counts: the resident set alone would flatter.
#![forbid(unsafe_code)]

use std::fs;
use std::io;

/// The memory of a process at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// The proportional set size: resident pages, shared ones by their share.
    pub pss_bytes: u64,
    /// The page tables.
    pub tables_bytes: u64,
}

impl Footprint {
    /// That of the calling process. The walk over its pages takes milliseconds per gigabyte.
    ///
    /// # Errors
    /// Where `/proc` is not mounted.
    pub fn of_this_process() -> io::Result<Footprint> {
        Footprint::of(std::process::id())
    }

    /// That of process `pid`.
    ///
    /// # Errors
    /// Where it has ended, or is another user's.
    pub fn of(pid: u32) -> io::Result<Footprint> {
        Ok(Footprint {
            pss_bytes: read(&format!("/proc/{pid}/smaps_rollup"), "Pss")?,
            tables_bytes: read(&format!("/proc/{pid}/status"), "VmPTE")?,
        })
    }

    /// Both together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.pss_bytes + self.tables_bytes
    }
}

/// What the stacks of all OS threads of the machine take in the kernel (proc_meminfo(5)).
///
/// # Errors
/// Where `/proc` is not mounted.
pub fn kernel_stacks_bytes() -> io::Result<u64> {
    read("/proc/meminfo", "KernelStack")
}

fn read(path: &str, key: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    kilobytes(&text, key).ok_or_else(|| io::Error::other(format!("{path} has no {key}"))).map(|kb| kb * 1024)
}

/// The value of a line `Key:   123 kB` (proc_pid_smaps(5), proc_pid_status(5)).
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_taken_for_one_that_begins_like_it() {
        let text =
            "55d0-7ffe ---p 0 00:00 0 [rollup]\nRss: 5 kB\nPss_Dirty:      3 kB\nPss:            1234 kB\n";
        assert_eq!(kilobytes(text, "Pss"), Some(1234));
        assert_eq!(kilobytes(text, "Pss_Anon"), None);
    }

    #[test]
    fn touched_memory_is_counted() {
        let before = Footprint::of_this_process().unwrap();
        // An optimiser would see that only one byte is read, and make only that.
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = Footprint::of_this_process().unwrap();
        assert!(after.pss_bytes >= before.pss_bytes + (60 << 20), "{before:?} {after:?}");
        assert!(after.total_bytes() > after.pss_bytes);
        assert_eq!(touched[touched.len() - 1], 1);
    }
}
