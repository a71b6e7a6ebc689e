//! Growing past the slot: what runs on a further segment may do all that it may elsewhere.
#![forbid(unsafe_code)]

use bast::sync::{MVar, channel};
use bast::{BlockedOn, Builder, JoinHandle, ensure_stack, stack_left};
use bast_tests::{child, deadline, on_capabilities, sys, until, until_blocked};
use std::cell::Cell;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SIGABRT: i32 = 6;
const STACK_BYTES: usize = 64 << 10;
/// More than is left on a stack of `STACK_BYTES`.
const MUCH: usize = 100 << 10;

/// Spawns a thread with little stack.
fn spawn_small<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().name("small").stack_size(STACK_BYTES).spawn(f).expect("a thread can be spawned")
}

/// Recurses to `depth` with a kilobyte in each frame, and does `at_the_end` there.
fn recurse(depth: usize, at_the_end: &mut dyn FnMut()) -> usize {
    ensure_stack(16 << 10, || {
        let frame = black_box([depth; 128]);
        if depth == 0 {
            at_the_end();
            return 0;
        }
        recurse(depth - 1, at_the_end) + frame[0] - depth + 1
    })
}

fn left() -> usize {
    stack_left().expect("a green thread knows")
}

#[test]
fn recursion_goes_deeper_than_any_stack() {
    on_capabilities(1, || {
        let reached = spawn_small(|| recurse(50_000, &mut || ())).join().unwrap();
        assert_eq!(reached, 50_000);
    });
}

#[test]
fn a_call_stays_where_it_is_if_enough_is_left_and_finds_enough_if_not() {
    on_capabilities(1, || {
        spawn_small(|| {
            let before = left();
            assert!(before < STACK_BYTES + 4096);
            let same = ensure_stack(before / 2, left);
            assert!(same <= before && before - same < 4096, "{before} {same}");
            for bytes in [MUCH, 192 << 10, (192 << 10) + 1, 1 << 20, 8 << 20] {
                // A frame of this test's own, and of the switch, lie in between.
                assert!(ensure_stack(bytes, left) + 1024 >= bytes, "{bytes}");
                assert!(before - left() < 4096, "it came back");
            }
            // Within a segment the same holds again.
            ensure_stack(MUCH, || {
                let outer = left();
                assert!(ensure_stack(1024, left) <= outer);
                assert!(ensure_stack(outer + 1, left) + 1024 > outer);
            });
        })
        .join()
        .unwrap();
    });
}

#[test]
fn it_borrows_from_the_caller_and_returns_what_the_closure_returns() {
    on_capabilities(1, || {
        spawn_small(|| {
            let words = [String::from("a"), String::from("b")];
            let shared = Rc::new(Cell::new(0));
            let joined = ensure_stack(MUCH, || {
                shared.set(shared.get() + 1);
                words.concat()
            });
            assert_eq!((joined.as_str(), shared.get(), Rc::strong_count(&shared)), ("ab", 1, 1));
            // As large as the frame's share of a page.
            assert_eq!(ensure_stack(MUCH, || [7u8; 3000])[2999], 7);
        })
        .join()
        .unwrap();
    });
}

#[test]
fn threads_park_on_their_segments_and_are_woken_there() {
    on_capabilities(2, || {
        let threads: Vec<_> = (0..50u64)
            .map(|n| {
                let (tx, rx) = channel(0);
                let parked = spawn_small(move || {
                    let mut sum = 0;
                    recurse(300, &mut || {
                        sum += rx.recv().unwrap();
                        bast::sleep(Duration::from_micros(n));
                        bast::yield_now();
                        sum += ensure_stack(MUCH * 3, || rx.recv().unwrap());
                    });
                    sum
                });
                (tx, parked, n)
            })
            .collect();
        until_blocked(50, |reason| reason == BlockedOn::Receive);
        for (tx, parked, n) in threads {
            tx.send(n).unwrap();
            tx.send(1).unwrap();
            assert_eq!(parked.join().unwrap(), n + 1);
        }
    });
}

#[test]
fn a_panic_goes_through_and_can_be_caught_on_either_side() {
    on_capabilities(1, || {
        let dropped = Arc::new(AtomicU64::new(0));
        struct Counts(Arc<AtomicU64>);
        impl Drop for Counts {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let counts = Arc::clone(&dropped);
        spawn_small(move || {
            let outside = catch_unwind(AssertUnwindSafe(|| {
                let _outer = Counts(Arc::clone(&counts));
                ensure_stack(MUCH, || {
                    let _inner = Counts(Arc::clone(&counts));
                    recurse(300, &mut || std::panic::panic_any(17));
                });
            }));
            assert_eq!(outside.unwrap_err().downcast_ref(), Some(&17));
            let inside = ensure_stack(MUCH, || catch_unwind(|| std::panic::panic_any(18)).unwrap_err());
            assert_eq!(inside.downcast_ref(), Some(&18));
            // One that nobody catches ends the thread.
            ensure_stack(MUCH, || panic!("for the joiner"));
        })
        .join()
        .map_err(|error| assert!(error.to_string().contains("for the joiner")))
        .unwrap_err();
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_thread_that_is_killed_on_a_segment_unwinds_through_all_of_them() {
    struct Sets(Arc<AtomicU64>);
    impl Drop for Sets {
        fn drop(&mut self) {
            // A destructor on a segment may wait, while it unwinds.
            bast::sleep(Duration::from_micros(10));
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    on_capabilities(2, || {
        let dropped = Arc::new(AtomicU64::new(0));
        let never = Arc::new(MVar::<()>::empty());
        let threads: Vec<_> = (0..20)
            .map(|_| {
                let (dropped, never) = (Arc::clone(&dropped), Arc::clone(&never));
                spawn_small(move || {
                    let _outer = Sets(Arc::clone(&dropped));
                    recurse(300, &mut || {
                        let _inner = Sets(Arc::clone(&dropped));
                        never.take();
                    });
                })
            })
            .collect();
        until_blocked(20, |reason| reason == BlockedOn::MVar);
        threads.iter().for_each(|thread| thread.thread().kill());
        for thread in threads {
            assert!(thread.join().unwrap_err().is_killed());
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 40);
    });
}

#[test]
fn segments_are_used_again() {
    child::succeeds(|| {
        on_capabilities(1, || {
            let go = || spawn_small(|| recurse(2_000, &mut || ())).join().unwrap();
            go();
            let before = sys::address_space();
            for round in 0..200 {
                assert_eq!(go(), 2_000);
                // Some come back by unwinding.
                let unwound = spawn_small(move || {
                    recurse(2_000, &mut || std::panic::resume_unwind(Box::new(round)));
                });
                assert!(unwound.join().is_err());
            }
            // Not the same: the memory allocator maps an arena of 64 MiB when it likes to.
            let grown = sys::address_space().saturating_sub(before);
            assert!(
                grown < 200 << 20,
                "{grown} bytes; 400 times two megabytes of segments are four times as much"
            );
        });
    });
}

/// Uses some 3 KiB of stack per level, and three times as much in a debug build.
fn go_deep(levels: usize) -> u8 {
    let frame = black_box([1u8; 3 << 10]);
    if levels == 0 { frame[0] } else { go_deep(levels - 1) + frame[1] }
}

#[test]
fn stacks_that_went_deep_give_their_pages_back_when_the_core_is_idle() {
    child::succeeds(|| {
        on_capabilities(1, || {
            const THREADS: usize = 500;
            let resident_kib = || sys::resident() >> 10;
            // What is made once is made before: control blocks, page tables.
            let all = |deep: usize| {
                let stop = Arc::new(MVar::empty());
                let threads: Vec<_> = (0..THREADS)
                    .map(|_| {
                        let stop = Arc::clone(&stop);
                        Builder::new().spawn(move || {
                            go_deep(deep);
                            stop.read();
                        })
                    })
                    .collect();
                until_blocked(THREADS, |reason| reason == BlockedOn::MVar);
                let seen = resident_kib();
                stop.put(());
                threads.into_iter().for_each(|thread| thread.unwrap().join().unwrap());
                seen
            };
            let shallow = all(0);
            let deep = all(20);
            assert!(deep > shallow + THREADS * 40, "{deep} KiB is not much more than {shallow} KiB");
            // Idle: nothing else can run while the only thread sleeps.
            bast::sleep(Duration::from_millis(1));
            let after = resident_kib();
            // 16 KiB of each stack are kept, and little else.
            assert!(after < shallow + THREADS * 20, "{after} KiB is too much more than {shallow} KiB");
        });
    });
}

#[test]
fn the_stacks_of_many_threads_give_their_pages_back_in_the_end() {
    child::succeeds(|| {
        on_capabilities(1, || {
            const THREADS: u64 = 6_000;
            let stop = Arc::new(MVar::empty());
            let count = Arc::new(AtomicU64::new(0));
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
                    bast::spawn(move || {
                        go_deep(4);
                        count.fetch_add(1, Ordering::Relaxed);
                        stop.read();
                    })
                })
                .collect();
            until(|| count.load(Ordering::Relaxed) == THREADS);
            let most = sys::resident();
            stop.put(());
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            // The core is idle but for these looks. Two warm stacks in a dozen stay, with their top 16 KiB.
            while sys::resident() > most / 2 {
                bast::sleep(Duration::from_millis(5));
            }
        });
    });
}

#[test]
fn outside_of_green_threads_the_closure_is_called_where_the_caller_is() {
    deadline(|| {
        assert_eq!(stack_left(), None);
        assert!(ensure_stack(100 << 20, || stack_left().is_none()));
    });
}

#[test]
fn more_than_the_largest_segment_is_refused_by_name() {
    on_capabilities(1, || {
        let error = bast::spawn(|| ensure_stack((8 << 20) + 1, || ())).join().unwrap_err();
        assert!(error.to_string().contains("ensure_stack: no stack of 8388609 bytes"), "{error}");
        assert!(error.to_string().contains("8 MiB"), "{error}");
    });
}

#[expect(unconditional_recursion)]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    overflow(depth + 1) + frame[0]
}

#[test]
fn an_overflow_of_a_segment_names_the_thread_and_the_segment_and_the_remedy() {
    let output = child::run(|| {
        on_capabilities(1, || {
            spawn_small(|| ensure_stack(1 << 20, || overflow(0))).join().unwrap();
        });
    });
    let told = child::stderr(&output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{told}");
    assert!(told.contains("bast: thread "), "{told}");
    assert!(told.contains("\"small\" overflowed its stack of 1024 KiB (fault at 0x"), "{told}");
    assert!(told.contains("bast::ensure_stack"), "{told}");
}

#[test]
fn an_overflow_below_segments_names_the_threads_own_stack() {
    let output = child::run(|| {
        on_capabilities(1, || {
            spawn_small(|| {
                ensure_stack(1 << 20, bast::yield_now);
                overflow(0)
            })
            .join()
            .unwrap();
        });
    });
    let told = child::stderr(&output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{told}");
    assert!(told.contains("\"small\" overflowed its stack of 64 KiB (fault at 0x"), "{told}");
}

#[test]
fn an_overflow_of_a_handler_names_the_setting_of_the_server() {
    let output = child::run(|| {
        let server = bast_server::Server::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let _answer = client.read(&mut [0]);
        });
        server.serve(|_: &mut bast_server::Request<'_>| overflow(0).to_string()).unwrap();
    });
    let told = child::stderr(&output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{told}");
    assert!(told.contains("\"conn 127.0.0.1:"), "{told}");
    assert!(
        told.contains("a larger one: bast_server::Settings::stack_bytes, or bast::ensure_stack"),
        "{told}"
    );
}
