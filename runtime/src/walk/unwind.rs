#![forbid(unsafe_code)]
//! Unwinding copied stacks by the tables of the loaded modules. Runs on any OS thread with a stack of an ordinary size.

use crate::stack;
use crate::sys::memory;
use crate::sys::modules::{self, Module};
use crate::sys::sample::{Registers, STACK_BYTES_MAX, Sample};
use framehop::{ExplicitModuleSectionInfo, Unwinder};
use std::fmt;
use std::ops::Range;

/// The most frames of a stack that are told: its innermost.
const FRAMES_MAX: usize = 128;

/// A suspended thread keeps its registers within its own suspending frame.
const FRAME_BYTES_MAX: usize = 4096;

#[cfg(target_arch = "aarch64")]
type Native = framehop::aarch64::UnwinderAarch64<Vec<u8>>;
#[cfg(not(target_arch = "aarch64"))]
type Native = framehop::x86_64::UnwinderX86_64<Vec<u8>>;

type Cache = <Native as Unwinder>::Cache;

/// Why there is no stack to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum NoStack {
    /// The thread has none yet.
    NotStarted,
    /// It ran on while it was looked at.
    Moved,
    /// It did not answer in time.
    NoAnswer,
    /// The kernel does not let the memory be read.
    NotReadable,
    /// Nobody knows how to walk stacks on this processor.
    Unsupported,
}

impl fmt::Display for NoStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoStack::NotStarted => "not started",
            NoStack::Moved => "ran on while it was looked at",
            NoStack::NoAnswer => "did not answer",
            NoStack::NotReadable => "its stack cannot be read",
            NoStack::Unsupported => "stacks cannot be walked on this processor",
        })
    }
}

/// Walks stacks by the tables of the modules that were loaded when it was made.
pub(crate) struct Walker {
    unwinder: Native,
    cache: Cache,
    code: Vec<Range<usize>>,
    bytes: Vec<u8>,
}

impl Walker {
    /// Copies the unwind tables: about a millisecond.
    pub(crate) fn new() -> Walker {
        let mut walker = Walker {
            unwinder: Native::new(),
            cache: Cache::new(),
            code: Vec::new(),
            bytes: vec![0; STACK_BYTES_MAX],
        };
        for module in modules::loaded() {
            walker.code.push(module.range.clone());
            walker.unwinder.add_module(described(module));
        }
        walker
    }

    /// The frames of a thread that suspended itself and left [`here`](super::here) at `address` of its stack, innermost
    /// first, as addresses within the calling instructions.
    pub(crate) fn suspended(&mut self, address: usize) -> Result<Vec<usize>, NoStack> {
        if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            return Err(NoStack::Unsupported);
        }
        let stack = stack::around(address).ok_or(NoStack::Moved)?;
        let len = (stack.end - address).min(STACK_BYTES_MAX);
        let mut bytes = std::mem::take(&mut self.bytes);
        let read = memory::read(address, &mut bytes[..len]);
        let frames = match read {
            Err(_) => Err(NoStack::NotReadable),
            Ok(read) => match registers_in(&bytes[..read], address) {
                None => Err(NoStack::Moved),
                Some(registers) => self.walk(registers, address, &bytes[..read]),
            },
        };
        self.bytes = bytes;
        frames
    }

    /// The frames of a thread that was sampled while it ran.
    pub(crate) fn sampled(&mut self, sample: &Sample) -> Result<Vec<usize>, NoStack> {
        self.walk(sample.registers, sample.registers.stack_pointer, &sample.stack)
    }

    /// `bytes` are those of the stack from `start` upwards.
    fn walk(&mut self, from: Registers, start: usize, bytes: &[u8]) -> Result<Vec<usize>, NoStack> {
        if !self.code.iter().any(|code| code.contains(&from.program_counter)) {
            return Err(NoStack::Moved);
        }
        let mut read = |address: u64| {
            let at = usize::try_from(address).ok().and_then(|address| address.checked_sub(start)).ok_or(())?;
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(())?;
            Ok(u64::from_ne_bytes(*word))
        };
        let mut frames = Vec::with_capacity(16);
        let pc = from.program_counter as u64;
        let mut iterator = self.unwinder.iter_frames(pc, native(from), &mut self.cache, &mut read);
        // It ends at the root of the stack, where the next frame would be the scheduler's, which was not copied.
        while frames.len() < FRAMES_MAX
            && let Ok(Some(frame)) = iterator.next()
        {
            frames.push(frame.address_for_lookup() as usize);
        }
        Ok(frames)
    }
}

/// What [`here`](super::here) left at the start of `bytes`, which were copied from `address`; `None` if it is not that
/// any more.
fn registers_in(bytes: &[u8], address: usize) -> Option<Registers> {
    let word = |index: usize| {
        let word = bytes.get(index * size_of::<usize>()..)?.first_chunk()?;
        Some(usize::from_ne_bytes(*word))
    };
    let registers = Registers {
        program_counter: word(0)?,
        stack_pointer: word(1)?,
        frame_pointer: word(2)?,
        link: word(3)?,
    };
    (address.saturating_sub(FRAME_BYTES_MAX)..=address)
        .contains(&registers.stack_pointer)
        .then_some(registers)
}

#[cfg(target_arch = "aarch64")]
fn native(from: Registers) -> framehop::aarch64::UnwindRegsAarch64 {
    framehop::aarch64::UnwindRegsAarch64::new(
        from.link as u64,
        from.stack_pointer as u64,
        from.frame_pointer as u64,
    )
}

#[cfg(not(target_arch = "aarch64"))]
fn native(from: Registers) -> framehop::x86_64::UnwindRegsX86_64 {
    framehop::x86_64::UnwindRegsX86_64::new(
        from.program_counter as u64,
        from.stack_pointer as u64,
        from.frame_pointer as u64,
    )
}

/// A module as framehop wants it: addresses in the file are taken to be those in memory.
fn described(module: Module) -> framehop::Module<Vec<u8>> {
    let range = module.range.start as u64..module.range.end as u64;
    let section = |start: usize, bytes: &[u8]| Some(start as u64..(start + bytes.len()) as u64);
    let (hdr_start, hdr) = module.eh_frame_hdr;
    let (table_start, table) = module.eh_frame;
    framehop::Module::new(
        String::new(),
        range.clone(),
        range.start,
        ExplicitModuleSectionInfo {
            base_svma: range.start,
            eh_frame_hdr_svma: section(hdr_start, &hdr),
            eh_frame_svma: section(table_start, &table),
            eh_frame_hdr: Some(hdr),
            eh_frame: Some(table),
            ..ExplicitModuleSectionInfo::default()
        },
    )
}
