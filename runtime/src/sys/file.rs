//! Files: what of `open(2)`, `read(2)` and `write(2)` std has not.
//!
//! The kernel may wait for the disk, or for a peer, inside these calls unless they say that they do not wait; whether
//! that matters is the caller's affair.

use std::ffi::CStr;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    /// A directory, for path resolution only (`O_PATH`): nothing can be read through the descriptor.
    Directory,
    /// A file to read. `O_NONBLOCK`, so that a FIFO without a writer does not hold the caller; `O_NOCTTY`, so
    /// that a terminal does not become ours.
    Read,
}

impl Open {
    fn flags(self) -> libc::c_int {
        libc::O_CLOEXEC
            | match self {
                Open::Directory => libc::O_PATH | libc::O_DIRECTORY,
                Open::Read => libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY,
            }
    }
}

/// Whether a symbolic link as the last step of a path is followed. Those before it are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastLink {
    /// As the kernel does if nothing is said.
    Follow,
    /// `O_NOFOLLOW`: it is an error.
    Refuse,
}

/// What a path may cost to resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolve {
    /// Whatever it takes.
    Fully,
    /// What the kernel has in memory only: `EAGAIN` if that does not suffice. Needs Linux 5.12; `EINVAL` before.
    Cached,
}

/// Opens `path`, from `directory` (`None`: the working directory), by openat(2).
pub(crate) fn openat(
    directory: Option<BorrowedFd<'_>>,
    path: &CStr,
    open: Open,
    last_link: LastLink,
) -> io::Result<OwnedFd> {
    let directory = directory.map_or(libc::AT_FDCWD, |fd| fd.as_raw_fd());
    let flags = match last_link {
        LastLink::Follow => open.flags(),
        LastLink::Refuse => open.flags() | libc::O_NOFOLLOW,
    };
    // SAFETY: `path` ends in NUL; the kernel only reads it.
    let fd = super::check(unsafe { libc::openat(directory, path.as_ptr(), flags) })?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens `path` so that every step of its resolution, `..` and symbolic links included, stays below `directory`: a
/// step that leaves it is `EXDEV`. Magic links of /proc are `ELOOP`. Needs Linux 5.6; `ENOSYS` before.
///
/// `EAGAIN` means that a rename or mount raced with the resolution, and that the caller may try again (openat2(2)).
pub(crate) fn openat_beneath(
    directory: BorrowedFd<'_>,
    path: &CStr,
    open: Open,
    resolve: Resolve,
) -> io::Result<OwnedFd> {
    // SAFETY: `open_how` is a plain struct of integers (linux/openat2.h), and the kernel wants its unknown
    // fields to be zero.
    let mut how: libc::open_how = unsafe { mem::zeroed() };
    how.flags = u64::from(open.flags().cast_unsigned());
    // BENEATH implies NO_MAGICLINKS today; the manual asks for it to be named for tomorrow.
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    if resolve == Resolve::Cached {
        how.resolve |= libc::RESOLVE_CACHED;
    }
    let (fd, size) = (directory.as_raw_fd(), size_of::<libc::open_how>());
    // SAFETY: `path` ends in NUL and `how` has the size that is told; the kernel only reads both.
    let fd = unsafe { libc::syscall(libc::SYS_openat2, fd, path.as_ptr(), &raw const how, size) };
    let fd = super::check(i32::try_from(fd).expect("sys file: a descriptor fits an int"))?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads at `offset` what is in the page cache, without moving the file's position (preadv2(2) with `RWF_NOWAIT`).
///
/// `EAGAIN` if there is nothing, `EOPNOTSUPP` if the file system cannot tell. Only an answer with bytes may be taken at
/// its word: Linux 5.9 and 5.10 report an end where there is none (preadv2(2), BUGS).
#[inline]
pub(crate) fn pread_cached(file: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: the one part is `buf`, which is ours to write for as long as the call lasts.
    super::check_len(unsafe { libc::preadv2(file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_NOWAIT) })
}

/// Whether an error of [`pread_cached`] or [`write_now`] holds for every call on this file.
pub(crate) fn never_without_waiting(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}

/// Whether the file lives in memory, so that reading it never waits for a disk: on tmpfs or ramfs.
pub(crate) fn is_in_memory(file: BorrowedFd<'_>) -> io::Result<bool> {
    /// linux/magic.h; libc does not have it.
    const RAMFS_MAGIC: i64 = 0x8584_58f6;
    let mut fs = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the kernel writes one `struct statfs` to the pointer, which has room for it.
    super::check(unsafe { libc::fstatfs(file.as_raw_fd(), fs.as_mut_ptr()) })?;
    // SAFETY: fstatfs returned 0, so it has filled the struct.
    let magic = unsafe { fs.assume_init() }.f_type;
    Ok(magic == libc::TMPFS_MAGIC || magic == RAMFS_MAGIC)
}

/// Whether what is written goes to the end of the file, wherever the position is (`O_APPEND`).
pub(crate) fn appends(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: no pointers are passed.
    let flags = super::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })?;
    Ok(flags & libc::O_APPEND != 0)
}

/// Reads from a stream; 0 is its end.
pub(crate) fn read(stream: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buf` is ours to write for as long as the call lasts, and its length is told.
    super::check_len(unsafe { libc::read(stream.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) })
}

/// Writes to a stream.
pub(crate) fn write(stream: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    // SAFETY: `buf` is live for as long as the call lasts, and its length is told.
    super::check_len(unsafe { libc::write(stream.as_raw_fd(), buf.as_ptr().cast(), buf.len()) })
}

/// Writes to a stream what it takes without waiting, though the descriptor is a blocking one (pwritev2(2) with
/// `RWF_NOWAIT`). `EAGAIN` if that is nothing; `EOPNOTSUPP` if the stream cannot tell (pipes can since Linux 6.4).
pub(crate) fn write_now(stream: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    /// The position of the file, which a stream has not.
    const NO_OFFSET: libc::off_t = -1;
    let part = libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() };
    // SAFETY: the one part is `buf`, which is live for as long as the call lasts and only read.
    super::check_len(unsafe {
        libc::pwritev2(stream.as_raw_fd(), &raw const part, 1, NO_OFFSET, libc::RWF_NOWAIT)
    })
}

/// What an error of [`openat_beneath`] or [`openat`] says, as far as somebody acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `EAGAIN`: a rename or mount raced with the resolution, and the call may be made again; or what is cached does
    /// not suffice.
    Raced,
    /// `ELOOP`: a loop of symbolic links, or a magic link of /proc.
    Loop,
    /// `ENXIO`: a Unix socket, or a device without a driver.
    NoReader,
    /// `ENOSYS` or `EPERM`: the kernel, or a seccomp filter before it, does not know the call.
    UnknownCall,
    /// Any other.
    Other,
}

/// Reads an error of [`openat_beneath`] or [`openat`].
pub(crate) fn refusal(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Refusal::Raced,
        Some(libc::ELOOP) => Refusal::Loop,
        Some(libc::ENXIO) => Refusal::NoReader,
        Some(libc::ENOSYS | libc::EPERM) => Refusal::UnknownCall,
        _ => Refusal::Other,
    }
}

/// Whether an error of [`openat_beneath`] with [`Resolve::Cached`] says nothing about the path itself.
pub(crate) fn may_resolve_fully(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINVAL | libc::ENOSYS | libc::EPERM))
}

/// The error for a path that leads out of its root (`EXDEV`), as the kernel gives it.
pub(crate) fn leads_out() -> io::Error {
    io::Error::from_raw_os_error(libc::EXDEV)
}

/// The error for a position in a stream (`ESPIPE`), as the kernel gives it.
pub(crate) fn not_seekable() -> io::Error {
    io::Error::from_raw_os_error(libc::ESPIPE)
}

/// The error for a directory where a file was wanted (`EISDIR`).
pub(crate) fn is_a_directory() -> io::Error {
    io::Error::from_raw_os_error(libc::EISDIR)
}

/// Makes a FIFO, for the tests of those who must not wait for one.
#[cfg(test)]
pub(crate) fn mkfifo(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` ends in NUL; the kernel only reads it.
    super::check(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }).map(drop)
}
