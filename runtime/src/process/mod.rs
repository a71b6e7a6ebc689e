#![forbid(unsafe_code)]
//! Child processes in the manner of `std::process`: waiting for them, and for their pipes, parks the calling green thread
//! only.
//!
//! ```
//! use bast::process::Command;
//!
//! # fn main() -> std::io::Result<()> {
//! let output = bast::run(|| Command::new("echo").arg("hello").output())?;
//! assert!(output.status.success());
//! assert_eq!(output.stdout, b"hello\n");
//! # Ok(())
//! # }
//! ```
//!
//! # What waits how
//! - **Starting** a process holds the caller's core until the child has reached its program (some hundred microseconds; longer
//!   where the memory of a large process has to be copied, because `pre_exec`, `uid` or the like rule out `posix_spawn`).
//!   So does std's, whose code does it.
//! - **The end** of a process is awaited by a pidfd (pidfd_open(2), Linux 5.3): no SIGCHLD handler is installed or needed,
//!   and one that the program has is not disturbed. Somebody who reaps *all* children (`waitpid(-1)`, or SIGCHLD ignored)
//!   takes the exit status away: then `wait` fails with `ECHILD`.
//! - **Pipes** are non-blocking at this end only; the child's is what it would be with std.
//!
//! # Children that nobody waits for
//! As with std a [`Child`] that is dropped runs on. Unlike std's it leaves no zombie for ever: it is put on a list, and
//! what has ended on that list is reaped whenever a process is started, waited for or dropped. So a thread that is
//! killed while it waits costs nothing but the process itself, and [`Command::kill_on_drop`] ends that, too.

mod child;
mod command;
mod orphans;
mod pipe;

pub use child::Child;
pub use command::Command;
pub use pipe::{ChildStderr, ChildStdin, ChildStdout};

#[doc(no_inline)]
pub use std::process::{ExitStatus, Output, Stdio};
