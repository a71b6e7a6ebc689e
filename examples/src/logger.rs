//! Log lines on stderr: the sink that the `log` facade needs in a program.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use log::{LevelFilter, Log, Metadata, Record};

#[derive(Debug)]
struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // One write per line, so that the lines of two OS threads do not mix. Where stderr is closed there is
            // nobody left to tell.
            let line = format!("{:<5} {}: {}\n", record.level(), record.target(), record.args());
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// From now on, log lines up to `level` go to stderr. The first call in a process counts.
pub fn init(level: LevelFilter) {
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}
