//! Child processes: pipes and ends are waited for by green threads, and nothing is left behind.

use bast::BlockedOn;
use bast::process::{Child, Command, Stdio};
use bast_tests::{child, deadline, on_capabilities, spawn_on, sys, until, until_blocked};
use std::io::{ErrorKind, IoSliceMut, Read, Write};
use std::os::unix::process::ExitStatusExt;

const SIGKILL: i32 = 9;

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

/// A child that runs until its standard input ends.
fn cat() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn waits(what: BlockedOn) -> bool {
    what == BlockedOn::Process
}

/// The state of a process as in proc(5); `None`: there is no such process.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

#[test]
fn output_and_status_of_a_process_are_collected() {
    on_capabilities(1, || {
        let output = shell("echo out; echo err >&2; exit 3").output().unwrap();
        assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(shell("exit 7").status().unwrap().code(), Some(7));
        assert_eq!(Command::new("/no/such/program").status().unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn much_output_in_both_streams_blocks_nobody() {
    // More than a pipe holds, first in the one and then in the other: whoever reads one to its end first hangs.
    on_capabilities(1, || {
        let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; echo end";
        let output = shell(script).output().unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_004, 300_000));
        let script = "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero; echo end >&2";
        let output = shell(script).output().unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 300_004));
    });
}

#[test]
fn what_output_collects_is_what_the_user_left_to_it() {
    on_capabilities(1, || {
        // No standard input by default, so that a child that reads it does not wait for a terminal.
        assert_eq!(Command::new("cat").output().unwrap().stdout, b"");
        let output = shell("echo out; echo err >&2").stderr(Stdio::null()).output().unwrap();
        assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b""[..]));
        let mut command = shell("echo $WORD; pwd");
        command.env("WORD", "word").current_dir("/");
        assert_eq!(command.output().unwrap().stdout, b"word\n/\n");
        assert_eq!(command.output().unwrap().stdout, b"word\n/\n", "a command can be run twice");
        let std_command = std::process::Command::new("true");
        assert!(Command::from(std_command).status().unwrap().success());
    });
}

#[test]
fn waiting_for_a_process_and_its_pipes_parks_one_thread_only() {
    for capabilities in [1, 2] {
        on_capabilities(capabilities, || {
            let mut child = cat();
            let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            let end = spawn_on(1, move || child.wait().unwrap());
            until_blocked(1, waits);
            let reader = spawn_on(1, move || {
                let mut text = [0; 6];
                stdout.read_exact(&mut text[..2]).unwrap();
                let more = stdout.read_vectored(&mut [IoSliceMut::new(&mut text[2..])]).unwrap();
                assert_eq!(more, 4);
                (text, stdout)
            });
            until_blocked(1, |what| matches!(what, BlockedOn::Read(_)));
            stdin.write_all(b"hello\n").unwrap();
            let (text, mut stdout) = reader.join().unwrap();
            assert_eq!(&text, b"hello\n");
            drop(stdin);
            assert!(end.join().unwrap().success());
            assert_eq!(stdout.read(&mut [0; 8]).unwrap(), 0);
        });
    }
}

#[test]
fn a_full_pipe_parks_the_writer_until_the_child_reads() {
    on_capabilities(1, || {
        let mut child =
            shell("read go; cat | wc -c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = bast::spawn(move || stdin.write_all(&[b'\n'; 1 << 20]));
        until_blocked(1, |what| matches!(what, BlockedOn::Write(_) | BlockedOn::Process));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), ((1 << 20) - 1).to_string());
    });
    on_capabilities(1, || {
        let mut child = shell("exec 0<&-; exec sleep 1000").stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = bast::spawn(move || stdin.write_all(&[0; 1 << 20]).unwrap_err().kind());
        assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
    });
}

#[test]
fn the_end_of_the_child_is_what_a_pipe_between_two_of_them_needs() {
    on_capabilities(1, || {
        let mut first = shell("echo one; echo two").stdout(Stdio::piped()).spawn().unwrap();
        let output = shell("wc -l; grep flags /proc/self/fdinfo/0")
            .stdin(first.stdout.take().unwrap())
            .output()
            .unwrap();
        assert!(first.wait().unwrap().success());
        let text = String::from_utf8(output.stdout).unwrap();
        let (lines, flags) = text.trim().split_once('\n').unwrap();
        assert_eq!(lines.trim(), "2");
        // Our end was non-blocking; who inherits it is not to know.
        let flags = u32::from_str_radix(flags.trim_start_matches("flags:").trim(), 8).unwrap();
        assert_eq!(flags & 0o4000, 0, "O_NONBLOCK: {flags:o}");
    });
}

#[test]
fn a_status_is_remembered_and_a_kill_of_one_that_is_over_is_no_error() {
    on_capabilities(1, || {
        let mut child = cat();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
        assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
        assert_eq!(child.try_wait().unwrap().unwrap().signal(), Some(SIGKILL));
        child.kill().unwrap();

        let mut child = cat();
        drop(child.stdin.take());
        until(|| child.id() != 0 && state(child.id()) == Some('Z'));
        assert!(child.try_wait().unwrap().unwrap().success());
    });
}

#[test]
fn many_processes_are_waited_for_at_once() {
    on_capabilities(2, || {
        let waiters: Vec<_> = (0..30)
            .map(|code| {
                spawn_on(code, move || {
                    let mut child =
                        shell(&format!("read go; exit {code}")).stdin(Stdio::piped()).spawn().unwrap();
                    let stdin = child.stdin.take().unwrap();
                    let closer = bast::spawn(move || drop(stdin));
                    let status = child.wait().unwrap();
                    closer.join().unwrap();
                    status.code()
                })
            })
            .collect();
        for (code, waiter) in waiters.into_iter().enumerate() {
            assert_eq!(waiter.join().unwrap(), Some(code as i32));
        }
    });
}

#[test]
fn a_killed_waiter_leaves_a_running_process_that_becomes_no_zombie() {
    on_capabilities(2, || {
        let mut child = cat();
        let (pid, stdin) = (child.id(), child.stdin.take());
        let waiter = spawn_on(1, move || drop(child.wait()));
        until_blocked(1, waits);
        waiter.thread().kill();
        assert!(waiter.join().unwrap_err().is_killed());
        // It may be reading its program from the disk still.
        assert!(matches!(state(pid), Some('R' | 'S' | 'D')), "it was dropped, and runs on");
        drop(stdin);
        until(|| matches!(state(pid), Some('Z') | None));
        // Whoever has to do with processes next.
        assert!(shell("true").status().unwrap().success());
        assert_eq!(state(pid), None);
    });
}

#[test]
fn a_wait_that_was_interrupted_can_be_made_again() {
    on_capabilities(1, || {
        let mut child = cat();
        let stdin = child.stdin.take();
        let child = std::sync::Arc::new(bast::sync::Mutex::new(child));
        let waiter = bast::spawn({
            let child = std::sync::Arc::clone(&child);
            move || drop(child.lock().wait())
        });
        until_blocked(1, waits);
        waiter.thread().kill();
        assert!(waiter.join().unwrap_err().is_killed());
        drop(stdin);
        assert!(child.lock().wait().unwrap().success());
    });
}

#[test]
fn a_process_that_is_to_die_with_its_child_handle_does() {
    on_capabilities(1, || {
        let child = cat();
        let pid = child.id();
        drop(child);
        let mut killed = shell("exec sleep 1000");
        let child = killed.kill_on_drop(true).spawn().unwrap();
        let killed_pid = child.id();
        let waiter = bast::spawn(move || drop(child.wait_with_output()));
        until_blocked(1, waits);
        waiter.thread().kill();
        assert!(waiter.join().unwrap_err().is_killed());
        // Both are gone without a further wait: the one by the end of its input, the other by the kill.
        for pid in [pid, killed_pid] {
            until(|| {
                let _ = shell("true").status().unwrap();
                state(pid).is_none()
            });
        }
    });
}

#[test]
fn a_thread_dies_while_it_collects_output() {
    on_capabilities(1, || {
        for script in ["exec sleep 1000", "while :; do echo more; done"] {
            let child = shell(script).kill_on_drop(true).stdout(Stdio::piped()).spawn().unwrap();
            let pid = child.id();
            let thread = bast::spawn(move || drop(child.wait_with_output()));
            until_blocked(1, |what| matches!(what, BlockedOn::Read(_)));
            thread.thread().kill();
            assert!(thread.join().unwrap_err().is_killed());
            until(|| {
                let _ = shell("true").status().unwrap();
                state(pid).is_none()
            });
        }
    });
}

#[test]
fn a_status_that_somebody_else_took_is_an_error_and_no_hang() {
    child::succeeds(|| {
        on_capabilities(1, || {
            sys::ignore_children();
            let mut child = cat();
            let stdin = child.stdin.take();
            let waiter = bast::spawn(move || child.wait().unwrap_err().raw_os_error());
            until_blocked(1, waits);
            drop(stdin);
            assert_eq!(waiter.join().unwrap(), Some(sys::ECHILD));
        });
    });
}

#[test]
fn plain_os_threads_run_processes_too() {
    deadline(|| {
        let output = shell("head -c 100000 /dev/zero; echo err >&2; exit 5").output().unwrap();
        assert_eq!((output.stdout.len(), &*output.stderr), (100_000, &b"err\n"[..]));
        assert_eq!(output.status.code(), Some(5));
        let mut child = cat();
        child.stdin.as_mut().unwrap().write_all(&[7; 1 << 15]).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, [7; 1 << 15]);
    });
}
