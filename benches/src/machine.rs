//! What a figure was measured on: without it the figure means little.
#![forbid(unsafe_code)]

use std::fs;
use std::process::Command;

/// The lines that every bench prints first, as pairs of a key and its value.
#[must_use]
pub fn describe() -> Vec<(&'static str, String)> {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let cpu = first_cpu_model().unwrap_or_else(|| "unknown".to_owned());
    vec![
        ("cpu", format!("{cpu}, {cpus} usable")),
        ("kernel", read_line("/proc/sys/kernel/osrelease")),
        ("load average", read_line("/proc/loadavg")),
        ("commit", commit()),
        ("command", std::env::args().collect::<Vec<_>>().join(" ")),
    ]
}

fn first_cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn read_line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// The short commit id, with `-dirty` where the tree differs from it.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(id) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let is_dirty = git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty());
    if is_dirty { format!("{id}-dirty") } else { id }
}
