//! MVars: order, reads, exchange and loans.

use crate::{CAPABILITIES, LONG, kill, until_blocked};
use bast::BlockedOn;
use bast::sync::{MVar, Mutex};
use bast_tests::{on_capabilities, spawn_on};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

#[test]
fn a_value_that_is_being_changed_is_neither_there_nor_gone() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let mvar = Arc::new(MVar::new(0_u32));
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let mvar = Arc::clone(&mvar);
                    spawn_on(n, move || {
                        for _ in 0..100 {
                            mvar.modify(|value| {
                                let before = *value;
                                bast::yield_now();
                                *value = before + 1;
                            });
                            let value = mvar.take();
                            mvar.put(value + 1);
                            assert!(mvar.with(|value| *value) <= 1_600);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(mvar.try_take(), Some(1_600));
        });
    }
}

#[test]
fn one_that_changes_a_value_waits_its_turn_among_takers() {
    on_capabilities(1, || {
        let (mvar, order) = (Arc::new(MVar::empty()), Arc::new(Mutex::new(Vec::new())));
        let kinds: [fn(&MVar<u32>) -> u32; 4] = [
            MVar::take,
            |mvar| mvar.modify(|value| std::mem::replace(value, 10)),
            |mvar| mvar.with(|value| *value),
            |mvar| mvar.swap(20),
        ];
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let (mvar, order) = (Arc::clone(&mvar), Arc::clone(&order));
                let thread = bast::spawn(move || {
                    let seen = kinds[n](&mvar);
                    order.lock().push((n, seen));
                });
                until_blocked(n + 1, BlockedOn::MVar);
                thread
            })
            .collect();
        mvar.put(1);
        mvar.put(2);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*order.lock(), [(0, 1), (1, 2), (2, 10), (3, 10)]);
        assert_eq!(mvar.take(), 20);
    });
}

#[test]
fn a_value_comes_back_from_one_that_panics_or_is_killed_while_it_changes_it() {
    on_capabilities(1, || {
        let mvar = Arc::new(MVar::new(1));
        let panics = bast::spawn({
            let mvar = Arc::clone(&mvar);
            move || {
                mvar.modify(|value| {
                    *value = 2;
                    panic!("half done");
                });
            }
        });
        assert!(panics.join().unwrap_err().is_panic());
        let killed = bast::spawn({
            let mvar = Arc::clone(&mvar);
            move || mvar.with(|_| bast::sleep(LONG))
        });
        until_blocked(1, BlockedOn::Timer);
        assert_eq!((mvar.try_take(), mvar.try_put(3)), (None, Err(3)));
        kill(killed);
        assert_eq!(mvar.try_take(), Some(2));
    });
}
