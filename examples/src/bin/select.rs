//! Waiting for whatever comes first: `cargo run --release --bin select`. A thread does jobs as they come, says so when
//! there were none for a while, and ends when it is told to.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use bast::Select;
use bast::sync::{MVar, channel};
use bast_examples::arguments;

/// What came first.
enum Came {
    Job(&'static str),
    Silence,
    Stop,
}

const HELP: &str = "\
Waits for whatever comes first of several.

Usage: select
";

fn main() {
    arguments::of_program(HELP, 0..=0);
    bast::run(|| {
        let (jobs, inbox) = channel(10);
        let stop = Arc::new(MVar::empty());
        let worker = bast::spawn({
            let stop = Arc::clone(&stop);
            move || {
                loop {
                    let came = Select::new()
                        .recv(&inbox, |job| job.map_or(Came::Stop, Came::Job))
                        .read(&stop, |()| Came::Stop)
                        .after(Duration::from_millis(200), || Came::Silence)
                        .wait();
                    match came {
                        Came::Job(job) => println!("done: {job}"),
                        Came::Silence => println!("nothing to do"),
                        Came::Stop => return,
                    }
                }
            }
        });
        jobs.send("wash").expect("the worker lives");
        bast::sleep(Duration::from_millis(300));
        jobs.send("dry").expect("the worker lives");
        bast::sleep(Duration::from_millis(50));
        stop.put(());
        worker.join().expect("the worker was told to end");
    });
}
