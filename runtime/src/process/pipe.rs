#![forbid(unsafe_code)]
//! Our ends of a child's pipes.

use crate::io_manager::{Direction, Source};
use crate::net::{Announced, Operation, retry};
use crate::sys::{pipe, socket};
use crate::thread::block::BlockedOn;
use std::fmt;
use std::io::{self, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{self, Stdio};

/// Makes our end non-blocking. It is an open file of its own: the child's end is not concerned.
fn adopt(fd: OwnedFd) -> io::Result<Source> {
    pipe::set_nonblocking(fd.as_fd(), true)?;
    Ok(Source::new(fd))
}

/// The way back, for another process or for std.
fn give_up(source: Source) -> OwnedFd {
    let fd = source.into_fd();
    pipe::set_nonblocking(fd.as_fd(), false).expect("pipe: an open descriptor has flags");
    fd
}

fn operation(direction: Direction, reason: fn(i32) -> BlockedOn) -> Operation {
    // Reading and writing need `&mut`, and there are no further handles.
    Operation { direction, reason, limit: None, exclusive: true, announced: Announced::ByEvent }
}

/// What the three ends have in common.
macro_rules! pipe_end {
    ($Type:ident, $std:ty) => {
        impl $Type {
            pub(super) fn adopt(end: $std) -> io::Result<$Type> {
                Ok($Type { source: adopt(end.into())? })
            }
        }

        impl AsFd for $Type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.source.as_fd()
            }
        }

        impl AsRawFd for $Type {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }

        impl From<$Type> for OwnedFd {
            /// The descriptor, which blocks again.
            fn from(end: $Type) -> OwnedFd {
                give_up(end.source)
            }
        }

        impl From<$Type> for Stdio {
            /// The pipe as another process's standard input or output.
            fn from(end: $Type) -> Stdio {
                OwnedFd::from(end).into()
            }
        }

        impl fmt::Debug for $Type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($Type)).field("fd", &self.as_raw_fd()).finish()
            }
        }
    };
}

/// Our end of a child's standard input. Dropping it lets the child read the end.
///
/// Writing parks the calling green thread while the pipe is full, and is interruptible. Once the child has closed its end
/// it is an error, `BrokenPipe`.
pub struct ChildStdin {
    source: Source,
}

/// Our end of a child's standard output.
///
/// Reading parks the calling green thread until there is something, and is interruptible.
pub struct ChildStdout {
    source: Source,
}

/// Our end of a child's standard error.
///
/// Reading parks the calling green thread until there is something, and is interruptible.
pub struct ChildStderr {
    source: Source,
}

pipe_end!(ChildStdin, process::ChildStdin);
pipe_end!(ChildStdout, process::ChildStdout);
pipe_end!(ChildStderr, process::ChildStderr);

impl Write for ChildStdin {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let operation = operation(Direction::Write, BlockedOn::Write);
        retry(&self.source, operation, |fd| pipe::write(fd, buffer), |_| false)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An end that is read.
pub(super) trait Output {
    fn source(&self) -> &Source;
}

macro_rules! output {
    ($Type:ident) => {
        impl Output for $Type {
            fn source(&self) -> &Source {
                &self.source
            }
        }

        impl Read for $Type {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let operation = operation(Direction::Read, BlockedOn::Read);
                retry(&self.source, operation, |fd| pipe::read(fd, buffer), |_| false)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                let operation = operation(Direction::Read, BlockedOn::Read);
                retry(&self.source, operation, |fd| socket::recv_vectored(fd, buffers), |_| false)
            }
        }
    };
}

output!(ChildStdout);
output!(ChildStderr);
