//! What does an HTTP request cost the server, beside the floor: the least that this kernel allows?
//!
//! Each server runs in a process of its own on the first CPU, the load generator on the others. Rounds
//! alternate between the servers; the figure to trust is `ratio_to_floor`, then `cpu`; the user part is
//! sampled by the kernel's tick, so count instructions instead where it matters. The server can be run alone
//! for a profiler:
//!
//! ```text
//! cargo bench --bench http -- --mode all                       (--help lists the options)
//! cargo bench --bench http -- --callgrind                      (instructions per request)
//! cargo bench --bench http --no-run                            (prints the path of the program: $HTTP)
//! valgrind --tool=callgrind $HTTP --role floor --listen 127.0.0.1:8080 &
//! $HTTP --url http://127.0.0.1:8080/plaintext -n 100000 -c 64 -k
//! ```
//!
//! On a machine with other work (see the warnings, and `waited`) `sudo chrt -f 1 $HTTP ...` keeps it off
//! both CPUs for the length of the bench: a server then differs from itself by 2 % between the quartiles
//! instead of 10. A server with more OS threads than CPUs is not to be measured so, for they starve each
//! other.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use bast_benches::args::{self, Options};
use bast_benches::load::Load;
use bast_benches::mode;
use bast_benches::report::{self, Figure};
use bast_benches::rounds::{self, Plan};
use bast_benches::servers::{self, RoleArgs};
use bast_benches::tool::Tool;
use bast_benches::url::Target;
use bast_benches::{machine, probe, sys};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("http: {why}");
            return ExitCode::from(2);
        }
    };
    if options.help {
        print!("{}", args::help());
        return ExitCode::SUCCESS;
    }
    let done = if let Some(role) = &options.role {
        serve(role, &options).map(|()| true)
    } else if let Some(url) = &options.url {
        load(url, &options)
    } else {
        measure(&options)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("http: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(role: &str, options: &Options) -> io::Result<()> {
    sys::die_with_parent()?;
    let args = RoleArgs {
        listen: options.listen,
        workers: options.workers,
        root: options.root.clone(),
        mode: options.modes[0],
        like: options.like,
    };
    servers::serve_as(role, &args)
}

/// Loads a server that runs already. True if no request failed.
fn load(url: &str, options: &Options) -> io::Result<bool> {
    let machine = machine::announce();
    let mut target = Target::parse(url)?;
    if let Some(host) = &options.host {
        target.host.clone_from(host);
    }
    let expected = probe::fetch(&target, !options.keep_alive)?;
    let load = Load {
        target,
        requests: options.requests.unwrap_or(100_000),
        connections: options.connections.unwrap_or(64),
        threads: options.threads,
        keep_alive: options.keep_alive,
        pipeline: options.pipeline.unwrap_or(1),
        status: expected.head.status,
        body: expected.body,
        cpus: sys::affinity()?,
    };
    let outcome = load.run()?;
    let warnings: Vec<String> = outcome.failure.iter().cloned().collect();
    let figures = report::outcome_figures("load", &[&outcome]);
    print_report(&figures, &warnings);
    write_json(options, &machine, &figures, &warnings)?;
    Ok(outcome.failed == 0)
}

/// Measures servers of our own and peers. True if no request failed.
fn measure(options: &Options) -> io::Result<bool> {
    let machine = machine::announce();
    let cpus = sys::affinity()?;
    let names = match options.scaling {
        true => (1..=cpus.len()).map(|workers| format!("bast@{workers}")).collect(),
        false => options.servers.clone(),
    };
    let servers = [servers::named(&names).map_err(io::Error::other)?, options.peers.clone()].concat();
    let workers_own = servers.iter().filter_map(|server| server.workers).max();
    let workers_max = options.workers.max(workers_own.unwrap_or(1));
    let (server_cpus, client_cpus) = cpus.split_at(workers_max.min(cpus.len()));
    let client_cpus = if client_cpus.is_empty() { &cpus } else { client_cpus };
    let root = TemporaryDirectory::new()?;
    mode::write_files(root.path())?;
    let mut figures = Vec::new();
    let mut warnings = Vec::new();
    let mut failed = 0;
    for mode in &options.modes {
        let mut mode = *mode;
        mode.connections = options.connections.unwrap_or(mode.connections);
        mode.pipeline = options.pipeline.unwrap_or(mode.pipeline);
        let plan = Plan {
            mode,
            servers: &servers,
            rounds: options.rounds,
            cpu_seconds: options.cpu_seconds,
            requests: options.requests,
            smoke: options.smoke,
            workers: options.workers,
            client_threads: options.threads,
            server_cpus,
            client_cpus,
            root: root.path(),
        };
        let mut table = String::new();
        let (new_figures, new_warnings) = if let Some(tool) = options.tool {
            (count(tool, &plan)?, Vec::new())
        } else {
            let measured = rounds::measure(&plan)?;
            let samples = measured.series.iter().flat_map(|series| &series.samples);
            failed += samples.map(|sample| sample.outcome.failed).sum::<u64>();
            println!("\n{}: {} (c={})", mode.name, mode.question, mode.connections);
            table = report::table(&measured);
            report::figures(mode.name, &measured)
        };
        print_report(&new_figures, &new_warnings);
        print!("{table}");
        figures.extend(new_figures);
        warnings.extend(new_warnings);
    }
    write_json(options, &machine, &figures, &warnings)?;
    Ok(failed == 0)
}

fn count(tool: Tool, plan: &Plan<'_>) -> io::Result<Vec<Figure>> {
    println!("\n{}: {} (c={})", plan.mode.name, tool.unit, plan.mode.connections);
    let mut figures = Vec::new();
    for (index, server) in plan.servers.iter().enumerate() {
        for (what, value) in tool.counts_per_request(plan, index)? {
            let name = format!("{}.{}.{what}", plan.mode.name, server.name);
            figures.push(Figure { name, value, unit: tool.unit, spread: None });
        }
    }
    Ok(figures)
}

fn print_report(figures: &[Figure], warnings: &[String]) {
    for figure in figures {
        println!("{figure}");
    }
    for warning in warnings {
        println!("warning: {warning}");
    }
}

fn write_json(
    options: &Options,
    machine: &[(&'static str, String)],
    figures: &[Figure],
    warnings: &[String],
) -> io::Result<()> {
    match &options.json {
        Some(path) => fs::write(path, report::to_json(machine, figures, warnings)),
        None => Ok(()),
    }
}

/// A directory that is removed with all in it when dropped.
struct TemporaryDirectory(std::path::PathBuf);

impl TemporaryDirectory {
    fn new() -> io::Result<TemporaryDirectory> {
        let path = std::env::temp_dir().join(format!("bast-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(TemporaryDirectory(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // Left behind in the temporary directory at worst.
        let _ = fs::remove_dir_all(&self.0);
    }
}
