//! For tests of what belongs to a whole process (signals, resource limits, death): the body of a test runs in a child.
//!
//! The child is this test binary again, asked for the one test, with a variable in its environment that says which of
//! the test's bodies to run.
#![forbid(unsafe_code)]

use core::panic::Location;
use std::process::{self, Command, Output};
use std::sync::mpsc;
use std::time::Duration;
use std::{any, env, thread};

/// Set in the child, to the place of the body.
const VARIABLE: &str = "BAST_TEST_CHILD";

/// The exit code of a body that returned. Not 0: a test binary that finds no such test exits with 0, too.
const RETURNED: i32 = 42;

/// Longest time that a child may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `body`, a closure written in the test itself, in a process of its own and returns how that ended.
///
/// A test with several bodies passes through the earlier ones on the way to its own, in further children.
#[track_caller]
pub(crate) fn run(body: impl FnOnce()) -> Output {
    let path = any::type_name_of_val(&body); // "bast::sys::tests::name::{{closure}}"
    let test =
        path.split_once("::").and_then(|(_, rest)| rest.rsplit_once("::")).expect("child: a test's path").0;
    let place = Location::caller().to_string();
    if env::var(VARIABLE).is_ok_and(|wanted| wanted == place) {
        // It must have started before the body runs: the body may leave no memory to start anything.
        let (started, watched) = mpsc::channel();
        thread::spawn(move || {
            started.send(()).expect("child: the body waits");
            thread::sleep(DEADLINE);
            eprintln!("the test did not end in {DEADLINE:?}");
            process::exit(1);
        });
        watched.recv().expect("child: the watchdog starts");
        body();
        process::exit(RETURNED);
    }
    let binary = env::current_exe().expect("child: the test binary has a path");
    Command::new(binary)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, place)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("child: the test binary runs")
}

/// Runs `body` in a process of its own, in which it must succeed.
#[track_caller]
pub(crate) fn succeeds(body: impl FnOnce()) {
    let output = run(body);
    assert!(output.status.code() == Some(RETURNED), "{}\n{}", output.status, stderr(&output));
}

/// What a child wrote to standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
