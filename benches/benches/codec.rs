//! What do the codecs of the server cost, beside the plain way to do the same?
//!
//! Heads of responses against one that is built of strings and joined, heads of requests against httparse, the date
//! against formatting it each time, a page of `html!` against `format!`, a gzip page of fragments against deflating it.
//!
//! ```text
//! cargo bench --bench codec                                    (--help lists the options)
//! ```
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bast_benches::{codec, program};

fn main() -> ExitCode {
    program::exit("codec", codec::run(std::env::args().skip(1)))
}
