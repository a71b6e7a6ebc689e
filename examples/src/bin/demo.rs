//! The demo server: `cargo run --release --bin demo -- --help`.

use std::alloc::System;
use std::env;
use std::process::ExitCode;

use bast::alloc::YieldingAlloc;
use bast_examples::demo::{self, cli};
use bast_examples::{arguments, logger};

// SAFETY: of the demo's threads those that serve `/burn` opt in, for the length of its computation (`demo/burn.rs`),
// which uses its own memory and nothing of the OS thread's, std's or anybody's.
#[global_allocator]
static ALLOCATOR: YieldingAlloc<System> = unsafe { YieldingAlloc::new(System) };

fn main() -> ExitCode {
    let done = match cli::parse(env::args_os().skip(1)) {
        Ok(cli::Command::Help) => {
            print!("{}", cli::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(cli::Command::Serve(options)) => {
            logger::init(if options.debug { log::LevelFilter::Debug } else { log::LevelFilter::Info });
            demo::serve(&options).map_err(|error| error.to_string())
        }
        Err(error) => Err(format!("{error} (--help lists the options)")),
    };
    arguments::end(done)
}
