//! Interleaved rounds: A B, B A, A B …, in each of which every server uses about the same CPU time.
//!
//! A machine's speed drifts over seconds; a ratio of two servers within one round does not. So the figure to
//! trust is the median over the rounds of that ratio.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::load::{Load, Outcome};
use crate::memory::kernel_stacks_bytes;
use crate::mode::{Mode, Resource};
use crate::probe::{self, Fetched};
use crate::procstat::CpuTime;
use crate::servers::{Running, ServerUnderTest, Setting};
use crate::sys;
use crate::url::Target;

/// A warm-up run is long enough to tell a request's cost.
const WARM_UP: Duration = Duration::from_millis(300);

/// Idle connections whose memory is measured: enough that what is allocated in large pieces does not show.
const IDLE_CONNECTIONS: usize = 1000;
const IDLE_CONNECTIONS_SMOKE: usize = 20;

/// What a measurement is to be like.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The workload, with the user's changes applied.
    pub mode: Mode,
    /// The servers, the one they are compared with first.
    pub servers: &'a [ServerUnderTest],
    /// Rounds at least.
    pub rounds: usize,
    /// CPU seconds that each server is to use in all, at least.
    pub cpu_seconds: f64,
    /// Requests per round, where they do not follow from the CPU seconds.
    pub requests: Option<u64>,
    /// No warm-up.
    pub smoke: bool,
    /// Cores that a server is told to use.
    pub workers: usize,
    /// OS threads of the load generator.
    pub client_threads: usize,
    /// The servers' CPUs.
    pub server_cpus: &'a [usize],
    /// The load generator's CPUs.
    pub client_cpus: &'a [usize],
    /// Where the static files are.
    pub root: &'a Path,
}

impl Plan<'_> {
    /// How many rounds of how many requests to each server, by what a request costs it in CPU seconds.
    fn lengths(&self, costs: &[f64]) -> (usize, Vec<u64>) {
        let given = self.requests.or(self.mode.requests);
        let batch = self.mode.pipeline as f64;
        let requests_least = (self.mode.connections * self.mode.pipeline) as u64;
        let enough = |cost: &f64| {
            let batches = self.cpu_seconds / self.rounds as f64 / cost / batch;
            ((batches.ceil() * batch) as u64).max(requests_least)
        };
        let requests: Vec<u64> = costs.iter().map(|cost| given.unwrap_or_else(|| enough(cost))).collect();
        // Where the workload fixes the requests, more rounds make up for what they lack of CPU time.
        let per_round = costs.iter().zip(&requests).map(|(cost, requests)| cost * *requests as f64);
        let rounds = self.cpu_seconds / per_round.fold(f64::INFINITY, f64::min);
        let rounds = if self.requests.is_some() { 0 } else { rounds.round() as usize };
        (rounds.max(self.rounds), requests)
    }
}

/// One server in one round.
#[derive(Debug)]
pub struct Sample {
    /// What the load generator saw.
    pub outcome: Outcome,
    /// What the server used.
    pub server: CpuTime,
}

/// One server in all rounds.
#[derive(Debug)]
pub struct Series {
    /// The server.
    pub name: String,
    /// Requests per round.
    pub requests: u64,
    /// By round.
    pub samples: Vec<Sample>,
    /// What an idle connection that has had a request takes, where the workload keeps connections.
    pub connection_bytes: Option<f64>,
    /// Context switches of its OS threads per request, over the server's whole life: those that it chose, and the others.
    pub switches: Option<[f64; 2]>,
}

/// All servers in all rounds.
#[derive(Debug)]
pub struct Measured {
    /// In the order of the plan; the first is what the others are compared with.
    pub series: Vec<Series>,
    /// Servers left out, and why.
    pub left_out: Vec<String>,
}

/// Servers of a plan, running, with the response that is expected of all of them.
#[derive(Debug)]
pub struct Bench {
    running: Vec<Running>,
    /// How many requests each was sent.
    requests: Vec<u64>,
    load: Load,
    left_out: Vec<String>,
}

impl Bench {
    /// Starts the servers: first those that are real, then the references, which copy the first real one
    /// that has what the workload asks for.
    ///
    /// # Errors
    /// Where a server cannot be started or, unless it is a peer, has a wrong answer; such a peer is left out.
    pub fn start(plan: &Plan<'_>, under: &[String]) -> io::Result<Bench> {
        let mode = &plan.mode;
        let setting = Setting {
            cpus: plan.server_cpus,
            workers: plan.workers,
            root: plan.root,
            mode,
            like: None,
            under,
        };
        let (references, real): (Vec<_>, Vec<_>) =
            plan.servers.iter().enumerate().partition(|(_, server)| server.is_reference());
        let mut running = start_all(&real, &setting)?;
        let model = running.iter().find(|(_, _, answer)| answer.is_ok());
        let like = model.map(|(_, server, _)| server.addr);
        running.extend(start_all(&references, &Setting { like, ..setting })?);
        running.sort_by_key(|(index, ..)| *index);
        let answered = running.iter().find_map(|(_, _, answer)| answer.as_ref().ok());
        let body = mode.body().or_else(|| answered.map(|answer| answer.body.clone()));
        let body = body.ok_or_else(|| io::Error::other(format!("no server answers {}", mode.path)))?;
        let mut left_out = Vec::new();
        let mut fitting = Vec::new();
        for (index, server, answer) in running {
            match differs(&body, &answer) {
                None => fitting.push(server),
                Some(how) if plan.servers[index].is_peer() => {
                    left_out.push(format!("{}: {} left out: {how}", mode.name, server.name));
                }
                Some(how) => {
                    let why = format!("{}: {} answers {}: {how}", mode.name, server.name, mode.path);
                    return Err(io::Error::other(why));
                }
            }
        }
        let first = fitting.first().ok_or_else(|| io::Error::other("no server to measure"))?;
        let load = Load {
            target: Target::new(first.addr, mode.path),
            requests: 0,
            connections: mode.connections,
            threads: plan.client_threads,
            keep_alive: mode.keep_alive,
            pipeline: mode.pipeline,
            status: 200,
            body,
            cpus: plan.client_cpus.to_vec(),
        };
        Ok(Bench { requests: vec![0; fitting.len()], running: fitting, load, left_out })
    }

    /// The server `index`.
    #[must_use]
    pub fn server(&self, index: usize) -> &Running {
        &self.running[index]
    }

    /// Sends `requests` to the server `index`.
    ///
    /// # Errors
    /// The load generator's, or where the server has ended.
    pub fn sample(&mut self, index: usize, requests: u64) -> io::Result<Sample> {
        let server = &self.running[index];
        self.load.target = Target::new(server.addr, &self.load.target.path);
        self.load.requests = requests;
        self.requests[index] += requests;
        let before = server.cpu_time()?;
        let outcome = self.load.run()?;
        Ok(Sample { outcome, server: server.cpu_time()? - before })
    }

    /// What a connection takes of the server `index` that has had a request and is idle: user memory, page tables and the
    /// kernel's stacks of OS threads, the mean of so many. What the kernel keeps for a socket, the same for all, is not in it.
    ///
    /// # Errors
    /// The connections', or where the server has ended.
    pub fn connection_bytes(&self, index: usize, connections: usize) -> io::Result<f64> {
        let server = &self.running[index];
        let target = Target::new(server.addr, &self.load.target.path);
        let footprint = || Ok::<_, io::Error>(server.footprint()? + kernel_stacks_bytes()?);
        let before = footprint()?;
        let open = (0..connections).map(|_| probe::fetch_over_new(&target, false));
        let open: Vec<_> = open.collect::<io::Result<_>>()?;
        let taken = footprint()?.saturating_sub(before);
        drop(open);
        Ok(taken as f64 / connections as f64)
    }

    /// Ends the servers by SIGTERM.
    ///
    /// # Errors
    /// Where one does not end in time.
    pub fn end(self) -> io::Result<()> {
        self.running.into_iter().try_for_each(Running::end)
    }

    /// The same, and what each switched per request, in their order. Only when a process has ended does the kernel tell of
    /// its OS threads that have, too.
    fn end_and_count_switches(self) -> io::Result<Vec<[f64; 2]>> {
        let ended = self.running.into_iter().zip(self.requests).map(|(server, requests)| {
            let before = sys::switches_of_children()?;
            server.end()?;
            let after = sys::switches_of_children()?;
            let each = |after: u64, before: u64| (after - before) as f64 / requests.max(1) as f64;
            let voluntary = each(after.voluntary, before.voluntary);
            Ok([voluntary, each(after.involuntary, before.involuntary)])
        });
        ended.collect()
    }

    /// Warms each server up; returns the CPU seconds that a request costs it.
    fn warm_up(&mut self) -> io::Result<Vec<f64>> {
        let mut costs = Vec::new();
        for index in 0..self.running.len() {
            let mut requests = (self.load.connections * self.load.pipeline * 4) as u64;
            let cost = loop {
                let sample = self.sample(index, requests)?;
                if sample.outcome.failed > 0 || sample.outcome.wall >= WARM_UP {
                    break sample.server.total.as_secs_f64() / requests as f64;
                }
                requests *= 2;
            };
            costs.push(cost);
        }
        Ok(costs)
    }
}

/// A server with its place in the plan and what it answers.
type Started = (usize, Running, io::Result<Fetched>);

fn start_all(servers: &[(usize, &ServerUnderTest)], setting: &Setting<'_>) -> io::Result<Vec<Started>> {
    let started = servers.iter().map(|(index, server)| {
        let running = server.start(setting)?;
        let target = Target::new(running.addr, setting.mode.path);
        let answer =
            probe::fetch(&target, !setting.mode.keep_alive).and_then(|answer| match answer.head.status {
                200 => Ok(answer),
                status => Err(io::Error::other(format!("status {status}"))),
            });
        Ok((*index, running, answer))
    });
    started.collect()
}

/// How an answer is not what is expected.
fn differs(body: &[u8], answer: &io::Result<Fetched>) -> Option<String> {
    match answer {
        Err(error) => Some(error.to_string()),
        Ok(answer) if answer.body != body => Some(format!("another body, of {} bytes", answer.body.len())),
        Ok(_) => None,
    }
}

/// Measures the plan.
///
/// # Errors
/// Where a server cannot be started or ends.
pub fn measure(plan: &Plan<'_>) -> io::Result<Measured> {
    let mut bench = Bench::start(plan, &[])?;
    let mode = &plan.mode;
    let (rounds, requests) = if plan.smoke {
        (1, vec![mode.requests_smoke; bench.running.len()])
    } else {
        plan.lengths(&bench.warm_up()?)
    };
    let new_series = |(server, requests): (&Running, u64)| Series {
        name: server.name.clone(),
        requests,
        samples: Vec::with_capacity(rounds),
        connection_bytes: None,
        switches: None,
    };
    let mut series: Vec<Series> = bench.running.iter().zip(requests).map(new_series).collect();
    for round in 0..rounds {
        for turn in 0..series.len() {
            // Back and forth, so that going first in a round is nobody's lot.
            let index = if round % 2 == 0 { turn } else { series.len() - 1 - turn };
            let sample = bench.sample(index, series[index].requests)?;
            series[index].samples.push(sample);
        }
    }
    // Not those that take their time for each request, or fill the memory with files.
    if mode.keep_alive && mode.resource == Resource::Constant {
        let connections = if plan.smoke { IDLE_CONNECTIONS_SMOKE } else { IDLE_CONNECTIONS };
        for (index, series) in series.iter_mut().enumerate() {
            series.connection_bytes = Some(bench.connection_bytes(index, connections)?);
        }
    }
    let left_out = std::mem::take(&mut bench.left_out);
    for (series, switches) in series.iter_mut().zip(bench.end_and_count_switches()?) {
        series.switches = Some(switches);
    }
    Ok(Measured { series, left_out })
}
