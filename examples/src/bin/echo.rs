//! A server that conformance tools can be pointed at: `cargo run --release --bin echo -- --help`.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use bast_examples::echo::{self, cli};
use bast_examples::logger;

/// The exit code for what the user can put right: options, address.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    logger::init(log::LevelFilter::Info);
    let done = match cli::parse(env::args_os().skip(1)) {
        Ok(cli::Command::Help) => {
            print!("{}", cli::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(cli::Command::Serve(options)) => echo::serve(&options).map_err(|error| error.to_string()),
        Err(error) => Err(format!("{error} (--help lists the options)")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("echo: {message}");
            ExitCode::from(USAGE)
        }
    }
}
