//! Counts the words of all files below a directory, or of standard input: `cargo run --release --bin words -- src`,
//! `words < file`. One thread walks the directories while 16 read: what waits for the disk or for a terminal is parked,
//! and holds no core.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bast::fs::{self, File};
use bast::stdio;
use bast::sync::{Sender, channel};
use bast_examples::arguments;

/// Files read at a time.
const READERS: usize = 16;

const HELP: &str = "\
Counts the words of all files below a directory, or of standard input.

Usage: words [FOLDER]
";

fn main() -> ExitCode {
    let folder = arguments::of_program(HELP, 0..=1).pop();
    arguments::end(bast::run(move || {
        let words = match folder {
            Some(folder) => count_below(Path::new(&folder))
                .map_err(|error| io::Error::new(error.kind(), format!("{folder}: {error}")))?,
            None => count(stdio::stdin().lock())?,
        };
        writeln!(stdio::stdout(), "{words}")
    }))
}

fn count_below(folder: &Path) -> io::Result<usize> {
    let (paths, inbox) = channel(READERS);
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let inbox = inbox.clone();
            bast::spawn(move || -> io::Result<usize> {
                inbox.iter().map(|path: PathBuf| count(File::open(path)?)).sum()
            })
        })
        .collect();
    drop(inbox); // The readers have theirs: the walk ends early if all of them have failed.
    let walked = walk(folder, &paths);
    drop(paths);
    let words = readers.into_iter().map(|reader| reader.join().map_err(io::Error::other)?).sum();
    walked.and(words)
}

/// Sends the path of each file.
fn walk(folder: &Path, paths: &Sender<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file_type = entry.file_type()?;
        if file_type.is_dir() {
            walk(&entry.path(), paths)?;
        } else if file_type.is_file() && paths.send(entry.path()).is_err() {
            break;
        }
    }
    Ok(())
}

fn count(input: impl Read) -> io::Result<usize> {
    let words = |line: io::Result<Vec<u8>>| {
        Ok(line?.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count())
    };
    BufReader::new(input).split(b'\n').map(words).sum()
}
