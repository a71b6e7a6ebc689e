//! A server that has more clients than descriptors: it lives, tells them or lets them wait, spins on nothing, and is itself
//! again when they have gone. The server is a process of its own with few descriptors; its clients are the test.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bast::{Builder, Runtime};
use bast_server::{Limits, Metrics, Overload, Request, Response, Router, Server, Settings, TimeLimits};
use bast_tests::{child, deadline_within, sys};

const DEADLINE: Duration = Duration::from_secs(20);

/// Of the server, for all that it has open.
const DESCRIPTORS: usize = 100;

/// In the child: serves at an address that the parent is told, and answers each line that the parent sends by the CPU time
/// in microseconds. Ends with the input.
fn serve_for_parent(settings: Settings, descriptors: usize) {
    sys::limit_descriptors(descriptors);
    let app = Router::new()
        .get("/", |_: &mut Request<'_>| "hello")
        .get("/descriptors", |_: &mut Request<'_>| sys::open_descriptors().to_string())
        .get("/stream", |_: &mut Request<'_>| {
            Response::stream("text/plain", |body| (0..10_000).try_for_each(|_| body.write_all(&[b'x'; 4096])))
        })
        .post("/echo", |request: &mut Request<'_>| {
            request.read_body().map(|body| Response::bytes("text/plain", body))
        });
    let settings = Settings { workers: Some(1), handle_signals: false, ..settings };
    let server = Server::bind("127.0.0.1:0").unwrap().settings(settings);
    println!("\naddress {}", server.local_addr().unwrap());
    let handle = server.handle();
    let served = thread::spawn(move || server.serve(app));
    for _ in std::io::stdin().lines() {
        println!("cpu {}", sys::cpu_time().as_micros());
    }
    handle.shutdown();
    served.join().unwrap().unwrap();
}

/// In the parent: the server.
struct Served {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    address: SocketAddr,
}

impl Served {
    fn new(mut child: Child) -> Served {
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let address = value(&mut output, "address ").parse().unwrap();
        Served { child, output, address }
    }

    fn cpu_time(&mut self) -> Duration {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        Duration::from_micros(value(&mut self.output, "cpu ").parse().unwrap())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// A client that has sent a request.
    fn asking(&self) -> TcpStream {
        let mut stream = self.connect();
        ask(&mut stream);
        stream
    }

    /// Ends the server, which must do so in order; what it said on the way.
    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(child::RETURNED), "{said}");
        said
    }
}

/// What follows `key` on the next line that begins with it.
fn value(output: &mut impl BufRead, key: &str) -> String {
    output
        .lines()
        .find_map(|line| Some(line.unwrap().strip_prefix(key)?.to_owned()))
        .expect("the child lives")
}

fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
}

/// What a client came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Served,
    ToldToComeAgain,
}

/// Reads the answer, and the end where it announces one. A reset is neither.
fn outcome(stream: &mut TcpStream) -> Outcome {
    let mut answer = Vec::new();
    let mut room = [0; 4096];
    while !answer.ends_with(b"hello") {
        match stream.read(&mut room).unwrap() {
            0 => {
                let text = String::from_utf8(answer).unwrap();
                assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("Retry-After: "), "{text:?}");
                return Outcome::ToldToComeAgain;
            }
            count => answer.extend_from_slice(&room[..count]),
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    Outcome::Served
}

/// Waits until a new client is served.
fn until_served(served: &Served) -> TcpStream {
    let start = Instant::now();
    loop {
        let mut stream = served.asking();
        if outcome(&mut stream) == Outcome::Served {
            return stream;
        }
        assert!(start.elapsed() < DEADLINE, "nobody is served any more");
    }
}

/// Lasting limits: what happens here is not their doing.
fn patient(limits: Limits) -> Settings {
    let hour = Duration::from_secs(3600);
    Settings {
        limits,
        time_limits: TimeLimits { head: hour, keep_alive_idle: hour, ..TimeLimits::default() },
        ..Settings::default()
    }
}

#[test]
fn a_thousand_clients_of_a_server_with_a_hundred_descriptors_are_all_answered() {
    deadline_within(Duration::from_secs(60), || {
        sys::raise_descriptors(1100);
        let mut served =
            Served::new(child::start(|| serve_for_parent(patient(Limits::default()), DESCRIPTORS)));
        let mut clients: Vec<TcpStream> = (0..1000).map(|_| served.asking()).collect();
        let outcomes: Vec<Outcome> = clients.iter_mut().map(outcome).collect();
        let inside = outcomes.iter().filter(|&&outcome| outcome == Outcome::Served).count();
        assert!((DESCRIPTORS / 2..DESCRIPTORS).contains(&inside), "{inside} were served");

        // Those who are inside notice nothing, and that others come and go costs no more than that.
        let before = served.cpu_time();
        for (client, _) in
            clients.iter_mut().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::Served).take(20)
        {
            ask(client);
            assert_eq!(outcome(client), Outcome::Served);
            assert_eq!(outcome(&mut served.asking()), Outcome::ToldToComeAgain);
        }
        let spent = served.cpu_time() - before;
        assert!(spent < Duration::from_millis(400), "{spent:?} for 20 requests and 20 refusals");

        // Nothing is left of it.
        drop(clients);
        drop(until_served(&served));
        (0..50).for_each(|_| drop(until_served(&served)));
        let said = served.end();
        assert_eq!(said.matches("panicked").count(), 0, "{said}");
    });
}

#[test]
fn clients_that_wait_for_a_descriptor_cost_nothing_and_are_served_when_one_is_free() {
    deadline_within(Duration::from_secs(60), || {
        let settings = patient(Limits { overload: Overload::Wait, ..Limits::default() });
        let mut served = Served::new(child::start(|| serve_for_parent(settings, DESCRIPTORS)));
        let mut clients: Vec<TcpStream> = (0..2 * DESCRIPTORS).map(|_| served.asking()).collect();
        // They are served in the order of their coming, until the descriptors are used up.
        let mut inside = 0;
        while clients[inside].set_read_timeout(Some(Duration::from_millis(500))).is_ok() {
            match clients[inside].peek(&mut [0]) {
                Ok(_) => assert_eq!(outcome(&mut clients[inside]), Outcome::Served),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
            inside += 1;
        }
        assert!((DESCRIPTORS / 2..DESCRIPTORS).contains(&inside), "{inside} were served");

        let before = served.cpu_time();
        thread::sleep(Duration::from_secs(1));
        let spent = served.cpu_time() - before;
        assert!(spent < Duration::from_millis(100), "{spent:?} of CPU time in a second of waiting");

        // By now the pauses have reached their longest. The end of a connection ends them.
        clients.iter_mut().for_each(|client| client.set_read_timeout(Some(DEADLINE)).unwrap());
        let mut waiting = clients.split_off(inside);
        let mut waits: Vec<Duration> = (0..5)
            .map(|_| {
                thread::sleep(Duration::from_millis(400));
                let start = Instant::now();
                drop(clients.pop());
                let mut next = waiting.remove(0);
                next.set_read_timeout(Some(DEADLINE)).unwrap();
                assert_eq!(outcome(&mut next), Outcome::Served);
                clients.insert(0, next);
                start.elapsed()
            })
            .collect();
        waits.sort();
        assert!(waits[2] < Duration::from_millis(40), "not woken by the end of a connection: {waits:?}");

        // All the others, one for one.
        drop(clients);
        for mut client in waiting {
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            assert_eq!(outcome(&mut client), Outcome::Served);
        }
        served.end();
    });
}

#[test]
fn no_descriptor_is_lost_to_clients_that_end_in_unusual_ways() {
    deadline_within(Duration::from_secs(60), || {
        let settings = patient(Limits::default());
        let time_limits = TimeLimits { write: Duration::from_millis(50), ..settings.time_limits };
        let served =
            Served::new(child::start(|| serve_for_parent(Settings { time_limits, ..settings }, DESCRIPTORS)));
        let descriptors = || -> usize {
            let mut stream = served.connect();
            stream.write_all(b"GET /descriptors HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer.rsplit("\r\n").next().unwrap().parse().unwrap()
        };
        // Whatever is made by the first of each is there.
        until_served(&served);
        let begins: [&[u8]; 8] = [
            b"",
            b"GET / HT",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha",
            b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ];
        for begin in begins {
            for _ in 0..40 {
                // Closed, reset, half-closed and then closed.
                drop({
                    let mut stream = served.connect();
                    stream.write_all(begin).unwrap();
                    stream
                });
                let mut stream = served.connect();
                stream.write_all(begin).unwrap();
                sys::reset_on_close(&stream);
                drop(stream);
                let mut stream = served.connect();
                stream.write_all(begin).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            }
        }
        // Ninety more than ever fit: those of before are not among them.
        let start = Instant::now();
        while descriptors() > 20 {
            assert!(start.elapsed() < DEADLINE, "{} descriptors are left", descriptors());
            thread::sleep(Duration::from_millis(5));
        }
        served.end();
    });
}

#[test]
fn who_finds_no_thread_left_is_told_and_counted() {
    deadline_within(Duration::from_secs(60), || {
        child::succeeds(|| {
            // The runtime makes no more threads than it has found room for, although there is more later.
            sys::limit_address_space(sys::address_space() + (256 << 20));
            let runtime = Runtime::builder().capabilities(1).stack_size(1).build().unwrap();
            sys::limit_address_space(usize::MAX);
            let handle = runtime.handle();
            let metrics = Metrics::new();
            let settings = Settings {
                handle_signals: false,
                // The server's own stacks are larger than those that fill the runtime.
                stack_bytes: Some(64 << 10),
                metrics: Some(metrics.clone()),
                ..Settings::default()
            };
            let server = Server::bind("127.0.0.1:0").unwrap().settings(settings);
            let (address, server_handle) = (server.local_addr().unwrap(), server.handle());
            let served = thread::spawn(move || {
                runtime.run(move || server.serve(|_: &mut Request<'_>| "hello")).unwrap();
            });
            let asking = || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                ask(&mut stream);
                stream
            };
            // The server runs before there is no thread for it.
            let mut inside = vec![asking()];
            assert_eq!(outcome(&mut inside[0]), Outcome::Served);
            let mut threads = Vec::new();
            while let Ok(thread) =
                handle.spawn_with(Builder::new().stack_size(1), || bast::sleep(Duration::from_secs(3600)))
            {
                threads.push(thread);
            }
            // A few find a place that their OS thread has kept.
            loop {
                let mut stream = asking();
                if outcome(&mut stream) == Outcome::ToldToComeAgain {
                    break;
                }
                inside.push(stream);
                assert!(inside.len() < 300, "there is always a thread for one more");
            }
            assert_eq!(outcome(&mut asking()), Outcome::ToldToComeAgain);
            for stream in &mut inside {
                ask(stream);
                assert_eq!(outcome(stream), Outcome::Served, "these notice nothing");
            }
            let page = metrics.text();
            for line in [
                "http_connections{state=\"queued\"} 0".to_owned(),
                format!("http_connections_accepted_total {}", inside.len() + 2),
                "http_connections_refused_total{reason=\"thread\"} 2".to_owned(),
            ] {
                assert!(page.lines().any(|found| found == line), "{line} in {page}");
            }
            threads.iter().for_each(|thread| thread.thread().kill());
            threads.into_iter().for_each(|thread| drop(thread.join()));
            assert_eq!(outcome(&mut asking()), Outcome::Served);
            drop(inside);
            server_handle.shutdown();
            served.join().unwrap();
        });
    });
}

#[test]
fn a_drain_that_gets_no_descriptor_answers_what_is_under_way_all_the_same() {
    static OPEN: AtomicBool = AtomicBool::new(false);
    deadline_within(Duration::from_secs(60), || {
        child::succeeds(|| {
            let (arrived, arrival) = mpsc::channel();
            let arrived = Mutex::new(arrived);
            let settings = Settings { workers: Some(1), handle_signals: false, ..Settings::default() };
            let server = Server::bind("127.0.0.1:0").unwrap().settings(settings);
            let (address, handle) = (server.local_addr().unwrap(), server.handle());
            let served = thread::spawn(move || {
                server.serve(move |_: &mut Request<'_>| {
                    arrived.lock().unwrap().send(()).unwrap();
                    while !OPEN.load(Ordering::SeqCst) {
                        bast::sleep(Duration::from_millis(1));
                    }
                    "hello"
                })
            });
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            ask(&mut client);
            arrival.recv_timeout(DEADLINE).unwrap();
            // Whatever is closed from now on, nothing can be opened.
            sys::limit_descriptors(3);
            handle.shutdown();
            OPEN.store(true, Ordering::SeqCst);
            assert_eq!(outcome(&mut client), Outcome::Served);
            drop(client);
            served.join().unwrap().unwrap();
        });
    });
}

/// How long the requests of an honest client take meanwhile, sorted.
fn times_of_honest_client(served: &Served, meanwhile: impl FnOnce()) -> Vec<Duration> {
    let mut client = served.connect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let honest = scope.spawn(|| {
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                ask(&mut client);
                assert_eq!(outcome(&mut client), Outcome::Served);
                times.push(start.elapsed());
                thread::sleep(Duration::from_millis(1));
            }
            times.sort();
            times
        });
        meanwhile();
        over.store(true, Ordering::Relaxed);
        honest.join().unwrap()
    })
}

#[test]
fn a_thousand_heads_that_drip_are_cut_off_and_an_honest_client_notices_nothing() {
    const CLIENTS: usize = 1000;
    const LIMIT: Duration = Duration::from_secs(1);
    deadline_within(Duration::from_secs(60), || {
        sys::raise_descriptors(CLIENTS + 100);
        let settings = patient(Limits::default());
        let time_limits = TimeLimits { head: LIMIT, ..settings.time_limits };
        let served = Served::new(child::start(|| {
            serve_for_parent(Settings { time_limits, ..settings }, CLIENTS + 100);
        }));
        let pause = || thread::sleep(LIMIT / 2);
        let before = times_of_honest_client(&served, pause);
        let mut dripping: Vec<Option<TcpStream>> = (0..CLIENTS).map(|_| Some(served.connect())).collect();
        let during = times_of_honest_client(&served, || {
            let start = Instant::now();
            let mut first_gone = None;
            // Each has its turn twice in the limit.
            for turn in (0..50).cycle() {
                for slot in dripping.iter_mut().skip(turn).step_by(50) {
                    let Some(stream) = slot else { continue };
                    stream.set_nonblocking(true).unwrap();
                    // Who was cut off reads its answer, a 408, and the end.
                    if stream.write(b"G").is_err() || stream.peek(&mut [0]).is_ok() {
                        first_gone.get_or_insert(start.elapsed());
                        *slot = None;
                    }
                }
                let left = dripping.iter().flatten().count();
                if left == 0 {
                    break;
                }
                assert!(start.elapsed() < LIMIT * 10, "{left} are still there");
                thread::sleep(LIMIT / 100);
            }
            let first_gone = first_gone.expect("there were some");
            assert!(first_gone >= LIMIT / 2, "cut off before the limit, after {first_gone:?}");
        });
        let after = times_of_honest_client(&served, pause);
        let percentile = |times: &[Duration], percent: usize| times[times.len() * percent / 100];
        let table = [&before, &during, &after].map(|times| (percentile(times, 50), percentile(times, 99)));
        println!("p50 and p99 of an honest client before, during and after: {table:?}");
        assert!(table[1].0 < table[0].0 * 4 + Duration::from_millis(5), "{table:?}");
        served.end();
    });
}

/// Tells the parent what the log says of successors.
struct OfSuccessors;

impl log::Log for OfSuccessors {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        if text.contains("successor") {
            println!("\nsaid {text}");
        }
    }

    fn flush(&self) {}
}

/// Whoever has no descriptor left may be waiting for just this: a version that does not leak them.
#[test]
fn a_server_without_descriptors_hands_over_when_it_has_one_again() {
    deadline_within(Duration::from_secs(60), || {
        let path = std::env::temp_dir().join(format!("bast-short-{}", std::process::id()));
        let mut served = Served::new(child::start(|| {
            log::set_logger(&OfSuccessors).unwrap();
            log::set_max_level(log::LevelFilter::Error);
            sys::limit_descriptors(DESCRIPTORS);
            let path =
                std::env::temp_dir().join(format!("bast-short-{}", std::os::unix::process::parent_id()));
            let settings = Settings { workers: Some(1), handle_signals: false, ..patient(Limits::default()) };
            let server = Server::bind("127.0.0.1:0").unwrap().settings(settings).hand_over_at(path);
            println!("\naddress {}", server.local_addr().unwrap());
            server.serve(|_: &mut Request<'_>| "hello").unwrap();
        }));
        // Two of them at least are told that there is no room.
        let clients: Vec<TcpStream> = (0..2 * DESCRIPTORS).map(|_| served.asking()).collect();
        assert_eq!(outcome(&mut served.asking()), Outcome::ToldToComeAgain);
        let taking = thread::spawn({
            let path = path.clone();
            move || Server::take_over(path)
        });
        let said = value(&mut served.output, "said ");
        assert!(said.starts_with("no successor can come until"), "{said}");
        drop(clients);
        let server = taking.join().unwrap().unwrap().expect("the server before waits");
        let server = server.settings(Settings { handle_signals: false, ..Settings::default() });
        let handle = server.handle();
        let after = thread::spawn(move || server.serve(|_: &mut Request<'_>| "hello"));
        let said = served.end();
        assert_eq!(said.matches("panicked").count(), 0, "{said}");
        handle.shutdown();
        after.join().unwrap().unwrap();
        let _ = std::fs::remove_file(path);
    });
}

/// What the server keeps of connections that have ended is bounded. The number is what a slow machine can do in some
/// seconds; with ten times as many it holds as well.
#[test]
fn twenty_thousand_short_connections_leave_nothing_behind() {
    const THREADS: usize = 4;
    const CONNECTIONS: usize = 20_000;
    deadline_within(Duration::from_secs(120), || {
        child::succeeds(|| {
            let runtime = bast::Runtime::builder().capabilities(2).build().unwrap();
            let handle = runtime.handle();
            let server = Server::bind("127.0.0.1:0")
                .unwrap()
                .settings(Settings { handle_signals: false, ..Settings::default() });
            let (address, server_handle) = (server.local_addr().unwrap(), server.handle());
            let served = thread::spawn(move || {
                runtime.run(move || server.serve(|_: &mut Request<'_>| "hello")).unwrap();
            });
            let run = |count: usize| {
                let clients: Vec<_> = (0..THREADS)
                    .map(|_| {
                        thread::spawn(move || {
                            for _ in 0..count / THREADS {
                                let mut stream = TcpStream::connect(address).unwrap();
                                ask(&mut stream);
                                assert_eq!(outcome(&mut stream), Outcome::Served);
                                // No TIME_WAIT: there are fewer ports than connections.
                                sys::reset_on_close(&stream);
                            }
                        })
                    })
                    .collect();
                clients.into_iter().for_each(|client| client.join().unwrap());
                // What is left are the server's own threads: the connections' labels begin like this.
                let start = Instant::now();
                let connections = || {
                    handle
                        .threads()
                        .iter()
                        .filter(|thread| thread.label.as_ref().is_some_and(|label| label.starts_with("conn")))
                        .count()
                };
                while connections() > 0 {
                    assert!(start.elapsed() < DEADLINE, "{} connections are left", connections());
                    thread::sleep(Duration::from_millis(5));
                }
                (sys::resident(), sys::open_descriptors())
            };
            let (memory, descriptors) = run(CONNECTIONS / 4);
            let (memory_after, descriptors_after) = run(CONNECTIONS);
            assert_eq!(descriptors_after, descriptors);
            let grown = memory_after.saturating_sub(memory);
            assert!(grown < 1 << 20, "{grown} bytes more: 50 and more of each connection");
            server_handle.shutdown();
            served.join().unwrap();
        });
    });
}
