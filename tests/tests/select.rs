//! Select: each kind of arm, that one of them wins, that chance is fair, and that a select which is killed or times out
//! leaves every queue as it was.

use bast::net::{TcpListener, TcpStream};
use bast::sync::{MVar, broadcast, channel, oneshot, unbounded};
use bast::{BlockedOn, JoinHandle, Select};
use bast_tests::{connected, deadline, on_capabilities, spawn_on, until};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const CAPABILITIES: [usize; 3] = [1, 2, 8];
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

fn until_blocked(count: usize, what: BlockedOn) {
    bast_tests::until_blocked(count, |reason| reason == what);
}

fn kill<T: std::fmt::Debug>(thread: JoinHandle<T>) {
    thread.thread().kill();
    assert!(thread.join().unwrap_err().is_killed());
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

// Without waiting.

#[test]
fn the_arm_that_is_ready_is_done_and_the_others_have_had_no_effect() {
    let test = || {
        let ((tx, rx), (full, _rx)) = (channel(1), channel(0));
        let (empty, filled) = (MVar::<u32>::empty(), MVar::new(1));
        let (mut item, mut value) = (Some(5), Some(6));
        tx.send(7).unwrap();
        let chosen = Select::new()
            .send(&full, &mut item, |_| 0)
            .take(&empty, |_| 1)
            .recv(&rx, |item| item.unwrap())
            .put(&filled, &mut value, || 2)
            .wait();
        assert_eq!((chosen, item, value), (7, Some(5), Some(6)));
        assert!(rx.is_empty() && empty.is_empty() && !filled.is_empty());
    };
    deadline(test);
    on_capabilities(1, test);
}

#[test]
fn a_try_never_waits() {
    deadline(|| {
        let (tx, rx) = channel(1);
        let mvar = MVar::<u32>::empty();
        let try_now = || Select::new().recv(&rx, |item| item.unwrap()).read(&mvar, |value| value).try_wait();
        assert_eq!(try_now(), None);
        tx.send(1).unwrap();
        assert_eq!((try_now(), try_now()), (Some(1), None));
        mvar.put(2);
        assert_eq!((try_now(), try_now()), (Some(2), Some(2)));
    });
}

#[test]
fn what_is_sent_is_gone_from_its_place_and_what_cannot_be_sent_is_in_the_error() {
    deadline(|| {
        let (tx, rx) = unbounded();
        for n in 0..100 {
            let mut item = Some(n);
            assert!(Select::new().send(&tx, &mut item, |sent| sent.is_ok()).wait());
            assert_eq!(item, None);
        }
        assert!(rx.try_iter().eq(0..100));
        drop(rx);
        let mut item = Some(5);
        assert_eq!(Select::new().send(&tx, &mut item, |sent| sent.unwrap_err().0).wait(), 5);
        assert_eq!(item, None);
    });
}

#[test]
fn an_arm_with_nothing_to_send_is_never_chosen() {
    deadline(|| {
        let ((tx, rx), mvar) = (channel(1), MVar::empty());
        let (mut item, mut value): (Option<u32>, Option<u32>) = (None, None);
        let chosen = Select::new()
            .send(&tx, &mut item, |_| "sent")
            .put(&mvar, &mut value, || "put")
            .wait_timeout(SHORT);
        assert_eq!((chosen, rx.len(), mvar.is_empty()), (None, 0, true));
    });
}

#[test]
fn arms_that_are_ready_are_chosen_by_chance() {
    const TURNS: usize = 3_000;
    on_capabilities(1, || {
        let channels = [unbounded(), unbounded(), unbounded()];
        for (tx, _) in &channels {
            (0..TURNS).for_each(|n| tx.send(n).unwrap());
        }
        let mut chosen = [0; 3];
        for _ in 0..TURNS {
            let select = channels.iter().enumerate();
            let select =
                select.fold(Select::new(), |select, (index, (_, rx))| select.recv(rx, move |_| index));
            chosen[select.wait()] += 1;
        }
        assert!(chosen.iter().all(|count| (800..1_200).contains(count)), "{chosen:?}");
    });
}

// Each kind of arm ends a wait.

#[test]
fn a_waiting_select_is_ended_by_each_kind_of_arm() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            for nth in 0..10 {
                let (rx_tx, rx) = channel::<u32>(0);
                let (tx, tx_rx) = channel::<u32>(0);
                let (one_tx, one) = oneshot::channel::<u32>();
                let (news, mut reader) = broadcast::channel::<u32>(1);
                let take = Arc::new(MVar::empty());
                let read = Arc::new(MVar::empty());
                let put = Arc::new(MVar::new(0));
                let gate = Arc::new(MVar::<()>::empty());
                let mut ends = bast::spawn({
                    let gate = Arc::clone(&gate);
                    move || gate.take()
                });
                let select = spawn_on(nth, {
                    let (take, read, put) = (Arc::clone(&take), Arc::clone(&read), Arc::clone(&put));
                    move || {
                        let (mut item, mut value) = (Some(nth as u32), Some(nth as u32));
                        let select = Select::new()
                            .recv(&rx, |item| ("recv", item.unwrap()))
                            .send(&tx, &mut item, |sent| ("send", u32::from(sent.is_ok())))
                            .oneshot(&one, |item| ("oneshot", item.unwrap()))
                            .broadcast(&mut reader, |item| ("broadcast", item.unwrap()))
                            .take(&take, |value| ("take", value))
                            .read(&read, |value| ("read", value))
                            .put(&put, &mut value, || ("put", 1))
                            .join(&mut ends, || ("join", 1))
                            .after(if nth == 8 { SHORT } else { LONG }, || ("after", 1));
                        let chosen = select.wait();
                        assert_eq!(item.is_none(), chosen.0 == "send");
                        assert_eq!(value.is_none(), chosen.0 == "put");
                        chosen
                    }
                });
                if nth != 8 {
                    until_blocked(1, BlockedOn::Select);
                }
                let n = nth as u32;
                let expected = match nth {
                    0 => {
                        rx_tx.send(n + 1).unwrap();
                        ("recv", n + 1)
                    }
                    1 => {
                        assert_eq!(tx_rx.recv(), Ok(n));
                        ("send", 1)
                    }
                    2 => {
                        one_tx.send(n).unwrap();
                        ("oneshot", n)
                    }
                    3 => {
                        news.send(n).unwrap();
                        ("broadcast", n)
                    }
                    4 => {
                        take.put(n);
                        ("take", n)
                    }
                    5 => {
                        read.put(n);
                        ("read", n)
                    }
                    6 => {
                        assert_eq!(put.take(), 0);
                        ("put", 1)
                    }
                    7 => {
                        gate.put(());
                        ("join", 1)
                    }
                    8 => ("after", 1),
                    _ => {
                        // From an OS thread.
                        thread::spawn(move || rx_tx.send(n).unwrap());
                        ("recv", n)
                    }
                };
                assert_eq!(select.join().unwrap(), expected);
                assert_eq!(take.try_take(), None);
                assert_eq!(read.try_take(), (nth == 5).then_some(n));
                assert_eq!(put.try_take(), (nth != 6).then_some(0).or(Some(n)));
            }
        });
    }
}

#[test]
fn a_select_on_an_os_thread_meets_one_in_a_green_thread() {
    on_capabilities(2, || {
        const ITEMS: u32 = 2_000;
        let ((there, from), (back, home)) = (channel(0), channel(0));
        let never = channel::<u32>(0);
        let os_thread = thread::spawn(move || {
            for _ in 0..ITEMS {
                let item = Select::new().recv(&from, |item| item.unwrap()).recv(&never.1, |_| 0).wait();
                let mut answer = Some(item + 1);
                Select::new().send(&back, &mut answer, |sent| sent.unwrap()).after(LONG, || ()).wait();
            }
        });
        for n in 0..ITEMS {
            let mut item = Some(n);
            Select::new()
                .send(&there, &mut item, |sent| sent.unwrap())
                .recv(&home, |_| unreachable!())
                .wait();
            let answer = Select::new().recv(&home, |item| item.unwrap()).after(LONG, || 0).wait();
            assert_eq!(answer, n + 1);
        }
        os_thread.join().unwrap();
    });
}

#[test]
fn a_select_waits_in_its_turn_among_others() {
    on_capabilities(1, || {
        let ((tx, rx), mvar) = (channel(0), Arc::new(MVar::<u32>::empty()));
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let (rx, mvar) = (rx.clone(), Arc::clone(&mvar));
                let thread = bast::spawn(move || match n {
                    1 => Select::new().take(&mvar, |value| value).recv(&rx, |item| item.unwrap()).wait(),
                    _ => rx.recv().unwrap(),
                });
                until_blocked(usize::from(n > 0), BlockedOn::Select);
                until_blocked(if n == 2 { 2 } else { 1 }, BlockedOn::Receive);
                thread
            })
            .collect();
        (0..3).for_each(|n| tx.send(n).unwrap());
        let received: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(received, [0, 1, 2]);
    });
}

#[test]
fn a_select_does_not_serve_itself() {
    let test = || {
        let (tx, rx) = channel(0);
        let mut item = Some(1);
        let chosen = Select::new()
            .send(&tx, &mut item, |_| "sent")
            .recv(&rx, |_| "received")
            .after(SHORT, || "neither")
            .wait();
        assert_eq!((chosen, item), ("neither", Some(1)));
    };
    deadline(test);
    on_capabilities(1, test);
}

#[test]
fn two_selects_serve_each_other_in_either_direction() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            const ROUNDS: u32 = 500;
            let (tx, rx) = channel(0);
            // Each would send its number, or receive the other's.
            let threads: Vec<_> = (0..2)
                .map(|who| {
                    let (tx, rx) = (tx.clone(), rx.clone());
                    spawn_on(who, move || {
                        let mut sum = [0_u32; 2];
                        for n in 0..ROUNDS {
                            let mut item = Some(n);
                            let (sent, received) = Select::new()
                                .send(&tx, &mut item, |sent| (u32::from(sent.is_ok()), 0))
                                .recv(&rx, |item| (0, u32::from(item == Ok(n))))
                                .wait();
                            sum = [sum[0] + sent, sum[1] + received];
                        }
                        sum
                    })
                })
                .collect();
            let [one, other]: [[u32; 2]; 2] = threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
                .try_into()
                .unwrap();
            assert_eq!((one[0] + one[1], one[0], one[1]), (ROUNDS, other[1], other[0]));
        });
    }
}

// Sockets.

#[test]
fn the_end_of_a_peer_is_told_apart_from_what_it_sends() {
    for count in [1, 2] {
        on_capabilities(count, || {
            let (stream, mut peer) = connected();
            let wait = |stream: &TcpStream| {
                let clone = stream.try_clone().unwrap();
                bast::spawn(move || Select::new().hung_up(&clone, || "gone").after(LONG, || "late").wait())
            };
            let waiting = wait(&stream);
            until_blocked(1, BlockedOn::Select);
            peer.write_all(b"not the end").unwrap();
            assert_eq!(Select::new().readable(&stream, || "readable").wait(), "readable");
            let sent = channel(1);
            sent.0.send(7).unwrap();
            assert_eq!(Select::new().recv(&sent.1, Result::unwrap).wait_while_connected(&stream), Some(7));
            let other = Select::new().hung_up(&stream, || "gone").after(SHORT, || "there").wait();
            assert_eq!((other, waiting.is_finished(), stream.is_hung_up().unwrap()), ("there", false, false));
            drop(peer);
            assert_eq!(waiting.join().unwrap(), "gone");
            let jobs = channel::<u32>(1);
            let while_connected =
                || Select::new().recv(&jobs.1, Result::unwrap).wait_while_connected(&stream);
            assert_eq!(while_connected(), None);
            // It stays so, for one who comes later, with the bytes unread.
            assert_eq!((wait(&stream).join().unwrap(), stream.is_hung_up().unwrap()), ("gone", true));
        });
    }
}

#[test]
fn an_end_from_before_the_first_wait_is_seen() {
    deadline(|| {
        bast::run(|| {
            let (stream, peer) = connected();
            drop(peer);
            assert_eq!(Select::new().hung_up(&stream, || "gone").after(LONG, || "late").wait(), "gone");
            let (stream, _peer) = connected();
            stream.expire();
            assert_eq!(Select::new().hung_up(&stream, || "over").after(LONG, || "late").wait(), "over");
        });
    });
}

#[test]
fn a_socket_becomes_readable_and_writable() {
    for count in [1, 2] {
        on_capabilities(count, || {
            let never = channel::<u32>(0);
            let (mut stream, mut peer) = connected();
            let ready = |stream: &TcpStream| {
                Select::new().readable(stream, || "readable").recv(&never.1, |_| "received").try_wait()
            };
            assert_eq!(ready(&stream), None);
            let clone = stream.try_clone().unwrap();
            let select = bast::spawn(move || {
                Select::new().readable(&clone, || "readable").after(LONG, || "late").wait()
            });
            until_blocked(1, BlockedOn::Select);
            peer.write_all(b"some").unwrap();
            assert_eq!(select.join().unwrap(), "readable");
            assert_eq!(ready(&stream), Some("readable"));
            assert_eq!(Select::new().writable(&stream, || "writable").wait(), "writable");
            // Nothing was read; and when it is, there is nothing more.
            stream.read_exact(&mut [0; 4]).unwrap();
            assert_eq!(ready(&stream), None);

            // Full, until the peer reads.
            let block = [0; 1 << 16];
            while Select::new().writable(&stream, || ()).try_wait().is_some() {
                stream.set_write_timeout(Some(SHORT)).unwrap();
                if stream.write(&block).is_err() {
                    break;
                }
            }
            let clone = stream.try_clone().unwrap();
            let select = bast::spawn(move || {
                Select::new().writable(&clone, || "writable").after(LONG, || "late").wait()
            });
            until_blocked(1, BlockedOn::Select);
            let reader = thread::spawn(move || {
                let mut sink = [0; 1 << 16];
                while peer.read(&mut sink).unwrap() != 0 {}
            });
            assert_eq!(select.join().unwrap(), "writable");
            drop(stream);
            reader.join().unwrap();
        });
    }
}

#[test]
fn a_select_sees_the_end_of_a_stream_and_a_connection_to_accept() {
    on_capabilities(1, || {
        let (stream, peer) = connected();
        let select =
            bast::spawn(move || Select::new().readable(&stream, || true).after(LONG, || false).wait());
        until_blocked(1, BlockedOn::Select);
        drop(peer);
        assert!(select.join().unwrap());

        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let select = bast::spawn({
            let listener = Arc::clone(&listener);
            move || Select::new().readable(&*listener, || true).after(LONG, || false).wait()
        });
        until_blocked(1, BlockedOn::Select);
        let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(select.join().unwrap());
        listener.accept().unwrap();
    });
}

#[test]
fn any_number_of_selects_watch_a_socket_that_another_thread_reads() {
    on_capabilities(2, || {
        let (stream, mut peer) = connected();
        let reader = bast::spawn({
            let mut stream = stream.try_clone().unwrap();
            move || {
                let mut byte = [0];
                stream.read_exact(&mut byte).map(|()| byte[0]).unwrap()
            }
        });
        bast_tests::until_blocked(1, |reason| matches!(reason, BlockedOn::Read(_)));
        let watchers: Vec<_> = (0..4)
            .map(|n| {
                let stream = stream.try_clone().unwrap();
                spawn_on(n, move || Select::new().readable(&stream, || "ready").after(LONG, || "late").wait())
            })
            .collect();
        until_blocked(4, BlockedOn::Select);
        peer.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), b'x');
        // Whoever looked too late waits again, for the next byte.
        peer.write_all(b"y").unwrap();
        assert!(watchers.into_iter().all(|watcher| watcher.join().unwrap() == "ready"));
        // Nobody is left in the queue: a second read and a kill find it in order.
        let killed =
            bast::spawn(move || Select::new().readable(&stream, || ()).writable(&stream, || ()).wait());
        killed.join().unwrap();
    });
}

#[test]
fn a_select_that_was_killed_while_it_watched_a_socket_has_left_it() {
    on_capabilities(1, || {
        let (mut stream, mut peer) = connected();
        for _ in 0..3 {
            let clone = stream.try_clone().unwrap();
            let killed = bast::spawn(move || Select::new().readable(&clone, || ()).wait());
            until_blocked(1, BlockedOn::Select);
            kill(killed);
        }
        peer.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    });
}

// Kills and limits.

#[test]
fn a_select_that_is_killed_or_times_out_leaves_every_queue() {
    for count in CAPABILITIES {
        on_capabilities(count, || {
            let ((to_it, rx), (tx, from_it)) = (channel::<u32>(0), channel::<u32>(0));
            let (take, put) = (Arc::new(MVar::<u32>::empty()), Arc::new(MVar::new(0)));
            let (news, reader) = broadcast::channel::<u32>(1);
            let start = |limit| {
                let (rx, tx, take, put) = (rx.clone(), tx.clone(), Arc::clone(&take), Arc::clone(&put));
                let mut reader = reader.clone();
                spawn_on(1, move || {
                    let (mut item, mut value) = (Some(1), Some(1));
                    Select::new()
                        .recv(&rx, |_| ())
                        .send(&tx, &mut item, |_| ())
                        .take(&take, |_| ())
                        .read(&take, |_| ())
                        .put(&put, &mut value, || ())
                        .broadcast(&mut reader, |_| ())
                        .wait_timeout(limit)
                })
            };
            for _ in 0..20 {
                let killed = start(LONG);
                until_blocked(1, BlockedOn::Select);
                kill(killed);
                assert_eq!(start(SHORT).join().unwrap(), None);
            }
            assert!(to_it.try_send(1).is_err() && from_it.try_recv().is_err());
            assert_eq!((take.try_put(5), take.try_take()), (Ok(()), Some(5)));
            assert_eq!((put.try_take(), put.try_take()), (Some(0), None));
            assert_eq!(news.send(1).unwrap(), 1);
        });
    }
}

#[test]
fn a_select_that_was_served_returns_although_its_thread_is_killed() {
    on_capabilities(1, || {
        let ((tx, rx), mvar) = (channel(0), Arc::new(MVar::<u32>::empty()));
        let received = Arc::new(AtomicU32::new(0));
        let select = bast::spawn({
            let received = Arc::clone(&received);
            move || {
                let item = Select::new().take(&mvar, |value| value).recv(&rx, |item| item.unwrap()).wait();
                received.store(item, Ordering::Relaxed);
                bast::sleep(LONG);
            }
        });
        until_blocked(1, BlockedOn::Select);
        tx.send(7).unwrap();
        kill(select);
        assert_eq!(received.load(Ordering::Relaxed), 7);
    });
}

#[test]
fn a_value_that_is_read_stays_although_the_closure_panics() {
    on_capabilities(1, || {
        let mvar = Arc::new(MVar::new(String::from("value")));
        let panics = bast::spawn({
            let mvar = Arc::clone(&mvar);
            move || Select::new().read(&mvar, |value| assert_eq!(value, "")).wait()
        });
        assert!(panics.join().unwrap_err().is_panic());
        assert_eq!(mvar.try_take().as_deref(), Some("value"));
    });
}

#[test]
fn a_thread_cannot_select_its_own_end() {
    on_capabilities(1, || {
        let (tx, rx) = channel::<JoinHandle<()>>(1);
        let (report, reported) = channel(1);
        let thread = bast::spawn(move || {
            let mut own = rx.recv().unwrap();
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                Select::new().join(&mut own, || ()).wait();
            }));
            report.send(result.is_err()).unwrap();
        });
        tx.send(thread).unwrap();
        assert_eq!(reported.recv(), Ok(true));
    });
}

#[test]
fn the_handle_of_a_thread_that_was_not_chosen_can_be_joined() {
    on_capabilities(2, || {
        let gate = Arc::new(MVar::<u32>::empty());
        let mut thread = spawn_on(1, {
            let gate = Arc::clone(&gate);
            move || gate.take()
        });
        for _ in 0..20 {
            assert_eq!(Select::new().join(&mut thread, || ()).wait_timeout(Duration::from_micros(100)), None);
        }
        gate.put(3);
        until(|| thread.is_finished());
        assert_eq!(Select::new().join(&mut thread, || ()).try_wait(), Some(()));
        assert_eq!(thread.join().unwrap(), 3);
    });
}

#[test]
fn selects_over_two_channels_in_opposite_order_lose_nothing_under_random_kills() {
    const RUNS: u64 = 100;
    for count in [1, 2, 4] {
        on_capabilities(count, move || {
            for run in 0..RUNS / 4 {
                crossed_selects(run * 7919 + 1, 0);
                crossed_selects(run * 104_729 + 1, 2);
            }
        });
    }
}

/// Threads send numbers to either of two channels and receive from either, half of them with the arms in the other order,
/// while random ones are killed and replaced. What was sent is what was received.
fn crossed_selects(seed: u64, capacity: usize) {
    const THREADS: usize = 6;
    const KILLS: usize = 12;
    type Log = std::sync::Mutex<Vec<u32>>;
    let mut random = Random(seed);
    let channels = [channel::<u32>(capacity), channel::<u32>(capacity)];
    let next = Arc::new(AtomicU32::new(0));
    // What was sent and received. std's mutexes, which are no interruptible points; no thread parks in them.
    let logs: Arc<[Log; 2]> = Arc::default();
    let start = |role: usize, place: u64| {
        let [(tx_a, rx_a), (tx_b, rx_b)] = channels.clone();
        let (next, logs) = (Arc::clone(&next), Arc::clone(&logs));
        let log = move |which: usize, n: u32| logs[which].lock().unwrap().push(n);
        let crossed = role & 2 != 0;
        let (tx_a, tx_b) = if crossed { (tx_b, tx_a) } else { (tx_a, tx_b) };
        let (rx_a, rx_b) = if crossed { (rx_b, rx_a) } else { (rx_a, rx_b) };
        spawn_on(place as usize, move || {
            if role & 1 == 0 {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let (mut one, mut other) = (Some(n), Some(n));
                    Select::new().send(&tx_a, &mut one, |_| ()).send(&tx_b, &mut other, |_| ()).wait();
                    assert!(one.is_none() != other.is_none(), "one arm sends");
                    log(0, n);
                }
            }
            loop {
                let n =
                    Select::new().recv(&rx_a, |item| item.unwrap()).recv(&rx_b, |item| item.unwrap()).wait();
                log(1, n);
            }
        })
    };
    let mut threads: Vec<JoinHandle<()>> = (0..THREADS).map(|n| start(n, random.below(8))).collect();
    for _ in 0..KILLS {
        let (victim, place) = (random.below(THREADS as u64) as usize, random.below(8));
        let replacement = start(victim, place);
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
    let (sent, mut received) = (sorted(0), sorted(1));
    received.extend(channels.iter().flat_map(|(_, rx)| rx.try_iter()));
    received.sort_unstable();
    assert_eq!(sent, received, "seed {seed}");
    assert!(!sent.is_empty());
}
