//! The load generator: weighttp's `-n -c -t -k`, with pipelining, on epoll.
//!
//! It must be cheaper than any server it measures, and still look at every response. Each OS thread has its
//! share of the connections and of the requests; a connection sends the next batch as soon as the last one
//! is answered in whole. Nothing is shared between threads until they end.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::response::{Checker, Completed, Progress};
use crate::sys::{self, Epoll, Event, More};
use crate::url::Target;

const INPUT_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 512;
/// Two digits: a latency is known to 1 %, and the counters stay in the first-level caches.
const LATENCY_DIGITS: u8 = 2;
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// A server from which nothing comes for so long has lost a request.
const STALL: Duration = Duration::from_secs(15);

/// After so many failures on one OS thread the server is broken or gone, and the rest is not tried.
const FAILURES_MAX: u64 = 10_000;

/// What to send, and what to expect.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub target: Target,
    /// Requests in all (`-n`).
    pub requests: u64,
    /// Connections at a time (`-c`).
    pub connections: usize,
    /// OS threads (`-t`).
    pub threads: usize,
    /// Many requests per connection (`-k`), or one.
    pub keep_alive: bool,
    /// Requests sent at once on a connection.
    pub pipeline: usize,
    /// The status of a right response.
    pub status: u16,
    /// The body of a right response.
    pub body: Vec<u8>,
    /// The CPUs to run on.
    pub cpus: Vec<usize>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Right responses.
    pub ok: u64,
    /// Wrong responses, and requests that got none.
    pub failed: u64,
    /// The first reason for a failure.
    pub failure: Option<String>,
    /// Connections opened.
    pub connects: u64,
    /// From the first connect to the last response.
    pub wall: Duration,
    /// CPU time of the load generator.
    pub cpu: Duration,
    /// From sending a batch to receiving a response of it, in ns.
    pub latency_ns: Histogram<u64>,
}

impl Outcome {
    fn new() -> Outcome {
        Outcome {
            ok: 0,
            failed: 0,
            failure: None,
            connects: 0,
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS)
                .expect("the bounds are constants that the histogram allows"),
        }
    }

    /// Adds what another OS thread did in the same time.
    fn join(&mut self, other: Outcome) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        self.connects += other.connects;
        self.cpu += other.cpu;
        self.latency_ns.add(other.latency_ns).expect("both have the same bounds");
    }

    fn fail(&mut self, count: u64, why: &impl ToString) {
        self.failed += count;
        if self.failure.is_none() {
            self.failure = Some(why.to_string());
        }
    }
}

impl Load {
    /// Sends all requests and returns when each has been answered or has failed.
    ///
    /// # Errors
    /// The load generator's own (epoll, affinity); a connection's errors are counted as failed requests.
    ///
    /// # Panics
    /// With no connections, threads or requests per batch.
    pub fn run(&self) -> io::Result<Outcome> {
        assert!(self.connections > 0 && self.threads > 0 && self.pipeline > 0);
        let threads = self.threads.min(self.connections);
        let started = Instant::now();
        let mut outcome = if threads == 1 { self.run_here()? } else { self.run_on(threads)? };
        outcome.wall = started.elapsed();
        Ok(outcome)
    }

    /// Runs on the calling OS thread: in a process that never had a second one, glibc spares every socket
    /// call two locked instructions for thread cancellation.
    fn run_here(&self) -> io::Result<Outcome> {
        let cpus = sys::affinity()?;
        sys::set_affinity(&self.cpus)?;
        let outcome = Worker::new(self, self.connections, self.requests)?.run();
        sys::set_affinity(&cpus)?;
        outcome
    }

    fn run_on(&self, threads: usize) -> io::Result<Outcome> {
        let mut outcome = Outcome::new();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|index| {
                    let connections = share(self.connections as u64, threads, index) as usize;
                    let requests = share(self.requests, threads, index);
                    scope.spawn(move || {
                        sys::set_affinity(&self.cpus)?;
                        Worker::new(self, connections, requests)?.run()
                    })
                })
                .collect();
            for worker in workers {
                outcome.join(worker.join().expect("a load generator's OS thread does not panic")?);
            }
            Ok(outcome)
        })
    }
}

/// Part `index` of `total` cut into `parts` as evenly as whole numbers can be.
fn share(total: u64, parts: usize, index: usize) -> u64 {
    let (parts, index) = (parts as u64, index as u64);
    total / parts + u64::from(index < total % parts)
}

/// One OS thread's connections.
struct Worker {
    addr: SocketAddr,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    traffic: Traffic,
}

/// What the connections of an OS thread have in common: what goes out, what comes in, and the counts.
struct Traffic {
    keep_alive: bool,
    /// As many requests as are sent at once.
    batch: Vec<u8>,
    request_bytes: usize,
    /// Requests not sent yet.
    to_send: u64,
    /// Requests neither answered nor failed.
    unfinished: u64,
    input: Vec<u8>,
    checker: Checker,
    outcome: Outcome,
}

struct Connection {
    fd: OwnedFd,
    /// What of the current batch is still to be sent.
    unsent: Range<usize>,
    sent_at: Instant,
    /// Requests of the current batch that are not answered.
    in_flight: u64,
    progress: Progress,
    /// The server has said that it closes the connection.
    closing: bool,
}

/// Why a connection is over.
enum End {
    /// As agreed, or with nothing outstanding.
    Regular,
    /// With requests in flight.
    Early(String),
}

impl Worker {
    fn new(load: &Load, connections: usize, requests: u64) -> io::Result<Worker> {
        let request = load.target.request(!load.keep_alive);
        let batch_requests = if load.keep_alive { load.pipeline } else { 1 };
        Ok(Worker {
            addr: load.target.addr,
            epoll: Epoll::new()?,
            connections: std::iter::repeat_with(|| None).take(connections).collect(),
            traffic: Traffic {
                keep_alive: load.keep_alive,
                request_bytes: request.len(),
                batch: request.repeat(batch_requests),
                to_send: requests,
                unfinished: requests,
                input: vec![0; INPUT_BYTES],
                checker: Checker::new(load.status, load.body.clone()),
                outcome: Outcome::new(),
            },
        })
    }

    fn run(mut self) -> io::Result<Outcome> {
        let cpu_before = sys::thread_cpu()?;
        for slot in 0..self.connections.len() {
            self.open(slot)?;
        }
        let mut events = [Event::EMPTY; EVENTS_MAX];
        while self.traffic.unfinished > 0 && !self.traffic.is_hopeless() {
            let found = self.epoll.wait(&mut events, Some(STALL))?;
            if found == 0 {
                self.traffic.give_up(&format!("nothing received for {STALL:?}"));
                break;
            }
            for event in &events[..found] {
                self.drive(event.token() as usize, event.is_hangup())?;
            }
        }
        self.traffic.give_up("too many failures");
        self.traffic.outcome.cpu = sys::thread_cpu()? - cpu_before;
        Ok(self.traffic.outcome)
    }

    /// Opens a connection in `slot`, if a request is left for it, and sends its first batch.
    fn open(&mut self, slot: usize) -> io::Result<()> {
        while self.traffic.to_send > 0 && !self.traffic.is_hopeless() {
            let fd = match sys::connect(self.addr) {
                Ok(fd) => fd,
                Err(error) => {
                    self.traffic.to_send -= 1;
                    self.traffic.unfinished -= 1;
                    self.traffic.outcome.fail(1, &error);
                    continue;
                }
            };
            self.traffic.outcome.connects += 1;
            self.epoll.add(fd.as_fd(), slot as u64)?;
            let now = Instant::now();
            let connection = self.connections[slot].insert(Connection {
                fd,
                unsent: 0..0,
                sent_at: now,
                in_flight: 0,
                progress: Progress::default(),
                closing: false,
            });
            connection.send_batch(&mut self.traffic, now);
            return Ok(());
        }
        Ok(())
    }

    /// Goes on with a connection on which something has happened.
    fn drive(&mut self, slot: usize, hangup: bool) -> io::Result<()> {
        let Some(connection) = &mut self.connections[slot] else { return Ok(()) };
        connection.send_rest(&self.traffic);
        let Some(end) = connection.receive(&mut self.traffic, hangup) else { return Ok(()) };
        match end {
            // What is in flight behind an announced close was not processed (RFC 9112 §9.6).
            End::Regular => self.traffic.to_send += connection.in_flight,
            End::Early(why) => {
                self.traffic.unfinished -= connection.in_flight;
                self.traffic.outcome.fail(connection.in_flight, &why);
            }
        }
        self.connections[slot] = None;
        self.open(slot)
    }
}

impl Connection {
    /// Takes the next requests and sends as much of them as the socket takes now.
    fn send_batch(&mut self, traffic: &mut Traffic, now: Instant) {
        let count = traffic.to_send.min((traffic.batch.len() / traffic.request_bytes) as u64);
        traffic.to_send -= count;
        self.in_flight = count;
        self.unsent = 0..count as usize * traffic.request_bytes;
        self.sent_at = now;
        self.send_rest(traffic);
    }

    /// Sends what the socket takes. Any error but a full socket shows again at the next receive.
    fn send_rest(&mut self, traffic: &Traffic) {
        while !self.unsent.is_empty() {
            match sys::send(self.fd.as_fd(), &traffic.batch[self.unsent.clone()], More::No) {
                Ok(len) => self.unsent.start += len,
                Err(_) => return,
            }
        }
    }

    /// Receives what there is, and sends the next batch where the last one is answered; tells if the
    /// connection is over.
    fn receive(&mut self, traffic: &mut Traffic, hangup: bool) -> Option<End> {
        loop {
            let len = match sys::recv(self.fd.as_fd(), &mut traffic.input) {
                Ok(0) if self.in_flight == 0 || self.closing => return Some(End::Regular),
                Ok(0) => return Some(End::Early("connection closed before the response".to_owned())),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) if self.in_flight == 0 => return Some(End::Regular),
                Err(error) => return Some(End::Early(error.to_string())),
            };
            let completed = match traffic.checker.feed(&mut self.progress, &traffic.input[..len]) {
                Ok(completed) => completed,
                Err(malformed) => return Some(End::Early(malformed.to_string())),
            };
            let count = completed.ok + completed.wrong;
            if count > self.in_flight {
                return Some(End::Early("more responses than requests".to_owned()));
            }
            if count > 0 {
                let now = Instant::now();
                self.in_flight -= count;
                traffic.count(completed, now.duration_since(self.sent_at));
                self.closing |= completed.close;
                if self.in_flight == 0 && traffic.keep_alive && !self.closing && traffic.to_send > 0 {
                    self.send_batch(traffic, now);
                }
            }
            // A short read has emptied the socket, and what comes later is a new edge.
            if len < traffic.input.len() && !hangup {
                return None;
            }
        }
    }
}

impl Traffic {
    fn is_hopeless(&self) -> bool {
        self.outcome.failed >= FAILURES_MAX
    }

    /// Counts what is unfinished as failed.
    fn give_up(&mut self, why: &str) {
        if self.unfinished > 0 {
            self.outcome.fail(self.unfinished, &why);
            self.unfinished = 0;
        }
    }

    fn count(&mut self, completed: Completed, latency: Duration) {
        let count = completed.ok + completed.wrong;
        self.unfinished -= count;
        self.outcome.ok += completed.ok;
        if completed.wrong > 0 {
            self.outcome.fail(completed.wrong, &"a response of another status or body");
        }
        self.outcome.latency_ns.saturating_record_n(latency.as_nanos() as u64, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_differ_by_one_at_most_and_add_up() {
        let shares: Vec<u64> = (0..4).map(|index| share(10, 4, index)).collect();
        assert_eq!(shares, [3, 3, 2, 2]);
    }
}
