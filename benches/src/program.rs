//! How a bench's program ends: 0, or 1 where what was measured is wrong, or 2 for a wrong argument.
#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

/// What the program `name` returns from `main`, and says on stderr.
///
/// `done` is an error of the arguments, or of the measurement, or whether everything was as it should be.
#[must_use]
pub fn exit(name: &str, done: Result<io::Result<bool>, String>) -> ExitCode {
    match done {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(error)) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("{name}: {why}");
            ExitCode::from(2)
        }
    }
}
