//! What the server asks of the kernel, counted from outside: by connection, by request, and for pipelined requests.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use bast_server::{Handler, Request, Response, Router, Server, Settings};
use bast_tests::trace::{Call, Calls, count_calls, list_calls};
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
    serve_app_for_parent(1, |_: &mut Request<'_>| "hello");
}

/// In the child.
fn serve_app_for_parent(workers: usize, app: impl Handler) {
    let settings = Settings { workers: Some(workers), handle_signals: false, ..Settings::default() };
    let server = Server::bind("127.0.0.1:0").unwrap().settings(settings);
    println!("\naddress {}", server.local_addr().unwrap());
    let handle = server.handle();
    let served = thread::spawn(move || server.serve(app));
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
fn a_socket_is_made_non_blocking_by_accept4_and_by_no_call_of_its_own() {
    deadline(|| {
        const CONNECTIONS: usize = 20;
        let served = Served::new(child::start(serve_for_parent));
        ask(&mut served.connect(), 1);
        let calls = list_calls(served.child.id(), || {
            (0..CONNECTIONS).for_each(|_| ask(&mut served.connect(), 1));
        });
        let of = |number| calls.iter().filter(move |call: &&Call| call.number == number);
        assert!(of(libc::SYS_accept4).count() >= CONNECTIONS, "{calls:?}");
        let flags = (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as u64;
        assert!(of(libc::SYS_accept4).all(|accept| accept.arguments[3] == flags), "{calls:?}");
        // Before it closes a descriptor std asks in debug builds whether it is open, which changes nothing.
        let asks = |call: &Call| cfg!(debug_assertions) && call.arguments[1] == libc::F_GETFD as u64;
        assert!(of(libc::SYS_fcntl).all(asks), "{calls:?}");
        assert_eq!(of(libc::SYS_ioctl).count() + of(libc::SYS_accept).count(), 0, "{calls:?}");
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
        // No lock is waited for. The tick's OS thread sleeps and wakes with the work, now and then.
        assert!(of(&calls, libc::SYS_futex) < REQUESTS / 10, "{calls:?}");
        assert!(edge_triggered(served.child.id()) >= 2, "the listener and the connection");
        served.end();
    });
}

/// In the child: two files, one that is copied behind its head and one that is not.
fn serve_files_for_parent() {
    let root = std::env::temp_dir().join(format!("bast-system-calls-{}", std::process::id()));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("small"), [b's'; SMALL_BYTES]).unwrap();
    fs::write(root.join("large"), vec![b'l'; LARGE_BYTES]).unwrap();
    let app = Router::new().files("/", &root);
    serve_app_for_parent(1, app);
    fs::remove_dir_all(root).unwrap();
}

const SMALL_BYTES: usize = 151;
const LARGE_BYTES: usize = 1 << 20;

/// Asks for a file and reads it whole: how many bytes came with the first read.
fn fetch(stream: &mut TcpStream, name: &str, body_bytes: usize) -> usize {
    write!(stream, "GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut room = vec![0; 1 << 16];
    let first = stream.read(&mut room).unwrap();
    let head = room[..first].windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let mut left = head + body_bytes - first;
    while left > 0 {
        let count = stream.read(&mut room).unwrap();
        assert!(count > 0, "closed before the end");
        left -= count;
    }
    first - head
}

#[test]
fn a_file_that_is_open_already_is_sent_without_a_look_at_its_name() {
    deadline(|| {
        const REQUESTS: u64 = 50;
        let served = Served::new(child::start(serve_files_for_parent));
        let mut stream = served.connect();
        (0..3).for_each(|_| {
            fetch(&mut stream, "small", SMALL_BYTES);
        });
        let mut in_first_read = 0;
        let small = count_calls(served.child.id(), || {
            in_first_read = (0..REQUESTS).map(|_| fetch(&mut stream, "small", SMALL_BYTES)).min().unwrap();
        });
        assert_eq!(in_first_read, SMALL_BYTES, "head and body are one segment");
        assert_eq!(of(&small, libc::SYS_sendto), REQUESTS, "{small:?}");
        assert_eq!(of(&small, libc::SYS_sendfile), 0, "{small:?}");

        fetch(&mut stream, "large", LARGE_BYTES);
        let large = count_calls(served.child.id(), || {
            (0..REQUESTS).for_each(|_| {
                fetch(&mut stream, "large", LARGE_BYTES);
            });
        });
        assert_eq!(of(&large, libc::SYS_sendto), REQUESTS, "the heads: {large:?}");
        assert!(of(&large, libc::SYS_sendfile) >= REQUESTS, "{large:?}");
        assert_eq!(of(&large, libc::SYS_pread64) + of(&large, libc::SYS_preadv2), 0, "{large:?}");

        // The cache opens a file anew once a second.
        for calls in [small, large] {
            for number in
                [libc::SYS_openat, libc::SYS_openat2, libc::SYS_statx, libc::SYS_fstat, libc::SYS_close]
            {
                assert!(of(&calls, number) < REQUESTS / 2, "{calls:?}");
            }
        }
        served.end();
    });
}

/// What passes through the server's own memory is what it gives to the kernel from there, or has the kernel put there.
#[test]
fn no_byte_of_a_large_file_passes_through_the_servers_memory() {
    deadline(|| {
        const REQUESTS: usize = 20;
        const HEAD_BYTES_MAX: u64 = 400;
        let served = Served::new(child::start(serve_files_for_parent));
        let mut stream = served.connect();
        fetch(&mut stream, "large", LARGE_BYTES);
        let calls = list_calls(served.child.id(), || {
            (0..REQUESTS).for_each(|_| {
                fetch(&mut stream, "large", LARGE_BYTES);
            });
        });
        let of = |number| calls.iter().filter(move |call: &&Call| call.number == number);
        // Only heads; and there is no other way out, nor a way in for the file.
        let sent: u64 = of(libc::SYS_sendto).map(|send| send.arguments[2]).sum();
        println!("{} bytes of memory sent for a file of {LARGE_BYTES}", sent / REQUESTS as u64);
        assert!(sent <= HEAD_BYTES_MAX * REQUESTS as u64, "{sent}");
        for number in [
            libc::SYS_write,
            libc::SYS_writev,
            libc::SYS_sendmsg,
            libc::SYS_pread64,
            libc::SYS_preadv,
            libc::SYS_preadv2,
            libc::SYS_mmap,
            libc::SYS_splice,
        ] {
            let of_a_wake_up = |call: &&Call| number == libc::SYS_write && call.arguments[2] == 8;
            assert_eq!(of(number).filter(|call| !of_a_wake_up(call)).count(), 0, "{number}: {calls:?}");
        }
        assert!(of(libc::SYS_sendfile).count() >= REQUESTS, "{calls:?}");
        served.end();
    });
}

#[test]
fn one_epoll_instance_has_the_listener_and_each_worker_has_one_of_its_own() {
    deadline(|| {
        const WORKERS: usize = 4;
        let served = Served::new(child::start(|| {
            let app = |_: &mut Request<'_>| "hello";
            serve_app_for_parent(WORKERS, app);
        }));
        let mut streams: Vec<TcpStream> = (0..20).map(|_| served.connect()).collect();
        streams.iter_mut().for_each(|stream| ask(stream, 1));
        let pid = served.child.id();
        let listener = listening_descriptor(pid);
        let sets = epoll_sets(pid);
        assert_eq!(sets.len(), WORKERS, "{sets:?}");
        assert_eq!(sets.iter().filter(|set| set.contains(&listener)).count(), 1, "{listener} in {sets:?}");

        // One accept for each connection, and one in vain at the end of a burst.
        let calls = count_calls(pid, || {
            streams.extend((0..20).map(|_| {
                let mut stream = served.connect();
                ask(&mut stream, 1);
                stream
            }));
        });
        assert!((20..=40).contains(&of(&calls, libc::SYS_accept4)), "{calls:?}");
        served.end();
    });
}

/// What each epoll instance of a process watches.
fn epoll_sets(pid: u32) -> Vec<Vec<u64>> {
    let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let watched = infos.filter_map(|entry| {
        let info = fs::read_to_string(entry.unwrap().path()).ok()?;
        let watched = info
            .lines()
            .filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next()?.parse().ok());
        Some(watched.collect::<Vec<u64>>())
    });
    watched.filter(|set| !set.is_empty()).collect()
}

/// The one socket of a process that the kernel's table has as listening (proc_net(5): state 0A).
fn listening_descriptor(pid: u32) -> u64 {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let listening: Vec<String> = table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(3) == Some(&"0A")).then(|| format!("socket:[{}]", fields[9]))
        })
        .collect();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let target = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
        listening.contains(&target).then(|| entry.file_name().to_string_lossy().parse().unwrap())
    });
    descriptors.collect::<Vec<u64>>()[0]
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

/// In the child.
fn serve_pieces_for_parent() {
    serve_app_for_parent(1, |_: &mut Request<'_>| {
        Response::stream("text/plain", |body| {
            body.write_all(b"first")?;
            body.flush()?;
            body.write_all(b"second")
        })
    });
}

const PIECES_END: &[u8] = b"0\r\n\r\n";

/// How long an answer in two small pieces takes, in the quicker half of many.
fn time_of_pieces(stream: &mut TcpStream) -> Duration {
    let mut times: Vec<Duration> = (0..40)
        .map(|_| {
            let start = Instant::now();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(PIECES_END) {
                let mut room = [0; 8192];
                let count = stream.read(&mut room).unwrap();
                assert!(count > 0, "closed within an answer");
                answer.extend_from_slice(&room[..count]);
            }
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// Nagle's algorithm holds a small segment back until the one before it is acknowledged, which takes the client's system
/// 40 ms where it has nothing to send. The control, without TCP_NODELAY, meets that.
#[test]
fn a_piece_of_an_answer_does_not_wait_for_the_acknowledgement_of_the_one_before() {
    deadline(|| {
        let held = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let serving = thread::spawn(move || {
                while stream.read(&mut [0; 8192]).unwrap() > 0 {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                        .unwrap();
                    stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").unwrap();
                }
            });
            let held = time_of_pieces(&mut client);
            drop(client);
            serving.join().unwrap();
            held
        };
        let served = Served::new(child::start(serve_pieces_for_parent));
        let sent = time_of_pieces(&mut served.connect());
        println!("{sent:?}, and {held:?} without TCP_NODELAY");
        assert!(held > Duration::from_millis(20), "nothing was held back here: {held:?}");
        assert!(sent < Duration::from_millis(20), "{sent:?}");
        served.end();
    });
}
