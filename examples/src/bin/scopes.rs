//! Threads that borrow, in a scope that waits for them: `cargo run --bin scopes`.
#![forbid(unsafe_code)]

use std::panic;
use std::time::{Duration, Instant};

use bast_examples::arguments;

const TEXTS: [&str; 3] = ["a thread that borrows", "needs a parent", "that does not go on without it"];

const HELP: &str = "\
Threads that borrow, in a scope that waits for them.

Usage: scopes
";

fn main() {
    arguments::of_program(HELP, 0..=0);
    bast::run(|| {
        // The threads borrow from this frame, and are over when the scope is.
        let words = bast::scope(|scope| {
            let counts: Vec<_> =
                TEXTS.iter().map(|text| scope.spawn(|| text.split_whitespace().count())).collect();
            counts.into_iter().map(|count| count.join().expect("counting does not fail")).sum::<usize>()
        });
        println!("{words} words");

        // The first failure takes the others with it, and the caller.
        panic::set_hook(Box::new(|_| {})); // it is told below
        let begun = Instant::now();
        let failed = bast::catch_unwind(|| {
            bast::scope(|scope| {
                scope.spawn(|| bast::sleep(Duration::from_secs(3600)));
                scope.spawn(|| {
                    bast::sleep(Duration::from_millis(10));
                    panic!("one of them fails");
                });
            });
        });
        let reason = failed.unwrap_err();
        println!(
            "the scope failed within a second: {} ({})",
            begun.elapsed() < Duration::from_secs(1),
            reason.downcast_ref::<&str>().unwrap_or(&"?")
        );

        // A limit around a scope is a limit for all its threads.
        let limited = bast::timeout(Duration::from_millis(20), || {
            bast::scope(|scope| {
                for _ in 0..1000 {
                    scope.spawn(|| bast::sleep(Duration::from_secs(3600)));
                }
            });
        });
        println!("a thousand threads later: {limited:?}");
    });
}
