//! One-shot channels: the item, or the end of the sender.

use crate::{CAPABILITIES, SHORT, kill, until_blocked};
use bast::BlockedOn;
use bast::sync::oneshot::{self, RecvError, RecvTimeoutError, TryRecvError};
use bast_tests::{deadline, on_capabilities, spawn_on};
use std::sync::Arc;
use std::thread;

#[test]
fn the_item_arrives_whoever_is_first() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            for n in 0..200 {
                let (tx, rx) = oneshot::channel();
                let receiver = spawn_on(n, move || rx.recv());
                if n % 2 == 0 {
                    thread::spawn(move || tx.send(Box::new(n)).unwrap());
                } else {
                    spawn_on(n / 2, move || tx.send(Box::new(n)).unwrap());
                }
                assert_eq!(receiver.join().unwrap(), Ok(Box::new(n)));
            }
        });
    }
}

#[test]
fn the_end_of_the_sender_ends_the_wait() {
    on_capabilities(1, || {
        let (tx, rx) = oneshot::channel::<u32>();
        let receiver = bast::spawn(move || rx.recv());
        until_blocked(1, BlockedOn::Receive);
        drop(tx);
        assert_eq!(receiver.join().unwrap(), Err(RecvError));
    });
}

#[test]
fn a_sender_learns_that_its_receiver_was_killed() {
    on_capabilities(1, || {
        let (tx, rx) = oneshot::channel();
        let receiver = bast::spawn(move || rx.recv());
        until_blocked(1, BlockedOn::Receive);
        assert!(!tx.is_closed());
        kill(receiver);
        assert!(tx.is_closed());
        assert_eq!(tx.send(5).map_err(|error| error.0), Err(5));
    });
}

#[test]
fn an_item_that_is_not_received_is_dropped_with_the_receiver() {
    deadline(|| {
        let item = Arc::new(());
        let (tx, rx) = oneshot::channel();
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        tx.send(Arc::clone(&item)).unwrap();
        assert_eq!(format!("{rx:?}"), "Receiver { is_sent: true }");
        drop(rx);
        assert_eq!(Arc::strong_count(&item), 1);
        let (tx, rx) = oneshot::channel();
        tx.send(1).unwrap();
        assert_eq!(rx.recv_timeout(SHORT), Ok(1));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    });
}
