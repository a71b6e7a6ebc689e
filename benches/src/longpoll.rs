//! The longpoll bench: a topic with thousands of waiters, first green threads alone, then handlers, then clients over real
//! sockets.
//!
//! ```text
//! green     publish ──▶ M threads run, and end                            what waking costs
//! memory    publish ──▶ M handlers run, and answer into memory            what it costs where descriptors are no limit
//! sockets   publish ──▶ N handlers run, answer, wait for the next request  what a long poll costs, to its client
//! ```
//! The clients are in a process of their own, each process with its own limit on descriptors, and ask again only when they are told
//! to: so the CPU time of the server's process between a publish and the last answer is that of waking and answering. The
//! server has one capability.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bast_server::testing::TestClient;
use bast_server::topic::Topic;
use bast_server::{Error, Request, Response, Router, Server, Settings};

use crate::args::{number, positive};
use crate::program::{self, Common};
use crate::report::{self, Figure, median};
use crate::sys::{self, Epoll, Event};
use crate::{machine, procstat};

/// What `--help` prints.
pub const HELP: &str = "\
What it costs to wake, and to answer, thousands of parked long polls by one publish.

cargo bench --bench longpoll -- OPTIONS      (paths are relative to benches/)

  --parked N           how many wait without a socket (100000)
  --waiters N          how many clients wait (10000, or what the limit on descriptors allows)
  --rounds N           how often each figure is read (11); the medians are printed
  --smoke              200 of each, 2 rounds; exit 1 or 101 if something does not add up
  --json FILE          the figures as JSON too

A line is: name, median, unit (least [quartile..quartile] most).
";

const PARKED: usize = 100_000;
const WAITERS: usize = 10_000;
const WAITERS_SMOKE: usize = 200;
const ROUNDS: usize = 11;
const ROUNDS_SMOKE: usize = 2;

/// Descriptors that are needed for other things than connections.
const DESCRIPTORS_ASIDE: usize = 100;

/// Longer than any wait here takes.
const LONG: Duration = Duration::from_secs(3600);

/// What is published, and how long it is in all.
const EVENT_BYTES: usize = 128;

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    common: Common,
    /// How many wait without a socket.
    parked: usize,
    /// How many clients wait.
    waiters: usize,
    /// How often.
    rounds: usize,
    /// Be the clients of this server.
    client_of: Option<SocketAddr>,
}

impl Options {
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let (mut parked, mut waiters, mut rounds, mut client_of) = (None, None, None, None);
        let common = Common::parse(args, |option, value| {
            match option {
                "--parked" => parked = Some(positive(option, &value()?)?),
                "--waiters" => waiters = Some(positive(option, &value()?)?),
                "--rounds" => rounds = Some(positive(option, &value()?)?),
                "--client-of" => client_of = Some(number(option, &value()?)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (usual_parked, usual_waiters, usual_rounds) = if common.smoke {
            (WAITERS_SMOKE, WAITERS_SMOKE, ROUNDS_SMOKE)
        } else {
            (PARKED, WAITERS.min(procstat::descriptors_max().saturating_sub(DESCRIPTORS_ASIDE)), ROUNDS)
        };
        let (parked, waiters) = (parked.unwrap_or(usual_parked), waiters.unwrap_or(usual_waiters));
        Ok(Options { common, parked, waiters, rounds: rounds.unwrap_or(usual_rounds), client_of })
    }
}

/// Runs the bench, or its clients, as the arguments behind the program's name ask for.
///
/// # Errors
/// A wrong argument; within, those of sockets and processes.
///
/// # Panics
/// Where a waiter does not get what was published.
pub fn run(args: impl IntoIterator<Item = String>) -> Result<io::Result<bool>, String> {
    let options = Options::parse(args)?;
    if let Some(server) = options.client_of {
        let done = sys::die_with_parent().and_then(|()| client(server, options.waiters));
        return Ok(done.map(|()| true));
    }
    let no_role = |role: &str| Err(program::no_such_role(role));
    Ok(options.common.run(HELP, no_role, || measure(&options).map(|()| true)))
}

fn measure(options: &Options) -> io::Result<()> {
    let machine = machine::announce();
    let mut readings = Readings::default();
    green(options, &mut readings)?;
    memory(options, &mut readings)?;
    sockets(options, &mut readings)?;
    let figures = readings.figures();
    for figure in &figures {
        println!("{figure}");
    }
    match &options.common.json {
        Some(path) => fs::write(path, report::to_json(&machine, &figures, &[])),
        None => Ok(()),
    }
}

/// Values by name, in the order of their first reading.
#[derive(Default)]
struct Readings(Vec<(&'static str, &'static str, Vec<f64>)>);

impl Readings {
    fn add(&mut self, name: &'static str, value: f64, unit: &'static str) {
        match self.0.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., values)) => values.push(value),
            None => self.0.push((name, unit, vec![value])),
        }
    }

    fn figures(self) -> Vec<Figure> {
        self.0.into_iter().map(|(name, unit, values)| median(name.to_owned(), unit, values)).collect()
    }
}

/// CPU time of this process.
fn cpu() -> Duration {
    sys::process_cpu(std::process::id()).expect("a process can read its own clock")
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Green threads that wait for an event, and nothing else.
fn green(options: &Options, readings: &mut Readings) -> io::Result<()> {
    let &Options { parked: waiters, rounds, .. } = options;
    let runtime = bast::Runtime::builder().capabilities(1).build()?;
    let costs: Vec<(Duration, Duration)> = runtime.run(move || {
        let topic = Topic::new(1);
        (0..rounds)
            .map(|_| {
                let from = topic.latest();
                let waiting: Vec<_> = (0..waiters)
                    .map(|_| {
                        let topic = topic.clone();
                        bast::spawn(move || {
                            topic.wait_after(from, LONG).map(|event| event.map(|event| event.data.len()))
                        })
                    })
                    .collect();
                while topic.subscriptions() < waiters {
                    bast::yield_now();
                }
                let (before, started) = (cpu(), Instant::now());
                topic.publish(vec![b'x'; EVENT_BYTES]);
                for waiter in waiting {
                    let event = waiter.join().expect("a waiter only waits");
                    assert_eq!(event, Ok(Some(EVENT_BYTES)), "longpoll: a waiter without the event");
                }
                (started.elapsed(), cpu() - before)
            })
            .collect()
    });
    for (wall, cpu) in costs {
        readings.add("green.wake_all_cpu", ms(cpu), "ms");
        readings.add("green.wake_cpu", cpu.as_nanos() as f64 / waiters as f64, "ns/waiter");
        readings.add("green.wake_all_wall", ms(wall), "ms");
    }
    Ok(())
}

/// Handlers of the server that wait for an event, each with a connection that is only memory.
fn memory(options: &Options, readings: &mut Readings) -> io::Result<()> {
    let &Options { parked: waiters, rounds, .. } = options;
    let runtime = bast::Runtime::builder().capabilities(1).build()?;
    let seen: Vec<(Duration, Vec<f64>)> = runtime.run(move || {
        let topic = Topic::new(1);
        let app = {
            let topic = topic.clone();
            Router::new().get("/poll", move |_: &mut Request<'_>| -> Result<Response, Error> {
                let event = topic.wait_after(topic.latest(), LONG)?;
                Ok(Response::bytes("text/plain", event.expect("nobody waits for so long").data))
            })
        };
        let client = Arc::new(TestClient::new(app));
        let round = |_| {
            let waiting: Vec<_> = (0..waiters)
                .map(|_| {
                    let client = Arc::clone(&client);
                    bast::spawn(move || {
                        let answer = client.raw(POLL);
                        latency_ms(&answer, since_1970())
                    })
                })
                .collect();
            while topic.subscriptions() < waiters {
                bast::yield_now();
            }
            let before = cpu();
            topic.publish(stamped());
            let answered = waiting.into_iter().map(|waiter| waiter.join().expect("a waiter only waits"));
            let mut latencies_ms = answered.collect::<io::Result<Vec<f64>>>()?;
            let cpu = cpu() - before;
            latencies_ms.sort_by(f64::total_cmp);
            Ok((cpu, latencies_ms))
        };
        (0..rounds).map(round).collect::<io::Result<_>>()
    })?;
    for (cpu, latencies_ms) in seen {
        readings.add("memory.parked", latencies_ms.len() as f64, "handlers");
        readings.add("memory.answer_all_cpu", ms(cpu), "ms");
        readings.add("memory.answer_cpu", cpu.as_nanos() as f64 / 1e3 / waiters as f64, "us/handler");
        readings.add("memory.delivery_p50", at(&latencies_ms, 0.5), "ms");
        readings.add("memory.delivery_p99", at(&latencies_ms, 0.99), "ms");
        readings.add("memory.delivery_max", at(&latencies_ms, 1.0), "ms");
    }
    Ok(())
}

/// The request of a poll.
const POLL: &[u8] = b"GET /poll HTTP/1.1\r\nHost: longpoll\r\n\r\n";

/// The quantile of sorted values.
fn at(sorted: &[f64], quantile: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * quantile) as usize]
}

/// Clients over real sockets.
fn sockets(options: &Options, readings: &mut Readings) -> io::Result<()> {
    let &Options { waiters, rounds, .. } = options;
    let topic = Topic::new(1);
    let settings = Settings { workers: Some(1), handle_signals: false, ..Settings::default() };
    let server = Server::bind("127.0.0.1:0")?.settings(settings);
    let (address, handle) = (server.local_addr()?, server.handle());
    let app = {
        let topic = topic.clone();
        Router::new().get("/poll", move |request: &mut Request<'_>| -> Result<Response, Error> {
            let event = request.presence().wait_after(&topic, topic.latest(), LONG)??;
            Ok(Response::bytes("text/plain", event.expect("nobody waits for so long").data))
        })
    };
    let serving = thread::spawn(move || server.serve(app));
    let mut clients = Clients::spawn(address, waiters)?;
    for _ in 0..rounds {
        clients.ask()?;
        while topic.subscriptions() < waiters {
            thread::sleep(Duration::from_millis(1));
        }
        let (before, started) = (cpu(), Instant::now());
        topic.publish(stamped());
        let latencies = clients.answered()?;
        let (wall, cpu) = (started.elapsed(), cpu() - before);
        readings.add("sockets.answer_all_cpu", ms(cpu), "ms");
        readings.add("sockets.answer_cpu", cpu.as_nanos() as f64 / 1e3 / waiters as f64, "us/client");
        readings.add("sockets.answer_all_wall", ms(wall), "ms");
        for (name, latency) in LATENCIES.iter().zip(latencies) {
            readings.add(name, latency, "ms");
        }
    }
    drop(clients);
    handle.shutdown();
    serving.join().map_err(|_| io::Error::other("the server panicked"))?
}

/// What a client's line has: from the publish to an answer.
const LATENCIES: [&str; 3] = ["sockets.latency_p50", "sockets.latency_p99", "sockets.latency_max"];

/// An event that says when it was published.
fn stamped() -> Vec<u8> {
    let mut event = since_1970().as_nanos().to_string().into_bytes();
    event.resize(EVENT_BYTES, b' ');
    event
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The process of the clients.
struct Clients {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Clients {
    fn spawn(server: SocketAddr, waiters: usize) -> io::Result<Clients> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--client-of", &server.to_string(), "--waiters", &waiters.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().expect("its output was asked for"));
        Ok(Clients { child, lines })
    }

    /// Lets all of them ask.
    fn ask(&mut self) -> io::Result<()> {
        self.child.stdin.as_mut().expect("its input was asked for").write_all(b"ask\n")
    }

    /// Waits until all have their answer; how long that took, as in [`LATENCIES`].
    fn answered(&mut self) -> io::Result<Vec<f64>> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        let values: Option<Vec<f64>> =
            line.split_ascii_whitespace().map(|value| value.parse().ok()).collect();
        let values = values.filter(|values| values.len() == LATENCIES.len());
        values.ok_or_else(|| io::Error::other(format!("the clients said {line:?}")))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // Without input they end.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The clients: connected once; for each line of input all ask, and when all have their answer a line is printed.
fn client(server: SocketAddr, waiters: usize) -> io::Result<()> {
    let epoll = Epoll::new()?;
    let mut streams = Vec::with_capacity(waiters);
    for index in 0..waiters {
        let stream = TcpStream::connect(server)?;
        stream.set_nonblocking(true)?;
        epoll.add(stream.as_fd(), index as u64)?;
        streams.push(stream);
    }
    let mut events = vec![Event::EMPTY; 512];
    for line in io::stdin().lines() {
        line?;
        for stream in &streams {
            (&*stream).write_all(POLL)?;
        }
        let mut latencies_ms = Vec::with_capacity(waiters);
        while latencies_ms.len() < waiters {
            let count = epoll.wait(&mut events, None)?;
            let now = since_1970();
            for event in &events[..count] {
                let mut stream = &streams[event.token() as usize];
                let mut answer = [0; 1024];
                match stream.read(&mut answer) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(length) => latencies_ms.push(latency_ms(&answer[..length], now)?),
                    // The first event of a socket says that it can be written to.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        latencies_ms.sort_by(f64::total_cmp);
        let at = |quantile| at(&latencies_ms, quantile);
        println!("{} {} {}", at(0.5), at(0.99), at(1.0));
    }
    Ok(())
}

/// How long ago an answer's event was published.
fn latency_ms(answer: &[u8], now: Duration) -> io::Result<f64> {
    let text = String::from_utf8_lossy(answer);
    let body = text.split_once("\r\n\r\n").filter(|(head, _)| head.starts_with("HTTP/1.1 200 "));
    let published = body.and_then(|(_, body)| body.trim_end().parse().ok()).map(Duration::from_nanos);
    let published = published.ok_or_else(|| io::Error::other(format!("not an answer: {text:?}")))?;
    Ok(ms(now.saturating_sub(published)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_number_given_wins_over_that_of_a_smoke_test() {
        for line in ["--smoke --waiters 7 --parked 9 --bench", "--parked 9 --waiters 7 --smoke"] {
            let options = parse(line).unwrap();
            assert_eq!((options.parked, options.waiters, options.rounds), (9, 7, ROUNDS_SMOKE));
        }
        assert_eq!(parse("--rounds 0").unwrap_err(), "--rounds cannot be 0");
        assert_eq!(parse("--nope").unwrap_err(), "no such option: --nope (see --help)");
    }

    #[test]
    fn an_answer_tells_how_old_its_event_is() {
        let now = since_1970();
        let answer = [b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", &stamped()[..]].concat();
        assert!(latency_ms(&answer, now + Duration::from_secs(1)).unwrap() >= 900.0);
        assert!(latency_ms(b"HTTP/1.1 503 Service Unavailable\r\n\r\n1", now).is_err());
        assert!(latency_ms(b"HTTP/1.1 200 OK\r\n\r\nx", now).is_err());
    }
}
