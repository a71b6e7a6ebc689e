//! A logger is the program's own code: it may wait, and it may fail.
#![forbid(unsafe_code)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bast_server::middleware::{Middleware, Next};
use bast_server::{Handler as _, Request, Response, Router, Server, Settings, TimeLimits};
use support::{DEADLINE, settings, start};

/// All limits of these tests.
const LIMIT: Duration = Duration::from_millis(200);

/// Waits where it says that a client is too slow, until it is let go, and a moment where a file cannot be read, and panics once where it says that one is quiet.
struct Logger;

static WAITING: AtomicBool = AtomicBool::new(false);
static LET_GO: AtomicBool = AtomicBool::new(false);
static PANICKED: AtomicBool = AtomicBool::new(false);
static UNREAD: AtomicBool = AtomicBool::new(false);
static KILLING: AtomicBool = AtomicBool::new(false);

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        if text.starts_with("client too slow") {
            WAITING.store(true, Ordering::SeqCst);
            while !LET_GO.load(Ordering::SeqCst) {
                bast::sleep(Duration::from_millis(1));
            }
        }
        if text.contains("could not be read at") {
            // Whoever waits has sent before what he held.
            bast::sleep(Duration::from_millis(1));
            UNREAD.store(true, Ordering::SeqCst);
        }
        if text.starts_with("killing 0 ") {
            KILLING.store(true, Ordering::SeqCst);
        }
        if text.starts_with("connection quiet") && !PANICKED.swap(true, Ordering::SeqCst) {
            panic!("a panic that the test wants");
        }
    }

    fn flush(&self) {}
}

/// The logger is the process's: one test at a time.
fn logging() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Debug);
    turn
}

#[test]
fn a_logger_that_waits_does_not_keep_new_connections_out() {
    let _turn = logging();
    let time_limits = TimeLimits { body: LIMIT, body_bytes_per_second_min: 1000, ..TimeLimits::default() };
    let app = Router::new()
        .post("/", |request: &mut Request<'_>| request.read_text())
        .get("/", |_: &mut Request<'_>| "hello");
    let server = start(Settings { time_limits, workers: Some(1), ..settings() }, app);
    let mut slow = server.connect();
    slow.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n");
    let begun = Instant::now();
    while !WAITING.load(Ordering::SeqCst) {
        assert!(begun.elapsed() < DEADLINE, "nobody is found too slow");
        slow.send("x");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.connect().get("/").body, "hello");
    LET_GO.store(true, Ordering::SeqCst);
}

#[test]
fn a_logger_that_panics_does_not_end_the_time_limits() {
    let _turn = logging();
    let time_limits = TimeLimits { keep_alive_idle: LIMIT, ..TimeLimits::default() };
    let server =
        start(Settings { time_limits, workers: Some(1), ..settings() }, |_: &mut Request<'_>| "hello");
    let mut first = server.connect();
    assert_eq!(first.get("/").body, "hello");
    first.closed();
    assert!(PANICKED.load(Ordering::SeqCst));
    let mut second = server.connect();
    assert_eq!(second.get("/").body, "hello");
    second.closed();
}

/// Files become shorter when they have been opened.
struct Shrinks(PathBuf);

impl Middleware for Shrinks {
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        let response = next.run(request);
        fs::File::options().write(true).open(&self.0).expect("the file").set_len(3).expect("it is shorter");
        response
    }
}

#[test]
fn a_file_that_has_become_shorter_is_one_error_also_where_the_logger_waits() {
    let _turn = logging();
    let directory = std::env::temp_dir().join(format!("bast-loggers-{}", process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("file");
    fs::write(&file, [b'x'; 1000]).expect("a file");
    let app = Router::new().get("/", |_: &mut Request<'_>| "hello").files("/files", &directory);
    let server = start(Settings { workers: Some(1), ..settings() }, app.with(Shrinks(file)));
    let mut client = server.connect();
    assert_eq!(client.get("/files/file").code, 500);
    assert!(UNREAD.load(Ordering::SeqCst));
    assert_eq!(client.get("/").body, "hello");
    fs::remove_dir_all(&directory).expect("the directory goes");
}

#[test]
fn a_server_without_connections_does_not_say_that_it_kills_any() {
    let _turn = logging();
    let server = Server::bind("127.0.0.1:0").expect("bind").settings(settings());
    let handle = server.handle();
    handle.shutdown();
    handle.shutdown();
    server.serve(|_: &mut Request<'_>| "hello").expect("a clean end");
    assert!(!KILLING.load(Ordering::SeqCst));
}
