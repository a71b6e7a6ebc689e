//! Signals are received like messages. Each test runs in a process of its own, to which it sends real signals.
#![forbid(unsafe_code)]

use bast::process::{Command, Stdio};
use bast::signal::{Signal, Signals, ctrl_c};
use bast::sync::channel;
use bast::{BlockedOn, Runtime};
use bast_server::middleware::{AccessLog, LogFile};
use bast_server::{Handler, Request, Server, Settings};
use bast_tests::{child, on_capabilities, spawn_on, sys, until_blocked};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);

fn waits(what: BlockedOn) -> bool {
    what == BlockedOn::Signal
}

fn raise(signal: Signal) {
    sys::raise(signal.number());
}

#[test]
fn signals_are_received_one_after_another_until_the_receiver_is_closed() {
    child::succeeds(|| {
        for capabilities in [1, 2] {
            on_capabilities(capabilities, || {
                let signals = Arc::new(Signals::new([Signal::User1, Signal::User2]).unwrap());
                let (tx, rx) = channel(0);
                let thread = spawn_on(1, {
                    let signals = Arc::clone(&signals);
                    move || {
                        for signal in &*signals {
                            tx.send(signal).unwrap();
                        }
                    }
                });
                for signal in [Signal::User1, Signal::User1, Signal::User2, Signal::User1] {
                    until_blocked(1, waits);
                    raise(signal);
                    assert_eq!(rx.recv().unwrap(), signal);
                }
                until_blocked(1, waits);
                signals.close();
                thread.join().unwrap();
                assert!(rx.recv().is_err());
            });
        }
    });
}

#[test]
fn each_kind_of_signal_can_be_received() {
    child::succeeds(|| {
        on_capabilities(1, || {
            let all = [
                Signal::Interrupt,
                Signal::Terminate,
                Signal::HangUp,
                Signal::Quit,
                Signal::User1,
                Signal::User2,
                Signal::Child,
                Signal::WindowChange,
            ];
            let signals = Signals::new(all).unwrap();
            for signal in all {
                raise(signal);
                assert_eq!(signals.wait().unwrap(), signal);
            }
            assert_eq!(signals.try_wait(), None);
        });
    });
}

#[test]
fn signals_that_are_pending_together_are_handled_one_after_another() {
    // Nested, their frames would not fit on a signal stack of the usual size.
    child::succeeds(|| {
        on_capabilities(1, || {
            let all = [
                Signal::HangUp,
                Signal::Interrupt,
                Signal::Quit,
                Signal::User1,
                Signal::User2,
                Signal::Terminate,
                Signal::Child,
                Signal::WindowChange,
            ];
            let signals = Signals::new(all).unwrap();
            sys::raise_together(&all.map(Signal::number));
            assert!(all.iter().all(|&signal| signals.wait().unwrap() == signal));
        });
    });
}

#[test]
fn every_receiver_gets_a_signal_and_one_that_is_gone_does_not() {
    child::succeeds(|| {
        on_capabilities(2, || {
            let receivers: Vec<_> = (0..3).map(|_| Signals::new([Signal::User1]).unwrap()).collect();
            let other = Signals::new([Signal::User2]).unwrap();
            raise(Signal::User1);
            for receiver in &receivers {
                assert_eq!(receiver.wait().unwrap(), Signal::User1);
            }
            drop(receivers);
            // Nobody wants it any more, and it does not end the process.
            raise(Signal::User1);
            assert_eq!(other.wait_timeout(SHORT).unwrap(), None);
            // A receiver that takes a former one's place begins with nothing.
            let receiver = Signals::new([Signal::User1]).unwrap();
            assert_eq!(receiver.try_wait(), None);
        });
    });
}

#[test]
fn there_are_sixteen_receivers_at_a_time() {
    child::succeeds(|| {
        on_capabilities(1, || {
            let mut receivers: Vec<_> = (0..16).map(|_| Signals::new([Signal::User1]).unwrap()).collect();
            assert!(Signals::new([Signal::User1]).unwrap_err().to_string().contains("16"));
            receivers.pop();
            receivers.push(Signals::new([Signal::User1]).unwrap());
            raise(Signal::User1);
            assert!(receivers.iter().all(|receiver| receiver.wait().unwrap() == Signal::User1));
        });
    });
}

#[test]
fn two_signals_at_once_are_for_two_threads_at_one_receiver() {
    // Both come before one look at the eventfd, which is empty after the first thread's: the second must not wait for it.
    child::succeeds(|| {
        on_capabilities(1, || {
            let signals = Arc::new(Signals::new([Signal::User1, Signal::User2]).unwrap());
            for _ in 0..100 {
                let threads: Vec<_> = (0..2)
                    .map(|_| {
                        let signals = Arc::clone(&signals);
                        bast::spawn(move || signals.wait().unwrap())
                    })
                    .collect();
                until_blocked(1, waits);
                until_blocked(1, |what| matches!(what, BlockedOn::Direction(_)));
                raise(Signal::User1);
                raise(Signal::User2);
                let got: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
                assert!(got.contains(&Signal::User1) && got.contains(&Signal::User2), "{got:?}");
            }
        });
    });
}

#[test]
fn a_killed_waiter_takes_no_signal_with_it() {
    child::succeeds(|| {
        on_capabilities(2, || {
            let signals = Arc::new(Signals::new([Signal::User1]).unwrap());
            let waiter = spawn_on(1, {
                let signals = Arc::clone(&signals);
                move || drop(signals.wait())
            });
            until_blocked(1, waits);
            waiter.thread().kill();
            assert!(waiter.join().unwrap_err().is_killed());
            raise(Signal::User1);
            assert_eq!(signals.wait().unwrap(), Signal::User1);
        });
    });
}

#[test]
fn a_wait_ends_at_its_limit_and_the_receiver_goes_on() {
    child::succeeds(|| {
        on_capabilities(1, || {
            let signals = Signals::new([Signal::User1]).unwrap();
            let start = Instant::now();
            assert_eq!(signals.wait_timeout(SHORT).unwrap(), None);
            assert!(start.elapsed() >= SHORT);
            raise(Signal::User1);
            assert_eq!(signals.wait_timeout(60 * 50 * SHORT).unwrap(), Some(Signal::User1));
        });
    });
}

#[test]
fn ctrl_c_can_be_waited_for_twice() {
    child::succeeds(|| {
        on_capabilities(2, || {
            for _ in 0..2 {
                let thread = spawn_on(1, || ctrl_c().unwrap());
                until_blocked(1, waits);
                raise(Signal::Interrupt);
                thread.join().unwrap();
            }
        });
    });
}

/// The pattern of `bast::signal`'s page: the first Ctrl-C kills the main thread, the second ends the process.
fn interruptible(program: fn()) {
    let signals = Signals::new([Signal::Interrupt]).unwrap();
    let main = bast::Runtime::builder().capabilities(1).build().unwrap().run(move || {
        let main = bast::spawn(program);
        let program = main.thread();
        bast::spawn(move || {
            signals.wait().unwrap();
            program.kill();
            signals.wait().unwrap();
            eprintln!("at once");
            std::process::exit(130);
        });
        main.join()
    });
    if main.is_err_and(|error| error.is_killed()) {
        std::process::exit(130);
    }
}

struct SaysGoodbye;

impl Drop for SaysGoodbye {
    fn drop(&mut self) {
        eprintln!("goodbye");
    }
}

/// Raises an interrupt as soon as the main program waits.
fn interrupt_when_blocked(matches: fn(BlockedOn) -> bool) {
    bast::spawn(move || {
        until_blocked(1, matches);
        raise(Signal::Interrupt);
    });
}

#[test]
fn an_interrupt_is_an_exception_in_the_main_thread_although_it_is_blocked() {
    let output = child::run(|| {
        interruptible(|| {
            let _goodbye = SaysGoodbye;
            interrupt_when_blocked(|what| what == BlockedOn::Receive);
            let (_tx, rx) = channel::<()>(1);
            let _ = rx.recv();
        });
    });
    assert_eq!((output.status.code(), child::stderr(&output).contains("goodbye")), (Some(130), true));
    assert!(!child::stderr(&output).contains("at once"));
}

#[test]
fn a_second_interrupt_ends_a_program_that_does_not_want_to_end() {
    let output = child::run(|| {
        interruptible(|| {
            interrupt_when_blocked(|what| what == BlockedOn::Receive);
            let (_tx, rx) = channel::<()>(1);
            // It cannot be killed here: what runs in a destructor is not interrupted.
            struct Lingers;
            impl Drop for Lingers {
                fn drop(&mut self) {
                    eprintln!("lingering");
                    raise(Signal::Interrupt);
                    bast::sleep(Duration::from_secs(3600));
                }
            }
            let _lingers = Lingers;
            let _ = rx.recv();
        });
    });
    let stderr = child::stderr(&output);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("lingering") && stderr.contains("at once"), "{stderr}");
}

#[test]
fn a_program_that_is_started_meanwhile_can_be_interrupted_as_ever() {
    // With signalfd(2) it would inherit the blocked signals.
    child::succeeds(|| {
        on_capabilities(1, || {
            let _signals = Signals::new([Signal::Terminate]).unwrap();
            let mut started = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
            sys::kill(started.id(), Signal::Terminate.number());
            assert_eq!(started.wait().unwrap().signal(), Some(Signal::Terminate.number()));
        });
    });
}

#[test]
fn the_end_of_a_child_is_a_signal_for_one_and_a_status_for_the_other() {
    child::succeeds(|| {
        on_capabilities(1, || {
            let signals = Signals::new([Signal::Child]).unwrap();
            for code in [3, 4] {
                let status = Command::new("/bin/sh").args(["-c", &format!("exit {code}")]).status();
                assert_eq!(status.unwrap().code(), Some(code));
                assert_eq!(signals.wait().unwrap(), Signal::Child);
            }
        });
    });
}

#[test]
fn a_plain_os_thread_receives_signals_too() {
    child::succeeds(|| {
        let signals = Signals::new([Signal::User1]).unwrap();
        let waiter = std::thread::spawn(move || {
            assert_eq!(signals.wait_timeout(SHORT).unwrap(), None);
            raise(Signal::User1);
            signals.wait().unwrap()
        });
        assert_eq!(waiter.join().unwrap(), Signal::User1);
    });
}

/// A server over real sockets, in the child: its workers say where they are and what they see.
fn see(_: &mut Request<'_>) -> String {
    format!("{} {} {}", bast::capability().index(), CHANGES.load(Ordering::Acquire), log::max_level())
}

/// How many signals have been dealt with. Release, with the acquire in `see`: what they change is seen with it.
static CHANGES: AtomicU32 = AtomicU32::new(0);

/// One request on a connection that stays open: the capability, the number of changes and the level of the log there.
fn ask(stream: &mut TcpStream) -> (usize, u32, String) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = String::new();
    while !answer.contains("\r\n\r\n") {
        let mut room = [0; 1024];
        let count = stream.read(&mut room).unwrap();
        assert!(count > 0, "closed before an answer");
        answer.push_str(str::from_utf8(&room[..count]).unwrap());
    }
    let mut words = answer.split("\r\n\r\n").nth(1).unwrap().split(' ').map(str::to_owned);
    let mut next = || words.next().unwrap();
    (next().parse().unwrap(), next().parse().unwrap(), next())
}

/// SIGUSR1 opens the log anew, SIGUSR2 changes what is logged, SIGTERM ends the server: as daemons have it.
#[test]
fn the_signals_of_a_server_go_to_one_thread_and_what_it_does_reaches_all_workers() {
    child::succeeds(|| {
        let directory = std::env::temp_dir().join(format!("bast-signals-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let (path, moved) = (directory.join("access.log"), directory.join("access.log.1"));
        let log_file = LogFile::open(&path).unwrap();
        let app = see.with(AccessLog::common(log_file.clone()));
        let settings = Settings { handle_signals: false, ..Settings::default() };
        let server = Server::bind("127.0.0.1:0").unwrap().settings(settings);
        let (address, handle) = (server.local_addr().unwrap(), server.handle());
        let all = [Signal::User1, Signal::User2, Signal::HangUp, Signal::Terminate];
        let signals = Signals::new(all).unwrap();
        log::set_max_level(log::LevelFilter::Info);

        let client = thread::spawn({
            let (path, moved) = (path.clone(), moved.clone());
            move || {
                let mut streams: Vec<TcpStream> =
                    (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
                let homes: BTreeSet<usize> = streams.iter_mut().map(|stream| ask(stream).0).collect();
                assert_eq!(homes.len(), 2, "both workers have connections");
                let mut asked = streams.len();
                for (index, (signal, level)) in
                    [(all[0], "INFO"), (all[1], "DEBUG"), (all[2], "DEBUG"), (all[1], "INFO")]
                        .into_iter()
                        .enumerate()
                {
                    if signal == Signal::User1 {
                        fs::rename(&path, &moved).unwrap();
                    }
                    raise(signal);
                    let changes = index as u32 + 1;
                    for stream in &mut streams {
                        let seen = loop {
                            let (_, seen, level) = ask(stream);
                            asked += 1;
                            if seen == changes {
                                break level;
                            }
                            assert_eq!(seen, changes - 1, "nothing happens by itself, and nothing twice");
                        };
                        assert_eq!(seen, level, "after {signal:?}");
                    }
                }
                raise(Signal::Terminate);
                asked
            }
        });
        let receivers = Runtime::builder().capabilities(2).build().unwrap().run(move || {
            let control = bast::spawn(move || {
                let mut receivers = BTreeSet::new();
                for signal in &signals {
                    receivers.insert(bast::current().id());
                    match signal {
                        Signal::User1 => log_file.reopen(),
                        Signal::User2 if log::max_level() == log::LevelFilter::Info => {
                            log::set_max_level(log::LevelFilter::Debug);
                        }
                        Signal::User2 => log::set_max_level(log::LevelFilter::Info),
                        Signal::Terminate => {
                            handle.shutdown();
                            break;
                        }
                        _ => {}
                    }
                    CHANGES.fetch_add(1, Ordering::Release);
                }
                receivers.len()
            });
            server.serve(app).unwrap();
            control.join().unwrap()
        });
        assert_eq!((receivers, CHANGES.load(Ordering::Relaxed)), (1, 4));
        let asked = client.join().unwrap();
        // The server has ended, so all lines are written: to the old file before it was let go, to the new one then.
        let lines = |path| fs::read_to_string(path).unwrap().lines().count();
        assert!(lines(&path) > 0, "the new file is used");
        assert_eq!(lines(&path) + lines(&moved), asked);
        fs::remove_dir_all(directory).unwrap();
    });
}
