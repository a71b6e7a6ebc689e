//! What happens where the kernel gives no more: errors that name the limit, and threads that live on.

use bast::{BlockedOn, Builder, Runtime, StackGuard};
use bast_tests::{child, sys, until_blocked_in};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

fn sleeps(what: BlockedOn) -> bool {
    what == BlockedOn::Timer
}

fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

#[test]
fn at_the_limit_of_mappings_a_spawn_fails_by_name_and_what_lives_lives_on() {
    child::succeeds(|| {
        let runtime = Runtime::builder()
            .capabilities(1)
            .stack_guard(StackGuard::Protect)
            .stack_size(1)
            .build()
            .unwrap();
        let handle = runtime.handle();
        for _ in 0..2 {
            let mut threads = Vec::new();
            let error = loop {
                match handle.spawn_with(Builder::new(), || bast::sleep(LONG)) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
            let text = error.to_string();
            assert!(
                text.contains("green threads in this process") && text.contains("vm.max_map_count"),
                "{text}"
            );
            // Each of them has its stack: none came to its end for want of one.
            until_blocked_in(&handle, threads.len(), sleeps, pause);
            // The rest of the process has mappings left.
            drop(vec![0u8; 64 << 20]);
            std::thread::spawn(|| ()).join().unwrap();
            // Another runtime, with guards that cost none, is not concerned.
            if let Ok(other) = Runtime::builder().capabilities(1).stack_guard(StackGuard::Install).build() {
                assert_eq!(other.run(|| bast::spawn(|| 1).join().unwrap()), 1);
            }
            threads.iter().for_each(|thread| thread.thread().kill());
            for thread in threads {
                assert!(thread.join().unwrap_err().is_killed());
            }
        }
    });
}

#[test]
fn a_limit_of_address_space_is_named_when_a_stack_cannot_be_had() {
    child::succeeds(|| {
        let runtime = Runtime::builder().capabilities(1).build().unwrap();
        let spawn_many = |body: fn()| -> Vec<_> { (0..2000).map(|_| runtime.handle().spawn(body)).collect() };
        // What is allocated besides stacks is allocated before there is a limit: the heap does not take a refusal.
        let panics = || std::panic::resume_unwind(Box::new([0u8; 256]));
        assert!(spawn_many(panics).into_iter().all(|thread| thread.join().is_err()));
        sys::limit_address_space(sys::address_space() + (64 << 20));
        let threads = spawn_many(|| bast::sleep(Duration::from_millis(500)));
        let mut failed = 0;
        for thread in threads {
            if let Err(error) = thread.join() {
                assert!(!error.is_killed() && !error.is_panic());
                let cause = std::error::Error::source(&error).unwrap().to_string();
                assert!(cause.contains("RLIMIT_AS") && cause.contains("ulimit -v"), "{cause}");
                failed += 1;
            }
        }
        assert!(failed > 0);
        // What ended gave its stack back.
        assert_eq!(runtime.run(|| bast::spawn(|| 4).join().unwrap()), 4);
    });
}

#[test]
fn a_limit_of_address_space_bounds_the_number_of_threads_by_name() {
    child::succeeds(|| {
        sys::limit_address_space(sys::address_space() + (256 << 20));
        let runtime = Runtime::builder().capabilities(1).stack_size(1).build().unwrap();
        let handle = runtime.handle();
        let mut threads = Vec::new();
        let error = loop {
            match handle.spawn_with(Builder::new().stack_size(1), || bast::sleep(LONG)) {
                Ok(thread) => threads.push(thread),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("RLIMIT_AS"), "{error}");
        assert!(threads.len() < 10_000, "{}", threads.len());
    });
}
