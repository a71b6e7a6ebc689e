#![forbid(unsafe_code)]
//! Standard input, output and error: waiting for them parks the calling green thread only.
//!
//! ```
//! use std::io::Write;
//!
//! bast::run(|| writeln!(bast::stdio::stdout(), "a line").unwrap());
//! ```
//!
//! # Why they have OS threads of their own
//! These descriptors are shared: with the shell that started the process, with its other children, with a pipeline's
//! neighbours. So they may not be made non-blocking, which would hold for all of them; and that one is readable now is
//! no promise, since somebody else may read first. Each is therefore read or written by an OS thread of its own, which
//! is started at the first use that has to wait, blocks in the kernel instead of a core, and is none of the off-load
//! pool's: a terminal at which nobody types occupies nothing that others need.
//!
//! # Input
//! All handles share one buffer, as std's do. A read that the reader did not wait for, since it was killed or out of
//! time, is not lost: its bytes are the next reader's. Do not read from `std::io::stdin` as well: what is in its buffer
//! is not in this one.
//!
//! # Output
//! Not buffered: when a call returns the kernel has the bytes, and nothing is lost when the process ends. `write!`
//! and its like write what they format in one piece; wrap a handle in a `BufWriter` or `LineWriter` where many small
//! pieces are written. Writes are made in the order in which they are asked for; what is longer than 4096 bytes may be
//! interleaved with that of others. A write that was abandoned may still happen, before all later ones.
//! What std's `println!` writes passes through a buffer of std's.

use crate::critical::{self, Locked};
use crate::offload;
use crate::pool::{Limits, Pool};
use crate::scheduler::{current, park};
use crate::sync::{Mutex, MutexGuard};
use crate::sys::{file, socket};
use crate::thread::block::BlockedOn;
use std::fmt::{self, Arguments};
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Bytes asked for at a time, as by std.
const READ_BYTES: usize = 8 * 1024;
/// The most that one write takes: more is left for the next call.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// How long an OS thread stays without work.
const IDLE: Duration = Duration::from_secs(10);

static INPUT: Input = Input {
    buffer: Mutex::new(Buffer { bytes: Vec::new(), consumed: 0 }),
    arrived: std::sync::Mutex::new(None),
    pool: LazyLock::new(|| one_thread("bast-stdin")),
};

static OUTPUT: Output = Output {
    is_error: false,
    cannot_tell: AtomicBool::new(false),
    pool: LazyLock::new(|| one_thread("bast-stdout")),
};

static ERROR: Output = Output {
    is_error: true,
    cannot_tell: AtomicBool::new(false),
    pool: LazyLock::new(|| one_thread("bast-stderr")),
};

type OnePool = LazyLock<Arc<Pool>>;

/// A pool of one thread: what it is given it does in order.
fn one_thread(name: &'static str) -> Arc<Pool> {
    Pool::new(Limits { name, is_shared: false, threads_max: 1, idle: IDLE })
}

/// The pool, made without a switch in between: the next thread of the core would wait for it, and with it the core.
fn made(pool: &'static OnePool) -> &'static Arc<Pool> {
    match current::thread() {
        Some((capability, _)) => capability.no_park(|| &**pool),
        None => pool,
    }
}

/// Makes a call on a descriptor that somebody else may have made non-blocking, until it gives an answer. For OS threads
/// of the pools.
fn insist<T>(fd: BorrowedFd<'_>, writes: bool, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => match socket::poll(fd, writes, None) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            },
            done => return done,
        }
    }
}

struct Input {
    buffer: Mutex<Buffer>,
    /// What the last read brought, until a reader takes it.
    arrived: std::sync::Mutex<Option<io::Result<Vec<u8>>>>,
    pool: OnePool,
}

#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    consumed: usize,
}

impl Input {
    /// Waits for bytes, or the end. Who calls it has the buffer, so there is one caller at a time; but a read that an
    /// earlier one has abandoned may be under way still. Then the new job waits behind it and finds its bytes.
    fn next(&'static self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(arrived) = self.arrived().take() {
                return arrived;
            }
            let read = || {
                if self.arrived().is_none() {
                    let mut bytes = vec![0; READ_BYTES];
                    let stdin = io::stdin();
                    let read =
                        insist(stdin.as_fd(), false, || file::read(stdin.as_fd(), &mut bytes)).map(|count| {
                            bytes.truncate(count);
                            bytes
                        });
                    *self.arrived() = Some(read);
                }
            };
            offload::attempt_on(made(&self.pool), BlockedOn::Read(io::stdin().as_raw_fd()), None, read)?;
        }
    }

    fn arrived(&self) -> Locked<'_, Option<io::Result<Vec<u8>>>> {
        critical::lock(&self.arrived)
    }
}

/// A handle of standard input, in the manner of `std::io::Stdin`.
///
/// Reading is an interruptible point; a reader that is killed takes no bytes with it. On a plain OS thread it blocks
/// that thread.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stdin;

/// Standard input, locked: other readers wait.
pub struct StdinLock {
    buffer: MutexGuard<'static, Buffer>,
}

/// Standard input.
///
/// ```no_run
/// bast::run(|| {
///     for line in bast::stdio::stdin().lines() {
///         println!("{}", line.unwrap().to_uppercase());
///     }
/// });
/// ```
pub fn stdin() -> Stdin {
    Stdin
}

impl Stdin {
    /// Waits until nobody else reads, and keeps the others waiting until the lock is dropped.
    pub fn lock(&self) -> StdinLock {
        StdinLock { buffer: INPUT.buffer.lock() }
    }

    /// Appends the next line, with its end; returns its length in bytes, 0 at the end of the input.
    ///
    /// If a thread is killed while it waits for the end of a line, what it had read of the line goes with it.
    ///
    /// # Errors
    /// Those of read(2); `InvalidData` if the line is not UTF-8; the OS thread cannot be started.
    pub fn read_line(&self, line: &mut String) -> io::Result<usize> {
        self.lock().read_line(line)
    }

    /// One line after another, without their ends.
    pub fn lines(self) -> io::Lines<StdinLock> {
        self.lock().lines()
    }
}

impl Read for Stdin {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.lock().read(buf)
    }
}

impl Read for &Stdin {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.lock().read(buf)
    }
}

impl Read for StdinLock {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buf)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for StdinLock {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        park::interruption_point();
        let buffer = &mut *self.buffer;
        if buffer.consumed == buffer.bytes.len() {
            let bytes = INPUT.next()?;
            *buffer = Buffer { bytes, consumed: 0 };
        }
        Ok(&buffer.bytes[buffer.consumed..])
    }

    fn consume(&mut self, count: usize) {
        let buffer = &mut *self.buffer;
        buffer.consumed = (buffer.consumed + count).min(buffer.bytes.len());
    }
}

impl fmt::Debug for StdinLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdinLock").finish_non_exhaustive()
    }
}

impl AsRawFd for Stdin {
    fn as_raw_fd(&self) -> RawFd {
        io::stdin().as_raw_fd()
    }
}

struct Output {
    is_error: bool,
    /// Whether a write would wait cannot be found out.
    cannot_tell: AtomicBool,
    pool: OnePool,
}

impl Output {
    fn with_fd<T>(&self, call: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        if self.is_error { call(io::stderr().as_fd()) } else { call(io::stdout().as_fd()) }
    }

    fn write(&'static self, bytes: &[u8]) -> io::Result<usize> {
        park::interruption_point();
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
        let pool = made(&self.pool);
        // Not ahead of a write that was abandoned and has not been made yet.
        if !self.cannot_tell.load(Ordering::Relaxed) && pool.is_quiet() {
            match self.with_fd(|fd| file::write_now(fd, bytes)) {
                Ok(count) => return Ok(count),
                Err(error) if file::never_without_waiting(&error) => {
                    self.cannot_tell.store(true, Ordering::Relaxed);
                }
                // Whatever else it is, the call that may wait says it again.
                Err(_) => {}
            }
        }
        let bytes = bytes.to_owned();
        let write = move || self.with_fd(|fd| insist(fd, true, || file::write(fd, &bytes)));
        let reason = BlockedOn::Write(self.with_fd(|fd| fd.as_raw_fd()));
        offload::attempt_on(pool, reason, None, write)?.expect("a wait without a deadline is not cut short")
    }

    /// Formats first, so that what is written in one piece stays in one.
    fn write_fmt(&'static self, arguments: Arguments<'_>) -> io::Result<()> {
        let mut text = String::new();
        fmt::write(&mut text, arguments).map_err(|_| io::Error::other("a value could not be formatted"))?;
        let mut left = text.as_bytes();
        while !left.is_empty() {
            match self.write(left)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                count => left = &left[count..],
            }
        }
        Ok(())
    }
}

/// Standard output.
pub fn stdout() -> Stdout {
    Stdout
}

/// Standard error.
pub fn stderr() -> Stderr {
    Stderr
}

/// Defines the handle of an output.
macro_rules! handle {
    ($(#[$doc:meta])* $name:ident, $output:ident, $std:path) => {
        $(#[$doc])*
        ///
        /// Writing is an interruptible point; a write whose thread was killed may still happen. On a plain OS thread it
        /// blocks that thread.
        #[derive(Debug)]
        #[non_exhaustive]
        pub struct $name;

        impl Write for $name {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                $output.write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }

            fn write_fmt(&mut self, arguments: Arguments<'_>) -> io::Result<()> {
                $output.write_fmt(arguments)
            }
        }

        impl Write for &$name {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                $output.write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }

            fn write_fmt(&mut self, arguments: Arguments<'_>) -> io::Result<()> {
                $output.write_fmt(arguments)
            }
        }

        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                $std().as_raw_fd()
            }
        }
    };
}

handle! {
    /// A handle of standard output, in the manner of `std::io::Stdout`, but without a buffer.
    Stdout, OUTPUT, io::stdout
}
handle! {
    /// A handle of standard error, in the manner of `std::io::Stderr`.
    Stderr, ERROR, io::stderr
}
