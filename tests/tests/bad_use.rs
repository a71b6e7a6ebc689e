//! Bad use gets a clear panic or error that says what is wrong and, where there is something, what to do instead. The table is in
//! `design/LIMITS.md`.
#![forbid(unsafe_code)]

use bast::net::{TcpListener, TcpStream};
use bast::sync::{Condvar, MVar, Mutex, channel};
use bast::{BlockedOn, Builder, Handle, JoinHandle, Runtime};
use bast_tests::{child, connected, deadline, on_capabilities, sys, until_blocked_in};
use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Output;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const SIGABRT: i32 = 6;
const LONG: Duration = Duration::from_secs(3600);

fn build(capabilities: usize) -> Runtime {
    Runtime::builder().capabilities(capabilities).build().expect("a runtime can be built")
}

/// The text of the panic that `f` ends with, in a green thread.
fn text_of_panic(f: impl FnOnce() + Send + 'static) -> String {
    bast::spawn(f).join().expect_err("it panics").to_string()
}

/// The same on a plain OS thread.
fn text_of_panic_here(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().expect("a text")).to_owned(),
    }
}

#[track_caller]
fn assert_aborts_saying(output: &Output, text: &str) {
    let told = child::stderr(output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{told}");
    assert!(told.contains(text), "{told}");
}

// Parks where nobody may.

#[test]
fn every_kind_of_blocking_call_panics_inside_no_park() {
    on_capabilities(1, || {
        let calls: [fn(); 6] = [
            || bast::sleep(LONG),
            || MVar::<()>::empty().take(),
            || drop(bast::spawn(|| ()).join()),
            || drop(connected().0.read(&mut [0])),
            || drop(TcpListener::bind("127.0.0.1:0").unwrap().accept()),
            || drop(Condvar::new().wait(Mutex::new(()).lock())),
        ];
        for call in calls {
            let text = text_of_panic(move || bast::no_park(call));
            assert!(text.contains("blocking call inside bast::no_park"), "{text}");
        }
    });
}

#[test]
fn a_park_in_the_initialiser_of_a_local_panics() {
    bast::local! { static BLOCKS: () = bast::sleep(LONG); }
    on_capabilities(1, || {
        let text = text_of_panic(|| BLOCKS.with(|()| ()));
        assert!(text.contains("a thread-local's initialiser"), "{text}");
    });
}

#[test]
fn a_park_in_a_panic_hook_aborts_and_says_why() {
    let output = child::run(|| {
        std::panic::set_hook(Box::new(|_| bast::sleep(LONG)));
        on_capabilities(1, || bast::spawn(|| panic!("for the hook")).join().unwrap());
    });
    assert_aborts_saying(
        &output,
        "blocking call inside bast::no_park, a thread-local's initialiser or a panic hook",
    );
    assert_aborts_saying(&output, "panicked while processing panic");
}

#[test]
fn a_hook_that_need_not_wait_may_call_the_runtime() {
    child::succeeds(|| {
        static REPORTS: Mutex<Vec<String>> = Mutex::new(Vec::new());
        std::panic::set_hook(Box::new(|panic| {
            bast::yield_now();
            REPORTS.lock().push(panic.to_string());
        }));
        on_capabilities(1, || {
            for _ in 0..3 {
                bast::spawn(|| panic!("for the hook")).join().unwrap_err();
            }
            assert_eq!(REPORTS.lock().len(), 3);
        });
    });
}

#[test]
fn a_blocking_call_in_a_signal_handler_aborts_and_says_why() {
    extern "C" fn handler(_: i32) {
        bast::sleep(LONG);
    }
    let output = child::run(|| on_capabilities(1, || sys::in_signal_handler(handler)));
    assert_aborts_saying(&output, "blocking call in a signal handler");
}

// The end of an OS thread.

thread_local! {
    static AT_THE_END: Cell<Option<AtTheEnd>> = const { Cell::new(None) };
}

struct AtTheEnd(fn());

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_blocking_call_in_a_destructor_of_an_ended_os_thread_aborts_and_says_why() {
    let output = child::run(|| {
        thread::spawn(|| {
            let waits = || assert!(MVar::<u8>::empty().take_timeout(Duration::from_millis(1)).is_none());
            AT_THE_END.set(Some(AtTheEnd(waits)));
            // From now on the OS thread has what it waits with, and loses that first.
            waits();
        })
        .join()
        .unwrap();
    });
    assert_aborts_saying(
        &output,
        "blocking call in a destructor of a thread-local of an OS thread that is ending",
    );
}

#[test]
fn a_spawn_in_a_destructor_of_a_capabilitys_os_thread_aborts_and_says_why() {
    let output = child::run(|| {
        on_capabilities(1, || AT_THE_END.set(Some(AtTheEnd(|| drop(bast::spawn(|| ()))))));
    });
    assert_aborts_saying(
        &output,
        "bast::spawn on a plain OS thread: use bast::run, or spawn through a Handle",
    );
}

#[test]
fn what_need_not_wait_works_in_such_a_destructor() {
    static SEEN: Mutex<u32> = Mutex::new(0);
    on_capabilities(1, || AT_THE_END.set(Some(AtTheEnd(|| *SEEN.lock() += 1))));
    assert_eq!(*SEEN.lock(), 1);
}

// Runtimes.

#[test]
fn a_runtime_is_not_run_inside_a_green_thread() {
    deadline(|| {
        let (outer, inner) = (build(1), Arc::new(build(1)));
        let text = outer.run({
            let inner = Arc::clone(&inner);
            move || text_of_panic(move || inner.run(|| ()))
        });
        assert!(
            text.contains("a runtime cannot be run inside a green thread: spawn there, or use an OS thread"),
            "{text}"
        );
        let text = outer.run(|| text_of_panic(|| bast::run(|| ())));
        assert!(text.contains("a runtime cannot be run inside a green thread"), "{text}");
        // What it says works.
        let handle = inner.handle();
        assert_eq!(outer.run(move || handle.spawn(|| 7).join().unwrap()), 7);
    });
}

#[test]
fn a_runtime_that_is_dropped_inside_itself_ends_and_so_does_the_thread_that_dropped_it() {
    struct Says(mpsc::Sender<&'static str>);
    impl Drop for Says {
        fn drop(&mut self) {
            self.0.send("unwound").unwrap();
        }
    }
    deadline(|| {
        let runtime = Arc::new(build(1));
        let (says, said) = mpsc::channel();
        let go = Arc::new(MVar::empty());
        let thread = runtime.handle().spawn({
            let (runtime, go) = (Arc::clone(&runtime), Arc::clone(&go));
            move || {
                let _says = Says(says.clone());
                go.take();
                drop(runtime);
                says.send("dropped").unwrap();
                bast::sleep(LONG);
            }
        });
        drop(runtime);
        go.put(());
        assert_eq!(said.recv(), Ok("dropped"));
        assert_eq!(said.recv(), Ok("unwound"));
        assert!(thread.join().unwrap_err().is_killed());
    });
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let told = |builder: bast::RuntimeBuilder| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    };
    assert!(told(Runtime::builder().capabilities(0)).contains("a runtime needs at least one capability"));
    assert!(
        told(Runtime::builder().stack_size(0)).contains("no stack of 0 bytes: the size must be from 1 to")
    );
    assert!(told(Runtime::builder().stack_size(usize::MAX)).contains("8 MiB"));
    assert!(told(Runtime::builder().time_slice(Duration::ZERO)).contains("time slice of less than 100µs"));
    on_capabilities(1, || {
        for bytes in [0, (8 << 20) + 1] {
            let error = Builder::new().stack_size(bytes).spawn(|| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("the size must be from 1 to 8388608 (8 MiB)"), "{error}");
        }
    });
}

// Forks.

const FORKED: &str = "a runtime was used in a forked child process";

#[test]
fn a_runtime_call_of_a_green_thread_in_a_forked_child_aborts_before_any_effect() {
    let calls: [fn(); 5] = [
        || bast::yield_now(),
        || bast::sleep(Duration::from_millis(1)),
        || drop(Mutex::new(()).lock()),
        || drop(bast::spawn(|| ())),
        || drop(TcpListener::bind("127.0.0.1:0").unwrap().accept()),
    ];
    for call in calls {
        let output = child::run(move || {
            on_capabilities(2, move || {
                assert_eq!(sys::fork(call), -SIGABRT);
                // The parent goes on.
                assert_eq!(bast::spawn(|| 1).join().unwrap(), 1);
            });
        });
        let told = child::stderr(&output);
        assert_eq!(output.status.code(), Some(child::RETURNED), "{told}");
        assert!(told.contains(FORKED) && told.contains("std::process::Command"), "{told}");
    }
}

#[test]
fn an_os_thread_gets_an_error_in_a_forked_child() {
    child::succeeds(|| {
        let runtime = build(1);
        let status = sys::fork(|| {
            let error = runtime.handle().spawn_with(Builder::new(), || ()).unwrap_err();
            assert!(error.to_string().contains(FORKED), "{error}");
            let error = Runtime::builder().capabilities(1).build().unwrap_err();
            assert!(error.to_string().contains(FORKED), "{error}");
        });
        assert_eq!(status, 0);
        assert_eq!(runtime.run(|| 1), 1);
    });
}

#[test]
fn a_runtime_that_is_dropped_in_a_forked_child_does_nothing() {
    child::succeeds(|| {
        let runtime = RefCell::new(Some(build(1)));
        assert_eq!(sys::fork(|| drop(runtime.take())), 0);
        assert_eq!(runtime.take().expect("it is the parent's still").run(|| 1), 1);
    });
}

#[test]
fn a_command_is_no_such_fork() {
    on_capabilities(1, || {
        let output = std::process::Command::new("true").output().expect("it runs");
        assert!(output.status.success());
        assert_eq!(bast::spawn(|| 1).join().unwrap(), 1);
    });
}

// Outside of a runtime.

#[test]
fn a_blocking_call_outside_of_a_runtime_blocks_the_os_thread() {
    deadline(|| {
        let runtime = build(1);
        let (tx, rx) = channel(0);
        let (mvar, mutex) = (Arc::new(MVar::empty()), Arc::new(Mutex::new(0)));
        let green = runtime.handle().spawn({
            let (mvar, mutex) = (Arc::clone(&mvar), Arc::clone(&mutex));
            move || {
                *mutex.lock() += 1;
                tx.send(mvar.take()).unwrap();
            }
        });
        until_blocked_in(&runtime.handle(), 1, |reason| reason == BlockedOn::MVar, thread::yield_now);
        mvar.put(5);
        assert_eq!(rx.recv(), Ok(5));
        green.join().unwrap();
        assert_eq!(*mutex.lock(), 1);
        bast::sleep(Duration::from_millis(1));
        bast::yield_now();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = thread::spawn(move || TcpStream::connect(address).unwrap());
        let (mut accepted, _) = listener.accept().unwrap();
        let mut connected = client.join().unwrap();
        connected.write_all(b"x").unwrap();
        let mut buf = [0];
        accepted.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"x");
    });
}

#[test]
fn what_needs_a_runtime_says_so_outside_of_one() {
    for (call, text) in [
        ((|| drop(bast::spawn(|| ()))) as fn(), "use bast::run, or spawn through a Handle (Runtime::handle)"),
        (|| drop(bast::spawn_local(|| ())), "use bast::run, or spawn through a Handle (Runtime::handle)"),
        (|| drop(bast::current()), "outside a green thread"),
        (|| drop(Handle::current()), "outside a runtime"),
    ] {
        let told = text_of_panic_here(call);
        assert!(told.contains(text), "{told}");
    }
}

// Joins.

#[test]
fn a_thread_that_joins_itself_panics() {
    on_capabilities(1, || {
        let own: Arc<MVar<JoinHandle<()>>> = Arc::new(MVar::empty());
        let (ended, end) = channel(1);
        own.put(bast::spawn({
            let own = Arc::clone(&own);
            move || {
                let told = text_of_panic_here(|| own.take().join().unwrap());
                ended.send(told).unwrap();
            }
        }));
        assert!(end.recv().unwrap().contains("a thread cannot join itself"));
    });
}
