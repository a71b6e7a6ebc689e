//! The CPU time of a server: of a process and all that descend from it.
//!
//! Two sources with two grains. The total comes from the scheduler's clocks, to the nanosecond. How it splits
//! into user and system time is only sampled by the kernel, at each timer tick (4 ms at 250 Hz): the split
//! of a short run is noise, and only the split of many rounds together is worth printing.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::ops::{AddAssign, Sub};
use std::time::Duration;

use crate::sys;

/// CPU time used up to a moment, or between two.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    /// User and system time, exact.
    pub total: Duration,
    /// User time in the units of `/proc/PID/stat`, sampled.
    pub user_ticks: u64,
    /// System time likewise.
    pub system_ticks: u64,
    /// How long its OS threads, as far as they still live, were ready to run and another ran instead.
    pub waited: Duration,
}

impl CpuTime {
    /// What process `pid` and its descendants have used.
    ///
    /// # Errors
    /// Where one of them has ended.
    pub fn of_tree(pid: u32) -> io::Result<CpuTime> {
        let mut sum = CpuTime::default();
        for pid in tree(pid)? {
            sum += CpuTime::of(pid)?;
        }
        Ok(sum)
    }

    fn of(pid: u32) -> io::Result<CpuTime> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (user_ticks, system_ticks) =
            parse_stat(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat: {stat}")))?;
        Ok(CpuTime { total: sys::process_cpu(pid)?, user_ticks, system_ticks, waited: waited(pid)? })
    }

    /// User time, by the sampled share of the exact total; `None` before the first sample.
    #[must_use]
    pub fn user(&self) -> Option<Duration> {
        let ticks = self.user_ticks + self.system_ticks;
        (ticks > 0).then(|| self.total.mul_f64(self.user_ticks as f64 / ticks as f64))
    }
}

impl Sub for CpuTime {
    type Output = CpuTime;

    fn sub(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            total: self.total.saturating_sub(earlier.total),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

impl AddAssign for CpuTime {
    fn add_assign(&mut self, other: CpuTime) {
        self.total += other.total;
        self.user_ticks += other.user_ticks;
        self.system_ticks += other.system_ticks;
        self.waited += other.waited;
    }
}

/// How many descriptors this process may open, by its soft limit (proc_pid_limits(5)); many where that cannot be told.
#[must_use]
pub fn descriptors_max() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    soft_limit(&limits, "Max open files").unwrap_or(usize::MAX)
}

/// The first number behind a limit's name; nothing where it is `unlimited`.
fn soft_limit(limits: &str, name: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// `pid` and its descendants, parents first.
///
/// # Errors
/// Where one of them has ended.
pub fn tree(pid: u32) -> io::Result<Vec<u32>> {
    let mut pids = vec![pid];
    let mut at = 0;
    while let Some(&pid) = pids.get(at) {
        at += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // An OS thread may end between the listing and this; then its children are another's.
            let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            pids.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    Ok(pids)
}

/// The second field of each OS thread's schedstat (Documentation/scheduler/sched-stats.rst): time on a run
/// queue, in ns.
fn waited(pid: u32) -> io::Result<Duration> {
    let mut sum_ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // An OS thread may have ended since the listing; a kernel may be built without the file.
        let schedstat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let waited_ns = schedstat.split_ascii_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok());
        sum_ns += waited_ns.unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum_ns))
}

/// utime and stime (proc_pid_stat(5), fields 14 and 15). The second field, the name, may hold anything, even
/// parentheses, so fields are counted from the last one.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let user = fields.nth(11)?.parse().ok()?;
    let system = fields.next()?.parse().ok()?;
    Some((user, system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 111 222 13 14";
        assert_eq!(parse_stat(stat), Some((111, 222)));
    }

    #[test]
    fn a_limit_is_read_or_not_there() {
        let limits = "Limit      Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\nMax processes  unlimited  unlimited  processes\n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(1024));
        assert_eq!(soft_limit(limits, "Max processes"), None);
    }

    #[test]
    fn a_process_finds_itself_and_its_cpu_time_grows() {
        let me = std::process::id();
        assert_eq!(tree(me).unwrap()[0], me);
        let before = CpuTime::of_tree(me).unwrap();
        while CpuTime::of_tree(me).unwrap().total <= before.total {}
    }
}
