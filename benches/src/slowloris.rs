//! The slowloris bench: honest requests before, beside and after thousands of clients that drip their heads.
//!
//! Honest clients ask at fixed instants, whether the last answer was late or not, and a latency counts from the instant
//! that was meant: a server that stalls shows in all requests that it delays.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bast::net::TcpStream;
use bast::{JoinHandle, Runtime};
use bast_examples::demo::{self, Burns};
use bast_server::{Limits, Server, Settings, TimeLimits};
use hdrhistogram::Histogram;

use crate::args::positive;
use crate::mode::MODES;
use crate::program::{self, Common};
use crate::report::{self, Figure};
use crate::servers::{ServerUnderTest, Setting};
use crate::url::Target;
use crate::{machine, probe, sys};

/// The server's limit on heads: what drips is to be gone after twice that.
const HEAD_LIMIT: Duration = Duration::from_secs(2);
/// Between two bytes of a dripping client.
const DRIP: Duration = Duration::from_millis(500);
/// Between two requests of an honest client.
const PERIOD: Duration = Duration::from_millis(10);
/// Longest latency that is told from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(60);

const ROLE: &str = "bast";

/// What `--help` prints.
pub const HELP: &str = "\
How late are honest requests beside clients that send their heads a byte at a time?

cargo bench --bench slowloris -- OPTIONS    (paths are relative to benches/)

  --rounds N           rounds (3); the medians are printed
  --drips N            dripping connections (5000)
  --honest N           honest connections (32), each with a request every 10 ms
  --seconds N          how long to measure before and after (4)
  --smoke              one short round with few of them; exit 1 if a response is wrong
  --json FILE          the figures as JSON too
";

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    common: Common,
    rounds: usize,
    /// Dripping connections.
    drips: usize,
    /// Honest connections.
    honest: usize,
    /// How long to measure before and after the attack.
    seconds: u64,
}

impl Options {
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let (mut rounds, mut drips, mut honest, mut seconds) = (3, 5000, 32, 4);
        let common = Common::parse(args, |option, value| {
            match option {
                "--rounds" => rounds = positive(option, &value()?)?,
                "--drips" => drips = positive(option, &value()?)?,
                "--honest" => honest = positive(option, &value()?)?,
                "--seconds" => seconds = positive(option, &value()?)? as u64,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if common.smoke {
            (rounds, drips, honest, seconds) = (1, 100, 4, 1);
        }
        Ok(Options { common, rounds, drips, honest, seconds })
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
        workers: Some(1),
        time_limits: TimeLimits { head: HEAD_LIMIT, ..TimeLimits::default() },
        // All clients are of one address here.
        limits: Limits { connections_per_address_max: usize::MAX, ..Limits::default() },
        ..Settings::default()
    };
    Server::bind(options.common.listen)?.settings(settings).serve(demo::app(None, Burns::KeepTheCore)?)
}

/// Measures and prints. A failed honest request, or a dripping client that is not cut, is an error.
///
/// # Errors
/// The server's, the clients', and that of writing the JSON.
fn measure(options: &Options) -> io::Result<bool> {
    let machine = machine::announce();
    println!(
        "\nslowloris: how late is /plaintext beside {} clients that drip a byte each {DRIP:?}? (head limit: {HEAD_LIMIT:?})",
        options.drips
    );
    let rounds: Vec<Round> = (0..options.rounds).map(|_| round(options)).collect::<io::Result<_>>()?;
    let each = |what: &str, unit, value: &dyn Fn(&Round) -> f64| {
        report::median(format!("slowloris.{what}"), unit, rounds.iter().map(value))
    };
    let figures = [
        each("before_p50", "us", &|round| round.before.us(0.5)),
        each("before_p99", "us", &|round| round.before.us(0.99)),
        each("opening_p50", "us", &|round| round.opening.us(0.5)),
        each("opening_p99", "us", &|round| round.opening.us(0.99)),
        each("during_p50", "us", &|round| round.during.us(0.5)),
        each("during_p99", "us", &|round| round.during.us(0.99)),
        each("after_p50", "us", &|round| round.after.us(0.5)),
        each("after_p99", "us", &|round| round.after.us(0.99)),
        each("during_to_before_p99", "ratio", &|round| round.during.us(0.99) / round.before.us(0.99)),
        each("after_to_before_p99", "ratio", &|round| round.after.us(0.99) / round.before.us(0.99)),
        each("last_cut_after", "s", &|round| round.last_cut.as_secs_f64()),
        each("requests_during", "requests", &|round| round.during.latencies_ns.len() as f64),
    ];
    for figure in &figures {
        println!("{figure}");
    }
    if let Some(path) = &options.common.json {
        fs::write(path, report::to_json(&machine, &figures as &[Figure], &[]))?;
    }
    // By the clocks of clients that give way: what they are late themselves is in it.
    if rounds.iter().any(|round| round.last_cut > HEAD_LIMIT * 2) {
        println!("warning: a dripping client heard of its end after more than twice the limit");
    }
    Ok(true)
}

/// What honest clients saw in one stretch of time.
struct Stretch {
    latencies_ns: Histogram<u64>,
}

impl Stretch {
    fn us(&self, quantile: f64) -> f64 {
        self.latencies_ns.value_at_quantile(quantile) as f64 / 1e3
    }
}

struct Round {
    before: Stretch,
    /// While the others connect, all at once.
    opening: Stretch,
    /// From then on until the last of them was cut.
    during: Stretch,
    after: Stretch,
    /// From a client's first byte to its end, for the one that lasted longest.
    last_cut: Duration,
}

fn round(options: &Options) -> io::Result<Round> {
    let cpus = sys::affinity()?;
    let (server_cpus, client_cpus) = cpus.split_at(1.min(cpus.len()));
    let client_cpus = if client_cpus.is_empty() { &cpus } else { client_cpus };
    let setting = Setting {
        cpus: server_cpus,
        workers: 1,
        root: &std::env::temp_dir(),
        mode: &MODES[0],
        like: None,
        under: &[],
    };
    let server = ServerUnderTest::role(ROLE, |_| Ok(())).start(&setting)?;
    sys::set_affinity(client_cpus)?;
    let done = attack(&Target::new(server.addr, "/plaintext"), options);
    sys::set_affinity(&cpus)?;
    server.end()?;
    done
}

/// Honest clients all the time, and the others in the middle of it.
fn attack(target: &Target, options: &Options) -> io::Result<Round> {
    let measured = Duration::from_secs(options.seconds);
    let honest = Honest::start(target, options.honest)?;
    honest.enter(BEFORE);
    thread::sleep(measured);
    honest.enter(OPENING);
    let opened = Arc::new(AtomicUsize::new(0));
    let last_cut = thread::scope(|scope| {
        let drips = scope.spawn(|| drip(target, options.drips, &opened));
        while opened.load(Ordering::Relaxed) < options.drips && !drips.is_finished() {
            thread::sleep(LOOK_AGAIN);
        }
        honest.enter(DURING);
        drips.join().expect("the dripping clients do not panic")
    })?;
    honest.enter(AFTER);
    thread::sleep(measured);
    honest.enter(OVER);
    let [before, opening, during, after] = honest.end()?;
    Ok(Round { before, opening, during, after, last_cut })
}

/// The stretches of a round: indices of what the honest clients return.
const BEFORE: usize = 0;
const OPENING: usize = 1;
const DURING: usize = 2;
const AFTER: usize = 3;
const OVER: usize = 4;

/// Between two looks at how many have connected.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The honest clients, on an OS thread of their own: those that drip are not to delay them.
struct Honest {
    stretch: Arc<AtomicUsize>,
    clients: thread::JoinHandle<io::Result<[Stretch; 4]>>,
}

impl Honest {
    fn start(target: &Target, connections: usize) -> io::Result<Honest> {
        let answer = probe::fetch(target, false)?;
        let answer_bytes = answer.head_bytes.len() + answer.body.len();
        let stretch = Arc::new(AtomicUsize::new(BEFORE));
        let (address, request) = (target.addr, Arc::new(target.request(false)));
        let clients = {
            let stretch = Arc::clone(&stretch);
            thread::spawn(move || {
                Runtime::builder().capabilities(1).build()?.run(move || {
                    let clients: Vec<JoinHandle<io::Result<[Stretch; 4]>>> = (0..connections)
                        .map(|index| {
                            let (stretch, request) = (Arc::clone(&stretch), Arc::clone(&request));
                            // Spread over the period.
                            let offset = PERIOD * index as u32 / connections as u32;
                            bast::spawn(move || ask(address, &request, answer_bytes, offset, &stretch))
                        })
                        .collect();
                    let mut all = stretches();
                    for client in clients {
                        let seen = client.join().map_err(io::Error::other)??;
                        for (all, seen) in all.iter_mut().zip(seen) {
                            all.latencies_ns.add(seen.latencies_ns).map_err(io::Error::other)?;
                        }
                    }
                    Ok(all)
                })
            })
        };
        Ok(Honest { stretch, clients })
    }

    fn enter(&self, stretch: usize) {
        self.stretch.store(stretch, Ordering::Relaxed);
    }

    fn end(self) -> io::Result<[Stretch; 4]> {
        self.clients.join().expect("the honest clients do not panic")
    }
}

fn stretches() -> [Stretch; 4] {
    let empty = || Histogram::new_with_max(LATENCY_MAX.as_nanos() as u64, 3).expect("valid bounds");
    [(); 4].map(|()| Stretch { latencies_ns: empty() })
}

/// One honest client.
fn ask(
    address: SocketAddr,
    request: &[u8],
    answer_bytes: usize,
    offset: Duration,
    stretch: &AtomicUsize,
) -> io::Result<[Stretch; 4]> {
    let mut seen = stretches();
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut answer = vec![0; answer_bytes];
    let mut due = Instant::now() + offset;
    loop {
        bast::sleep(due.saturating_duration_since(Instant::now()));
        let Some(seen) = seen.get_mut(stretch.load(Ordering::Relaxed)) else { break };
        stream.write_all(request)?;
        stream.read_exact(&mut answer)?;
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(io::Error::other("an honest client was refused"));
        }
        seen.latencies_ns.saturating_record(due.elapsed().as_nanos() as u64);
        due += PERIOD;
    }
    Ok(seen)
}

/// Opens so many connections that drip, and returns when the last of them was cut: how long that one lasted. It gives way to
/// the honest clients, with which it shares the CPU: it is the server that is to be measured.
fn drip(target: &Target, connections: usize, opened: &Arc<AtomicUsize>) -> io::Result<Duration> {
    sys::give_way()?;
    let (address, opened) = (target.addr, Arc::clone(opened));
    Runtime::builder().capabilities(1).build()?.run(move || {
        let drips: Vec<JoinHandle<io::Result<Duration>>> = (0..connections)
            .map(|_| {
                let opened = Arc::clone(&opened);
                bast::spawn(move || drip_until_cut(address, &opened))
            })
            .collect();
        let mut last = Duration::ZERO;
        for drip in drips {
            last = last.max(drip.join().map_err(io::Error::other)??);
        }
        Ok(last)
    })
}

fn drip_until_cut(address: SocketAddr, opened: &AtomicUsize) -> io::Result<Duration> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")?;
    let begun = Instant::now();
    opened.fetch_add(1, Ordering::Relaxed);
    stream.set_read_timeout(Some(DRIP))?;
    let mut answer = [0; 512];
    while begun.elapsed() < HEAD_LIMIT * 10 {
        match stream.read(&mut answer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {}
            // The answer (408), the end, or a reset: it is over.
            _ => return Ok(begun.elapsed()),
        }
        if stream.write_all(b"x").is_err() {
            return Ok(begun.elapsed());
        }
    }
    Err(io::Error::other("a dripping client was not cut"))
}
