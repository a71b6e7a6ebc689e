//! Connections that are killed at any moment: whatever they are at, nothing is left of them, in the counts and in the limits.
#![forbid(unsafe_code)]

mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bast::Thread;
use bast_server::{Error, Hooks, Limits, Metrics, Request, Response, Router, Settings, TimeLimits};
use support::{DEADLINE, settings, start};

const CLIENTS: u64 = 4;
const CONNECTIONS: u64 = 250;

/// More than the clients have at a time, few enough to be used up at the end.
const CONNECTIONS_MAX: usize = 16;

/// Nobody is to be killed any more.
static OVER: AtomicBool = AtomicBool::new(false);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Numbers that look random (xorshift64, Marsaglia 2003).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn app() -> Router {
    Router::new()
        .get("/", |_: &mut Request<'_>| "hello")
        .post("/", |request: &mut Request<'_>| -> Result<Response, Error> {
            Ok(Response::bytes("text/plain", request.read_body()?))
        })
        .get("/large", |_: &mut Request<'_>| {
            Response::stream("text/plain", |body| (0..100).try_for_each(|_| body.write_all(&[b'x'; 40_000])))
        })
        .get("/wait", |_: &mut Request<'_>| {
            bast::sleep(Duration::from_millis(2));
            "waited"
        })
        .get("/echo", |_: &mut Request<'_>| {
            Response::upgrade("echo", |mut stream| {
                let mut piece = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut piece) {
                    if stream.write_all(&piece[..count]).is_err() {
                        break;
                    }
                }
            })
        })
}

/// What a client does until it is answered or cut off, which is all the same here.
fn visit(address: SocketAddr, chance: &mut Chance) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let pause = || thread::sleep(Duration::from_micros(300));
    let mut room = [0; 4096];
    match chance.below(8) {
        0 => {
            for _ in 0..3 {
                stream.write_all(GET.as_bytes())?;
                stream.read_exact(&mut room[..100])?;
            }
        }
        1 => {
            for part in [
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                "5\r\nhel",
                "lo\r\n",
                "0\r\n\r\n",
            ] {
                stream.write_all(part.as_bytes())?;
                pause();
            }
        }
        2 => stream.write_all(GET.repeat(30).as_bytes())?,
        3 => {
            stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")?;
            pause();
        }
        4 => stream.write_all(b"nonsense\r\n\r\n")?,
        5 => stream.write_all(b"GET /wait HTTP/1.0\r\n\r\n")?,
        6 => {
            let head = "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello";
            stream.write_all(head.as_bytes())?;
            pause();
        }
        _ => {
            stream.write_all(b"GET / HT")?;
            pause();
            return Ok(());
        }
    }
    stream.read(&mut room).map(drop)
}

/// The values of the series of this name.
fn values(page: &str, name: &str) -> Vec<u64> {
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines
        .map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number"))
        .collect()
}

/// One test at a time: descriptors are the process's.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn connections_that_are_killed_at_any_moment_are_all_accounted_for() {
    let _turn = turn();
    let metrics = Metrics::new();
    let (opened, threads) = mpsc::channel();
    let opened = Mutex::new(opened);
    let hooks = Hooks::new().on_open(move |_| {
        let opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = opened.send(bast::current());
        true
    });
    let limits = Limits { connections_per_address_max: CONNECTIONS_MAX, ..Limits::default() };
    let time_limits = TimeLimits { linger: Duration::from_millis(100), ..TimeLimits::default() };
    let settings = Settings { hooks, limits, time_limits, metrics: Some(metrics.clone()), ..settings() };
    let server = start(settings, app());
    let address = server.address;
    let killer = thread::spawn(move || {
        let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
        // The latest: the others are over.
        while let Some(thread) = threads.recv().ok().map(|next| threads.try_iter().last().unwrap_or(next))
            && !OVER.load(Ordering::SeqCst)
        {
            thread::sleep(Duration::from_micros(chance.below(800)));
            thread.kill();
        }
    });
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|seed| {
            thread::spawn(move || {
                let mut chance = Chance(seed);
                for _ in 0..CONNECTIONS {
                    let _ = visit(address, &mut chance);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("a client is cut off at the worst"));
    let begun = Instant::now();
    let accepted = loop {
        let page = metrics.text();
        let [accepted] = values(&page, "http_connections_accepted_total ")[..] else { panic!("{page}") };
        let over: u64 = ["http_connections_closed_total{", "http_connections_refused_total{"]
            .iter()
            .flat_map(|name| values(&page, name))
            .sum();
        let open: u64 = values(&page, "http_connections{").iter().sum();
        if accepted == over && open == 0 {
            break accepted;
        }
        assert!(begun.elapsed() < DEADLINE, "{accepted} accepted, {over} over, {open} open:\n{page}");
        thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(accepted, CLIENTS * CONNECTIONS);
    assert!(
        values(&metrics.text(), "http_connections_closed_total{cause=\"killed\"}") > vec![10],
        "few were killed"
    );
    OVER.store(true, Ordering::SeqCst);
    // As many as may be are let in again: none that has gone is still counted.
    let mut inside = Vec::new();
    while inside.len() < CONNECTIONS_MAX {
        let mut client = server.connect();
        if client.get("/").code == 200 {
            inside.push(client);
        }
        assert!(begun.elapsed() < 2 * DEADLINE, "{} are let in", inside.len());
    }
    assert_eq!(server.connect().get("/").code, 503, "and no more than that");
    drop(inside);
    drop(server);
    killer.join().expect("no panic");
}

/// A directory with a file that is larger than what two sockets hold, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let path = std::env::temp_dir().join(format!("bast-kills-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        let file = fs::File::create(path.join("large")).expect("a file");
        file.set_len(FILE_BYTES as u64).expect("a file without blocks");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const FILE_BYTES: usize = 16 << 20;
const KILLS: usize = 10_000;

/// How many descriptors the process has open; other tests of this program do not run meanwhile.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("there is /proc").count()
}

#[test]
fn ten_thousand_kills_in_the_middle_of_a_file_leave_no_descriptor() {
    let _turn = turn();
    let scratch = Scratch::new();
    let threads: Arc<Mutex<HashMap<SocketAddr, Thread>>> = Arc::default();
    let hooks = Hooks::new().on_open({
        let threads = Arc::clone(&threads);
        move |peer| {
            // An address comes again with time.
            threads.lock().expect("no panic").insert(peer, bast::current());
            true
        }
    });
    let app = Router::new().get("/", |_: &mut Request<'_>| "hello").files("/files", &scratch.0);
    let server = start(Settings { hooks, ..settings() }, app);
    assert_eq!(server.connect().get("/").body, "hello");
    let before = descriptors();
    let address = server.address;
    let clients: Vec<_> = (0..CLIENTS as usize)
        .map(|_| {
            let threads = Arc::clone(&threads);
            thread::spawn(move || {
                for _ in 0..KILLS / CLIENTS as usize {
                    let mut stream = TcpStream::connect(address).expect("connect");
                    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
                    stream.write_all(b"GET /files/large HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
                    let mut room = [0; 12];
                    stream.read_exact(&mut room).expect("the file is on its way");
                    assert_eq!(&room, b"HTTP/1.1 200");
                    let own = stream.local_addr().expect("an address");
                    let thread = threads.lock().expect("no panic").remove(&own).expect("it is let in");
                    // It waits for this client, who reads nothing.
                    thread.kill();
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("each is on its way when it is killed"));
    let begun = Instant::now();
    while descriptors() > before {
        assert!(begun.elapsed() < DEADLINE, "{} descriptors, and {before} before", descriptors());
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.connect().get("/").body, "hello");
}
