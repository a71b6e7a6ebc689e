//! What does it cost to wake, and to answer, thousands of parked long polls by one publish?
//!
//! ```text
//! cargo bench --bench longpoll                      (--help lists the options)
//! cargo bench --bench longpoll -- --parked 100000 --waiters 19000 --rounds 5
//! ```
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bast_benches::{longpoll, program};

fn main() -> ExitCode {
    program::exit("longpoll", longpoll::run(std::env::args().skip(1)))
}
