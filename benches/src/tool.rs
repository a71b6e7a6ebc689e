//! A server run under a tool that counts something, and what it counts per request.
//!
//! Two runs that differ only in the number of requests: the difference of their counts is free of what
//! start-up and connections cost. Under such tools everything is several times slower and the order of
//! events is not that of a free run, so what depends on timing (`epoll_wait`, batches) is an estimate.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io;

use crate::rounds::{Bench, Plan};

/// The longer run's requests, in units of the shorter's.
const LONGER: u64 = 5;
/// Counts below this per request are left out.
const COUNT_MIN: f64 = 0.001;

/// A program that runs another and leaves a summary of what it counted in a file.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The program and its arguments; `{summary}` stands for the file.
    command: &'static [&'static str],
    /// Reads the summary: counts by name.
    parse: fn(&str) -> BTreeMap<String, u64>,
    /// What is counted.
    pub unit: &'static str,
}

/// System calls by name, by strace.
pub const STRACE: Tool =
    Tool { command: &["strace", "-f", "-c", "-o", "{summary}"], parse: parse_strace, unit: "calls/request" };

/// Instructions in user mode, by callgrind.
pub const CALLGRIND: Tool = Tool {
    command: &["valgrind", "-q", "--tool=callgrind", "--callgrind-out-file={summary}"],
    parse: parse_callgrind,
    unit: "instructions/request",
};

impl Tool {
    /// Counts per request by name, highest first.
    ///
    /// # Errors
    /// Where the tool is not installed, the server fails, or a response is wrong.
    pub fn counts_per_request(&self, plan: &Plan<'_>, server: usize) -> io::Result<Vec<(String, f64)>> {
        let requests = plan.requests.unwrap_or(plan.mode.requests_smoke);
        let few = self.count(plan, server, requests)?;
        let many = self.count(plan, server, requests * LONGER)?;
        let difference = (requests * (LONGER - 1)) as f64;
        let per_request = many.into_iter().map(|(name, count)| {
            let before = few.get(&name).copied().unwrap_or(0);
            (name, (count as f64 - before as f64) / difference)
        });
        let mut counts: Vec<_> = per_request.filter(|(_, count)| *count >= COUNT_MIN).collect();
        counts.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(counts)
    }

    /// What is counted from the server's start to its end.
    fn count(&self, plan: &Plan<'_>, server: usize, requests: u64) -> io::Result<BTreeMap<String, u64>> {
        let summary = plan.root.join("summary");
        let under: Vec<String> =
            self.command.iter().map(|word| word.replace("{summary}", &summary.to_string_lossy())).collect();
        let alone = Plan { servers: &plan.servers[server..=server], ..*plan };
        let mut bench = Bench::start(&alone, &under)?;
        let sample = bench.sample(0, requests)?;
        if let Some(failure) = sample.outcome.failure {
            return Err(io::Error::other(failure));
        }
        bench.end()?;
        Ok((self.parse)(&fs::read_to_string(summary)?))
    }
}

/// Reads the table of `strace -c`: the fourth column is the calls, the last the name.
fn parse_strace(summary: &str) -> BTreeMap<String, u64> {
    let rows = summary.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let name = *columns.last()?;
        let calls = columns.get(3)?.parse().ok()?;
        (name != "total").then(|| (name.to_owned(), calls))
    });
    rows.collect()
}

/// Reads the totals of a callgrind profile.
fn parse_callgrind(profile: &str) -> BTreeMap<String, u64> {
    let totals = profile.lines().filter_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
    BTreeMap::from([("instructions".to_owned(), totals.sum())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn straces_table_is_read_with_and_without_errors() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           3       200        10 recvfrom
 40.00    0.000400           4       100           sendto
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           3       300        10 total
";
        let expected = [("recvfrom".to_owned(), 200), ("sendto".to_owned(), 100)];
        assert_eq!(parse_strace(summary), BTreeMap::from(expected));
    }

    #[test]
    fn callgrinds_totals_are_read() {
        let profile = "events: Ir\nfn=(1) main\n1 7\n\ntotals: 1234\n";
        assert_eq!(parse_callgrind(profile), BTreeMap::from([("instructions".to_owned(), 1234)]));
    }
}
