//! The accept bench: connections of one request each, timed from when the kernel has them to the first byte of the answer.
//!
//! `ways`: an acceptor that spawns, a queue with a pool of workers, and many threads that accept, of both kinds, beside the
//! floor and the server; one connection at a time, where each has to wake the server, and 64, where they wait for each
//! other. `idle`: the server with thousands of connections that do nothing, beside itself without them.
//!
//! On the loopback interface the three packets of a connect are exchanged within the call, so that a connection is in the
//! queue of the listening socket when it returns: the clock starts there. A connection that is not answered, or that is
//! answered twice, fails the bench: the client reads to the end of each.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::iter::repeat_n;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use crate::args::{number, positive};
use crate::mode::Mode;
use crate::program::Common;
use crate::report::{self, Figure, median};
use crate::rounds::{Bench, Plan, Sample};
use crate::servers::{self, RoleArgs, Running};
use crate::{machine, procstat, sys};

/// What `--help` prints.
pub const HELP: &str = "\
How long a new connection waits for its first byte, and what it costs.

cargo bench --bench accept -- OPTIONS       (paths are relative to benches/)

  --only P[,P...]      only these parts: ways, idle
  --server S[,S...]    the servers of 'ways', the first being what the others are compared with
                       (floor,bast,green,threads,queue,queue-os,leaders,leaders-os)
  --rounds N           interleaved rounds (9)
  -n N                 connections per round and server (5000)
  --idle N             idle connections of 'idle' (15000, or what the limit on descriptors allows)
  --workers N          cores per server (1); the load generator gets the rest
  --smoke              one short round, 50 idle connections; exit 1 if a connection is lost or answered twice
  --json FILE          the figures as JSON too

A line is: name, median, unit (least [quartile..quartile] most).
";

const SERVERS: [&str; 8] =
    ["floor", "bast", "green", "threads", "queue", "queue-os", "leaders", "leaders-os"];
/// The server of the part `idle`: its limit on idle connections is longer than the bench.
const CROWDED: &str = "bast-crowded";

/// Connections at a time.
const AT_ONCE: [usize; 2] = [1, 64];

const ROUNDS: usize = 9;
const CONNECTIONS: u64 = 5000;
const CONNECTIONS_SMOKE: u64 = 300;
const IDLE: usize = 15_000;
const IDLE_SMOKE: usize = 50;
/// Descriptors that are needed for other things than idle connections.
const DESCRIPTORS_ASIDE: usize = 300;

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    common: Common,
    ways: bool,
    idle: bool,
    servers: Vec<String>,
    rounds: usize,
    /// Per round and server.
    connections: u64,
    idle_connections: usize,
    role: RoleArgs,
}

impl Options {
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let mut parts = vec!["ways".to_owned(), "idle".to_owned()];
        let mut servers = SERVERS.map(str::to_owned).to_vec();
        let (mut rounds, mut connections, mut idle) = (None, None, None);
        let mut role = RoleArgs {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            workers: 1,
            root: std::env::temp_dir(),
            mode: one_request_each(1),
            like: None,
        };
        let common = Common::parse(args, |option, value| {
            match option {
                "--only" => parts = value()?.split(',').map(str::to_owned).collect(),
                "--server" => servers = value()?.split(',').map(str::to_owned).collect(),
                "--rounds" => rounds = Some(positive(option, &value()?)?),
                "-n" => connections = Some(positive(option, &value()?)? as u64),
                "--idle" => idle = Some(positive(option, &value()?)?),
                "--workers" => role.workers = positive(option, &value()?)?,
                "--like" => role.like = Some(number(option, &value()?)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if let Some(part) = parts.iter().find(|part| !["ways", "idle"].contains(&part.as_str())) {
            return Err(format!("no such part: {part} (see --help)"));
        }
        role.listen = common.listen;
        let asked = |part: &str| parts.iter().any(|asked| asked == part);
        let (usual_rounds, usual_connections, usual_idle) = if common.smoke {
            (1, CONNECTIONS_SMOKE, IDLE_SMOKE)
        } else {
            (ROUNDS, CONNECTIONS, IDLE.min(procstat::descriptors_max().saturating_sub(DESCRIPTORS_ASIDE)))
        };
        Ok(Options {
            ways: asked("ways"),
            idle: asked("idle"),
            servers,
            rounds: rounds.unwrap_or(usual_rounds),
            connections: connections.unwrap_or(usual_connections),
            idle_connections: idle.unwrap_or(usual_idle),
            role,
            common,
        })
    }
}

/// The workload: connections of one request.
fn one_request_each(at_once: usize) -> Mode {
    let close = Mode::named("close").expect("the http bench has this workload");
    Mode { connections: at_once, ..close }
}

/// Runs the bench, or a server of it, as the arguments behind the program's name ask for. True if no connection was lost.
///
/// # Errors
/// A wrong argument; within, those of the measurement.
pub fn run(args: impl IntoIterator<Item = String>) -> Result<io::Result<bool>, String> {
    let options = Options::parse(args)?;
    let serve = |role: &str| {
        sys::die_with_parent()?;
        servers::serve_as(role, &options.role)
    };
    Ok(options.common.run(HELP, serve, || measure(&options)))
}

fn measure(options: &Options) -> io::Result<bool> {
    let machine = machine::announce();
    let mut figures = Vec::new();
    let mut failures = Vec::new();
    if options.ways {
        for at_once in AT_ONCE {
            println!("\nways: how long until the first byte, {at_once} at a time?");
            let names = &options.servers;
            show(&mut figures, measure_part("ways", options, at_once, names, 0, &mut failures)?);
        }
    }
    if options.idle {
        let idle = options.idle_connections;
        for at_once in AT_ONCE {
            println!("\nidle: how much longer beside {idle} idle connections, {at_once} at a time?");
            let names = [CROWDED, CROWDED].map(str::to_owned);
            show(&mut figures, measure_part("idle", options, at_once, &names, idle, &mut failures)?);
        }
    }
    for failure in &failures {
        println!("failed: {failure}");
    }
    if let Some(path) = &options.common.json {
        fs::write(path, report::to_json(&machine, &figures, &failures))?;
    }
    Ok(failures.is_empty())
}

fn show(all: &mut Vec<Figure>, figures: Vec<Figure>) {
    for figure in &figures {
        println!("{figure}");
    }
    all.extend(figures);
}

/// The servers of these names in turns, the last of them with so many idle connections.
fn measure_part(
    part: &str,
    options: &Options,
    at_once: usize,
    names: &[String],
    idle: usize,
    failures: &mut Vec<String>,
) -> io::Result<Vec<Figure>> {
    let cpus = sys::affinity()?;
    let (server_cpus, client_cpus) = cpus.split_at(options.role.workers.min(cpus.len()));
    let servers = servers::named(names).map_err(io::Error::other)?;
    let plan = Plan {
        mode: one_request_each(at_once),
        servers: &servers,
        rounds: options.rounds,
        cpu_seconds: 0.0,
        requests: Some(options.connections),
        smoke: options.common.smoke,
        workers: options.role.workers,
        client_threads: 1,
        server_cpus,
        client_cpus: if client_cpus.is_empty() { &cpus } else { client_cpus },
        root: &options.role.root,
    };
    let mut bench = Bench::start(&plan, &[])?;
    let crowded = servers.len() - 1;
    let idlers = Idlers::open(bench.server(crowded), idle)?;
    let mut series: Vec<Vec<Sample>> = servers.iter().map(|_| Vec::new()).collect();
    if !options.common.smoke {
        for index in 0..series.len() {
            bench.sample(index, options.connections)?;
        }
    }
    for round in 0..options.rounds {
        for turn in 0..series.len() {
            // Back and forth, so that going first in a round is nobody's lot.
            let index = if round % 2 == 0 { turn } else { series.len() - 1 - turn };
            series[index].push(bench.sample(index, options.connections)?);
        }
    }
    for (server, samples) in servers.iter().zip(&series) {
        for outcome in samples.iter().map(|sample| &sample.outcome) {
            let told = outcome.failure.clone().unwrap_or_default();
            if outcome.failed > 0 {
                failures.push(format!("{part}.{}: {} connections: {told}", server.name, outcome.failed));
            }
            let (connects, ok) = (outcome.connects, outcome.ok);
            assert_eq!(connects, options.connections, "accept: a request on a connection that had one");
            assert_eq!(ok + outcome.failed, connects, "accept: a connection without an answer, or with two");
        }
    }
    idlers.check(bench.server(crowded))?;
    let names: Vec<String> = servers.iter().map(|server| server.name.clone()).collect();
    Ok(figures(&format!("{part}.c{at_once}"), &names, &series))
}

/// Connections that do nothing.
///
/// They are from addresses of their own, each with a part of the ports that it could have: from the address of those that are
/// measured they would take so many of its ports that the kernel of the client searches for milliseconds for one that is free.
struct Idlers(Vec<OwnedFd>);

/// Idle connections of one address.
const PER_ADDRESS: usize = 5000;
/// A server that has not accepted them by then does not.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

impl Idlers {
    /// Opens so many and waits until the server has them all.
    fn open(server: &Running, count: usize) -> io::Result<Idlers> {
        let sources = (2..=u8::MAX).map(|last| Ipv4Addr::new(127, 0, 0, last));
        let sources = sources.flat_map(|source| repeat_n(source, PER_ADDRESS)).take(count);
        let deadline = Instant::now() + PATIENCE;
        let mut fds = Vec::with_capacity(count);
        for source in sources {
            fds.push(sys::connect_from(Some(source), server.addr)?);
            // The queue of the listening socket is not to overflow.
            while fds.len().is_multiple_of(QUEUED_MAX) && server.descriptors()? < fds.len() {
                wait_until(deadline)?;
            }
        }
        // It has some of its own besides, so that the last few may still be in the queue.
        while server.descriptors()? < count {
            wait_until(deadline)?;
        }
        Ok(Idlers(fds))
    }

    /// The server still has them.
    fn check(self, server: &Running) -> io::Result<()> {
        match server.descriptors()? >= self.0.len() {
            true => Ok(()),
            false => Err(io::Error::other("the server has closed idle connections")),
        }
    }
}

/// Less than listening sockets of ours keep waiting.
const QUEUED_MAX: usize = 500;

fn wait_until(deadline: Instant) -> io::Result<()> {
    if Instant::now() > deadline {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the server does not accept the idle connections",
        ));
    }
    thread::sleep(LOOK_AGAIN);
    Ok(())
}

fn figures(prefix: &str, names: &[String], series: &[Vec<Sample>]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (name, samples) in names.iter().zip(series) {
        let mut push = |what: &str, unit, value: &dyn Fn((&Sample, &Sample)) -> f64| {
            let values = samples.iter().zip(&series[0]).map(value);
            figures.push(median(format!("{prefix}.{name}.{what}"), unit, values));
        };
        push("first_byte_p50", "us", &|(sample, _)| first_byte_us(sample, 0.5));
        push("first_byte_p99", "us", &|(sample, _)| first_byte_us(sample, 0.99));
        push("cpu", "us/connection", &|(sample, _)| {
            sample.server.total.as_secs_f64() * 1e6 / sample.outcome.ok.max(1) as f64
        });
        push("throughput", "connections/s", &|(sample, _)| {
            sample.outcome.ok as f64 / sample.outcome.wall.as_secs_f64()
        });
        if *name != names[0] {
            let against = |what: &str, quantile| (format!("{what}_to_{}", names[0]), quantile);
            for (what, quantile) in [against("p50", 0.5), against("p99", 0.99)] {
                push(&what, "x", &|(own, first)| {
                    first_byte_us(own, quantile) / first_byte_us(first, quantile)
                });
            }
        }
    }
    figures
}

fn first_byte_us(sample: &Sample, quantile: f64) -> f64 {
    sample.outcome.latency_ns.value_at_quantile(quantile) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_number_given_wins_over_that_of_a_smoke_test() {
        for line in ["--smoke -n 7 --idle 3 --bench", "--idle 3 -n 7 --smoke"] {
            let options = parse(line).unwrap();
            assert_eq!((options.connections, options.idle_connections, options.rounds), (7, 3, 1));
        }
    }

    #[test]
    fn a_part_is_chosen_or_refused() {
        let options = parse("--only idle").unwrap();
        assert!(options.idle && !options.ways);
        assert_eq!(parse("--only x").unwrap_err(), "no such part: x (see --help)");
    }

    #[test]
    fn a_server_takes_what_roles_are_told() {
        let line = "--role queue --listen 127.0.0.1:9 --workers 2 --mode close --root / --like 127.0.0.1:8";
        let options = parse(line).unwrap();
        assert_eq!((options.role.listen.port(), options.role.workers), (9, 2));
        assert_eq!(options.role.like.map(|like| like.port()), Some(8));
    }
}
