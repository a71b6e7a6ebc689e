//! Runtimes: starting, idling, stopping, and several in one process.

use bast::sync::{MVar, channel};
use bast::{BlockedOn, Builder, Handle, Runtime};
use bast_tests::{child, connected, deadline, spawn_on, sys, until_blocked_in};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

fn build(capabilities: usize) -> Runtime {
    Runtime::builder().capabilities(capabilities).build().expect("a runtime can be built")
}

fn text_of_panic(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).expect("a text")
}

// Several.

#[test]
fn two_runtimes_talk_and_join_across() {
    deadline(|| {
        let (one, other) = (build(1), build(2));
        let other_handle = other.handle();
        let sum = one.run(move || {
            let (tx, rx) = channel(4);
            let (back_tx, back_rx) = channel(0);
            let doubler =
                other_handle.spawn(move || rx.iter().map(|n: u64| back_tx.send(2 * n).unwrap()).count());
            let sender = bast::spawn(move || (0..1000).for_each(|n| tx.send(n).unwrap()));
            let sum: u64 = back_rx.iter().sum();
            sender.join().unwrap();
            assert_eq!(doubler.join().unwrap(), 1000);
            sum
        });
        assert_eq!(sum, 999_000);
        // A thread of the one dies, its joiner is of the other.
        let sleeper = one.handle().spawn(|| bast::sleep(LONG));
        let name = sleeper.thread();
        let joiner = other.handle().spawn(move || sleeper.join().unwrap_err().is_killed());
        until_blocked_in(&other.handle(), 1, |what| matches!(what, BlockedOn::Join(_)), thread::yield_now);
        name.kill();
        assert!(joiner.join().unwrap());
    });
}

#[test]
fn a_handle_that_outlives_its_runtime_gives_errors() {
    deadline(|| {
        let runtime = build(1);
        let handle = runtime.handle();
        drop(runtime);
        let error = handle.spawn_with(Builder::new(), || ()).unwrap_err();
        assert!(error.to_string().contains("shutting down"), "{error}");
        assert!(text_of_panic(|| drop(handle.spawn(|| ()))).contains("shutting down"));
        assert!(handle.threads().is_empty());
        assert_eq!(handle.capabilities(), 1);
        assert_eq!(handle.counters().len(), 1);
    });
}

#[test]
fn a_spawn_that_races_with_the_end_is_refused_or_killed() {
    deadline(|| {
        for _ in 0..300 {
            let runtime = build(1);
            let handle = runtime.handle();
            let (first, spawned) = std::sync::mpsc::channel();
            let spawner = thread::spawn(move || {
                let mut threads = Vec::new();
                while let Ok(thread) = handle.spawn_with(Builder::new(), || bast::sleep(LONG)) {
                    threads.push(thread);
                    first.send(()).unwrap();
                }
                threads
            });
            spawned.recv().unwrap();
            drop(runtime);
            for thread in spawner.join().unwrap() {
                assert!(thread.join().unwrap_err().is_killed());
            }
            drop(spawned);
        }
    });
}

// The end.

#[test]
fn the_end_kills_threads_in_every_state_and_drops_what_they_own() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    deadline(|| {
        for capabilities in [1, 2] {
            let dropped = Arc::new(AtomicUsize::new(0));
            let runtime = build(capabilities);
            let spawn = |body: fn()| {
                let counted = Counted(Arc::clone(&dropped));
                runtime.handle().spawn(move || {
                    let _counted = counted;
                    body();
                })
            };
            let parked: Vec<_> = (0..100).map(|_| spawn(|| bast::sleep(LONG))).collect();
            until_blocked_in(&runtime.handle(), 100, |what| what == BlockedOn::Timer, thread::yield_now);
            let runnable: Vec<_> = (0..10)
                .map(|_| {
                    spawn(|| {
                        loop {
                            bast::yield_now();
                        }
                    })
                })
                .collect();
            let unstarted: Vec<_> = (0..100).map(|_| spawn(|| bast::sleep(LONG))).collect();
            // Some spawn more while they die.
            let spawning = spawn(|| {
                struct SpawnOnDrop;
                impl Drop for SpawnOnDrop {
                    fn drop(&mut self) {
                        drop(bast::spawn(|| bast::sleep(LONG)));
                    }
                }
                let _spawn = SpawnOnDrop;
                bast::sleep(LONG);
            });
            drop(runtime);
            for thread in parked.into_iter().chain(runnable).chain(unstarted).chain([spawning]) {
                assert!(thread.join().unwrap_err().is_killed());
            }
            assert_eq!(dropped.load(Ordering::Relaxed), 211);
        }
    });
}

#[test]
fn the_first_threads_panic_is_the_panic_of_run_and_the_others_are_killed() {
    deadline(|| {
        let killed = Arc::new(AtomicBool::new(false));
        let text = text_of_panic({
            let killed = Arc::clone(&killed);
            || {
                bast::run(move || {
                    drop(bast::spawn(move || {
                        let payload = catch_unwind(|| bast::sleep(LONG)).unwrap_err();
                        killed.store(bast::is_kill(&*payload), Ordering::Relaxed);
                    }));
                    bast::yield_now();
                    bast::sleep(Duration::from_millis(1));
                    panic!("the end");
                });
            }
        });
        assert_eq!(text, "the end");
        assert!(killed.load(Ordering::Relaxed));
    });
}

/// What was logged.
struct Log;

static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn threads_that_do_not_die_are_named_and_left_behind_within_the_limit() {
    deadline(|| {
        log::set_logger(&Log).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
        let over = Arc::new(AtomicBool::new(false));
        let runtime = build(2);
        let started = Arc::new(AtomicUsize::new(0));
        let hog = {
            let (over, started) = (Arc::clone(&over), Arc::clone(&started));
            move || {
                started.fetch_add(1, Ordering::Relaxed);
                while !over.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            }
        };
        let swallower = {
            let (over, started) = (Arc::clone(&over), Arc::clone(&started));
            move || {
                started.fetch_add(1, Ordering::Relaxed);
                while !over.load(Ordering::Relaxed) {
                    let _ = catch_unwind(|| bast::sleep(LONG));
                }
            }
        };
        let handle = runtime.handle();
        let on = |index| Builder::new().on(handle.capability(index));
        let stubborn = [
            handle.spawn_with(on(0).name("hog"), hog).unwrap(),
            handle.spawn_with(on(1).name("swallower"), swallower).unwrap(),
        ];
        while started.load(Ordering::Relaxed) < 2 {
            thread::yield_now();
        }
        let start = Instant::now();
        drop(runtime);
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        let logged = LOGGED.lock().unwrap().join("\n");
        assert!(logged.contains("\"hog\"") && logged.contains("\"swallower\""), "{logged}");
        // The rest of the process goes on, on other capabilities.
        assert_eq!(build(2).run(|| bast::spawn(|| 3).join().unwrap()), 3);
        over.store(true, Ordering::Relaxed);
        stubborn.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn two_hundred_starts_and_stops_leave_nothing_behind() {
    child::succeeds(|| {
        let turn = || {
            let runtime = build(2);
            runtime.run(|| {
                let threads: Vec<_> = (0..20).map(|n| spawn_on(n, || bast::sleep(LONG))).collect();
                let (mut stream, _peer) = connected();
                drop(bast::spawn(move || stream.read(&mut [0])));
                bast::yield_now();
                drop(threads);
            });
        };
        // The slots of capabilities keep their epoll instance and their eventfd on purpose, and memory is warmed up.
        (0..20).for_each(|_| turn());
        let (descriptors, os_threads, resident) =
            (sys::open_descriptors(), sys::os_threads(), sys::resident());
        let address_space = sys::address_space();
        (0..200).for_each(|_| turn());
        assert_eq!(sys::open_descriptors(), descriptors);
        // An OS thread that was joined may be on its last steps in the kernel.
        while sys::os_threads() > os_threads {
            thread::yield_now();
        }
        let grown = sys::resident().saturating_sub(resident);
        assert!(grown < 2 << 20, "{grown} bytes resident more");
        let grown = sys::address_space().saturating_sub(address_space);
        assert!(grown < 64 << 20, "{grown} bytes of address space more");
    });
}

// The beginning.

#[test]
fn settings_that_are_out_of_range_are_refused_by_name() {
    let told = |builder: bast::RuntimeBuilder| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        error.to_string()
    };
    assert!(told(Runtime::builder().capabilities(0)).contains("at least one capability"));
    assert!(told(Runtime::builder().capabilities(257)).contains("at most 256 capabilities"));
    assert!(told(Runtime::builder().stack_size(0)).contains("no stack of 0 bytes"));
    assert!(told(Runtime::builder().stack_size(9 << 20)).contains("8 MiB"));
    assert!(told(Runtime::builder().time_slice(Duration::from_micros(99))).contains("time slice"));
    deadline(|| {
        let runtime = build(1);
        let error = runtime.handle().spawn_with(Builder::new().stack_size(9 << 20), || ()).unwrap_err();
        assert!(error.to_string().contains("8 MiB"), "{error}");
    });
}

#[test]
fn more_capabilities_than_there_are_left_are_refused_and_those_taken_are_given_back() {
    child::succeeds(|| {
        let most = build(200);
        for _ in 0..2 {
            let error = Runtime::builder().capabilities(100).build().unwrap_err();
            assert!(error.to_string().contains("all 256 capabilities"), "{error}");
        }
        assert_eq!(build(56).run(|| 1), 1);
        assert_eq!(most.run(|| 2), 2);
    });
}

#[test]
fn a_start_that_fails_leaves_nothing_that_stops_the_next() {
    // The OS threads of the capabilities ask for so much address space for their stacks that the limit stops the
    // third, while everything else fits by far: where there is room for a stack and for little more, std aborts.
    const STACK: usize = 8 << 30;
    child::succeeds_with(&[("RUST_MIN_STACK", &STACK.to_string())], || {
        sys::limit_address_space(sys::address_space() + 2 * STACK + STACK / 2);
        let error = Runtime::builder().capabilities(8).build().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
        sys::limit_address_space(usize::MAX);
        for _ in 0..2 {
            let runtime = build(8);
            let ran =
                runtime.run(|| (0..8).map(|n| spawn_on(n, || 1)).map(|t| t.join().unwrap()).sum::<u32>());
            assert_eq!(ran, 8);
        }
    });
}

#[test]
fn running_a_runtime_inside_a_green_thread_panics_with_advice() {
    deadline(|| {
        let runtime = build(1);
        let error = runtime.run(|| bast::spawn(|| bast::run(|| ())).join().unwrap_err());
        assert!(error.to_string().contains("use an OS thread"), "{error}");
        // One that was built there stops without blocking the core.
        runtime.run(|| drop(build(1)));
        assert_eq!(runtime.run(|| bast::spawn(|| 1).join().unwrap()), 1);
    });
}

#[test]
fn both_kinds_of_guards_do_a_days_work() {
    use bast::StackGuard;
    deadline(|| {
        for guard in [StackGuard::Auto, StackGuard::Install, StackGuard::Protect] {
            let runtime = match Runtime::builder().capabilities(2).stack_guard(guard).build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    assert_eq!((guard, error.kind()), (StackGuard::Install, std::io::ErrorKind::Unsupported));
                    continue;
                }
            };
            let sum: usize = runtime.run(|| {
                let threads: Vec<_> = (0..1000)
                    .map(|n| {
                        let size = (n % 9 + 1) << 16;
                        let deep = move || {
                            // Twice on the stack in a build without optimisation: 48 of its 64 KiB at least.
                            let frame = std::hint::black_box([1u8; 24 << 10]);
                            bast::sleep(Duration::from_millis(1));
                            usize::from(frame[n])
                        };
                        Builder::new().stack_size(size).spawn(deep).unwrap()
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(sum, 1000);
        }
    });
}

// Idleness.

#[test]
fn an_idle_runtime_does_nothing_at_all() {
    child::succeeds(|| {
        let runtime = build(2);
        let handle = runtime.handle();
        let (stream, _peer) = connected();
        let parked = 12;
        runtime.run(move || {
            for index in 0..2 {
                for _ in 0..5 {
                    drop(spawn_on(index, || MVar::<()>::empty().take()));
                }
            }
            let mut stream = stream;
            drop(spawn_on(0, move || stream.read(&mut [0])));
            drop(spawn_on(1, || bast::sleep(LONG)));
        });
        until_blocked_in(&handle, parked, |_| true, || thread::sleep(Duration::from_millis(1)));
        let quiet = |for_how_long, cpu_max| {
            let (counters, cpu) = (handle.counters(), sys::cpu_time());
            thread::sleep(for_how_long);
            assert_eq!(handle.counters(), counters);
            let cpu = sys::cpu_time() - cpu;
            assert!(cpu < cpu_max, "{cpu:?} of CPU");
        };
        // The capabilities may be on their last turn of the loop.
        settle(&handle);
        // First with the tick, which goes on for a second, and then without.
        quiet(Duration::from_millis(300), Duration::from_millis(10));
        thread::sleep(Duration::from_millis(1200));
        quiet(Duration::from_millis(300), Duration::from_millis(2));
        // And it wakes up again.
        assert_eq!(handle.spawn(|| 3).join().unwrap(), 3);
    });
}

/// Waits until the counters stand still for a moment.
fn settle(handle: &Handle) {
    loop {
        let counters = handle.counters();
        thread::sleep(Duration::from_millis(20));
        if handle.counters() == counters {
            return;
        }
    }
}

#[test]
fn a_runtime_that_spins_works_and_comes_to_rest() {
    deadline(|| {
        let runtime = Runtime::builder().capabilities(2).spin(Duration::from_micros(50)).build().unwrap();
        runtime.run(|| {
            let (ping, pong) = (Arc::new(MVar::empty()), Arc::new(MVar::empty()));
            let other = spawn_on(1 - bast::capability().index(), {
                let (ping, pong) = (Arc::clone(&ping), Arc::clone(&pong));
                move || (0..1000).for_each(|_| pong.put(ping.take() + 1))
            });
            let last = (0..1000).fold(0, |value, _| {
                ping.put(value);
                pong.take()
            });
            assert_eq!(last, 1000);
            other.join().unwrap();
        });
        settle(&runtime.handle());
    });
}
