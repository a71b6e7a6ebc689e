//! Broadcast channels: each receiver gets each item, or is told how many it missed.

use crate::{CAPABILITIES, SHORT, kill, until_blocked};
use bast::BlockedOn;
use bast::sync::broadcast::{self, Lagged, RecvError, RecvTimeoutError, TryRecvError};
use bast_tests::{deadline, on_capabilities, spawn_on};
use std::sync::Arc;
use std::thread;

#[test]
fn each_receiver_gets_all_items_in_order() {
    const ITEMS: usize = 500;
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let (tx, rx) = broadcast::channel(ITEMS);
            let sum = |mut rx: broadcast::Receiver<Box<usize>>| {
                let items: Vec<_> = rx.iter().map(|item| *item.unwrap()).collect();
                assert!(items.iter().is_sorted());
                items.len()
            };
            let receivers: Vec<_> = (0..4)
                .map(|n| {
                    let rx = rx.clone();
                    spawn_on(n, move || sum(rx))
                })
                .collect();
            let os_thread = thread::spawn(move || sum(rx));
            for n in 0..ITEMS {
                assert_eq!(tx.send(Box::new(n)).unwrap(), 5);
                if n % 16 == 0 {
                    bast::yield_now();
                }
            }
            drop(tx);
            assert!(receivers.into_iter().all(|receiver| receiver.join().unwrap() == ITEMS));
            assert_eq!(os_thread.join().unwrap(), ITEMS);
        });
    }
}

#[test]
fn a_receiver_that_lags_is_told_how_much_it_missed_and_goes_on_with_the_oldest() {
    deadline(|| {
        let (tx, mut rx) = broadcast::channel(3);
        (0..5).for_each(|n| assert_eq!(tx.send(n), Ok(1)));
        assert_eq!(rx.len(), 5);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Lagged(2)));
        let mut late = tx.subscribe();
        assert_eq!(rx.clone().recv(), Ok(2));
        assert_eq!((rx.try_recv(), rx.recv(), rx.recv_timeout(SHORT)), (Ok(2), Ok(3), Ok(4)));
        assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        tx.send(5).unwrap();
        assert_eq!((rx.recv(), late.recv()), (Ok(5), Ok(5)));
        (6..10).for_each(|n| assert_eq!(tx.send(n), Ok(2)));
        drop(tx);
        let rest: Vec<_> = rx.iter().collect();
        assert_eq!(rest, [Err(Lagged(1)), Ok(7), Ok(8), Ok(9)]);
        assert_eq!((rx.recv(), rx.is_empty()), (Err(RecvError::Closed), true));
    });
}

#[test]
fn items_are_dropped_when_they_are_displaced_and_with_the_last_receiver() {
    deadline(|| {
        let item = Arc::new(());
        let (tx, rx) = broadcast::channel(2);
        (0..5).for_each(|_| assert_eq!(tx.send(Arc::clone(&item)), Ok(1)));
        assert_eq!(Arc::strong_count(&item), 3);
        drop(rx);
        assert_eq!(Arc::strong_count(&item), 1);
        assert!(tx.send(Arc::clone(&item)).is_err());
        assert_eq!(tx.receivers(), 0);
        let mut rx = tx.subscribe();
        tx.send(item).unwrap();
        assert!(rx.try_recv().is_ok());
    });
}

#[test]
fn a_killed_receiver_takes_nothing_from_the_others() {
    on_capabilities(2, || {
        let (tx, mut rx) = broadcast::channel(4);
        let waiters: Vec<_> = (0..3)
            .map(|n| {
                let mut rx = rx.clone();
                spawn_on(n, move || rx.recv())
            })
            .collect();
        until_blocked(3, BlockedOn::Receive);
        let [first, killed, last] = waiters.try_into().unwrap();
        kill(killed);
        assert_eq!(tx.send("all").unwrap(), 3);
        assert_eq!(first.join().unwrap(), Ok("all"));
        assert_eq!(last.join().unwrap(), Ok("all"));
        assert_eq!(rx.recv(), Ok("all"));
    });
}

#[test]
fn a_receiver_may_begin_with_any_item_that_is_kept() {
    deadline(|| {
        let (tx, keeper) = broadcast::channel(3);
        (1..=5).for_each(|n| assert_eq!(tx.send(n), Ok(1)));
        assert_eq!((tx.sent(), keeper.received()), (5, 0));
        let mut at_third = tx.subscribe_after(3);
        assert_eq!((at_third.recv(), at_third.received()), (Ok(4), 4));
        let mut too_late = tx.subscribe_after(0);
        assert_eq!((too_late.recv(), too_late.received()), (Err(RecvError::Lagged(2)), 2));
        assert_eq!((too_late.recv(), too_late.received()), (Ok(3), 3));
        let mut from_the_future = tx.subscribe_after(100);
        assert_eq!((from_the_future.received(), from_the_future.len()), (5, 0));
        tx.send(6).unwrap();
        assert_eq!(from_the_future.recv(), Ok(6));
    });
}
