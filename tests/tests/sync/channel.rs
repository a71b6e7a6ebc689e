//! Channels: turns, and what happens when an end is gone.

use crate::{CAPABILITIES, until_blocked};
use bast::BlockedOn;
use bast::sync::{RecvError, channel, unbounded};
use bast_tests::{on_capabilities, spawn_on};
use std::collections::BTreeSet;
use std::sync::Arc;

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
