//! Locks, variables and channels: order, fairness, kills, and OS threads at either end.
//!
//! Numbers in brackets are the rows of GHC's concurrency tests that a test has its behaviour from.

use bast::sync::{
    Condvar, MVar, Mutex, RecvError, RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError, channel,
    unbounded,
};
use bast::{BlockedOn, Builder, Handle, JoinHandle};
use bast_tests::{deadline, on_capabilities};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CAPABILITIES: [usize; 3] = [1, 2, 8];
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);
/// More than what counts as starving.
const STARVED: Duration = Duration::from_millis(2);

/// Waits until `count` threads of this runtime are blocked on `what`.
fn until_blocked(count: usize, what: BlockedOn) {
    let blocked = || Handle::current().threads().iter().filter(|t| t.blocked_on == Some(what)).count();
    while blocked() < count {
        bast::yield_now();
    }
}

fn spawn_on<T: Send + 'static>(index: usize, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let runtime = Handle::current();
    let capability = runtime.capability(index % runtime.capabilities());
    Builder::new().on(capability).spawn(f).unwrap()
}

fn kill<T: std::fmt::Debug>(thread: JoinHandle<T>) {
    thread.thread().kill();
    assert!(thread.join().unwrap_err().is_killed());
}

/// A spin, for tests in which a thread must be on its core for a while.
fn busy(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// Pseudo-random numbers (xorshift), the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

// Order and exchange.

#[test]
fn a_consumer_gets_all_items_of_a_producer_in_order() {
    // [1] {MVar, rendezvous, bounded, unbounded} × capabilities.
    const ITEMS: u32 = 2_000;
    for count in CAPABILITIES {
        on_capabilities(count, move || {
            let full = Arc::new(MVar::empty());
            let producer = spawn_on(1, {
                let full = Arc::clone(&full);
                move || (0..ITEMS).for_each(|n| full.put(n))
            });
            assert!((0..ITEMS).all(|n| full.take() == n));
            producer.join().unwrap();
            for (tx, rx) in [channel(0), channel(1), channel(7), unbounded()] {
                let producer = spawn_on(1, move || (0..ITEMS).for_each(|n| tx.send(n).unwrap()));
                assert!(rx.into_iter().eq(0..ITEMS), "{count} capabilities");
                producer.join().unwrap();
            }
        });
    }
}

#[test]
fn two_threads_hand_a_value_back_and_forth() {
    // [2]
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let (ping, pong) = (Arc::new(MVar::empty()), Arc::new(MVar::empty()));
            let other = spawn_on(1, {
                let (ping, pong) = (Arc::clone(&ping), Arc::clone(&pong));
                move || (0..1000).for_each(|_| pong.put(ping.take() + 1))
            });
            let last = (0..1000).fold(0, |value, _| {
                ping.put(value);
                pong.take()
            });
            assert_eq!(last, 1000);
            other.join().unwrap();
        });
    }
}

#[test]
fn a_tiny_time_slice_does_not_stop_a_heavy_exchange() {
    // [37] The slice ends in the middle of operations.
    deadline(|| {
        let runtime =
            bast::Runtime::builder().capabilities(2).time_slice(Duration::from_micros(100)).build().unwrap();
        runtime.run(|| {
            let pairs: Vec<_> = (0..8)
                .map(|pair| {
                    let (tx, rx) = channel(1);
                    let gate = Arc::new(MVar::empty());
                    let sender = spawn_on(pair, {
                        let gate = Arc::clone(&gate);
                        move || (0..2000).for_each(|n| gate.put(tx.send(n).is_ok()))
                    });
                    let receiver =
                        spawn_on(pair / 2, move || (0..2000).all(|n| gate.take() && rx.recv() == Ok(n)));
                    (sender, receiver)
                })
                .collect();
            for (sender, receiver) in pairs {
                sender.join().unwrap();
                assert!(receiver.join().unwrap());
            }
        });
    });
}

#[test]
fn waiters_of_an_mvar_are_served_in_the_order_in_which_they_came() {
    on_capabilities(1, || {
        let (mvar, order) = (Arc::new(MVar::empty()), Arc::new(Mutex::new(Vec::new())));
        let takers: Vec<_> = (0..5)
            .map(|n| {
                let (mvar, order) = (Arc::clone(&mvar), Arc::clone(&order));
                let taker = bast::spawn(move || {
                    let value: u32 = mvar.take();
                    order.lock().push((n, value));
                });
                until_blocked(n + 1, BlockedOn::MVar);
                taker
            })
            .collect();
        for value in 0..5 {
            mvar.put(value);
            // Handed over: a newcomer cannot snatch it.
            assert_eq!(mvar.try_take(), None);
        }
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!(*order.lock(), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]);
    });
}

#[test]
fn each_receiver_of_a_shared_channel_gets_its_turn() {
    // [14]
    on_capabilities(1, || {
        let (tx, rx) = channel(0);
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let rx = rx.clone();
                bast::spawn(move || rx.iter().count())
            })
            .collect();
        for n in 0..400 {
            until_blocked(4, BlockedOn::Receive);
            tx.send(n).unwrap();
        }
        drop(tx);
        for receiver in receivers {
            assert_eq!(receiver.join().unwrap(), 100);
        }
    });
}

// Never blocking.

#[test]
fn tries_never_block() {
    // [11]
    deadline(|| {
        let mvar = MVar::empty();
        assert!(mvar.is_empty());
        assert_eq!((mvar.try_take(), mvar.try_read()), (None, None));
        assert_eq!((mvar.try_put(1), mvar.try_put(2)), (Ok(()), Err(2)));
        assert!(!mvar.is_empty());
        assert_eq!((mvar.try_read(), mvar.try_take(), mvar.try_take()), (Some(1), Some(1), None));

        let mutex = Mutex::new(());
        let guard = mutex.try_lock();
        assert!(guard.is_some());
        assert!(mutex.try_lock().is_none());
        assert!(mutex.is_locked(), "a failed try must not unlock");
        drop(guard);
        assert!(!mutex.is_locked());

        let (tx, rx) = channel(1);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        assert_eq!((tx.try_send(1), tx.try_send(2)), (Ok(()), Err(TrySendError::Full(2))));
        assert_eq!((tx.len(), rx.try_iter().collect::<Vec<_>>()), (1, vec![1]));
        let (none, _rx) = channel(0);
        assert_eq!(none.try_send(1), Err(TrySendError::Full(1)));
        drop(tx);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    });
}

#[test]
fn waits_end_at_their_limits_with_nothing_lost() {
    let waits = || {
        let mvar = MVar::empty();
        assert_eq!(mvar.take_timeout(SHORT), None::<u32>);
        assert_eq!(mvar.read_timeout(SHORT), None);
        mvar.put(1);
        assert_eq!(mvar.put_timeout(2, SHORT), Err(2));
        assert_eq!(mvar.take_timeout(SHORT), Some(1));
        assert_eq!(mvar.put_timeout(3, SHORT), Ok(()));

        let (tx, rx) = channel(1);
        assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert_eq!(tx.send_timeout(1, SHORT), Ok(()));
        assert_eq!(tx.send_timeout(2, SHORT), Err(SendTimeoutError::Timeout(2)));
        assert_eq!(rx.recv_timeout(SHORT), Ok(1));
        assert!(rx.is_empty(), "an item that timed out was sent");
        drop(rx);
        assert_eq!(tx.send_timeout(3, SHORT), Err(SendTimeoutError::Disconnected(3)));

        let (mutex, condvar) = (Mutex::new(0), Condvar::new());
        let (guard, result) = condvar.wait_timeout(mutex.lock(), SHORT);
        assert!(result.timed_out());
        let (guard, result) = condvar.wait_timeout_while(guard, SHORT, |n| *n == 0);
        assert!(result.timed_out());
        let (_, result) = condvar.wait_timeout_while(guard, SHORT, |n| *n != 0);
        assert!(!result.timed_out());
    };
    deadline(waits);
    on_capabilities(1, waits);
}

// MVar: read and swap.

#[test]
fn all_readers_get_the_next_value_ahead_of_takers() {
    // [43]
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let mvar = Arc::new(MVar::empty());
            let takers: Vec<_> = (0..2)
                .map(|n| {
                    let mvar = Arc::clone(&mvar);
                    spawn_on(n, move || mvar.take())
                })
                .collect();
            until_blocked(2, BlockedOn::MVar);
            let readers: Vec<_> = (0..20)
                .map(|n| {
                    let mvar = Arc::clone(&mvar);
                    spawn_on(n, move || mvar.read())
                })
                .collect();
            until_blocked(22, BlockedOn::MVar);
            mvar.put(7);
            for reader in readers {
                assert_eq!(reader.join().unwrap(), 7);
            }
            mvar.put(8);
            let taken: BTreeSet<_> = takers.into_iter().map(|taker| taker.join().unwrap()).collect();
            assert_eq!(taken, BTreeSet::from([7, 8]));
            assert!(mvar.is_empty());
        });
    }
}

#[test]
fn two_reading_loops_do_not_starve_a_taker() {
    on_capabilities(3, || {
        let (mvar, over) = (Arc::new(MVar::new(String::from("value"))), Arc::new(AtomicBool::new(false)));
        let readers: Vec<_> = (1..=2)
            .map(|n| {
                let (mvar, over) = (Arc::clone(&mvar), Arc::clone(&over));
                spawn_on(n, move || {
                    while !over.load(Ordering::Relaxed) {
                        assert_eq!(mvar.read(), "value");
                    }
                })
            })
            .collect();
        for _ in 0..200 {
            let value = mvar.take();
            mvar.put(value);
        }
        over.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

/// A value whose clone blocks, or panics.
struct Slow(Arc<MVar<&'static str>>);

impl Clone for Slow {
    fn clone(&self) -> Slow {
        assert_ne!(self.0.take(), "panic");
        Slow(Arc::clone(&self.0))
    }
}

#[test]
fn a_value_comes_back_from_a_reader_whose_clone_panics_or_is_killed() {
    on_capabilities(1, || {
        let gate = Arc::new(MVar::empty());
        let mvar = Arc::new(MVar::new(Slow(Arc::clone(&gate))));
        let read = || {
            let reader = bast::spawn({
                let mvar = Arc::clone(&mvar);
                move || drop(mvar.read())
            });
            until_blocked(1, BlockedOn::MVar);
            assert!(mvar.try_take().is_none(), "the value is on loan");
            reader
        };
        let panics = read();
        gate.put("panic");
        assert!(panics.join().unwrap_err().is_panic());
        let killed = read();
        kill(killed);
        assert!(mvar.try_take().is_some());
    });
}

#[test]
fn a_swap_is_one_step() {
    on_capabilities(1, || {
        let mvar = Arc::new(MVar::new(1));
        assert_eq!(mvar.swap(2), 1);
        assert_eq!(mvar.take(), 2);
        let swapper = bast::spawn({
            let mvar = Arc::clone(&mvar);
            move || mvar.swap(10)
        });
        until_blocked(1, BlockedOn::MVar);
        mvar.put(3);
        // The swapper has not run yet, but the swap has happened.
        assert_eq!(mvar.try_take(), Some(10));
        assert_eq!(swapper.join().unwrap(), 3);
    });
}

// Kills.

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

// Mutex and condition variable.

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

// Ends of channels.

#[test]
fn the_end_of_one_side_wakes_the_other() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let (tx, rx) = channel::<u32>(0);
            let receivers: Vec<_> = (0..3)
                .map(|n| {
                    let rx = rx.clone();
                    spawn_on(n, move || rx.recv())
                })
                .collect();
            until_blocked(3, BlockedOn::Receive);
            drop(tx);
            for receiver in receivers {
                assert_eq!(receiver.join().unwrap(), Err(RecvError));
            }

            let (tx, rx) = channel(1);
            tx.send(0).unwrap();
            let senders: Vec<_> = (1..=3)
                .map(|n| {
                    let tx = tx.clone();
                    spawn_on(n, move || tx.send(n).unwrap_err().0)
                })
                .collect();
            until_blocked(3, BlockedOn::Send);
            drop(rx);
            let back: BTreeSet<_> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
            assert_eq!(back, BTreeSet::from([1, 2, 3]));
        });
    }
}

#[test]
fn items_that_nobody_will_receive_are_dropped_with_the_last_receiver() {
    let item = Arc::new(());
    let (tx, rx) = unbounded();
    (0..3).for_each(|_| tx.send(Arc::clone(&item)).unwrap());
    let other = rx.clone();
    drop(rx);
    assert_eq!(Arc::strong_count(&item), 4);
    drop(other);
    assert_eq!(Arc::strong_count(&item), 1);
    assert_eq!(tx.send(item).map_err(|error| Arc::strong_count(&error.0)), Err(1));
}

// OS threads.

#[test]
fn os_threads_exchange_with_green_threads_and_with_each_other() {
    // [49] The values are boxed: one that is not there yet when the OS thread goes on would be seen.
    const ITEMS: usize = 3_000;
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let (there, back) = (Arc::new(MVar::empty()), channel(3));
            let (out, far) = (channel(0), unbounded());
            let relays = [
                thread::spawn({
                    let (there, tx) = (Arc::clone(&there), back.0);
                    move || {
                        for _ in 0..ITEMS {
                            let item: Box<usize> = there.take();
                            tx.send(item).unwrap();
                        }
                    }
                }),
                thread::spawn({
                    let (rx, tx) = (back.1, out.0);
                    move || rx.iter().for_each(|item| tx.send(item).unwrap())
                }),
            ];
            let relay = spawn_on(1, move || out.1.iter().for_each(|item| far.0.send(item).unwrap()));
            let source = spawn_on(0, move || (0..ITEMS).for_each(|n| there.put(Box::new(n))));
            assert!(far.1.iter().map(|item| *item).eq(0..ITEMS));
            source.join().unwrap();
            relay.join().unwrap();
            relays.into_iter().for_each(|relay| relay.join().unwrap());
        });
    }
}

#[test]
fn a_wait_of_an_os_thread_that_times_out_races_with_its_service() {
    // Either the taker has the item or it is still there; never both, never neither.
    on_capabilities(2, || {
        let mvar = Arc::new(MVar::<Box<u32>>::empty());
        let taker = thread::spawn({
            let mvar = Arc::clone(&mvar);
            move || {
                let mut taken = Vec::new();
                while taken.len() < 500 {
                    taken.extend(mvar.take_timeout(Duration::from_micros(20)));
                }
                taken
            }
        });
        let mut random = Random(77);
        for n in 0..500 {
            mvar.put(Box::new(n));
            if random.below(4) == 0 {
                bast::sleep(Duration::from_micros(random.below(60)));
            }
        }
        assert!(taker.join().unwrap().into_iter().map(|item| *item).eq(0..500));
        assert_eq!(mvar.take_timeout(SHORT), None);
    });
}

#[test]
fn a_long_limit_is_no_limit() {
    on_capabilities(1, || {
        let (tx, rx) = channel(0);
        let receiver = bast::spawn(move || rx.recv_timeout(LONG));
        until_blocked(1, BlockedOn::Receive);
        tx.send(1).unwrap();
        assert_eq!(receiver.join().unwrap(), Ok(1));
        let (_tx, rx) = channel::<u32>(0);
        let receiver = bast::spawn(move || rx.recv_timeout(Duration::MAX));
        until_blocked(1, BlockedOn::Receive);
        kill(receiver);
    });
}
