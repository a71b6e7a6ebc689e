//! What do threads cost to make, keep, switch and wake, by the hundred thousand?
//!
//! ```text
//! cargo bench --bench threads -- --threads 100000              (--help lists the options)
//! cargo bench --bench threads -- --threads 1000000 --rounds 3
//! cargo bench --bench threads --no-run                         (prints the path of the program: $THREADS)
//! valgrind --tool=callgrind $THREADS --only switch --threads 2 --rounds 1
//! ```
//!
//! Wall time and CPU time are both given: where they differ, somebody else had the CPU, or the threads slept.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::process::ExitCode;

use bast_benches::threads::options::{self, Options};
use bast_benches::{machine, report, threads};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("threads: {why}");
            return ExitCode::from(2);
        }
    };
    if options.help {
        print!("{}", options::help());
        return ExitCode::SUCCESS;
    }
    let done = match options.role.as_deref() {
        None => measure(&options),
        Some(role) => threads::be_child(role, options.plan.threads),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("threads: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> io::Result<()> {
    let machine = machine::announce();
    let mut figures = Vec::new();
    for measure in &options.measures {
        println!(
            "\n{}: {} ({} threads, {} rounds)",
            measure.name, measure.question, options.plan.threads, options.plan.rounds
        );
        for figure in measure.run(&options.plan)? {
            println!("{figure}");
            figures.push(figure);
        }
    }
    match &options.json {
        Some(path) => fs::write(path, report::to_json(&machine, &figures, &[])),
        None => Ok(()),
    }
}
