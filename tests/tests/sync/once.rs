//! What is done once: by one, seen by all, and done again if it failed.

use crate::{CAPABILITIES, SHORT, kill, until_blocked};
use bast::BlockedOn;
use bast::sync::{LazyLock, MVar, Once, OnceLock};
use bast_tests::{deadline, on_capabilities, spawn_on};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[test]
fn one_of_many_initialises_and_all_see_the_value() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            for _ in 0..50 {
                let (place, made) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
                let get = {
                    let (place, made) = (Arc::clone(&place), Arc::clone(&made));
                    move || {
                        let value = place.get_or_init(|| {
                            bast::yield_now();
                            Box::new(made.fetch_add(1, Ordering::Relaxed) + 7)
                        });
                        **value
                    }
                };
                let os_thread = thread::spawn(get.clone());
                let threads: Vec<_> = (0..8).map(|n| spawn_on(n, get.clone())).collect();
                assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 7));
                assert_eq!(os_thread.join().unwrap(), 7);
                assert_eq!(made.load(Ordering::Relaxed), 1);
            }
        });
    }
}

#[test]
fn the_next_one_tries_when_an_initialiser_is_killed_or_panics() {
    on_capabilities(1, || {
        let (place, never) = (Arc::new(OnceLock::new()), Arc::new(MVar::<u32>::empty()));
        let initialise = |body: fn(&MVar<u32>) -> u32| {
            let (place, never) = (Arc::clone(&place), Arc::clone(&never));
            bast::spawn(move || *place.get_or_init(|| body(&never)))
        };
        let killed = initialise(MVar::take);
        until_blocked(1, BlockedOn::MVar);
        let panics = initialise(|_| panic!("no value"));
        until_blocked(1, BlockedOn::Once);
        let succeeds = initialise(|_| 3);
        until_blocked(2, BlockedOn::Once);
        assert_eq!(place.get(), None);
        kill(killed);
        assert!(panics.join().unwrap_err().is_panic());
        assert_eq!(succeeds.join().unwrap(), 3);
        assert_eq!(place.get(), Some(&3));
    });
}

#[test]
fn a_thread_that_waits_for_an_initialiser_can_be_killed() {
    on_capabilities(1, || {
        let (once, gate) = (Arc::new(Once::new()), Arc::new(MVar::empty()));
        let start = |body: fn(&Once, &MVar<()>)| {
            let (once, gate) = (Arc::clone(&once), Arc::clone(&gate));
            bast::spawn(move || body(&once, &gate))
        };
        let does = start(|once, gate| once.call_once(|| gate.take()));
        until_blocked(1, BlockedOn::MVar);
        let waits = [start(|once, _| once.call_once(|| unreachable!())), start(|once, _| once.wait())];
        until_blocked(2, BlockedOn::Once);
        waits.into_iter().for_each(kill);
        assert!(!once.wait_timeout(SHORT));
        gate.put(());
        once.wait();
        does.join().unwrap();
        assert!(once.is_completed());
    });
}

#[test]
fn a_value_is_set_once() {
    deadline(|| {
        let mut place = OnceLock::new();
        assert_eq!(place.wait_timeout(SHORT), None);
        assert_eq!(place.get_or_try_init(|| Err("no")), Err("no"));
        assert_eq!(place.get_or_try_init(|| Ok::<_, ()>(1)), Ok(&1));
        assert_eq!((place.set(2), place.get(), place.wait()), (Err(2), Some(&1), &1));
        assert_eq!(format!("{place:?}"), "OnceLock(1)");
        assert_eq!((place.take(), place.take()), (Some(1), None));
        assert_eq!(place.set(3), Ok(()));
        assert_eq!(place.into_inner(), Some(3));
    });
}

#[test]
fn a_lazy_value_that_could_not_be_made_is_made_at_the_next_use() {
    deadline(|| {
        let tries = AtomicUsize::new(0);
        let lazy = LazyLock::new(|| {
            assert!(tries.fetch_add(1, Ordering::Relaxed) > 0, "not yet");
            "made"
        });
        assert_eq!(format!("{lazy:?}"), "OnceLock(<empty>)");
        assert!(catch_unwind(AssertUnwindSafe(|| lazy.len())).is_err());
        assert_eq!((*lazy, LazyLock::force(&lazy)), ("made", &"made"));
        assert_eq!(tries.load(Ordering::Relaxed), 2);
    });
}
