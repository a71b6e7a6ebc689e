//! For tests of what belongs to a whole process (its death, its limits, its use of the CPU): the body of a test runs
//! in a child, which is the test binary again, asked for that one test.

use std::env;
use std::panic::Location;
use std::process::{self, Child, Command, Output, Stdio};
use std::thread;

/// Set in the child, to the place of the body.
const VARIABLE: &str = "BAST_TEST_CHILD";

/// The exit code of a body that returned. Not 0: a test binary that finds no such test exits with 0, too.
pub const RETURNED: i32 = 42;

/// Runs `body` in a process of its own, under a [`deadline`](crate::deadline), and returns how that ended. To be
/// called by the test's own OS thread, whose name says which test it is.
#[track_caller]
pub fn run(body: impl FnOnce()) -> Output {
    run_with(&[], body)
}

/// The same with further variables in the environment of the child.
#[track_caller]
pub fn run_with(variables: &[(&str, &str)], body: impl FnOnce()) -> Output {
    command(variables, body).output().expect("child: the test binary runs")
}

/// Starts `body` in a process of its own, with pipes to its standard input and output and from its standard error.
#[track_caller]
pub fn start(body: impl FnOnce()) -> Child {
    let mut command = command(&[], body);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("child: the test binary runs")
}

/// In the child, runs `body` and ends; in the parent, returns how to start the child.
#[track_caller]
fn command(variables: &[(&str, &str)], body: impl FnOnce()) -> Command {
    let test = thread::current().name().expect("child: a test's OS thread has its name").to_owned();
    let place = Location::caller().to_string();
    if env::var(VARIABLE).is_ok_and(|wanted| wanted == place) {
        crate::deadline(body);
        process::exit(RETURNED);
    }
    let mut command = Command::new(env::current_exe().expect("child: the test binary has a path"));
    command
        .args([&*test, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, place)
        .env("RUST_BACKTRACE", "0")
        .envs(variables.iter().copied());
    command
}

/// Runs `body` in a process of its own, in which it must succeed.
#[track_caller]
pub fn succeeds(body: impl FnOnce()) {
    succeeds_with(&[], body);
}

/// The same with further variables in the environment of the child.
#[track_caller]
pub fn succeeds_with(variables: &[(&str, &str)], body: impl FnOnce()) {
    let output = run_with(variables, body);
    assert!(output.status.code() == Some(RETURNED), "{}\n{}", output.status, stderr(&output));
}

/// What a child wrote to standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
