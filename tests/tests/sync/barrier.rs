//! The barrier: rounds, leaders, and threads that stop waiting.

use crate::{CAPABILITIES, SHORT, kill, until_blocked};
use bast::BlockedOn;
use bast::sync::Barrier;
use bast_tests::{deadline, on_capabilities, spawn_on};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[test]
fn nobody_passes_before_all_have_come_in_each_of_many_rounds() {
    const THREADS: usize = 6;
    const ROUNDS: usize = 200;
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let barrier = Arc::new(Barrier::new(THREADS + 1));
            let (arrived, led) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let work = {
                let (barrier, arrived, led) = (Arc::clone(&barrier), Arc::clone(&arrived), Arc::clone(&led));
                move || {
                    for round in 1..=ROUNDS {
                        arrived.fetch_add(1, Ordering::SeqCst);
                        led.fetch_add(usize::from(barrier.wait().is_leader()), Ordering::SeqCst);
                        let there = arrived.load(Ordering::SeqCst);
                        assert!(there >= round * (THREADS + 1), "{there} in round {round}");
                    }
                }
            };
            let os_thread = thread::spawn(work.clone());
            let threads: Vec<_> = (0..THREADS).map(|n| spawn_on(n, work.clone())).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            os_thread.join().unwrap();
            assert_eq!(led.load(Ordering::SeqCst), ROUNDS);
        });
    }
}

#[test]
fn a_thread_that_is_killed_or_times_out_while_it_waits_has_not_come() {
    on_capabilities(1, || {
        let barrier = Arc::new(Barrier::new(2));
        let start = || {
            let barrier = Arc::clone(&barrier);
            bast::spawn(move || barrier.wait().is_leader())
        };
        let killed = start();
        until_blocked(1, BlockedOn::Barrier);
        kill(killed);
        assert_eq!(barrier.wait_timeout(SHORT), None);
        assert_eq!(format!("{barrier:?}"), "Barrier { threads: 2, arrived: 0 }");
        let other = start();
        until_blocked(1, BlockedOn::Barrier);
        assert!(barrier.wait().is_leader());
        assert!(!other.join().unwrap());
    });
}

#[test]
fn a_barrier_for_none_or_one_holds_nobody_up() {
    deadline(|| {
        assert!(Barrier::new(0).wait().is_leader());
        assert!(Barrier::new(1).wait().is_leader());
    });
}
