//! Killing, throwing, masking, and limits of time: `cargo run --bin interrupt`.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bast::sync::MVar;
use bast_examples::arguments;

const LONG: Duration = Duration::from_secs(3600);

const HELP: &str = "\
Kills, throws, limits and masks: what becomes of threads.

Usage: interrupt
";

fn main() {
    arguments::of_program(HELP, 0..=0);
    bast::run(|| {
        kill();
        throw();
        limit();
        mask();
    });
}

/// A thread that is killed unwinds out of whatever it waits in: what it owns is dropped, its locks are free.
fn kill() {
    struct Tells(&'static str);
    impl Drop for Tells {
        fn drop(&mut self) {
            println!("dropped: {}", self.0);
        }
    }
    let begun = Arc::new(MVar::empty());
    let sleeper = bast::spawn({
        let begun = Arc::clone(&begun);
        move || {
            let _owned = Tells("what the sleeper owned");
            begun.put(());
            bast::sleep(LONG);
        }
    });
    begun.take();
    sleeper.thread().kill();
    println!("joined: {}", sleeper.join().unwrap_err());
}

/// A thrown exception has a value, and a catcher that goes on.
fn throw() {
    #[derive(Debug)]
    struct NewSettings(u32);

    let begun = Arc::new(MVar::empty());
    let worker = bast::spawn({
        let begun = Arc::clone(&begun);
        move || {
            bast::catch(
                || {
                    begun.put(());
                    bast::sleep(LONG);
                    0
                },
                |payload| payload.downcast_ref::<NewSettings>().map_or(0, |settings| settings.0),
            )
        }
    });
    begun.take();
    bast::throw_to(&worker.thread(), NewSettings(17));
    println!("the worker got new settings: {}", worker.join().expect("it caught the exception"));
}

/// A limit goes around any blocking code, however deep, and limits nest.
fn limit() {
    let begun = Instant::now();
    let outer = bast::timeout(Duration::from_millis(200), || {
        let inner = bast::timeout(Duration::from_millis(20), || bast::sleep(LONG));
        println!("the inner limit: {inner:?}, after {} ms", begun.elapsed().as_millis());
        "the outer one had time left"
    });
    println!("{}", outer.expect("200 ms are not over"));
}

/// What belongs together is not cut in the middle.
fn mask() {
    let begun = Arc::new(MVar::empty());
    let steps = Arc::new(MVar::empty());
    let transfer = bast::spawn({
        let (begun, steps) = (Arc::clone(&begun), Arc::clone(&steps));
        move || {
            bast::uninterruptible(|| {
                begun.put(());
                bast::sleep(Duration::from_millis(10)); // the first account; a kill comes meanwhile, and waits
                steps.put("both accounts were written");
            }); // here it is raised
            bast::sleep(LONG);
        }
    });
    begun.take();
    transfer.thread().kill();
    println!("joined: {}", transfer.join().unwrap_err());
    println!("{}", steps.take());
}
