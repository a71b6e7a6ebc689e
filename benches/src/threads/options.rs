//! The threads bench's command line.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::{MEASURES, Measure, Plan};
use crate::args::positive;

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// How much to measure.
    pub plan: Plan,
    /// What to measure.
    pub measures: Vec<Measure>,
    /// Where to write JSON.
    pub json: Option<PathBuf>,
    /// Print the help.
    pub help: bool,
    /// Be the child of this name.
    pub role: Option<String>,
}

/// Threads if not said.
const THREADS: usize = 100_000;
/// Threads in a smoke test.
const THREADS_SMOKE: usize = 1000;
/// Rounds if not said.
const ROUNDS: usize = 5;

/// What `--help` prints, but for the list of measures.
const HELP: &str = "\
What threads cost to make, keep, switch and wake.

cargo bench --bench threads -- OPTIONS      (paths are relative to benches/)

  --threads N          how many threads \"many\" is (100000)
  --rounds N           how often each figure is read (5); the medians are printed
  --only M[,M...]      only these measures
  --smoke              1000 threads and one short round; exit 1 or 101 if something does not add up
  --json FILE          the figures as JSON too

A line is: name, median, unit (least [quartile..quartile] most).
";

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = format!("{HELP}\nmeasures\n");
    for measure in MEASURES {
        text += &format!("  {:<20} {}\n", measure.name, measure.question);
    }
    text
}

impl Options {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// One line that says which argument is wrong.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let (mut threads, mut rounds) = (None, None);
        let mut options = Options {
            plan: Plan { threads: THREADS, rounds: ROUNDS, smoke: false },
            measures: MEASURES.to_vec(),
            json: None,
            help: false,
            role: None,
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--threads" => threads = Some(positive(&arg, &value()?)?),
                "--rounds" => rounds = Some(positive(&arg, &value()?)?),
                "--only" => options.measures = parse_measures(&value()?)?,
                "--smoke" => options.plan = Plan { threads: THREADS_SMOKE, rounds: 1, smoke: true },
                "--json" => options.json = Some(value()?.into()),
                "--help" => options.help = true,
                "--role" => options.role = Some(value()?),
                // What cargo adds to the arguments of every bench.
                "--bench" => {}
                _ => return Err(format!("no such option: {arg} (see --help)")),
            }
        }
        options.plan.threads = threads.unwrap_or(options.plan.threads);
        options.plan.rounds = rounds.unwrap_or(options.plan.rounds);
        Ok(options)
    }
}

fn parse_measures(names: &str) -> Result<Vec<Measure>, String> {
    let named = |name| Measure::named(name).ok_or_else(|| format!("no such measure: {name} (see --help)"));
    names.split(',').map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_number_given_wins_over_that_of_a_smoke_test_in_either_order() {
        for line in ["--smoke --threads 7 --bench", "--threads 7 --smoke"] {
            let plan = parse(line).unwrap().plan;
            assert_eq!((plan.threads, plan.rounds, plan.smoke), (7, 1, true));
        }
    }

    #[test]
    fn everything_is_measured_unless_told() {
        assert_eq!(parse("").unwrap().measures.len(), MEASURES.len());
        let only = parse("--only switch,spawn").unwrap().measures;
        assert_eq!(only.iter().map(|measure| measure.name).collect::<Vec<_>>(), ["switch", "spawn"]);
    }

    #[test]
    fn a_wrong_argument_is_named() {
        assert_eq!(parse("--nope").unwrap_err(), "no such option: --nope (see --help)");
        assert_eq!(parse("--threads 0").unwrap_err(), "--threads cannot be 0");
        assert_eq!(parse("--only x").unwrap_err(), "no such measure: x (see --help)");
    }
}
