//! Exceptions from outside: thrown, masked, caught; in GHC's semantics.

use bast::sync::{MVar, Mutex, unbounded};
use bast::{BlockedOn, Builder, Handle, JoinHandle, MaskingState, Thread, throw_to};
use bast_tests::{deadline, on_capabilities, spawn_on, until, until_blocked};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

/// An exception of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number(usize);

fn number(payload: &(dyn Any + Send)) -> usize {
    payload.downcast_ref::<Number>().expect("the exception that was thrown").0
}

/// What `f` unwinds with, if it is a number of ours.
fn caught(f: impl FnOnce()) -> Option<usize> {
    catch_unwind(AssertUnwindSafe(f)).err().map(|payload| number(&*payload))
}

fn is_throwing(what: BlockedOn) -> bool {
    matches!(what, BlockedOn::ThrowTo(_))
}

fn is_mvar(what: BlockedOn) -> bool {
    what == BlockedOn::MVar
}

/// A signal from one thread to another.
#[derive(Clone)]
struct Gate(Arc<MVar<()>>);

impl Gate {
    fn new() -> Gate {
        Gate(Arc::new(MVar::empty()))
    }

    fn open(&self) {
        assert!(self.0.try_put(()).is_ok(), "a gate is opened once");
    }

    fn pass(&self) {
        self.0.take();
    }
}

#[test]
fn an_exception_that_was_thrown_is_caught_with_its_own_value_and_is_consumed() {
    for count in [1, 2] {
        on_capabilities(count, || {
            let begun = Gate::new();
            let thread = spawn_on(1, {
                let begun = begun.clone();
                move || {
                    let first = caught(|| {
                        begun.open();
                        bast::sleep(LONG);
                    });
                    bast::yield_now();
                    bast::sleep(Duration::from_micros(1));
                    first
                }
            });
            begun.pass();
            throw_to(&thread.thread(), Number(5));
            assert_eq!(thread.join().unwrap(), Some(5));
        });
    }
}

#[test]
fn an_exception_that_nobody_catches_ends_the_thread_alone_and_is_what_join_gives() {
    on_capabilities(2, || {
        let (begun, other) = (Gate::new(), bast::spawn(|| 3));
        let thread = spawn_on(1, {
            let begun = begun.clone();
            move || {
                begun.open();
                bast::sleep(LONG);
            }
        });
        begun.pass();
        throw_to(&thread.thread(), Number(1));
        let error = thread.join().unwrap_err();
        assert!(!error.is_killed());
        assert_eq!(number(&*error.into_panic().unwrap()), 1);
        assert_eq!(other.join().unwrap(), 3);
    });
}

#[test]
fn thrown_to_oneself_it_is_raised_at_once_even_masked() {
    on_capabilities(1, || {
        let reached = AtomicBool::new(false);
        let to_self = || {
            throw_to(&bast::current(), Number(2));
            reached.store(true, Ordering::Relaxed);
        };
        assert_eq!(caught(to_self), Some(2));
        assert_eq!(caught(|| bast::mask(|_| to_self())), Some(2));
        assert_eq!(caught(|| bast::uninterruptible(to_self)), Some(2));
        assert!(!reached.load(Ordering::Relaxed));
        assert_eq!(bast::masking_state(), MaskingState::Unmasked);
    });
}

#[test]
fn thrown_to_a_thread_that_is_over_it_does_nothing_and_returns() {
    on_capabilities(2, || {
        let thread = spawn_on(1, || 7);
        until(|| thread.is_finished());
        let name = thread.thread();
        assert_eq!(thread.join().unwrap(), 7);
        throw_to(&name, Number(0));
    });
}

#[test]
fn a_thread_that_has_not_started_never_runs_and_its_thrower_goes_on() {
    on_capabilities(1, || {
        let ran = Arc::new(AtomicBool::new(false));
        let thread = bast::spawn({
            let ran = Arc::clone(&ran);
            move || ran.store(true, Ordering::Relaxed)
        });
        throw_to(&thread.thread(), Number(4));
        assert_eq!(number(&*thread.join().unwrap_err().into_panic().unwrap()), 4);
        assert!(!ran.load(Ordering::Relaxed));
    });
}

#[test]
fn exceptions_of_one_thread_arrive_in_their_order_each_at_a_place_of_its_own() {
    on_capabilities(2, || {
        let (begun, go) = (Gate::new(), Gate::new());
        let thread = spawn_on(1, {
            let (begun, go) = (begun.clone(), go.clone());
            move || {
                bast::mask(|restore| {
                    begun.open();
                    bast::uninterruptible(|| go.pass());
                    let both = [caught(|| restore.run(|| ())), caught(|| restore.run(|| ()))];
                    (both, caught(|| restore.run(|| ())))
                })
            }
        });
        begun.pass();
        let throwers: Vec<_> = (0..2)
            .map(|n| {
                let target = thread.thread();
                let thrower = bast::spawn(move || throw_to(&target, Number(n)));
                until_blocked(n + 1, is_throwing);
                thrower
            })
            .collect();
        go.open();
        assert_eq!(thread.join().unwrap(), ([Some(0), Some(1)], None));
        throwers.into_iter().for_each(|thrower| thrower.join().unwrap());
    });
}

#[test]
fn the_thrower_waits_until_a_masked_thread_receives_and_not_longer() {
    on_capabilities(2, || {
        let (begun, go, end) = (Gate::new(), Gate::new(), Gate::new());
        let thread = spawn_on(1, {
            let (begun, go, end) = (begun.clone(), go.clone(), end.clone());
            move || {
                let received = caught(|| {
                    bast::mask(|_| {
                        begun.open();
                        bast::uninterruptible(|| go.pass());
                    });
                });
                end.pass();
                received
            }
        });
        begun.pass();
        let thrower = bast::spawn({
            let target = thread.thread();
            move || throw_to(&target, Number(9))
        });
        until_blocked(1, is_throwing);
        assert!(!thrower.is_finished());
        go.open();
        thrower.join().unwrap(); // the thread has not ended
        end.open();
        assert_eq!(thread.join().unwrap(), Some(9));
    });
}

#[test]
fn a_thrower_whose_thread_ends_masked_goes_on() {
    for count in [1, 2] {
        on_capabilities(count, || {
            let (begun, go) = (Gate::new(), Gate::new());
            let thread = bast::mask(|_| {
                spawn_on(1, {
                    let (begun, go) = (begun.clone(), go.clone());
                    move || {
                        begun.open();
                        bast::uninterruptible(|| go.pass());
                        11
                    }
                })
            });
            begun.pass();
            let target = thread.thread();
            let thrower = bast::spawn(move || throw_to(&target, Number(9)));
            until_blocked(1, is_throwing);
            go.open();
            thrower.join().unwrap();
            assert_eq!(thread.join().unwrap(), 11);
        });
    }
}

#[test]
fn a_thrower_that_is_killed_withdraws_what_it_threw() {
    on_capabilities(2, || {
        struct Dropped(Arc<AtomicUsize>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (begun, go, dropped) = (Gate::new(), Gate::new(), Arc::new(AtomicUsize::new(0)));
        let thread = spawn_on(1, {
            let (begun, go) = (begun.clone(), go.clone());
            move || {
                bast::mask(|restore| {
                    begun.open();
                    bast::uninterruptible(|| go.pass());
                    catch_unwind(AssertUnwindSafe(|| restore.run(bast::yield_now))).is_ok()
                })
            }
        });
        begun.pass();
        let thrower = bast::spawn({
            let (target, dropped) = (thread.thread(), Dropped(Arc::clone(&dropped)));
            move || throw_to(&target, dropped)
        });
        until_blocked(1, is_throwing);
        thrower.thread().kill();
        assert!(thrower.join().unwrap_err().is_killed());
        go.open();
        assert!(thread.join().unwrap(), "nothing was raised");
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_plain_os_thread_throws_and_waits_like_any_other() {
    on_capabilities(2, || {
        let (begun, runtime) = (Gate::new(), Handle::current());
        let thread: JoinHandle<Option<usize>> = spawn_on(1, {
            let begun = begun.clone();
            move || {
                caught(|| {
                    begun.open();
                    bast::sleep(LONG);
                })
            }
        });
        begun.pass();
        let target = thread.thread();
        std::thread::spawn(move || throw_to(&target, Number(6)));
        assert_eq!(thread.join().unwrap(), Some(6));
        drop(runtime);
    });
}

#[test]
fn two_threads_that_throw_to_each_other_make_progress() {
    for count in [1, 2] {
        on_capabilities(count, || {
            for _ in 0..200 {
                let names: Arc<MVar<(Thread, Thread)>> = Arc::new(MVar::empty());
                let fights = |first: bool| {
                    let names = Arc::clone(&names);
                    move || {
                        let mut hits = 0;
                        let names = bast::uninterruptible(|| names.read());
                        let other = if first { &names.1 } else { &names.0 };
                        for _ in 0..10 {
                            hits += usize::from(caught(|| throw_to(other, Number(0))).is_some());
                        }
                        hits
                    }
                };
                let (one, two) = (spawn_on(0, fights(true)), spawn_on(1, fights(false)));
                names.put((one.thread(), two.thread()));
                for end in [one.join(), two.join()] {
                    // One that was hit before it could start, or between two throws, is over.
                    assert!(end.is_ok() || end.is_err_and(|error| !error.is_killed()));
                }
            }
        });
    }
}

#[test]
fn two_threads_that_kill_each_other_both_die() {
    for count in [1, 2] {
        on_capabilities(count, || {
            for _ in 0..200 {
                let names: Arc<MVar<(Thread, Thread)>> = Arc::new(MVar::empty());
                let kills = |first: bool| {
                    let names = Arc::clone(&names);
                    move || {
                        let (one, two) = names.read();
                        if first {
                            two.kill();
                        } else {
                            one.kill();
                        }
                        bast::sleep(LONG);
                    }
                };
                let (one, two) = (spawn_on(0, kills(true)), spawn_on(1, kills(false)));
                names.put((one.thread(), two.thread()));
                // One may be killed before it read the names: then nobody kills the other.
                until(|| one.is_finished() || two.is_finished());
                one.thread().kill();
                two.thread().kill();
                assert!(one.join().unwrap_err().is_killed());
                assert!(two.join().unwrap_err().is_killed());
            }
        });
    }
}

#[test]
fn a_masked_thread_is_interrupted_where_it_waits_and_nowhere_else() {
    on_capabilities(1, || {
        let mutex = Mutex::new(());
        let reached = Arc::new(AtomicUsize::new(0));
        let thread = bast::spawn({
            let reached = Arc::clone(&reached);
            move || {
                bast::mask(|_| {
                    bast::current().kill();
                    for _ in 0..10 {
                        drop(mutex.lock()); // it is free
                        bast::yield_now();
                    }
                    reached.fetch_add(1, Ordering::Relaxed);
                    MVar::<()>::empty().take();
                    reached.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert!(thread.join().unwrap_err().is_killed());
        assert_eq!(reached.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn an_uninterruptible_thread_is_not_interrupted_even_where_it_waits() {
    for count in [1, 2] {
        on_capabilities(count, || {
            let (wait, reached) = (Arc::new(MVar::empty()), Arc::new(AtomicUsize::new(0)));
            let thread = spawn_on(1, {
                let (wait, reached) = (Arc::clone(&wait), Arc::clone(&reached));
                move || {
                    bast::uninterruptible(|| {
                        wait.take();
                        reached.fetch_add(1, Ordering::Relaxed);
                    });
                    reached.fetch_add(1, Ordering::Relaxed);
                }
            });
            until_blocked(1, is_mvar);
            thread.thread().kill();
            // A thing that the home does after it has read the kill.
            spawn_on(1, || ()).join().unwrap();
            assert!(!thread.is_finished());
            wait.put(());
            assert!(thread.join().unwrap_err().is_killed());
            assert_eq!(reached.load(Ordering::Relaxed), 1, "raised where the mask was lifted");
        });
    }
}

#[test]
fn the_masking_state_is_right_in_every_construct() {
    use MaskingState::{MaskedInterruptible, MaskedUninterruptible, Unmasked};
    on_capabilities(1, || {
        let state = bast::masking_state;
        assert_eq!(state(), Unmasked);
        bast::mask(|outer| {
            assert_eq!(state(), MaskedInterruptible);
            outer.run(|| assert_eq!(state(), Unmasked));
            bast::mask(|inner| {
                assert_eq!(state(), MaskedInterruptible);
                inner.run(|| assert_eq!(state(), MaskedInterruptible, "an inner restore goes one step back"));
                outer.run(|| assert_eq!(state(), Unmasked));
            });
            bast::uninterruptible(|| {
                assert_eq!(state(), MaskedUninterruptible);
                bast::mask(|inner| {
                    assert_eq!(state(), MaskedUninterruptible, "a mask makes nothing weaker");
                    inner.run(|| assert_eq!(state(), MaskedUninterruptible));
                });
            });
            assert_eq!(state(), MaskedInterruptible);
            assert_eq!(bast::spawn(state).join().unwrap(), MaskedInterruptible, "children inherit");
            assert_eq!(bast::spawn_local(state).join().unwrap(), MaskedInterruptible);
        });
        assert_eq!(state(), Unmasked);
        bast::catch(
            || {
                assert_eq!(state(), Unmasked);
                panic!("to be caught")
            },
            |_| assert_eq!(state(), MaskedInterruptible, "a handler runs masked"),
        );
        bast::bracket(
            || assert_eq!(state(), MaskedInterruptible),
            |()| assert_eq!(state(), Unmasked),
            |()| assert_eq!(state(), MaskedInterruptible),
        );
        let unwound = catch_unwind(|| bast::mask(|_| panic!("out of the mask")));
        assert!(unwound.is_err());
        assert_eq!(state(), Unmasked, "an unwind puts it back");
    });
}

#[test]
fn what_is_pending_is_raised_by_a_restore_that_does_nothing() {
    on_capabilities(1, || {
        let reached = Arc::new(AtomicUsize::new(0));
        let thread = bast::spawn({
            let reached = Arc::clone(&reached);
            move || {
                bast::mask(|restore| {
                    bast::current().kill();
                    reached.fetch_add(1, Ordering::Relaxed);
                    restore.run(|| reached.fetch_add(10, Ordering::Relaxed));
                    reached.fetch_add(100, Ordering::Relaxed);
                });
            }
        });
        assert!(thread.join().unwrap_err().is_killed());
        assert_eq!(reached.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn allow_interrupt_raises_what_is_pending_unless_uninterruptible() {
    on_capabilities(1, || {
        let reached = Arc::new(AtomicUsize::new(0));
        let thread = bast::spawn({
            let reached = Arc::clone(&reached);
            move || {
                bast::mask(|_| {
                    bast::current().kill();
                    bast::uninterruptible(bast::allow_interrupt);
                    reached.fetch_add(1, Ordering::Relaxed);
                    bast::allow_interrupt();
                    reached.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert!(thread.join().unwrap_err().is_killed());
        assert_eq!(reached.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_handler_is_not_interrupted_and_what_came_meanwhile_is_raised_at_its_end() {
    on_capabilities(2, || {
        let (begun, handling, go) = (Gate::new(), Gate::new(), Gate::new());
        let handled = Arc::new(AtomicUsize::new(0));
        let thread = spawn_on(1, {
            let (begun, handling, go) = (begun.clone(), handling.clone(), go.clone());
            let handled = Arc::clone(&handled);
            move || {
                caught(|| {
                    bast::catch(
                        || {
                            begun.open();
                            bast::sleep(LONG);
                        },
                        |payload| {
                            assert_eq!(number(&*payload), 1);
                            handling.open();
                            bast::uninterruptible(|| go.pass());
                            handled.fetch_add(1, Ordering::Relaxed);
                        },
                    );
                    handled.fetch_add(10, Ordering::Relaxed);
                })
            }
        });
        begun.pass();
        throw_to(&thread.thread(), Number(1));
        handling.pass();
        let second = bast::spawn({
            let target = thread.thread();
            move || throw_to(&target, Number(2))
        });
        until_blocked(1, is_throwing);
        go.open();
        assert_eq!(thread.join().unwrap(), Some(2));
        second.join().unwrap();
        assert_eq!(handled.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_thread_that_waits_inside_a_handler_can_be_killed() {
    on_capabilities(2, || {
        let handling = Gate::new();
        let thread = spawn_on(1, {
            let handling = handling.clone();
            move || {
                bast::catch(
                    || panic!("first"),
                    |_| {
                        handling.open();
                        MVar::<()>::empty().take();
                    },
                );
            }
        });
        handling.pass();
        until_blocked(1, is_mvar);
        thread.thread().kill();
        assert!(thread.join().unwrap_err().is_killed());
    });
}

#[test]
fn bracket_releases_exactly_once_however_its_use_ends() {
    for count in [1, 2] {
        on_capabilities(count, || {
            const THREADS: usize = 300;
            let (acquired, released) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let threads: Vec<_> = (0..THREADS)
                .map(|n| {
                    let (acquired, released) = (Arc::clone(&acquired), Arc::clone(&released));
                    spawn_on(n, move || {
                        bast::bracket(
                            || acquired.fetch_add(1, Ordering::Relaxed),
                            |_| match n % 3 {
                                0 => bast::sleep(LONG),
                                1 => panic!("in use"),
                                _ => bast::yield_now(),
                            },
                            |_| {
                                bast::yield_now(); // a release may let others run
                                released.fetch_add(1, Ordering::Relaxed);
                            },
                        );
                    })
                })
                .collect();
            for thread in &threads {
                thread.thread().kill();
                bast::yield_now();
            }
            for thread in threads {
                let _ = thread.join();
            }
            assert_eq!(acquired.load(Ordering::Relaxed), released.load(Ordering::Relaxed));
        });
    }
}

#[test]
fn random_exceptions_in_nested_handlers_run_each_cleanup_once() {
    for count in [1, 2] {
        on_capabilities(count, || {
            for round in 0..100_usize {
                let (entered, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
                let worker = spawn_on(round, {
                    let (entered, left) = (Arc::clone(&entered), Arc::clone(&left));
                    move || {
                        fn nest(depth: usize, entered: &AtomicUsize, left: &AtomicUsize) {
                            bast::bracket(
                                || entered.fetch_add(1, Ordering::Relaxed),
                                |_| {
                                    if depth > 0 {
                                        nest(depth - 1, entered, left);
                                    }
                                    (0..3).for_each(|_| bast::yield_now());
                                },
                                |_| {
                                    left.fetch_add(1, Ordering::Relaxed);
                                },
                            );
                        }
                        for _ in 0..20 {
                            let _ = caught(|| nest(5, &entered, &left));
                        }
                    }
                });
                for n in 0..round % 7 + 1 {
                    throw_to(&worker.thread(), Number(n));
                    (0..n).for_each(|_| bast::yield_now());
                }
                let _ = worker.join();
                assert_eq!(entered.load(Ordering::Relaxed), left.load(Ordering::Relaxed));
            }
        });
    }
}

#[test]
fn the_queue_of_an_mvar_is_sound_after_an_exception_to_one_who_waited_in_it() {
    on_capabilities(2, || {
        for _ in 0..100 {
            let mvar = Arc::new(MVar::empty());
            let ghost = spawn_on(1, {
                let mvar = Arc::clone(&mvar);
                move || {
                    let _: usize = mvar.take();
                }
            });
            until_blocked(1, is_mvar);
            throw_to(&ghost.thread(), Number(0));
            mvar.put(5_usize);
            assert!(ghost.join().is_err());
            assert_eq!(mvar.try_take(), Some(5), "nothing is given to a ghost");
        }
    });
}

#[test]
fn locks_are_free_and_whole_after_an_exception_to_their_holder() {
    on_capabilities(2, || {
        let (mutex, begun) = (Arc::new(Mutex::new(1)), Gate::new());
        let holder = spawn_on(1, {
            let (mutex, begun) = (Arc::clone(&mutex), begun.clone());
            move || {
                let mut guard = mutex.lock();
                *guard = 2;
                begun.open();
                bast::sleep(LONG);
            }
        });
        begun.pass();
        throw_to(&holder.thread(), Number(0));
        assert_eq!(*mutex.lock(), 2);
        assert!(holder.join().is_err());
    });
}

#[test]
fn a_killed_computation_can_be_run_again_and_gives_the_same() {
    on_capabilities(1, || {
        let compute = || {
            let (tx, rx) = unbounded();
            let adders: Vec<_> = (0..10)
                .map(|n: usize| {
                    let tx = tx.clone();
                    bast::spawn(move || {
                        bast::yield_now();
                        tx.send(n).unwrap();
                    })
                })
                .collect();
            drop(tx);
            let sum: usize = rx.iter().sum();
            adders.into_iter().for_each(|adder| adder.join().unwrap());
            sum
        };
        let killed = bast::spawn(compute);
        bast::yield_now();
        killed.thread().kill();
        let _ = killed.join();
        assert_eq!(bast::spawn(compute).join().unwrap(), 45);
    });
}

#[test]
fn thousands_of_random_exceptions_among_threads_are_neither_lost_nor_do_they_hang() {
    on_capabilities(2, || {
        const THREADS: usize = 100;
        const THROWS: usize = 50;
        let received = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let targets: Vec<_> = (0..THREADS)
            .map(|n| {
                let (received, stop) = (Arc::clone(&received), Arc::clone(&stop));
                bast::mask(|_| {
                    spawn_on(n, move || {
                        while !stop.load(Ordering::Relaxed) {
                            let wait = || match n % 3 {
                                0 => bast::sleep(LONG),
                                1 => MVar::empty().take(),
                                _ => bast::allow_interrupt(),
                            };
                            if caught(wait).is_some() {
                                received.fetch_add(1, Ordering::Relaxed);
                            }
                            bast::yield_now();
                        }
                    })
                })
            })
            .collect();
        let names: Arc<Vec<Thread>> = Arc::new(targets.iter().map(JoinHandle::thread).collect());
        let throwers: Vec<_> = (0..THREADS)
            .map(|n| {
                let names = Arc::clone(&names);
                spawn_on(n, move || {
                    let mut random = n as u64 + 1;
                    for _ in 0..THROWS {
                        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        throw_to(&names[(random >> 33) as usize % THREADS], Number(n));
                    }
                })
            })
            .collect();
        throwers.into_iter().for_each(|thrower| thrower.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        // A thread counts after it has received: the last ones may be about to.
        until(|| received.load(Ordering::Relaxed) == THREADS * THROWS);
        for target in targets {
            while !target.is_finished() {
                throw_to(&target.thread(), Number(0));
            }
        }
    });
}

#[test]
fn throwing_to_threads_of_a_runtime_that_has_ended_returns() {
    deadline(|| {
        let runtime = bast::Runtime::builder().capabilities(1).build().unwrap();
        let name = runtime.run(|| {
            let thread = Builder::new().name("of the other").spawn(|| bast::sleep(LONG)).unwrap();
            until_blocked(1, |what| what == BlockedOn::Timer);
            thread.thread()
        });
        drop(runtime);
        throw_to(&name, Number(0));
        name.kill();
    });
}
