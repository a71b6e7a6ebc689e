//! A million kills of threads in every state, from both sides of a core, with nothing left behind.

use bast::sync::{MVar, Mutex, channel};
use bast::{JoinHandle, Runtime};
use bast_tests::{deadline_within, spawn_on, until};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

const KILLS: usize = if cfg!(debug_assertions) { 60_000 } else { 1_000_000 };
/// Threads that live at the same time.
const BATCH: usize = 200;
/// Many times what it takes.
const LIMIT: Duration = Duration::from_secs(180);
const LONG: Duration = Duration::from_secs(3600);
const CAPABILITIES: usize = 2;

/// Pseudo-random numbers that a failure can be repeated with.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// What must be gone in the end.
struct Held(Arc<AtomicIsize>);

impl Held {
    fn new(held: &Arc<AtomicIsize>) -> Held {
        held.fetch_add(1, Ordering::Relaxed);
        Held(Arc::clone(held))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits in its destructor, also while its thread unwinds.
struct YieldsInDrop;

impl Drop for YieldsInDrop {
    fn drop(&mut self) {
        bast::yield_now();
    }
}

/// What the threads of a batch meet in.
struct Shared {
    mutex: Mutex<usize>,
    mvar: MVar<Held>,
    held: Arc<AtomicIsize>,
}

const STATES: usize = 14;

/// What a thread does until it is killed. Most of these never end by themselves.
fn live(state: usize, shared: &Arc<Shared>) {
    match state {
        0 => bast::sleep(LONG),
        1 => drop(shared.mvar.take()),
        2 => shared.mvar.put(Held::new(&shared.held)),
        3 => loop {
            *shared.mutex.lock() += 1;
            bast::yield_now();
        },
        4 => {
            let mut guard = shared.mutex.lock();
            *guard += 1;
            bast::sleep(Duration::from_micros(50));
        }
        5 => {
            let (tx, rx) = channel(1);
            let receiver = bast::spawn(move || rx.iter().for_each(drop));
            while tx.send(Held::new(&shared.held)).is_ok() {}
            drop(receiver.join());
        }
        6 => drop(bast::spawn(|| bast::sleep(Duration::from_micros(20))).join()),
        7 => drop(bast::timeout(Duration::from_micros(30), || bast::sleep(LONG))),
        8 => bast::scope(|scope| {
            scope.spawn(|| bast::sleep(Duration::from_micros(10)));
            scope.spawn(|| live(0, shared));
        }),
        9 => bast::mask(|restore| {
            bast::uninterruptible(bast::yield_now);
            restore.run(|| bast::sleep(LONG));
        }),
        10 => {
            let _first = YieldsInDrop;
            let _second = YieldsInDrop;
            bast::sleep(LONG);
        }
        11 => {
            // Swallowed; it comes back.
            let _ = catch_unwind(AssertUnwindSafe(|| bast::sleep(LONG)));
            bast::sleep(LONG);
        }
        12 => bast::bracket(|| Held::new(&shared.held), |_| bast::sleep(LONG), drop),
        _ => loop {
            bast::yield_now();
        },
    }
}

#[test]
fn a_million_kills_in_every_state_leave_nothing_behind() {
    deadline_within(LIMIT, || {
        let runtime = Runtime::builder().capabilities(CAPABILITIES).build().unwrap();
        let held = Arc::new(AtomicIsize::new(0));
        runtime.run({
            let held = Arc::clone(&held);
            move || {
                let mut random = Random(1);
                let mut kills = 0;
                while kills < KILLS {
                    let shared = Arc::new(Shared {
                        mutex: Mutex::new(0),
                        mvar: MVar::empty(),
                        held: Arc::clone(&held),
                    });
                    let threads: Vec<JoinHandle<()>> = (0..BATCH)
                        .map(|n| {
                            let (state, own) = (random.below(STATES), Held::new(&held));
                            let shared = Arc::clone(&shared);
                            spawn_on(n, move || {
                                let _own = own;
                                live(state, &shared);
                            })
                        })
                        .collect();
                    // Some are killed before they start, some in the middle, some twice, and half of them
                    // from another core.
                    let names: Vec<_> = threads.iter().map(JoinHandle::thread).collect();
                    let elsewhere = spawn_on(1, {
                        let names: Vec<_> = names.iter().skip(1).step_by(2).cloned().collect();
                        move || names.iter().for_each(bast::Thread::kill)
                    });
                    for name in names.iter().step_by(2) {
                        if random.below(3) == 0 {
                            bast::yield_now();
                        }
                        name.kill();
                    }
                    elsewhere.join().unwrap();
                    for thread in threads {
                        // One that had nothing to wait for may have ended before.
                        assert!(thread.join().map_or_else(|error| error.is_killed(), |()| true));
                    }
                    kills += BATCH;
                }
                // Threads that the victims had spawned were left to themselves, or killed with their scopes.
                until(|| bast::Handle::current().threads().len() == 1);
            }
        });
        drop(runtime);
        assert_eq!(held.load(Ordering::Relaxed), 0, "something was not dropped");
    });
}
