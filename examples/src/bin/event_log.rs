//! Writes a trace of a small program: `cargo run --release --bin event_log -- trace.json`, then open the file in
//! <https://ui.perfetto.dev> or `chrome://tracing`. Four producers send through a small channel to one consumer.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use bast::{Builder, Handle, event_log};
use bast_examples::arguments;

const HELP: &str = "\
Runs a small program and writes a trace of it, for https://ui.perfetto.dev.

Usage: event_log FILE
";

fn main() -> ExitCode {
    let [path] = &arguments::of_program(HELP, 1..=1)[..] else { unreachable!("event_log: one argument") };
    arguments::end(trace(path.clone()))
}

fn trace(path: String) -> io::Result<()> {
    bast::run(move || {
        let log = Handle::current().start_event_log(1 << 16)?;
        work()?;
        log.stop();
        let mut file = BufWriter::new(
            File::create(&path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?,
        );
        log.write_chrome(&mut file)?;
        file.flush()
    })
}

fn work() -> io::Result<()> {
    let (tx, rx) = bast::sync::channel(4);
    let producers: Vec<_> = (1..=4)
        .map(|number| {
            let tx = tx.clone();
            Builder::new().name(format!("producer {number}")).spawn(move || {
                for item in 0..25 {
                    let _span = event_log::span(format!("item {item}"));
                    bast::sleep(Duration::from_micros(100));
                    tx.send(number * item).expect("the consumer outlives the producers");
                }
            })
        })
        .collect::<io::Result<_>>()?;
    drop(tx);
    let consumer = Builder::new().name("consumer").spawn(move || {
        let sum: u64 = rx.iter().sum();
        event_log::event(format!("sum {sum}"));
        sum
    })?;
    for producer in producers {
        producer.join().map_err(io::Error::other)?;
    }
    println!("{}", consumer.join().map_err(io::Error::other)?);
    Ok(())
}
