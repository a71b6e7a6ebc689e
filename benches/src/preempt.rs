//! The preempt bench: short requests beside handlers that compute, with and without preemption at allocations, and beside
//! handlers that wait.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bast_examples::demo::{self, Burns};
use bast_server::{Error, Request, Router, Server};

use crate::args::positive;
use crate::load::{Load, Outcome};
use crate::mode::MODES;
use crate::program::{self, Common};
use crate::report::{self, Figure};
use crate::servers::{ServerUnderTest, Setting};
use crate::url::Target;
use crate::{machine, probe, sys};

/// The runtime's default.
const SLICE: Duration = Duration::from_millis(20);
/// What the p99 is to be within.
const SLICES: u32 = 3;
/// How long one of them waits.
const WAIT: Duration = Duration::from_secs(1);
/// Connections that ask for `/plaintext`, per core.
const CONNECTIONS_PER_CORE: usize = 8;

/// The server's CPU time by which burns are in flight.
const BURNS_BEGUN: Duration = Duration::from_millis(30);
/// Between two looks at it.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What `--help` prints.
pub const HELP: &str = "\
How late short requests are beside handlers that compute for long and never call the runtime, and beside handlers that wait for
a second: for what another thread has to say, for a call that blocks an OS thread, and for names.

cargo bench --bench preempt -- OPTIONS      (paths are relative to benches/)

  --workers N          cores of the server (1); the load generator gets the rest
  --rounds N           interleaved rounds (5); the medians are printed
  -n N                 requests per round where burns give way (1000); a tenth of them where they do not
  --smoke              one short round; exit 1 if a response is wrong
  --json FILE          the figures as JSON too
";

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    common: Common,
    /// Cores of the server.
    workers: usize,
    rounds: usize,
    /// Per round.
    requests: u64,
    /// How long a burn lasts.
    burn_ms: u64,
}

impl Options {
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let (mut workers, mut rounds, mut requests, mut burn_ms) = (1, 5, 1000, 500);
        let common = Common::parse(args, |option, value| {
            match option {
                "--workers" => workers = positive(option, &value()?)?,
                "--rounds" => rounds = positive(option, &value()?)?,
                "-n" => requests = positive(option, &value()?)? as u64,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if common.smoke {
            (rounds, requests, burn_ms) = (1, 100, 100);
        }
        Ok(Options { common, workers, rounds, requests, burn_ms })
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

/// What the other handlers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Neighbours {
    Compute(Burns),
    Wait,
}

/// The servers: what they are called, and what their other handlers do.
const SERVERS: [(&str, Neighbours); 3] = [
    ("give_way", Neighbours::Compute(Burns::GiveWay)),
    ("keep_the_core", Neighbours::Compute(Burns::KeepTheCore)),
    ("waiting", Neighbours::Wait),
];

impl Neighbours {
    /// What is asked for, by the number of the client.
    fn path(self, client: usize, options: &Options) -> String {
        match self {
            Neighbours::Compute(_) => format!("/burn?ms={}", options.burn_ms),
            Neighbours::Wait => ["/database", "/disk", "/name"][client % 3].to_owned(),
        }
    }

    /// How many there are at a time, per core.
    fn per_core(self) -> usize {
        match self {
            Neighbours::Compute(_) => 2,
            Neighbours::Wait => 3,
        }
    }

    /// What the p99 of the short requests is to be within.
    fn reach(self) -> Duration {
        match self {
            Neighbours::Compute(_) => SLICES * SLICE,
            Neighbours::Wait => SLICE,
        }
    }
}

/// Is the server of this name, in this process.
///
/// # Errors
/// The server's own, or `InvalidInput` for an unknown name.
fn serve(role: &str, options: &Options) -> io::Result<()> {
    sys::die_with_parent()?;
    let neighbours = SERVERS.iter().find(|(name, _)| *name == role).map(|(_, neighbours)| *neighbours);
    let server = Server::bind(options.common.listen)?.workers(options.workers);
    match neighbours.ok_or_else(|| program::no_such_role(role))? {
        Neighbours::Compute(burns) => server.serve(demo::app(None, burns)?),
        Neighbours::Wait => server.serve(waiting()),
    }
}

/// Handlers that wait in each way there is, and `/begun`, how many of them there have been.
fn waiting() -> Router {
    let begun = Arc::new(AtomicUsize::new(0));
    let wait = |wait: fn() -> io::Result<()>| {
        let begun = Arc::clone(&begun);
        move |_: &mut Request<'_>| -> Result<&'static str, Error> {
            begun.fetch_add(1, Ordering::Relaxed);
            wait()?;
            Ok("waited")
        }
    };
    Router::new()
        .get("/plaintext", |_: &mut Request<'_>| "Hello, World!")
        .get(
            "/database",
            wait(|| {
                bast::sleep(WAIT);
                Ok(())
            }),
        )
        .get(
            "/disk",
            wait(|| {
                bast::offload(|| thread::sleep(WAIT));
                Ok(())
            }),
        )
        .get(
            "/name",
            wait(|| {
                let start = Instant::now();
                while start.elapsed() < WAIT {
                    bast::net::lookup_host(("localhost", 80))?;
                }
                Ok(())
            }),
        )
        .get("/begun", move |_: &mut Request<'_>| begun.load(Ordering::Relaxed).to_string())
}

/// Measures and prints. True if no request failed.
///
/// # Errors
/// The servers', the load generator's, and that of writing the JSON.
fn measure(options: &Options) -> io::Result<bool> {
    let machine = machine::announce();
    println!(
        "\npreempt: how late is /plaintext beside handlers that compute for {} ms (two per core), or wait for {WAIT:?} (three)? \
         (slice: {SLICE:?})",
        options.burn_ms
    );
    let mut outcomes: [Vec<Outcome>; SERVERS.len()] = Default::default();
    for _ in 0..options.rounds {
        for (&(role, neighbours), outcomes) in SERVERS.iter().zip(&mut outcomes) {
            // Without preemption a request takes as long as the burns before it.
            let keeps = neighbours == Neighbours::Compute(Burns::KeepTheCore);
            let requests = if keeps { options.requests / 10 } else { options.requests };
            outcomes.push(round(role, neighbours, requests, options)?);
        }
    }
    let mut figures = Vec::new();
    let mut failed = 0;
    for ((role, neighbours), outcomes) in SERVERS.iter().zip(&outcomes) {
        let prefix = format!("preempt.{role}");
        figures.extend(report::outcome_figures(&prefix, &outcomes.iter().collect::<Vec<_>>()));
        let within = |outcome: &&Outcome| {
            u128::from(outcome.latency_ns.value_at_quantile(0.99)) <= neighbours.reach().as_nanos()
        };
        figures.push(Figure {
            name: format!("{prefix}.rounds_with_p99_within_{}_ms", neighbours.reach().as_millis()),
            value: outcomes.iter().filter(within).count() as f64,
            unit: "rounds",
            spread: None,
        });
        for outcome in outcomes {
            failed += outcome.failed;
            if let Some(failure) = &outcome.failure {
                println!("warning: {prefix}: failed requests: {failure}");
            }
        }
    }
    for figure in &figures {
        println!("{figure}");
    }
    if let Some(path) = &options.common.json {
        fs::write(path, report::to_json(&machine, &figures, &[]))?;
    }
    Ok(failed == 0)
}

/// Loads one server, with the other handlers at it from before the first request until after the last.
fn round(
    role: &'static str,
    neighbours: Neighbours,
    requests: u64,
    options: &Options,
) -> io::Result<Outcome> {
    let cpus = sys::affinity()?;
    let (server_cpus, client_cpus) = cpus.split_at(options.workers.min(cpus.len()));
    let client_cpus = if client_cpus.is_empty() { &cpus } else { client_cpus };
    let setting = Setting {
        cpus: server_cpus,
        workers: options.workers,
        root: &std::env::temp_dir(),
        mode: &MODES[0],
        like: None,
        under: &[],
    };
    let server = ServerUnderTest::role(role, |_| Ok(())).start(&setting)?;
    let plaintext = Target::new(server.addr, "/plaintext");
    let expected = probe::fetch(&plaintext, true)?;
    let load = Load {
        target: plaintext,
        requests,
        connections: CONNECTIONS_PER_CORE * options.workers,
        threads: 1,
        keep_alive: true,
        pipeline: 1,
        status: expected.head.status,
        body: expected.body,
        cpus: client_cpus.to_vec(),
    };
    let idle = server.cpu_time()?.total;
    let over = AtomicBool::new(false);
    let begun_page = Target::new(server.addr, "/begun");
    let clients = neighbours.per_core() * options.workers;
    let outcome = thread::scope(|scope| {
        let asking: Vec<_> = (0..clients)
            .map(|client| {
                let target = Target::new(server.addr, &neighbours.path(client, options));
                let over = &over;
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        probe::fetch(&target, true)?;
                    }
                    io::Result::Ok(())
                })
            })
            .collect();
        let have_begun = || match neighbours {
            // Who computes cannot be asked; the server's CPU time says it.
            Neighbours::Compute(_) => io::Result::Ok(server.cpu_time()?.total >= idle + BURNS_BEGUN),
            Neighbours::Wait => {
                let page = probe::fetch(&begun_page, true)?;
                let count = String::from_utf8_lossy(&page.body).parse().unwrap_or(0);
                Ok(clients <= count)
            }
        };
        while !have_begun()? {
            thread::sleep(LOOK_AGAIN);
        }
        let outcome = load.run();
        over.store(true, Ordering::Relaxed);
        asking.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))?;
        outcome
    });
    server.end()?;
    outcome
}
