//! Names: looked up by the pool, in the time that is given, and killed while they are; numbers are read in place.

use bast::net::{TcpListener, TcpStream, ToSocketAddrs, lookup_host, lookup_host_timeout};
use bast::{BlockedOn, JoinHandle, Runtime};
use bast_tests::{deadline, until, until_blocked};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A runtime of one capability with a pool of one thread.
fn with_small_pool<T: Send + 'static>(main: impl FnOnce() -> T + Send + 'static) -> T {
    deadline(|| {
        let builder = Runtime::builder().capabilities(1).offload_threads(1);
        builder.build().expect("a runtime can be built").run(main)
    })
}

/// Occupies the pool's one thread until the sender is dropped: a resolver that does not answer.
fn occupy_pool() -> (mpsc::Sender<()>, JoinHandle<()>) {
    let (end, wait) = mpsc::channel::<()>();
    let thread = bast::spawn(move || {
        bast::offload(move || {
            let _ = wait.recv();
        });
    });
    until(|| bast::offload_stats().running == 1);
    (end, thread)
}

#[test]
fn numbers_are_addresses_without_a_look_up() {
    with_small_pool(|| {
        let v4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
        let v6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 0);
        let one = |host: &dyn Fn() -> std::io::Result<std::vec::IntoIter<SocketAddr>>| {
            let addresses: Vec<_> = host().unwrap().collect();
            assert_eq!(addresses.len(), 1);
            addresses[0]
        };
        bast::no_park(|| {
            assert_eq!(one(&|| "127.0.0.1:80".to_socket_addrs()), SocketAddr::V4(v4));
            assert_eq!(one(&|| "[::1]:80".to_socket_addrs()), SocketAddr::V6(v6));
            assert_eq!(one(&|| String::from("127.0.0.1:80").to_socket_addrs()), SocketAddr::V4(v4));
            assert_eq!(one(&|| ("127.0.0.1", 80).to_socket_addrs()), SocketAddr::V4(v4));
            assert_eq!(one(&|| (String::from("::1"), 80).to_socket_addrs()), SocketAddr::V6(v6));
            assert_eq!(one(&|| (Ipv4Addr::LOCALHOST, 80).to_socket_addrs()), SocketAddr::V4(v4));
            assert_eq!(one(&|| (Ipv6Addr::LOCALHOST, 80).to_socket_addrs()), SocketAddr::V6(v6));
            assert_eq!(one(&|| (IpAddr::V4(Ipv4Addr::LOCALHOST), 80).to_socket_addrs()), SocketAddr::V4(v4));
            assert_eq!(one(&|| v4.to_socket_addrs()), SocketAddr::V4(v4));
            assert_eq!(one(&|| v6.to_socket_addrs()), SocketAddr::V6(v6));
            assert_eq!(one(&|| [SocketAddr::V4(v4)][..].to_socket_addrs()), SocketAddr::V4(v4));
            assert_eq!(one(&|| lookup_host_timeout("::1", 80, Duration::ZERO)), SocketAddr::V6(v6));
        });
        for malformed in ["127.0.0.1", "localhost:port", "localhost:65536"] {
            assert_eq!(
                malformed.to_socket_addrs().unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{malformed}"
            );
        }
        assert_eq!(bast::offload_stats().threads, 0);
    });
}

#[test]
fn a_name_is_looked_up_by_the_pool_and_connected_to() {
    with_small_pool(|| {
        let listener = TcpListener::bind("localhost:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(address.ip().is_loopback());
        let server = bast::spawn(move || listener.accept().unwrap().0.write_all(b"hello").unwrap());
        let mut stream = TcpStream::connect(("localhost", address.port())).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        server.join().unwrap();
        until(|| bast::offload_stats().finished == 2);
    });
}

#[test]
fn a_name_that_is_none_is_an_error() {
    with_small_pool(|| {
        // No label may be empty, so no server is asked.
        assert!(lookup_host("no..name:80").is_err());
        assert!(TcpStream::connect("no..name:80").is_err());
        assert!(TcpListener::bind("no..name:80").is_err());
    });
}

#[test]
fn a_slow_look_up_does_not_stop_the_other_threads_of_its_core_and_can_be_killed() {
    type LookUp = (&'static str, fn());
    let look_ups: [LookUp; 4] = [
        ("connect", || drop(TcpStream::connect("localhost:1"))),
        ("bind", || drop(TcpListener::bind("localhost:0"))),
        ("lookup_host", || drop(lookup_host("localhost:1"))),
        ("lookup_host_timeout", || drop(lookup_host_timeout("localhost", 1, Duration::from_secs(3600)))),
    ];
    with_small_pool(move || {
        let (end, occupant) = occupy_pool();
        for (name, look_up) in look_ups {
            let thread = bast::spawn(look_up);
            until_blocked(2, |what| what == BlockedOn::Offload);
            bast::sleep(Duration::from_millis(1));
            assert!(!thread.is_finished(), "{name}");
            thread.thread().kill();
            assert!(thread.join().unwrap_err().is_killed(), "{name}");
            assert_eq!(bast::offload_stats().queued, 0, "{name}");
        }
        drop(end);
        occupant.join().unwrap();
        assert!(lookup_host("localhost:1").unwrap().count() > 0);
    });
}

#[test]
fn a_look_up_ends_at_its_limit() {
    with_small_pool(|| {
        let (end, occupant) = occupy_pool();
        let (limit, before) = (Duration::from_millis(20), Instant::now());
        let error = lookup_host_timeout("localhost", 1, limit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(before.elapsed() >= limit);
        drop(end);
        occupant.join().unwrap();
        let long = Duration::from_secs(3600);
        assert!(lookup_host_timeout("localhost", 1, long).unwrap().all(|found| found.ip().is_loopback()));
    });
}

#[test]
fn outside_a_runtime_a_look_up_blocks_the_os_thread() {
    deadline(|| {
        let listener = TcpListener::bind("localhost:0").unwrap();
        TcpStream::connect(("localhost", listener.local_addr().unwrap().port())).unwrap();
        assert!(lookup_host_timeout("localhost", 1, Duration::from_secs(3600)).is_ok());
    });
}
