//! How late are honest requests beside thousands of clients that send their heads a byte at a time?
//!
//! Their p99 is to be at most doubled while the others are being cut, and as before afterwards.
//!
//! ```text
//! cargo bench --bench slowloris -- --drips 5000                (--help lists the options)
//! ```
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bast_benches::{program, slowloris};

fn main() -> ExitCode {
    program::exit("slowloris", slowloris::run(std::env::args().skip(1)))
}
