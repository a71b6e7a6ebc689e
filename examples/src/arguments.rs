//! What the command lines of the programs share: `--help` prints and ends with 0; what is wrong is told in one line, with
//! the program's name, and ends with 2.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{self, ExitCode};
use std::str::FromStr;

use lexopt::{Arg, ValueExt};

/// The exit code for what the user can put right: options, address, files.
pub const USAGE: u8 = 2;

/// The value of an option that is read from text. lexopt's message quotes the value; this adds whose it is and what it
/// looks like.
///
/// # Errors
/// There is no value, or it does not parse.
pub fn named<T>(option: &str, parser: &mut lexopt::Parser) -> Result<T, lexopt::Error>
where
    T: FromStr,
    T::Err: Into<Box<dyn Error + Send + Sync>>,
{
    parser.value()?.parse().map_err(|error| format!("{option}: {error}").into())
}

/// The arguments of a program that has no options but `--help`, so many of them. Where that is asked for, prints `help`;
/// where it is not what came, says so; both end the process. Call it first in `main`.
pub fn of_program(help: &str, count: RangeInclusive<usize>) -> Vec<String> {
    match positional(env::args_os().skip(1), &count) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{help}");
            process::exit(0);
        }
        Err(error) => {
            eprintln!("{}", complaint(&format!("{error} (--help says what it takes)")));
            process::exit(USAGE.into());
        }
    }
}

/// The same without side effects: `None` where help is asked for.
fn positional<A: Into<OsString>>(
    arguments: impl IntoIterator<Item = A>,
    count: &RangeInclusive<usize>,
) -> Result<Option<Vec<String>>, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut found = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Value(value) if found.len() < *count.end() => found.push(value.string()?),
            other => return Err(other.unexpected()),
        }
    }
    if found.len() < *count.start() {
        return Err("too few arguments".into());
    }
    Ok(Some(found))
}

/// Says what was wrong, and how a program ends then.
pub fn complain(error: impl Display) -> ExitCode {
    eprintln!("{}", complaint(&error));
    ExitCode::from(USAGE)
}

/// How a program ends that has done its work, or could not.
pub fn end<E: Display>(done: Result<(), E>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(error),
    }
}

fn complaint(error: &dyn Display) -> String {
    let path = env::args_os().next().unwrap_or_default();
    let name = Path::new(&path).file_name().unwrap_or_default();
    format!("{}: {error}", name.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_counted_and_options_are_not_taken_for_them() {
        let read = |arguments: &[&str]| positional(arguments, &(1..=2)).map_err(|error| error.to_string());
        let two = || Some(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(read(&["a", "b"]), Ok(two()));
        assert_eq!(read(&["a", "--", "b"]), Ok(two()));
        assert_eq!(read(&["a", "--help"]), Ok(None));
        assert_eq!(read(&["-h", "--else"]), Ok(None));
        assert_eq!(read(&["--else"]), Err("invalid option '--else'".to_owned()));
        assert_eq!(read(&["a", "b", "c"]), Err("unexpected argument \"c\"".to_owned()));
        assert_eq!(read(&[]), Err("too few arguments".to_owned()));
    }
}
