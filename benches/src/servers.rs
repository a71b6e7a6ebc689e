//! The servers under test, each a process of its own: started, waited for, measured, ended.
//!
//! Ours and the references are this very program run again with a hidden `--role`, so that a bench is one
//! binary and callgrind can run the server alone; peers are any command.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use bast::Runtime;
use bast_examples::demo::{self, Burns};
use bast_server::{Limits, Server, Settings, TimeLimits};

use crate::answer::Answer;
use crate::floor::Sending;
use crate::memory::Footprint;
use crate::mode::Mode;
use crate::procstat::CpuTime;
use crate::url::Target;
use crate::{accepting, floor, green_threads, os_threads, probe, procstat, sys};

/// A server that does not listen by then will not.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// A server that is asked to end may have connections to drain first, and strace slows that down.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at a process of which nothing else tells when it listens, or has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Events that the log of `bast-logged` keeps: its memory is then a megabyte and a half.
const LOG_EVENTS: usize = 1 << 16;

/// The roles that answer what another server answers.
const REFERENCES: [&str; 10] = [
    "floor",
    "floor-joined",
    "floor-apart",
    "floor-nagle",
    "threads",
    "green",
    "queue",
    "queue-os",
    "leaders",
    "leaders-os",
];

/// Longer than any bench.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// A server's name and how to start it.
#[derive(Clone, Debug)]
pub struct ServerUnderTest {
    /// What the figures call it.
    pub name: String,
    /// Cores to use, where they are its own affair.
    pub workers: Option<usize>,
    launch: Launch,
}

#[derive(Clone, Debug)]
enum Launch {
    /// This program again, told to be `role`; the function is what it then does.
    Role { role: &'static str, serve: fn(&RoleArgs) -> io::Result<()> },
    /// A shell command for a server on a fixed address.
    Peer { addr: SocketAddr, command: String },
}

/// What a role is told.
#[derive(Clone, Debug)]
pub struct RoleArgs {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Cores to use.
    pub workers: usize,
    /// Where the static files are.
    pub root: PathBuf,
    /// What will be asked for; the references answer nothing else.
    pub mode: Mode,
    /// The server whose responses the references copy.
    pub like: Option<SocketAddr>,
}

/// The servers that this program can be, the floor first.
#[must_use]
pub fn servers() -> Vec<ServerUnderTest> {
    vec![
        ServerUnderTest::role("floor", |args| floor::serve(args.listen, reference_answer(args)?)),
        ServerUnderTest::role("floor-joined", |args| send_file(args, Sending::Joined)),
        ServerUnderTest::role("floor-apart", |args| send_file(args, Sending::Apart)),
        ServerUnderTest::role("floor-nagle", |args| send_file(args, Sending::Nagle)),
        ServerUnderTest::role("bast", |args| {
            let app = demo::app(Some(&args.root), Burns::KeepTheCore)?;
            Server::bind(args.listen)?.workers(args.workers).serve(app)
        }),
        // With every limit there is, and with none: what limits cost.
        ServerUnderTest::role("bast-limited", |args| {
            let time_limits = TimeLimits { handler: Some(Duration::from_secs(30)), ..TimeLimits::default() };
            serve_with(args, Settings { time_limits, ..Settings::default() })
        }),
        ServerUnderTest::role("bast-unlimited", |args| serve_with(args, unlimited())),
        // For clients that do nothing for longer than they usually may.
        ServerUnderTest::role("bast-crowded", |args| {
            let time_limits = TimeLimits { keep_alive_idle: IDLE_MAX, ..TimeLimits::default() };
            serve_with(args, Settings { time_limits, ..Settings::default() })
        }),
        ServerUnderTest::role("bast-logged", |args| {
            let app = demo::app(Some(&args.root), Burns::KeepTheCore)?;
            let server = Server::bind(args.listen)?;
            let runtime = Runtime::builder().capabilities(args.workers).build()?;
            let _log = runtime.handle().start_event_log(LOG_EVENTS)?;
            runtime.run(move || server.serve(app))
        }),
        ServerUnderTest::role("threads", |args| os_threads::serve(args.listen, reference_answer(args)?)),
        ServerUnderTest::role("green", |args| {
            green_threads::serve(args.listen, args.workers, reference_answer(args)?)
        }),
        ServerUnderTest::role("queue", |args| {
            accepting::queue_green(args.listen, args.workers, reference_answer(args)?)
        }),
        ServerUnderTest::role("queue-os", |args| accepting::queue_os(args.listen, reference_answer(args)?)),
        ServerUnderTest::role("leaders", |args| {
            accepting::leaders_green(args.listen, args.workers, reference_answer(args)?)
        }),
        ServerUnderTest::role("leaders-os", |args| {
            accepting::leaders_os(args.listen, reference_answer(args)?)
        }),
    ]
}

fn send_file(args: &RoleArgs, sending: Sending) -> io::Result<()> {
    floor::serve_file(args.listen, reference_answer(args)?, sending)
}

fn serve_with(args: &RoleArgs, settings: Settings) -> io::Result<()> {
    let app = demo::app(Some(&args.root), Burns::KeepTheCore)?;
    Server::bind(args.listen)?.settings(Settings { workers: Some(args.workers), ..settings }).serve(app)
}

/// No limit that can be lifted.
fn unlimited() -> Settings {
    let for_ever = Duration::MAX;
    Settings {
        limits: Limits {
            request_line_bytes_max: usize::MAX,
            head_bytes_max: usize::MAX,
            fields_max: usize::MAX,
            body_bytes_max: u64::MAX,
            chunk_overhead_bytes_max: usize::MAX,
            requests_per_connection_max: u32::MAX,
            connections_max: usize::MAX,
            connections_per_address_max: usize::MAX,
            ..Limits::default()
        },
        time_limits: TimeLimits {
            head: for_ever,
            keep_alive_idle: for_ever,
            body: for_ever,
            body_bytes_per_second_min: 0,
            write: for_ever,
            write_bytes_per_second_min: 0,
            handler: None,
            linger: for_ever,
        },
        ..Settings::default()
    }
}

/// The servers of these names, in their order. `NAME@N` is the server with N cores. One that is named again is measured again, as `NAME-2`: how
/// far a server is from itself is the noise of the bench.
///
/// # Errors
/// One line that says which name is unknown.
pub fn named(names: &[String]) -> Result<Vec<ServerUnderTest>, String> {
    let known = servers();
    let mut found: Vec<ServerUnderTest> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let no_such = || format!("no such server: {name}");
        let (plain, workers) = match name.split_once('@') {
            Some((plain, workers)) => (plain, Some(workers.parse().map_err(|_| no_such())?)),
            None => (name.as_str(), None),
        };
        let server = known.iter().find(|server| server.name == plain);
        let mut server = ServerUnderTest { workers, ..server.ok_or_else(no_such)?.clone() };
        server.name.clone_from(name);
        let earlier = names[..index].iter().filter(|earlier| *earlier == name).count();
        if earlier > 0 {
            server.name = format!("{name}-{}", earlier + 1);
        }
        found.push(server);
    }
    Ok(found)
}

fn reference_answer(args: &RoleArgs) -> io::Result<Answer> {
    let model = match args.like {
        Some(addr) => Some(probe::fetch(&Target::new(addr, args.mode.path), !args.mode.keep_alive)?),
        None => None,
    };
    Answer::of(&args.mode, &args.root, model)
}

/// Is the server `name` in this process, for ever or until it fails.
///
/// # Errors
/// The server's own, or `InvalidInput` for an unknown name.
pub fn serve_as(name: &str, args: &RoleArgs) -> io::Result<()> {
    for server in servers() {
        if let Launch::Role { role, serve } = server.launch
            && role == name
        {
            return serve(args);
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no such role: {name}")))
}

impl FromStr for ServerUnderTest {
    type Err = String;

    /// A peer: `NAME ADDR COMMAND…`, separated by blanks. In the command `{root}` stands for the directory
    /// of the static files.
    fn from_str(peer: &str) -> Result<ServerUnderTest, String> {
        let mut words = peer.splitn(3, ' ');
        let (Some(name), Some(addr), Some(command)) = (words.next(), words.next(), words.next()) else {
            return Err(format!("a peer is 'NAME ADDR COMMAND', not '{peer}'"));
        };
        let addr = addr.parse().map_err(|_| format!("a peer's address is IP:PORT, not '{addr}'"))?;
        let launch = Launch::Peer { addr, command: command.to_owned() };
        Ok(ServerUnderTest { name: name.to_owned(), workers: None, launch })
    }
}

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct Setting<'a> {
    /// The CPUs it may use.
    pub cpus: &'a [usize],
    /// Cores it is told to use.
    pub workers: usize,
    /// Where the static files are.
    pub root: &'a Path,
    /// What will be asked for.
    pub mode: &'a Mode,
    /// The server whose responses the references copy.
    pub like: Option<SocketAddr>,
    /// A command under which a role is run, with its arguments.
    pub under: &'a [String],
}

impl ServerUnderTest {
    /// This program again, told to be `role`; `serve` is what it then does, where [`serve_as`] is asked.
    #[must_use]
    pub fn role(role: &'static str, serve: fn(&RoleArgs) -> io::Result<()>) -> ServerUnderTest {
        ServerUnderTest { name: role.to_owned(), workers: None, launch: Launch::Role { role, serve } }
    }

    /// Whether this is one of the servers that copy another's responses.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        matches!(self.launch, Launch::Role { role, .. } if REFERENCES.contains(&role))
    }

    /// Whether this is somebody else's server.
    #[must_use]
    pub fn is_peer(&self) -> bool {
        matches!(self.launch, Launch::Peer { .. })
    }

    /// Starts the server and waits until it accepts connections.
    ///
    /// # Errors
    /// Where it cannot be started, ends, or does not listen in time.
    pub fn start(&self, setting: &Setting<'_>) -> io::Result<Running> {
        let workers = self.workers.unwrap_or(setting.workers);
        let cpus = &setting.cpus[..self.workers.unwrap_or(usize::MAX).min(setting.cpus.len())];
        let setting = &Setting { workers, cpus, ..setting.clone() };
        let (addr, mut command) = match &self.launch {
            Launch::Role { role, .. } => {
                let addr = free_address()?;
                (addr, role_command(role, addr, setting)?)
            }
            Launch::Peer { addr, command } => {
                let command = command.replace("{root}", &setting.root.to_string_lossy());
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(format!("exec {command}"));
                (*addr, shell)
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        // A child starts with the affinity of the OS thread that forks it.
        let own_cpus = sys::affinity()?;
        sys::set_affinity(setting.cpus)?;
        let spawned = command.spawn();
        sys::set_affinity(&own_cpus)?;
        let mut running = Running { name: self.name.clone(), addr, child: spawned? };
        running.await_listening()?;
        Ok(running)
    }
}

/// This program with the arguments of a role, perhaps under another program.
fn role_command(role: &str, addr: SocketAddr, setting: &Setting<'_>) -> io::Result<Command> {
    let own_program = std::env::current_exe()?;
    let mut command = match setting.under {
        [] => Command::new(own_program),
        [outer, args @ ..] => {
            let mut command = Command::new(outer);
            command.args(args).arg(own_program);
            command
        }
    };
    command.args(["--role", role, "--listen", &addr.to_string()]);
    command.args(["--workers", &setting.workers.to_string(), "--mode", setting.mode.name]);
    command.arg("--root").arg(setting.root);
    if let Some(like) = setting.like {
        command.args(["--like", &like.to_string()]);
    }
    Ok(command)
}

/// An address that was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// A server's process; dropping it ends the process.
#[derive(Debug)]
pub struct Running {
    /// What the figures call it.
    pub name: String,
    /// Where it listens.
    pub addr: SocketAddr,
    child: Child,
}

impl Running {
    fn await_listening(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while TcpStream::connect(self.addr).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("{} ended with {status}", self.name)));
            }
            if Instant::now() > deadline {
                let why = format!("{} does not listen on {}", self.name, self.addr);
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// The process that was started: the server itself, unless it runs under another program.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time used by it and its child processes.
    ///
    /// # Errors
    /// Where one of them has ended.
    pub fn cpu_time(&self) -> io::Result<CpuTime> {
        CpuTime::of_tree(self.child.id())
    }

    /// The memory of it and its child processes, page tables included, in bytes.
    ///
    /// # Errors
    /// Where one of them has ended.
    pub fn footprint(&self) -> io::Result<u64> {
        let pids = procstat::tree(self.child.id())?;
        pids.into_iter().map(|pid| Footprint::of(pid).map(|found| found.total_bytes())).sum()
    }

    /// How many descriptors the process that was started has open.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Asks the process at the end of the chain (the one that strace runs, say) to end, and waits until all
    /// have. What does not end in time is ended without being asked.
    ///
    /// # Errors
    /// `TimedOut` where they do not end in time.
    pub fn end(mut self) -> io::Result<()> {
        let innermost = procstat::tree(self.child.id())?.pop().unwrap_or(self.child.id());
        self.end_by_asking(innermost)
    }

    fn end_by_asking(&mut self, pid: u32) -> io::Result<()> {
        sys::terminate(pid)?;
        let deadline = Instant::now() + END_PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                let why = format!("{} does not end on SIGTERM", self.name);
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

impl Drop for Running {
    /// A server with child processes ends them when it is asked to end; killed, it would leave them behind,
    /// listening.
    fn drop(&mut self) {
        let pid = self.child.id();
        let has_ended = matches!(self.child.try_wait(), Ok(Some(_)));
        if has_ended || self.end_by_asking(pid).is_ok() {
            return;
        }
        eprintln!("http: {} does not end on SIGTERM and is killed", self.name);
        for pid in procstat::tree(pid).unwrap_or_default() {
            let _ = sys::kill(pid);
        }
        let _ = self.child.wait();
    }
}
