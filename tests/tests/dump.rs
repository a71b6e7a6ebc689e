//! Dumps of all threads with their stacks.

use bast::sync::Mutex;
use bast::{Builder, Dump, Group, JoinHandle, State};
use bast_tests::{deadline, on_capabilities, spawn_on, sys, until};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

/// Functions that stay functions, so that they are to be found in stacks of optimised builds too. What follows a call
/// keeps it from becoming a jump.
#[inline(never)]
fn outer_function() {
    inner_function();
    black_box(());
}

#[inline(never)]
fn inner_function() {
    bast::sleep(LONG);
    black_box(());
}

#[inline(never)]
fn spinning_function(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        black_box(());
    }
}

#[inline(never)]
fn locking_function(mutex: &Mutex<()>) {
    drop(mutex.lock());
    black_box(());
}

fn functions(group: &Group) -> Vec<&str> {
    group.frames().iter().filter_map(|frame| frame.function.as_deref()).collect()
}

fn group_with<'a>(dump: &'a Dump, function: &str) -> &'a Group {
    let of = |group: &&Group| functions(group).iter().any(|name| name.ends_with(function));
    dump.groups().iter().find(of).unwrap_or_else(|| panic!("nobody is in {function}:\n{dump}"))
}

/// Spawns a sleeper and waits until it sleeps.
fn sleeper() -> JoinHandle<()> {
    let thread = Builder::new().name("sleeper").spawn(outer_function).unwrap();
    until(|| bast::threads().iter().any(|info| info.id == thread.id() && info.state == State::Blocked));
    thread
}

#[test]
fn a_parked_threads_stack_goes_from_its_blocking_call_to_its_closure() {
    on_capabilities(1, || {
        let thread = sleeper();
        let dump = bast::dump().unwrap();
        let group = group_with(&dump, "inner_function");
        assert_eq!(group.threads().len(), 1);
        assert_eq!(group.threads()[0].info.id, thread.id());
        let names = functions(group);
        let position = |of: &str| names.iter().position(|name| name.contains(of));
        let (sleep, inner, outer) = (
            position("bast::time::sleep"),
            position("dump::inner_function"),
            position("dump::outer_function"),
        );
        assert!(sleep < inner && inner < outer && inner.is_some(), "{names:#?}");
        assert!(!names.iter().any(|name| name.contains("bast::scheduler")), "{names:#?}");
        assert!(!names.iter().any(|name| name.contains("bast::thread")), "{names:#?}");
        if let Some(frame) = group.frames().iter().find(|frame| frame.line.is_some()) {
            assert!(frame.file.is_some());
        }
        let committed = group.threads()[0].stack_committed.unwrap();
        assert!((4096..192 << 10).contains(&committed), "{committed}");
    });
}

#[test]
fn threads_with_the_same_stack_are_one_group_in_the_text() {
    on_capabilities(2, || {
        let mutex = Arc::new(Mutex::new(()));
        let guard = mutex.lock();
        let threads: Vec<_> = (0..25)
            .map(|number| {
                let mutex = Arc::clone(&mutex);
                Builder::new()
                    .name(format!("locker {number}"))
                    .spawn(move || locking_function(&mutex))
                    .unwrap()
            })
            .collect();
        bast_tests::until_blocked(25, |what| what == bast::BlockedOn::Mutex);
        let dump = bast::dump().unwrap();
        let group = group_with(&dump, "locking_function");
        assert_eq!(group.threads().len(), 25, "{dump}");
        assert_eq!(dump.threads().count(), 26);
        assert!(group.threads().iter().is_sorted_by_key(|thread| thread.info.id));
        let text = dump.to_string();
        assert!(text.starts_with("26 threads with "), "{text}");
        assert_eq!(text.matches("locker ").count(), 10, "{text}");
        assert!(text.contains("and 15 more threads with the same stack"), "{text}");
        assert_eq!(text.matches("locking_function").count(), 1, "{text}");
        assert_eq!(format!("{dump:#}").matches("locker ").count(), 25);
        assert!(text.contains(": blocked on mutex, capability "), "{text}");
        drop(guard);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_thread_that_does_not_yield_is_walked_and_those_behind_it_too() {
    on_capabilities(2, || {
        let over = Arc::new(AtomicBool::new(false));
        let parked = spawn_on(1, outer_function);
        until(|| bast::threads().iter().any(|info| info.id == parked.id() && info.state == State::Blocked));
        let hog = spawn_on(1, {
            let over = Arc::clone(&over);
            move || spinning_function(&over)
        });
        until(|| bast::threads().iter().any(|info| info.id == hog.id() && info.state == State::Running));
        let behind = spawn_on(1, || ());
        for _ in 0..3 {
            let dump = bast::dump().unwrap();
            assert_eq!(group_with(&dump, "spinning_function").threads()[0].info.id, hog.id());
            assert_eq!(group_with(&dump, "inner_function").threads()[0].info.id, parked.id());
            let unstarted =
                |group: &&Group| group.threads().iter().any(|thread| thread.info.id == behind.id());
            let group = dump.groups().iter().find(unstarted).unwrap();
            assert!(group.frames().is_empty() && group.to_string().ends_with("    no stack: not started\n"));
            assert_eq!(group.threads()[0].stack_committed, None);
        }
        over.store(true, Ordering::Relaxed);
        hog.join().unwrap();
        behind.join().unwrap();
    });
}

#[test]
fn a_thread_that_yielded_shows_where() {
    #[inline(never)]
    fn yielding_function(over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            bast::yield_now();
        }
    }
    on_capabilities(1, || {
        let over = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let over = Arc::clone(&over);
                bast::spawn(move || yielding_function(&over))
            })
            .collect();
        until(|| bast::threads().iter().all(|info| info.switches > 1));
        for _ in 0..3 {
            let dump = bast::dump().unwrap();
            let there =
                |group: &&Group| functions(group).iter().any(|name| name.contains("yielding_function"));
            let count: usize = dump.groups().iter().filter(there).map(|group| group.threads().len()).sum();
            assert!(count > 0, "{dump}");
        }
        over.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_dump_while_threads_come_run_and_go_is_in_order() {
    on_capabilities(2, || {
        let kept: Vec<_> = (0..50).map(|_| sleeper()).collect();
        let over = Arc::new(AtomicBool::new(false));
        let churn = spawn_on(1, {
            let over = Arc::clone(&over);
            move || {
                let mut ended = 0;
                while !over.load(Ordering::Relaxed) {
                    let brief: Vec<_> = (0..50)
                        .map(|number| {
                            spawn_on(number, || {
                                for _ in 0..10 {
                                    bast::yield_now();
                                }
                            })
                        })
                        .collect();
                    ended += brief.into_iter().map(|thread| thread.join().unwrap()).count();
                }
                ended
            }
        });
        for _ in 0..5 {
            let dump = bast::dump().unwrap();
            assert_eq!(group_with(&dump, "inner_function").threads().len(), kept.len(), "{dump}");
        }
        over.store(true, Ordering::Relaxed);
        assert!(churn.join().unwrap() > 0, "nobody spawned meanwhile");
    });
}

#[test]
fn a_dump_from_an_os_thread_needs_no_capability() {
    deadline(|| {
        let runtime = bast::Runtime::builder().capabilities(1).build().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let hog = runtime.handle().spawn({
            let over = Arc::clone(&over);
            move || spinning_function(&over)
        });
        while runtime.handle().threads().iter().all(|thread| thread.state != State::Running) {
            std::thread::yield_now();
        }
        let dump = runtime.handle().dump().unwrap();
        assert_eq!(group_with(&dump, "spinning_function").threads()[0].info.id, hog.id());
        over.store(true, Ordering::Relaxed);
        hog.join().unwrap();
        let gone = runtime.handle();
        drop(runtime);
        assert_eq!(gone.dump().unwrap().threads().count(), 0);
    });
}

/// What `body` returns, and the longest time between two ticks of 1 ms on this core meanwhile.
fn beside_a_ticker<T>(body: impl FnOnce() -> T) -> (T, Duration) {
    let over = Arc::new(AtomicBool::new(false));
    let ticker = bast::spawn({
        let over = Arc::clone(&over);
        move || {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            while !over.load(Ordering::Relaxed) {
                bast::sleep(Duration::from_millis(1));
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            longest
        }
    });
    let result = body();
    over.store(true, Ordering::Relaxed);
    (result, ticker.join().unwrap())
}

/// The bench (`threads --only dump`) does this with 100,000.
#[test]
fn a_dump_of_many_threads_does_not_hold_up_a_core() {
    const PARKED: usize = 5_000;
    on_capabilities(1, || {
        let parked = Arc::new(AtomicUsize::new(0));
        for _ in 0..PARKED {
            let parked = Arc::clone(&parked);
            let builder = Builder::new().stack_size(1);
            let thread = builder.spawn(move || {
                parked.fetch_add(1, Ordering::Relaxed);
                outer_function();
            });
            drop(thread.unwrap());
        }
        until(|| parked.load(Ordering::Relaxed) == PARKED);
        let committed = sys::resident();
        let started = Instant::now();
        let (dump, longest) = beside_a_ticker(|| bast::dump().unwrap());
        let took = started.elapsed();
        // What a machine that has other things to do does to the ticker by itself.
        let ((), without) = beside_a_ticker(|| bast::sleep(took));
        assert_eq!(group_with(&dump, "inner_function").threads().len(), PARKED);
        println!(
            "{PARKED} threads: {took:?}, the ticker's longest pause {longest:?} ({without:?} without), memory {} KiB more",
            sys::resident().saturating_sub(committed) >> 10
        );
        // A dump on this core, or one that stops it, would take all of its time.
        let busy = 2 * without + Duration::from_millis(100);
        assert!(longest < busy.max(took / 2), "{longest:?} of {took:?}, and {without:?} without");
    });
}
