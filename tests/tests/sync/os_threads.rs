//! Plain OS threads at either end.

use crate::{CAPABILITIES, LONG, Random, SHORT, kill, until_blocked};
use bast::BlockedOn;
use bast::sync::{MVar, channel, unbounded};
use bast_tests::{on_capabilities, spawn_on};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

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
