//! Futures that are bound to tokio, run on the side and awaited by green threads.
#![forbid(unsafe_code)]

use bast_examples::side_runtime::SideRuntime;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

const DEADLINE: Duration = Duration::from_secs(30);

/// Runs a test, which must end in time.
fn deadline(test: impl FnOnce() + Send + 'static) {
    let (ended, over) = mpsc::channel();
    let test = thread::spawn(move || {
        test();
        let _ = ended.send(()); // nobody listens any more if it was late
    });
    if over.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("not ended after {DEADLINE:?}");
    }
    test.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload));
}

/// Waits until a thread of this runtime waits for a future.
fn until_driven() {
    while !bast::threads().iter().any(|thread| thread.blocked_on == Some(bast::BlockedOn::Future)) {
        bast::yield_now();
    }
}

#[test]
fn a_hundred_green_threads_use_a_client_that_is_bound_to_tokio() {
    deadline(|| {
        let output = Command::new(env!("CARGO_BIN_EXE_side_runtime")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"100 answers\n");
    });
}

#[test]
fn a_timer_of_the_side_runtime_parks_the_green_thread_only() {
    deadline(|| {
        let side = SideRuntime::start().unwrap();
        bast::Runtime::builder().capabilities(1).build().unwrap().run(move || {
            let (go, gone) = tokio::sync::oneshot::channel();
            let waiter = bast::spawn(move || {
                side.run(async {
                    gone.await.unwrap();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                })
            });
            until_driven(); // which takes the one capability
            go.send(()).unwrap();
            waiter.join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_killed_waiter_drops_its_future_on_the_side() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    deadline(|| {
        let side = Arc::new(SideRuntime::start().unwrap());
        bast::run(move || {
            let dropped = Arc::new(AtomicBool::new(false));
            let waiter = bast::spawn({
                let (dropped, side) = (Dropped(Arc::clone(&dropped)), Arc::clone(&side));
                move || {
                    side.run(async move {
                        let _dropped = dropped;
                        tokio::time::sleep(LONG).await;
                    })
                }
            });
            until_driven();
            waiter.thread().kill();
            assert!(waiter.join().unwrap_err().is_killed());
            while !dropped.load(Ordering::Relaxed) {
                bast::yield_now();
            }
            // The side runtime goes on.
            assert_eq!(side.run(async { 5 }).unwrap(), 5);
        });
    });
}

#[test]
fn a_panic_on_the_side_is_an_error_of_the_one_who_waits() {
    deadline(|| {
        let side = SideRuntime::start().unwrap();
        bast::run(move || {
            let error = side.run(async { assert!(bast::is_green(), "on the side") }).unwrap_err();
            assert!(error.is_panic());
            assert_eq!(side.run(async { 5 }).unwrap(), 5);
        });
    });
}
