//! Threads that borrow.

use bast::sync::MVar;
use bast::{BlockedOn, Builder, timeout};
use bast_tests::{on_capabilities, spawn_on, until, until_blocked};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

fn sleeps(what: BlockedOn) -> bool {
    what == BlockedOn::Timer
}

#[test]
fn threads_borrow_from_their_parent_and_it_waits_for_them() {
    for count in [1, 2] {
        on_capabilities(count, || {
            let mut parts = [0; 100];
            bast::scope(|scope| {
                for (n, part) in parts.iter_mut().enumerate() {
                    scope.spawn(move || {
                        bast::yield_now();
                        *part = n;
                    });
                }
            });
            assert!(parts.iter().enumerate().all(|(n, part)| *part == n));
        });
    }
}

/// What such a thread has, its closure and its result, is of the parent's capability and gone when the scope is left: also of one
/// that was killed before it started.
#[test]
fn threads_that_stay_here_share_what_cannot_be_sent() {
    on_capabilities(2, || {
        let (home, shared) = (bast::capability(), Rc::new(Cell::new(0)));
        let results = bast::scope(|scope| {
            let spawn = |number: u32| {
                let shared = Rc::clone(&shared);
                let run = move || {
                    shared.set(shared.get() + number);
                    bast::yield_now();
                    (bast::capability() == home, shared)
                };
                scope.spawn_local_with(Builder::new(), run).unwrap()
            };
            let handles: Vec<_> = (1..=100).map(spawn).collect();
            handles.into_iter().map(|handle| handle.join().unwrap().0).collect::<Vec<bool>>()
        });
        assert_eq!((results.len(), shared.get(), Rc::strong_count(&shared)), (100, 5050, 1));
        assert!(results.into_iter().all(|stayed| stayed));

        bast::scope(|scope| {
            let kept = Rc::clone(&shared);
            let unstarted = scope.spawn_local_with(Builder::new(), move || kept.set(0)).unwrap();
            scope.cancel();
            assert!(unstarted.join().unwrap_err().is_killed());
        });
        assert_eq!((shared.get(), Rc::strong_count(&shared)), (5050, 1));
    });
}

#[test]
fn results_come_through_the_handles_and_scopes_nest() {
    on_capabilities(2, || {
        let text = String::from("borrowed");
        let lengths = bast::scope(|scope| {
            let inner = scope.spawn(|| bast::scope(|inner| inner.spawn(|| text.len()).join().unwrap()));
            let sibling = scope.spawn(|| scope.spawn(|| text.as_str()).join().unwrap());
            (inner.join().unwrap(), sibling.join().unwrap())
        });
        assert_eq!(lengths, (8, "borrowed"));
        assert_eq!(bast::scope(|_| 3), 3);
    });
}

#[test]
fn the_first_failure_kills_the_siblings_ends_the_body_and_goes_on_in_the_parent() {
    for count in [1, 2] {
        on_capabilities(count, || {
            let dropped = AtomicUsize::new(0);
            struct Counted<'a>(&'a AtomicUsize);
            impl Drop for Counted<'_> {
                fn drop(&mut self) {
                    self.0.fetch_add(1, Ordering::Relaxed);
                }
            }
            let payload = catch_unwind(AssertUnwindSafe(|| {
                bast::scope(|scope| {
                    for _ in 0..10 {
                        let counted = Counted(&dropped);
                        scope.spawn(move || {
                            let _counted = counted;
                            bast::sleep(LONG);
                        });
                    }
                    scope.spawn(|| {
                        until_blocked(10, sleeps);
                        panic_any(17);
                    });
                    let _counted = Counted(&dropped);
                    MVar::<()>::empty().take();
                });
            }))
            .unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&17));
            assert_eq!(dropped.load(Ordering::Relaxed), 11);
        });
    }
}

#[test]
fn a_panic_of_the_body_kills_the_threads_and_goes_on_when_they_have_ended() {
    on_capabilities(2, || {
        let ended = AtomicUsize::new(0);
        let payload = catch_unwind(AssertUnwindSafe(|| {
            bast::scope(|scope| {
                scope.spawn(|| {
                    let payload = catch_unwind(|| bast::sleep(LONG)).unwrap_err();
                    assert!(bast::is_kill(&*payload));
                    bast::uninterruptible(|| {
                        bast::sleep(Duration::from_millis(2));
                        ended.fetch_add(1, Ordering::Relaxed);
                    });
                });
                until_blocked(1, sleeps);
                panic!("of the body");
            })
        }))
        .unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"of the body"));
        assert_eq!(ended.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_thread_that_is_killed_by_somebody_is_no_failure() {
    on_capabilities(2, || {
        bast::scope(|scope| {
            let killed = scope.spawn(|| bast::sleep(LONG));
            killed.thread().kill();
            assert!(killed.join().unwrap_err().is_killed());
            assert_eq!(scope.spawn(|| 1).join().unwrap(), 1);
        });
    });
}

#[test]
fn a_parent_that_is_killed_takes_its_threads_with_it() {
    for in_body in [true, false] {
        on_capabilities(2, move || {
            let (ended, kept) = (Arc::new(AtomicUsize::new(0)), [1, 2, 3]);
            let parent = spawn_on(1, {
                let ended = Arc::clone(&ended);
                move || {
                    bast::scope(|scope| {
                        for _ in 0..3 {
                            scope.spawn(|| {
                                let _ = catch_unwind(|| bast::sleep(LONG));
                                assert_eq!(kept.len(), 3);
                                ended.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                        if in_body {
                            MVar::<()>::empty().take();
                        }
                    });
                }
            });
            until_blocked(3, sleeps);
            until_blocked(1, |what| what == if in_body { BlockedOn::MVar } else { BlockedOn::Scope });
            parent.thread().kill();
            assert!(parent.join().unwrap_err().is_killed());
            assert_eq!(ended.load(Ordering::Relaxed), 3);
        });
    }
}

#[test]
fn an_exception_that_comes_while_the_parent_waits_is_raised_when_the_threads_have_ended() {
    on_capabilities(2, || {
        let ended = Arc::new(AtomicUsize::new(0));
        let parent = spawn_on(1, {
            let ended = Arc::clone(&ended);
            move || {
                let payload = catch_unwind(AssertUnwindSafe(|| {
                    bast::scope(|scope| {
                        scope.spawn(|| {
                            let _ = catch_unwind(|| bast::sleep(LONG));
                            bast::uninterruptible(|| {
                                bast::yield_now();
                                ended.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    });
                }))
                .unwrap_err();
                (payload.downcast_ref() == Some(&"thrown"), ended.load(Ordering::Relaxed))
            }
        });
        until_blocked(1, |what| what == BlockedOn::Scope);
        until_blocked(1, sleeps);
        bast::throw_to(&parent.thread(), "thrown");
        assert_eq!(parent.join().unwrap(), (true, 1));
    });
}

#[test]
fn a_limit_around_a_scope_ends_its_threads() {
    on_capabilities(2, || {
        let ended = AtomicUsize::new(0);
        let result = timeout(Duration::from_millis(2), || {
            bast::scope(|scope| {
                scope.spawn(|| {
                    let _ = catch_unwind(|| bast::sleep(LONG));
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            });
        });
        assert!(result.is_err());
        assert_eq!(ended.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn cancel_kills_the_threads_and_those_to_come_and_the_body_goes_on() {
    on_capabilities(1, || {
        let ran = AtomicUsize::new(0);
        let value = bast::scope(|scope| {
            let sleeper = scope.spawn(|| bast::sleep(LONG));
            scope.cancel();
            assert!(sleeper.join().unwrap_err().is_killed());
            let late = scope.spawn(|| ran.fetch_add(1, Ordering::Relaxed));
            assert!(late.join().unwrap_err().is_killed());
            5
        });
        assert_eq!((value, ran.load(Ordering::Relaxed)), (5, 0));
    });
}

#[test]
fn handles_that_are_leaked_or_dropped_leave_nothing_behind() {
    on_capabilities(2, || {
        let held = AtomicUsize::new(0);
        struct Held<'a>(&'a AtomicUsize);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        bast::scope(|scope| {
            for n in 0..100 {
                held.fetch_add(1, Ordering::Relaxed);
                let value = Held(&held);
                let handle = scope.spawn(move || value);
                match n % 3 {
                    0 => drop(handle),
                    1 => drop(handle.join().unwrap()),
                    _ => until(|| handle.is_finished()),
                }
            }
        });
        assert_eq!(held.load(Ordering::Relaxed), 0);
        let forgotten = bast::scope(|scope| {
            std::mem::forget(scope.spawn(|| 1));
            2
        });
        assert_eq!(forgotten, 2);
    });
}

#[test]
fn a_result_whose_destructor_panics_is_a_failure_of_the_scope() {
    on_capabilities(1, || {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in a destructor");
            }
        }
        let payload = catch_unwind(|| bast::scope(|scope| drop(scope.spawn(|| Bomb)))).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"in a destructor"));
    });
}

#[test]
fn a_thread_that_cannot_be_spawned_is_an_error_and_the_scope_goes_on() {
    on_capabilities(1, || {
        let value = bast::scope(|scope| {
            let error = scope.spawn_with(Builder::new().stack_size(9 << 20), || ()).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            scope.spawn(|| 4).join().unwrap()
        });
        assert_eq!(value, 4);
    });
}

#[test]
fn a_scope_inside_no_park_or_on_an_os_thread_says_what_to_do() {
    on_capabilities(1, || {
        let refused = catch_unwind(|| bast::no_park(|| bast::scope(|_| ()))).unwrap_err();
        assert!(refused.downcast_ref::<&str>().unwrap().contains("no_park"));
    });
    let refused = catch_unwind(|| bast::scope(|_| ())).unwrap_err();
    let text =
        refused.downcast_ref::<String>().map(String::as_str).or(refused.downcast_ref::<&str>().copied());
    assert!(text.unwrap().contains("std::thread::scope"));
}

#[test]
fn scopes_survive_random_kills_in_every_state() {
    on_capabilities(2, || {
        let kept = Arc::new(AtomicUsize::new(0));
        for round in 0..500_usize {
            let parent = spawn_on(round, {
                let kept = Arc::clone(&kept);
                move || {
                    let local = AtomicUsize::new(0);
                    bast::scope(|scope| {
                        for n in 0..4 {
                            scope.spawn(|| {
                                local.fetch_add(1, Ordering::Relaxed);
                                bast::yield_now();
                                local.fetch_sub(1, Ordering::Relaxed);
                            });
                            if n == round % 5 {
                                bast::yield_now();
                            }
                        }
                    });
                    kept.fetch_add(local.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            });
            (0..round % 9).for_each(|_| bast::yield_now());
            parent.thread().kill();
            let _ = parent.join();
        }
        assert_eq!(kept.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn scoped_values_are_seen_by_children_and_by_nobody_else() {
    use bast::ScopedValue;
    static NAME: ScopedValue<String> = ScopedValue::new();
    static DEPTH: ScopedValue<usize> = ScopedValue::new();
    on_capabilities(2, || {
        let name = || NAME.get().map(|name| name.to_string());
        assert_eq!(name(), None);
        let outlives = NAME.bind("outer".into(), || {
            DEPTH.bind(1, || {
                assert_eq!(spawn_on(1, name).join().unwrap().as_deref(), Some("outer"));
                NAME.bind("inner".into(), || {
                    assert_eq!(name().as_deref(), Some("inner"));
                    assert_eq!(DEPTH.get().as_deref(), Some(&1));
                    bast::scope(|scope| {
                        assert_eq!(scope.spawn(name).join().unwrap().as_deref(), Some("inner"));
                    });
                });
            });
            assert_eq!(name().as_deref(), Some("outer"));
            assert!(DEPTH.get().is_none());
            let gate = Arc::new(MVar::empty());
            let child = spawn_on(1, {
                let gate = Arc::clone(&gate);
                move || {
                    gate.take();
                    name()
                }
            });
            (child, gate)
        });
        assert_eq!(name(), None);
        assert_eq!(bast::spawn(name).join().unwrap(), None);
        outlives.1.put(());
        assert_eq!(outlives.0.join().unwrap().as_deref(), Some("outer"), "a child keeps what it was given");
        let unwound = catch_unwind(AssertUnwindSafe(|| DEPTH.bind(2, || panic!("out"))));
        assert!(unwound.is_err() && DEPTH.get().is_none());
    });
    std::thread::spawn(|| DEPTH.bind(3, || assert_eq!(DEPTH.get().as_deref(), Some(&3)))).join().unwrap();
}
