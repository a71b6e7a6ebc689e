//! The example programs that show what threads do, run as their users run them.
#![forbid(unsafe_code)]

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Many times what any of these needs.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs a program to its end.
fn run(program: &str, argument: &str) -> Output {
    let child: Child = Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the program");
    let id = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(DEADLINE) {
        Ok(output) => output.expect("wait for the program"),
        Err(_) => {
            let _ = Command::new("kill").args(["-s", "KILL", &id.to_string()]).status();
            panic!("{program} {argument}: still running");
        }
    }
}

/// The runtime's own OS threads are the only ones in that process, so it is known that nothing can happen any more.
#[test]
fn a_program_in_which_nothing_can_happen_any_more_is_told_so() {
    let output = run(env!("CARGO_BIN_EXE_deadlock"), "forever");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    // The main thread, and the OS thread that waits for it in `run`.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Quiescence of 2 threads\n");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("deadlock: nothing is left that could wake any of 2 threads"), "{log}");
    assert!(log.contains("\"main\" (blocked on MVar)"), "{log}");
}

#[test]
fn mutexes_that_are_locked_crosswise_are_reported_with_the_names_of_both_threads() {
    let output = run(env!("CARGO_BIN_EXE_deadlock"), "cycle");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Cycle of 2 threads\n");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        log.contains("\"left\" waits for a mutex of") && log.contains("\"right\" waits for a mutex of"),
        "{log}"
    );
}

#[test]
fn the_event_log_example_writes_a_trace() {
    let path = std::env::temp_dir().join(format!("bast-trace-{}.json", std::process::id()));
    let output = run(env!("CARGO_BIN_EXE_event_log"), path.to_str().expect("a path in UTF-8"));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3000\n");
    let trace = fs::read_to_string(&path).expect("the trace");
    fs::remove_file(&path).expect("remove the trace");
    for part in ["\"traceEvents\":[", "producer 4", "item 24", "sum 3000"] {
        assert!(trace.contains(part), "{part}");
    }
}
