//! The mutex: exclusion, barging and starvation.

use crate::{CAPABILITIES, busy, until_blocked};
use bast::BlockedOn;
use bast::sync::Mutex;
use bast_tests::{on_capabilities, spawn_on};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// More than what counts as starving.
const STARVED: Duration = Duration::from_millis(2);

#[test]
fn guards_are_held_across_parks_on_one_core() {
    on_capabilities(1, || {
        let mutex = Arc::new(Mutex::new(0));
        let threads: Vec<_> = (0..50)
            .map(|_| {
                let mutex = Arc::clone(&mutex);
                bast::spawn(move || {
                    let mut value = mutex.lock();
                    let before = *value;
                    bast::sleep(Duration::from_micros(50));
                    *value = before + 1;
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*mutex.lock(), 50);
    });
}

#[test]
fn a_mutex_excludes_green_and_os_threads() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let mutex = Arc::new(Mutex::new([0_u64; 2]));
            let add = {
                let mutex = Arc::clone(&mutex);
                move || {
                    for n in 0..2_000 {
                        let mut pair = mutex.lock();
                        assert_eq!(pair[0], pair[1]);
                        pair[0] += 1;
                        if n % 64 == 0 {
                            bast::yield_now();
                        }
                        pair[1] += 1;
                    }
                }
            };
            let os_threads: Vec<_> = (0..2).map(|_| thread::spawn(add.clone())).collect();
            let threads: Vec<_> = (0..16).map(|n| spawn_on(n, add.clone())).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            os_threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(*mutex.lock(), [36_000; 2]);
        });
    }
}

#[test]
fn a_newcomer_may_barge_in_before_a_waiter_that_has_not_waited_long() {
    on_capabilities(1, || {
        let mutex = Arc::new(Mutex::new(()));
        // Again when the machine made the waiter wait for longer than it should have.
        loop {
            let guard = mutex.lock();
            let waiter = bast::spawn({
                let mutex = Arc::clone(&mutex);
                move || drop(mutex.lock())
            });
            bast::yield_now();
            drop(guard);
            let barged = mutex.try_lock().is_some();
            waiter.join().unwrap();
            if barged {
                return;
            }
        }
    });
}

#[test]
fn starved_waiters_get_the_mutex_in_order_and_nobody_barges_in() {
    on_capabilities(1, || {
        let mutex = Arc::new(Mutex::new(Vec::new()));
        let guard = mutex.lock();
        let waiters: Vec<_> = (0..5)
            .map(|n| {
                let mutex = Arc::clone(&mutex);
                let waiter = bast::spawn(move || {
                    let mut order = mutex.lock();
                    order.push(n);
                    // The others see a lock that is held each time they look.
                    bast::yield_now();
                });
                until_blocked(n + 1, BlockedOn::Mutex);
                waiter
            })
            .collect();
        busy(STARVED);
        drop(guard);
        assert!(mutex.try_lock().is_none(), "the lock was not handed over");
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(*mutex.lock(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_waiter_that_loses_again_and_again_gets_the_mutex_after_all() {
    on_capabilities(2, || {
        let mutex = Arc::new(Mutex::new(0));
        let got = Arc::new(AtomicBool::new(false));
        let hog = spawn_on(1, {
            let (mutex, got) = (Arc::clone(&mutex), Arc::clone(&got));
            move || {
                while !got.load(Ordering::Relaxed) {
                    let _guard = mutex.lock();
                    busy(Duration::from_micros(100));
                }
            }
        });
        for _ in 0..20 {
            *mutex.lock() += 1;
        }
        got.store(true, Ordering::Relaxed);
        hog.join().unwrap();
        assert_eq!(*mutex.lock(), 20);
    });
}
