//! What holds for every object: order, tries, limits.

use crate::{CAPABILITIES, SHORT};
use bast::sync::{
    Condvar, MVar, Mutex, RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError, channel, unbounded,
};
use bast_tests::{deadline, on_capabilities, spawn_on};
use std::sync::Arc;
use std::time::Duration;

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
        let guard = mutex.lock_timeout(SHORT).expect("nobody has it");
        assert!(mutex.lock_timeout(SHORT).is_none());
        drop(guard);
        assert!(!mutex.is_locked(), "a lock that timed out was had");
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
