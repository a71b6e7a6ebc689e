//! Standard input and output: who waits for them holds neither a core nor the off-load pool, and loses no bytes.

use bast::stdio::{stderr, stdin, stdout};
use bast::{BlockedOn, Runtime};
use bast_tests::{child, deadline, until, until_blocked};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Starts a child whose body runs in a runtime of one capability; its standard input, and lines of its standard error.
#[track_caller]
fn child(body: impl FnOnce() + Send + 'static) -> (Child, ChildStdin, impl Iterator<Item = String>) {
    let mut child = child::start(|| {
        Runtime::builder().capabilities(1).offload_threads(1).build().unwrap().run(body);
    });
    let input = child.stdin.take().unwrap();
    let errors = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    (child, input, errors)
}

fn succeeded(child: Child, errors: impl Iterator<Item = String>) -> String {
    let errors: Vec<_> = errors.collect();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(child::RETURNED), "{errors:#?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Says something to the parent.
fn tell(what: &str) {
    writeln!(stderr(), "{what}").unwrap();
}

/// Waits until the child says it.
fn hear(errors: &mut impl Iterator<Item = String>, what: &str) {
    let mut heard = Vec::new();
    for line in errors {
        if line == what {
            return;
        }
        heard.push(line);
    }
    panic!("{what} was not said, but {heard:#?}");
}

/// Whether the descriptor is non-blocking, for all who share it.
fn is_nonblocking(fd: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    u32::from_str_radix(flags.trim(), 8).unwrap() & 0o4000 != 0
}

/// Counts turns of the core's other threads for a while.
fn neighbours_run() {
    let turns = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let turns = Arc::clone(&turns);
            bast::spawn(move || {
                for _ in 0..5 {
                    bast::sleep(Duration::from_millis(1));
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(turns.load(Ordering::Relaxed), 20);
}

#[test]
fn lines_come_as_they_are_typed_and_the_input_ends() {
    deadline(|| {
        let (child, mut input, mut errors) = child(|| {
            let mut line = String::new();
            assert_eq!(stdin().read_line(&mut line).unwrap(), 6);
            assert_eq!(line, "first\n");
            tell("got the first");
            let rest: Vec<_> = stdin().lines().map(Result::unwrap).collect();
            assert_eq!(rest, ["second", "third"]);
            assert_eq!(stdin().read(&mut [0; 8]).unwrap(), 0, "the end stays");
            assert!(!is_nonblocking(0));
        });
        input.write_all(b"fir").unwrap();
        input.write_all(b"st\nsec").unwrap();
        hear(&mut errors, "got the first");
        input.write_all(b"ond\nthird").unwrap();
        drop(input);
        succeeded(child, errors);
    });
}

#[test]
fn a_reader_holds_neither_the_core_nor_the_pool() {
    deadline(|| {
        let (child, mut input, mut errors) = child(|| {
            let reader = bast::spawn(|| {
                let mut line = String::new();
                stdin().read_line(&mut line).unwrap();
                line
            });
            until_blocked(1, |what| what == BlockedOn::Read(0));
            neighbours_run();
            assert_eq!(bast::offload(|| 1), 1, "with a pool of one thread");
            assert!(!reader.is_finished());
            tell("nothing yet");
            assert_eq!(reader.join().unwrap(), "a line\n");
        });
        hear(&mut errors, "nothing yet");
        input.write_all(b"a line\n").unwrap();
        succeeded(child, errors);
    });
}

#[test]
fn what_comes_for_a_reader_that_was_killed_is_the_next_readers() {
    deadline(|| {
        let (child, mut input, mut errors) = child(|| {
            for number in 0..3 {
                let reader = bast::spawn(|| stdin().read(&mut [0; 64]));
                until_blocked(1, |what| what == BlockedOn::Read(0));
                reader.thread().kill();
                assert!(reader.join().unwrap_err().is_killed(), "{number}");
            }
            // A reader is there already when the bytes come, and another waits behind it.
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    bast::spawn(|| {
                        let mut line = String::new();
                        stdin().read_line(&mut line).unwrap();
                        line
                    })
                })
                .collect();
            until_blocked(1, |what| what == BlockedOn::Read(0));
            until_blocked(1, |what| what == BlockedOn::Mutex);
            tell("three are dead");
            let lines: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
            assert_eq!(lines, ["one\n", "two\n"]);
            // And one that is killed with bytes in the buffer leaves them there.
            tell("send more");
            let mut lock = stdin().lock();
            let seen = lock.fill_buf().unwrap().len();
            drop(lock);
            let mut rest = vec![0; seen];
            stdin().read_exact(&mut rest).unwrap();
            assert!(b"three\n".starts_with(&rest));
        });
        hear(&mut errors, "three are dead");
        input.write_all(b"one\ntwo\n").unwrap();
        hear(&mut errors, "send more");
        input.write_all(b"three\n").unwrap();
        succeeded(child, errors);
    });
}

#[test]
fn a_plain_os_thread_reads_and_writes_too() {
    deadline(|| {
        let (child, mut input, errors) = child(|| {
            // The test's own way to an OS thread that is none of the runtime's.
            let os_thread = thread::spawn(|| {
                let mut text = String::new();
                stdin().read_to_string(&mut text).unwrap();
                write!(stdout(), "<{text}>").unwrap();
            });
            until(|| os_thread.is_finished());
            os_thread.join().unwrap();
        });
        input.write_all(b"text").unwrap();
        drop(input);
        assert!(succeeded(child, errors).contains("<text>"));
    });
}

#[test]
fn a_writer_to_a_full_pipe_holds_neither_the_core_nor_the_pool() {
    deadline(|| {
        let (mut child, _input, mut errors) = child(|| {
            let writer = bast::spawn(|| {
                for number in 0..100_000 {
                    writeln!(stdout(), "line {number}").unwrap();
                }
            });
            until_blocked(1, |what| what == BlockedOn::Write(1));
            neighbours_run();
            assert_eq!(bast::offload(|| 1), 1);
            assert!(!writer.is_finished());
            tell("full");
            writer.join().unwrap();
            assert!(!is_nonblocking(1));
        });
        hear(&mut errors, "full");
        let output = child.stdout.take().unwrap();
        let mut lines = BufReader::new(output).lines().map(Result::unwrap);
        // After what the test harness says.
        let first = lines.by_ref().find(|line| line.ends_with("line 0")).unwrap();
        assert!(first.ends_with("line 0"));
        for number in 1..100_000 {
            assert_eq!(lines.next().unwrap(), format!("line {number}"));
        }
        succeeded(child, errors);
    });
}

#[test]
fn a_write_that_was_abandoned_happens_before_later_ones_or_not_at_all() {
    deadline(|| {
        let (mut child, _input, mut errors) = child(|| {
            let piece = |number: u8| [number; 4096];
            let writer = bast::spawn(move || {
                for number in 1.. {
                    stdout().write_all(&piece(number)).unwrap();
                }
            });
            until_blocked(1, |what| what == BlockedOn::Write(1));
            // One in the kernel; this one is behind it in the queue.
            let queued = bast::spawn(move || stdout().write_all(&piece(201)).unwrap());
            until_blocked(2, |what| what == BlockedOn::Write(1));
            for thread in [writer, queued] {
                thread.thread().kill();
                assert!(thread.join().unwrap_err().is_killed());
            }
            tell("killed");
            stdout().write_all(&piece(202)).unwrap();
        });
        hear(&mut errors, "killed");
        let mut output = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
        let begin = output.iter().position(|&byte| byte == 1).unwrap();
        let mut pieces: Vec<u8> = output[begin..].to_vec();
        pieces.dedup();
        assert_eq!(pieces.pop(), Some(202), "the last is the last");
        // The two that were abandoned may be missing; what is there is in order.
        assert!(pieces.is_sorted_by(|one, next| one < next), "{pieces:?}");
        assert_eq!(output[output.len() - 4096..], [202; 4096]);
        succeeded(child, errors);
    });
}
