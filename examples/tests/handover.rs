//! Processes that hand their listening socket on, under load, as their users run them.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// No step of these tests takes longer unless something hangs.
const DEADLINE: Duration = Duration::from_secs(60);

const PROGRAM: &str = env!("CARGO_BIN_EXE_handover");

/// A directory for a test's socket, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = env_temp().join(format!("bast-handover-{name}-{}", process::id()));
        fs::create_dir(&path).expect("a new directory");
        Directory(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("socket")
    }
}

fn env_temp() -> PathBuf {
    std::env::temp_dir()
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The generations of one server: all write to the pipe of the first.
struct Generations {
    first: Child,
    lines: Receiver<String>,
    /// Whoever said last that it serves.
    last: u32,
    address: SocketAddr,
}

impl Generations {
    fn start(path: &Path) -> Generations {
        let before = inode(path);
        let mut command = Command::new(PROGRAM);
        command.arg(path).arg("127.0.0.1:0");
        let generations = Generations::start_by(command);
        wait_for_another(path, before);
        generations
    }

    fn start_by(mut command: Command) -> Generations {
        let mut first = command.stdout(Stdio::piped()).spawn().expect("start the program");
        let stdout = first.stdout.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut generations =
            Generations { last: first.id(), first, lines, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        generations.announced();
        generations
    }

    /// Waits until a generation says that it serves.
    fn announced(&mut self) {
        let line = self.lines.recv_timeout(DEADLINE).expect("a line of the program");
        let mut words = line.split(' ');
        self.last = words.nth(1).and_then(|id| id.parse().ok()).expect("a process id");
        let address = words.nth(1).and_then(|url| url.strip_prefix("http://")).expect("an address");
        self.address = address.parse().expect("an address");
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        // Generations that have handed over end by themselves.
        signal(self.last, "KILL");
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

/// Sends a signal by kill(1), since nothing here may name libc. The process may have ended.
fn signal(id: u32, name: &str) {
    let _ = Command::new("kill").args(["-s", name, &id.to_string()]).stderr(Stdio::null()).status();
}

/// One request over a connection of its own: the id of the process that answered.
fn visit(address: SocketAddr) -> io::Result<u32> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.strip_prefix("HTTP/1.1 200 OK").and_then(|rest| rest.split("\r\n\r\n").nth(1));
    let id = body.and_then(|body| body.trim_end().parse().ok());
    id.ok_or_else(|| io::Error::other(format!("no answer: {answer:?}")))
}

/// The file at the path, which each generation replaces by its own.
fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// Waits until the next generation offers at the path.
fn wait_for_another(path: &Path, before: Option<u64>) {
    let start = Instant::now();
    while inode(path).is_none_or(|now| Some(now) == before) {
        assert!(start.elapsed() < DEADLINE, "nobody offers at the path");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until all new connections are answered by this process.
fn wait_for(address: SocketAddr, id: u32) {
    let start = Instant::now();
    while visit(address).expect("an answer") != id {
        assert!(start.elapsed() < DEADLINE, "process {id} does not take over");
    }
}

#[test]
fn ten_hand_overs_under_ten_thousand_connects_refuse_and_reset_nobody() {
    const VISITS: usize = 10_000;
    const HAND_OVERS: usize = 10;
    const VISITORS: usize = 8;
    let directory = Directory::new("ten");
    let mut generations = Generations::start(&directory.path());
    let address = generations.address;
    let (visits, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let visitors: Vec<_> = (0..VISITORS)
        .map(|_| {
            let (visits, over) = (Arc::clone(&visits), Arc::clone(&over));
            thread::spawn(move || -> io::Result<()> {
                // Until both are done: the hand-overs, and as many visits as were promised.
                while visits.fetch_add(1, Ordering::Relaxed) < VISITS || !over.load(Ordering::Relaxed) {
                    visit(address)?;
                }
                Ok(())
            })
        })
        .collect();
    for hand_over in 0..HAND_OVERS {
        // Spread over the visits.
        let start = Instant::now();
        while visits.load(Ordering::Relaxed) < VISITS * hand_over / HAND_OVERS {
            assert!(start.elapsed() < DEADLINE, "the visitors do not get on");
            thread::sleep(Duration::from_millis(1));
        }
        let (before, file) = (generations.last, inode(&directory.path()));
        signal(before, "HUP");
        generations.announced();
        assert_ne!(generations.last, before);
        wait_for_another(&directory.path(), file);
        assert_eq!(generations.address, address);
        wait_for(address, generations.last);
    }
    over.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor
            .join()
            .expect("a visitor does not panic")
            .expect("nobody was refused, reset or left without an answer");
    }
    assert!(visits.load(Ordering::Relaxed) >= VISITS);
}

#[test]
fn a_successor_that_dies_before_it_serves_changes_nothing() {
    let directory = Directory::new("dies");
    let path = directory.path();
    let generations = Generations::start(&path);
    assert_eq!(visit(generations.address).expect("an answer"), generations.last);
    for words in [&b""[..], b"rea", b"later\n"] {
        let mut successor = UnixStream::connect(&path).expect("the path of the server");
        let mut hello = [0; 17];
        // The descriptor that comes with it is lost with the process; a plain read drops it.
        successor.read_exact(&mut hello).expect("an offer");
        assert!(hello.starts_with(b"bast handover 1 "));
        successor.write_all(words).expect("the server listens");
        drop(successor);
        assert_eq!(visit(generations.address).expect("an answer"), generations.last);
    }
    let mut generations = generations;
    signal(generations.last, "HUP");
    generations.announced();
    wait_for(generations.address, generations.last);
}

#[test]
fn the_path_is_for_the_user_only_and_goes_with_the_server() {
    let directory = Directory::new("path");
    let path = directory.path();
    let mut generations = Generations::start(&path);
    visit(generations.address).expect("an answer");
    let mode = fs::metadata(&path).expect("the path is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    signal(generations.last, "TERM");
    assert!(generations.first.wait().expect("an end").success());
    assert_eq!(fs::read_dir(&directory.0).expect("the directory").count(), 0, "nothing is left");
    // What a killed server leaves behind is in nobody's way.
    let mut killed = Generations::start(&path);
    visit(killed.address).expect("an answer");
    killed.first.kill().expect("a process to kill");
    killed.first.wait().expect("an end");
    assert!(path.exists());
    let generations = Generations::start(&path);
    visit(generations.address).expect("an answer");
}

#[test]
fn a_path_that_is_something_else_is_left_alone() {
    let directory = Directory::new("else");
    fs::write(directory.path(), "precious").expect("a file");
    let output =
        Command::new(PROGRAM).arg(directory.path()).arg("127.0.0.1:0").output().expect("run the program");
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("is there and no socket"), "{stderr}");
    assert_eq!(fs::read_to_string(directory.path()).expect("the file"), "precious");
}

#[test]
fn a_second_server_at_the_path_of_one_that_runs_takes_over_and_does_not_fight() {
    let directory = Directory::new("second");
    let mut first = Generations::start(&directory.path());
    let second = Generations::start(&directory.path());
    assert_eq!(second.address, first.address);
    assert!(first.first.wait().expect("an end").success());
    assert_eq!(visit(second.address).expect("an answer"), second.last);
}

/// A shell that starts the program with a socket as descriptor 3, as systemd does, and says so.
fn activated(socket: impl Into<OwnedFd>, variables: &str, path: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("LISTEN_PID=$$ {variables} exec {PROGRAM} \"$0\" 127.0.0.1:0 3<&0 0</dev/null"))
        .arg(path)
        .stdin(Stdio::from(socket.into()));
    command
}

#[test]
fn a_socket_that_the_program_is_started_with_is_served_and_outlives_it() {
    let directory = Directory::new("activated");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    let duplicate = || listener.try_clone().expect("a duplicate");
    let variables = "LISTEN_FDS=1 LISTEN_FDNAMES=http";
    let mut first = Generations::start_by(activated(duplicate(), variables, &directory.path()));
    assert_eq!(first.address, address);
    assert_eq!(visit(address).expect("an answer"), first.last);
    signal(first.last, "TERM");
    assert!(first.first.wait().expect("an end").success());
    // Nobody serves: the next process answers who comes now.
    let mut waiting = TcpStream::connect(address).expect("the socket still listens");
    waiting.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    waiting.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("send");
    let second = Generations::start_by(activated(duplicate(), variables, &directory.path()));
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with(&format!("\r\n\r\n{}\n", second.last)), "{answer}");
}

#[test]
fn a_descriptor_that_is_no_listener_is_a_clear_error() {
    let directory = Directory::new("no-listener");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let file = fs::File::open("/dev/null").expect("a file");
    let path = directory.path();
    for (mut command, fault) in [
        (activated(stream, "LISTEN_FDS=1", &path), "not a listening socket"),
        (activated(file, "LISTEN_FDS=1", &path), "not a socket"),
        (
            activated(listener.try_clone().expect("a duplicate"), "LISTEN_FDS=1 LISTEN_FDNAMES=a:b", &path),
            "2 names for 1",
        ),
        (activated(listener.try_clone().expect("a duplicate"), "LISTEN_FDS=many", &path), "no number"),
        (activated(listener, "LISTEN_FDS=900", &path), "LISTEN_FDS counts descriptor"),
    ] {
        let output = command.output().expect("run the program");
        assert!(!output.status.success());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(fault), "{fault}: {stderr}");
    }
}
