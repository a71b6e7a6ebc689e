//! What the integration tests share.

pub mod child;
pub mod counting_alloc;
pub mod ends;
pub mod source;
pub mod sys;
pub mod trace;

use bast::net::TcpStream;
use bast::{BlockedOn, Builder, Handle, JoinHandle};
use std::io::Write;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How long a test may take: many times what the slowest needs on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

static DEADLOCKS_EXPECTED: AtomicBool = AtomicBool::new(false);

/// For tests in which threads deadlock: reports of that are no failure in this process.
pub fn expect_deadlock_reports() {
    DEADLOCKS_EXPECTED.store(true, Ordering::SeqCst);
}

/// Every test looks out for deadlocks that the runtime reports: where none is expected a report is false, or the test
/// is wrong.
fn fail_on_deadlock_reports() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if DEADLOCKS_EXPECTED.load(Ordering::SeqCst) {
            return;
        }
        bast::deadlock::set_hook(|report| {
            if !DEADLOCKS_EXPECTED.load(Ordering::SeqCst) {
                let _ = writeln!(std::io::stderr(), "a deadlock where none was expected: {report}");
                std::process::abort();
            }
        });
    });
}

/// Runs a test. If it has not ended after 30 s the process aborts, with the name of the test: a test that hangs is a
/// test that fails.
pub fn deadline<T>(test: impl FnOnce() -> T) -> T {
    deadline_within(LIMIT, test)
}

/// The same with another limit, for a test that does a lot.
pub fn deadline_within<T>(limit: Duration, test: impl FnOnce() -> T) -> T {
    fail_on_deadlock_reports();
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let (ended, over) = channel::<()>();
    let watch = thread::spawn(move || {
        if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            // Not by eprintln, which the test harness keeps to itself.
            let _ = writeln!(std::io::stderr(), "{name} has not ended after {limit:?}");
            std::process::abort();
        }
    });
    let result = test();
    drop(ended);
    watch.join().expect("the watch over a test does not panic");
    result
}

/// Runs `main` as the first green thread of a runtime with so many capabilities, under a [`deadline`].
///
/// The environment variable `BAST_TEST_SLICE_US` sets the time slice in microseconds, so that all tests can be run with
/// one of 100 µs, the least there is, where threads lose their core at every other call.
pub fn on_capabilities<T: Send + 'static>(count: usize, main: impl FnOnce() -> T + Send + 'static) -> T {
    deadline(|| {
        let mut builder = bast::Runtime::builder().capabilities(count);
        if let Ok(slice_us) = std::env::var("BAST_TEST_SLICE_US") {
            let slice_us = slice_us.parse().expect("BAST_TEST_SLICE_US is a number of microseconds");
            builder = builder.time_slice(Duration::from_micros(slice_us));
        }
        builder.build().expect("a runtime can be built").run(main)
    })
}

/// Waits until `count` threads of this runtime are blocked on what `matches` says.
pub fn until_blocked(count: usize, matches: impl Fn(BlockedOn) -> bool) {
    until_blocked_in(&Handle::current(), count, matches, bast::yield_now);
}

/// The same from an OS thread, or for another runtime than the caller's; `pause` is called between two looks.
pub fn until_blocked_in(
    runtime: &Handle,
    count: usize,
    matches: impl Fn(BlockedOn) -> bool,
    pause: impl Fn(),
) {
    while runtime.threads().iter().filter(|thread| thread.blocked_on.is_some_and(&matches)).count() < count {
        pause();
    }
}

/// Waits until `condition` holds, and lets other threads run meanwhile.
pub fn until(condition: impl Fn() -> bool) {
    while !condition() {
        bast::yield_now();
    }
}

/// Spawns on the capability with the given index (modulo their number) for good.
pub fn spawn_on<T: Send + 'static>(index: usize, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let runtime = Handle::current();
    let capability = runtime.capability(index % runtime.capabilities());
    Builder::new().on(capability).spawn(f).expect("a thread can be spawned")
}

/// A connection over loopback: one end for green threads, and one of std's, whose small writes do not block.
pub fn connected() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let peer =
        std::net::TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it connects");
    let (stream, _) = listener.accept().expect("a connection waits");
    (TcpStream::try_from(stream).expect("it becomes non-blocking"), peer)
}
