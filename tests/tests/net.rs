//! TCP: what is concluded from a read, who may use a socket when, and how waits end.

use bast::BlockedOn;
use bast::net::{TcpListener, TcpStream};
use bast_tests::ends::{a_wait_ends_in_each_way, an_accept_ends_in_each_way};
use bast_tests::{
    child, connected, deadline, on_capabilities, spawn_on, sys, until, until_blocked, until_blocked_in,
};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);

fn reads(what: BlockedOn) -> bool {
    matches!(what, BlockedOn::Read(_))
}

fn queues(what: BlockedOn) -> bool {
    matches!(what, BlockedOn::Direction(_))
}

#[test]
fn an_echo_comes_back() {
    on_capabilities(2, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = bast::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 64];
            loop {
                let count = stream.read(&mut buffer).unwrap();
                if count == 0 {
                    return;
                }
                stream.write_all(&buffer[..count]).unwrap();
            }
        });
        let mut client = TcpStream::connect(address).unwrap();
        for _ in 0..1000 {
            client.write_all(b"hello").unwrap();
            let mut buffer = [0; 5];
            client.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"hello");
        }
        drop(client);
        server.join().unwrap();
    });
}

// Drained: a short read may conclude that there is no more, except in these cases. In each the peer does all it does
// while the reader is parked, before one poll: there is no further event that would correct a wrong conclusion.

/// Runs `peer` while `reader` is parked in its first read, without letting the io manager look meanwhile.
fn before_one_poll<T: Send + 'static>(
    peer: impl FnOnce(std::net::TcpStream) + Send + 'static,
    reader: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> T {
    on_capabilities(1, move || {
        let (stream, other) = connected();
        let reader = bast::spawn(move || reader(stream));
        until_blocked(1, reads);
        peer(other);
        reader.join().unwrap()
    })
}

#[test]
fn an_end_that_came_with_the_data_is_read() {
    before_one_poll(
        |mut peer| {
            peer.write_all(b"hello").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            // The connection stays open in the other direction.
            std::mem::forget(peer);
        },
        |mut stream| {
            let mut buffer = [0; 64];
            assert_eq!(stream.read(&mut buffer).unwrap(), 5);
            for _ in 0..3 {
                assert_eq!(stream.read(&mut buffer).unwrap(), 0);
            }
        },
    );
}

#[test]
fn a_reset_that_came_with_the_data_is_an_error() {
    before_one_poll(
        |mut peer| {
            peer.write_all(b"hello").unwrap();
            sys::reset_on_close(&peer);
        },
        |mut stream| {
            let mut buffer = [0; 64];
            // Linux gives the data first; a kernel that throws it away would be right, too.
            match stream.read(&mut buffer) {
                Ok(count) => {
                    assert_eq!(count, 5);
                    assert_eq!(stream.read(&mut buffer).unwrap_err().kind(), ErrorKind::ConnectionReset);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        },
    );
}

#[test]
fn data_behind_an_urgent_mark_is_read_although_the_read_before_it_was_short() {
    // A read stops at the mark (tcp(7)): short, with more to come.
    let read = before_one_poll(
        |mut peer| {
            peer.write_all(b"before").unwrap();
            sys::send_urgent(&peer, b'!');
            peer.write_all(b"behind").unwrap();
            std::mem::forget(peer);
        },
        |mut stream| {
            let mut read = Vec::new();
            while read.len() < 12 {
                let mut buffer = [0; 64];
                let count = stream.read(&mut buffer).unwrap();
                read.extend_from_slice(&buffer[..count]);
            }
            read
        },
    );
    assert_eq!(read, b"beforebehind");
}

#[test]
fn a_peek_concludes_nothing() {
    before_one_poll(
        |mut peer| {
            peer.write_all(b"hello").unwrap();
            std::mem::forget(peer);
        },
        |mut stream| {
            let mut buffer = [0; 64];
            for _ in 0..3 {
                assert_eq!(stream.peek(&mut buffer).unwrap(), 5);
            }
            stream.wait_readable().unwrap();
            assert_eq!(stream.read(&mut buffer).unwrap(), 5);
        },
    );
}

#[test]
fn a_read_that_fills_its_buffer_concludes_nothing() {
    before_one_poll(
        |mut peer| {
            peer.write_all(b"twelve bytes").unwrap();
            std::mem::forget(peer);
        },
        |mut stream| {
            let mut buffer = [0; 4];
            for expected in [b"twel", b"ve b", b"ytes"] {
                assert_eq!(stream.read(&mut buffer).unwrap(), 4);
                assert_eq!(&buffer, expected);
            }
        },
    );
    before_one_poll(
        |mut peer| {
            peer.write_all(b"twelve bytes").unwrap();
            std::mem::forget(peer);
        },
        |mut stream| {
            let (mut first, mut second) = ([0; 2], [0; 4]);
            for _ in 0..2 {
                let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
                assert_eq!(stream.read_vectored(&mut buffers).unwrap(), 6);
            }
        },
    );
}

#[test]
fn a_short_read_parks_the_next_one_until_more_comes() {
    for count in [1, 2] {
        on_capabilities(count, || {
            let (mut stream, mut peer) = connected();
            let reader = spawn_on(1, move || {
                let mut buffer = [0; 64];
                let mut total = 0;
                while total < 5000 {
                    total += stream.read(&mut buffer).unwrap();
                }
                total
            });
            for turn in 0..1000 {
                peer.write_all(b"hello").unwrap();
                if turn % 3 == 0 && turn < 999 {
                    until_blocked(1, reads);
                } else {
                    bast::yield_now();
                }
            }
            assert_eq!(reader.join().unwrap(), 5000);
        });
    }
}

#[test]
fn a_stream_may_be_read_on_one_capability_after_another() {
    // Each registers it with its own io manager, and readiness belongs to the stream.
    on_capabilities(2, || {
        let (stream, mut peer) = connected();
        let stream = Arc::new(stream);
        for turn in 0..100 {
            let reader = spawn_on(turn, {
                let stream = Arc::clone(&stream);
                move || {
                    let mut buffer = [0; 64];
                    (&*stream).read(&mut buffer).unwrap()
                }
            });
            if turn % 2 == 0 {
                until_blocked(1, reads);
            }
            peer.write_all(b"hello").unwrap();
            assert_eq!(reader.join().unwrap(), 5);
        }
    });
}

#[test]
fn a_descriptor_number_that_is_used_again_is_registered_again() {
    // The file outlives the stream's descriptor, and with it epoll's entry under that number. dup(2) gives the lowest
    // free number: that of the stream, since this process does nothing else.
    child::succeeds(|| {
        on_capabilities(1, || {
            let (mut stream, mut peer) = connected();
            for _ in 0..3 {
                let number = stream.as_raw_fd();
                let reader = bast::spawn(move || {
                    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
                    stream
                });
                until_blocked(1, reads);
                peer.write_all(b"x").unwrap();
                let read = reader.join().unwrap();
                let kept = sys::duplicate(&read);
                drop(read);
                stream = TcpStream::try_from(std::net::TcpStream::from(sys::duplicate(&kept))).unwrap();
                assert_eq!(stream.as_raw_fd(), number);
            }
        });
    });
}

// The direction lock.

/// Reads one byte and adds it to `order`.
fn reader(stream: &Arc<TcpStream>, order: &Arc<Mutex<Vec<u8>>>) -> bast::JoinHandle<std::io::Result<()>> {
    let (stream, order) = (Arc::clone(stream), Arc::clone(order));
    bast::spawn(move || {
        let mut byte = [0];
        (&*stream).read_exact(&mut byte)?;
        order.lock().unwrap().push(byte[0]);
        Ok(())
    })
}

#[test]
fn readers_of_a_stream_are_served_in_the_order_in_which_they_came() {
    on_capabilities(1, || {
        let (stream, mut peer) = connected();
        let stream = Arc::new(stream);
        let served = Arc::new(Mutex::new(Vec::new()));
        let readers: Vec<_> = (0..5)
            .map(|number| {
                let (stream, served) = (Arc::clone(&stream), Arc::clone(&served));
                let reader = bast::spawn(move || {
                    let mut byte = [0];
                    (&*stream).read_exact(&mut byte).unwrap();
                    served.lock().unwrap().push((number, byte[0]));
                });
                until_blocked(1, reads);
                until_blocked(number as usize, queues);
                reader
            })
            .collect();
        peer.write_all(&[0, 1, 2, 3, 4]).unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(*served.lock().unwrap(), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]);
    });
}

#[test]
fn a_queued_reader_that_is_killed_is_passed_over() {
    for count in [1, 2] {
        on_capabilities(count, || {
            let (stream, mut peer) = connected();
            let (stream, order) = (Arc::new(stream), Arc::default());
            let first = reader(&stream, &order);
            until_blocked(1, reads);
            let second = reader(&stream, &order);
            until_blocked(1, queues);
            let third = reader(&stream, &order);
            until_blocked(2, queues);
            second.thread().kill();
            peer.write_all(b"ab").unwrap();
            assert!(second.join().unwrap_err().is_killed());
            first.join().unwrap().unwrap();
            third.join().unwrap().unwrap();
            // Two cores may note what they read in either order.
            order.lock().unwrap().sort_unstable();
            assert_eq!(*order.lock().unwrap(), b"ab");
        });
    }
}

#[test]
fn a_reader_that_is_killed_hands_the_direction_to_the_next() {
    on_capabilities(2, || {
        let (stream, mut peer) = connected();
        let (stream, order) = (Arc::new(stream), Arc::default());
        let first = reader(&stream, &order);
        until_blocked(1, reads);
        let second = reader(&stream, &order);
        until_blocked(1, queues);
        first.thread().kill();
        assert!(first.join().unwrap_err().is_killed());
        until_blocked(1, reads);
        peer.write_all(b"a").unwrap();
        second.join().unwrap().unwrap();
    });
}

#[test]
fn a_queued_reader_whose_time_is_over_leaves() {
    on_capabilities(1, || {
        let (stream, mut peer) = connected();
        let (stream, order) = (Arc::new(stream), Arc::default());
        let first = reader(&stream, &order);
        until_blocked(1, reads);
        stream.set_read_timeout(Some(SHORT)).unwrap();
        let second = reader(&stream, &order);
        until_blocked(1, queues);
        stream.set_read_timeout(None).unwrap();
        let third = reader(&stream, &order);
        assert_eq!(second.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        peer.write_all(b"ab").unwrap();
        first.join().unwrap().unwrap();
        third.join().unwrap().unwrap();
        assert_eq!(*order.lock().unwrap(), b"ab");
    });
}

#[test]
fn reads_and_writes_do_not_wait_for_each_other() {
    on_capabilities(1, || {
        let (stream, mut peer) = connected();
        let (mut read_half, mut write_half) = stream.into_split();
        let reader = bast::spawn(move || {
            let mut buffer = [0; 5];
            read_half.read_exact(&mut buffer).unwrap();
            buffer
        });
        until_blocked(1, reads);
        write_half.write_all(b"there").unwrap();
        let mut buffer = [0; 5];
        peer.read_exact(&mut buffer).unwrap();
        peer.write_all(&buffer).unwrap();
        assert_eq!(&reader.join().unwrap(), b"there");
        drop(write_half);
        assert_eq!(peer.read(&mut buffer).unwrap(), 0, "the peer reads the end");
    });
}

#[test]
fn a_reader_that_unwinds_does_not_queue_behind_another() {
    struct ReadOnDrop(Arc<TcpStream>, Arc<Mutex<Option<ErrorKind>>>);
    impl Drop for ReadOnDrop {
        fn drop(&mut self) {
            let error = (&*self.0).read(&mut [0; 8]).unwrap_err();
            *self.1.lock().unwrap() = Some(error.kind());
        }
    }
    on_capabilities(1, || {
        let (stream, _peer) = connected();
        let (stream, seen) = (Arc::new(stream), Arc::default());
        let _first = reader(&stream, &Arc::default());
        until_blocked(1, reads);
        let second = bast::spawn({
            let read = ReadOnDrop(Arc::clone(&stream), Arc::clone(&seen));
            move || {
                let _read = read;
                bast::sleep(Duration::from_secs(3600));
            }
        });
        until_blocked(1, |what| what == BlockedOn::Timer);
        second.thread().kill();
        assert!(second.join().unwrap_err().is_killed());
        assert_eq!(*seen.lock().unwrap(), Some(ErrorKind::WouldBlock));
    });
}

// Ends that come from this side.

#[test]
fn closing_a_listener_wakes_all_who_accept_and_the_descriptor_lives_until_the_last_is_gone() {
    on_capabilities(2, || {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let may_go = Arc::new(AtomicBool::new(false));
        let accepters: Vec<_> = (0..4)
            .map(|index| {
                let (listener, may_go) = (Arc::clone(&listener), Arc::clone(&may_go));
                spawn_on(index, move || {
                    let kind = listener.accept().unwrap_err().kind();
                    until(|| may_go.load(Ordering::Relaxed));
                    assert!(listener.local_addr().is_ok());
                    kind
                })
            })
            .collect();
        until_blocked(1, |what| matches!(what, BlockedOn::Accept(_)));
        until_blocked(3, queues);
        listener.close();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::NotConnected);
        drop(listener);
        // The kernel still completes connections: nobody has closed the descriptor.
        std::net::TcpStream::connect(address).unwrap();
        may_go.store(true, Ordering::Relaxed);
        for accepter in accepters {
            assert_eq!(accepter.join().unwrap(), ErrorKind::NotConnected);
        }
        let refused = std::net::TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn an_expiry_from_elsewhere_wakes_the_reader() {
    deadline(|| {
        let runtime = bast::Runtime::builder().capabilities(2).build().unwrap();
        for from_os_thread in [false, true] {
            let (stream, _peer) = connected();
            let stream = Arc::new(stream);
            let reader = runtime.handle().spawn({
                let stream = Arc::clone(&stream);
                move || (&*stream).read(&mut [0; 8]).unwrap_err().kind()
            });
            until_blocked_in(&runtime.handle(), 1, reads, std::thread::yield_now);
            if from_os_thread {
                stream.expire();
            } else {
                let other = Arc::clone(&stream);
                runtime.run(move || {
                    for index in 0..2 {
                        let other = Arc::clone(&other);
                        spawn_on(index, move || other.expire()).join().unwrap();
                    }
                });
            }
            assert_eq!(reader.join().unwrap(), ErrorKind::TimedOut);
        }
    });
}

#[test]
fn bytes_that_came_before_an_expiry_are_read() {
    on_capabilities(1, || {
        let (stream, mut peer) = connected();
        let stream = Arc::new(stream);
        let reader = bast::spawn({
            let stream = Arc::clone(&stream);
            move || {
                let mut buffer = [0; 8];
                let count = (&*stream).read(&mut buffer).unwrap();
                (count, (&*stream).read(&mut buffer).unwrap_err().kind())
            }
        });
        until_blocked(1, reads);
        // Not polled before the expiry: the reader's last look finds them.
        peer.write_all(b"last").unwrap();
        stream.expire();
        assert_eq!(reader.join().unwrap(), (4, ErrorKind::TimedOut));

        stream.unexpire();
        let reader = bast::spawn({
            let stream = Arc::clone(&stream);
            move || (&*stream).read(&mut [0; 8])
        });
        until_blocked(1, reads);
        peer.write_all(b"more").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 4);
    });
}

#[test]
fn each_wait_on_a_stream_and_each_accept_ends_in_each_way() {
    for read in [
        |stream: &TcpStream| (&*stream).read(&mut [0; 8]).map(drop),
        |stream: &TcpStream| (&*stream).read_vectored(&mut [IoSliceMut::new(&mut [0; 8])]).map(drop),
        |stream: &TcpStream| stream.peek(&mut [0; 8]).map(drop),
    ] {
        a_wait_ends_in_each_way(connected, read, reads);
    }
    for write in [
        |mut stream: &TcpStream| loop {
            assert!(stream.write(&[0; 1 << 16])? > 0);
        },
        |mut stream: &TcpStream| loop {
            assert!(stream.write_vectored(&[IoSlice::new(&[0; 1 << 16])])? > 0);
        },
        |stream: &TcpStream| loop {
            assert!(stream.send_more(&[0; 1 << 16])? > 0);
        },
    ] {
        a_wait_ends_in_each_way(connected, write, |what| matches!(what, BlockedOn::Write(_)));
    }
    an_accept_ends_in_each_way(
        || TcpListener::bind("127.0.0.1:0").unwrap(),
        |listener| listener.accept().map(drop),
    );
}

#[test]
fn shutting_the_reading_direction_down_ends_a_read() {
    on_capabilities(1, || {
        let (stream, _peer) = connected();
        let stream = Arc::new(stream);
        let reader = bast::spawn({
            let stream = Arc::clone(&stream);
            move || (&*stream).read(&mut [0; 8])
        });
        until_blocked(1, reads);
        stream.shutdown(Shutdown::Read).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 0);
    });
}

// Timeouts.

#[test]
fn a_read_ends_at_its_timeout_and_the_stream_goes_on() {
    on_capabilities(1, || {
        let (mut stream, mut peer) = connected();
        stream.set_read_timeout(Some(SHORT)).unwrap();
        let start = Instant::now();
        assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= SHORT);
        peer.write_all(b"late").unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 4);
        assert_eq!(stream.wait_readable().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_write_into_a_full_socket_ends_at_its_timeout() {
    on_capabilities(1, || {
        let (mut stream, mut peer) = connected();
        stream.set_write_timeout(Some(SHORT)).unwrap();
        let bytes = vec![7; 1 << 20];
        let mut sent = 0;
        let error = loop {
            match stream.write(&bytes) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        // Nothing of what was reported as sent is lost, and with room again there is no timeout.
        let mut received = vec![0; sent];
        peer.read_exact(&mut received).unwrap();
        assert!(received.iter().all(|&byte| byte == 7));
        assert!(stream.write(&bytes).unwrap() > 0);
    });
}

#[test]
fn a_connection_that_nobody_takes_ends_at_its_timeout() {
    on_capabilities(1, || {
        let (listener, _connections) = full_listener();
        let start = Instant::now();
        let error = TcpStream::connect_timeout(&listener.local_addr().unwrap(), SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= SHORT);
    });
}

/// A listener to which a further connection is not made: as many as it may have wait to be accepted.
fn full_listener() -> (std::net::TcpListener, Vec<TcpStream>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    sys::set_backlog(&listener, 0);
    let address = listener.local_addr().unwrap();
    let connections = std::iter::from_fn(|| TcpStream::connect_timeout(&address, 10 * SHORT).ok()).collect();
    (listener, connections)
}

#[test]
fn an_early_deadline_after_a_late_one_fires() {
    on_capabilities(1, || {
        let (mut stream, mut peer) = connected();
        stream.set_read_timeout(Some(Duration::from_secs(3600))).unwrap();
        let reader = bast::spawn(move || {
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
            stream.set_read_timeout(Some(SHORT)).unwrap();
            stream.read(&mut [0; 8]).unwrap_err().kind()
        });
        until_blocked(1, reads);
        peer.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), ErrorKind::TimedOut);
    });
}

// Kills.

#[test]
fn a_thread_dies_in_each_kind_of_wait_on_a_socket() {
    for count in [1, 2] {
        on_capabilities(count, || {
            let (stream, _peer) = connected();
            let stream = Arc::new(stream);
            let read = bast::spawn({
                let stream = Arc::clone(&stream);
                move || drop((&*stream).read(&mut [0; 8]))
            });
            until_blocked(1, reads);
            let queue = bast::spawn({
                let stream = Arc::clone(&stream);
                move || drop((&*stream).read(&mut [0; 8]))
            });
            until_blocked(1, queues);
            let write = bast::spawn({
                let stream = Arc::clone(&stream);
                move || while (&*stream).write(&[0; 1 << 16]).is_ok() {}
            });
            until_blocked(1, |what| matches!(what, BlockedOn::Write(_)));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let accept = bast::spawn(move || drop(listener.accept()));
            until_blocked(1, |what| matches!(what, BlockedOn::Accept(_)));
            let (full, _connections) = full_listener();
            let address = full.local_addr().unwrap();
            let connect = bast::spawn(move || drop(TcpStream::connect(address)));
            until_blocked(1, |what| matches!(what, BlockedOn::Connect(_)));
            for thread in [queue, read, write, accept, connect] {
                thread.thread().kill();
                assert!(thread.join().unwrap_err().is_killed());
            }
        });
    }
}

#[test]
fn a_killed_thread_dies_in_io_that_never_has_to_wait() {
    on_capabilities(2, || {
        let (mut stream, _peer) = connected();
        let busy = Arc::new(AtomicBool::new(false));
        let writer = spawn_on(1, {
            let busy = Arc::clone(&busy);
            move || {
                loop {
                    // Of no bytes: it always succeeds.
                    assert_eq!(stream.write(&[]).unwrap(), 0);
                    busy.store(true, Ordering::Relaxed);
                }
            }
        });
        until(|| busy.load(Ordering::Relaxed));
        writer.thread().kill();
        assert!(writer.join().unwrap_err().is_killed());
    });
}

#[test]
fn a_kill_comes_before_the_effect_of_an_operation() {
    on_capabilities(1, || {
        let (mut stream, mut peer) = connected();
        let writer = bast::spawn(move || {
            bast::current().kill();
            // The home reads the message when it gets the core back; the kill is swallowed, and stays.
            while catch_kill(bast::yield_now) {}
            let written = catch_kill(|| stream.write_all(b"x").unwrap());
            (written, stream)
        });
        let (written, stream) = writer.join().unwrap();
        assert!(!written);
        drop(stream);
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "nothing was written");
    });
}

/// Whether `f` returns instead of being killed.
fn catch_kill(f: impl FnOnce()) -> bool {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(()) => true,
        Err(payload) => {
            assert!(bast::is_kill(&*payload));
            false
        }
    }
}

#[test]
fn a_read_that_completed_returns_although_the_thread_is_killed() {
    on_capabilities(1, || {
        let (mut stream, mut peer) = connected();
        let read = Arc::new(Mutex::new(0));
        let reader = bast::spawn({
            let read = Arc::clone(&read);
            move || {
                let mut buffer = [0; 8];
                loop {
                    *read.lock().unwrap() += stream.read(&mut buffer).unwrap();
                }
            }
        });
        until_blocked(1, reads);
        peer.write_all(b"hello").unwrap();
        until(|| *read.lock().unwrap() == 5);
        reader.thread().kill();
        assert!(reader.join().unwrap_err().is_killed());
        assert_eq!(*read.lock().unwrap(), 5);
    });
}

// Under load.

#[test]
fn hogs_that_only_yield_starve_no_reader() {
    for yields in [bast::yield_now as fn(), bast::yield_point] {
        on_capabilities(1, move || {
            let over = Arc::new(AtomicBool::new(false));
            let hogs: Vec<_> = (0..4)
                .map(|_| {
                    let over = Arc::clone(&over);
                    bast::spawn(move || {
                        while !over.load(Ordering::Relaxed) {
                            yields();
                        }
                    })
                })
                .collect();
            let (mut stream, mut peer) = connected();
            let reader = bast::spawn(move || {
                for _ in 0..5 {
                    assert_eq!(stream.read(&mut [0]).unwrap(), 1);
                    bast::sleep(Duration::from_millis(1));
                }
            });
            for _ in 0..5 {
                peer.write_all(b"x").unwrap();
                bast::sleep(Duration::from_millis(2));
            }
            reader.join().unwrap();
            over.store(true, Ordering::Relaxed);
            hogs.into_iter().for_each(|hog| hog.join().unwrap());
        });
    }
}

// From OS threads.

#[test]
fn plain_os_threads_use_the_same_sockets() {
    deadline(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        });
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        stream.set_read_timeout(None).unwrap();
        stream.write_all(b"hello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "HELLO");
        server.join().unwrap();
    });
}

// What the kernel holds.

#[test]
fn a_stream_knows_what_is_unread_and_what_its_peer_has_not_acknowledged() {
    on_capabilities(1, || {
        let (mut stream, mut peer) = connected();
        assert_eq!((stream.unread_bytes().unwrap(), stream.unacknowledged_bytes().unwrap()), (0, 0));
        peer.write_all(b"hello").unwrap();
        until(|| stream.unread_bytes().unwrap() == 5);
        stream.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(stream.unread_bytes().unwrap(), 3);

        stream.write_all(b"hello").unwrap();
        until(|| stream.unacknowledged_bytes().unwrap() == 0);
        // The peer reads nothing: what is beyond its window stays here, although it was written.
        let mut written = 0;
        stream.set_write_timeout(Some(SHORT)).unwrap();
        while let Ok(count) = stream.write(&[b'x'; 64 << 10]) {
            written += count;
        }
        let unacknowledged = stream.unacknowledged_bytes().unwrap();
        assert!(0 < unacknowledged && unacknowledged <= written, "{unacknowledged} of {written}");
        let mut received = 0;
        while received < written + 5 {
            received += peer.read(&mut [0; 64 << 10]).unwrap();
        }
        until(|| stream.unacknowledged_bytes().unwrap() == 0);
    });
}

#[test]
fn an_accept_that_does_not_wait_takes_who_is_there_and_nobody_else() {
    on_capabilities(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listener.try_accept().unwrap().is_none());
        let first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_, peer) = listener.try_accept().unwrap().expect("somebody waits");
        assert_eq!(peer, first.local_addr().unwrap());
        assert!(listener.try_accept().unwrap().is_none());
        // One that waits is told of the next by an event, as ever.
        let address = listener.local_addr().unwrap();
        let waiting = bast::spawn(move || listener.accept().map(drop));
        until_blocked(1, |what| matches!(what, BlockedOn::Accept(_)));
        let _second = TcpStream::connect(address).unwrap();
        waiting.join().unwrap().unwrap();
    });
}
