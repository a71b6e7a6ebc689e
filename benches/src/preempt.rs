//! The preempt bench: burns beside short requests, with and without preemption at allocations.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bast_examples::demo::{self, Burns};
use bast_server::Server;

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
const BURNS_PER_CORE: usize = 2;
/// Connections that ask for `/plaintext`, per core.
const CONNECTIONS_PER_CORE: usize = 8;

/// The server's CPU time by which burns are in flight.
const BURNS_BEGUN: Duration = Duration::from_millis(30);
/// Between two looks at it.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What `--help` prints.
pub const HELP: &str = "\
How late short requests are beside handlers that compute for long and never call the runtime.

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

/// The two servers: what they are called, and what their burns do.
const SERVERS: [(&str, Burns); 2] = [("give_way", Burns::GiveWay), ("keep_the_core", Burns::KeepTheCore)];

/// Is the server of this name, in this process.
///
/// # Errors
/// The server's own, or `InvalidInput` for an unknown name.
fn serve(role: &str, options: &Options) -> io::Result<()> {
    sys::die_with_parent()?;
    let burns = SERVERS.iter().find(|(name, _)| *name == role).map(|(_, burns)| *burns);
    let burns = burns.ok_or_else(|| program::no_such_role(role))?;
    Server::bind(options.common.listen)?.workers(options.workers).serve(demo::app(None, burns)?)
}

/// Measures and prints. True if no request failed.
///
/// # Errors
/// The servers', the load generator's, and that of writing the JSON.
fn measure(options: &Options) -> io::Result<bool> {
    let machine = machine::announce();
    println!(
        "\npreempt: how late is /plaintext beside {BURNS_PER_CORE} burns of {} ms per core? (slice: {SLICE:?})",
        options.burn_ms
    );
    let mut outcomes: [Vec<Outcome>; 2] = Default::default();
    for _ in 0..options.rounds {
        for ((role, burns), outcomes) in SERVERS.iter().zip(&mut outcomes) {
            // Without preemption a request takes as long as the burns before it.
            let requests = if *burns == Burns::GiveWay { options.requests } else { options.requests / 10 };
            outcomes.push(round(role, requests, options)?);
        }
    }
    let mut figures = Vec::new();
    let mut failed = 0;
    for ((role, _), outcomes) in SERVERS.iter().zip(&outcomes) {
        let prefix = format!("preempt.{role}");
        figures.extend(report::outcome_figures(&prefix, &outcomes.iter().collect::<Vec<_>>()));
        let within = |outcome: &&Outcome| {
            u128::from(outcome.latency_ns.value_at_quantile(0.99)) <= (SLICES * SLICE).as_nanos()
        };
        figures.push(Figure {
            name: format!("{prefix}.rounds_with_p99_within_{SLICES}_slices"),
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

/// Loads one server, with burns in flight from before the first request until after the last.
fn round(role: &'static str, requests: u64, options: &Options) -> io::Result<Outcome> {
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
    let burn = Target::new(server.addr, &format!("/burn?ms={}", options.burn_ms));
    let outcome = thread::scope(|scope| {
        let burners: Vec<_> = (0..BURNS_PER_CORE * options.workers)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        probe::fetch(&burn, true)?;
                    }
                    io::Result::Ok(())
                })
            })
            .collect();
        // By its CPU time the server says that the burns have begun.
        let begun = idle + BURNS_BEGUN;
        let in_flight = || io::Result::Ok(server.cpu_time()?.total >= begun);
        while !in_flight()? {
            thread::sleep(LOOK_AGAIN);
        }
        let outcome = load.run();
        over.store(true, Ordering::Relaxed);
        burners.into_iter().try_for_each(|burner| burner.join().expect("a burner does not panic"))?;
        outcome
    });
    server.end()?;
    outcome
}
