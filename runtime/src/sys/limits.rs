//! What the kernel allows this process: resource limits, overcommit policy, number of mappings.
//!
//! Reads only, allocates freely, and answers for *now*: all of it may be changed while the process runs. A file that
//! cannot be read (no /proc) yields the kernel's default.

use std::fs;

/// `DEFAULT_MAX_MAP_COUNT` (linux/mm.h), what `vm.max_map_count` is unless changed.
const MAPPINGS_MAX_DEFAULT: usize = 65_530;

/// The policy of `vm.overcommit_memory` (Documentation/mm/overcommit-accounting.rst).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Overcommit {
    /// 0: obvious overcommits are refused; reservations without swap accounting are free.
    Heuristic,
    /// 1: nothing is refused.
    Always,
    /// 2: every private writable page counts when reserved, `MAP_NORESERVE` or not.
    Never,
}

/// The policy in force.
pub(crate) fn overcommit() -> Overcommit {
    match number_in("/proc/sys/vm/overcommit_memory") {
        Some(1) => Overcommit::Always,
        Some(2) => Overcommit::Never,
        _ => Overcommit::Heuristic,
    }
}

/// How many mappings one process may have: `vm.max_map_count`.
pub(crate) fn mappings_max() -> usize {
    number_in("/proc/sys/vm/max_map_count").unwrap_or(MAPPINGS_MAX_DEFAULT)
}

/// Bytes of address space this process has mapped (the first field of /proc/self/statm).
pub(crate) fn address_space_bytes() -> usize {
    statm_pages(0) * super::memory::page_bytes()
}

/// Bytes of private writable memory this process has mapped (the sixth field of /proc/self/statm).
pub(crate) fn data_bytes() -> usize {
    statm_pages(5) * super::memory::page_bytes()
}

/// `RLIMIT_AS`: how much address space this process may map, in bytes; `None` without a limit.
pub(crate) fn address_space_bytes_max() -> Option<usize> {
    soft_limit(libc::RLIMIT_AS)
}

/// `RLIMIT_DATA`: how much private writable memory this process may map, in bytes; `None` without a limit.
pub(crate) fn data_bytes_max() -> Option<usize> {
    soft_limit(libc::RLIMIT_DATA)
}

/// `RLIMIT_MEMLOCK`: how much memory this process may lock, in bytes; `None` without a limit.
pub(crate) fn locked_bytes_max() -> Option<usize> {
    soft_limit(libc::RLIMIT_MEMLOCK)
}

fn soft_limit(resource: libc::__rlimit_resource_t) -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel writes one rlimit to the local it is given.
    let answer = unsafe { libc::getrlimit(resource, &raw mut limit) };
    (answer == 0 && limit.rlim_cur != libc::RLIM_INFINITY)
        .then(|| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

fn statm_pages(field: usize) -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_ascii_whitespace().nth(field).and_then(|pages| pages.parse().ok()).unwrap_or(0)
}

fn number_in(path: &str) -> Option<usize> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Lets this process map no more than `bytes` of address space.
#[cfg(test)]
pub(crate) fn set_address_space_bytes_max(bytes: usize) {
    set_soft_limit(libc::RLIMIT_AS, bytes);
}

/// Lets this process map no more than `bytes` of private writable memory.
#[cfg(test)]
pub(crate) fn set_data_bytes_max(bytes: usize) {
    set_soft_limit(libc::RLIMIT_DATA, bytes);
}

#[cfg(test)]
fn set_soft_limit(resource: libc::__rlimit_resource_t, bytes: usize) {
    let limit = libc::rlimit { rlim_cur: bytes as libc::rlim_t, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel reads one rlimit from the local.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_for_this_process() {
        assert!(mappings_max() > 0);
        assert!(address_space_bytes() > data_bytes());
        assert!(data_bytes() > 0);
        for max in [address_space_bytes_max(), data_bytes_max()].into_iter().flatten() {
            assert!(max >= data_bytes());
        }
    }

    #[test]
    fn a_missing_file_is_no_number() {
        assert_eq!(number_in("/proc/sys/vm/no_such_sysctl"), None);
    }
}
