//! The http bench's command line.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::mode::{MODES, Mode};
use crate::servers::ServerUnderTest;
use crate::tool::{CALLGRIND, STRACE, Tool};

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// The workloads.
    pub modes: Vec<Mode>,
    /// The names of our servers to measure.
    pub servers: Vec<String>,
    /// Our server with 1 core to all, instead of those.
    pub scaling: bool,
    /// Other servers to measure.
    pub peers: Vec<ServerUnderTest>,
    /// Rounds at least.
    pub rounds: usize,
    /// CPU seconds per server in all.
    pub cpu_seconds: f64,
    /// Cores per server.
    pub workers: usize,
    /// `-n`
    pub requests: Option<u64>,
    /// `-c`
    pub connections: Option<usize>,
    /// `-t`
    pub threads: usize,
    /// `-k`
    pub keep_alive: bool,
    /// `--pipeline`
    pub pipeline: Option<usize>,
    /// Only run the load generator, against this.
    pub url: Option<String>,
    /// The Host field, if not the URL's.
    pub host: Option<String>,
    /// Where to write JSON.
    pub json: Option<PathBuf>,
    /// Few requests; fail if one does.
    pub smoke: bool,
    /// Count under this tool instead of measuring time.
    pub tool: Option<Tool>,
    /// Print the help.
    pub help: bool,
    /// Be a server.
    pub role: Option<String>,
    /// Where a role listens.
    pub listen: SocketAddr,
    /// Where a role finds static files.
    pub root: PathBuf,
    /// The server that a role copies.
    pub like: Option<SocketAddr>,
}

/// What `--help` prints, but for the list of workloads.
const HELP: &str = "\
Server CPU per HTTP request beside the floor, the smallest epoll loop that answers the same bytes.

cargo bench --bench http -- OPTIONS      (paths are relative to benches/)

measuring
  --mode M[,M...]      workloads (keepalive,pipelined), or all
  --server S[,S...]    floor, bast, bast-limited, bast-unlimited, bast-crowded, bast-logged, threads, green, queue,
                       queue-os, leaders, leaders-os, floor-joined, floor-apart, floor-nagle: our servers, the
                       first being what the others are compared with; one named twice shows the noise (floor,bast);
                       NAME@N is one with N cores
  --scaling            bast with one core to all, instead: what each further core loses
  --peer 'NAME IP:PORT COMMAND'
                       another server, in the same rounds; {root} is the directory of the static files
  --rounds N           interleaved rounds at least (25)
  --cpu-seconds S      CPU time that each server uses in all, at least (10)
  --workers N          cores per server (1); the load generator gets the rest
  -n N  -c N  -t N     requests per round, connections, load generator OS threads (by workload, by workload, 1)
  --pipeline N         requests sent at once on a connection (by workload)
  --smoke              one short round of each workload; exit 1 if a response is wrong
  --strace             system calls per request instead of time (needs strace)
  --callgrind          instructions in user mode per request instead of time (needs valgrind)
  --json FILE          the figures as JSON too

loading any server (weighttp's flags)
  --url URL [-n N] [-c N] [-t N] [-k] [--pipeline N] [--host NAME]
                       -k keeps connections; without it each request has its own

seeing MSG_MORE: the head of a file and its body in one segment, in two, in two with Nagle's algorithm (40 ms)
  --mode file-c1 -n 200 --rounds 5 --server floor-joined,floor-apart,floor-nagle,bast
  scripts/packets URL  the segments of such a server, by tcpdump

where a request's CPU time goes: receiving, parsing, the handler, composing, sending, allocating (needs perf)
  scripts/shares [WORKLOAD] [SERVER]

being a server, for a profiler
  --role S [--listen IP:PORT] [--workers N] [--mode M] [--root DIR] [--like IP:PORT]
";

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = format!("{HELP}\nworkloads\n");
    for mode in MODES {
        text += &format!("  {:<20} {}\n", mode.name, mode.question);
    }
    text
}

impl Options {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// One line that says which argument is wrong.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            modes: Vec::new(),
            servers: ["floor", "bast"].map(str::to_owned).to_vec(),
            scaling: false,
            peers: Vec::new(),
            rounds: 25,
            cpu_seconds: 10.0,
            workers: 1,
            requests: None,
            connections: None,
            threads: 1,
            keep_alive: false,
            pipeline: None,
            url: None,
            host: None,
            json: None,
            smoke: false,
            tool: None,
            help: false,
            role: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            root: PathBuf::from("."),
            like: None,
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--mode" => options.modes = parse_modes(&value()?)?,
                "--server" => options.servers = value()?.split(',').map(str::to_owned).collect(),
                "--scaling" => options.scaling = true,
                "--peer" => options.peers.push(value()?.parse()?),
                "--rounds" => options.rounds = positive(&arg, &value()?)?,
                "--cpu-seconds" => options.cpu_seconds = number(&arg, &value()?)?,
                "--workers" => options.workers = positive(&arg, &value()?)?,
                "-n" => options.requests = Some(positive(&arg, &value()?)? as u64),
                "-c" => options.connections = Some(positive(&arg, &value()?)?),
                "-t" => options.threads = positive(&arg, &value()?)?,
                "-k" => options.keep_alive = true,
                "--pipeline" => options.pipeline = Some(positive(&arg, &value()?)?),
                "--url" => options.url = Some(value()?),
                "--host" => options.host = Some(value()?),
                "--json" => options.json = Some(value()?.into()),
                "--smoke" => options.smoke = true,
                "--strace" => options.tool = Some(STRACE),
                "--callgrind" => options.tool = Some(CALLGRIND),
                "--help" => options.help = true,
                "--role" => options.role = Some(value()?),
                "--listen" => options.listen = number(&arg, &value()?)?,
                "--root" => options.root = value()?.into(),
                "--like" => options.like = Some(number(&arg, &value()?)?),
                // What cargo adds to the arguments of every bench.
                "--bench" => {}
                _ => return Err(format!("no such option: {arg} (see --help)")),
            }
        }
        if options.modes.is_empty() {
            let default = if options.smoke { "all" } else { "keepalive,pipelined" };
            options.modes = parse_modes(default)?;
        }
        Ok(options)
    }
}

fn parse_modes(names: &str) -> Result<Vec<Mode>, String> {
    if names == "all" {
        return Ok(MODES.to_vec());
    }
    let named = |name| Mode::named(name).ok_or_else(|| format!("no such workload: {name} (see --help)"));
    names.split(',').map(named).collect()
}

pub(crate) fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} cannot be '{value}'"))
}

pub(crate) fn positive(name: &str, value: &str) -> Result<usize, String> {
    match number(name, value)? {
        0 => Err(format!("{name} cannot be 0")),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    fn names(options: &Options) -> Vec<&'static str> {
        options.modes.iter().map(|mode| mode.name).collect()
    }

    #[test]
    fn weighttps_flags_are_understood() {
        let options = parse("--url http://x/ -n 100 -c 10 -t 2 -k --bench").unwrap();
        assert_eq!((options.requests, options.connections, options.threads), (Some(100), Some(10), 2));
        assert!(options.keep_alive);
    }

    #[test]
    fn the_workloads_are_the_main_two_unless_told() {
        assert_eq!(names(&parse("").unwrap()), ["keepalive", "pipelined"]);
        assert_eq!(names(&parse("--mode c1,large").unwrap()), ["c1", "large"]);
        assert_eq!(parse("--smoke").unwrap().modes.len(), MODES.len());
    }

    #[test]
    fn a_wrong_argument_is_named() {
        assert_eq!(parse("--nope").unwrap_err(), "no such option: --nope (see --help)");
        assert_eq!(parse("-n").unwrap_err(), "-n needs a value");
        assert_eq!(parse("-c 0").unwrap_err(), "-c cannot be 0");
        assert_eq!(parse("-c x").unwrap_err(), "-c cannot be 'x'");
        assert_eq!(parse("--mode x").unwrap_err(), "no such workload: x (see --help)");
    }
}
