#![forbid(unsafe_code)]
//! Open files.
//!
//! A file that is stored (on a disk, in memory, by another machine) is read and written at offsets only: its position
//! is ours and not the kernel's. So a call on the pool that nobody waits for any more cannot move it, and two calls on
//! one file never wait for each other in the kernel, where they would hold a core. Everything else (a FIFO, a
//! terminal, a socket) is a stream, made non-blocking and waited for by the io manager.

use super::{FileTimes, Metadata, OpenOptions, Permissions, blocking, uninterrupted};
use crate::io_manager::{Direction, Source};
use crate::net::{Announced, Operation, retry};
use crate::scheduler::{current, park};
use crate::sync::{Mutex, MutexGuard};
use crate::sys::{file, pipe};
use crate::thread::block::BlockedOn;
use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The most that one hop to the pool reads or writes: more is left for the next call, as short reads and writes are.
const HOP_BYTES_MAX: usize = 256 * 1024;

/// An open file, in the manner of `std::fs::File`.
///
/// Any number of threads may use it at once, through references or [`try_clone`](File::try_clone); calls that use the
/// position go one after another. Clones share the position, as std's do, but unlike std's it is not shared with
/// other processes, or with descriptors that were duplicated outside of this type.
///
/// For what a kill leaves behind see the [module](super).
pub struct File {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Stored(Arc<Stored>),
    Stream(Arc<Source>),
}

struct Stored {
    file: fs::File,
    position: Mutex<u64>,
    /// Every write goes to the end.
    appends: bool,
    /// How reads are made: one of the constants below.
    reading: AtomicU8,
}

/// From the page cache, and what is not there by the pool.
const FROM_CACHE: u8 = 0;
/// By the pool: the file system cannot tell what is cached.
const BY_POOL: u8 = 1;
/// In place: the file is in memory.
const IN_PLACE: u8 = 2;

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// Those of open(2); or the pool cannot start an OS thread.
    pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(path)
    }

    /// Opens a file for writing, which is made if there is none, and loses its content if there is one.
    ///
    /// # Errors
    /// As [`open`](File::open).
    pub fn create(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    /// Makes a file, for reading and writing.
    ///
    /// # Errors
    /// As [`open`](File::open); `AlreadyExists` if there is one.
    pub fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    /// Options to open a file with.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// A regular file that was just opened for reading.
    pub(super) fn just_opened(file: fs::File) -> File {
        let stored =
            Stored { file, position: Mutex::new(0), appends: false, reading: AtomicU8::new(FROM_CACHE) };
        File { kind: Kind::Stored(Arc::new(stored)) }
    }

    /// A further handle of the same file, with the same position: no second descriptor, unlike std's.
    ///
    /// # Errors
    /// None today; the signature is std's.
    pub fn try_clone(&self) -> io::Result<File> {
        Ok(File { kind: self.kind.clone() })
    }

    /// Waits until content and metadata are on the disk (fsync(2)).
    ///
    /// # Errors
    /// Those of fsync(2); or the pool cannot start an OS thread.
    pub fn sync_all(&self) -> io::Result<()> {
        self.with_std(fs::File::sync_all)
    }

    /// Waits until the content is on the disk (fdatasync(2)).
    ///
    /// # Errors
    /// As [`sync_all`](File::sync_all).
    pub fn sync_data(&self) -> io::Result<()> {
        self.with_std(fs::File::sync_data)
    }

    /// Cuts the file, or extends it by zeroes.
    ///
    /// # Errors
    /// Those of ftruncate(2); or the pool cannot start an OS thread.
    pub fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.with_std(move |file| file.set_len(bytes))
    }

    /// What is known of the file.
    ///
    /// # Errors
    /// Those of statx(2); or the pool cannot start an OS thread.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.with_std(fs::File::metadata)
    }

    /// Changes what is permitted.
    ///
    /// # Errors
    /// Those of fchmod(2); or the pool cannot start an OS thread.
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.with_std(move |file| file.set_permissions(permissions))
    }

    /// Changes the times of the last access and modification.
    ///
    /// # Errors
    /// Those of futimens(2); or the pool cannot start an OS thread.
    pub fn set_times(&self, times: FileTimes) -> io::Result<()> {
        self.with_std(move |file| file.set_times(times))
    }

    /// Reads at `offset` (bytes from the start), without moving the position. 0 is the end of the file.
    ///
    /// # Errors
    /// Those of pread(2), `ESPIPE` for streams; or the pool cannot start an OS thread.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        park::interruption_point();
        let stored = self.stored()?;
        if let Some(count) = stored.read_cached(buf, offset)? {
            return Ok(count);
        }
        read_by_pool(stored, buf, offset)
    }

    /// Reads at `offset` what can be had without waiting for a disk; `None` if that is nothing, or if nobody can tell.
    /// Never parks.
    ///
    /// # Errors
    /// Those of pread(2), `ESPIPE` for streams.
    #[inline]
    pub fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.stored()?.read_cached(buf, offset)
    }

    /// Fills the buffer from `offset` on.
    ///
    /// # Errors
    /// As [`read_at`](File::read_at); `UnexpectedEof` if the file is too short.
    pub fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => {
                    buf = &mut buf[count..];
                    offset += count as u64;
                }
            }
        }
        Ok(())
    }

    /// Writes at `offset`, without moving the position. A file that is open for appending is appended to (pwrite(2),
    /// BUGS).
    ///
    /// # Errors
    /// Those of pwrite(2), `ESPIPE` for streams; or the pool cannot start an OS thread.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        park::interruption_point();
        write_by_pool(self.stored()?, buf, offset).map(|(count, _)| count)
    }

    /// Writes the whole buffer from `offset` on.
    ///
    /// # Errors
    /// As [`write_at`](File::write_at).
    pub fn write_all_at(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write_at(buf, offset)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => {
                    buf = &buf[count..];
                    offset += count as u64;
                }
            }
        }
        Ok(())
    }

    fn stored(&self) -> io::Result<&Arc<Stored>> {
        match &self.kind {
            Kind::Stored(stored) => Ok(stored),
            Kind::Stream(_) => Err(file::not_seekable()),
        }
    }

    /// Makes a call of std's that may block.
    fn with_std<T: Send + 'static>(
        &self,
        call: impl FnOnce(&fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match &self.kind {
            Kind::Stored(stored) => {
                let stored = Arc::clone(stored);
                blocking(move || call(&stored.file))
            }
            Kind::Stream(source) => {
                let file = fs::File::from(source.duplicate_fd()?);
                blocking(move || call(&file))
            }
        }
    }
}

impl Stored {
    /// For a call at the position, which it moves when it has returned.
    fn position(&self) -> MutexGuard<'_, u64> {
        self.position.lock()
    }

    /// What is there without waiting.
    #[inline]
    fn read_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        match self.reading.load(Ordering::Relaxed) {
            FROM_CACHE => {}
            IN_PLACE => return uninterrupted(|| self.file.read_at(buf, offset)).map(Some),
            _ => return Ok(None),
        }
        match uninterrupted(|| file::pread_cached(self.file.as_fd(), buf, offset)) {
            Ok(count @ 1..) => Ok(Some(count)),
            // Some kernels say so of what is not cached, too; the length of an open file is known without waiting.
            Ok(0) if buf.is_empty() || offset >= self.file.metadata()?.len() => Ok(Some(0)),
            Ok(_) => Ok(None),
            Err(error) => {
                if file::never_without_waiting(&error) {
                    self.reading.store(BY_POOL, Ordering::Relaxed);
                }
                // Whatever else it is, the call that may wait says it again.
                Ok(None)
            }
        }
    }
}

/// Reads by the pool, into a buffer of its own.
fn read_by_pool(stored: &Arc<Stored>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    if current::thread().is_none() {
        return uninterrupted(|| stored.file.read_at(buf, offset));
    }
    let len = buf.len().min(HOP_BYTES_MAX);
    let stored = Arc::clone(stored);
    let read = blocking(move || {
        let mut buffer = vec![0; len];
        let count = uninterrupted(|| stored.file.read_at(&mut buffer, offset))?;
        buffer.truncate(count);
        if stored.reading.load(Ordering::Relaxed) == BY_POOL && file::is_in_memory(stored.file.as_fd())? {
            stored.reading.store(IN_PLACE, Ordering::Relaxed);
        }
        Ok(buffer)
    })?;
    buf[..read.len()].copy_from_slice(&read);
    Ok(read.len())
}

/// Writes by the pool, from a copy. Returns how much was written, and where the position is then.
fn write_by_pool(stored: &Arc<Stored>, buf: &[u8], offset: u64) -> io::Result<(usize, u64)> {
    let write = move |stored: &Stored, buf: &[u8]| {
        let count = uninterrupted(|| stored.file.write_at(buf, offset))?;
        let position = if stored.appends { stored.file.metadata()?.len() } else { offset + count as u64 };
        Ok((count, position))
    };
    if current::thread().is_none() {
        return write(stored, buf);
    }
    let (copy, stored) = (buf[..buf.len().min(HOP_BYTES_MAX)].to_owned(), Arc::clone(stored));
    blocking(move || write(&stored, &copy))
}

fn operation(direction: Direction, reason: fn(i32) -> BlockedOn) -> Operation {
    Operation { direction, reason, limit: None, exclusive: false, announced: Announced::ByEvent }
}

impl Read for &File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Stored(stored) => {
                let mut position = stored.position();
                let count = self.read_at(buf, *position)?;
                *position += count as u64;
                Ok(count)
            }
            Kind::Stream(source) => {
                let read = operation(Direction::Read, BlockedOn::Read);
                retry(source, read, |fd| file::read(fd, buf), |_| false)
            }
        }
    }
}

impl Write for &File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Stored(stored) => {
                let mut position = stored.position();
                park::interruption_point();
                let (count, after) = write_by_pool(stored, buf, *position)?;
                *position = after;
                Ok(count)
            }
            Kind::Stream(source) => {
                let write = operation(Direction::Write, BlockedOn::Write);
                retry(source, write, |fd| file::write(fd, buf), |_| false)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    /// Moves the position. `ESPIPE` for streams. From the end it may park: the length is asked for.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let stored = self.stored()?;
        let mut position = stored.position();
        let (from, by) = match to {
            SeekFrom::Start(offset) => {
                *position = offset;
                return Ok(offset);
            }
            SeekFrom::Current(by) => (*position, by),
            SeekFrom::End(by) => {
                // Not the length that the metadata have, which is 0 for block devices.
                let end = self.with_std(|mut file| file.seek(SeekFrom::End(0)))?;
                (end, by)
            }
        };
        let to = from.checked_add_signed(by).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a position before the start of the file")
        })?;
        *position = to;
        Ok(to)
    }
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}

impl TryFrom<fs::File> for File {
    type Error = io::Error;

    /// Takes over a file of std's, with its position. A stream (a FIFO, a terminal) is made non-blocking, for all who
    /// share it: use [`stdio`](crate::stdio) for those that the process was started with.
    fn try_from(file: fs::File) -> io::Result<File> {
        let file_type = file.metadata()?.file_type();
        if !(file_type.is_file() || file_type.is_dir() || file_type.is_block_device()) {
            pipe::set_nonblocking(file.as_fd(), true)?;
            return Ok(File { kind: Kind::Stream(Arc::new(Source::new(file.into()))) });
        }
        let position = if file_type.is_dir() { 0 } else { (&file).stream_position()? };
        let stored = Stored {
            position: Mutex::new(position),
            appends: file::appends(file.as_fd())?,
            reading: AtomicU8::new(FROM_CACHE),
            file,
        };
        Ok(File { kind: Kind::Stored(Arc::new(stored)) })
    }
}

impl TryFrom<OwnedFd> for File {
    type Error = io::Error;

    /// As for a file of std's.
    fn try_from(fd: OwnedFd) -> io::Result<File> {
        File::try_from(fs::File::from(fd))
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Stored(stored) => stored.file.as_fd(),
            Kind::Stream(source) => source.as_fd(),
        }
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("fd", &self.as_raw_fd()).finish_non_exhaustive()
    }
}
