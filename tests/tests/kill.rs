//! Killing threads: before they start, wherever they wait, while they unwind, from wherever.

use bast::sync::{Condvar, MVar, Mutex, channel};
use bast::{BlockedOn, Builder, Handle, Runtime, Thread};
use bast_tests::{deadline, on_capabilities, spawn_on, until, until_blocked, until_blocked_in};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

fn sleeps(what: BlockedOn) -> bool {
    what == BlockedOn::Timer
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Swallows a kill that `f` meets; false if it meets none.
fn swallows_kill(f: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(()) => false,
        Err(payload) => {
            assert!(bast::is_kill(&*payload));
            true
        }
    }
}

#[test]
fn a_thread_that_is_killed_before_it_starts_never_runs() {
    on_capabilities(1, || {
        let (ran, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let body = || {
            let (ran, counted) = (Arc::clone(&ran), Counted(Arc::clone(&dropped)));
            move || {
                ran.store(true, Ordering::Relaxed);
                drop(counted);
            }
        };
        let threads = [
            bast::spawn(body()),
            bast::spawn_local(body()),
            Builder::new().on(bast::capability()).spawn(body()).unwrap(),
        ];
        threads.iter().for_each(|thread| thread.thread().kill());
        for thread in threads {
            assert!(thread.join().unwrap_err().is_killed());
        }
        assert!(!ran.load(Ordering::Relaxed));
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn a_thread_dies_in_each_kind_of_wait_and_its_destructors_run() {
    type Wait = (&'static str, fn());
    let waits: [Wait; 7] = [
        ("timer", || bast::sleep(LONG)),
        ("join thread", || drop(bast::spawn(|| bast::sleep(LONG)).join())),
        ("mutex", || {
            let mutex = Mutex::new(());
            let guard = mutex.lock();
            bast_tests::expect_deadlock_reports(); // a thread that waits for itself
            drop(mutex.lock());
            drop(guard);
        }),
        ("condvar", || {
            let mutex = Mutex::new(());
            drop(Condvar::new().wait(mutex.lock()));
        }),
        ("MVar", || MVar::<()>::empty().take()),
        ("channel receive", || {
            let (tx, rx) = channel::<()>(1);
            let _ = rx.recv();
            drop(tx);
        }),
        ("channel send", || {
            let (tx, rx) = channel(0);
            let _ = tx.send(());
            drop(rx);
        }),
    ];
    for count in [1, 2] {
        on_capabilities(count, move || {
            for (reason, wait) in waits {
                let dropped = Arc::new(AtomicUsize::new(0));
                let thread = spawn_on(1, {
                    let counted = Counted(Arc::clone(&dropped));
                    move || {
                        let _counted = counted;
                        wait();
                    }
                });
                let id = thread.id();
                until(|| {
                    let threads = bast::threads();
                    let info = threads.iter().find(|info| info.id == id);
                    info.and_then(|info| info.blocked_on)
                        .is_some_and(|what| what.to_string().starts_with(reason))
                });
                thread.thread().kill();
                assert!(thread.join().unwrap_err().is_killed(), "{reason}");
                assert_eq!(dropped.load(Ordering::Relaxed), 1, "{reason}");
            }
        });
    }
}

#[test]
fn a_thread_that_kills_itself_dies_at_its_next_wait_and_not_before() {
    on_capabilities(1, || {
        let reached = Arc::new(AtomicUsize::new(0));
        let thread = bast::spawn({
            let reached = Arc::clone(&reached);
            move || {
                bast::current().kill();
                reached.fetch_add(1, Ordering::Relaxed);
                bast::sleep(LONG);
                reached.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert!(thread.join().unwrap_err().is_killed());
        assert_eq!(reached.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn killing_a_thread_that_is_over_does_nothing() {
    on_capabilities(2, || {
        let thread = bast::spawn(|| 5);
        until(|| thread.is_finished());
        thread.thread().kill();
        let name: Thread = thread.thread();
        assert_eq!(thread.join().unwrap(), 5);
        name.kill();
        // Nor to the thread that has its control block next.
        for n in 0..100 {
            assert_eq!(
                bast::spawn(move || {
                    bast::yield_now();
                    n
                })
                .join()
                .unwrap(),
                n
            );
            name.kill();
        }
    });
}

#[test]
fn a_kill_that_was_swallowed_comes_back_at_each_wait() {
    on_capabilities(1, || {
        let thread = bast::spawn(|| {
            let deaths = (0..3).filter(|_| swallows_kill(|| bast::sleep(LONG))).count();
            assert_eq!(deaths, 3);
            assert!(swallows_kill(bast::yield_now));
            assert!(swallows_kill(|| drop(bast::spawn(|| ()).join())));
            assert!(!swallows_kill(|| ()));
            "its own value"
        });
        until_blocked(1, sleeps);
        thread.thread().kill();
        assert_eq!(thread.join().unwrap(), "its own value");
    });
}

#[test]
fn a_sleep_that_is_over_returns_before_the_kill_is_met() {
    on_capabilities(1, || {
        let woke = Arc::new(AtomicBool::new(false));
        let thread = bast::spawn({
            let woke = Arc::clone(&woke);
            move || {
                bast::sleep(Duration::from_millis(1));
                woke.store(true, Ordering::Relaxed);
                bast::sleep(LONG);
            }
        });
        // Claimed by its deadline, and not yet run: this thread runs first.
        let runnable =
            |info: &bast::ThreadInfo| info.id == thread.id() && info.state == bast::State::Runnable;
        until_blocked(1, sleeps);
        until(|| bast::threads().iter().any(runnable) || woke.load(Ordering::Relaxed));
        thread.thread().kill();
        assert!(thread.join().unwrap_err().is_killed());
        assert!(woke.load(Ordering::Relaxed));
    });
}

#[test]
fn a_kill_in_the_park_hook_is_not_lost() {
    on_capabilities(1, || {
        let killer = Arc::new(AtomicBool::new(false));
        let thread = bast::spawn({
            let killed = Arc::clone(&killer);
            move || {
                // Killed while it yields in the hook: the park that follows must see it.
                let hook = || {
                    while !killed.load(Ordering::Relaxed) {
                        let _ = catch_unwind(bast::yield_now);
                    }
                };
                bast::with_park_hook(&hook, || bast::sleep(LONG));
            }
        });
        (0..3).for_each(|_| bast::yield_now());
        thread.thread().kill();
        killer.store(true, Ordering::Relaxed);
        assert!(thread.join().unwrap_err().is_killed());
    });
}

#[test]
fn kills_come_from_other_capabilities_and_from_os_threads() {
    deadline(|| {
        let runtime = Runtime::builder().capabilities(2).build().unwrap();
        let handle = runtime.handle();
        let victims: Vec<_> = (0..100).map(|_| handle.spawn(|| bast::sleep(LONG))).collect();
        until_blocked_in(&handle, 100, sleeps, std::thread::yield_now);
        for (number, victim) in victims.into_iter().enumerate() {
            let thread = victim.thread();
            if number % 2 == 0 {
                thread.kill();
            } else {
                runtime.run(move || spawn_on(number / 2, move || thread.kill()).join().unwrap());
            }
            assert!(victim.join().unwrap_err().is_killed());
        }
    });
}

#[test]
fn a_kill_races_with_a_theft_and_wins() {
    // Each thread is unstarted when its killing begins, and is taken by the other capability or not.
    on_capabilities(2, || {
        let stolen = || Handle::current().counters().iter().map(|counters| counters.steals).sum::<u64>();
        let before = stolen();
        let mut turns = 0;
        while turns < 200 || stolen() - before < 100 {
            let threads: Vec<_> = (0..8).map(|_| bast::spawn(|| bast::sleep(LONG))).collect();
            for thread in &threads {
                thread.thread().kill();
                if turns % 3 == 0 {
                    std::hint::spin_loop();
                }
            }
            for thread in threads {
                assert!(thread.join().unwrap_err().is_killed());
            }
            turns += 1;
        }
    });
}

#[test]
fn ten_thousand_parked_threads_are_killed_and_none_is_left() {
    on_capabilities(2, || {
        let base = bast::threads().len();
        let dropped = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..10_000)
            .map(|_| {
                let counted = Counted(Arc::clone(&dropped));
                bast::spawn(move || {
                    let _counted = counted;
                    bast::sleep(LONG);
                })
            })
            .collect();
        until(|| Handle::current().counters().len() == 2 && bast::threads().len() == base + 10_000);
        threads.iter().for_each(|thread| thread.thread().kill());
        for thread in threads {
            assert!(thread.join().unwrap_err().is_killed());
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 10_000);
        until(|| bast::threads().len() == base);
    });
}

// Unwinding.

/// Parks, and yields, in its destructor.
struct Slow {
    gate: Arc<MVar<()>>,
    passed: Arc<AtomicUsize>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        self.gate.take();
        bast::yield_now();
        self.passed.fetch_add(1, Ordering::Relaxed);
    }
}

fn slow_victims(count: usize, gate: &Arc<MVar<()>>, passed: &Arc<AtomicUsize>) -> Vec<bast::JoinHandle<()>> {
    (0..count)
        .map(|_| {
            let slow = Slow { gate: Arc::clone(gate), passed: Arc::clone(passed) };
            let second = Slow { gate: Arc::clone(gate), passed: Arc::clone(passed) };
            bast::spawn_local(move || {
                let _slow = slow;
                let _second = second;
                bast::sleep(LONG);
            })
        })
        .collect()
}

#[test]
fn a_kill_is_not_delivered_while_the_thread_unwinds_even_among_others_that_do() {
    // All unwind at the same time on one core; a kill that met one of them in its destructor would end the process.
    on_capabilities(1, || {
        let (gate, passed) = (Arc::new(MVar::empty()), Arc::new(AtomicUsize::new(0)));
        let victims = slow_victims(3, &gate, &passed);
        until_blocked(3, sleeps);
        for (turn, victim) in victims.iter().enumerate() {
            victim.thread().kill();
            until_blocked(turn + 1, |what| what == BlockedOn::MVar);
        }
        for turn in 0..6 {
            victims.iter().for_each(|victim| victim.thread().kill());
            (0..3).for_each(|_| bast::yield_now());
            assert_eq!(passed.load(Ordering::Relaxed), turn);
            gate.put(());
            until(|| passed.load(Ordering::Relaxed) == turn + 1);
        }
        for victim in victims {
            assert!(victim.join().unwrap_err().is_killed());
        }
    });
}

#[test]
fn a_panic_that_begins_while_another_thread_unwinds_is_an_unwind_too() {
    on_capabilities(1, || {
        let (gate, passed) = (Arc::new(MVar::empty()), Arc::new(AtomicUsize::new(0)));
        let victims = slow_victims(1, &gate, &passed);
        until_blocked(1, sleeps);
        victims[0].thread().kill();
        until_blocked(1, |what| what == BlockedOn::MVar);
        let panics = bast::spawn_local({
            let slow = Slow { gate: Arc::clone(&gate), passed: Arc::clone(&passed) };
            move || {
                let _slow = slow;
                panic!("while another unwinds");
            }
        });
        until_blocked(2, |what| what == BlockedOn::MVar);
        panics.thread().kill();
        (0..3).for_each(|_| gate.put(()));
        assert!(panics.join().unwrap_err().is_panic());
        for victim in victims {
            assert!(victim.join().unwrap_err().is_killed());
        }
        assert_eq!(passed.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn neighbours_of_a_thread_that_unwinds_are_not_taken_for_unwinding() {
    // Whether it is suspended because it waits or because it yields.
    for waits in [true, false] {
        on_capabilities(1, move || {
            struct Pause(bool, Arc<AtomicBool>);
            impl Drop for Pause {
                fn drop(&mut self) {
                    while !self.1.load(Ordering::Relaxed) {
                        if self.0 {
                            bast::sleep(Duration::from_millis(1));
                        } else {
                            bast::yield_now();
                        }
                    }
                }
            }
            let over = Arc::new(AtomicBool::new(false));
            let pause = Pause(waits, Arc::clone(&over));
            let unwinds = bast::spawn_local(move || {
                let _pause = pause;
                bast::sleep(LONG);
            });
            until_blocked(1, sleeps);
            unwinds.thread().kill();
            bast::yield_now();
            bast::yield_now();
            assert!(std::thread::panicking(), "the other one unwinds, and is off the core");
            // Io waits instead of failing, and a kill is delivered.
            let (mut stream, mut peer) = bast_tests::connected();
            let reader = bast::spawn_local(move || std::io::Read::read(&mut stream, &mut [0; 8]));
            until_blocked(1, |what| matches!(what, BlockedOn::Read(_)));
            std::io::Write::write_all(&mut peer, b"x").unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), 1);
            let sleeper = bast::spawn_local(|| bast::sleep(LONG));
            bast::yield_now();
            sleeper.thread().kill();
            assert!(sleeper.join().unwrap_err().is_killed());
            over.store(true, Ordering::Relaxed);
            assert!(unwinds.join().unwrap_err().is_killed());
        });
    }
}

#[test]
fn a_thread_that_caught_its_panic_can_be_killed_while_another_unwinds() {
    on_capabilities(1, || {
        let caught = bast::spawn_local(|| {
            assert!(catch_unwind(|| panic!("caught")).is_err());
            bast::sleep(LONG);
        });
        until_blocked(1, sleeps);
        let (gate, passed) = (Arc::new(MVar::empty()), Arc::new(AtomicUsize::new(0)));
        let victims = slow_victims(1, &gate, &passed);
        until_blocked(2, sleeps);
        victims[0].thread().kill();
        until_blocked(1, |what| what == BlockedOn::MVar);
        caught.thread().kill();
        assert!(caught.join().unwrap_err().is_killed());
        (0..2).for_each(|_| gate.put(()));
        assert!(victims.into_iter().all(|victim| victim.join().unwrap_err().is_killed()));
    });
}
