//! Futures that are driven by green threads: whoever waits parks alone, no wake is lost, and a kill drops the future.
#![forbid(unsafe_code)]

use bast::sync::channel;
use bast::{BlockedOn, block_on, no_park};
use bast_tests::{deadline, on_capabilities, spawn_on, until, until_blocked};
use futures::channel::{mpsc, oneshot};
use futures::future::{Either, join_all, poll_fn, select};
use futures::{SinkExt, StreamExt};
use std::cell::Cell;
use std::future::{Future, pending, ready};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

fn waits(what: BlockedOn) -> bool {
    what == BlockedOn::Future
}

/// Something that is woken for without being done, until it is.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    polls: AtomicUsize,
    wakers: Mutex<Vec<Waker>>,
}

impl Gate {
    fn passed(&self) -> impl Future<Output = ()> {
        poll_fn(|context| {
            self.polls.fetch_add(1, Ordering::Relaxed);
            self.wakers.lock().unwrap().push(context.waker().clone());
            // Looked at after the waker is there, as a future must.
            if self.open.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    fn wakers(&self) -> Vec<Waker> {
        self.wakers.lock().unwrap().clone()
    }

    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.wakers().iter().for_each(Waker::wake_by_ref);
    }
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_future_may_borrow_and_need_not_be_send() {
    on_capabilities(1, || {
        let (text, count) = (String::from("borrowed"), Rc::new(Cell::new(0)));
        let length = block_on(async {
            count.set(count.get() + 1);
            ready(text.len()).await
        });
        assert_eq!((length, count.get()), (8, 1));
    });
}

#[test]
fn only_the_thread_that_drives_the_future_waits() {
    on_capabilities(1, || {
        let (tx, rx) = oneshot::channel();
        let driver = bast::spawn(move || block_on(rx).unwrap());
        until_blocked(1, waits);
        // The one capability is free to run this.
        tx.send(5).unwrap();
        assert_eq!(driver.join().unwrap(), 5);
    });
}

#[test]
fn messages_between_futures_on_green_and_on_os_threads_all_arrive() {
    for capabilities in [1, 2] {
        on_capabilities(capabilities, || {
            let (mut forth, mut there) = mpsc::channel::<u32>(0);
            let (mut back, mut here) = mpsc::channel::<u32>(0);
            let echo = std::thread::spawn(move || {
                block_on(async {
                    while let Some(number) = there.next().await {
                        back.send(number + 1).await.unwrap();
                    }
                });
            });
            let driver = spawn_on(1, move || {
                block_on(async {
                    for number in 0..2000 {
                        forth.send(number).await.unwrap();
                        assert_eq!(here.next().await, Some(number + 1));
                    }
                });
            });
            driver.join().unwrap();
            echo.join().unwrap();
        });
    }
}

#[test]
fn combined_futures_work() {
    on_capabilities(2, || {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..50).map(|_| oneshot::channel::<usize>()).unzip();
        let driver = spawn_on(1, move || block_on(join_all(receivers)));
        until_blocked(1, waits);
        for (number, sender) in senders.into_iter().enumerate().rev() {
            spawn_on(number, move || sender.send(number).unwrap());
        }
        let numbers: Vec<_> = driver.join().unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());

        let (tx, rx) = oneshot::channel();
        let driver = spawn_on(1, move || {
            block_on(async {
                match select(pin!(pending::<()>()), rx).await {
                    Either::Left(_) => unreachable!("it never comes"),
                    Either::Right((value, _)) => value.unwrap(),
                }
            })
        });
        until_blocked(1, waits);
        tx.send(7).unwrap();
        assert_eq!(driver.join().unwrap(), 7);
    });
}

// Wakes.

#[test]
fn a_storm_of_wakes_from_many_os_threads_loses_none() {
    const STORMERS: usize = 8;
    const WAKES: usize = 5000;
    let storm = |gate: &Arc<Gate>| {
        let left = Arc::new(AtomicUsize::new(STORMERS));
        let threads = (0..STORMERS).map(|_| {
            let (gate, left) = (Arc::clone(gate), Arc::clone(&left));
            std::thread::spawn(move || {
                for _ in 0..WAKES {
                    if let Some(waker) = gate.wakers.lock().unwrap().pop() {
                        waker.wake();
                    }
                }
                // The last one opens, with the wake that must not be lost.
                if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    gate.open();
                }
            })
        });
        threads.collect::<Vec<_>>()
    };
    for capabilities in [1, 2] {
        on_capabilities(capabilities, move || {
            for turn in 0..5 {
                let gate = Arc::new(Gate::default());
                let driver = spawn_on(turn, {
                    let gate = Arc::clone(&gate);
                    move || block_on(gate.passed())
                });
                until_blocked(1, waits);
                let stormers = storm(&gate);
                driver.join().unwrap();
                stormers.into_iter().for_each(|thread| thread.join().unwrap());
                assert!(gate.polls.load(Ordering::Relaxed) > 1);
            }
        });
    }
    deadline(|| {
        let gate = Arc::new(Gate::default());
        let stormers = storm(&gate);
        block_on(gate.passed());
        stormers.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn wakes_before_a_park_cost_one_poll() {
    on_capabilities(1, || {
        let mut polls = 0;
        let driver = bast::spawn(move || {
            block_on(poll_fn(|context| {
                polls += 1;
                (0..100).for_each(|_| context.waker().wake_by_ref());
                if polls == 10 { Poll::Ready(polls) } else { Poll::Pending }
            }))
        });
        assert_eq!(driver.join().unwrap(), 10);
    });
}

#[test]
fn a_wake_after_the_end_disturbs_nobody() {
    on_capabilities(2, || {
        let gate = Arc::new(Gate::default());
        let (tx, rx) = channel::<u8>(0);
        let driver = spawn_on(1, {
            let gate = Arc::clone(&gate);
            move || {
                block_on(gate.passed());
                // The thread waits for something else now, and in the end is another's.
                rx.recv().unwrap()
            }
        });
        until_blocked(1, waits);
        let wakers = gate.wakers();
        gate.open();
        until_blocked(1, |what| what == BlockedOn::Receive);
        let polls = gate.polls.load(Ordering::Relaxed);
        for _ in 0..100 {
            wakers.iter().for_each(Waker::wake_by_ref);
            bast::yield_now();
        }
        until_blocked(1, |what| what == BlockedOn::Receive);
        tx.send(9).unwrap();
        assert_eq!(driver.join().unwrap(), 9);
        wakers.into_iter().for_each(Waker::wake);
        assert_eq!(gate.polls.load(Ordering::Relaxed), polls);
    });
}

#[test]
fn a_future_that_only_wakes_itself_starves_no_neighbour() {
    on_capabilities(1, || {
        let over = Arc::new(AtomicBool::new(false));
        let driver = bast::spawn({
            let over = Arc::clone(&over);
            move || {
                block_on(poll_fn(|context| {
                    context.waker().wake_by_ref();
                    if over.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
                }));
            }
        });
        bast::sleep(Duration::from_millis(1));
        over.store(true, Ordering::Relaxed);
        driver.join().unwrap();
    });
}

// Ends.

#[test]
fn a_kill_drops_the_future() {
    for capabilities in [1, 2] {
        on_capabilities(capabilities, || {
            let drops = Arc::new(AtomicUsize::new(0));
            let gate = Arc::new(Gate::default());
            let driver = spawn_on(1, {
                let (dropped, gate) = (Dropped(Arc::clone(&drops)), Arc::clone(&gate));
                move || {
                    block_on(async move {
                        let _dropped = dropped;
                        gate.passed().await;
                    });
                }
            });
            until_blocked(1, waits);
            driver.thread().kill();
            assert!(driver.join().unwrap_err().is_killed());
            assert_eq!(drops.load(Ordering::Relaxed), 1);
            gate.open();
        });
    }
}

#[test]
fn a_kill_comes_also_to_a_future_that_never_waits() {
    on_capabilities(2, || {
        let polls = Arc::new(AtomicUsize::new(0));
        let driver = spawn_on(1, {
            let polls = Arc::clone(&polls);
            move || {
                block_on(poll_fn(|context| -> Poll<()> {
                    polls.fetch_add(1, Ordering::Relaxed);
                    context.waker().wake_by_ref();
                    Poll::Pending
                }));
            }
        });
        until(|| polls.load(Ordering::Relaxed) > 10);
        driver.thread().kill();
        assert!(driver.join().unwrap_err().is_killed());
    });
}

#[test]
fn a_panic_of_the_future_is_the_threads() {
    on_capabilities(1, || {
        let driver = bast::spawn(|| {
            block_on(async {
                bast::yield_now();
                assert!(!bast::is_green(), "from within");
            });
        });
        let error = driver.join().unwrap_err();
        assert!(error.is_panic() && error.to_string().contains("from within"));
    });
}

#[test]
fn what_a_future_calls_may_block_and_drive_another() {
    on_capabilities(1, || {
        let (inner_tx, inner_rx) = oneshot::channel::<u32>();
        let (outer_tx, outer_rx) = oneshot::channel::<u32>();
        let driver = bast::spawn(move || {
            block_on(async {
                // Blocks within a poll: the outer future's wake comes meanwhile.
                let inner = block_on(inner_rx).unwrap();
                bast::sleep(Duration::from_millis(1));
                inner + outer_rx.await.unwrap()
            })
        });
        until_blocked(1, waits);
        outer_tx.send(30).unwrap();
        inner_tx.send(4).unwrap();
        assert_eq!(driver.join().unwrap(), 34);
    });
}

#[test]
fn where_parking_is_forbidden_a_future_may_be_driven_as_long_as_it_does_not_wait() {
    on_capabilities(1, || {
        assert_eq!(no_park(|| block_on(ready(3))), 3);
        let mut polls = 0;
        let woken = no_park(|| {
            block_on(poll_fn(|context| {
                polls += 1;
                context.waker().wake_by_ref();
                if polls == 3 { Poll::Ready(polls) } else { Poll::Pending }
            }))
        });
        assert_eq!(woken, 3);
        let drops = Arc::new(AtomicUsize::new(0));
        let dropped = Dropped(Arc::clone(&drops));
        let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
            no_park(|| {
                block_on(async move {
                    let _dropped = dropped;
                    pending::<()>().await;
                });
            });
        }));
        let payload = caught.unwrap_err();
        let text = payload.downcast_ref::<&str>().expect("a panic with a text");
        assert!(text.contains("blocking call inside bast::no_park"), "{text}");
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn many_futures_are_driven_at_once() {
    on_capabilities(2, || {
        let gate = Arc::new(Gate::default());
        let drivers: Vec<_> = (0..1000)
            .map(|index| {
                let gate = Arc::clone(&gate);
                spawn_on(index, move || block_on(gate.passed()))
            })
            .collect();
        until_blocked(1000, waits);
        std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.open()
        });
        drivers.into_iter().for_each(|driver| driver.join().unwrap());
    });
}
