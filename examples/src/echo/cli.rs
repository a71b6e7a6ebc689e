//! The command line of the echo server. Arguments in, options out: nothing is opened or printed here.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use bast_server::Settings;

use crate::arguments::named;

/// What `--help` prints.
pub const HELP: &str = "\
A server that answers every request by 200 and the body of the request, for tools that look for faults.

Usage: echo [OPTIONS]

Options:
  --listen ADDR          address and port to listen on [default: 127.0.0.1:8080]
  --workers N            number of cores to use [default: all that the process may run on]
  --head-timeout S       seconds that the head of a request may take
  --body-timeout S       seconds between two pieces of a request's body
  --write-timeout S      seconds between two pieces of a response that the client takes
  --idle-timeout S       seconds between two requests
  --max-connections N    connections at a time
  -h, --help             print this and exit

What is not given is as the library has it. Seconds may be fractions, such as 0.5.
/big.bin is a file of 2 MiB.
";

/// What the user asked for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Print [`HELP`].
    Help,
    /// Serve.
    Serve(Box<Options>),
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// How the server is set up.
    pub settings: Settings,
}

/// Reads the arguments, without the program's name. Of an option that is given twice, the last one counts.
///
/// # Errors
/// One line that names the argument which is wrong.
pub fn parse<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;

    let mut listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let mut settings = Settings::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("listen") => listen = named("--listen ADDR, such as 127.0.0.1:8080", &mut parser)?,
            Long("workers") => {
                settings.workers = Some(named::<NonZeroUsize>("--workers N", &mut parser)?.get());
            }
            Long("head-timeout") => settings.time_limits.head = seconds("--head-timeout S", &mut parser)?,
            Long("body-timeout") => settings.time_limits.body = seconds("--body-timeout S", &mut parser)?,
            Long("write-timeout") => settings.time_limits.write = seconds("--write-timeout S", &mut parser)?,
            Long("idle-timeout") => {
                settings.time_limits.keep_alive_idle = seconds("--idle-timeout S", &mut parser)?;
            }
            Long("max-connections") => {
                let option = "--max-connections N";
                settings.limits.connections_max = named::<NonZeroUsize>(option, &mut parser)?.get();
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Command::Serve(Box::new(Options { listen, settings })))
}

/// A time in seconds, more than none.
fn seconds(option: &str, parser: &mut lexopt::Parser) -> Result<Duration, lexopt::Error> {
    let seconds: f64 = named(option, parser)?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(format!("{option}: {seconds} is no time to wait").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(arguments: &[&str]) -> Options {
        match parse(arguments) {
            Ok(Command::Serve(options)) => *options,
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    #[test]
    fn without_arguments_everything_is_as_the_library_has_it() {
        let options = serve(&[]);
        assert_eq!(options.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(format!("{:?}", options.settings), format!("{:?}", Settings::default()));
    }

    #[test]
    fn every_option_is_read() {
        let options = serve(&[
            "--listen=[::1]:9",
            "--workers=3",
            "--head-timeout=1",
            "--body-timeout",
            "2",
            "--write-timeout=3",
            "--idle-timeout=0.5",
            "--max-connections=7",
        ]);
        assert_eq!(options.listen.to_string(), "[::1]:9");
        let settings = options.settings;
        assert_eq!((settings.workers, settings.limits.connections_max), (Some(3), 7));
        let limits = settings.time_limits;
        let times = [limits.head, limits.body, limits.write, limits.keep_alive_idle];
        assert_eq!(times.map(|time| time.as_millis()), [1_000, 2_000, 3_000, 500]);
    }

    #[test]
    fn help_names_every_option() {
        assert!(matches!(parse(["--workers", "2", "-h"]), Ok(Command::Help)));
        for option in ["listen", "workers", "head-timeout", "body-timeout", "write-timeout", "idle-timeout"] {
            assert!(HELP.contains(&format!("--{option} ")));
        }
    }

    #[test]
    fn a_bad_argument_is_named_in_one_line() {
        for (arguments, named) in [
            (&["--nonsense"][..], "--nonsense"),
            (&["stray"], "stray"),
            (&["--listen", "8080"], "--listen ADDR, such as 127.0.0.1:8080"),
            (&["--workers", "0"], "--workers"),
            (&["--head-timeout", "0"], "--head-timeout S: 0 is no time to wait"),
            (&["--body-timeout", "-1"], "--body-timeout"),
            (&["--write-timeout", "inf"], "--write-timeout"),
            (&["--idle-timeout", "soon"], "--idle-timeout"),
            (&["--max-connections", "0"], "--max-connections"),
            (&["--max-connections"], "--max-connections"),
        ] {
            let message = parse(arguments).expect_err("a bad argument").to_string();
            assert!(message.contains(named), "{arguments:?}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
