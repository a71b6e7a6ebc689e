#![forbid(unsafe_code)]
//! Telling what must not go unheard.

use std::fmt::Arguments;
use std::io::Write;

/// Gives a line to the log facade or, where the program has installed no logger, to stderr: for reports of programs that
/// hang, whose users have nothing else to go by.
pub(crate) fn tell(level: log::Level, line: Arguments<'_>) {
    if log::max_level() == log::LevelFilter::Off {
        // A closed stderr is no reason to do anything else.
        let _ = writeln!(std::io::stderr(), "{line}");
    } else {
        log::log!(level, "{line}");
    }
}
