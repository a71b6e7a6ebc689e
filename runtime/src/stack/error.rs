//! Why there is no stack: each limit with its name and the way to raise it.

#![forbid(unsafe_code)]

use core::fmt;
use std::io;

use super::class::SizeClass;
use crate::sys::limits::{self, Overcommit};

/// A stack could not be had.
#[derive(Debug)]
pub(crate) struct StackError {
    stack_bytes: usize,
    limit: Limit,
    cause: Option<io::Error>,
}

/// What stood in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// `vm.max_map_count`: each mprotect guard costs two mappings.
    Mappings { max: usize },
    /// `RLIMIT_AS`.
    AddressSpace { bytes_max: usize },
    /// `RLIMIT_DATA`.
    Data { bytes_max: usize },
    /// `vm.overcommit_memory` = 2.
    Overcommit,
    /// `mlockall(MCL_FUTURE)`: a stack would be wholly resident.
    LockedMemory,
    /// The table that the overflow handler searches.
    Slabs { max: usize },
    /// None of the above: no memory for page tables.
    Memory,
}

impl StackError {
    pub(super) fn new(class: SizeClass, limit: Limit) -> StackError {
        StackError { stack_bytes: class.bytes(), limit, cause: None }
    }

    /// Finds the limit behind a refused mmap of `reserved_bytes`. Looked up after the fact: what changed meanwhile
    /// can make it name the wrong one, never invent a failure.
    pub(super) fn of_reserve(class: SizeClass, reserved_bytes: usize, cause: io::Error) -> StackError {
        let exceeds =
            |used: usize, max: Option<usize>| max.filter(|max| used.saturating_add(reserved_bytes) > *max);
        // EAGAIN is "too much memory has been locked" (mmap(2)).
        let limit = if cause.kind() == io::ErrorKind::WouldBlock {
            Limit::LockedMemory
        } else if let Some(bytes_max) =
            exceeds(limits::address_space_bytes(), limits::address_space_bytes_max())
        {
            Limit::AddressSpace { bytes_max }
        } else if let Some(bytes_max) = exceeds(limits::data_bytes(), limits::data_bytes_max()) {
            Limit::Data { bytes_max }
        } else if limits::overcommit() == Overcommit::Never {
            Limit::Overcommit
        } else {
            Limit::Memory
        };
        StackError { stack_bytes: class.bytes(), limit, cause: Some(cause) }
    }

    /// Adds what the kernel said.
    pub(super) fn caused_by(mut self, cause: io::Error) -> StackError {
        self.cause = Some(cause);
        self
    }

    #[cfg(test)]
    pub(super) fn limit(&self) -> &Limit {
        &self.limit
    }
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no stack of {} KiB: {}", self.stack_bytes >> 10, self.limit)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Limit::Mappings { max } => write!(
                f,
                "the guards of this kernel (older than 6.13) cost two mappings each, and vm.max_map_count is {max}; \
                 raise it with `sysctl vm.max_map_count`"
            ),
            Limit::AddressSpace { bytes_max } => write!(
                f,
                "RLIMIT_AS allows {} MiB of address space, and stacks reserve theirs in advance; raise it with \
                 `ulimit -v`",
                bytes_max >> 20
            ),
            Limit::Data { bytes_max } => write!(
                f,
                "RLIMIT_DATA allows {} MiB of private memory, and stacks reserve theirs in advance; raise it with \
                 `ulimit -d`",
                bytes_max >> 20
            ),
            Limit::Overcommit => f.write_str(
                "vm.overcommit_memory is 2, so that reserved stacks count as used memory; set it to 0 or 1, or raise \
                 vm.overcommit_ratio",
            ),
            Limit::LockedMemory => write!(
                f,
                "memory is locked as it is mapped (mlockall with MCL_FUTURE; RLIMIT_MEMLOCK is {}), so that every \
                 stack would be wholly resident; lock with MCL_CURRENT instead",
                Bytes(limits::locked_bytes_max())
            ),
            Limit::Slabs { max } => {
                write!(f, "all {max} slabs of stacks are in use, which happens where memory came in small pieces only")
            }
            Limit::Memory => f.write_str("the kernel is out of memory"),
        }
    }
}

impl std::error::Error for StackError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

impl From<StackError> for io::Error {
    fn from(error: StackError) -> io::Error {
        io::Error::new(io::ErrorKind::OutOfMemory, error)
    }
}

/// A limit in bytes as people write it.
struct Bytes(Option<usize>);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("unlimited"),
            Some(bytes) => write!(f, "{} KiB", bytes >> 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_named_with_the_way_to_raise_it() {
        for (limit, names) in [
            (Limit::Mappings { max: 65530 }, ["65530", "sysctl vm.max_map_count"]),
            (Limit::AddressSpace { bytes_max: 1 << 30 }, ["RLIMIT_AS allows 1024 MiB", "ulimit -v"]),
            (Limit::Data { bytes_max: 1 << 30 }, ["RLIMIT_DATA allows 1024 MiB", "ulimit -d"]),
            (Limit::Overcommit, ["vm.overcommit_memory is 2", "vm.overcommit_ratio"]),
            (Limit::LockedMemory, ["MCL_FUTURE", "RLIMIT_MEMLOCK"]),
            (Limit::Slabs { max: 7 }, ["all 7 slabs", "in small pieces"]),
        ] {
            let text = StackError::new(SizeClass::DEFAULT, limit).to_string();
            assert!(text.starts_with("no stack of 192 KiB: "), "{text}");
            assert!(names.iter().all(|name| text.contains(name)), "{text}");
        }
    }

    #[test]
    fn a_refusal_for_locked_memory_is_told_from_one_for_lack_of_it() {
        let error =
            |code| StackError::of_reserve(SizeClass::DEFAULT, 1 << 20, io::Error::from_raw_os_error(code));
        let (eagain, enomem) = (11, 12);
        assert_eq!(error(eagain).limit, Limit::LockedMemory);
        assert_ne!(error(enomem).limit, Limit::LockedMemory);
    }

    #[test]
    fn as_an_io_error_it_keeps_its_words_and_the_kernels() {
        let cause = io::Error::from_raw_os_error(12);
        let error = io::Error::from(StackError::new(SizeClass::DEFAULT, Limit::Memory).caused_by(cause));
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("no stack of 192 KiB"));
        let source = std::error::Error::source(error.get_ref().unwrap()).unwrap();
        assert!(source.to_string().contains("os error 12"));
    }
}
