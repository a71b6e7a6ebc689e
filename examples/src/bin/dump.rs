//! What are the threads doing? `cargo run --bin dump` prints a dump of its threads with their stacks, and what the
//! watchdog says of one that does not let go of its core.
#![forbid(unsafe_code)]

use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bast::sync::{MVar, channel};
use bast::{BlockedOn, Builder};
use bast_examples::arguments;

const HELP: &str = "\
Prints a dump of its threads, and what the watchdog says of one that holds its core.

Usage: dump
";

fn main() -> io::Result<()> {
    arguments::of_program(HELP, 0..=0);
    let (tell, told) = mpsc::channel();
    let runtime = bast::Runtime::builder()
        .capabilities(2)
        .watchdog(Some(Duration::from_millis(100)))
        .on_hog(move |hog| {
            // The program may have ended.
            let _ = tell.send(hog.to_string());
        })
        .build()?;
    runtime.run(|| {
        let (jobs, inbox) = channel::<u32>(0);
        for number in 0..3 {
            let inbox = inbox.clone();
            Builder::new().name(format!("worker {number}")).spawn(move || inbox.iter().sum::<u32>())?;
        }
        Builder::new().name("waits in vain").spawn(|| MVar::<()>::empty().take())?;
        let waiting = |what| matches!(what, Some(BlockedOn::Receive | BlockedOn::MVar));
        while bast::threads().iter().filter(|thread| waiting(thread.blocked_on)).count() < 4 {
            bast::yield_now();
        }
        println!("{}", bast::dump()?);
        drop(jobs);

        // Without a yield_point in its loop nobody else gets this core meanwhile.
        let hog = Builder::new()
            .name("hog")
            .on(bast::capability())
            .spawn(|| compute(Duration::from_millis(400)))?;
        hog.join().map_err(io::Error::other)
    })?;
    // With the runtime goes the hook, and its end of the channel.
    drop(runtime);
    match told.recv() {
        Ok(hog) => println!("The watchdog: {hog}"),
        Err(_) => println!("The watchdog has seen nothing: the machine was too busy to let it run in time."),
    }
    Ok(())
}

#[inline(never)]
fn compute(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}
