//! The reader-writer lock: exclusion, that nobody starves, and kills of those who wait.

use crate::{CAPABILITIES, LONG, Random, SHORT, kill, until_blocked};
use bast::BlockedOn;
use bast::sync::{Mutex, RwLock, RwLockWriteGuard};
use bast_tests::{deadline, on_capabilities, spawn_on};
use std::sync::Arc;
use std::thread;

#[test]
fn writers_exclude_all_and_readers_exclude_writers() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let lock = Arc::new(RwLock::new([0_u64; 2]));
            let work = {
                let lock = Arc::clone(&lock);
                move || {
                    for n in 0..1_000 {
                        if n % 4 == 0 {
                            let mut pair = lock.write();
                            pair[0] += 1;
                            if n % 64 == 0 {
                                bast::yield_now();
                            }
                            pair[1] += 1;
                        } else {
                            let pair = lock.read();
                            if n % 64 == 1 {
                                bast::yield_now();
                            }
                            assert_eq!(pair[0], pair[1]);
                        }
                    }
                }
            };
            let os_threads: Vec<_> = (0..2).map(|_| thread::spawn(work.clone())).collect();
            let threads: Vec<_> = (0..16).map(|n| spawn_on(n, work.clone())).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            os_threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(*lock.read(), [18 * 250; 2]);
        });
    }
}

#[test]
fn readers_that_come_after_a_waiting_writer_wait_behind_it_and_then_all_read_before_the_next_writer() {
    on_capabilities(1, || {
        let (lock, order) = (Arc::new(RwLock::new(())), Arc::new(Mutex::new(Vec::new())));
        let guard = lock.read();
        let mut waiting = 0;
        let mut start = |name: &'static str, writes: bool| {
            let (lock, order) = (Arc::clone(&lock), Arc::clone(&order));
            let thread = bast::spawn(move || {
                if writes {
                    let _guard = lock.write();
                    order.lock().push(name);
                } else {
                    let _guard = lock.read();
                    order.lock().push(name);
                    bast::yield_now();
                }
            });
            waiting += 1;
            until_blocked(waiting, BlockedOn::RwLock);
            thread
        };
        let threads =
            [start("w1", true), start("w2", true), start("r1", false), start("r2", false), start("w3", true)];
        assert!(lock.try_read().is_none(), "a newcomer overtakes a writer");
        drop(guard);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*order.lock(), ["w1", "r1", "r2", "w2", "w3"]);
    });
}

#[test]
fn a_stream_of_readers_does_not_starve_a_writer() {
    on_capabilities(2, || {
        let lock = Arc::new(RwLock::new(false));
        let readers: Vec<_> = (0..4)
            .map(|n| {
                let lock = Arc::clone(&lock);
                spawn_on(n, move || {
                    loop {
                        let over = lock.read();
                        bast::yield_now();
                        if *over {
                            return;
                        }
                    }
                })
            })
            .collect();
        *lock.write() = true;
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn readers_do_not_wait_for_a_writer_that_was_killed_or_has_timed_out() {
    on_capabilities(1, || {
        let lock = Arc::new(RwLock::new(0));
        let guard = lock.read();
        let start = |body: fn(&RwLock<u32>)| {
            let lock = Arc::clone(&lock);
            bast::spawn(move || body(&lock))
        };
        let writer = start(|lock| *lock.write() += 1);
        until_blocked(1, BlockedOn::RwLock);
        let reader = start(|lock| assert_eq!(*lock.read(), 0));
        until_blocked(2, BlockedOn::RwLock);
        kill(writer);
        reader.join().unwrap();

        let writer = start(|lock| assert!(lock.write_timeout(SHORT).is_none()));
        until_blocked(1, BlockedOn::RwLock);
        let reader = start(|lock| assert!(lock.read_timeout(LONG).is_some()));
        until_blocked(2, BlockedOn::RwLock);
        writer.join().unwrap();
        reader.join().unwrap();

        drop(guard);
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn a_downgrade_lets_readers_in_and_no_writer() {
    on_capabilities(1, || {
        let lock = Arc::new(RwLock::new(0));
        let mut guard = lock.write();
        let reader = bast::spawn({
            let lock = Arc::clone(&lock);
            move || *lock.read()
        });
        let writer = bast::spawn({
            let lock = Arc::clone(&lock);
            move || *lock.write() = 2
        });
        until_blocked(2, BlockedOn::RwLock);
        *guard = 1;
        let guard = RwLockWriteGuard::downgrade(guard);
        assert_eq!(reader.join().unwrap(), 1);
        until_blocked(1, BlockedOn::RwLock);
        assert_eq!(*guard, 1);
        drop(guard);
        writer.join().unwrap();
        assert_eq!(*lock.read(), 2);
    });
}

#[test]
fn tries_and_limits_of_a_lock_that_is_held() {
    deadline(|| {
        let mut lock = RwLock::new(1);
        let reader = lock.read();
        assert_eq!(lock.try_read().as_deref(), Some(&1));
        assert!(lock.try_write().is_none());
        assert!(lock.write_timeout(SHORT).is_none());
        assert_eq!(format!("{lock:?}"), "RwLock { value: 1 }");
        drop(reader);
        let writer = lock.write();
        assert!(lock.try_read().is_none() && lock.try_write().is_none());
        assert!(lock.read_timeout(SHORT).is_none());
        assert_eq!(format!("{lock:?}"), "RwLock { value: <locked> }");
        drop(writer);
        *lock.get_mut() += 1;
        assert_eq!(lock.into_inner(), 2);
    });
}

#[test]
fn random_kills_leave_the_lock_free() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let (lock, mut random) = (Arc::new(RwLock::new(0_u64)), Random(42));
            let start = |place: u64, writes: bool| {
                let lock = Arc::clone(&lock);
                spawn_on(place as usize, move || {
                    loop {
                        if writes {
                            *lock.write() += 1;
                        } else {
                            let guard = lock.read();
                            bast::yield_now();
                            drop(guard);
                        }
                        bast::yield_now();
                    }
                })
            };
            let mut threads: Vec<bast::JoinHandle<()>> =
                (0..9_u64).map(|n| start(n, n.is_multiple_of(3))).collect();
            for _ in 0..60 {
                let victim = random.below(9) as usize;
                let replacement = start(random.below(8), victim.is_multiple_of(3));
                kill(std::mem::replace(&mut threads[victim], replacement));
            }
            threads.into_iter().for_each(kill);
            assert!(lock.try_write().is_some());
        });
    }
}
