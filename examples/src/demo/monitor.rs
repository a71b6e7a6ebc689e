//! The thread monitor: how many threads there are of each kind, once a second.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bast::State;

const PERIOD: Duration = Duration::from_secs(1);

/// Writes a line to stdout every second, until it is killed or nobody reads it.
pub(super) fn run() {
    loop {
        bast::sleep(PERIOD);
        let threads = bast::threads();
        let line = line(threads.iter().map(|thread| (thread.label.as_deref(), thread.state)));
        if writeln!(bast::stdio::stdout(), "{line}").is_err() {
            return;
        }
    }
}

/// Counts by label and state: `4 threads: acceptor blocked 1, conn blocked 2, main running 1`.
fn line<'a>(threads: impl Iterator<Item = (Option<&'a str>, State)>) -> String {
    let mut counts: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for (label, state) in threads {
        *counts.entry((role(label), state.to_string())).or_default() += 1;
    }
    let mut line = format!("{} threads", counts.values().sum::<usize>());
    for (number, ((role, state), count)) in counts.iter().enumerate() {
        let separator = if number == 0 { ": " } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(line, "{separator}{role} {state} {count}");
    }
    line
}

/// A label without the peer in it.
fn role(label: Option<&str>) -> &str {
    let Some(label) = label else { return "unlabelled" };
    match label.rsplit_once(' ') {
        Some((role, peer)) if peer.parse::<SocketAddr>().is_ok() => role,
        _ => label,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted_by_what_they_do_not_by_their_peers() {
        let threads = [
            (Some("conn 127.0.0.1:4711"), State::Blocked),
            (Some("main"), State::Blocked),
            (Some("conn [::1]:80"), State::Blocked),
            (None, State::Runnable),
            (Some("conn 127.0.0.1:4712"), State::Running),
            (Some("timeout sweep"), State::Blocked),
        ];
        assert_eq!(
            line(threads.into_iter()),
            "6 threads: conn blocked 2, conn running 1, main blocked 1, timeout sweep blocked 1, unlabelled runnable 1"
        );
        assert_eq!(line([].into_iter()), "0 threads");
    }
}
