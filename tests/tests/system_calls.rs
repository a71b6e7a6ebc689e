//! What the server asks of the kernel, counted from outside: by connection, by request, and for pipelined requests.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use bast_server::{Request, Server, Settings};
use bast_tests::trace::{Calls, count_calls};
use bast_tests::{child, deadline};

const ANSWERED: &[u8] = b"\r\n\r\nhello";

/// A server in a process of its own that answers "hello" until its input ends.
struct Served {
    child: Child,
    address: SocketAddr,
}

impl Served {
    fn new(mut child: Child) -> Served {
        let output = BufReader::new(child.stdout.take().unwrap());
        let address =
            output.lines().find_map(|line| Some(line.unwrap().strip_prefix("address ")?.to_owned()));
        Served { child, address: address.expect("the child lives").parse().unwrap() }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert_eq!(self.child.wait().unwrap().code(), Some(child::RETURNED));
    }
}

/// In the child.
fn serve_for_parent() {
    let settings = Settings { workers: Some(1), handle_signals: false, ..Settings::default() };
    let server = Server::bind("127.0.0.1:0").unwrap().with(settings);
    println!("\naddress {}", server.local_addr().unwrap());
    let handle = server.handle();
    let served = thread::spawn(move || server.serve(|_: &mut Request<'_>| "hello"));
    std::io::stdin().lines().for_each(drop);
    handle.shutdown();
    served.join().unwrap().unwrap();
}

/// Sends so many requests together and waits for their answers.
fn ask(stream: &mut TcpStream, requests: usize) {
    stream.write_all(&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(requests)).unwrap();
    let mut answers = Vec::new();
    let mut room = [0; 8192];
    while answers.windows(ANSWERED.len()).filter(|window| *window == ANSWERED).count() < requests {
        let count = stream.read(&mut room).unwrap();
        assert!(count > 0, "closed before the last answer");
        answers.extend_from_slice(&room[..count]);
    }
}

fn of(calls: &Calls, number: i64) -> u64 {
    calls.get(&number).copied().unwrap_or(0)
}

#[test]
fn a_connection_of_one_request_takes_no_more_than_nine_system_calls() {
    deadline(|| {
        const CONNECTIONS: u64 = 50;
        let served = Served::new(child::start(serve_for_parent));
        let one = || {
            let mut stream = served.connect();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.ends_with(ANSWERED));
        };
        one();
        let calls = count_calls(served.child.id(), || (0..CONNECTIONS).for_each(|_| one()));
        // Every connection was seen.
        assert!(of(&calls, libc::SYS_accept4) >= CONNECTIONS, "{calls:?}");
        // std itself asks whether a descriptor is open before it closes it, in debug builds (fcntl).
        let total: u64 = calls.values().sum::<u64>()
            - if cfg!(debug_assertions) { of(&calls, libc::SYS_fcntl) } else { 0 };
        println!("{} calls for a connection: {calls:?}", total as f64 / CONNECTIONS as f64);
        assert!(total <= 9 * CONNECTIONS, "{total} calls for {CONNECTIONS} connections: {calls:?}");
        served.end();
    });
}

#[test]
fn a_request_on_an_open_connection_takes_one_read_one_send_and_a_wait() {
    deadline(|| {
        const REQUESTS: u64 = 200;
        let served = Served::new(child::start(serve_for_parent));
        let mut stream = served.connect();
        (0..10).for_each(|_| ask(&mut stream, 1));
        let calls = count_calls(served.child.id(), || (0..REQUESTS).for_each(|_| ask(&mut stream, 1)));
        assert_eq!(of(&calls, libc::SYS_sendto), REQUESTS, "{calls:?}");
        // A read after a look that came too early finds nothing; that is rare.
        let received = of(&calls, libc::SYS_recvfrom);
        assert!((REQUESTS..REQUESTS + REQUESTS / 5).contains(&received), "{calls:?}");
        // Registered once, edge-triggered: nothing is changed, and nothing wakes for room to write.
        let polls = of(&calls, libc::SYS_epoll_pwait2)
            + of(&calls, libc::SYS_epoll_pwait)
            + of(&calls, libc::SYS_epoll_wait);
        // A look may find nothing, before a sleep, and the sweeps take one now and then.
        assert!(polls <= 2 * REQUESTS + 10, "{calls:?}");
        for number in [libc::SYS_epoll_ctl, libc::SYS_setsockopt, libc::SYS_fcntl] {
            assert_eq!(of(&calls, number), 0, "{calls:?}");
        }
        assert!(edge_triggered(served.child.id()) >= 2, "the listener and the connection");
        served.end();
    });
}

/// How many descriptors a process waits for by edges, as proc(5) tells of its epoll descriptors.
fn edge_triggered(pid: u32) -> usize {
    const EPOLLET: u64 = 1 << 31;
    let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    infos
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok())
        .flat_map(|info| info.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let (_, events) = line.strip_prefix("tfd:")?.split_once("events:")?;
            u64::from_str_radix(events.split_whitespace().next()?, 16).ok()
        })
        .filter(|events| events & EPOLLET != 0)
        .count()
}

#[test]
fn pipelined_requests_share_their_sends() {
    deadline(|| {
        const BATCHES: u64 = 20;
        const REQUESTS: usize = 20;
        let served = Served::new(child::start(serve_for_parent));
        let mut stream = served.connect();
        ask(&mut stream, 1);
        let calls = count_calls(served.child.id(), || (0..BATCHES).for_each(|_| ask(&mut stream, REQUESTS)));
        assert_eq!(of(&calls, libc::SYS_sendto), BATCHES, "{calls:?}");
        assert_eq!(of(&calls, libc::SYS_setsockopt), 0, "{calls:?}");
        served.end();
    });
}

/// Nagle's algorithm would hold an answer back until the one before is acknowledged, which takes the client's system 40 ms.
#[test]
fn an_answer_does_not_wait_for_the_acknowledgement_of_the_one_before() {
    deadline(|| {
        let served = Served::new(child::start(serve_for_parent));
        let mut stream = served.connect();
        let mut times: Vec<Duration> = (0..100)
            .map(|_| {
                let start = Instant::now();
                ask(&mut stream, 1);
                start.elapsed()
            })
            .collect();
        times.sort();
        assert!(times[times.len() / 2] < Duration::from_millis(20), "{times:?}");
        served.end();
    });
}
