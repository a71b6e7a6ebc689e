//! The soak: a server under good and bad clients for minutes, and what it holds when they are gone.
//!
//! The base is taken after a short stretch of the same load, when the pools have the size that it needs. At the end
//! green threads and descriptors are to be as many as then, and the memory is not to have grown by more than the noise of
//! an allocator.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bast::Runtime;
use bast::net::TcpStream;
use bast_examples::demo::{self, Burns};
use bast_server::{Limits, Server, Settings, TimeLimits};

use crate::args::positive;
use crate::memory::Footprint;
use crate::mode::MODES;
use crate::program::{self, Common};
use crate::report::{self, Figure};
use crate::servers::{Running, ServerUnderTest, Setting};
use crate::url::Target;
use crate::{machine, probe, sys};

/// The server's time limits but that on idle connections: bad clients of all kinds are cut many times within a run, and a
/// good one may be kept from its CPU for a moment.
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// How long the base is warmed up for.
const WARM_UP: Duration = Duration::from_secs(60);
/// By then whatever the clients left behind is gone: twice the limit, lingering, and the cache of files.
const SETTLED: Duration = Duration::from_secs(12);
/// A client that waits longer for an answer reports a failure.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is freed goes back to the kernel at once: glibc would keep up to twice its largest freed block (mallopt(3), M_TRIM_THRESHOLD),
/// here some 80 MiB that come and go with the bodies of seven megabytes, and a leak would hide among them.
const UNDER: [&str; 2] = ["env", "MALLOC_TRIM_THRESHOLD_=131072"];
/// What may be allocated more than at the base: the allocator's own grain.
const GROWTH_BYTES_MAX: u64 = 4 << 20;

const ROLE: &str = "bast";

/// What `--help` prints.
pub const HELP: &str = "\
Does a server hold anything when good and bad clients are gone?

cargo bench --bench soak -- OPTIONS         (paths are relative to benches/)

  --seconds N          how long the load lasts (600)
  --clients N          clients of each kind at a time (8)
  --workers N          cores of the server (2)
  --smoke              three seconds with two of each, which say nothing of memory; exit 1 if anything is left
  --json FILE          the figures as JSON too
";

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    common: Common,
    /// How long the load lasts.
    seconds: u64,
    /// Clients of each kind at a time.
    clients: usize,
    /// Cores of the server.
    workers: usize,
}

impl Options {
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let (mut seconds, mut clients, mut workers) = (600, 8, 2);
        let common = Common::parse(args, |option, value| {
            match option {
                "--seconds" => seconds = positive(option, &value()?)? as u64,
                "--clients" => clients = positive(option, &value()?)?,
                "--workers" => workers = positive(option, &value()?)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if common.smoke {
            (seconds, clients) = (3, 2);
        }
        Ok(Options { common, seconds, clients, workers })
    }
}

/// Runs the bench, or a role of it, as the arguments behind the program's name ask for. True if all was well.
///
/// # Errors
/// A wrong argument; within, those of the measurement.
pub fn run(args: impl IntoIterator<Item = String>) -> Result<io::Result<bool>, String> {
    let options = Options::parse(args)?;
    Ok(options.common.run(HELP, |role| serve(role, &options), || measure(&options)))
}

/// Is the server, in this process.
fn serve(role: &str, options: &Options) -> io::Result<()> {
    if role != ROLE {
        return Err(program::no_such_role(role));
    }
    sys::die_with_parent()?;
    let settings = Settings {
        workers: Some(options.workers),
        time_limits: TimeLimits {
            head: TIME_LIMIT,
            body: TIME_LIMIT,
            write: TIME_LIMIT,
            linger: TIME_LIMIT,
            ..TimeLimits::default()
        },
        // All clients are of one address here.
        limits: Limits { connections_per_address_max: usize::MAX, ..Limits::default() },
        ..Settings::default()
    };
    Server::bind(options.common.listen)?.settings(settings).serve(demo::app(None, Burns::KeepTheCore)?)
}

/// What a server holds at a moment.
#[derive(Clone, Copy, Debug)]
struct Held {
    green_threads: u64,
    descriptors: u64,
    memory: Footprint,
}

impl Held {
    fn by(server: &Running) -> io::Result<Held> {
        // First, while there is no connection: that of the request below may or may not be gone when its answer is here.
        let descriptors = fs::read_dir(format!("/proc/{}/fd", server.pid()))?.count() as u64;
        let memory = Footprint::of(server.pid())?;
        // Of the threads one is that of this request's connection.
        let list = probe::fetch(&Target::new(server.addr, "/threads"), true)?;
        let green_threads = list.body.windows(5).filter(|window| window == b"\"id\":").count() as u64;
        Ok(Held { green_threads, descriptors, memory })
    }
}

/// Measures and prints. True if nothing is left, no good client was failed, and each kind of client had its turn.
///
/// # Errors
/// The server's, the clients', and that of writing the JSON.
fn measure(options: &Options) -> io::Result<bool> {
    let machine = machine::announce();
    println!("\nsoak: what is left after {} s of good and bad clients?", options.seconds);
    let setting = Setting {
        cpus: &sys::affinity()?,
        workers: options.workers,
        root: &std::env::temp_dir(),
        mode: &MODES[0],
        like: None,
        under: &UNDER.map(str::to_owned),
    };
    let server = ServerUnderTest::role(ROLE, |_| Ok(())).start(&setting)?;
    let warm_up = if options.common.smoke { Duration::from_secs(1) } else { WARM_UP };
    load(server.addr, options.clients, warm_up)?;
    thread::sleep(SETTLED);
    let base = Held::by(&server)?;
    let turns = load(server.addr, options.clients, Duration::from_secs(options.seconds))?;
    thread::sleep(SETTLED);
    let end = Held::by(&server)?;
    server.end()?;

    let figure = |name: String, value: u64, unit| Figure { name, value: value as f64, unit, spread: None };
    let mut figures = vec![
        figure("soak.threads_base".into(), base.green_threads, "threads"),
        figure("soak.threads_end".into(), end.green_threads, "threads"),
        figure("soak.descriptors_base".into(), base.descriptors, "descriptors"),
        figure("soak.descriptors_end".into(), end.descriptors, "descriptors"),
        figure("soak.memory_base".into(), base.memory.total_bytes(), "bytes"),
        figure("soak.memory_end".into(), end.memory.total_bytes(), "bytes"),
    ];
    figures.extend(KINDS.iter().zip(turns.iter()).map(|(kind, turns)| {
        let turns = turns.load(Ordering::Relaxed);
        figure(format!("soak.{}", kind.name), turns, "turns")
    }));
    for figure in &figures {
        println!("{figure}");
    }
    if let Some(path) = &options.common.json {
        fs::write(path, report::to_json(&machine, &figures, &[]))?;
    }
    let grown = end.memory.total_bytes().saturating_sub(base.memory.total_bytes());
    Ok(end.green_threads <= base.green_threads
        && end.descriptors <= base.descriptors
        && (options.common.smoke || grown <= GROWTH_BYTES_MAX)
        && turns.iter().all(|turns| turns.load(Ordering::Relaxed) > 0))
}

/// A kind of client. A turn is one connection from its beginning to its end.
struct Kind {
    name: &'static str,
    turn: fn(TcpStream) -> io::Result<()>,
    /// Whether the server may not fail it.
    is_good: bool,
}

const fn good(name: &'static str, turn: fn(TcpStream) -> io::Result<()>) -> Kind {
    Kind { name, turn, is_good: true }
}

const fn bad(name: &'static str, turn: fn(TcpStream) -> io::Result<()>) -> Kind {
    Kind { name, turn, is_good: false }
}

const KINDS: [Kind; 13] = [
    good("keep_alive", |stream| ask(stream, GET, 100)),
    good("one_request", |stream| ask(stream, GET, 1)),
    good("pipelined", |mut stream| {
        stream.write_all(&GET.repeat(16))?;
        (0..16).try_for_each(|_| answer(&mut stream))
    }),
    good("file", |stream| ask(stream, b"GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n", 10)),
    good("echo", |mut stream| {
        let body = [b'e'; 100_000];
        stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")?;
        stream.write_all(&body)?;
        answer(&mut stream)
    }),
    good("sleeping_handler", |stream| ask(stream, b"GET /sleep?ms=50 HTTP/1.1\r\nHost: a\r\n\r\n", 3)),
    bad("reset", |mut stream| {
        // Closed with an unread answer: a RST goes out.
        stream.write_all(&GET.repeat(8))?;
        stream.wait_readable()
    }),
    bad("gone_while_handled", |mut stream| {
        stream.write_all(b"GET /sleep?ms=30 HTTP/1.1\r\nHost: a\r\n\r\n")?;
        // Else it would be gone before it is handled, and thousands more each second.
        bast::sleep(Duration::from_millis(10));
        Ok(())
    }),
    bad("garbage", |mut stream| {
        stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP\r\n\r\n")?;
        until_closed(&mut stream)
    }),
    bad("dripped_head", |mut stream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")?;
        drip(&mut stream)
    }),
    bad("dripped_body", |mut stream| {
        stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")?;
        drip(&mut stream)
    }),
    bad("never_reading", |mut stream| {
        let request =
            [&b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 7000000\r\n\r\n"[..], &[b'x'; 7_000_000]];
        stream.write_all(&request.concat())?;
        bast::sleep(TIME_LIMIT * 3);
        until_closed(&mut stream)
    }),
    bad("silent_half_closed", |mut stream| {
        stream.write_all(b"GET /plain")?;
        stream.shutdown(Shutdown::Write)?;
        until_closed(&mut stream)
    }),
];

const GET: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";

/// Runs so many clients of each kind for this time: how many turns each kind had.
fn load(address: SocketAddr, clients: usize, time: Duration) -> io::Result<Arc<[AtomicU64]>> {
    let turns: Arc<[AtomicU64]> = KINDS.iter().map(|_| AtomicU64::new(0)).collect();
    let over = Arc::new(AtomicBool::new(false));
    let counted = Arc::clone(&turns);
    Runtime::builder().capabilities(1).build()?.run(move || {
        let running: Vec<_> = KINDS
            .iter()
            .enumerate()
            .flat_map(|kind| std::iter::repeat_n(kind, clients))
            .map(|(index, kind)| {
                let (turns, over) = (Arc::clone(&counted), Arc::clone(&over));
                bast::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let done = TcpStream::connect(address).and_then(|stream| {
                            stream.set_read_timeout(Some(PATIENCE))?;
                            (kind.turn)(stream)
                        });
                        match done {
                            Err(error) if kind.is_good => {
                                return Err(io::Error::new(error.kind(), format!("{}: {error}", kind.name)));
                            }
                            _ => turns[index].fetch_add(1, Ordering::Relaxed),
                        };
                    }
                    Ok(())
                })
            })
            .collect();
        let begun = Instant::now();
        bast::sleep(time.saturating_sub(begun.elapsed()));
        over.store(true, Ordering::Relaxed);
        running.into_iter().try_for_each(|client| client.join().map_err(io::Error::other)?)
    })?;
    Ok(turns)
}

fn ask(mut stream: TcpStream, request: &[u8], times: usize) -> io::Result<()> {
    for _ in 0..times {
        stream.write_all(request)?;
        answer(&mut stream)?;
    }
    Ok(())
}

/// Reads one answer with a length, which has to be a 200.
fn answer(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    match length {
        Some(length) if head.starts_with("HTTP/1.1 200 ") => {
            let read = io::copy(&mut stream.take(length), &mut io::sink())?;
            if read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, head.into_owned())),
    }
}

/// A byte now and then until the server has enough of it.
fn drip(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(TIME_LIMIT / 4))?;
    loop {
        match stream.read(&mut [0; 512]) {
            Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {}
            _ => return Ok(()),
        }
        stream.write_all(b"x")?;
    }
}

fn until_closed(stream: &mut TcpStream) -> io::Result<()> {
    io::copy(stream, &mut io::sink()).map(drop)
}
