//! Regular files and directories: `openat(2)`, `openat2(2)`, `fstat(2)`, `pread(2)`.
//!
//! The kernel may wait for the disk inside these calls; whether that matters is the caller's affair.

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

/// What a file is, by the type bits of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A FIFO, socket or device.
    Other,
}

/// The fields of `struct stat` that somebody reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) kind: Kind,
    pub(crate) len_bytes: u64,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Time of the last modification: whole seconds since 1970, negative before it …
    pub(crate) modified_seconds: i64,
    /// … and the nanoseconds after them, 0 to 999,999,999.
    pub(crate) modified_nanos: u32,
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
pub(crate) fn openat_beneath(directory: BorrowedFd<'_>, path: &CStr, open: Open) -> io::Result<OwnedFd> {
    // SAFETY: `open_how` is a plain struct of integers (linux/openat2.h), and the kernel wants its unknown
    // fields to be zero.
    let mut how: libc::open_how = unsafe { mem::zeroed() };
    how.flags = u64::from(open.flags().cast_unsigned());
    // BENEATH implies NO_MAGICLINKS today; the manual asks for it to be named for tomorrow.
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    let (fd, size) = (directory.as_raw_fd(), size_of::<libc::open_how>());
    // SAFETY: `path` ends in NUL and `how` has the size that is told; the kernel only reads both.
    let fd = unsafe { libc::syscall(libc::SYS_openat2, fd, path.as_ptr(), &raw const how, size) };
    let fd = super::check(i32::try_from(fd).expect("sys file: a descriptor fits an int"))?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the open file is.
pub(crate) fn fstat(file: BorrowedFd<'_>) -> io::Result<Stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel writes one `struct stat` to the pointer, which has room for it.
    super::check(unsafe { libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: fstat returned 0, so it has filled the struct.
    let stat = unsafe { stat.assume_init() };
    Ok(Stat {
        kind: match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => Kind::Regular,
            libc::S_IFDIR => Kind::Directory,
            _ => Kind::Other,
        },
        len_bytes: stat.st_size.cast_unsigned(),
        device: stat.st_dev,
        inode: stat.st_ino,
        modified_seconds: stat.st_mtime,
        modified_nanos: u32::try_from(stat.st_mtime_nsec).expect("sys file: nanoseconds below one second"),
    })
}

/// Reads at `offset` without moving the file's position. 0 is the end of the file.
pub(crate) fn pread(file: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: `buf` is ours to write for as long as the call lasts, and its length is told.
    super::check_len(unsafe { libc::pread(file.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), offset) })
}

/// What an error of [`openat_beneath`] or [`openat`] says, as far as somebody acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `EAGAIN`: a rename or mount raced with the resolution; the call may be made again.
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

/// The error for a path that leads out of its root (`EXDEV`), as the kernel gives it.
pub(crate) fn leads_out() -> io::Error {
    io::Error::from_raw_os_error(libc::EXDEV)
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
