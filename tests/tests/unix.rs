//! Unix sockets: streams, datagrams, names, descriptors in messages, and how waits on them end.

use bast::BlockedOn;
use bast::net::{UnixDatagram, UnixListener, UnixStream};
use bast_tests::ends::{a_wait_ends_in_each_way, an_accept_ends_in_each_way};
use bast_tests::{child, deadline, on_capabilities, spawn_on, sys, until_blocked};
use std::fs::File;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

fn reads(what: BlockedOn) -> bool {
    matches!(what, BlockedOn::Read(_))
}

fn writes(what: BlockedOn) -> bool {
    matches!(what, BlockedOn::Write(_))
}

/// An abstract name that no other test has.
fn abstract_name() -> SocketAddr {
    static NAMES: AtomicUsize = AtomicUsize::new(0);
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from_abstract_name(format!("bast test {} {number}", std::process::id())).unwrap()
}

/// A path where nothing is; what comes there is removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let place = Place(std::env::temp_dir().join(format!("bast-{name}-{}", std::process::id())));
        let _ = std::fs::remove_file(&place.0);
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A listener to which a further connection is not made: as many as it may have wait to be accepted.
fn full_listener() -> (UnixListener, SocketAddr, Vec<std::os::unix::net::UnixStream>) {
    let address = abstract_name();
    let listener = UnixListener::bind_addr(&address).unwrap();
    sys::set_backlog(&listener, 0);
    // One is let in with a backlog of 0; that it is full then is asserted by whoever waits for room.
    let first = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    (listener, address, vec![first])
}

/// A datagram socket that is bound, with its address, and one that is not connected to it.
fn unconnected() -> (UnixDatagram, UnixDatagram, SocketAddr) {
    let address = abstract_name();
    (UnixDatagram::unbound().unwrap(), UnixDatagram::bind_addr(&address).unwrap(), address)
}

fn null() -> File {
    File::open("/dev/null").unwrap()
}

#[test]
fn an_echo_comes_back_over_a_path_and_over_an_abstract_name() {
    let place = Place::new("echo");
    for address in [SocketAddr::from_pathname(&place.0).unwrap(), abstract_name()] {
        on_capabilities(2, move || {
            let listener = UnixListener::bind_addr(&address).unwrap();
            let server = spawn_on(1, move || {
                let (mut stream, peer) = listener.accept().unwrap();
                assert!(peer.is_unnamed());
                let mut buffer = [0; 64];
                loop {
                    match stream.read(&mut buffer).unwrap() {
                        0 => return,
                        count => stream.write_all(&buffer[..count]).unwrap(),
                    }
                }
            });
            let mut client = UnixStream::connect_addr(&address).unwrap();
            let peer = client.peer_addr().unwrap();
            assert_eq!(peer.as_pathname(), address.as_pathname());
            assert_eq!(peer.as_abstract_name(), address.as_abstract_name());
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
}

#[test]
fn the_faces_of_std_work_with_paths() {
    on_capabilities(1, || {
        let (stream_place, one, other) = (Place::new("stream"), Place::new("one"), Place::new("other"));
        let listener = UnixListener::bind(&stream_place.0).unwrap();
        assert_eq!(UnixListener::bind(&stream_place.0).unwrap_err().kind(), ErrorKind::AddrInUse);
        let client = UnixStream::connect(&stream_place.0).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(server.local_addr().unwrap().as_pathname(), Some(&*stream_place.0));
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!((&server).read(&mut [0; 8]).unwrap(), 0);

        let (a, b) = (UnixDatagram::bind(&one.0).unwrap(), UnixDatagram::bind(&other.0).unwrap());
        a.send_to(b"to", &other.0).unwrap();
        let mut buffer = [0; 8];
        let (count, from) = b.peek_from(&mut buffer).unwrap();
        assert_eq!((count, from.as_pathname()), (2, Some(&*one.0)));
        let (count, from) = b.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..count], from.as_pathname()), (&b"to"[..], Some(&*one.0)));
        b.connect(&one.0).unwrap();
        b.send(b"back").unwrap();
        assert_eq!(a.peek(&mut buffer).unwrap(), 4);
        assert_eq!(a.recv(&mut buffer).unwrap(), 4);
        assert_eq!(b.peer_addr().unwrap().as_pathname(), Some(&*one.0));
        assert!(UnixStream::connect("/no/such/place").is_err());
    });
}

#[test]
fn a_stream_knows_who_is_at_the_other_end() {
    let (one, _other) = UnixStream::pair().unwrap();
    let peer = one.peer_cred().unwrap();
    assert_eq!(peer.pid, Some(std::process::id().cast_signed()));
    assert_eq!(peer.uid, std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()));
}

#[test]
fn a_descriptor_goes_from_one_handle_to_the_other_world_and_back() {
    on_capabilities(1, || {
        let (one, mut other) = UnixStream::pair().unwrap();
        let number = one.as_raw_fd();
        let shared = one.try_clone().unwrap();
        let second = OwnedFd::try_from(one).unwrap();
        assert_ne!(second.as_raw_fd(), number, "the other handle keeps the descriptor");
        drop(second);
        let fd = OwnedFd::try_from(shared).unwrap();
        assert_eq!(fd.as_raw_fd(), number, "the last handle gives it up");
        let mut back = UnixStream::try_from(fd).unwrap();
        let reader = bast::spawn(move || {
            let mut buffer = [0; 4];
            back.read_exact(&mut buffer).map(|()| buffer)
        });
        until_blocked(1, reads);
        other.write_all(b"back").unwrap();
        assert_eq!(&reader.join().unwrap().unwrap(), b"back");
    });
}

#[test]
fn the_halves_of_a_stream_do_not_wait_for_each_other() {
    on_capabilities(1, || {
        let (stream, mut other) = UnixStream::pair().unwrap();
        let (mut read_half, mut write_half) = stream.into_split();
        let reader = bast::spawn(move || {
            let mut text = String::new();
            read_half.read_to_string(&mut text).map(|_| text)
        });
        until_blocked(1, reads);
        write_half.write_all(b"there").unwrap();
        drop(write_half);
        let mut text = String::new();
        other.read_to_string(&mut text).unwrap();
        other.write_all(text.as_bytes()).unwrap();
        drop(other);
        assert_eq!(reader.join().unwrap().unwrap(), "there");
    });
}

// Descriptors in messages.

#[test]
fn descriptors_arrive_with_their_message() {
    on_capabilities(2, || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let receiver = spawn_on(1, move || {
            let (mut buffer, mut fds) = ([0; 8], Vec::new());
            let count = theirs.recv_with_fds(&mut buffer, &mut fds).unwrap();
            assert_eq!(&buffer[..count], b"two");
            let mut streams = fds.into_iter().map(|fd| UnixStream::try_from(fd).unwrap());
            let (mut first, second) = (streams.next().unwrap(), streams.next().unwrap());
            assert!(streams.next().is_none());
            first.write_all(b"through").unwrap();
            drop((first, second));
        });
        until_blocked(1, reads);
        let (mut here, there) = UnixStream::pair().unwrap();
        let null = null();
        assert_eq!(ours.send_with_fds(b"two", &[there.as_fd(), null.as_fd()]).unwrap(), 3);
        drop(there);
        let mut text = String::new();
        here.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        receiver.join().unwrap();
    });
}

#[test]
fn a_read_that_ends_where_descriptors_were_sent_concludes_nothing() {
    // The kernel ends a read at such a boundary: short, with more to come. All is there before one poll: no event would
    // correct the conclusion that the stream is drained.
    on_capabilities(1, || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let reader = bast::spawn(move || {
            let mut counts = Vec::new();
            while counts.iter().sum::<usize>() < 6 {
                counts.push((&theirs).read(&mut [0; 64]).unwrap());
            }
            counts
        });
        until_blocked(1, reads);
        let null = null();
        (&ours).write_all(b"ab").unwrap();
        ours.send_with_fds(b"cd", &[null.as_fd()]).unwrap();
        (&ours).write_all(b"ef").unwrap();
        assert!(reader.join().unwrap().len() > 1, "the reads were cut at the descriptor");
    });
    on_capabilities(1, || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let reader = bast::spawn(move || {
            let (mut text, mut fds) = (Vec::new(), Vec::new());
            while text.len() < 6 {
                let mut buffer = [0; 64];
                let count = theirs.recv_with_fds(&mut buffer, &mut fds).unwrap();
                text.extend_from_slice(&buffer[..count]);
            }
            (text, fds.len())
        });
        until_blocked(1, reads);
        let null = null();
        (&ours).write_all(b"ab").unwrap();
        ours.send_with_fds(b"cd", &[null.as_fd()]).unwrap();
        ours.send_with_fds(b"ef", &[null.as_fd(), null.as_fd()]).unwrap();
        assert_eq!(reader.join().unwrap(), (b"abcdef".to_vec(), 3));
    });
}

#[test]
fn a_message_carries_as_many_descriptors_as_the_kernel_allows_and_says_so_otherwise() {
    deadline(|| {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let null = null();
        let many = |count| -> Vec<BorrowedFd<'_>> { (0..count).map(|_| null.as_fd()).collect() };
        ours.send_with_fds(b"x", &many(253)).unwrap();
        let mut fds = Vec::new();
        assert_eq!(theirs.recv_with_fds(&mut [0; 8], &mut fds).unwrap(), 1);
        assert_eq!(fds.len(), 253);
        for fd in &fds {
            assert!(sys::is_close_on_exec(fd));
        }
        assert_eq!(ours.send_with_fds(b"x", &many(254)).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(ours.send_with_fds(b"", &many(1)).unwrap_err().kind(), ErrorKind::InvalidInput);
        ours.send_with_fds(b"plain", &[]).unwrap();
        assert_eq!(theirs.recv_with_fds(&mut [0; 8], &mut fds).unwrap(), 5);
        assert_eq!(fds.len(), 253);
    });
}

#[test]
fn descriptors_that_find_no_room_are_reported_and_none_leaks() {
    child::succeeds(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let null = null();
        ours.send_with_fds(b"x", &[null.as_fd(), null.as_fd()]).unwrap();
        let before = sys::open_descriptors();
        // The limit is one of numbers. Up to the lowest that is free there is room for one of the two.
        let lowest_free = sys::duplicate(&null).as_raw_fd();
        sys::limit_descriptors(lowest_free as usize + 1);
        let mut fds = Vec::new();
        theirs.recv_with_fds(&mut [0; 8], &mut fds).unwrap_err();
        assert_eq!(fds.len(), 1);
        drop(fds);
        sys::limit_descriptors(1024);
        assert_eq!(sys::open_descriptors(), before);
    });
}

// Full queues.

#[test]
fn a_datagram_to_a_full_queue_waits_until_there_is_room() {
    // Connected, the kernel tells; with send_to it does not. Each datagram arrives once, in order.
    type Sender = fn(&UnixDatagram, &SocketAddr, &[u8]);
    let senders: [Sender; 2] = [
        |socket, _, bytes| assert_eq!(socket.send(bytes).unwrap(), bytes.len()),
        |socket, address, bytes| assert_eq!(socket.send_to_addr(bytes, address).unwrap(), bytes.len()),
    ];
    for (connects, send) in [true, false].into_iter().zip(senders) {
        on_capabilities(2, move || {
            let (sender, receiver, address) = unconnected();
            if connects {
                sender.connect_addr(&address).unwrap();
            }
            let thread = spawn_on(1, move || {
                for number in 0..200_u32 {
                    send(&sender, &address, &number.to_be_bytes());
                }
            });
            until_blocked(1, writes);
            for expected in 0..200_u32 {
                let mut buffer = [0; 8];
                assert_eq!(receiver.recv(&mut buffer).unwrap(), 4);
                assert_eq!(buffer[..4], expected.to_be_bytes());
            }
            thread.join().unwrap();
        });
    }
}

#[test]
fn a_connection_to_a_full_listener_waits_until_there_is_room_and_can_be_killed() {
    for capabilities in [1, 2] {
        on_capabilities(capabilities, || {
            let (listener, address, _waiting) = full_listener();
            let connect = |address: &SocketAddr| {
                let address = address.clone();
                let thread = spawn_on(1, move || UnixStream::connect_addr(&address).map(drop));
                until_blocked(1, |what| matches!(what, BlockedOn::Connect(_)));
                thread
            };
            let killed = connect(&address);
            killed.thread().kill();
            assert!(killed.join().unwrap_err().is_killed());
            let connects = connect(&address);
            listener.accept().unwrap();
            connects.join().unwrap().unwrap();
            listener.accept().unwrap();
        });
    }
}

// How waits end.

#[test]
fn each_wait_for_bytes_of_a_stream_ends_in_each_way() {
    for read in [
        |stream: &UnixStream| (&*stream).read(&mut [0; 8]).map(drop),
        |stream: &UnixStream| (&*stream).read_vectored(&mut [IoSliceMut::new(&mut [0; 8])]).map(drop),
        |stream: &UnixStream| stream.peek(&mut [0; 8]).map(drop),
        |stream: &UnixStream| stream.recv_with_fds(&mut [0; 8], &mut Vec::new()).map(drop),
    ] {
        a_wait_ends_in_each_way(|| UnixStream::pair().unwrap(), read, reads);
    }
}

#[test]
fn each_wait_for_room_in_a_stream_ends_in_each_way() {
    for write in [
        |mut stream: &UnixStream| loop {
            assert!(stream.write(&[0; 1 << 16])? > 0);
        },
        |mut stream: &UnixStream| loop {
            assert!(stream.write_vectored(&[IoSlice::new(&[0; 1 << 16])])? > 0);
        },
        |stream: &UnixStream| loop {
            assert!(stream.send_with_fds(&[0; 1 << 16], &[stream.as_fd()])? > 0);
        },
    ] {
        a_wait_ends_in_each_way(|| UnixStream::pair().unwrap(), write, writes);
    }
}

#[test]
fn each_wait_for_a_datagram_ends_in_each_way() {
    for receive in [
        |socket: &UnixDatagram| socket.recv(&mut [0; 8]).map(drop),
        |socket: &UnixDatagram| socket.recv_from(&mut [0; 8]).map(drop),
        |socket: &UnixDatagram| socket.peek(&mut [0; 8]).map(drop),
        |socket: &UnixDatagram| socket.peek_from(&mut [0; 8]).map(drop),
        |socket: &UnixDatagram| socket.recv_with_fds(&mut [0; 8], &mut Vec::new()).map(drop),
    ] {
        a_wait_ends_in_each_way(|| UnixDatagram::pair().unwrap(), receive, reads);
    }
}

#[test]
fn each_wait_for_room_at_a_receiver_ends_in_each_way() {
    for send in [
        |socket: &UnixDatagram| loop {
            socket.send(&[0; 1 << 10])?;
        },
        |socket: &UnixDatagram| loop {
            socket.send_with_fds(&[0; 1 << 10], &[socket.as_fd()])?;
        },
    ] {
        a_wait_ends_in_each_way(|| UnixDatagram::pair().unwrap(), send, writes);
    }
    a_wait_ends_in_each_way(
        || {
            let (sender, receiver, address) = unconnected();
            sender.connect_addr(&address).unwrap();
            (sender, receiver)
        },
        |socket| loop {
            // The address is known by the connection, but given: nobody tells when there is room.
            socket.send_to_addr(&[0; 1 << 10], &socket.peer_addr()?)?;
        },
        writes,
    );
}

#[test]
fn each_accept_ends_in_each_way() {
    an_accept_ends_in_each_way(
        || UnixListener::bind_addr(&abstract_name()).unwrap(),
        |listener| listener.accept().map(drop),
    );
}

#[test]
fn the_end_of_the_other_side_ends_a_wait() {
    on_capabilities(1, || {
        let (stream, other) = UnixStream::pair().unwrap();
        let reader = bast::spawn(move || (&stream).read(&mut [0; 8]).unwrap());
        until_blocked(1, reads);
        drop(other);
        assert_eq!(reader.join().unwrap(), 0);

        let (stream, other) = UnixStream::pair().unwrap();
        let writer = bast::spawn(move || (&stream).write_all(&vec![0; 1 << 22]).unwrap_err().kind());
        until_blocked(1, writes);
        drop(other);
        assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);

        // A sender whose receiver goes is told so, although its wait was for room.
        let (sender, receiver, address) = unconnected();
        sender.connect_addr(&address).unwrap();
        let thread = bast::spawn(move || {
            loop {
                if let Err(error) = sender.send(&[0; 64]) {
                    return error.kind();
                }
            }
        });
        until_blocked(1, writes);
        drop(receiver);
        assert_eq!(thread.join().unwrap(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn plain_os_threads_use_the_same_sockets() {
    deadline(|| {
        let (sender, receiver, address) = unconnected();
        let thread = std::thread::spawn(move || {
            for number in 0..100_u8 {
                sender.send_to_addr(&[number], &address).unwrap();
            }
        });
        for expected in 0..100_u8 {
            let mut buffer = [0];
            receiver.recv(&mut buffer).unwrap();
            assert_eq!(buffer[0], expected);
        }
        thread.join().unwrap();
    });
}
