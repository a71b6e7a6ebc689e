//! What a figure was measured on: without it the figure means little.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// What is said where the kernel does not tell: a guest may see neither governor nor sockets.
const UNKNOWN: &str = "unknown";

/// Prints what [`describe`] returns, and returns it. Every bench begins with this.
#[must_use]
pub fn announce() -> Vec<(&'static str, String)> {
    let lines = describe();
    for (key, value) in &lines {
        println!("{key}: {value}");
    }
    lines
}

/// The machine, the system and the programs, as pairs of a key and its value.
#[must_use]
pub fn describe() -> Vec<(&'static str, String)> {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu_model(&info).unwrap_or_else(|| UNKNOWN.to_owned());
    let governor = read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    vec![
        ("cpu", format!("{cpu}, {cpus} usable")),
        ("sockets", sockets(&info).map_or_else(|| UNKNOWN.to_owned(), |count| count.to_string())),
        ("hypervisor", hypervisor(&info).to_owned()),
        ("governor", governor.unwrap_or_else(|| UNKNOWN.to_owned())),
        ("kernel", read_line("/proc/sys/kernel/osrelease").unwrap_or_else(|| UNKNOWN.to_owned())),
        ("load average", read_line("/proc/loadavg").unwrap_or_else(|| UNKNOWN.to_owned())),
        ("rustc", env!("BENCHES_COMPILER").to_owned()),
        ("bast", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", commit()),
        ("command", std::env::args().collect::<Vec<_>>().join(" ")),
    ]
}

/// The values of one key of `/proc/cpuinfo`, one per CPU.
fn values<'a>(info: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    info.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

fn cpu_model(info: &str) -> Option<String> {
    values(info, "model name").next().map(str::to_owned)
}

/// How many packages the CPUs are on.
fn sockets(info: &str) -> Option<usize> {
    let packages: BTreeSet<&str> = values(info, "physical id").collect();
    (!packages.is_empty()).then_some(packages.len())
}

/// Whether the CPUs are those of a guest: x86 says so by a flag (CPUID leaf 1, ECX bit 31).
fn hypervisor(info: &str) -> &'static str {
    match values(info, "flags").next() {
        Some(flags) if flags.split_ascii_whitespace().any(|flag| flag == "hypervisor") => "yes",
        Some(_) => "none",
        None => UNKNOWN,
    }
}

fn read_line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The short commit id, with `-dirty` where the tree differs from it.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(id) = git(&["rev-parse", "--short", "HEAD"]) else { return UNKNOWN.to_owned() };
    let is_dirty = git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty());
    if is_dirty { format!("{id}-dirty") } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_SOCKETS: &str = "\
processor\t: 0
model name\t: Some CPU @ 2.40GHz
physical id\t: 0
flags\t\t: fpu vme

processor\t: 1
model name\t: Some CPU @ 2.40GHz
physical id\t: 1
flags\t\t: fpu vme

processor\t: 2
model name\t: Some CPU @ 2.40GHz
physical id\t: 0
flags\t\t: fpu vme
";

    #[test]
    fn sockets_are_counted_once_each() {
        assert_eq!(sockets(TWO_SOCKETS), Some(2));
        assert_eq!(cpu_model(TWO_SOCKETS).as_deref(), Some("Some CPU @ 2.40GHz"));
    }

    #[test]
    fn a_guest_is_told_from_a_machine() {
        assert_eq!(hypervisor(TWO_SOCKETS), "none");
        assert_eq!(hypervisor("flags\t\t: fpu hypervisor lahf_lm\n"), "yes");
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_unknown() {
        assert_eq!((cpu_model(""), sockets("processor: 0\n"), hypervisor("")), (None, None, UNKNOWN));
        assert_eq!(read_line("/proc/no-such-file"), None);
    }

    #[test]
    fn every_line_of_a_record_has_a_value() {
        let record = describe();
        let keys =
            ["cpu", "sockets", "hypervisor", "governor", "kernel", "load average", "rustc", "bast", "commit"];
        for key in keys {
            let value = record.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str());
            assert!(value.is_some_and(|value| !value.is_empty()), "{key}: {value:?}");
        }
    }

    #[test]
    fn every_bench_begins_with_its_record() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/");
        let text = |path: &str| fs::read_to_string(format!("{folder}{path}")).unwrap_or_default();
        for entry in fs::read_dir(format!("{folder}benches")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            // A bench is its program, or the module of its name.
            let source = text(&format!("benches/{name}")) + &text(&format!("src/{name}"));
            assert!(source.contains("machine::announce()"), "{name}");
        }
    }
}
