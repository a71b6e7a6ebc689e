#![forbid(unsafe_code)]
//! Files below a root directory: opened without a way out of it. What a server of static files needs.
//!
//! A path that the kernel has in memory is resolved in place, any other by the pool. Nothing here waits for anybody but
//! the disk: a FIFO or device is refused instead of opened for reading by a caller who would then block on it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use super::{File, Metadata, blocking, uninterrupted};
use crate::scheduler::{current, park};
use crate::sys::file::{self, LastLink, Open, Refusal, Resolve};

/// How often [`open_beneath`] resolves a path anew when renames race with it. Each race is lost independently,
/// so a handful would do; an unbounded loop would let whoever renames directories below the root hold a core.
const RESOLUTIONS_MAX: usize = 64;

/// Opens a directory as a starting point for [`open_beneath`]; nothing can be read through the descriptor.
///
/// # Errors
/// Those of openat(2); or the pool cannot start an OS thread.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let path = c_string(path)?;
    blocking(move || uninterrupted(|| file::openat(None, &path, Open::Directory, LastLink::Follow)))
}

/// Opens a regular file below `root` for reading. No step of the resolution leaves `root`: neither `..`, nor a
/// symbolic link to outside, nor one to an absolute path (even one that points inside). Symbolic links that
/// stay inside are followed.
///
/// Where the kernel does not know openat2(2) (before Linux 5.6, under some seccomp filters, in valgrind), the path is
/// walked name by name, and symbolic links are refused altogether.
///
/// # Errors
/// Those of openat2(2): a step outside is [`CrossesDevices`](io::ErrorKind::CrossesDevices), a loop of symbolic
/// links or a magic link of /proc [`NotFound`](io::ErrorKind::NotFound). A directory is
/// [`IsADirectory`](io::ErrorKind::IsADirectory); a FIFO, socket or device is
/// [`InvalidInput`](io::ErrorKind::InvalidInput), and so is a path that holds a NUL. A path that renames keep
/// racing with ends as [`WouldBlock`](io::ErrorKind::WouldBlock). Or the pool cannot start an OS thread.
pub fn open_beneath(root: BorrowedFd<'_>, path: &Path) -> io::Result<(File, Metadata)> {
    park::interruption_point();
    let name = c_string(path)?;
    if current::thread().is_none() {
        return measured(resolve_or_walk(root, &name, path));
    }
    match uninterrupted(|| file::openat_beneath(root, &name, Open::Read, Resolve::Cached)) {
        Ok(opened) => measured(Ok(opened)),
        // Not cached, or a kernel that knows nothing of this: all the rest is found out by the pool.
        Err(error) if file::may_resolve_fully(&error) => {
            let (root, path) = (root.try_clone_to_owned()?, path.to_owned());
            blocking(move || measured(resolve_or_walk(root.as_fd(), &name, &path)))
        }
        Err(error) => measured(Err(error)),
    }
}

fn resolve_or_walk(root: BorrowedFd<'_>, name: &CStr, path: &Path) -> io::Result<OwnedFd> {
    match resolve_beneath(root, name) {
        Err(error) if file::refusal(&error) == Refusal::UnknownCall => walk_beneath(root, path),
        opened => opened,
    }
}

/// Looks at what was opened.
fn measured(opened: io::Result<OwnedFd>) -> io::Result<(File, Metadata)> {
    let opened = opened.map_err(|error| match file::refusal(&error) {
        Refusal::Loop => io::Error::new(io::ErrorKind::NotFound, "symbolic links that lead nowhere"),
        Refusal::NoReader => not_regular(),
        _ => error,
    })?;
    let opened = std::fs::File::from(opened);
    let metadata = opened.metadata()?;
    if metadata.is_dir() {
        return Err(file::is_a_directory());
    }
    if !metadata.is_file() {
        return Err(not_regular());
    }
    Ok((File::just_opened(opened), metadata))
}

/// Lets the kernel resolve the path.
fn resolve_beneath(root: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    let mut resolutions = 1;
    loop {
        match uninterrupted(|| file::openat_beneath(root, path, Open::Read, Resolve::Fully)) {
            Err(error) if file::refusal(&error) == Refusal::Raced && resolutions < RESOLUTIONS_MAX => {
                resolutions += 1;
            }
            opened => return opened,
        }
    }
}

/// Walks the path name by name. No name is a step upwards, and none is followed if it is a link, so no rename on the
/// way can lead out.
fn walk_beneath(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let mut directory: Option<OwnedFd> = None;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let name = match component {
            Component::Normal(name) => c_string(Path::new(name))?,
            Component::CurDir => continue,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(file::leads_out()),
        };
        let open = if components.peek().is_some() { Open::Directory } else { Open::Read };
        let from = directory.as_ref().map_or(root, AsFd::as_fd);
        let opened = uninterrupted(|| file::openat(Some(from), &name, open, LastLink::Refuse))?;
        if open == Open::Read {
            return Ok(opened);
        }
        directory = Some(opened);
    }
    // An empty path, or one of nothing but dots: the root itself.
    if path.as_os_str().is_empty() {
        Err(io::ErrorKind::NotFound.into())
    } else {
        Err(file::is_a_directory())
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

fn c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::process;

    /// A directory of the test's own, removed with everything in it at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("bast-fs-{}-{test}", process::id()));
            fs::create_dir_all(path.join("root/inner")).expect("make the scratch directory");
            fs::write(path.join("outside"), "outside").expect("write outside");
            fs::write(path.join("root/file"), "0123456789").expect("write file");
            Scratch(path)
        }

        fn root(&self) -> OwnedFd {
            open_directory(&self.0.join("root")).expect("open the root")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("remove the scratch directory");
        }
    }

    fn kind(opened: io::Result<(File, Metadata)>) -> io::ErrorKind {
        opened.expect_err("the path must be refused").kind()
    }

    #[test]
    fn a_file_is_read_at_any_offset_through_the_descriptor_that_was_measured() {
        let scratch = Scratch::new("read");
        let (file, metadata) = open_beneath(scratch.root().as_fd(), Path::new("file")).expect("open");
        let std = fs::metadata(scratch.0.join("root/file")).expect("stat");
        assert_eq!(metadata.len(), 10);
        assert_eq!((metadata.dev(), metadata.ino()), (std.dev(), std.ino()));
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (std.mtime(), std.mtime_nsec()));
        let mut buf = [0; 4];
        assert_eq!(file.read_at(&mut buf, 7).expect("read"), 3);
        assert_eq!(&buf[..3], b"789");
        assert_eq!(file.read_at(&mut buf, 0).expect("read"), 4);
        assert_eq!(&buf, b"0123");
        assert_eq!(file.read_at(&mut buf, 10).expect("read at the end"), 0);
        assert_eq!(
            file.read_at(&mut buf, u64::MAX).expect_err("no such offset").kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn no_way_leads_out_of_the_root() {
        let scratch = Scratch::new("beneath");
        let root = scratch.0.join("root");
        symlink("../outside", root.join("leaves")).expect("symlink");
        symlink(root.join("file"), root.join("absolute")).expect("symlink");
        symlink("loop", root.join("loop")).expect("symlink");
        symlink("..", root.join("inner/up")).expect("symlink");
        symlink("../..", root.join("inner/out")).expect("symlink");
        let dir = scratch.root();
        let open = |path: &str| open_beneath(dir.as_fd(), Path::new(path));

        open("inner/up/file").expect("a link that stays inside is followed");
        for path in
            ["../outside", "leaves", "absolute", "inner/out/outside", "/etc/passwd", "inner/../../outside"]
        {
            assert_eq!(kind(open(path)), io::ErrorKind::CrossesDevices, "{path}");
        }
        assert_eq!(kind(open("file\0")), io::ErrorKind::InvalidInput);
        assert_eq!(kind(open("loop")), io::ErrorKind::NotFound);
        assert_eq!(kind(open("")), io::ErrorKind::NotFound);
        assert_eq!(kind(open("missing")), io::ErrorKind::NotFound);
    }

    #[test]
    fn without_openat2_the_walk_refuses_every_link_and_step_upwards() {
        let scratch = Scratch::new("walk");
        let root = scratch.0.join("root");
        fs::write(root.join("inner/deep"), "deep").expect("write a file");
        symlink("../outside", root.join("leaves")).expect("symlink");
        symlink("inner", root.join("alias")).expect("symlink");
        symlink("file", root.join("inside")).expect("symlink");
        let dir = scratch.root();
        let walk =
            |path: &str| walk_beneath(dir.as_fd(), Path::new(path)).map_err(|error| file::refusal(&error));

        for path in ["file", "./file", "inner/deep", "inner//deep", "./inner/./deep"] {
            walk(path).unwrap_or_else(|error| panic!("{path}: {error:?}"));
        }
        for path in ["leaves", "inside"] {
            assert_eq!(walk(path).expect_err("a link as the last name"), Refusal::Loop, "{path}");
        }
        let kind = |path: &str| walk_beneath(dir.as_fd(), Path::new(path)).expect_err("refused").kind();
        for path in ["../outside", "inner/../file", "/etc/passwd", "inner/../../outside", ".."] {
            assert_eq!(kind(path), io::ErrorKind::CrossesDevices, "{path}");
        }
        for path in ["alias/deep", "file/deep"] {
            assert_eq!(kind(path), io::ErrorKind::NotADirectory, "{path}");
        }
        assert_eq!(kind("missing"), io::ErrorKind::NotFound);
        assert_eq!(kind(""), io::ErrorKind::NotFound);
        assert_eq!(kind("."), io::ErrorKind::IsADirectory);
        assert_eq!(kind("file\0"), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_without_waiting() {
        let scratch = Scratch::new("kinds");
        let fifo = scratch.0.join("root/fifo");
        file::mkfifo(&c_string(&fifo).expect("no NUL")).expect("mkfifo");
        let _socket = UnixListener::bind(scratch.0.join("root/socket")).expect("bind");
        let dir = scratch.root();
        assert_eq!(kind(open_beneath(dir.as_fd(), Path::new("inner"))), io::ErrorKind::IsADirectory);
        assert_eq!(kind(open_beneath(dir.as_fd(), Path::new("socket"))), io::ErrorKind::InvalidInput);
        // Nobody writes to the FIFO: opened without O_NONBLOCK, this would never return.
        assert_eq!(kind(open_beneath(dir.as_fd(), Path::new("fifo"))), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_root_must_be_a_directory() {
        let scratch = Scratch::new("root");
        let error = |path: &str| open_directory(&scratch.0.join(path)).expect_err("refused").kind();
        assert_eq!(error("outside"), io::ErrorKind::NotADirectory);
        assert_eq!(error("missing"), io::ErrorKind::NotFound);
    }
}
