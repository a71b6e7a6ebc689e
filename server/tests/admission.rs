//! Who is let in, and what becomes of the others.
#![forbid(unsafe_code)]

mod support;

use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use bast_server::{Limits, Overload, ProxyProtocol, Request, Settings};
use support::{Client, DEADLINE, Running, settings, start};

fn hello(_: &mut Request<'_>) -> &'static str {
    "hello"
}

fn limited(limits: Limits) -> Settings {
    Settings { limits, ..settings() }
}

/// The client is turned away by one answer and the end.
fn is_turned_away(client: &mut Client) {
    let answer = client.answer();
    assert_eq!(answer.code, 503);
    assert!(answer.head.contains("\r\nRetry-After: 1\r\n"), "{}", answer.head);
    assert!(answer.head.contains("\r\nConnection: close\r\n"), "{}", answer.head);
    client.closed();
}

/// Tries until a new client is served, as one is as soon as the server has noticed that another has gone.
fn until_served(server: &Running) -> Client {
    let start = Instant::now();
    loop {
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        if client.answer().code == 200 {
            return client;
        }
        assert!(start.elapsed() < DEADLINE, "nobody is let in");
    }
}

#[test]
fn beyond_the_limit_clients_are_told_and_when_one_has_left_another_is_let_in() {
    let server = start(limited(Limits { connections_max: 3, ..Limits::default() }), hello);
    let mut inside: Vec<Client> = (0..3).map(|_| until_served(&server)).collect();
    for _ in 0..5 {
        let mut outside = server.connect();
        outside.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        is_turned_away(&mut outside);
        // One that says nothing is told, too.
        is_turned_away(&mut server.connect());
    }
    inside.iter_mut().for_each(|client| assert_eq!(client.get("/").body, "hello", "these notice nothing"));
    inside.pop();
    inside.push(until_served(&server));
    is_turned_away(&mut server.connect());
}

#[test]
fn a_client_that_is_turned_away_in_the_middle_of_a_large_request_can_read_why() {
    let server = start(limited(Limits { connections_max: 1, ..Limits::default() }), hello);
    let _inside = until_served(&server);
    for _ in 0..20 {
        let mut client = server.connect();
        // Half before the answer and half after it, less than what the sockets take unread.
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
        client.send([b'x'; 30_000]);
        let answer = client.answer();
        client.send([b'x'; 30_000]);
        assert_eq!(answer.code, 503);
        client.closed();
    }
}

#[test]
fn more_are_turned_away_at_once_than_are_kept() {
    let server = start(limited(Limits { connections_max: 1, ..Limits::default() }), hello);
    let mut inside = until_served(&server);
    let mut outside: Vec<Client> = (0..400).map(|_| server.connect()).collect();
    outside.iter_mut().for_each(is_turned_away);
    assert_eq!(inside.get("/").body, "hello");
}

#[test]
fn clients_may_be_made_to_wait_instead_until_one_has_left() {
    let limits = Limits { connections_max: 2, overload: Overload::Wait, ..Limits::default() };
    let server = start(limited(limits), hello);
    let mut inside = [server.connect(), server.connect()];
    inside.iter_mut().for_each(|client| assert_eq!(client.get("/").body, "hello"));
    let mut outside = [server.connect(), server.connect()];
    for client in &mut outside {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a short deadline");
        let nothing = client.stream.read(&mut [0]).expect_err("there is no room");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        client.stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    }
    drop(inside);
    outside.iter_mut().for_each(|client| assert_eq!(client.answer().body, "hello"));
}

#[test]
fn a_drain_does_not_wait_for_room() {
    let limits = Limits { connections_max: 1, overload: Overload::Wait, ..Limits::default() };
    let server = start(limited(limits), hello);
    let mut inside = server.connect();
    assert_eq!(inside.get("/").body, "hello");
    let _outside = server.connect();
    server.handle.shutdown();
    inside.closed();
    server.ended().expect("a graceful end");
}

#[test]
fn one_address_has_no_more_connections_than_it_may() {
    let limits = Limits { connections_per_address_max: 2, ..Limits::default() };
    let server = start(limited(limits), hello);
    let mut inside = [until_served(&server), until_served(&server)];
    is_turned_away(&mut server.connect());
    inside.iter_mut().for_each(|client| assert_eq!(client.get("/").body, "hello"));
    drop(inside);
    until_served(&server);
}

/// A connection that a proxy makes for this client, or for itself.
fn relayed(server: &Running, client: Option<&str>) -> Client {
    let mut stream = server.connect();
    match client {
        Some(address) => stream.send(format!("PROXY TCP4 {address} 198.51.100.7 56324 443\r\n")),
        None => stream.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
    }
    stream.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    stream
}

#[test]
fn behind_a_proxy_its_clients_are_counted_and_not_the_proxy() {
    let limits = Limits { connections_per_address_max: 2, ..Limits::default() };
    let protocol = ProxyProtocol::from_proxies(["127.0.0.1"]).expect("a range");
    let server = start(Settings { proxy_protocol: Some(protocol), ..limited(limits) }, hello);
    let mut inside: Vec<Client> = [Some("192.0.2.1"), Some("192.0.2.1"), Some("192.0.2.2"), None, None, None]
        .into_iter()
        .map(|client| relayed(&server, client))
        .collect();
    inside.iter_mut().for_each(|client| assert_eq!(client.answer().body, "hello"));
    is_turned_away(&mut relayed(&server, Some("192.0.2.1")));
    assert_eq!(relayed(&server, Some("192.0.2.2")).answer().body, "hello");
    inside.iter_mut().for_each(|client| assert_eq!(client.get("/").body, "hello", "these notice nothing"));
    inside.remove(0);
    let start = Instant::now();
    while relayed(&server, Some("192.0.2.1")).answer().code != 200 {
        assert!(start.elapsed() < DEADLINE, "who has left is still counted");
    }
}

#[test]
fn the_last_request_that_a_connection_may_bring_is_answered_with_close() {
    let server = start(limited(Limits { requests_per_connection_max: 3, ..Limits::default() }), hello);
    let mut client = server.connect();
    for last in [false, false, true] {
        let answer = client.get("/");
        assert_eq!(answer.body, "hello");
        assert_eq!(answer.head.contains("\r\nConnection: close\r\n"), last, "{}", answer.head);
    }
    client.closed();
    // Pipelined, the others are not answered.
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5));
    for _ in 0..3 {
        assert_eq!(client.answer().code, 200);
    }
    client.closed();
}

/// One capability with fifty connections that always have a request waiting. All of them have a turn before the acceptor has
/// its own; but the connection that it then accepts does not queue behind them once more.
#[test]
fn a_new_connection_waits_for_one_turn_of_the_others_and_not_for_two() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    const BUSY: usize = 50;
    let served = Arc::new(AtomicUsize::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let handler = {
        let served = Arc::clone(&served);
        move |_: &mut Request<'_>| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(200) {}
            served.fetch_add(1, Ordering::SeqCst).to_string()
        }
    };
    let server = start(Settings { workers: Some(1), ..settings() }, handler);
    let busy: Vec<_> = (0..BUSY)
        .map(|_| {
            let (mut client, over) = (server.connect(), Arc::clone(&over));
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/").code, 200);
                }
            })
        })
        .collect();
    while served.load(Ordering::SeqCst) < BUSY * 4 {
        thread::sleep(Duration::from_millis(1));
    }
    let mut before: Vec<usize> = (0..20)
        .map(|_| {
            let mut client = server.connect();
            let begin = served.load(Ordering::SeqCst);
            let number: usize = client.get("/").body.parse().expect("a number");
            number - begin
        })
        .collect();
    over.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().expect("a busy client is served"));
    before.sort();
    // Some are unlucky: their own OS thread gets no processor between the two looks. That can only add to what is counted.
    // One turn is 50. A yield at the beginning of a connection's thread, which queues it again, makes 75 of it.
    let count = before[before.len() / 4];
    assert!(count <= BUSY + BUSY / 4, "others served before a new connection: {before:?}");
}
