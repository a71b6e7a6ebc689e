//! The command line of the demo. Arguments in, options out: nothing is opened or printed here.
#![forbid(unsafe_code)]

use super::Burns;
use crate::arguments::named;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// What `--help` prints.
pub const HELP: &str = "\
The demo of Bast: a direct-style HTTP server on green threads.

Usage: demo [OPTIONS]

Options:
  --listen ADDR    address and port to listen on [default: 127.0.0.1:8080]
  --workers N      number of cores to use [default: all that the process may run on]
  --root DIR       directory of the static files [default: examples/www of the source tree]
  --stats          print what the cores have done, at the end, on stderr
  --no-preempt     let /burn keep its core until it ends, to see what preemption at allocations does
  --monitor        print the numbers of green threads by label and state once a second
  --debug          log what clients do wrong, too
  -h, --help       print this and exit

Routes:
  /plaintext       Hello, World!
  /sleep[?ms=N]    the same after N milliseconds [default: 10, at most 10000]
  /burn[?ms=N]     computes and allocates for N milliseconds without calling the runtime [same range]
  /echo            the body of the request, with its content type
  /threads         the green threads, as JSON or as a page
  /threads/dump    the green threads with their stacks (SIGQUIT prints the same)
  others           files below the root
";

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Print [`HELP`].
    Help,
    /// Serve.
    Serve(Options),
}

/// How to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// How many capabilities to run; `None` leaves it to the runtime.
    pub workers: Option<NonZeroUsize>,
    /// Where the static files are; `None` is [`default_root`](super::default_root).
    pub root: Option<PathBuf>,
    /// Whether to print the runtime's counters at the end.
    pub stats: bool,
    /// Whether `/burn` gives way at its allocations.
    pub burns: Burns,
    /// Whether to print the numbers of threads.
    pub monitor: bool,
    /// Whether to log what concerns clients only.
    pub debug: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            workers: None,
            root: None,
            stats: false,
            burns: Burns::GiveWay,
            monitor: false,
            debug: false,
        }
    }
}

/// Reads the arguments, without the program's name. Of an option that is given twice, the last one counts.
///
/// # Errors
/// One line that names the argument which is wrong.
pub fn parse<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;

    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("listen") => options.listen = named("--listen ADDR, such as 127.0.0.1:8080", &mut parser)?,
            Long("workers") => options.workers = Some(named("--workers N", &mut parser)?),
            Long("stats") => options.stats = true,
            Long("no-preempt") => options.burns = Burns::KeepTheCore,
            Long("monitor") => options.monitor = true,
            Long("debug") => options.debug = true,
            Long("root") => options.root = Some(parser.value()?.into()),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Command::Serve(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(arguments: &[&str]) -> Options {
        match parse(arguments) {
            Ok(Command::Serve(options)) => options,
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    #[test]
    fn without_arguments_the_demo_listens_on_port_8080_of_this_host_only() {
        let options = serve(&[]);
        assert_eq!(options.listen.to_string(), "127.0.0.1:8080");
        assert_eq!((options.workers, options.root), (None, None));
        assert_eq!((options.stats, options.monitor, options.burns), (false, false, Burns::GiveWay));
        assert!(!options.debug);
    }

    #[test]
    fn every_option_is_read_in_both_spellings_and_the_last_one_counts() {
        let expected = Options {
            listen: "[::1]:9".parse().expect("an address"),
            workers: NonZeroUsize::new(3),
            root: Some("some dir".into()),
            stats: true,
            burns: Burns::KeepTheCore,
            monitor: true,
            debug: true,
        };
        let once = [
            "--monitor",
            "--debug",
            "--listen",
            "[::1]:9",
            "--workers",
            "3",
            "--no-preempt",
            "--root",
            "some dir",
            "--stats",
        ];
        assert_eq!(serve(&once), expected);
        let twice = [
            "--no-preempt",
            "--debug",
            "--stats",
            "--workers=1",
            "--listen=[::1]:9",
            "--workers=3",
            "--root=some dir",
            "--monitor",
        ];
        assert_eq!(serve(&twice), expected);
    }

    #[test]
    fn help_is_help_wherever_it_stands() {
        for arguments in [&["--help"][..], &["-h"], &["--workers", "2", "--help"]] {
            assert_eq!(parse(arguments).expect("help"), Command::Help);
        }
        for option in [
            "--listen",
            "--workers",
            "--root",
            "--stats",
            "--no-preempt",
            "--monitor",
            "--debug",
            "-h, --help",
        ] {
            assert!(HELP.contains(option));
        }
    }

    #[test]
    fn a_bad_argument_is_named_in_one_line() {
        for (arguments, named) in [
            (&["--nonsense"][..], "--nonsense"),
            (&["-x"], "-x"),
            (&["stray"], "stray"),
            (&["--listen"], "--listen"),
            (&["--listen", "8080"], "--listen ADDR, such as 127.0.0.1:8080"),
            (&["--listen", "localhost:http"], "--listen"),
            (&["--workers", "0"], "--workers"),
            (&["--workers", "-1"], "--workers"),
            (&["--workers", "two"], "--workers"),
            (&["--workers="], "--workers"),
            (&["--root"], "--root"),
        ] {
            let message = parse(arguments).expect_err("a bad argument").to_string();
            assert!(message.contains(named), "{arguments:?}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
