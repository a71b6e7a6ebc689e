//! The watchdog: a thread that does not let go of its core is named, with its stack.

use bast::{Builder, Hog, Runtime, RuntimeBuilder};
use bast_tests::{child, deadline, until};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const SLICE: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_millis(20);

#[inline(never)]
fn hogging_function(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        black_box(());
    }
}

/// A runtime of one capability with a short limit, and the reports of its watchdog.
fn watched(limit: Option<Duration>) -> (Runtime, Receiver<(Hog, Instant)>) {
    let (tx, rx) = channel();
    let builder: RuntimeBuilder = Runtime::builder().capabilities(1).time_slice(SLICE).watchdog(limit);
    let tell = move |hog: &Hog| {
        // The test may be over.
        let _ = tx.send((hog.clone(), Instant::now()));
    };
    (builder.on_hog(tell).build().unwrap(), rx)
}

#[test]
fn a_thread_that_holds_its_core_while_others_wait_is_named_with_its_stack() {
    deadline(|| {
        let (runtime, reports) = watched(Some(LIMIT));
        let over = Arc::new(AtomicBool::new(false));
        let hog = runtime
            .handle()
            .spawn_with(Builder::new().name("the hog"), {
                let over = Arc::clone(&over);
                move || hogging_function(&over)
            })
            .unwrap();
        let waits = runtime.handle().spawn(|| ());
        let (report, first) = reports.recv().unwrap();
        assert_eq!((report.thread.id, report.thread.label.as_deref()), (hog.id(), Some("the hog")));
        assert!(report.held >= LIMIT, "{report:?}");
        assert!(report.thread.cpu_time >= LIMIT, "{report:?}");
        let is_hog = |frame: &bast::Frame| {
            frame.function.as_deref().is_some_and(|name| name.ends_with("hogging_function"))
        };
        assert!(report.frames.iter().any(is_hog), "{report}");
        assert!(report.to_string().contains("\"the hog\""), "{report}");

        // As long as it goes on it is reported again, but not all the time.
        let (again, second) = reports.recv().unwrap();
        assert!(again.held >= 2 * LIMIT, "{again:?}");
        assert!(second - first > Duration::from_millis(900), "{:?}", second - first);

        over.store(true, Ordering::Relaxed);
        hog.join().unwrap();
        waits.join().unwrap();
    });
}

#[test]
fn a_thread_that_keeps_nobody_waiting_or_that_yields_is_not_reported() {
    // More than a busy machine keeps an OS thread waiting for its CPU.
    const LIMIT: Duration = Duration::from_millis(500);
    deadline(|| {
        let (runtime, reports) = watched(Some(LIMIT));
        // Alone on its core.
        runtime.run(|| {
            let start = Instant::now();
            while start.elapsed() < 2 * LIMIT {
                black_box(());
            }
        });
        // With others, whom it lets run whenever its slice is over.
        runtime.run(|| {
            let other = bast::spawn(|| bast::sleep(3 * LIMIT));
            let start = Instant::now();
            while start.elapsed() < 2 * LIMIT {
                bast::yield_point();
            }
            other.join().unwrap();
        });
        // Asleep, with nobody on the core.
        runtime.run(|| bast::sleep(2 * LIMIT));
        drop(runtime);
        let reported: Vec<_> = reports.iter().collect();
        assert!(reported.is_empty(), "{reported:?}");
    });
}

#[test]
fn the_watchdog_can_be_switched_off() {
    deadline(|| {
        let (runtime, reports) = watched(None);
        runtime.run(|| {
            let other = bast::spawn(|| ());
            let start = Instant::now();
            while start.elapsed() < 5 * LIMIT {
                black_box(());
            }
            other.join().unwrap();
        });
        drop(runtime);
        assert!(reports.recv().is_err());
    });
}

/// The signal that looks at a thread must not be seen by what the thread does: calls that can be interrupted go on.
#[test]
fn a_thread_that_is_looked_at_while_it_blocks_its_core_notices_nothing() {
    deadline(|| {
        let (runtime, reports) = watched(Some(LIMIT));
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let blocks = runtime.handle().spawn(move || {
            // A read of std's, which blocks the OS thread.
            let mut byte = [0];
            std::io::Read::read(&mut &ours, &mut byte).map(|_| byte[0])
        });
        let waits = runtime.handle().spawn(|| ());
        let (report, _) = reports.recv().unwrap();
        assert_eq!(report.thread.id, blocks.id());
        for _ in 0..20 {
            runtime.handle().dump().unwrap();
        }
        std::io::Write::write_all(&mut theirs, b"x").unwrap();
        assert_eq!(blocks.join().unwrap().unwrap(), b'x');
        waits.join().unwrap();
    });
}

#[test]
fn a_report_goes_to_the_log() {
    /// Prints what is logged.
    struct Logger;
    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            eprintln!("{}: {}", record.level(), record.args());
        }
        fn flush(&self) {}
    }
    let output = child::run(|| {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
        let (runtime, reports) = watched(Some(LIMIT));
        runtime.run(move || {
            let other = bast::spawn(|| ());
            reports.recv().unwrap(); // blocks the core
            other.join().unwrap();
        });
    });
    let told = child::stderr(&output);
    assert_eq!(output.status.code(), Some(child::RETURNED), "{told}");
    assert!(told.contains("WARN: bast: a thread has held its core for"), "{told}");
    assert!(told.contains("bast::yield_point") && told.contains("\"main\""), "{told}");
}

#[test]
fn cpu_time_and_switches_are_told_of_each_thread() {
    deadline(|| {
        let runtime = Runtime::builder().capabilities(1).time_slice(SLICE).watchdog(None).build().unwrap();
        runtime.run(|| {
            let info = |id| bast::threads().into_iter().find(|info| info.id == id).unwrap();
            let over = Arc::new(AtomicBool::new(false));
            let busy = bast::spawn({
                let over = Arc::clone(&over);
                move || {
                    while !over.load(Ordering::Relaxed) {
                        bast::yield_point();
                    }
                }
            });
            let idle = bast::spawn(|| bast::sleep(Duration::from_secs(3600)));
            assert_eq!((info(busy.id()).switches, info(busy.id()).cpu_time), (0, Duration::ZERO));
            until(|| info(busy.id()).cpu_time >= 50 * SLICE);
            // It ran for whole slices, so that it was switched to about once for each; others (this test) ran as well.
            let seen = info(busy.id());
            assert!((1..5000).contains(&seen.switches), "{seen:?}");
            let idle_seen = info(idle.id());
            assert_eq!(idle_seen.switches, 1);
            assert!(idle_seen.cpu_time < seen.cpu_time, "{idle_seen:?}");
            assert!(seen.cpu_time <= seen.age + 20 * SLICE, "{seen:?}");
            over.store(true, Ordering::Relaxed);
            busy.join().unwrap();
            idle.thread().kill();
        });
    });
}
