//! How long does a new connection wait for its first byte, by how it gets to the thread that serves it, and beside
//! thousands of idle ones?
//!
//! ```text
//! cargo bench --bench accept                                   (--help lists the options)
//! cargo bench --bench accept -- --only idle --idle 15000
//! ```
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bast_benches::{accept, program};

fn main() -> ExitCode {
    program::exit("accept", accept::run(std::env::args().skip(1)))
}
