//! What a deadlock looks like: `cargo run --bin deadlock -- cycle` for two threads that lock two mutexes crosswise,
//! `-- forever` for a thread that waits for a value that nobody can give. The report ends the process with code 3.
#![forbid(unsafe_code)]

use std::process::{self, ExitCode};
use std::sync::Arc;

use bast::deadlock;
use bast::sync::{MVar, Mutex};
use bast_examples::{arguments, logger};

const HELP: &str = "\
What a deadlock looks like: two mutexes that are locked crosswise, or a value that nobody can give.

Usage: deadlock cycle | forever
";

fn main() -> ExitCode {
    let arguments = arguments::of_program(HELP, 1..=1);
    logger::init(log::LevelFilter::Info);
    deadlock::set_hook(|report| {
        println!("{:?} of {} threads", report.kind(), report.threads_in_all());
        process::exit(3);
    });
    match arguments[0].as_str() {
        "cycle" => bast::run(cycle),
        "forever" => bast::run(forever),
        other => return arguments::complain(format!("{other:?} is neither cycle nor forever")),
    }
    ExitCode::SUCCESS
}

fn cycle() {
    let (fork, knife) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
    let seats = [("left", &fork, &knife), ("right", &knife, &fork)].map(|(name, first, second)| {
        let (first, second) = (Arc::clone(first), Arc::clone(second));
        let eat = move || {
            let _first = first.lock();
            bast::sleep(std::time::Duration::from_millis(10));
            let _second = second.lock();
        };
        bast::Builder::new().name(name).spawn(eat).expect("a thread can be spawned")
    });
    for seat in seats {
        let _eaten = seat.join();
    }
}

fn forever() {
    MVar::<()>::empty().take();
}
