//! Time limits around blocking code.

use bast::sync::{MVar, Mutex, channel};
use bast::{Elapsed, time_left, timeout, timeout_at};
use bast_tests::{on_capabilities, until_blocked};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

#[test]
fn every_kind_of_wait_ends_when_its_time_is_over() {
    type Wait = (&'static str, fn());
    let waits: [Wait; 7] = [
        ("sleep", || bast::sleep(LONG)),
        ("take", || MVar::<()>::empty().take()),
        ("receive", || {
            let (tx, rx) = channel::<()>(1);
            let _ = rx.recv();
            drop(tx);
        }),
        ("lock", || {
            let mutex = Mutex::new(());
            let _held = mutex.lock();
            drop(mutex.lock());
        }),
        ("join", || drop(bast::spawn(|| bast::sleep(LONG)).join())),
        ("read", || {
            let (mut stream, _peer) = bast_tests::connected();
            let _ = stream.read(&mut [0; 1]);
        }),
        ("scope", || bast::scope(|scope| drop(scope.spawn(|| bast::sleep(LONG))))),
    ];
    for count in [1, 2] {
        on_capabilities(count, move || {
            for (name, wait) in waits {
                let begun = Instant::now();
                assert_eq!(timeout(SHORT, wait), Err(Elapsed), "{name}");
                assert!(begun.elapsed() >= SHORT, "{name}");
            }
        });
    }
}

#[test]
fn what_returns_in_time_gives_its_value_and_the_limit_never_hits_later_code() {
    on_capabilities(1, || {
        assert_eq!(timeout(LONG, || 5), Ok(5));
        for _ in 0..20 {
            assert_eq!(timeout(SHORT, bast::yield_now), Ok(()));
            bast::sleep(SHORT * 2);
        }
        assert_eq!(time_left(), None);
    });
}

#[test]
fn a_body_that_completes_late_gives_its_value() {
    on_capabilities(1, || {
        let late = timeout(Duration::from_nanos(1), || {
            let begun = Instant::now();
            while begun.elapsed() < SHORT {
                std::hint::spin_loop();
            }
            3
        });
        assert_eq!(late, Ok(3));
        bast::sleep(SHORT);
    });
}

#[test]
fn a_zero_limit_has_passed_before_the_body_begins() {
    on_capabilities(1, || {
        let ran = AtomicUsize::new(0);
        let body = || ran.fetch_add(1, Ordering::Relaxed);
        assert_eq!(timeout(Duration::ZERO, body), Err(Elapsed));
        assert_eq!(timeout_at(Instant::now(), body), Err(Elapsed));
        assert_eq!(ran.load(Ordering::Relaxed), 0);
        assert_eq!(timeout(Duration::MAX, body), Ok(0));
        assert_eq!(timeout_at(Instant::now() + LONG, body), Ok(1));
    });
}

#[test]
fn the_inner_of_two_limits_passes_first_and_the_outer_goes_on() {
    on_capabilities(1, || {
        let outer = timeout(LONG, || {
            let inner = timeout(SHORT, || bast::sleep(LONG));
            bast::yield_now();
            inner
        });
        assert_eq!(outer, Ok(Err(Elapsed)));
    });
}

#[test]
fn the_outer_of_two_limits_that_passes_is_not_taken_for_the_inner() {
    on_capabilities(1, || {
        let reached = AtomicUsize::new(0);
        let outer = timeout(SHORT, || {
            let inner = timeout(LONG, || bast::sleep(LONG));
            reached.fetch_add(1, Ordering::Relaxed);
            inner
        });
        assert_eq!(outer, Err(Elapsed));
        assert_eq!(reached.load(Ordering::Relaxed), 0);
        // Not even when it passes in the handler of the inner.
        let outer = timeout(SHORT * 4, || {
            let inner = timeout(SHORT, || bast::sleep(LONG));
            assert_eq!(inner, Err(Elapsed));
            bast::sleep(LONG);
        });
        assert_eq!(outer, Err(Elapsed));
    });
}

#[test]
fn a_limit_that_is_swallowed_comes_back_while_its_body_lasts() {
    on_capabilities(1, || {
        let swallowed = AtomicUsize::new(0);
        let result = timeout(SHORT, || {
            for _ in 0..3 {
                let payload = catch_unwind(AssertUnwindSafe(|| bast::sleep(LONG))).unwrap_err();
                assert!(bast::is_interrupt(&*payload) && !bast::is_kill(&*payload));
                swallowed.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(result, Ok(()), "it returned, in the end");
        assert_eq!(swallowed.load(Ordering::Relaxed), 3);
        bast::sleep(SHORT);
    });
}

#[test]
fn a_limit_that_passes_while_masked_waits_for_a_place_to_be_raised() {
    on_capabilities(1, || {
        let reached = AtomicUsize::new(0);
        let result = timeout(SHORT, || {
            bast::mask(|_| {
                bast::uninterruptible(|| bast::sleep(SHORT * 2));
                reached.fetch_add(1, Ordering::Relaxed);
                bast::yield_now();
                reached.fetch_add(1, Ordering::Relaxed);
                bast::sleep(LONG); // masked, but it has to wait
                reached.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(result, Err(Elapsed));
        assert_eq!(reached.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_computation_that_calls_a_yield_point_is_ended_too() {
    bast_tests::deadline(|| {
        let runtime =
            bast::Runtime::builder().capabilities(1).time_slice(Duration::from_micros(100)).build().unwrap();
        runtime.run(|| {
            let result = timeout(SHORT, || {
                loop {
                    bast::yield_point();
                }
            });
            assert_eq!(result, Err::<(), _>(Elapsed));
        });
    });
}

#[test]
fn destructors_run_when_a_limit_passes() {
    on_capabilities(1, || {
        let mutex = Mutex::new(1);
        let result = timeout(SHORT, || {
            let mut guard = mutex.lock();
            *guard = 2;
            bast::sleep(LONG);
        });
        assert_eq!((result, *mutex.lock()), (Err(Elapsed), 2));
    });
}

#[test]
fn a_kill_goes_before_a_limit_and_a_panic_through_it() {
    on_capabilities(2, || {
        let thread = bast::spawn(|| timeout(LONG, || bast::sleep(LONG)));
        until_blocked(1, |what| what == bast::BlockedOn::Timer);
        thread.thread().kill();
        assert!(thread.join().unwrap_err().is_killed());
        let panics = bast::spawn(|| timeout(LONG, || panic!("as it is")));
        let payload = panics.join().unwrap_err().into_panic().unwrap();
        assert_eq!(payload.downcast_ref(), Some(&"as it is"));
    });
}

#[test]
fn an_operation_with_a_limit_of_its_own_reports_it_itself_inside_a_longer_one() {
    on_capabilities(1, || {
        let result = timeout(LONG, || {
            let (stream, _peer) = bast_tests::connected();
            stream.set_read_timeout(Some(SHORT)).unwrap();
            (&stream).read(&mut [0; 1]).unwrap_err().kind()
        });
        assert_eq!(result, Ok(std::io::ErrorKind::TimedOut));
    });
}

#[test]
fn time_left_is_that_of_the_nearest_limit() {
    on_capabilities(1, || {
        assert_eq!(time_left(), None);
        timeout(LONG, || {
            assert!(time_left().is_some_and(|left| left > LONG / 2 && left <= LONG));
            timeout(LONG / 4, || assert!(time_left().is_some_and(|left| left <= LONG / 4))).unwrap();
            timeout(LONG * 4, || assert!(time_left().is_some_and(|left| left <= LONG))).unwrap();
        })
        .unwrap();
    });
}

#[test]
fn a_hundred_thousand_limits_need_no_threads_of_their_own() {
    on_capabilities(2, || {
        const THREADS: usize = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
        let passed = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(MVar::empty());
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (passed, gate) = (Arc::clone(&passed), Arc::clone(&gate));
                bast::spawn(move || {
                    if timeout(LONG, || gate.read()).is_ok() {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        until_blocked(THREADS, |what| what == bast::BlockedOn::MVar);
        assert_eq!(bast::Handle::current().threads().len(), THREADS + 1);
        gate.put(());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(passed.load(Ordering::Relaxed), THREADS);
    });
}
