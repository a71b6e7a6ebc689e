#![forbid(unsafe_code)]
//! A running child and the wait for its end.

use super::orphans;
use super::pipe::{ChildStderr, ChildStdin, ChildStdout, Output as _};
use crate::io_manager::{Direction, Source};
use crate::net::{Announced, Operation, read_now, readable_any, retry};
use crate::sys::{pidfd, pipe};
use crate::thread::block::BlockedOn;
use std::fmt;
use std::io;
use std::process::{self, ExitStatus, Output};

/// A child process, in the manner of `std::process::Child`.
///
/// Dropping it neither waits nor kills, unless [`kill_on_drop`](super::Command::kill_on_drop) was set; it leaves no zombie
/// for ever (see [the module](super)).
pub struct Child {
    /// Where to write the child's standard input, if it is piped and was not taken.
    pub stdin: Option<ChildStdin>,
    /// The child's standard output, if it is piped and was not taken.
    pub stdout: Option<ChildStdout>,
    /// The child's standard error, if it is piped and was not taken.
    pub stderr: Option<ChildStderr>,
    /// `None` only while it is being dropped.
    inner: Option<process::Child>,
    /// What becomes readable at its end, made by the first wait.
    pidfd: Option<Source>,
    status: Option<ExitStatus>,
    kill_on_drop: bool,
}

/// Room made for a read of a child's output.
const READ_BYTES: usize = 8 << 10;

impl Child {
    pub(super) fn new(mut inner: process::Child, kill_on_drop: bool) -> io::Result<Child> {
        let (stdin, stdout, stderr) = (inner.stdin.take(), inner.stdout.take(), inner.stderr.take());
        let mut child = Child {
            stdin: None,
            stdout: None,
            stderr: None,
            inner: Some(inner),
            pidfd: None,
            status: None,
            kill_on_drop,
        };
        child.stdin = stdin.map(ChildStdin::adopt).transpose()?;
        child.stdout = stdout.map(ChildStdout::adopt).transpose()?;
        child.stderr = stderr.map(ChildStderr::adopt).transpose()?;
        Ok(child)
    }

    fn inner(&mut self) -> &mut process::Child {
        self.inner.as_mut().expect("process: a child that was not dropped")
    }

    /// The process's id. It may be another process's once this one was waited for.
    pub fn id(&self) -> u32 {
        self.inner.as_ref().expect("process: a child that was not dropped").id()
    }

    /// Ends the process by SIGKILL. It has to be waited for as any other. One that has ended is no error.
    ///
    /// # Errors
    /// Those of kill(2).
    pub fn kill(&mut self) -> io::Result<()> {
        if self.status.is_some() { Ok(()) } else { self.inner().kill() }
    }

    /// The exit status, if the process has ended. Never parks.
    ///
    /// # Errors
    /// `ECHILD` if somebody else has reaped it.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.inner().try_wait()?;
        }
        Ok(self.status)
    }

    /// Waits for the end of the process. Its standard input is closed first, if it was not taken: else a child that reads
    /// to the end and we would wait for each other.
    ///
    /// # Errors
    /// `ECHILD` if somebody else has reaped it; those of pidfd_open(2): `Unsupported` before Linux 5.3, where
    /// [`try_wait`](Child::try_wait) still works.
    ///
    /// # Cancellation
    /// Interruptible: if the caller is killed the process runs on, and may be waited for again.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        orphans::reap();
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        if self.pidfd.is_none() {
            // Nobody has reaped the process, so the number is still its own.
            self.pidfd = Some(Source::new(pidfd::open(self.id()).map_err(explain)?));
        }
        let child = self.inner.as_mut().expect("process: a child that was not dropped");
        let operation = Operation {
            direction: Direction::Read,
            reason: |_| BlockedOn::Process,
            limit: None,
            exclusive: true,
            announced: Announced::ByEvent,
        };
        let pidfd = self.pidfd.as_ref().expect("process: it was just made");
        let end = |_: std::os::fd::BorrowedFd<'_>| child.try_wait()?.ok_or(io::ErrorKind::WouldBlock.into());
        let status = retry(pidfd, operation, end, |_| false)?;
        self.status = Some(status);
        self.pidfd = None;
        Ok(status)
    }

    /// Waits for the end of the process, and collects meanwhile what it writes to those of its standard output and error
    /// that are piped and were not taken.
    ///
    /// # Errors
    /// Those of reading, and of [`wait`](Child::wait).
    ///
    /// # Cancellation
    /// Interruptible: if the caller is killed, what was collected is lost, and the process is dropped.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut open: Vec<(&Source, &mut Vec<u8>)> = Vec::new();
        open.extend(stdout.as_ref().map(|end| (end.source(), &mut out)));
        open.extend(stderr.as_ref().map(|end| (end.source(), &mut err)));
        while !open.is_empty() {
            let mut failure = None;
            open.retain_mut(|(source, bytes)| {
                collect(source, bytes).unwrap_or_else(|error| {
                    failure = Some(error);
                    false
                })
            });
            if let Some(error) = failure {
                return Err(error);
            }
            if !open.is_empty() {
                readable_any(&open.iter().map(|(source, _)| *source).collect::<Vec<_>>())?;
            }
        }
        let status = self.wait()?;
        Ok(Output { status, stdout: out, stderr: err })
    }
}

/// Reads what is there; false at the end.
fn collect(source: &Source, bytes: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let start = bytes.len();
        bytes.resize(start + READ_BYTES, 0);
        let read = read_now(source, |fd| pipe::read(fd, &mut bytes[start..]));
        bytes.truncate(start + read.as_ref().map_or(0, |count| count.unwrap_or(0)));
        match read? {
            None => return Ok(true),
            Some(0) => return Ok(false),
            // One that writes without end must not keep the core from others.
            Some(_) => crate::scheduler::park::interruption_point(),
        }
    }
}

fn explain(error: io::Error) -> io::Error {
    if pidfd::is_missing(&error) {
        let text = format!("waiting for a process needs pidfd_open(2), Linux 5.3: {error}");
        return io::Error::new(io::ErrorKind::Unsupported, text);
    }
    error
}

impl Drop for Child {
    fn drop(&mut self) {
        let Some(mut child) = self.inner.take() else { return };
        if self.status.is_some() {
            return;
        }
        if self.kill_on_drop {
            // It may have ended by itself, and been reaped by somebody else.
            let _ = child.kill();
        }
        orphans::adopt(child);
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("id", &self.id()).field("status", &self.status).finish_non_exhaustive()
    }
}
