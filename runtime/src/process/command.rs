#![forbid(unsafe_code)]
//! What to run, and how.

use super::{Child, orphans};
use crate::scheduler::park;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{self, CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};

/// A process to start, in the manner of `std::process::Command`.
///
/// What is not here (`pre_exec`, `uid`, `process_group`) can be set on std's, which becomes one of these by `From`. Its
/// standard streams are then taken to be as they are by default: set them here.
pub struct Command {
    inner: process::Command,
    /// Which of input, output and error were set, else they are what each way of starting wants.
    set: [bool; 3],
    kill_on_drop: bool,
}

impl Command {
    /// A command to run a program, looked up in PATH if the name has no slash.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        process::Command::new(program).into()
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Command {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Command {
        self.inner.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Command {
        self.inner.env(key, value);
        self
    }

    /// Sets variables of the environment.
    pub fn envs(
        &mut self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> &mut Command {
        self.inner.envs(variables);
        self
    }

    /// Removes a variable of the environment.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Command {
        self.inner.env_remove(key);
        self
    }

    /// Starts with an empty environment.
    pub fn env_clear(&mut self) -> &mut Command {
        self.inner.env_clear();
        self
    }

    /// Sets the working directory.
    pub fn current_dir(&mut self, folder: impl AsRef<Path>) -> &mut Command {
        self.inner.current_dir(folder);
        self
    }

    /// Sets the standard input: ours by default, nothing for [`output`](Command::output).
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Command {
        self.inner.stdin(stdin);
        self.set[0] = true;
        self
    }

    /// Sets the standard output: ours by default, collected by [`output`](Command::output).
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Command {
        self.inner.stdout(stdout);
        self.set[1] = true;
        self
    }

    /// Sets the standard error: ours by default, collected by [`output`](Command::output).
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Command {
        self.inner.stderr(stderr);
        self.set[2] = true;
        self
    }

    /// Whether the process is killed when its [`Child`] is dropped before it was waited for; not so by default. With it a
    /// timeout or a kill of the thread that waits in [`output`](Command::output) ends the process, too.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Command {
        self.kill_on_drop = kill;
        self
    }

    /// Starts the process.
    ///
    /// Holds the caller's core until the child has reached its program. An interruptible point before that.
    ///
    /// # Errors
    /// As std's: `NotFound` if there is no such program.
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.start([Stdio::inherit, Stdio::inherit, Stdio::inherit])
    }

    /// Starts the process and waits for its end.
    ///
    /// # Errors
    /// Those of [`spawn`](Command::spawn) and [`Child::wait`].
    ///
    /// # Cancellation
    /// As [`Child::wait`]; the process runs on, but for [`kill_on_drop`](Command::kill_on_drop).
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// Starts the process, waits for its end and collects what it writes.
    ///
    /// # Errors
    /// Those of [`spawn`](Command::spawn) and [`Child::wait_with_output`].
    ///
    /// # Cancellation
    /// As [`status`](Command::status).
    pub fn output(&mut self) -> io::Result<Output> {
        self.start([Stdio::null, Stdio::piped, Stdio::piped])?.wait_with_output()
    }

    fn start(&mut self, defaults: [fn() -> Stdio; 3]) -> io::Result<Child> {
        park::interruption_point();
        orphans::reap();
        let [stdin, stdout, stderr] = defaults;
        if !self.set[0] {
            self.inner.stdin(stdin());
        }
        if !self.set[1] {
            self.inner.stdout(stdout());
        }
        if !self.set[2] {
            self.inner.stderr(stderr());
        }
        Child::new(self.inner.spawn()?, self.kill_on_drop)
    }

    /// The program.
    pub fn get_program(&self) -> &OsStr {
        self.inner.get_program()
    }

    /// The arguments, without the program.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.inner.get_args()
    }

    /// The variables that are set and removed (`None`).
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.inner.get_envs()
    }

    /// The working directory, if one was set.
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.inner.get_current_dir()
    }
}

impl From<process::Command> for Command {
    fn from(inner: process::Command) -> Command {
        Command { inner, set: [false; 3], kill_on_drop: false }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
