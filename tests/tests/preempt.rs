//! Preemption: which calls are points at which a thread gives way, and what happens at allocations.

use bast::alloc::{YieldingAlloc, is_preemptible, preemptible};
use bast::sync::{Condvar, MVar, Mutex, channel, unbounded};
use bast::{Builder, Handle, JoinHandle, Runtime};
use bast_server::{Metrics, Request, Server, Settings};
use bast_tests::sys::thread_cpu_time;
use bast_tests::{child, connected, deadline, until};
use std::alloc::System;
use std::cell::Cell;
use std::hint::black_box;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

// SAFETY: the threads of these tests that opt in keep to the contract: they allocate in no initialiser of a thread-local
// of std and leave no state of the OS thread in an order.
#[global_allocator]
static ALLOCATOR: YieldingAlloc<System> = unsafe { YieldingAlloc::new(System) };

const SLICE: Duration = Duration::from_millis(1);
const LEAST_SLICE: Duration = Duration::from_micros(100);
/// Noise of the machine only adds to what is measured: the best of so many attempts counts.
const ATTEMPTS: usize = 8;

/// Runs `main` on one core with the given slice, under a deadline. Nobody has opted in.
fn with_slice<T: Send + 'static>(slice: Duration, main: impl FnOnce() -> T + Send + 'static) -> T {
    deadline(|| {
        let runtime = Runtime::builder().capabilities(1).time_slice(slice).build();
        runtime.expect("a runtime can be built").run(main)
    })
}

/// Spawns a thread that may be switched at allocations.
fn spawn_preemptible<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().preempt_at_allocation(true).spawn(f).expect("a thread can be spawned")
}

fn allocate() {
    black_box(Box::new(0u64));
}

/// Allocates for so long, and calls nothing of the runtime.
fn allocate_for(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        allocate();
    }
}

/// A neighbour that counts its turns, for as long as it is kept.
struct Neighbour {
    turns: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Neighbour {
    fn new() -> Neighbour {
        let neighbour = Neighbour { turns: Arc::default(), over: Arc::default() };
        let (turns, over) = (Arc::clone(&neighbour.turns), Arc::clone(&neighbour.over));
        drop(bast::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
                bast::yield_now();
            }
        }));
        neighbour
    }

    fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Whether the neighbour runs while `body` does.
    fn runs_during(&self, body: impl FnOnce()) -> bool {
        let before = self.turns();
        body();
        self.turns() != before
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

// Shares.

/// How often two hogs got through `work` in the same number of slices.
fn shares(choice: bool, work: fn()) -> (u64, u64) {
    with_slice(Duration::from_millis(5), move || {
        let hog = || {
            let runtime = Handle::current();
            let switches = move || runtime.counters()[0].switches;
            // 60 slices: 0.3 s.
            let until = switches() + 60;
            let body = move || {
                let mut done = 0;
                while switches() < until {
                    (0..100).for_each(|_| work());
                    done += 1;
                }
                done
            };
            Builder::new().preempt_at_allocation(choice).spawn(body).expect("a thread can be spawned")
        };
        let (first, second): (JoinHandle<u64>, JoinHandle<u64>) = (hog(), hog());
        (first.join().unwrap(), second.join().unwrap())
    })
}

fn assert_shares_are_equal(choice: bool, work: fn()) {
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let (first, second) = shares(choice, work);
        seen.push((first, second));
        // Within 25 % of each other.
        if first.max(second) * 4 <= first.min(second) * 5 {
            return;
        }
    }
    panic!("unequal shares: {seen:?}");
}

#[test]
fn two_hogs_that_allocate_get_equal_shares_of_a_core() {
    assert_shares_are_equal(true, || {
        let words: Vec<String> = "a hog computes and allocates".split(' ').map(str::to_owned).collect();
        black_box(words.concat());
    });
}

#[test]
fn two_hogs_that_do_not_allocate_get_equal_shares_at_their_yield_points() {
    assert_shares_are_equal(false, || {
        black_box((0..50u64).fold(1, |product, n| black_box(product ^ n)));
        bast::yield_point();
    });
}

/// The lateness is that in CPU time of the core: what the machine gives to others meanwhile is not the hog's.
#[test]
fn a_ticker_beside_a_hog_that_allocates_is_late_by_two_slices_at_most() {
    const DEFAULT_SLICE: Duration = Duration::from_millis(20);
    let p99 = || {
        with_slice(DEFAULT_SLICE, || {
            let over = Arc::new(AtomicBool::new(false));
            let hog = spawn_preemptible({
                let over = Arc::clone(&over);
                move || {
                    while !over.load(Ordering::Relaxed) {
                        allocate();
                    }
                }
            });
            let tick = |_| {
                let before = thread_cpu_time();
                bast::sleep(Duration::from_millis(1));
                thread_cpu_time() - before
            };
            let mut late: Vec<Duration> = (0..100).map(tick).collect();
            over.store(true, Ordering::Relaxed);
            hog.join().unwrap();
            late.sort_unstable();
            late[98]
        })
    };
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        seen.push(p99());
        if seen.last().is_some_and(|late| *late <= 2 * DEFAULT_SLICE) {
            return;
        }
    }
    panic!("late by {seen:?}");
}

/// Each would wait for a slice of its own if new threads and hogs took turns. The hogs count their slices.
#[test]
fn new_threads_beside_hogs_start_in_the_same_slice() {
    with_slice(Duration::from_millis(5), || {
        let over = Arc::new(AtomicBool::new(false));
        let hogs: Vec<_> = (0..2)
            .map(|_| {
                let over = Arc::clone(&over);
                spawn_preemptible(move || {
                    while !over.load(Ordering::Relaxed) {
                        allocate();
                    }
                })
            })
            .collect();
        // Both hogs have started.
        (0..4).for_each(|_| bast::yield_now());
        let runtime = Handle::current();
        let before = runtime.counters()[0].switches;
        let started: Vec<_> = (0..10)
            .map(|_| {
                let runtime = runtime.clone();
                bast::spawn(move || runtime.counters()[0].switches)
            })
            .collect();
        let last = started.into_iter().map(|thread| thread.join().unwrap()).max();
        over.store(true, Ordering::Relaxed);
        hogs.into_iter().for_each(|hog| hog.join().unwrap());
        // Ten starts, a slice of each hog, and as much again if a slice ended while they were spawned; in turn it were twenty.
        assert!(last.is_some_and(|last| last <= before + 17), "{before} {last:?}");
    });
}

// Who is switched at an allocation, and who is not.

#[test]
fn a_thread_that_opted_in_is_switched_at_allocations_and_no_other() {
    with_slice(SLICE, || {
        let neighbour = Neighbour::new();
        bast::yield_now();
        assert!(!neighbour.runs_during(|| allocate_for(20 * SLICE)), "the main thread did not opt in");
        preemptible(|| {
            let before = neighbour.turns();
            while neighbour.turns() == before {
                allocate();
            }
        });
        assert!(!neighbour.runs_during(|| allocate_for(20 * SLICE)), "the choice ends with the scope");
    });
}

#[test]
fn every_kind_of_allocation_is_such_a_point() {
    for allocate in [
        (|| drop(black_box(Vec::<u8>::with_capacity(10)))) as fn(),
        || drop(black_box(vec![0u8; 10])),
        || {
            let mut bytes = black_box(Vec::<u8>::new());
            for n in 0..20 {
                bytes.push(n);
            }
            black_box(bytes);
        },
    ] {
        with_slice(SLICE, move || {
            let neighbour = Neighbour::new();
            bast::yield_now();
            preemptible(|| {
                let before = neighbour.turns();
                while neighbour.turns() == before {
                    allocate();
                }
            });
        });
    }
}

#[test]
fn a_thread_inherits_the_choice_unless_its_builder_says_otherwise() {
    let choices = |runtime_wide: bool| {
        deadline(|| {
            let builder = Runtime::builder().capabilities(1).preempt_at_allocation(runtime_wide);
            builder.build().expect("a runtime can be built").run(|| {
                let inherited = bast::spawn(is_preemptible).join().unwrap();
                let local = bast::spawn_local(is_preemptible).join().unwrap();
                assert_eq!(inherited, local);
                for choice in [true, false] {
                    let child = Builder::new()
                        .preempt_at_allocation(choice)
                        .spawn(|| (is_preemptible(), bast::spawn(is_preemptible).join().unwrap()));
                    assert_eq!(child.unwrap().join().unwrap(), (choice, choice));
                }
                assert!(preemptible(|| bast::spawn(is_preemptible).join().unwrap()));
                (is_preemptible(), inherited)
            })
        })
    };
    assert_eq!(choices(false), (false, false));
    assert_eq!(choices(true), (true, true));
    assert!(!is_preemptible(), "a plain OS thread never is");
    assert!(!preemptible(is_preemptible));
}

#[test]
fn the_choice_of_a_scope_ends_with_an_unwind_too() {
    with_slice(SLICE, || {
        let unwound =
            catch_unwind(AssertUnwindSafe(|| preemptible(|| std::panic::resume_unwind(Box::new(())))));
        assert!(unwound.is_err());
        assert!(!is_preemptible());
    });
}

#[test]
fn a_kill_stays_pending_at_allocations_and_is_delivered_by_the_next_call() {
    with_slice(SLICE, || {
        let [started, killed] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let stage = Arc::new(AtomicU64::new(0));
        let hog = spawn_preemptible({
            let (started, killed, stage) = (Arc::clone(&started), Arc::clone(&killed), Arc::clone(&stage));
            move || {
                started.store(true, Ordering::Relaxed);
                while !killed.load(Ordering::Relaxed) {
                    allocate();
                }
                // The kill is there. Being switched at allocations does not raise it.
                allocate_for(5 * SLICE);
                stage.store(1, Ordering::Relaxed);
                bast::yield_now();
                stage.store(2, Ordering::Relaxed);
            }
        });
        until(|| started.load(Ordering::Relaxed));
        hog.thread().kill();
        // The home's part of a kill is done at its next turn.
        bast::yield_now();
        killed.store(true, Ordering::Relaxed);
        assert!(hog.join().unwrap_err().is_killed());
        assert_eq!(stage.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_sleep_is_cut_by_a_kill_after_its_thread_has_burned_the_core() {
    with_slice(Duration::from_millis(20), || {
        let asleep = Arc::new(AtomicBool::new(false));
        let burner = spawn_preemptible({
            let asleep = Arc::clone(&asleep);
            move || {
                allocate_for(Duration::from_millis(100));
                asleep.store(true, Ordering::Relaxed);
                bast::sleep(Duration::from_secs(3600));
            }
        });
        until(|| asleep.load(Ordering::Relaxed));
        let start = Instant::now();
        burner.thread().kill();
        assert!(burner.join().unwrap_err().is_killed());
        assert!(start.elapsed() < Duration::from_secs(3));
    });
}

#[test]
fn a_hog_that_neither_allocates_nor_calls_keeps_its_core_until_a_yield_point() {
    with_slice(SLICE, || {
        let neighbour = Neighbour::new();
        bast::yield_now();
        preemptible(|| {
            let start = Instant::now();
            let hogged = neighbour.runs_during(|| {
                while start.elapsed() < 20 * SLICE {
                    std::hint::spin_loop();
                }
            });
            assert!(!hogged, "nothing can take its core");
            assert!(neighbour.runs_during(bast::yield_point), "the slice is long over");
        });
    });
}

// Where nobody is switched.

#[test]
fn nobody_is_switched_inside_no_park() {
    with_slice(SLICE, || {
        let neighbour = Neighbour::new();
        bast::yield_now();
        preemptible(|| {
            assert!(!neighbour.runs_during(|| bast::no_park(|| allocate_for(20 * SLICE))));
        });
    });
}

#[test]
fn no_park_keeps_whole_what_the_contract_names() {
    use std::cell::{OnceCell, RefCell};
    use std::sync::{Mutex, OnceLock};
    thread_local! {
        static BORROWED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
        static MADE: OnceCell<u64> = const { OnceCell::new() };
    }
    static LOCKED: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    static ONCE: OnceLock<u64> = OnceLock::new();
    with_slice(LEAST_SLICE, || {
        let users: Vec<_> = (0..4)
            .map(|n| {
                spawn_preemptible(move || {
                    for _ in 0..50 {
                        bast::no_park(|| {
                            let mut locked = LOCKED.lock().expect("nobody panics with the lock");
                            locked.push(n);
                            allocate_for(3 * LEAST_SLICE);
                        });
                        bast::no_park(|| {
                            BORROWED.with_borrow_mut(|borrowed| {
                                borrowed.push(n);
                                allocate_for(3 * LEAST_SLICE);
                            });
                        });
                        allocate_for(LEAST_SLICE);
                    }
                    bast::no_park(|| {
                        ONCE.get_or_init(|| {
                            allocate_for(20 * LEAST_SLICE);
                            n
                        });
                        MADE.with(|made| {
                            *made.get_or_init(|| {
                                allocate_for(20 * LEAST_SLICE);
                                n
                            })
                        })
                    })
                })
            })
            .collect();
        let made: Vec<u64> = users.into_iter().map(|user| user.join().unwrap()).collect();
        assert!(made.windows(2).all(|pair| pair[0] == pair[1]), "{made:?}");
        assert_eq!(LOCKED.lock().expect("nobody panicked").len(), 200);
    });
}

#[test]
fn nobody_is_switched_in_an_initialiser_of_a_local() {
    thread_local! { static NEIGHBOUR: Cell<Option<Neighbour>> = const { Cell::new(None) }; }
    bast::local! {
        static SWITCHED: bool = {
            let neighbour = NEIGHBOUR.take().expect("it was set");
            neighbour.runs_during(|| allocate_for(20 * SLICE))
        };
    }
    with_slice(SLICE, || {
        NEIGHBOUR.set(Some(Neighbour::new()));
        bast::yield_now();
        preemptible(|| assert!(!SWITCHED.with(|switched| *switched)));
    });
}

#[test]
fn nobody_is_switched_in_a_panic_hook_or_in_what_unwinds() {
    struct Allocates<'a>(&'a Neighbour, &'a Cell<bool>);
    impl Drop for Allocates<'_> {
        fn drop(&mut self) {
            self.1.set(self.0.runs_during(|| allocate_for(20 * SLICE)));
        }
    }
    static HOOK_RAN: AtomicBool = AtomicBool::new(false);
    child::succeeds(|| {
        // One set before the runtime is started, and one after: the second replaces what the runtime knows of hooks.
        for late in [false, true] {
            let set_hook = || {
                std::panic::set_hook(Box::new(|_| {
                    HOOK_RAN.store(true, Ordering::Relaxed);
                    allocate_for(20 * SLICE);
                }));
            };
            if !late {
                set_hook();
            }
            with_slice(SLICE, move || {
                if late {
                    set_hook();
                }
                let neighbour = Neighbour::new();
                bast::yield_now();
                let ran = Cell::new(true);
                preemptible(|| {
                    let before = neighbour.turns();
                    let unwound = catch_unwind(AssertUnwindSafe(|| {
                        let _allocates = Allocates(&neighbour, &ran);
                        panic!("for the hook");
                    }));
                    assert!(unwound.is_err());
                    assert_eq!(neighbour.turns(), before);
                });
                assert!(!ran.get(), "switched in a destructor while unwinding");
                assert!(HOOK_RAN.swap(false, Ordering::Relaxed));
            });
        }
    });
}

#[test]
fn an_os_thread_that_ends_allocates_in_peace() {
    static DROPPED: AtomicBool = AtomicBool::new(false);
    struct Allocates;
    impl Drop for Allocates {
        fn drop(&mut self) {
            allocate_for(10 * SLICE);
            DROPPED.store(true, Ordering::Relaxed);
        }
    }
    thread_local! { static LATE: Cell<Option<Allocates>> = const { Cell::new(None) }; }
    with_slice(SLICE, || preemptible(|| LATE.set(Some(Allocates))));
    // Dropping the runtime has joined its OS thread.
    assert!(DROPPED.load(Ordering::Relaxed));
}

/// What the runtime allocates under its short locks, by many threads of one core at once: if one of them lost its core
/// there, the next would spin for the lock for ever, or find a borrow.
#[test]
fn the_runtimes_own_short_locks_are_never_held_by_one_who_lost_its_core() {
    with_slice(LEAST_SLICE, || {
        let runtime = Handle::current();
        let until = runtime.counters()[0].switches + 3_000;
        let shared = Arc::new((unbounded::<u64>(), Mutex::new(0u64)));
        let workers: Vec<_> = (0..8u64)
            .map(|n| {
                let (runtime, shared) = (runtime.clone(), Arc::clone(&shared));
                spawn_preemptible(move || {
                    let ((tx, rx), count) = &*shared;
                    while runtime.counters()[0].switches < until {
                        // A buffer that grows under the channel's lock, and is made anew.
                        let (own_tx, own_rx) = unbounded();
                        for item in 0..100 {
                            own_tx.send(item).expect("the receiver is here");
                            tx.send(item).expect("the receiver is here");
                        }
                        assert_eq!(own_rx.try_iter().count(), 100);
                        rx.try_iter().for_each(drop);
                        // Control blocks, timers, descriptors' objects, mail.
                        let sleepers: Vec<_> = (0..20)
                            .map(|m| bast::spawn(move || bast::sleep(Duration::from_micros(n * m))))
                            .collect();
                        sleepers[0].thread().kill();
                        *count.lock() += 1;
                        drop(connected());
                        sleepers.into_iter().for_each(|sleeper| drop(sleeper.join()));
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert!(*shared.1.lock() > 0);
    });
}

// Runtime calls.

/// Calls `call` until a neighbour has run: on one core that is when a call gave way.
fn gives_way(mut call: impl FnMut()) {
    let neighbour = Neighbour::new();
    bast::yield_now();
    let before = neighbour.turns();
    while neighbour.turns() == before {
        call();
    }
}

#[test]
fn every_runtime_call_that_need_not_wait_gives_way_when_the_slice_is_over() {
    with_slice(SLICE, || {
        let mutex = Mutex::new(0);
        gives_way(|| *mutex.lock() += 1);
        gives_way(|| drop(mutex.try_lock()));
        let condvar = Condvar::new();
        gives_way(|| condvar.notify_one());
        gives_way(|| condvar.notify_all());
        let mvar = MVar::empty();
        gives_way(|| {
            mvar.put(1);
            mvar.take();
        });
        gives_way(|| _ = mvar.try_put(1));
        gives_way(|| _ = mvar.read());
        gives_way(|| _ = mvar.swap(2));
        gives_way(|| _ = mvar.try_read());
        gives_way(|| _ = mvar.try_take());
        let (tx, rx) = channel(1);
        gives_way(|| {
            tx.send(1).unwrap();
            rx.recv().unwrap();
        });
        gives_way(|| _ = tx.try_send(1));
        gives_way(|| _ = rx.try_recv());
        let (tx, rx) = unbounded();
        gives_way(|| tx.send(1).unwrap());
        gives_way(|| _ = rx.try_iter().count());
        gives_way(bast::yield_point);
        gives_way(|| bast::sleep(Duration::ZERO));
        // Io that did not have to wait.
        let (mut stream, mut peer) = connected();
        let mut buf = [0; 1];
        gives_way(|| {
            peer.write_all(b"x").unwrap();
            stream.read_exact(&mut buf).unwrap();
        });
        gives_way(|| {
            stream.write_all(b"x").unwrap();
            peer.read_exact(&mut buf).unwrap();
        });
        // Last, for the next neighbour would be queued behind all of these.
        gives_way(|| drop(bast::spawn_local(|| ())));
        gives_way(|| drop(bast::spawn(|| ())));
    });
}

#[test]
fn joining_threads_that_have_ended_gives_way_when_the_slice_is_over() {
    with_slice(SLICE, || {
        let neighbour = Neighbour::new();
        let all = 10_000;
        let mut gave_way = false;
        // A slice may end between two rounds, where threads yield anyhow.
        while !gave_way {
            let count = Arc::new(AtomicU64::new(0));
            let ended: Vec<_> = (0..all)
                .map(|_| {
                    let count = Arc::clone(&count);
                    bast::spawn(move || count.fetch_add(1, Ordering::Relaxed))
                })
                .collect();
            until(|| count.load(Ordering::Relaxed) == all && ended.iter().all(JoinHandle::is_finished));
            gave_way =
                neighbour.runs_during(|| ended.into_iter().for_each(|thread| assert!(thread.join().is_ok())));
        }
    });
}

// With the smallest slice.

#[test]
fn an_mvar_is_passed_to_and_fro_under_the_smallest_slice_without_a_deadlock() {
    with_slice(LEAST_SLICE, || {
        let hog_over = Arc::new(AtomicBool::new(false));
        let hog = spawn_preemptible({
            let over = Arc::clone(&hog_over);
            move || {
                while !over.load(Ordering::Relaxed) {
                    allocate();
                }
            }
        });
        let pairs: Vec<_> = (0..4)
            .map(|_| {
                let (ping, pong) = (Arc::new(MVar::empty()), Arc::new(MVar::empty()));
                let echo = spawn_preemptible({
                    let (ping, pong) = (Arc::clone(&ping), Arc::clone(&pong));
                    move || (0..1_000).for_each(|_| pong.put(ping.take()))
                });
                let caller = spawn_preemptible(move || {
                    for n in 0..1_000u64 {
                        ping.put(Box::new(n));
                        assert_eq!(*pong.take(), n);
                    }
                });
                [echo, caller]
            })
            .collect();
        pairs.into_iter().flatten().for_each(|thread| thread.join().unwrap());
        hog_over.store(true, Ordering::Relaxed);
        hog.join().unwrap();
    });
}

#[test]
fn a_runtime_can_end_in_the_middle_of_a_tick_a_hundred_times() {
    deadline(|| {
        for round in 0..100 {
            let runtime = Runtime::builder()
                .capabilities(2)
                .time_slice(LEAST_SLICE)
                .preempt_at_allocation(true)
                .build()
                .expect("a runtime can be built");
            let made = runtime.run(move || {
                let hogs: Vec<_> =
                    (0..3).map(|_| bast::spawn(move || allocate_for(round % 5 * LEAST_SLICE))).collect();
                hogs.into_iter().map(|hog| hog.join().is_ok()).filter(|ok| *ok).count()
            });
            assert_eq!(made, 3);
        }
    });
}

/// The list of servers is copied under a lock of std's: whoever was switched in that allocation kept it, and the next one of the core
/// to ask waited for ever.
#[test]
fn threads_that_are_switched_at_allocations_may_ask_for_metrics_at_the_same_time() {
    const PAGES: usize = 2000;
    deadline(|| {
        let runtime =
            Runtime::builder().capabilities(1).time_slice(LEAST_SLICE).preempt_at_allocation(true).build();
        runtime.expect("a runtime can be built").run(|| {
            let metrics = Metrics::new();
            let settings =
                Settings { metrics: Some(metrics.clone()), handle_signals: false, ..Settings::default() };
            let server = Server::bind("127.0.0.1:0").expect("bind").settings(settings);
            let handle = server.handle();
            let serving = bast::spawn(move || server.serve(|_: &mut Request<'_>| "hello"));
            let pages: Vec<_> = (0..3)
                .map(|_| {
                    let metrics = metrics.clone();
                    bast::spawn(move || (0..PAGES).map(|_| metrics.text().len()).sum::<usize>())
                })
                .collect();
            pages.into_iter().for_each(|page| assert!(page.join().expect("no panic") > PAGES));
            handle.shutdown();
            serving.join().expect("no panic").expect("a clean end");
        });
    });
}
