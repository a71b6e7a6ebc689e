//! Does a server hold anything when good and bad clients are gone?
//!
//! ```text
//! cargo bench --bench soak -- --seconds 600                    (--help lists the options)
//! ```
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bast_benches::{program, soak};

fn main() -> ExitCode {
    program::exit("soak", soak::run(std::env::args().skip(1)))
}
