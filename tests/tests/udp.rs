//! UDP sockets: the faces of std, options, and how waits end.

use bast::BlockedOn;
use bast::net::UdpSocket;
use bast_tests::ends::a_wait_ends_in_each_way;
use bast_tests::{deadline, on_capabilities, spawn_on, until_blocked};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr};

fn reads(what: BlockedOn) -> bool {
    matches!(what, BlockedOn::Read(_))
}

fn pair() -> (UdpSocket, UdpSocket) {
    let (one, other) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    one.connect(other.local_addr().unwrap()).unwrap();
    other.connect(one.local_addr().unwrap()).unwrap();
    (one, other)
}

#[test]
fn datagrams_go_back_and_forth_and_park_their_receivers_only() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        on_capabilities(2, move || {
            let server = UdpSocket::bind(address).unwrap();
            let to = server.local_addr().unwrap();
            let echo = spawn_on(1, move || {
                let mut buffer = [0; 64];
                loop {
                    let (count, from) = server.recv_from(&mut buffer).unwrap();
                    if count == 0 {
                        return;
                    }
                    assert_eq!(server.send_to(&buffer[..count], from).unwrap(), count);
                }
            });
            until_blocked(1, reads);
            let client = UdpSocket::bind(address).unwrap();
            for number in 0..1000_u32 {
                client.send_to(&number.to_be_bytes(), to).unwrap();
                let mut buffer = [0; 8];
                let (count, from) = client.recv_from(&mut buffer).unwrap();
                assert_eq!((&buffer[..count], from), (&number.to_be_bytes()[..], to));
            }
            client.send_to(&[], to).unwrap();
            echo.join().unwrap();
        });
    }
}

#[test]
fn a_datagram_that_is_shorter_than_the_buffer_concludes_nothing() {
    on_capabilities(1, || {
        let (one, other) = pair();
        let reader = bast::spawn(move || {
            let mut buffer = [0; 64];
            (0..3).map(|_| other.recv(&mut buffer).unwrap()).collect::<Vec<_>>()
        });
        until_blocked(1, reads);
        // All are there before one poll: no further event corrects a wrong conclusion. An empty one is no end.
        for bytes in [&b"first"[..], b"", b"third"] {
            one.send(bytes).unwrap();
        }
        assert_eq!(reader.join().unwrap(), [5, 0, 5]);
    });
}

#[test]
fn a_peek_leaves_the_datagram_and_a_small_buffer_loses_its_rest() {
    deadline(|| {
        let (one, other) = pair();
        one.send(b"whole").unwrap();
        one.send(b"next").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(other.peek(&mut buffer).unwrap(), 5);
        let (count, from) = other.peek_from(&mut buffer).unwrap();
        assert_eq!((count, from), (5, one.local_addr().unwrap()));
        assert_eq!(other.recv(&mut buffer[..2]).unwrap(), 2);
        assert_eq!(other.recv(&mut buffer).unwrap(), 4);
    });
}

#[test]
fn nobody_at_the_other_end_is_an_error_of_the_next_call() {
    on_capabilities(1, || {
        let (one, other) = pair();
        let reader = {
            let one = one.try_clone().unwrap();
            bast::spawn(move || one.recv(&mut [0; 8]).unwrap_err().kind())
        };
        until_blocked(1, reads);
        drop(other);
        one.send(b"to nobody").unwrap();
        assert_eq!(reader.join().unwrap(), ErrorKind::ConnectionRefused);
        assert!(one.take_error().unwrap().is_none(), "the error was taken by the read");
    });
}

#[test]
fn options_are_as_they_were_set() {
    deadline(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for on in [true, false] {
            socket.set_broadcast(on).unwrap();
            assert_eq!(socket.broadcast().unwrap(), on);
            socket.set_multicast_loop_v4(on).unwrap();
            assert_eq!(socket.multicast_loop_v4().unwrap(), on);
        }
        socket.set_ttl(7).unwrap();
        assert_eq!(socket.ttl().unwrap(), 7);
        socket.set_multicast_ttl_v4(3).unwrap();
        assert_eq!(socket.multicast_ttl_v4().unwrap(), 3);
        let address = "255.255.255.255:9";
        socket.set_broadcast(false).unwrap();
        assert_eq!(socket.send_to(b"x", address).unwrap_err().kind(), ErrorKind::PermissionDenied);

        let v6 = UdpSocket::bind("[::1]:0").unwrap();
        for on in [true, false] {
            v6.set_multicast_loop_v6(on).unwrap();
            assert_eq!(v6.multicast_loop_v6().unwrap(), on);
        }
    });
}

#[test]
fn a_group_is_joined_once_and_left_once() {
    deadline(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let (group, interface) = (Ipv4Addr::new(224, 0, 0, 123), Ipv4Addr::LOCALHOST);
        socket.join_multicast_v4(&group, &interface).unwrap();
        assert_eq!(
            socket.join_multicast_v4(&group, &interface).unwrap_err().kind(),
            ErrorKind::AddrInUse,
            "it is in it already"
        );
        socket.leave_multicast_v4(&group, &interface).unwrap();
        socket.leave_multicast_v4(&group, &interface).unwrap_err();

        let socket = UdpSocket::bind("[::]:0").unwrap();
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x123);
        let loopback = 1;
        socket.join_multicast_v6(&group, loopback).unwrap();
        socket.leave_multicast_v6(&group, loopback).unwrap();
        socket.leave_multicast_v6(&group, loopback).unwrap_err();
    });
}

#[test]
fn each_wait_for_a_datagram_ends_in_each_way() {
    for receive in [
        |socket: &UdpSocket| socket.recv(&mut [0; 8]).map(drop),
        |socket: &UdpSocket| socket.recv_from(&mut [0; 8]).map(drop),
        |socket: &UdpSocket| socket.peek(&mut [0; 8]).map(drop),
        |socket: &UdpSocket| socket.peek_from(&mut [0; 8]).map(drop),
    ] {
        a_wait_ends_in_each_way(pair, receive, reads);
    }
}

#[test]
fn many_threads_share_one_socket() {
    on_capabilities(2, || {
        let (one, other) = pair();
        let receivers: Vec<_> = (0..10)
            .map(|index| {
                let other = other.try_clone().unwrap();
                spawn_on(index, move || {
                    let mut buffer = [0];
                    other.recv(&mut buffer).unwrap();
                    buffer[0]
                })
            })
            .collect();
        for number in 0..10 {
            one.send(&[number]).unwrap();
        }
        let mut received: Vec<_> = receivers.into_iter().map(|thread| thread.join().unwrap()).collect();
        received.sort_unstable();
        assert_eq!(received, (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn a_plain_os_thread_uses_the_same_socket() {
    deadline(|| {
        let (one, other) = pair();
        let echo = std::thread::spawn(move || {
            let mut buffer = [0; 8];
            let count = other.recv(&mut buffer).unwrap();
            other.send(&buffer[..count]).unwrap();
        });
        one.send(b"hello").unwrap();
        assert_eq!(one.recv(&mut [0; 8]).unwrap(), 5);
        echo.join().unwrap();
    });
}
