//! Work for OS threads: its results, its panics, who stops waiting for it, and what the pool does when it is full.

use bast::net::{TcpListener, TcpStream};
use bast::sync::{MVar, Mutex, channel};
use bast::{BlockedOn, Runtime};
use bast_tests::{child, deadline, on_capabilities, sys, until, until_blocked, until_blocked_in};
use std::cell::Cell;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

fn off_loads(what: BlockedOn) -> bool {
    what == BlockedOn::Offload
}

/// A runtime of one capability whose pool has so many OS threads.
fn with_pool<T: Send + 'static>(threads: usize, main: impl FnOnce() -> T + Send + 'static) -> T {
    deadline(|| {
        let builder = Runtime::builder().capabilities(1).offload_threads(threads);
        builder.build().expect("a runtime can be built").run(main)
    })
}

/// A job that blocks its OS thread until the handle is dropped.
fn stuck() -> (Stuck, impl FnOnce() + Send + 'static) {
    let (end, wait) = mpsc::channel::<()>();
    let begun = Arc::new(AtomicBool::new(false));
    let begin = Arc::clone(&begun);
    let job = move || {
        begin.store(true, Ordering::SeqCst);
        let _ = wait.recv();
    };
    (Stuck { begun, _end: end }, job)
}

struct Stuck {
    begun: Arc<AtomicBool>,
    _end: mpsc::Sender<()>,
}

impl Stuck {
    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }
}

/// Counts its drops, and remembers the OS thread of the last one.
#[derive(Clone, Debug, Default)]
struct Drops(Arc<(AtomicUsize, std::sync::Mutex<Option<String>>)>);

#[derive(Debug)]
struct Counted(Drops);

impl Drops {
    fn counted(&self) -> Counted {
        Counted(self.clone())
    }

    fn count(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    fn place(&self) -> Option<String> {
        self.0.1.lock().unwrap().clone()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let (count, place) = &*self.0.0;
        *place.lock().unwrap() = thread::current().name().map(str::to_owned);
        count.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_job_runs_on_another_os_thread_and_its_value_comes_back() {
    on_capabilities(2, || {
        let here = thread::current().id();
        let (there, name, value) = bast::offload(|| {
            (thread::current().id(), thread::current().name().map(str::to_owned), String::from("value"))
        });
        assert_ne!(there, here);
        assert_eq!((name.as_deref(), &*value), (Some("bast-offload"), "value"));
        until(|| bast::offload_stats().finished == 1);
    });
}

#[test]
fn a_blocked_job_does_not_stop_the_other_threads_of_its_core() {
    with_pool(4, || {
        let (end, job) = stuck();
        let waiter = bast::spawn(|| bast::offload(job));
        until_blocked(1, off_loads);
        // Both the run queue and the timers of the one core go on.
        let ticks: u32 = (0..10)
            .map(|_| {
                bast::sleep(Duration::from_millis(1));
                bast::spawn(|| 1).join().unwrap()
            })
            .sum();
        assert_eq!(ticks, 10);
        assert!(!waiter.is_finished());
        drop(end);
        waiter.join().unwrap();
    });
}

#[test]
fn a_panic_of_the_job_goes_on_in_the_caller_and_the_pool_lives_on() {
    with_pool(1, || {
        let payload = catch_unwind(|| bast::offload(|| panic!("of the job"))).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"of the job"));
        assert_eq!(bast::offload(|| 7), 7);
        assert_eq!(bast::offload_stats().threads, 1);
    });
}

#[test]
fn on_an_os_thread_and_in_a_job_the_closure_is_called_in_place() {
    deadline(|| {
        let here = thread::current().id();
        assert_eq!(bast::offload(|| thread::current().id()), here);
        assert_eq!(bast::offload_timeout(Duration::ZERO, || thread::current().id()), Some(here));
    });
    // With a pool of one thread, a nested job that queued would wait for itself.
    with_pool(1, || {
        let (outer, inner) =
            bast::offload(|| (thread::current().id(), bast::offload(|| thread::current().id())));
        assert_eq!(outer, inner);
    });
}

#[test]
fn in_no_park_the_call_panics_and_the_closure_is_not_run() {
    on_capabilities(1, || {
        let drops = Drops::default();
        let counted = drops.counted();
        let panic = catch_unwind(AssertUnwindSafe(|| {
            bast::no_park(|| bast::offload(move || drop(Box::new(counted))));
        }));
        let payload = panic.unwrap_err();
        assert!(payload.downcast_ref::<&str>().unwrap().contains("no_park"));
        assert_eq!(drops.count(), 1);
        assert_eq!(bast::offload_stats().finished, 0);
    });
}

#[test]
fn a_waiter_that_is_killed_leaves_at_once_and_the_pool_drops_the_result() {
    with_pool(2, || {
        let drops = Drops::default();
        let (end, job) = stuck();
        let result = drops.counted();
        let waiter = bast::spawn(move || {
            bast::offload(move || {
                job();
                result
            })
        });
        until(|| end.has_begun());
        waiter.thread().kill();
        assert!(waiter.join().unwrap_err().is_killed());
        assert_eq!(drops.count(), 0, "the job goes on");
        assert_eq!(bast::offload_stats().running, 1);
        assert_eq!(bast::offload_stats().abandoned, 1);
        drop(end);
        until(|| bast::offload_stats().running == 0);
        assert_eq!((drops.count(), drops.place().as_deref()), (1, Some("bast-offload")));
    });
}

#[test]
fn a_job_whose_waiter_was_killed_in_the_queue_never_runs() {
    with_pool(1, || {
        let (end, job) = stuck();
        let first = bast::spawn(|| bast::offload(job));
        until(|| bast::offload_stats().running == 1);
        let (ran, drops) = (Arc::new(AtomicBool::new(false)), Drops::default());
        let (run, counted) = (Arc::clone(&ran), drops.counted());
        let second = bast::spawn(move || {
            bast::offload(move || {
                run.store(true, Ordering::SeqCst);
                drop(counted);
            });
        });
        until(|| bast::offload_stats().queued == 1);
        second.thread().kill();
        assert!(second.join().unwrap_err().is_killed());
        assert_eq!(bast::offload_stats().queued, 0);
        assert_eq!(drops.count(), 1, "the closure is dropped by the waiter");
        assert_ne!(drops.place().as_deref(), Some("bast-offload"));
        drop(end);
        first.join().unwrap();
        assert_eq!(bast::offload(|| 3), 3);
        assert!(!ran.load(Ordering::SeqCst));
    });
}

#[test]
fn a_killed_thread_does_not_begin_a_job() {
    with_pool(1, || {
        let drops = Drops::default();
        let counted = drops.counted();
        let thread = bast::spawn(move || {
            bast::current().kill();
            // The kill is in the mail: it is delivered at the next switch, and the next operation meets it.
            while catch_unwind(bast::yield_now).is_ok() {}
            bast::offload(move || drop(counted));
        });
        assert!(thread.join().unwrap_err().is_killed());
        assert_eq!(drops.count(), 1);
        assert_eq!(bast::offload_stats().finished, 0);
    });
}

#[test]
fn a_limit_ends_the_wait_for_a_job_that_runs_and_for_one_that_is_queued() {
    with_pool(1, || {
        let drops = Drops::default();
        let (end, job) = stuck();
        let result = drops.counted();
        let limit = Duration::from_millis(20);
        let before = Instant::now();
        let running = bast::offload_timeout(limit, move || {
            job();
            result
        });
        assert!(running.is_none());
        assert!(before.elapsed() >= limit);
        let counted = drops.counted();
        assert!(bast::offload_timeout(limit, move || drop(counted)).is_none());
        assert_eq!(drops.count(), 1, "the one in the queue is dropped, the other runs");
        drop(end);
        assert_eq!(bast::offload_timeout(LONG, || 5), Some(5));
        assert_eq!(drops.count(), 2);
    });
}

#[test]
fn jobs_beyond_the_limit_queue_in_order_and_can_be_seen() {
    with_pool(2, || {
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (ends, jobs): (Vec<_>, Vec<_>) = (0..2).map(|_| stuck()).unzip();
        let blockers: Vec<_> = jobs.into_iter().map(|job| bast::spawn(move || bast::offload(job))).collect();
        until(|| bast::offload_stats().running == 2);
        let queued: Vec<_> = (0..10)
            .map(|number| {
                let order = Arc::clone(&order);
                let thread = bast::spawn(move || {
                    bast::offload(move || order.lock().unwrap().push(number));
                });
                until(|| bast::offload_stats().queued == number + 1);
                thread
            })
            .collect();
        bast::sleep(Duration::from_millis(5));
        let stats = bast::offload_stats();
        assert_eq!((stats.threads, stats.threads_max, stats.running, stats.queued), (2, 2, 2, 10));
        assert!(stats.longest_wait >= Duration::from_millis(5), "{stats:?}");
        // Only one of the two gets free, so the order is that of the queue.
        let mut ends = ends.into_iter();
        drop(ends.next());
        queued.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
        drop(ends);
        blockers.into_iter().for_each(|thread| thread.join().unwrap());
        until(|| bast::offload_stats().finished == 12);
        let stats = bast::offload_stats();
        assert_eq!((stats.queued, stats.longest_wait, stats.abandoned), (0, Duration::ZERO, 0));
    });
}

#[test]
fn jobs_that_wait_for_green_threads_which_off_load_are_no_deadlock() {
    // Each job of a pool of two waits for a green thread that needs the pool itself.
    with_pool(2, || {
        let waiters: Vec<_> = (0..20)
            .map(|number| {
                let (ask, questions) = channel::<u64>(0);
                let answer = Arc::new(MVar::empty());
                bast::spawn({
                    let answer = Arc::clone(&answer);
                    move || {
                        let question = questions.recv().unwrap();
                        answer.put(bast::offload(move || question * 2));
                    }
                });
                bast::spawn(move || {
                    bast::offload(move || {
                        ask.send(number).unwrap();
                        answer.take()
                    })
                })
            })
            .collect();
        for (number, waiter) in waiters.into_iter().enumerate() {
            assert_eq!(waiter.join().unwrap(), number as u64 * 2);
        }
        let stats = bast::offload_stats();
        assert_eq!((stats.waiting, stats.queued), (0, 0));
    });
}

#[test]
fn a_job_that_reads_from_a_green_thread_which_off_loads_is_no_deadlock() {
    with_pool(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = bast::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let answer = bast::offload(|| *b"answer");
            stream.write_all(&answer).unwrap();
        });
        let answer = bast::offload(move || {
            let mut answer = String::new();
            TcpStream::connect(address).unwrap().read_to_string(&mut answer).unwrap();
            answer
        });
        assert_eq!(answer, "answer");
        server.join().unwrap();
    });
}

#[test]
fn a_job_that_waits_for_an_object_makes_room_and_the_room_is_taken_back() {
    with_pool(1, || {
        let gate = Arc::new(MVar::<()>::empty());
        let waits = Arc::clone(&gate);
        let first = bast::spawn(move || bast::offload(move || waits.read()));
        until(|| bast::offload_stats().waiting == 1);
        let (end, job) = stuck();
        let second = bast::spawn(|| bast::offload(job));
        until(|| bast::offload_stats().running == 2);
        gate.put(());
        first.join().unwrap();
        // The second is at work: the thread of the first may not begin a third.
        let third = bast::spawn(|| bast::offload(|| ()));
        until(|| (bast::offload_stats().queued, bast::offload_stats().running) == (1, 1));
        drop(end);
        second.join().unwrap();
        third.join().unwrap();
    });
}

#[test]
fn threads_start_on_demand_and_end_when_they_have_nothing_to_do() {
    child::succeeds(|| {
        let builder = Runtime::builder().capabilities(1).offload_idle(Duration::from_millis(20));
        let runtime = builder.build().unwrap();
        let handle = runtime.handle();
        assert_eq!(handle.offload_stats().threads, 0);
        let before = sys::os_threads();
        runtime.run(|| {
            let gate = Arc::new(std::sync::Barrier::new(8));
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    let gate = Arc::clone(&gate);
                    bast::spawn(move || bast::offload(move || gate.wait().is_leader()))
                })
                .collect();
            let leaders = threads.into_iter().map(|thread| thread.join().unwrap());
            assert_eq!(leaders.filter(|&leads| leads).count(), 1);
            assert_eq!(bast::offload_stats().threads, 8);
        });
        while handle.offload_stats().threads > 0 || sys::os_threads() > before {
            thread::yield_now();
        }
        // And they come again.
        assert_eq!(runtime.run(|| bast::offload(|| 9)), 9);
    });
}

#[test]
fn an_idle_thread_is_used_before_another_is_started() {
    with_pool(8, || {
        for number in 0..100 {
            assert_eq!(bast::offload(move || number), number);
            // The thread rests a moment after it has woken its waiter.
            until(|| bast::offload_stats().running == 0);
        }
        assert!(bast::offload_stats().threads <= 2, "{:?}", bast::offload_stats());
    });
}

#[test]
fn ten_thousand_jobs_from_two_cores_lose_nothing() {
    deadline(|| {
        let builder = Runtime::builder().capabilities(2).offload_threads(3);
        builder.build().unwrap().run(|| {
            let threads: Vec<_> = (0..100u64)
                .map(|thread| {
                    bast::spawn(move || {
                        (0..100).map(|job| bast::offload(move || thread * 100 + job)).sum::<u64>()
                    })
                })
                .collect();
            let sum: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            assert_eq!(sum, (0..10_000).sum());
            let stats = bast::offload_stats();
            assert!(stats.threads <= 3, "{stats:?}");
            assert_eq!((stats.queued, stats.abandoned), (0, 0));
        });
    });
}

#[test]
fn jobs_and_kills_in_any_order_leave_nothing_behind() {
    deadline(|| {
        let builder = Runtime::builder().capabilities(2).offload_threads(2);
        let runtime = builder.build().unwrap();
        let drops = Drops::default();
        let made = Arc::new(AtomicUsize::new(0));
        runtime.run({
            let (drops, made) = (drops.clone(), Arc::clone(&made));
            move || {
                let threads: Vec<_> = (0..100)
                    .map(|number| {
                        let (drops, made) = (drops.clone(), Arc::clone(&made));
                        bast::spawn(move || {
                            loop {
                                made.fetch_add(1, Ordering::SeqCst);
                                let counted = drops.counted();
                                let limit = Duration::from_micros(number % 50);
                                if number % 2 == 0 {
                                    drop(bast::offload(move || counted));
                                } else {
                                    drop(bast::offload_timeout(limit, move || counted));
                                }
                            }
                        })
                    })
                    .collect();
                for thread in threads {
                    bast::yield_now();
                    thread.thread().kill();
                    assert!(thread.join().unwrap_err().is_killed());
                }
                until(|| bast::offload_stats().running == 0);
                let stats = bast::offload_stats();
                assert_eq!((stats.queued, stats.waiting), (0, 0));
            }
        });
        assert_eq!(drops.count(), made.load(Ordering::SeqCst));
    });
}

#[test]
fn a_job_may_use_the_objects_and_the_handle_of_the_runtime() {
    on_capabilities(2, || {
        let handle = bast::Handle::current();
        let count = Arc::new(Mutex::new(0));
        let inside = Arc::clone(&count);
        let sum = bast::offload(move || {
            *inside.lock() += 1;
            handle.spawn(|| bast::offload(|| 20) + 1).join().unwrap()
        });
        assert_eq!((sum, *count.lock()), (21, 1));
    });
}

#[test]
fn the_end_of_a_runtime_drops_what_is_queued_and_does_not_hang_on_what_runs() {
    deadline(|| {
        let runtime = Runtime::builder().capabilities(1).offload_threads(1).build().unwrap();
        let handle = runtime.handle();
        let (running, queued) = (Drops::default(), Drops::default());
        let ran = Arc::new(AtomicBool::new(false));
        let (end, job) = stuck();
        let (result, counted, run) = (running.counted(), queued.counted(), Arc::clone(&ran));
        let pause = || thread::yield_now();
        handle.spawn(move || {
            bast::offload(move || {
                job();
                result
            })
        });
        while !end.has_begun() {
            pause();
        }
        handle.spawn(move || {
            bast::offload(move || {
                run.store(true, Ordering::SeqCst);
                drop(counted);
            });
        });
        until_blocked_in(&handle, 2, off_loads, pause);
        let before = Instant::now();
        drop(runtime);
        // One second for the job that does not end.
        assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
        assert_eq!((queued.count(), running.count()), (1, 0));
        assert!(!ran.load(Ordering::SeqCst));
        drop(end);
        while running.count() == 0 || handle.offload_stats().threads > 0 {
            thread::yield_now();
        }
    });
}

#[test]
fn the_end_of_a_runtime_ends_the_idle_threads_of_its_pool() {
    deadline(|| {
        let runtime = Runtime::builder().capabilities(1).offload_idle(LONG).build().unwrap();
        let handle = runtime.handle();
        runtime.run(|| bast::offload(|| ()));
        assert_eq!(handle.offload_stats().threads, 1);
        drop(runtime);
        assert_eq!(handle.offload_stats().threads, 0);
    });
}

#[test]
fn without_any_os_thread_the_call_fails_and_says_why() {
    child::succeeds(|| {
        let runtime = Runtime::builder().capabilities(1).build().unwrap();
        runtime.run(|| {
            // Room for what a panic allocates, and none for the 2 MiB of the new thread's stack.
            sys::limit_address_space(sys::address_space() + (1 << 20));
            let panic = catch_unwind(|| bast::offload(|| 1));
            sys::limit_address_space(sys::address_space() + (1 << 32));
            let payload = panic.unwrap_err();
            let text = payload.downcast_ref::<String>().unwrap();
            assert!(text.contains("off-load pool cannot start an OS thread"), "{text}");
            assert_eq!(bast::offload_stats().threads, 0);
            assert_eq!(bast::offload(|| 2), 2);
        });
    });
}

#[test]
fn a_pool_without_threads_is_refused() {
    let error = Runtime::builder().offload_threads(0).build().unwrap_err();
    assert!(error.to_string().contains("off-load pool"), "{error}");
}

#[test]
fn a_destructor_that_runs_because_of_a_kill_may_off_load() {
    struct OffLoads(Rc<Cell<u32>>);
    impl Drop for OffLoads {
        fn drop(&mut self) {
            self.0.set(bast::offload(|| 11));
        }
    }
    with_pool(1, || {
        let cell = Rc::new(Cell::new(0));
        let seen = Rc::clone(&cell);
        let thread = bast::spawn_local(move || {
            let _off_loads = OffLoads(seen);
            bast::sleep(LONG);
        });
        until_blocked(1, |what| what == BlockedOn::Timer);
        thread.thread().kill();
        assert!(thread.join().unwrap_err().is_killed());
        assert_eq!(cell.get(), 11);
    });
}
