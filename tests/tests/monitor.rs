//! The list of threads, and what panics and overflows say of them.

use bast::net::TcpListener;
use bast::sync::{Condvar, MVar, Mutex, channel};
use bast::{BlockedOn, Builder, JoinHandle, Label, State};
use bast_tests::{connected, on_capabilities, spawn_on, until, until_blocked};
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_list_under_load_has_every_thread_that_lives_throughout_exactly_once() {
    const PARKED: usize = 100_000;
    on_capabilities(2, || {
        let mutex = Arc::new(Mutex::new(()));
        let guard = mutex.lock();
        let parked = Arc::new(AtomicUsize::new(0));
        let threads: Vec<JoinHandle<()>> = (0..PARKED)
            .map(|number| {
                let (mutex, parked) = (Arc::clone(&mutex), Arc::clone(&parked));
                let builder = Builder::new().name(format!("parked {number}")).stack_size(1);
                builder
                    .spawn(move || {
                        parked.fetch_add(1, Ordering::Relaxed);
                        drop(mutex.lock());
                    })
                    .unwrap()
            })
            .collect();
        until(|| parked.load(Ordering::Relaxed) == PARKED);
        let expected: HashMap<_, _> = threads
            .iter()
            .enumerate()
            .map(|(number, thread)| (thread.id(), format!("parked {number}")))
            .collect();

        let over = Arc::new(AtomicBool::new(false));
        let churn = spawn_on(1, {
            let over = Arc::clone(&over);
            move || {
                let mut ended = 0;
                while !over.load(Ordering::Relaxed) {
                    let brief: Vec<_> = (0..50).map(|_| spawn_on(1, bast::yield_now)).collect();
                    ended += brief.into_iter().map(|thread| thread.join().unwrap()).count();
                }
                ended
            }
        });
        for _ in 0..5 {
            let list = bast::threads();
            let mut seen = HashSet::new();
            for info in &list {
                assert!(seen.insert(info.id), "{} is listed twice", info.id);
                if let Some(label) = expected.get(&info.id) {
                    assert_eq!(info.label.as_ref(), Some(label));
                    assert_eq!((info.state, info.blocked_on), (State::Blocked, Some(BlockedOn::Mutex)));
                }
            }
            assert!(expected.keys().all(|id| seen.contains(id)));
            bast::yield_now();
        }
        over.store(true, Ordering::Relaxed);
        assert!(churn.join().unwrap() > 0, "nobody spawned meanwhile");
        drop(guard);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn the_list_says_what_each_thread_waits_for() {
    on_capabilities(1, || {
        let (stream, mut peer) = connected();
        let stream = Arc::new(stream);
        let fd = stream.as_raw_fd();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener_fd = listener.as_raw_fd();
        let (tx, rx) = channel::<u8>(0);
        let (full_tx, full_rx) = channel::<u8>(0);
        let (mutex, condvar) = (Arc::new(Mutex::new(())), Arc::new(Condvar::new()));
        let guard = mutex.lock();
        let other = Arc::new(Mutex::new(()));
        let sleeper = bast::spawn(|| bast::sleep(LONG));
        let sleeper_id = sleeper.id();

        let mut spawned: Vec<(JoinHandle<()>, String)> = Vec::new();
        let mut spawn = |expected: String, body: Box<dyn FnOnce() + Send>| {
            let thread = Builder::new().name(expected.clone()).spawn(body).unwrap();
            until(|| {
                bast::threads().iter().any(|info| info.id == thread.id() && info.state == State::Blocked)
            });
            spawned.push((thread, expected));
        };
        spawn("timer".into(), Box::new(|| bast::sleep(LONG)));
        let reader = Arc::clone(&stream);
        spawn(format!("read fd {fd}"), Box::new(move || drop((&*reader).read(&mut [0]))));
        let queued = Arc::clone(&stream);
        spawn(format!("another user of fd {fd}"), Box::new(move || drop((&*queued).read(&mut [0]))));
        let writer = Arc::clone(&stream);
        spawn(format!("write fd {fd}"), Box::new(move || while (&*writer).write(&[0; 1 << 16]).is_ok() {}));
        spawn(format!("accept fd {listener_fd}"), Box::new(move || drop(listener.accept())));
        spawn(format!("join thread {sleeper_id}"), Box::new(move || drop(sleeper.join())));
        let locker = Arc::clone(&mutex);
        spawn("mutex".into(), Box::new(move || drop(locker.lock())));
        spawn("condvar".into(), Box::new(move || drop(condvar.wait(other.lock()))));
        spawn("MVar".into(), Box::new(|| MVar::empty().take()));
        spawn(
            "channel receive".into(),
            Box::new(move || {
                let _ = rx.recv();
            }),
        );
        spawn(
            "channel send".into(),
            Box::new(move || {
                let _ = full_tx.send(1);
            }),
        );

        let list = bast::threads();
        for (thread, expected) in &spawned {
            let info = list.iter().find(|info| info.id == thread.id()).unwrap();
            assert_eq!(info.blocked_on.unwrap().to_string(), *expected);
            assert_eq!(info.label.as_ref(), Some(expected));
            assert_eq!((info.state.to_string().as_str(), info.capability), ("blocked", 0));
        }
        let this = list.iter().find(|info| info.id == bast::current().id()).unwrap();
        assert_eq!((this.state, this.blocked_on), (State::Running, None));
        assert_eq!(this.label.as_deref(), Some("main"));
        let unstarted = bast::spawn(|| ());
        let info = bast::threads().into_iter().find(|info| info.id == unstarted.id()).unwrap();
        assert_eq!((info.state, info.label), (State::Unstarted, None));
        unstarted.join().unwrap();
        drop((guard, tx, full_rx));
        peer.write_all(b"xy").unwrap();
        for (thread, _) in spawned {
            thread.thread().kill();
            let _ = thread.join();
        }
    });
}

#[test]
fn a_thread_has_the_label_and_the_age_that_it_was_given() {
    on_capabilities(1, || {
        let peer = "192.0.2.1:4711".parse().unwrap();
        for (label, text) in [
            (Label::None, None),
            (Label::from("static"), Some("static")),
            (Label::from("owned".to_owned()), Some("owned")),
            (Label::Peer("conn", peer), Some("conn 192.0.2.1:4711")),
        ] {
            let thread = Builder::new().label(label).spawn(|| bast::sleep(LONG)).unwrap();
            until_blocked(1, |what| what == BlockedOn::Timer);
            assert_eq!(thread.thread().name().as_deref(), text);
            let info = bast::threads().into_iter().find(|info| info.id == thread.id()).unwrap();
            assert_eq!(info.label.as_deref(), text);
            assert!(info.age < Duration::from_secs(30), "{:?}", info.age);
            thread.thread().kill();
            assert!(thread.join().unwrap_err().is_killed());
        }
    });
}

#[test]
fn a_runtime_lists_its_own_threads_only() {
    bast_tests::deadline(|| {
        let build = || bast::Runtime::builder().capabilities(1).build().unwrap();
        let (one, other) = (build(), build());
        let thread = one.handle().spawn(|| bast::sleep(LONG));
        assert!(one.handle().threads().iter().any(|info| info.id == thread.id()));
        assert!(other.handle().threads().is_empty());
        // Nor those of a runtime that has its capabilities after it.
        let gone = one.handle();
        drop(one);
        let next = build();
        let thread = next.handle().spawn(|| bast::sleep(LONG));
        assert!(gone.threads().is_empty());
        assert_eq!(next.handle().threads().len(), 1);
        drop(thread);
    });
}
