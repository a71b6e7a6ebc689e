//! What the counters say of programs that are known.
#![forbid(unsafe_code)]

use bast::net::{TcpListener, TcpStream};
use bast::sync::MVar;
use bast::{BlockedOn, Counters, Handle, Runtime};
use bast_server::{Request, Server, Settings};
use bast_tests::{child, deadline, on_capabilities, spawn_on, until_blocked};
use std::io::{Read, Write};
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

/// What the capabilities of a server have counted for so many connections, one after the other: each is asked once and
/// closed where `one_at_a_time`, else all stay open and silent.
fn counted_for_connections(connections: u64, one_at_a_time: bool) -> Vec<[u64; 4]> {
    let settings = Settings { handle_signals: false, ..Settings::default() };
    let server = Server::bind("127.0.0.1:0").unwrap().settings(settings);
    let (address, shutdown) = (server.local_addr().unwrap(), server.handle());
    let runtime = Runtime::builder().capabilities(4).build().unwrap();
    let handle = runtime.handle();
    let served = thread::spawn(move || {
        runtime.run(move || server.serve(|_: &mut Request<'_>| "hello").unwrap());
    });
    let total = |of: fn(&Counters) -> u64| of(&handle.counters().total());
    let until = |of: fn(&Counters) -> u64, count: u64| {
        while total(of) < count {
            thread::sleep(Duration::from_micros(200));
        }
    };
    let connect = || std::net::TcpStream::connect(address).unwrap();
    let ask = || {
        let (mut client, mut answer) = (connect(), Vec::new());
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer.ends_with(b"hello"));
    };
    // The first one starts what the server starts once.
    let finished = total(|counters| counters.finished);
    ask();
    until(|counters| counters.finished, finished + 1);
    let before = handle.counters().to_vec();
    let (accepted, finished) = (total(|counters| counters.accepts), total(|counters| counters.finished));
    let mut open = Vec::new();
    for number in 1..=connections {
        if one_at_a_time {
            ask();
            until(|counters| counters.finished, finished + number);
        } else {
            open.push(connect());
            until(|counters| counters.accepts, accepted + number);
        }
    }
    let after = handle.counters().to_vec();
    drop(open);
    shutdown.shutdown();
    served.join().unwrap();
    let grown = |(before, after): (&Counters, &Counters)| {
        [
            after.accepts - before.accepts,
            after.started - before.started,
            after.sleeps - before.sleeps,
            after.timers - before.timers,
        ]
    };
    before.iter().zip(&after).map(grown).collect()
}

/// Where several wait for one listener, the kernel may wake them all for one connection (the thundering herd). Here one
/// waits; whoever is to serve is woken by it. A sleep that ends is a wake-up.
#[test]
fn a_connection_wakes_one_acceptor_and_who_is_to_serve_it_and_nobody_else() {
    deadline(|| {
        const CONNECTIONS: u64 = 100;
        // A core that was not given to its OS thread for a time slice may be helped out by others, who wake for that.
        const HELP_MAX: u64 = CONNECTIONS / 10;
        for one_at_a_time in [true, false] {
            let counted = counted_for_connections(CONNECTIONS, one_at_a_time);
            let acceptors: Vec<u64> =
                counted.iter().map(|[accepts, ..]| *accepts).filter(|&n| n > 0).collect();
            assert_eq!(acceptors, [CONNECTIONS], "{counted:?}");
            for [accepts, started, sleeps, timers] in &counted {
                // Each connection it serves: the hand-over, or the accept before it; the first event of its socket, which
                // says that there is room to write; and, where they are asked, the request.
                let events = accepts + (2 + u64::from(one_at_a_time)) * started + timers;
                assert!(*sleeps <= events + HELP_MAX, "{sleeps} of {events}: {counted:?}");
            }
            let others = counted.iter().filter(|[accepts, ..]| *accepts == 0);
            let woken: Vec<u64> = others.map(|[_, _, sleeps, _]| *sleeps).collect();
            if one_at_a_time {
                // The least loaded is the acceptor itself: nobody else has anything to do with them.
                assert!(woken.iter().sum::<u64>() <= HELP_MAX, "{counted:?}");
            } else {
                assert!(woken.iter().all(|&sleeps| sleeps > 0), "they are handed on: {counted:?}");
            }
        }
    });
}
