//! The semaphore: how many at a time, in which order, and kills of those who wait or hold.

use crate::{CAPABILITIES, LONG, Random, SHORT, kill, until_blocked};
use bast::BlockedOn;
use bast::sync::{Mutex, Semaphore};
use bast_tests::{deadline, on_capabilities, spawn_on};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[test]
fn no_more_than_the_permits_allow_are_at_it_at_a_time() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let (semaphore, inside) = (Arc::new(Semaphore::new(3)), Arc::new(AtomicUsize::new(0)));
            let most = Arc::new(AtomicUsize::new(0));
            let work = {
                let (semaphore, inside, most) =
                    (Arc::clone(&semaphore), Arc::clone(&inside), Arc::clone(&most));
                move || {
                    for n in 0..300 {
                        let count = 1 + n % 3;
                        let _permit = semaphore.acquire_many(count);
                        let now = inside.fetch_add(count, Ordering::SeqCst) + count;
                        most.fetch_max(now, Ordering::SeqCst);
                        bast::yield_now();
                        inside.fetch_sub(count, Ordering::SeqCst);
                    }
                }
            };
            let os_thread = thread::spawn(work.clone());
            let threads: Vec<_> = (0..8).map(|n| spawn_on(n, work.clone())).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            os_thread.join().unwrap();
            assert_eq!(semaphore.available_permits(), 3);
            assert_eq!(most.load(Ordering::SeqCst), 3);
        });
    }
}

#[test]
fn one_that_wants_many_is_not_overtaken_by_others_that_want_few() {
    on_capabilities(1, || {
        let (semaphore, order) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let threads: Vec<_> = [3, 1, 2, 1]
            .into_iter()
            .enumerate()
            .map(|(n, wanted)| {
                let (semaphore, order) = (Arc::clone(&semaphore), Arc::clone(&order));
                let thread = bast::spawn(move || {
                    semaphore.acquire_many(wanted).forget();
                    order.lock().push(n);
                });
                until_blocked(n + 1, BlockedOn::Semaphore);
                thread
            })
            .collect();
        semaphore.add_permits(2);
        assert!(semaphore.try_acquire().is_none(), "a newcomer overtakes those who wait");
        for _ in 0..5 {
            semaphore.add_permits(1);
            bast::yield_now();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*order.lock(), [0, 1, 2, 3]);
        assert_eq!(semaphore.available_permits(), 0);
    });
}

#[test]
fn who_waited_behind_one_that_was_killed_or_has_timed_out_moves_up() {
    on_capabilities(1, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let start = |body: fn(&Semaphore)| {
            let semaphore = Arc::clone(&semaphore);
            bast::spawn(move || body(&semaphore))
        };
        let greedy = start(|semaphore| drop(semaphore.acquire_many(2)));
        until_blocked(1, BlockedOn::Semaphore);
        let modest = start(|semaphore| drop(semaphore.acquire()));
        until_blocked(2, BlockedOn::Semaphore);
        kill(greedy);
        modest.join().unwrap();

        let greedy = start(|semaphore| assert!(semaphore.acquire_many_timeout(2, SHORT).is_none()));
        until_blocked(1, BlockedOn::Semaphore);
        let modest = start(|semaphore| assert!(semaphore.acquire_timeout(LONG).is_some()));
        until_blocked(2, BlockedOn::Semaphore);
        greedy.join().unwrap();
        modest.join().unwrap();
        assert_eq!(semaphore.available_permits(), 1);
    });
}

#[test]
fn the_permits_of_a_killed_holder_come_back() {
    on_capabilities(2, || {
        let semaphore = Arc::new(Semaphore::new(2));
        let holders: Vec<_> = (0..2)
            .map(|n| {
                let semaphore = Arc::clone(&semaphore);
                spawn_on(n, move || {
                    let _permit = semaphore.acquire();
                    bast::sleep(LONG);
                })
            })
            .collect();
        until_blocked(2, BlockedOn::Timer);
        let waiter = spawn_on(1, {
            let semaphore = Arc::clone(&semaphore);
            move || semaphore.acquire_many(2).count()
        });
        until_blocked(1, BlockedOn::Semaphore);
        holders.into_iter().for_each(kill);
        assert_eq!(waiter.join().unwrap(), 2);
        assert_eq!(semaphore.available_permits(), 2);
    });
}

#[test]
fn permits_are_added_and_forgotten() {
    deadline(|| {
        let semaphore = Semaphore::new(1);
        semaphore.add_permits(3);
        assert!(semaphore.try_acquire_many(5).is_none());
        let permits = semaphore.try_acquire_many(3).unwrap();
        assert_eq!((permits.count(), semaphore.available_permits()), (3, 1));
        assert_eq!(semaphore.forget_permits(2), 1);
        permits.forget();
        assert_eq!(format!("{semaphore:?}"), "Semaphore { permits: 0 }");
        assert!(semaphore.try_acquire_many(0).is_some());
        semaphore.add_permits(usize::MAX);
        let too_many = std::panic::catch_unwind(|| semaphore.add_permits(1));
        assert!(too_many.is_err());
        assert_eq!(semaphore.available_permits(), usize::MAX);
    });
}

#[test]
fn no_permit_is_lost_or_doubled_by_random_kills() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let (semaphore, mut random) = (Arc::new(Semaphore::new(4)), Random(99));
            let start = |place: u64, wanted: usize| {
                let semaphore = Arc::clone(&semaphore);
                spawn_on(place as usize, move || {
                    loop {
                        let _permits = semaphore.acquire_many(wanted);
                        bast::yield_now();
                    }
                })
            };
            let mut threads: Vec<bast::JoinHandle<()>> =
                (0..9).map(|n| start(random.below(8), 1 + n % 4)).collect();
            for _ in 0..60 {
                let victim = random.below(9) as usize;
                let replacement = start(random.below(8), 1 + victim % 4);
                kill(std::mem::replace(&mut threads[victim], replacement));
            }
            threads.into_iter().for_each(kill);
            assert_eq!(semaphore.available_permits(), 4);
        });
    }
}
