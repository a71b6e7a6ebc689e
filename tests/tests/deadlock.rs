//! Threads that wait for what can never come: what is reported, and what is not.
#![forbid(unsafe_code)]

use bast::deadlock::{self, Kind, Report};
use bast::sync::{Condvar, MVar, Mutex};
use bast::{BlockedOn, Builder, Handle, JoinHandle, Thread, ThreadId};
use bast_tests::{child, expect_deadlock_reports, on_capabilities, spawn_on, until, until_blocked};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

/// All reports of this process, whichever test's they are.
fn reports() -> &'static std::sync::Mutex<Vec<Report>> {
    static REPORTS: OnceLock<std::sync::Mutex<Vec<Report>>> = OnceLock::new();
    REPORTS.get_or_init(|| {
        expect_deadlock_reports();
        deadlock::set_hook(|report| reports().lock().unwrap().push(report.clone()));
        std::sync::Mutex::default()
    })
}

fn reports_with(id: ThreadId) -> Vec<Report> {
    let reports = reports().lock().unwrap();
    reports.iter().filter(|report| report.threads().iter().any(|thread| thread.id == id)).cloned().collect()
}

/// Waits for the report that names this thread.
fn report_with(id: ThreadId) -> Report {
    until(|| !reports_with(id).is_empty());
    reports_with(id).remove(0)
}

fn on_reported(capabilities: usize, main: impl FnOnce() + Send + 'static) {
    reports();
    on_capabilities(capabilities, main);
}

fn mutexes(count: usize) -> Vec<Arc<Mutex<()>>> {
    (0..count).map(|_| Arc::new(Mutex::new(()))).collect()
}

/// Threads in a circle: each locks its own mutex and, when all have, that of the next. On as many capabilities as there
/// are, in turn.
fn circle(mutexes: &[Arc<Mutex<()>>]) -> Vec<JoinHandle<()>> {
    let locked = Arc::new(AtomicUsize::new(0));
    let count = mutexes.len();
    (0..count)
        .map(|index| {
            let (own, next) = (Arc::clone(&mutexes[index]), Arc::clone(&mutexes[(index + 1) % count]));
            let locked = Arc::clone(&locked);
            spawn_on(index, move || {
                let _own = own.lock();
                locked.fetch_add(1, Ordering::SeqCst);
                until(|| locked.load(Ordering::SeqCst) == count);
                drop(next.lock());
            })
        })
        .collect()
}

fn end(threads: Vec<JoinHandle<()>>) {
    threads.iter().for_each(|thread| thread.thread().kill());
    for thread in threads {
        let _killed_or_let_go = thread.join();
    }
}

#[test]
fn a_mutex_that_is_locked_twice_is_a_cycle_of_one() {
    on_reported(1, || {
        let mutex = Arc::new(Mutex::new(()));
        let twice = Builder::new()
            .name("twice")
            .spawn({
                let mutex = Arc::clone(&mutex);
                move || {
                    let _guard = mutex.lock();
                    drop(mutex.lock());
                }
            })
            .unwrap();
        let report = report_with(twice.id());
        assert_eq!((report.kind(), report.threads().len(), report.threads_in_all()), (Kind::Cycle, 1, 1));
        assert_eq!(report.threads()[0].label.as_deref(), Some("twice"));
        assert_eq!(report.threads()[0].blocked_on, BlockedOn::Mutex);
        assert!(report.threads()[0].is_green);
        let text =
            format!("deadlock: thread {} \"twice\" waits for a mutex that it has locked itself", twice.id());
        assert_eq!(report.to_string(), text);
        // It is a report only: the thread waits on, and can be killed.
        until_blocked(1, |what| what == BlockedOn::Mutex);
        twice.thread().kill();
        assert!(twice.join().unwrap_err().is_killed());
        drop(mutex.lock());
    });
}

#[test]
fn a_cycle_is_found_whatever_its_length_and_however_many_capabilities_it_is_on() {
    for (capabilities, length) in [(1, 2), (2, 2), (1, 3), (2, 5), (3, 7), (2, 64)] {
        on_reported(capabilities, move || {
            let threads = circle(&mutexes(length));
            let report = report_with(threads[0].id());
            assert_eq!((report.kind(), report.threads_in_all()), (Kind::Cycle, length));
            // Each waits for the mutex of the next.
            let place: HashMap<ThreadId, usize> =
                threads.iter().enumerate().map(|(index, thread)| (thread.id(), index)).collect();
            let order: Vec<usize> = report.threads().iter().map(|thread| place[&thread.id]).collect();
            for (index, &at) in order.iter().enumerate() {
                assert_eq!(order[(index + 1) % length], (at + 1) % length, "{order:?}");
            }
            assert_eq!(reports_with(threads[0].id()).len(), 1, "reported twice");
            end(threads);
        });
    }
}

#[test]
fn a_report_shows_where_each_thread_waits() {
    // In a process of its own: of many reports in a second only one has stacks.
    bast_tests::child::succeeds(|| {
        on_reported(2, || {
            let threads = circle(&mutexes(2));
            let report = report_with(threads[0].id());
            for thread in report.threads() {
                // By the file: an inlined closure has a bare name.
                let waits = |frame: &bast::Frame| {
                    frame.file.as_ref().is_some_and(|file| file.ends_with("deadlock.rs"))
                };
                assert!(thread.frames.iter().any(waits), "{report:#}");
            }
            let text = format!("{report:#}");
            assert!(text.starts_with(&report.to_string()) && text.contains("blocked on mutex:\n"), "{text}");
            end(threads);
        });
    });
}

#[test]
fn every_one_of_many_cycles_is_found_when_two_cores_close_them_at_once() {
    const ROUNDS: usize = 300;
    on_reported(2, || {
        for _ in 0..ROUNDS {
            let pair = mutexes(2);
            let locked = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = (0..2)
                .map(|index| {
                    let (own, other) = (Arc::clone(&pair[index]), Arc::clone(&pair[1 - index]));
                    let locked = Arc::clone(&locked);
                    spawn_on(index, move || {
                        let _own = own.lock();
                        locked.fetch_add(1, Ordering::SeqCst);
                        // Both cores leave here at the same moment, or nearly so.
                        until(|| locked.load(Ordering::SeqCst) == 2);
                        drop(other.lock());
                    })
                })
                .collect();
            let report = report_with(threads[0].id());
            assert_eq!(report.threads_in_all(), 2);
            let ids: Vec<ThreadId> = threads.iter().map(JoinHandle::id).collect();
            end(threads);
            for id in ids {
                let reports = reports_with(id);
                assert_eq!(reports.len(), 1, "reported from both sides: {reports:?}");
            }
        }
    });
}

#[test]
fn os_threads_are_part_of_cycles() {
    on_reported(1, || {
        let pair = mutexes(2);
        let locked = Arc::new(AtomicUsize::new(0));
        let os_thread = thread::Builder::new()
            .name("outside".into())
            .spawn({
                let (pair, locked) = (pair.clone(), Arc::clone(&locked));
                move || {
                    let _own = pair[0].lock();
                    locked.fetch_add(1, Ordering::SeqCst);
                    while locked.load(Ordering::SeqCst) < 2 {
                        thread::yield_now();
                    }
                    drop(pair[1].lock());
                }
            })
            .unwrap();
        let green = bast::spawn({
            let (pair, locked) = (pair.clone(), Arc::clone(&locked));
            move || {
                let _own = pair[1].lock();
                locked.fetch_add(1, Ordering::SeqCst);
                until(|| locked.load(Ordering::SeqCst) == 2);
                drop(pair[0].lock());
            }
        });
        let report = report_with(green.id());
        assert_eq!(report.threads_in_all(), 2);
        let outside = report.threads().iter().find(|thread| !thread.is_green).unwrap();
        assert_eq!(outside.label.as_deref(), Some("outside"));
        assert!(report.to_string().contains(&format!("OS thread {} \"outside\" waits", outside.id)));
        green.thread().kill();
        assert!(green.join().unwrap_err().is_killed());
        os_thread.join().unwrap();
    });
}

#[test]
fn a_lock_that_closes_a_cycle_panics_where_that_is_wanted() {
    // In a process of its own, since the choice is the process's.
    child::succeeds(|| {
        expect_deadlock_reports();
        deadlock::panic_on_cycle(true);
        on_capabilities(2, || {
            let threads = circle(&mutexes(3));
            let ends: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
            let panics: Vec<String> = ends
                .into_iter()
                .filter_map(Result::err)
                .map(|error| {
                    assert!(error.is_panic());
                    let payload = std::panic::catch_unwind(AssertUnwindSafe(|| error.resume())).unwrap_err();
                    payload.downcast_ref::<String>().unwrap().clone()
                })
                .collect();
            // One gives way, with its guard; then the others get on.
            assert_eq!(panics.len(), 1, "{panics:?}");
            assert!(panics[0].starts_with("deadlock: thread"), "{panics:?}");
        });
        // An OS thread as well.
        let mutex = Mutex::new(());
        let twice = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let _guard = mutex.lock();
            drop(mutex.lock());
        }));
        assert!(twice.is_err());
        drop(mutex.lock());
        assert_eq!(deadlock::reports(), 2);
    });
}

#[test]
fn what_ends_by_itself_is_no_deadlock() {
    on_reported(1, || {
        let pair = mutexes(2);
        let ids: Vec<ThreadId> = {
            // The wait that would close the cycle has a deadline.
            let holder = bast::spawn({
                let pair = pair.clone();
                move || {
                    let _own = pair[0].lock();
                    until_blocked(1, |what| what == BlockedOn::Mutex);
                    assert!(bast::timeout(Duration::from_millis(5), || drop(pair[1].lock())).is_err());
                }
            });
            let other = bast::spawn({
                let pair = pair.clone();
                move || {
                    let _own = pair[1].lock();
                    drop(pair[0].lock());
                }
            });
            let ids = vec![holder.id(), other.id()];
            holder.join().unwrap();
            other.join().unwrap();
            ids
        };
        // Chains that are no circles, under contention, with condition variables and kills in between.
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let chain: Vec<_> = (0..100)
            .map(|index| {
                let (pair, shared) = (pair.clone(), Arc::clone(&shared));
                bast::spawn(move || {
                    let _outer = pair[0].lock();
                    bast::yield_now();
                    let _inner = pair[1].lock();
                    bast::yield_now();
                    let (count, changed) = &*shared;
                    *count.lock() += index % 2;
                    changed.notify_all();
                })
            })
            .collect();
        let waiter = bast::spawn({
            let shared = Arc::clone(&shared);
            move || *shared.1.wait_while(shared.0.lock(), |count| *count < 20)
        });
        assert!(waiter.join().unwrap() >= 20);
        let victims: Vec<Thread> = chain.iter().skip(90).map(|thread| thread.thread().clone()).collect();
        victims.iter().for_each(Thread::kill);
        let ids: Vec<ThreadId> = ids.into_iter().chain(chain.iter().map(JoinHandle::id)).collect();
        for thread in chain {
            let _finished_or_killed = thread.join();
        }
        assert!(ids.into_iter().all(|id| reports_with(id).is_empty()));
    });
}

/// Many threads lock random ones of few mutexes, in order, so that there are chains and never a circle, on two cores.
#[test]
fn a_storm_of_ordered_locks_is_no_deadlock() {
    on_reported(2, || {
        const MUTEXES: usize = 6;
        let mutexes: Arc<[Mutex<u64>]> = (0..MUTEXES).map(|_| Mutex::new(0)).collect();
        let over = Arc::new(AtomicBool::new(false));
        let threads: Vec<JoinHandle<u64>> = (0..24u64)
            .map(|seed| {
                let (mutexes, over) = (Arc::clone(&mutexes), Arc::clone(&over));
                spawn_on(seed as usize, move || {
                    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                    let mut locks = 0;
                    while !over.load(Ordering::Relaxed) {
                        let mut guards = Vec::new();
                        for mutex in &*mutexes {
                            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            if random >> 62 != 0 {
                                let mut guard = mutex.lock();
                                *guard += 1;
                                locks += 1;
                                guards.push(guard);
                            }
                            if random >> 60 & 1 == 0 {
                                bast::yield_now();
                            }
                        }
                    }
                    locks
                })
            })
            .collect();
        bast::sleep(Duration::from_millis(300));
        over.store(true, Ordering::Relaxed);
        let ids: Vec<ThreadId> = threads.iter().map(JoinHandle::id).collect();
        let locks: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(mutexes.iter().map(|mutex| *mutex.lock()).sum::<u64>(), locks);
        assert!(ids.into_iter().all(|id| reports_with(id).is_empty()));
    });
}

#[test]
fn a_thread_that_waits_for_what_nobody_can_give_can_be_killed() {
    on_reported(1, || {
        let thread = bast::spawn(|| MVar::<()>::empty().take());
        until_blocked(1, |what| what == BlockedOn::MVar);
        thread.thread().kill();
        assert!(thread.join().unwrap_err().is_killed());
    });
}

/// Something outside may yet happen: a clock, a descriptor, another OS thread (the one that runs this test is one).
#[test]
fn a_runtime_that_waits_for_an_os_thread_is_not_quiescent() {
    on_reported(2, || {
        let mvar = Arc::new(MVar::empty());
        let outside = thread::spawn({
            let (mvar, handle) = (Arc::clone(&mvar), Handle::current());
            move || {
                // Until all that there is sleeps.
                while handle.threads().iter().any(|thread| thread.blocked_on.is_none()) {
                    thread::yield_now();
                }
                thread::sleep(Duration::from_millis(10));
                mvar.put(7);
            }
        });
        assert_eq!(mvar.take(), 7);
        outside.join().unwrap();
        assert!(reports_with(bast::current().id()).is_empty());
    });
}
