//! Faults that were found once, each with the test that showed it.

use bast::sync::{MVar, oneshot};
use bast::{JoinHandle, Select};
use bast_tests::{on_capabilities, until, until_blocked};
use std::cell::RefCell;
use std::fmt::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3600);

fn is_mvar(what: bast::BlockedOn) -> bool {
    what == bast::BlockedOn::MVar
}

/// Waits in its destructor, for others to come between.
struct WaitsInDrop(Arc<MVar<()>>);

impl Drop for WaitsInDrop {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// Yields in its destructor.
struct YieldsInDrop;

impl Drop for YieldsInDrop {
    fn drop(&mut self) {
        bast::yield_now();
    }
}

/// Says in its destructor, after a wait, that it came to its end.
struct Completes(Arc<MVar<()>>);

impl Drop for Completes {
    fn drop(&mut self) {
        bast::sleep(Duration::from_millis(1));
        assert!(self.0.try_put(()).is_ok(), "dropped twice");
    }
}

#[test]
fn a_limit_is_not_lost_that_begins_while_a_neighbour_is_suspended_in_its_unwind() {
    on_capabilities(1, || {
        let go = Arc::new(MVar::empty());
        let unwinds = bast::spawn({
            let go = Arc::clone(&go);
            move || {
                let _waits = WaitsInDrop(go);
                panic!("a panic that the test wants");
            }
        });
        until_blocked(1, is_mvar);
        let limited = bast::spawn(|| {
            // Caught while another unwinds: the thread takes itself to be unwinding from here on.
            let _ = panic::catch_unwind(|| panic!("another"));
            bast::timeout(SHORT, || MVar::<()>::empty().take())
        });
        until_blocked(2, is_mvar);
        go.put(());
        assert!(limited.join().unwrap().is_err());
        assert!(unwinds.join().is_err());
    });
}

#[test]
fn a_limit_ends_a_loop_that_only_yields() {
    on_capabilities(1, || {
        let other: JoinHandle<()> = bast::spawn(|| {
            loop {
                bast::yield_now();
            }
        });
        let yields = || -> () {
            loop {
                bast::yield_now();
            }
        };
        assert!(bast::timeout(SHORT, yields).is_err());
        let sleeps = || -> () {
            loop {
                bast::sleep(Duration::ZERO);
            }
        };
        assert!(bast::timeout(SHORT, sleeps).is_err());
        let allows = || -> () {
            bast::mask(|_| {
                loop {
                    bast::allow_interrupt();
                }
            });
        };
        assert!(bast::timeout(SHORT, allows).is_err());
        other.thread().kill();
    });
}

#[test]
fn a_limit_that_passed_inside_a_mask_is_raised_where_the_mask_ends() {
    on_capabilities(1, || {
        let computes = || {
            bast::mask(|_| {
                let begun = Instant::now();
                while begun.elapsed() < SHORT {}
            });
            "went on"
        };
        assert_eq!(bast::timeout(SHORT / 2, computes), Err(bast::Elapsed));
    });
}

#[test]
fn what_is_thrown_too_late_is_dropped_by_its_thrower() {
    struct TellsWhere(Arc<MVar<bool>>);
    impl Drop for TellsWhere {
        fn drop(&mut self) {
            let _ = self.0.try_put(bast::is_green());
        }
    }
    on_capabilities(1, || {
        let (on_green, go) = (Arc::new(MVar::empty()), Arc::new(MVar::empty()));
        let target = bast::mask(|_| {
            bast::spawn({
                let go = Arc::clone(&go);
                move || bast::uninterruptible(|| go.take())
            })
        });
        until_blocked(1, is_mvar);
        let thrower = bast::spawn({
            let (target, payload) = (target.thread(), TellsWhere(Arc::clone(&on_green)));
            move || bast::throw_to(&target, payload)
        });
        until_blocked(1, |what| matches!(what, bast::BlockedOn::ThrowTo(_)));
        go.put(());
        target.join().unwrap();
        thrower.join().unwrap();
        assert!(on_green.take(), "it was dropped on the stack of the scheduler");
    });
}

#[test]
fn all_who_select_on_one_receiver_hear_of_the_end_of_its_sender() {
    on_capabilities(1, || {
        let (tx, rx) = oneshot::channel::<u32>();
        let rx = Arc::new(rx);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let rx = Arc::clone(&rx);
                bast::spawn(move || Select::new().oneshot(&rx, |item| item.is_err()).wait())
            })
            .collect();
        until_blocked(2, |what| what == bast::BlockedOn::Select);
        drop(tx);
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    });
}

#[test]
fn an_error_that_is_shared_can_be_written_by_writers_that_yield() {
    struct Yields(String);
    impl Write for Yields {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.push_str(text);
            bast::yield_now();
            Ok(())
        }
    }
    on_capabilities(1, || {
        let error = Arc::new(bast::spawn(|| panic!("a panic that the test wants")).join().unwrap_err());
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let error = Arc::clone(&error);
                bast::spawn(move || {
                    let mut writer = Yields(String::new());
                    write!(writer, "{error}").unwrap();
                    writer.0
                })
            })
            .collect();
        assert!(writers.into_iter().all(|writer| writer.join().unwrap().ends_with("the test wants")));
    });
}

#[test]
fn a_second_failure_of_a_scope_may_have_a_destructor_that_yields() {
    on_capabilities(1, || {
        let failed = bast::catch_unwind(|| {
            bast::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        bast::uninterruptible(|| {
                            bast::yield_now();
                            panic::panic_any(YieldsInDrop);
                        });
                    });
                }
            });
        });
        assert!(failed.is_err());
        // That of the body, with a kill pending.
        let parent = bast::spawn(|| {
            bast::scope(|scope| {
                scope.spawn(|| panic!("a panic that the test wants"));
                bast::uninterruptible(|| {
                    until(|| bast::threads().len() == 2);
                    bast::current().kill();
                    panic::panic_any(YieldsInDrop);
                });
            });
        });
        assert!(parent.join().is_err());
    });
}

#[test]
fn bindings_that_are_hidden_are_let_go_by_a_long_line_of_threads() {
    static GENERATION: bast::ScopedValue<u64> = bast::ScopedValue::new();
    fn generation(left: u64, done: Arc<MVar<()>>) {
        GENERATION.bind(left, || {
            drop(bast::spawn(move || if left == 0 { done.put(()) } else { generation(left - 1, done) }));
        });
    }
    on_capabilities(1, || {
        let done = Arc::new(MVar::empty());
        generation(20_000, Arc::clone(&done));
        done.take();
    });
}

#[test]
fn destructors_at_the_end_of_a_killed_thread_are_not_cut_short() {
    static HELD: bast::LocalKey<RefCell<Option<Completes>>> = bast::LocalKey::new(|| RefCell::new(None));
    on_capabilities(1, || {
        // Of a local value, of the closure of a thread that never ran, and of a result that nobody wants.
        let done = Arc::new(MVar::empty());
        let local = bast::spawn({
            let done = Arc::clone(&done);
            move || {
                HELD.with(|held| *held.borrow_mut() = Some(Completes(done)));
                bast::sleep(LONG);
            }
        });
        until_blocked(1, |what| what == bast::BlockedOn::Timer);
        local.thread().kill();
        assert!(local.join().is_err());
        done.take();
        let never = bast::spawn({
            let completes = Completes(Arc::clone(&done));
            move || drop(completes)
        });
        never.thread().kill();
        assert!(never.join().is_err());
        done.take();
        drop(bast::spawn({
            let completes = Completes(Arc::clone(&done));
            move || {
                bast::current().kill();
                completes
            }
        }));
        done.take();
    });
}

#[test]
fn a_kill_of_a_child_that_meets_its_result_is_no_failure_of_the_scope() {
    on_capabilities(1, || {
        let parent = bast::spawn(|| {
            bast::scope(|scope| {
                drop(scope.spawn(|| {
                    bast::current().kill();
                    YieldsInDrop
                }));
                bast::sleep(Duration::from_millis(1));
                7
            })
        });
        assert_eq!(parent.join().unwrap(), 7);
    });
}

#[test]
fn a_result_whose_destructor_panics_gives_its_block_back() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic::resume_unwind(Box::new(()));
        }
    }
    on_capabilities(1, || {
        let mut ids = Vec::new();
        for _ in 0..1000 {
            let thread = bast::spawn(|| Panics);
            until(|| thread.is_finished());
            ids.push(thread.id());
            assert!(bast::catch_unwind(AssertUnwindSafe(|| drop(thread))).is_err());
        }
        assert_eq!(bast::threads().len(), 1);
    });
}
