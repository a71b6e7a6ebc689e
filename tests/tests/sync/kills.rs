//! Kills of threads that wait, and of threads that do not.

use crate::{CAPABILITIES, Random, kill, until_blocked};
use bast::sync::{Condvar, MVar, Mutex, TryRecvError, channel, unbounded};
use bast::{BlockedOn, JoinHandle};
use bast_tests::{on_capabilities, spawn_on};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

#[test]
fn a_killed_waiter_leaves_each_queue_sound() {
    // [35] Of three in a queue the first, the middle or the last one is killed; what comes next is for the others.
    for victim in 0..3 {
        on_capabilities(1, move || {
            let mvar = Arc::new(MVar::empty());
            let three = |start: &dyn Fn(usize) -> JoinHandle<u32>, what| {
                let mut waiters: Vec<_> = (0..3)
                    .map(|n| {
                        let waiter = start(n);
                        until_blocked(n + 1, what);
                        waiter
                    })
                    .collect();
                kill(waiters.remove(victim));
                waiters
            };
            let finish = |waiters: Vec<JoinHandle<u32>>| -> Vec<u32> {
                waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect()
            };

            let takers = three(
                &|_| {
                    let mvar = Arc::clone(&mvar);
                    bast::spawn(move || mvar.take())
                },
                BlockedOn::MVar,
            );
            mvar.put(1);
            mvar.put(2);
            assert_eq!(finish(takers), [1, 2]);

            let readers = three(
                &|_| {
                    let mvar = Arc::clone(&mvar);
                    bast::spawn(move || mvar.read())
                },
                BlockedOn::MVar,
            );
            mvar.put(3);
            assert_eq!(finish(readers), [3, 3]);

            let putters = three(
                &|n| {
                    let mvar = Arc::clone(&mvar);
                    bast::spawn(move || {
                        mvar.put(10 + n as u32);
                        0
                    })
                },
                BlockedOn::MVar,
            );
            let put: Vec<u32> = [mvar.take(), mvar.take(), mvar.take()].into();
            let mut expected = vec![3, 10, 11, 12];
            expected.remove(1 + victim);
            assert_eq!(put, expected);
            assert!(mvar.is_empty());
            finish(putters);

            let (tx, rx) = channel(1);
            let receivers = three(
                &|_| {
                    let rx = rx.clone();
                    bast::spawn(move || rx.recv().unwrap())
                },
                BlockedOn::Receive,
            );
            tx.send(1).unwrap();
            tx.send(2).unwrap();
            assert_eq!(finish(receivers), [1, 2]);
            tx.send(3).unwrap();
            let senders = three(
                &|n| {
                    let tx = tx.clone();
                    bast::spawn(move || tx.send(10 + n as u32).map_or(1, |()| 0))
                },
                BlockedOn::Send,
            );
            drop(tx);
            assert_eq!(finish_after(&rx, senders), expected);

            let mutex = Arc::new(Mutex::new(0));
            let guard = mutex.lock();
            let lockers = three(
                &|_| {
                    let mutex = Arc::clone(&mutex);
                    bast::spawn(move || {
                        *mutex.lock() += 1;
                        0
                    })
                },
                BlockedOn::Mutex,
            );
            drop(guard);
            finish(lockers);
            assert_eq!(*mutex.lock(), 2);

            let condvar = Arc::new(Condvar::new());
            let waiters = three(
                &|_| {
                    let (mutex, condvar) = (Arc::clone(&mutex), Arc::clone(&condvar));
                    bast::spawn(move || {
                        drop(condvar.wait(mutex.lock()));
                        0
                    })
                },
                BlockedOn::Condvar,
            );
            assert!(!mutex.is_locked(), "a killed waiter has the mutex");
            condvar.notify_one();
            condvar.notify_one();
            finish(waiters);
        });
    }
}

fn finish_after(rx: &bast::sync::Receiver<u32>, senders: Vec<JoinHandle<u32>>) -> Vec<u32> {
    let received = rx.iter().collect();
    for sender in senders {
        assert_eq!(sender.join().unwrap(), 0);
    }
    received
}

#[test]
fn ten_thousand_blocked_threads_are_all_killed() {
    // [13] Fewer in debug builds, where an unwind takes a good part of a millisecond.
    const EACH: usize = if cfg!(debug_assertions) { 400 } else { 2_000 };
    on_capabilities(2, || {
        let drops = Arc::new(AtomicUsize::new(0));
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (full, empty) = (Arc::new(MVar::new(0)), Arc::new(MVar::<u32>::empty()));
        let (tx, rx) = channel(0);
        let mutex = Arc::new(Mutex::new(()));
        let guard = mutex.lock();
        let (other, condvar) = (Arc::new(Mutex::new(())), Arc::new(Condvar::new()));
        let mut threads = Vec::new();
        for n in 0..EACH {
            let counted = || Counted(Arc::clone(&drops));
            threads.push(spawn_on(n, {
                let (full, counted) = (Arc::clone(&full), counted());
                move || {
                    full.put(1);
                    drop(counted);
                }
            }));
            threads.push(spawn_on(n, {
                let (empty, counted) = (Arc::clone(&empty), counted());
                move || {
                    empty.take();
                    drop(counted);
                }
            }));
            threads.push(spawn_on(n, {
                let (tx, counted) = (tx.clone(), counted());
                move || {
                    tx.send(1).unwrap();
                    drop(counted);
                }
            }));
            threads.push(spawn_on(n, {
                let (mutex, counted) = (Arc::clone(&mutex), counted());
                move || {
                    drop(mutex.lock());
                    drop(counted);
                }
            }));
            threads.push(spawn_on(n, {
                let (other, condvar, counted) = (Arc::clone(&other), Arc::clone(&condvar), counted());
                move || {
                    drop(condvar.wait(other.lock()));
                    drop(counted);
                }
            }));
        }
        until_blocked(2 * EACH, BlockedOn::MVar);
        until_blocked(EACH, BlockedOn::Send);
        until_blocked(EACH, BlockedOn::Mutex);
        until_blocked(EACH, BlockedOn::Condvar);
        threads.iter().for_each(|thread| thread.thread().kill());
        assert!(threads.into_iter().all(|thread| thread.join().unwrap_err().is_killed()));
        assert_eq!(drops.load(Ordering::Relaxed), 5 * EACH);
        drop(guard);
        assert!(mutex.try_lock().is_some());
        assert_eq!((full.take(), full.try_take()), (0, None));
        empty.put(1);
        assert_eq!(empty.try_take(), Some(1));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn a_killed_thread_dies_in_a_loop_of_operations_that_never_wait() {
    on_capabilities(2, || {
        let loops: [fn(&AtomicU32); 4] = [
            |turns| {
                let (tx, rx) = unbounded();
                loop {
                    tx.send(1).unwrap();
                    rx.recv().unwrap();
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            },
            |turns| {
                let mvar = MVar::new(0);
                loop {
                    let value = mvar.take();
                    mvar.put(value);
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            },
            |turns| {
                let mutex = Mutex::new(0);
                loop {
                    *mutex.lock() += 1;
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            },
            |turns| {
                let mutex = Mutex::new(0);
                let _guard = mutex.lock();
                while mutex.try_lock().is_none() {
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            },
        ];
        for body in loops {
            let turns = Arc::new(AtomicU32::new(0));
            let thread = spawn_on(1, {
                let turns = Arc::clone(&turns);
                move || body(&turns)
            });
            while turns.load(Ordering::Relaxed) < 10 {
                bast::yield_now();
            }
            kill(thread);
        }
    });
}

#[test]
fn an_operation_that_was_served_returns_although_the_thread_is_killed() {
    // The item is handed over first, the kill comes before the receiver runs again.
    on_capabilities(1, || {
        let (tx, rx) = channel(0);
        let received = Arc::new(AtomicU32::new(0));
        let receiver = bast::spawn({
            let received = Arc::clone(&received);
            move || {
                received.store(rx.recv().unwrap(), Ordering::Relaxed);
                rx.recv().unwrap()
            }
        });
        until_blocked(1, BlockedOn::Receive);
        tx.send(7).unwrap();
        kill(receiver);
        assert_eq!(received.load(Ordering::Relaxed), 7);
        assert!(tx.send(8).is_err());
    });
}

#[test]
fn a_thread_that_swallowed_its_kill_meets_it_at_its_next_operation() {
    // [29] and its kin: killed while blocked in a handler.
    on_capabilities(1, || {
        let mvar = Arc::new(MVar::<u32>::empty());
        let swallowed = Arc::new(AtomicBool::new(false));
        let thread = bast::spawn({
            let (mvar, swallowed) = (Arc::clone(&mvar), Arc::clone(&swallowed));
            move || {
                let payload = catch_unwind(AssertUnwindSafe(|| mvar.take())).unwrap_err();
                swallowed.store(bast::is_kill(&*payload), Ordering::Relaxed);
                mvar.take()
            }
        });
        until_blocked(1, BlockedOn::MVar);
        kill(thread);
        assert!(swallowed.load(Ordering::Relaxed));
        mvar.put(1);
        assert_eq!(mvar.take(), 1);
    });
}

#[test]
fn a_destructor_can_lock_while_a_kill_unwinds_and_a_second_kill_does_not_disturb_it() {
    struct LockOnDrop(Arc<Mutex<u32>>);
    impl Drop for LockOnDrop {
        fn drop(&mut self) {
            *self.0.lock() += 1;
        }
    }
    on_capabilities(1, || {
        let (mutex, never) = (Arc::new(Mutex::new(0)), Arc::new(MVar::<()>::empty()));
        let thread = bast::spawn({
            let (lock_on_drop, never) = (LockOnDrop(Arc::clone(&mutex)), Arc::clone(&never));
            move || {
                never.take();
                drop(lock_on_drop);
            }
        });
        until_blocked(1, BlockedOn::MVar);
        let guard = mutex.lock();
        thread.thread().kill();
        until_blocked(1, BlockedOn::Mutex);
        thread.thread().kill();
        (0..10).for_each(|_| bast::yield_now());
        until_blocked(1, BlockedOn::Mutex);
        assert_eq!(*guard, 0);
        drop(guard);
        assert!(thread.join().unwrap_err().is_killed());
        assert_eq!(*mutex.lock(), 1);
    });
}

#[test]
fn no_item_is_lost_or_doubled_by_random_kills() {
    // [14, 23, 35] What a send or put has returned for is what is received, exactly.
    for seed in [3, 1_234_567, 0xdead_beef] {
        for count in CAPABILITIES {
            on_capabilities(count, move || {
                random_kills(seed, 4);
                random_kills(seed, 0);
            });
        }
    }
}

/// Threads move numbers through an MVar into a channel and out again while random ones are killed and replaced.
fn random_kills(seed: u64, capacity: usize) {
    const THREADS: usize = 4;
    const KILLS: usize = 40;
    let mut random = Random(seed);
    let mvar = Arc::new(MVar::empty());
    let (tx, rx) = channel(capacity);
    let next = Arc::new(AtomicU32::new(0));
    // What was put, taken, sent and received. std's mutex, which is no interruptible point; no thread parks in it.
    let logs: Arc<[std::sync::Mutex<Vec<u32>>; 4]> = Arc::default();
    let log = |logs: &[std::sync::Mutex<Vec<u32>>; 4], which: usize, n| logs[which].lock().unwrap().push(n);
    let start = |role: usize, place: u64| {
        let (mvar, tx, rx, next, logs) =
            (Arc::clone(&mvar), tx.clone(), rx.clone(), Arc::clone(&next), Arc::clone(&logs));
        spawn_on(place as usize, move || match role {
            0 => loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                mvar.put(n);
                log(&logs, 0, n);
            },
            1 => loop {
                let n = mvar.take();
                log(&logs, 1, n);
                tx.send(n).unwrap();
                log(&logs, 2, n);
            },
            _ => loop {
                let n = rx.recv().unwrap();
                log(&logs, 3, n);
            },
        })
    };
    let mut threads: Vec<JoinHandle<()>> = (0..3 * THREADS).map(|n| start(n % 3, random.below(8))).collect();
    for _ in 0..KILLS {
        let (victim, place) = (random.below(threads.len() as u64) as usize, random.below(8));
        let replacement = start(victim % 3, place);
        kill(std::mem::replace(&mut threads[victim], replacement));
        for _ in 0..random.below(4) {
            bast::yield_now();
        }
    }
    threads.into_iter().for_each(kill);
    let sorted = |which: usize| {
        let mut log = std::mem::take(&mut *logs[which].lock().unwrap());
        log.sort_unstable();
        log
    };
    let (put, mut taken) = (sorted(0), sorted(1));
    taken.extend(mvar.try_take());
    taken.sort_unstable();
    assert_eq!(put, taken, "seed {seed}");
    let (sent, mut received) = (sorted(2), sorted(3));
    received.extend(rx.try_iter());
    received.sort_unstable();
    assert_eq!(sent, received, "seed {seed}");
    assert!(!put.is_empty());
    assert!(!sent.is_empty());
}
