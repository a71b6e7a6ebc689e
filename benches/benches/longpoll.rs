//! What does it cost to wake, and to answer, thousands of parked long polls by one publish?
//!
//! ```text
//! cargo bench --bench longpoll                      (--help lists the options)
//! cargo bench --bench longpoll -- --waiters 19000 --rounds 21
//! ```
#![forbid(unsafe_code)]

use std::fs;
use std::process::ExitCode;

use bast_benches::longpoll::{self, Options};
use bast_benches::{machine, report, sys};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("longpoll: {why}");
            return ExitCode::from(2);
        }
    };
    if options.help {
        print!("{}", longpoll::HELP);
        return ExitCode::SUCCESS;
    }
    let done = match options.client_of {
        Some(server) => sys::die_with_parent().and_then(|()| longpoll::client(server, options.waiters)),
        None => measure(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("longpoll: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> std::io::Result<()> {
    let machine = machine::describe();
    for (key, value) in &machine {
        println!("{key}: {value}");
    }
    let figures = longpoll::measure(options)?;
    for figure in &figures {
        println!("{figure}");
    }
    match &options.json {
        Some(path) => fs::write(path, report::to_json(&machine, &figures, &[])),
        None => Ok(()),
    }
}
