//! What the counters say of programs that are known.
#![forbid(unsafe_code)]

use bast::net::{TcpListener, TcpStream};
use bast::sync::MVar;
use bast::{BlockedOn, Counters, Handle, Runtime};
use bast_tests::{child, deadline, on_capabilities, spawn_on, until_blocked};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

fn counters() -> Counters {
    Handle::current().counters().total()
}

#[test]
fn each_thread_is_counted_when_it_is_spawned_when_it_starts_and_when_it_ends() {
    on_capabilities(1, || {
        let before = counters();
        for thread in (0..100).map(|_| bast::spawn(bast::yield_now)).collect::<Vec<_>>() {
            thread.join().unwrap();
        }
        let after = counters();
        assert_eq!(after.spawned - before.spawned, 100);
        assert_eq!(after.started - before.started, 100);
        // The last one's end is counted when it is off its stack, which is after it has told its joiner.
        assert!((99..=100).contains(&(after.finished - before.finished)), "{after:?}");
        // Each has run twice.
        assert!(after.switches - before.switches >= 200, "{after:?}");
    });
}

#[test]
fn a_wake_is_counted_where_it_is_made_and_where_it_arrives() {
    on_capabilities(2, || {
        let handle = Handle::current();
        let home = bast::capability().index();
        let other = 1 - home;
        const WAKES: u64 = 50;
        let (there, back) = (Arc::new(MVar::empty()), Arc::new(MVar::empty()));
        let echo = spawn_on(other, {
            let (there, back) = (Arc::clone(&there), Arc::clone(&back));
            move || (0..WAKES).for_each(|_| back.put(there.take()))
        });
        let mut before = Vec::new();
        for round in 0..WAKES {
            until_blocked(1, |what| what == BlockedOn::MVar);
            if round == 0 {
                before = handle.counters().to_vec();
            }
            there.put(round); // wakes the other capability's thread
            assert_eq!(back.take(), round);
        }
        echo.join().unwrap();
        let after = handle.counters();
        let grown = |index: usize, of: fn(&Counters) -> u64| of(&after[index]) - of(&before[index]);
        assert!(grown(home, |counters| counters.wakes_sent) >= WAKES, "{before:?} {after:?}");
        assert!(grown(other, |counters| counters.wakes_received) >= WAKES, "{before:?} {after:?}");
        assert_eq!(
            grown(home, |counters| counters.wakes_sent) + grown(other, |counters| counters.wakes_sent),
            grown(home, |counters| counters.wakes_received)
                + grown(other, |counters| counters.wakes_received),
        );
    });
}

#[test]
fn a_wake_by_an_os_thread_is_received_and_sent_by_nobody() {
    deadline(|| {
        let runtime = Runtime::builder().capabilities(1).build().unwrap();
        let mvar = Arc::new(MVar::empty());
        let taker = runtime.handle().spawn({
            let mvar = Arc::clone(&mvar);
            move || mvar.take()
        });
        bast_tests::until_blocked_in(&runtime.handle(), 1, |what| what == BlockedOn::MVar, thread::yield_now);
        let before = runtime.counters().total();
        mvar.put(7);
        assert_eq!(taker.join().unwrap(), 7);
        let after = runtime.counters().total();
        assert_eq!(after.wakes_received - before.wakes_received, 1);
        assert_eq!(after.wakes_sent, before.wakes_sent);
    });
}

#[test]
fn timers_kills_and_accepts_are_counted() {
    on_capabilities(1, || {
        let before = counters();
        for _ in 0..3 {
            bast::sleep(Duration::from_micros(1));
        }
        let victims: Vec<_> = (0..4).map(|_| bast::spawn(|| MVar::<()>::empty().take())).collect();
        until_blocked(4, |what| what == BlockedOn::MVar);
        for victim in victims {
            victim.thread().kill();
            assert!(victim.join().unwrap_err().is_killed());
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..5 {
            let stream = TcpStream::connect(address).unwrap();
            drop((listener.accept().unwrap(), stream));
        }
        let after = counters();
        assert_eq!(after.timers - before.timers, 3);
        assert_eq!(after.exceptions - before.exceptions, 4);
        assert_eq!(after.accepts - before.accepts, 5);
    });
}

#[test]
fn a_thread_that_overruns_its_slice_is_counted() {
    deadline(|| {
        let slice = Duration::from_millis(1);
        let runtime = Runtime::builder().capabilities(1).time_slice(slice).build().unwrap();
        let handle = runtime.handle();
        runtime.run(move || {
            let before = counters().stalls;
            // The loop below calls nothing that tests the slice; the look is another OS thread's work.
            let over = Arc::new(std::sync::Barrier::new(2));
            let watch = thread::spawn({
                let over = Arc::clone(&over);
                move || {
                    over.wait();
                    thread::sleep(Duration::from_millis(20));
                }
            });
            over.wait();
            while !watch.is_finished() {
                std::hint::spin_loop();
            }
            bast::yield_now();
            assert!(handle.counters().total().stalls > before);
        });
    });
}

#[test]
fn the_counters_start_from_0_with_each_runtime() {
    deadline(|| {
        for _ in 0..3 {
            let runtime = Runtime::builder().capabilities(1).build().unwrap();
            runtime.run(|| (0..10).for_each(|_| bast::spawn(|| ()).join().unwrap()));
            assert_eq!(runtime.counters().total().spawned, 10);
        }
    });
}

#[test]
fn a_runtime_prints_its_counters_when_told_to() {
    let output = child::run(|| {
        let runtime = Runtime::builder().capabilities(2).print_counters(true).build().unwrap();
        runtime.run(|| bast::spawn(|| ()).join().unwrap());
    });
    assert_eq!(output.status.code(), Some(child::RETURNED));
    let text = child::stderr(&output);
    let row = text.lines().find(|line| line.starts_with("threads spawned")).expect("a row for each counter");
    assert_eq!(row.split_whitespace().nth(2), Some("1"), "{row}");
    assert!(text.lines().any(|line| line.split_whitespace().eq(["capability", "all", "0", "1"])), "{text}");
}
