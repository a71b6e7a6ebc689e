//! Anonymous memory: reserving address space, guarding parts of it, handing pages back to the kernel.
//!
//! Addresses are plain integers here: this module moves page tables about and never looks inside a page.
//! It decides nothing (what to map, when to give back, what to do without a feature); the layers above do.

use core::ops::Range;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// The page size this crate is built for. Everything that divides address space uses it; [`page_bytes`] tells
/// whether the kernel agrees.
pub(crate) const PAGE_BYTES: usize = 4096;

/// `MADV_GUARD_INSTALL` (Linux 6.13, asm-generic/mman-common.h).
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// `PIDFD_SELF` (Linux 6.14, linux/pidfd.h): the calling process, without a descriptor to own or to inherit.
const PIDFD_SELF: libc::c_long = -10_000;

/// The most regions that one [`discard_all`] takes (`UIO_MAXIOV`).
pub(crate) const REGIONS_MAX: usize = 1024;

/// The kernel's page size, in bytes.
pub(crate) fn page_bytes() -> usize {
    // SAFETY: sysconf reads a constant; it takes no pointer.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).expect("memory: the page size is known")
}

/// A range of address space in the shape of an `iovec`.
#[repr(C)]
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    start: usize,
    bytes: usize,
}

const _: () = {
    assert!(size_of::<Region>() == size_of::<libc::iovec>());
    assert!(align_of::<Region>() == align_of::<libc::iovec>());
    assert!(core::mem::offset_of!(Region, start) == core::mem::offset_of!(libc::iovec, iov_base));
    assert!(core::mem::offset_of!(Region, bytes) == core::mem::offset_of!(libc::iovec, iov_len));
};

impl Region {
    /// The length.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl From<Range<usize>> for Region {
    fn from(range: Range<usize>) -> Region {
        Region { start: range.start, bytes: range.len() }
    }
}

/// A private anonymous mapping, readable and writable, without swap reservation; unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    region: Region,
}

impl Mapping {
    /// Reserves `bytes` of address space (a multiple of the page size). Pages are committed when first touched.
    pub(crate) fn reserve(bytes: usize) -> io::Result<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing that exists.
        let start = unsafe {
            libc::mmap(core::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { region: Region { start: start.addr(), bytes } })
    }

    /// The addresses of the mapping.
    pub(crate) fn range(&self) -> Range<usize> {
        self.region.start..self.region.start + self.region.bytes
    }

    /// Asks for small pages only: one touched byte is to cost one page, not two megabytes. A kernel built without
    /// huge pages refuses the advice and does what it asks for, so that failure is no failure.
    pub(crate) fn refuse_huge_pages(&self) {
        // SAFETY: the advice changes how pages will be backed, never what they contain.
        let _ = unsafe { advise(self.region, libc::MADV_NOHUGEPAGE) };
    }

    /// Whether the kernel locked the mapping into memory at birth, as it does after `mlockall(MCL_FUTURE)`. To be
    /// asked of a mapping that nobody uses yet: its contents are lost.
    ///
    /// `MADV_DONTNEED` answers EINVAL on locked pages (madvise(2)), also where `MCL_ONFAULT` left them absent.
    pub(crate) fn is_locked(&mut self) -> bool {
        // SAFETY: `&mut self` on a mapping that is unused by the contract above, so that no contents matter.
        let answer = unsafe { advise(self.region, libc::MADV_DONTNEED) };
        matches!(answer, Err(error) if error.raw_os_error() == Some(libc::EINVAL))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the region came from mmap in `reserve` and is unmapped once, here; whoever held addresses into it
        // held them on the owner's word, and the owner is dropping it.
        let answer = unsafe { libc::munmap(self.region.start as *mut libc::c_void, self.region.bytes) };
        debug_assert_eq!(answer, 0, "memory: munmap: {}", io::Error::last_os_error());
    }
}

/// Makes every access to `range` a fault by marking its page-table entries, without splitting the mapping
/// (Linux ≥ 6.13). EINVAL means an older kernel, or locked memory.
///
/// # Safety
/// Nothing lives in `range`, which belongs to a mapping of the caller's.
pub(crate) unsafe fn guard_install(range: Range<usize>) -> io::Result<()> {
    // SAFETY: forwarded.
    unsafe { advise(range.into(), MADV_GUARD_INSTALL) }
}

/// Makes every access to `range` a fault by taking its permissions away. Splits the mapping: up to two more
/// entries against `vm.max_map_count`, and ENOMEM there.
///
/// # Safety
/// Nothing lives in `range`, which belongs to a mapping of the caller's.
pub(crate) unsafe fn guard_protect(range: Range<usize>) -> io::Result<()> {
    // SAFETY: by the contract nobody can notice that the range stops being accessible.
    let answer = unsafe { libc::mprotect(range.start as *mut libc::c_void, range.len(), libc::PROT_NONE) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the pages of `region` back; it reads as zeroes afterwards. Guards in it stay.
///
/// # Safety
/// Nothing lives in `region`, which belongs to a mapping of the caller's.
pub(crate) unsafe fn discard(region: Region) -> io::Result<()> {
    // SAFETY: forwarded.
    unsafe { advise(region, libc::MADV_DONTNEED) }
}

/// [`discard`] for many regions (at most [`REGIONS_MAX`]) in one call with one TLB flush. Returns the bytes done:
/// regions are taken in order, and the kernel may stop early. An error is a kernel without `process_madvise` for
/// the own process (< 6.13) or without `PIDFD_SELF` (< 6.14), or locked memory in the first region.
///
/// # Safety
/// Nothing lives in any of the regions, which belong to mappings of the caller's.
pub(crate) unsafe fn discard_all(regions: &[Region]) -> io::Result<usize> {
    assert!(regions.len() <= REGIONS_MAX, "memory: too many regions in one call");
    // SAFETY: `Region` has the layout of `iovec` (asserted above) and the slice is readable for the call; the
    // contract covers what the advice discards. libc has no wrapper, so every argument is passed as a full register.
    let done = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            PIDFD_SELF,
            regions.as_ptr(),
            regions.len(),
            libc::c_long::from(libc::MADV_DONTNEED),
            0 as libc::c_long,
        )
    };
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

/// madvise(2), again on EINTR and EAGAIN (which the guard advice returns when a signal cut it short).
///
/// # Safety
/// The contents of the region must bear what `advice` does to them.
unsafe fn advise(region: Region, advice: libc::c_int) -> io::Result<()> {
    loop {
        // SAFETY: by the contract; the kernel checks the addresses and touches no memory outside the region.
        let answer = unsafe { libc::madvise(region.start as *mut libc::c_void, region.bytes, advice) };
        if answer == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) {
            return Err(error);
        }
    }
}

/// Copies what lies at `address` of this process, and returns how many bytes: fewer than asked for, or an error, where
/// memory is not mapped or not readable. The kernel copies, so that nothing faults and nobody has to own the memory;
/// what others write meanwhile may be half there.
pub(crate) fn read(address: usize, bytes: &mut [u8]) -> io::Result<usize> {
    let to = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let from = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: the kernel writes to the slice, which is ours, and checks the address that it reads from.
    let read = super::check_len(unsafe {
        libc::process_vm_readv(libc::getpid(), &raw const to, 1, &raw const from, 1, 0)
    });
    match read {
        // Left out of the kernel, or forbidden by a filter.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            read_by_file(address, bytes)
        }
        read => read,
    }
}

/// The same through procfs.
fn read_by_file(address: usize, bytes: &mut [u8]) -> io::Result<usize> {
    static MEMORY: OnceLock<io::Result<fs::File>> = OnceLock::new();
    match MEMORY.get_or_init(|| fs::File::open("/proc/self/mem")) {
        Ok(memory) => memory.read_at(bytes, address as u64),
        Err(error) => Err(error.kind().into()),
    }
}

/// How many bytes of `range`, whose ends are page boundaries, are in memory.
///
/// # Errors
/// Part of the range is not mapped.
pub(crate) fn resident_bytes(range: Range<usize>) -> io::Result<usize> {
    let mut pages = vec![0u8; range.len() / PAGE_BYTES];
    // SAFETY: the kernel writes a byte for each page of the range; it looks at page tables, not into pages.
    let answer =
        unsafe { libc::mincore(range.start as *mut libc::c_void, range.len(), pages.as_mut_ptr().cast()) };
    super::check(answer)?;
    Ok(pages.iter().filter(|page| *page & 1 != 0).count() * PAGE_BYTES)
}

/// Whether `address` can be read, found out without a fault.
#[cfg(test)]
pub(crate) fn is_readable(address: usize) -> bool {
    matches!(read(address, &mut [0]), Ok(1))
}

/// Locks whatever this process maps from now on, as soon as it is mapped or (`on_fault`) touched.
#[cfg(test)]
pub(crate) fn lock_future(on_fault: bool) {
    let flags = libc::MCL_FUTURE | if on_fault { libc::MCL_ONFAULT } else { 0 };
    // SAFETY: mlockall takes no pointer and changes no contents.
    assert_eq!(unsafe { libc::mlockall(flags) }, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_up_to_where_it_ends_and_counted_by_the_page() {
        let mapping = Mapping::reserve(4 * PAGE_BYTES).unwrap();
        mapping.refuse_huge_pages();
        let range = mapping.range();
        assert_eq!(resident_bytes(range.clone()).unwrap(), 0);
        // SAFETY: the page is ours and nobody else's.
        unsafe { ((range.start + PAGE_BYTES) as *mut u64).write(7) };
        assert_eq!(resident_bytes(range.clone()).unwrap(), PAGE_BYTES);
        let mut bytes = [1; 8];
        assert_eq!(read(range.start + PAGE_BYTES, &mut bytes).unwrap(), 8);
        assert_eq!(u64::from_ne_bytes(bytes), 7);
        // SAFETY: nothing lives in the last page.
        unsafe { guard_protect(range.end - PAGE_BYTES..range.end).unwrap() };
        let mut across = [1; 64];
        assert_eq!(read(range.end - PAGE_BYTES - 16, &mut across).unwrap(), 16);
        assert!(read(range.end - PAGE_BYTES, &mut across).is_err());
    }
}
