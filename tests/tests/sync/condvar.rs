//! The condition variable: who is notified, and that no notification is lost.

use crate::{CAPABILITIES, SHORT, kill, until_blocked};
use bast::BlockedOn;
use bast::sync::{Condvar, Mutex};
use bast_tests::{on_capabilities, spawn_on};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[test]
fn a_notification_goes_to_the_one_that_has_waited_longest() {
    on_capabilities(1, || {
        let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let waiters: Vec<_> = (0..4)
            .map(|n| {
                let shared = Arc::clone(&shared);
                let waiter = bast::spawn(move || shared.1.wait(shared.0.lock()).push(n));
                until_blocked(n + 1, BlockedOn::Condvar);
                waiter
            })
            .collect();
        let (mutex, condvar) = &*shared;
        for woken in 1..=2 {
            condvar.notify_one();
            (0..10).for_each(|_| bast::yield_now());
            assert_eq!(mutex.lock().len(), woken);
        }
        condvar.notify_all();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(*mutex.lock(), [0, 1, 2, 3]);
    });
}

#[test]
fn a_notification_received_by_a_thread_that_is_killed_before_it_has_the_mutex_goes_to_the_next() {
    on_capabilities(1, || {
        let shared = Arc::new((Mutex::new(()), Condvar::new()));
        let wait = || {
            let shared = Arc::clone(&shared);
            bast::spawn(move || drop(shared.1.wait(shared.0.lock())))
        };
        let (first, second) = (wait(), wait());
        until_blocked(2, BlockedOn::Condvar);
        let guard = shared.0.lock();
        shared.1.notify_one();
        until_blocked(1, BlockedOn::Mutex);
        kill(first);
        drop(guard);
        second.join().unwrap();
    });
}

#[test]
fn a_wait_that_times_out_notifies_nobody() {
    on_capabilities(1, || {
        let (mutex, condvar) = (Arc::new(Mutex::new(())), Arc::new(Condvar::new()));
        let woken = Arc::new(AtomicBool::new(false));
        let waiter = bast::spawn({
            let (mutex, condvar, woken) = (Arc::clone(&mutex), Arc::clone(&condvar), Arc::clone(&woken));
            move || {
                drop(condvar.wait(mutex.lock()));
                woken.store(true, Ordering::Relaxed);
            }
        });
        until_blocked(1, BlockedOn::Condvar);
        let (guard, result) = condvar.wait_timeout(mutex.lock(), SHORT);
        assert!(result.timed_out());
        drop(guard);
        (0..10).for_each(|_| bast::yield_now());
        assert!(!woken.load(Ordering::Relaxed));
        condvar.notify_one();
        waiter.join().unwrap();
    });
}

#[test]
fn no_notification_is_lost_across_capabilities_and_os_threads() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            const ITEMS: u32 = 5_000;
            let shared = Arc::new((Mutex::new((0, 0)), Condvar::new()));
            let consume = {
                let shared = Arc::clone(&shared);
                move || {
                    let (queue, filled) = &*shared;
                    loop {
                        let mut queue =
                            filled.wait_while(queue.lock(), |(there, got)| *there == 0 && *got < ITEMS);
                        if queue.1 == ITEMS {
                            return;
                        }
                        *queue = (queue.0 - 1, queue.1 + 1);
                        if queue.1 == ITEMS {
                            filled.notify_all();
                        }
                    }
                }
            };
            let os_consumer = thread::spawn(consume.clone());
            let consumers: Vec<_> = (0..4).map(|n| spawn_on(n, consume.clone())).collect();
            for _ in 0..ITEMS {
                shared.0.lock().0 += 1;
                shared.1.notify_one();
            }
            consumers.into_iter().for_each(|consumer| consumer.join().unwrap());
            os_consumer.join().unwrap();
        });
    }
}
