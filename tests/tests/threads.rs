//! Threads: spawning, joining, pinning, preemption, local values, hooks.

use bast::sync::{MVar, Mutex, channel};
use bast::{BlockedOn, Builder, Handle};
use bast_tests::{child, connected, deadline, on_capabilities, spawn_on, until, until_blocked};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

fn os_thread() -> thread::ThreadId {
    thread::current().id()
}

/// Computes without ever calling the runtime, until the condition holds.
fn hog(condition: impl Fn() -> bool) {
    while !condition() {
        std::hint::spin_loop();
    }
}

#[test]
fn a_thread_returns_its_value_to_its_joiner() {
    assert_eq!(on_capabilities(2, || bast::spawn(|| 6 * 7).join().unwrap()), 42);
}

#[test]
fn ten_thousand_sleepers_all_wake() {
    let sum: u64 = on_capabilities(2, || {
        let threads: Vec<_> = (0..10_000u64)
            .map(|n| {
                bast::spawn(move || {
                    bast::sleep(Duration::from_millis(n % 20));
                    n
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(sum, 49_995_000);
}

#[test]
fn a_panic_ends_one_thread_and_its_joiner_gets_the_payload() {
    on_capabilities(2, || {
        let error = bast::spawn(|| panic!("number {}", 7)).join().unwrap_err();
        assert!(error.is_panic() && !error.is_killed());
        assert_eq!(error.to_string(), "the thread panicked: number 7");
        let error = bast::spawn(|| std::panic::panic_any(7)).join().unwrap_err();
        assert_eq!(error.into_panic().unwrap().downcast_ref(), Some(&7));
        assert_eq!(bast::spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn values_that_do_not_fit_in_the_control_block_come_through() {
    #[repr(align(64))]
    #[derive(Debug, PartialEq)]
    struct Large([u64; 100]);
    on_capabilities(2, || {
        let large = Large(std::array::from_fn(|n| n as u64));
        let thread = bast::spawn(move || Large(large.0.map(|n| n + 1)));
        assert_eq!(thread.join().unwrap(), Large(std::array::from_fn(|n| n as u64 + 1)));
    });
}

#[test]
fn what_a_thread_owns_is_dropped_once_however_it_ends() {
    #[derive(Debug)]
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let counted = || Counted(Arc::clone(&drops));
    let runtime = bast::Runtime::builder().capabilities(1).build().unwrap();
    deadline(|| {
        let (a, b, c, d) = (counted(), counted(), counted(), counted());
        runtime.run(move || {
            // Joined, detached while it runs, detached when it is over, killed before it started.
            drop(bast::spawn(move || a).join().unwrap());
            drop(bast::spawn(move || {
                bast::yield_now();
                b
            }));
            let over = bast::spawn(move || c);
            until(|| over.is_finished());
            drop(over);
            let never = bast::spawn(move || d);
            never.thread().kill();
            assert!(never.join().unwrap_err().is_killed());
        });
        drop(runtime);
    });
    assert_eq!(drops.load(Ordering::Relaxed), 4);
}

// Pinning.

#[test]
fn a_started_thread_keeps_its_os_thread_over_parks_of_all_kinds_while_others_steal() {
    on_capabilities(2, || {
        let over = Arc::new(AtomicBool::new(false));
        // Churn: unstarted threads, of which both capabilities take what they can.
        let churn: Vec<_> = (0..2)
            .map(|index| {
                let over = Arc::clone(&over);
                spawn_on(index, move || {
                    while !over.load(Ordering::Relaxed) {
                        let threads: Vec<_> = (0..20).map(|_| bast::spawn(bast::yield_now)).collect();
                        threads.into_iter().for_each(|thread| thread.join().unwrap());
                    }
                })
            })
            .collect();
        let movers: Vec<_> = (0..20)
            .map(|_| {
                bast::spawn(|| {
                    let home = os_thread();
                    // Not Send: it stays on this core as the thread does.
                    let local = Rc::new(Cell::new(0));
                    let (mut stream, mut peer) = connected();
                    let (tx, rx) = channel(1);
                    let (mutex, mvar) = (Arc::new(Mutex::new(0)), Arc::new(MVar::empty()));
                    for turn in 0..100 {
                        let other = bast::spawn({
                            let (mutex, mvar, tx) = (Arc::clone(&mutex), Arc::clone(&mvar), tx.clone());
                            let mut peer = peer.try_clone().unwrap();
                            move || {
                                *mutex.lock() += 1;
                                mvar.put(turn);
                                peer.write_all(b"x").unwrap();
                                tx.send(turn).unwrap();
                            }
                        });
                        *mutex.lock() += 1;
                        assert_eq!(mvar.take(), turn);
                        assert_eq!(stream.read(&mut [0]).unwrap(), 1);
                        assert_eq!(rx.recv().unwrap(), turn);
                        other.join().unwrap();
                        bast::sleep(Duration::from_micros(10));
                        bast::yield_now();
                        local.set(local.get() + 1);
                        assert_eq!(os_thread(), home);
                    }
                    peer.flush().unwrap();
                    assert_eq!((local.get(), *mutex.lock()), (100, 200));
                })
            })
            .collect();
        movers.into_iter().for_each(|mover| mover.join().unwrap());
        over.store(true, Ordering::Relaxed);
        churn.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn an_idle_capability_takes_unstarted_threads_of_a_spawner_that_computes() {
    on_capabilities(2, || {
        let (home, ran) = (os_thread(), Arc::new(AtomicUsize::new(0)));
        let spawn = |_| {
            let ran = Arc::clone(&ran);
            bast::spawn(move || {
                ran.fetch_add(1, Ordering::Relaxed);
                os_thread()
            })
        };
        // A slice that ends meanwhile lets nobody in.
        let threads: Vec<_> = bast::no_park(|| (0..100).map(spawn).collect());
        hog(|| ran.load(Ordering::Relaxed) == 100);
        for thread in threads {
            assert_ne!(thread.join().unwrap(), home);
        }
        let steals: u64 = Handle::current().counters().iter().map(|counters| counters.steals).sum();
        assert!(steals >= 100);
    });
}

#[test]
fn threads_that_are_bound_to_a_capability_are_not_taken() {
    on_capabilities(2, || {
        let home = os_thread();
        let elsewhere = Arc::new(AtomicUsize::new(0));
        let mut bound = Vec::new();
        for _ in 0..50 {
            bound.push(bast::spawn_local(os_thread));
            bound.push(Builder::new().on(bast::capability()).spawn(os_thread).unwrap());
            let elsewhere = Arc::clone(&elsewhere);
            drop(bast::spawn(move || elsewhere.fetch_add(1, Ordering::Relaxed)));
        }
        // Meanwhile the other capability has all the time to take what it can.
        hog(|| elsewhere.load(Ordering::Relaxed) == 50);
        for thread in bound {
            assert_eq!(thread.join().unwrap(), home);
        }
        let other = Handle::current().capability(1 - bast::capability().index());
        for _ in 0..50 {
            let there = Builder::new().on(other).spawn(|| bast::capability().index()).unwrap();
            assert_eq!(there.join().unwrap(), other.index());
        }
    });
}

#[test]
fn a_capability_of_another_runtime_is_refused() {
    deadline(|| {
        let build = || bast::Runtime::builder().capabilities(1).build().unwrap();
        let (here, other) = (build(), build());
        let foreign = other.handle().capability(0);
        here.run(move || {
            for builder in [Builder::new().on(foreign), Builder::new().prefer(foreign)] {
                let refused = catch_unwind(AssertUnwindSafe(|| builder.spawn(|| ())));
                assert!(refused.is_err());
            }
        });
    });
}

// Preemption.

#[test]
fn hogs_that_only_yield_do_not_delay_a_sleeper() {
    for yields in [bast::yield_now as fn(), bast::yield_point] {
        on_capabilities(1, move || {
            let over = Arc::new(AtomicBool::new(false));
            let hogs: Vec<_> = (0..4)
                .map(|_| {
                    let over = Arc::clone(&over);
                    bast::spawn(move || {
                        while !over.load(Ordering::Relaxed) {
                            yields();
                        }
                    })
                })
                .collect();
            let start = Instant::now();
            for _ in 0..5 {
                bast::sleep(Duration::from_millis(1));
            }
            // 5 turns of 4 slices of 20 ms, on a machine that has other work.
            assert!(start.elapsed() < Duration::from_secs(5));
            over.store(true, Ordering::Relaxed);
            hogs.into_iter().for_each(|hog| hog.join().unwrap());
        });
    }
}

#[test]
fn a_thread_that_only_spawns_is_preempted() {
    on_capabilities(1, || {
        let over = Arc::new(AtomicBool::new(false));
        let setter = bast::spawn({
            let over = Arc::clone(&over);
            move || over.store(true, Ordering::Relaxed)
        });
        while !over.load(Ordering::Relaxed) {
            drop(bast::spawn_local(|| ()));
        }
        setter.join().unwrap();
    });
}

#[test]
fn preemption_begins_again_after_idleness() {
    on_capabilities(1, || {
        for pause in [Duration::ZERO, Duration::from_millis(1500)] {
            bast::sleep(pause); // longer than the tick goes on without work
            let over = Arc::new(AtomicBool::new(false));
            let setter = bast::spawn({
                let over = Arc::clone(&over);
                move || over.store(true, Ordering::Relaxed)
            });
            while !over.load(Ordering::Relaxed) {
                bast::yield_point();
            }
            setter.join().unwrap();
        }
    });
}

// Local values.

#[test]
fn local_values_are_a_threads_own_and_are_dropped_on_its_stack_before_it_is_joined() {
    struct Announce(Arc<AtomicU32>, bast::ThreadId);
    impl Drop for Announce {
        fn drop(&mut self) {
            assert_eq!(bast::current().id(), self.1);
            bast::yield_now();
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    bast::local! { static SLOT: RefCell<Option<Announce>> = RefCell::new(None); }
    on_capabilities(2, || {
        let dropped = Arc::new(AtomicU32::new(0));
        for turn in 0..100 {
            let thread = bast::spawn({
                let dropped = Arc::clone(&dropped);
                move || {
                    SLOT.with(|slot| assert!(slot.borrow().is_none(), "another thread's value"));
                    SLOT.with(|slot| *slot.borrow_mut() = Some(Announce(dropped, bast::current().id())));
                }
            });
            thread.join().unwrap();
            assert_eq!(dropped.load(Ordering::Relaxed), turn + 1);
        }
    });
}

#[test]
fn no_local_value_outlives_its_thread() {
    /// Makes itself a successor when it is dropped.
    struct Again(Cell<bool>);
    impl Drop for Again {
        fn drop(&mut self) {
            SLOT.with(|again| again.0.set(true));
        }
    }
    struct UseLocals;
    impl Drop for UseLocals {
        fn drop(&mut self) {
            SLOT.with(|again| again.0.set(true));
        }
    }
    bast::local! { static SLOT: Again = Again(Cell::new(false)); }
    fn assert_fresh() {
        for _ in 0..10 {
            let stale = bast::spawn_local(|| SLOT.with(|again| again.0.get())).join().unwrap();
            assert!(!stale, "a value of a thread that is over");
        }
    }
    on_capabilities(1, || {
        // A destructor that never comes to an end of it.
        bast::spawn_local(|| SLOT.with(|_| ())).join().unwrap();
        assert_fresh();
        // A closure that is dropped instead of run.
        let killed = Builder::new().on(bast::capability()).spawn({
            let late = UseLocals;
            move || drop(late)
        });
        let killed = killed.unwrap();
        killed.thread().kill();
        assert!(killed.join().unwrap_err().is_killed());
        assert_fresh();
        // A result that nobody wants.
        drop(bast::spawn_local(|| UseLocals));
        bast::yield_now();
        assert_fresh();
        // A destructor that panics leaves the others their turn.
        let panics = bast::spawn_local(|| {
            struct Panic;
            impl Drop for Panic {
                fn drop(&mut self) {
                    SLOT.with(|_| ());
                    panic!("in the destructor of a local value");
                }
            }
            bast::local! { static PANIC: Panic = Panic; }
            PANIC.with(|_| ());
        });
        panics.join().unwrap();
        assert_fresh();
    });
}

#[test]
fn a_local_value_can_use_others_while_it_is_made_but_must_not_block() {
    bast::local! {
        static FIRST: u32 = 20;
        static SECOND: u32 = FIRST.with(|first| first + 1);
        static BLOCKS: u32 = { bast::sleep(Duration::from_millis(1)); 0 };
    }
    on_capabilities(1, || {
        assert_eq!(SECOND.with(|second| *second), 21);
        let error = bast::spawn(|| BLOCKS.with(|_| ())).join().unwrap_err();
        assert!(error.to_string().contains("no_park"), "{error}");
    });
    assert_eq!(SECOND.with(|second| *second), 21, "an OS thread has its own");
}

// No park, and the hook before each.

#[test]
fn a_park_inside_no_park_panics_and_what_does_not_park_works() {
    on_capabilities(1, || {
        let parks: [fn(); 4] = [
            || bast::sleep(LONG),
            || MVar::<()>::empty().take(),
            || drop(bast::spawn(|| ()).join()),
            || drop(connected().0.read(&mut [0])),
        ];
        for park in parks {
            let error = bast::spawn(move || bast::no_park(park)).join().unwrap_err();
            assert!(error.to_string().contains("no_park"), "{error}");
        }
        bast::no_park(|| {
            bast::yield_now();
            bast::yield_point();
            assert_eq!(*Mutex::new(1).lock(), 1);
            bast::no_park(|| ());
            let caught = catch_unwind(|| bast::sleep(LONG));
            assert!(caught.is_err(), "the inner one ended the outer one");
        });
        bast::sleep(Duration::from_millis(1));
    });
}

#[test]
fn the_park_hook_is_called_before_each_park_and_not_for_yields() {
    on_capabilities(1, || {
        let calls = Cell::new(0);
        let hook = || calls.set(calls.get() + 1);
        bast::with_park_hook(&hook, || {
            bast::yield_now();
            bast::yield_point();
            assert_eq!(calls.get(), 0);
            bast::sleep(Duration::from_millis(1));
            assert_eq!(calls.get(), 1);
            bast::spawn(|| ()).join().unwrap();
            assert_eq!(calls.get(), 2);
            // A call that does not have to wait is no park.
            let (mut stream, mut peer) = connected();
            peer.write_all(b"x").unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 1);
            assert_eq!(calls.get(), 2);
        });
        bast::sleep(Duration::from_millis(1));
        assert_eq!(calls.get(), 2);
    });
}

#[test]
fn the_park_hook_may_block_and_goes_when_its_frame_is_left() {
    on_capabilities(1, || {
        let calls = Cell::new(0);
        let hook = || {
            calls.set(calls.get() + 1);
            bast::sleep(Duration::from_millis(1));
        };
        bast::with_park_hook(&hook, || bast::sleep(Duration::from_millis(1)));
        assert_eq!(calls.get(), 1, "it is not called for its own parks");
        let unwound = catch_unwind(AssertUnwindSafe(|| bast::with_park_hook(&hook, || panic!("out"))));
        assert!(unwound.is_err());
        bast::sleep(Duration::from_millis(1));
        assert_eq!(calls.get(), 1);
        // An inner one replaces the outer one for its time, and each is gone where its frame is left.
        let inner = || calls.set(calls.get() + 100);
        bast::with_park_hook(&hook, || {
            bast::with_park_hook(&inner, || bast::sleep(Duration::from_millis(1)));
            assert_eq!(calls.get(), 101);
            bast::sleep(Duration::from_millis(1));
            assert_eq!(calls.get(), 102);
        });
        // A hook that panics ends the park before it began, and is there for the next.
        let panics = || {
            calls.set(calls.get() + 1000);
            panic!("in the hook");
        };
        bast::with_park_hook(&panics, || {
            assert!(catch_unwind(|| bast::sleep(LONG)).is_err());
            assert!(catch_unwind(|| bast::sleep(LONG)).is_err());
        });
        assert_eq!(calls.get(), 2102);
    });
}

// Overflow and panics, told on standard error.

#[expect(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    recurse(depth + 1) + frame[0]
}

#[test]
fn an_overflow_names_the_thread_and_its_stack_and_aborts() {
    let output = child::run(|| {
        on_capabilities(1, || {
            let deep = Builder::new().name("deep").stack_size(128 << 10).spawn(|| recurse(0)).unwrap();
            println!("id {}", deep.id());
            deep.join().unwrap()
        });
    });
    let told = child::stderr(&output);
    let printed = String::from_utf8_lossy(&output.stdout);
    let id = printed.lines().find_map(|line| line.split_once("id ")).map(|(_, id)| id.trim()).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(libc::SIGABRT), "{told}");
    let message = format!("bast: thread {id} \"deep\" overflowed its stack of 128 KiB (fault at 0x");
    assert!(told.contains(&message), "{told}");
    assert!(told.contains("Builder::stack_size"), "{told}");
}

#[test]
fn a_panic_with_a_full_backtrace_fits_on_the_smallest_stack_and_names_the_thread() {
    let output = child::run_with(&[("RUST_BACKTRACE", "full")], || {
        on_capabilities(1, || {
            let small = Builder::new().name("small").stack_size(1).spawn(|| panic!("out of luck"));
            let error = small.unwrap().join().unwrap_err();
            assert!(error.is_panic());
        });
    });
    let told = child::stderr(&output);
    assert_eq!(output.status.code(), Some(child::RETURNED), "{told}");
    assert!(told.contains("\"small\" panicked:") && told.contains("out of luck"), "{told}");
    assert!(told.contains("stack backtrace:") && told.contains("threads::"), "{told}");
}

#[test]
fn a_killed_thread_says_nothing() {
    let output = child::run(|| {
        on_capabilities(1, || {
            let sleeper = bast::spawn(|| bast::sleep(LONG));
            until_blocked(1, |what| what == BlockedOn::Timer);
            sleeper.thread().kill();
            assert!(sleeper.join().unwrap_err().is_killed());
        });
    });
    assert_eq!(output.status.code(), Some(child::RETURNED));
    assert_eq!(child::stderr(&output), "");
}

// Where there is no green thread.

#[test]
fn calls_outside_a_runtime_say_what_to_do_instead() {
    let advice = |f: fn()| {
        let payload = catch_unwind(f).unwrap_err();
        let text = payload.downcast_ref::<String>().cloned();
        text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap()
    };
    let told = advice(|| drop(bast::spawn(|| ())));
    assert!(told.contains("bast::run") && told.contains("Runtime::handle"), "{told}");
    let told = advice(|| drop(bast::spawn_local(|| ())));
    assert!(told.contains("bast::run"), "{told}");
    assert!(advice(|| drop(bast::current())).contains("outside a green thread"));
    assert!(!bast::is_green());
    bast::yield_now();
    bast::sleep(Duration::from_millis(1));
    assert_eq!(bast::no_park(|| 3), 3);
    assert_eq!(bast::with_park_hook(&|| panic!("no parks here"), || 4), 4);
}

#[test]
fn ids_are_never_used_again() {
    on_capabilities(2, || {
        let mut seen = HashSet::new();
        for _ in 0..50 {
            let threads: Vec<_> = (0..100).map(|n| spawn_on(n, || bast::current().id())).collect();
            for thread in threads {
                let id = thread.id();
                assert_eq!(thread.join().unwrap(), id);
                assert!(seen.insert(id), "{id} again");
            }
        }
    });
}
