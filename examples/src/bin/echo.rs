//! A server that conformance tools can be pointed at: `cargo run --release --bin echo -- --help`.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use bast_examples::echo::{self, cli};
use bast_examples::{arguments, logger};

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
    arguments::end(done)
}
