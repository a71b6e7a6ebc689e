//! Figures: a name, a value, a unit, and how far the rounds were apart; as lines and as JSON.
#![forbid(unsafe_code)]

use std::fmt::{self, Write};
use std::time::Duration;

use crate::load::Outcome;
use crate::procstat::CpuTime;
use crate::rounds::{Measured, Sample, Series};

/// Above this share of one CPU somebody is busy.
const BUSY: f64 = 0.9;

/// A reference with one OS thread that waited for its CPU for more than this share of the time had
/// neighbours, and so had the servers beside it.
const DISTURBED: f64 = 0.05;

/// Something measured.
#[derive(Clone, Debug)]
pub struct Figure {
    /// `workload.server.what`.
    pub name: String,
    /// The median, if there are several rounds.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// How far the rounds were apart, if there are several.
    pub spread: Option<Spread>,
}

/// Least, quartiles and most of several values. On a machine with neighbours the extremes tell of them, and
/// the quartiles of what was measured.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Spread {
    pub min: f64,
    pub lower: f64,
    pub upper: f64,
    pub max: f64,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figure { name, value, unit, spread } = self;
        write!(f, "{name} {} {unit}", Plain(*value))?;
        match spread {
            Some(Spread { min, lower, upper, max }) => {
                write!(f, "  ({} [{}..{}] {})", Plain(*min), Plain(*lower), Plain(*upper), Plain(*max))
            }
            None => Ok(()),
        }
    }
}

/// A number with four significant digits, all of them if it has more before the point.
struct Plain(f64);

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits_before = if self.0 == 0.0 { 1 } else { self.0.abs().log10().floor() as i32 + 1 };
        let digits_behind = (4 - digits_before).clamp(0, 6) as usize;
        write!(f, "{:.*}", digits_behind, self.0)
    }
}

/// The median of `values` with their spread.
///
/// # Panics
/// Without values.
#[must_use]
pub fn median(name: String, unit: &'static str, values: impl IntoIterator<Item = f64>) -> Figure {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let spread = Spread {
        min: values[0],
        lower: quantile(&values, 0.25),
        upper: quantile(&values, 0.75),
        max: values[values.len() - 1],
    };
    Figure { name, value: quantile(&values, 0.5), unit, spread: (values.len() > 1).then_some(spread) }
}

/// By linear interpolation between the two nearest of the sorted values.
fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let at = quantile * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn per_request(duration: Duration, outcome: &Outcome) -> f64 {
    us(duration) / (outcome.ok + outcome.failed).max(1) as f64
}

/// What a load generator's run shows by itself.
#[must_use]
pub fn outcome_figures(prefix: &str, outcomes: &[&Outcome]) -> Vec<Figure> {
    let each = |what: &str, unit, value: fn(&Outcome) -> f64| {
        median(format!("{prefix}.{what}"), unit, outcomes.iter().map(|outcome| value(outcome)))
    };
    let failed = outcomes.iter().map(|outcome| outcome.failed).sum::<u64>() as f64;
    vec![
        each("throughput", "requests/s", |o| o.ok as f64 / o.wall.as_secs_f64()),
        each("latency_p50", "us", |o| o.latency_ns.value_at_quantile(0.5) as f64 / 1e3),
        each("latency_p99", "us", |o| o.latency_ns.value_at_quantile(0.99) as f64 / 1e3),
        each("latency_max", "us", |o| o.latency_ns.max() as f64 / 1e3),
        each("client_cpu", "us/request", |o| per_request(o.cpu, o)),
        each("client_busy", "cpus", |o| o.cpu.as_secs_f64() / o.wall.as_secs_f64()),
        Figure { name: format!("{prefix}.failed"), value: failed, unit: "requests", spread: None },
    ]
}

/// All figures of one workload, and what there is to warn of.
#[must_use]
pub fn figures(mode: &str, measured: &Measured) -> (Vec<Figure>, Vec<String>) {
    let mut figures = Vec::new();
    let mut warnings = measured.left_out.clone();
    let base = &measured.series[0];
    let disturbed = base.samples.iter().filter(|sample| waited(sample) > DISTURBED).count();
    if disturbed > 0 {
        let rounds = base.samples.len();
        let share = 100.0 * DISTURBED;
        warnings.push(format!(
            "{mode}: other work took {} off its CPU for more than {share} % of {disturbed} of {rounds} rounds",
            base.name
        ));
    }
    for series in &measured.series {
        let prefix = format!("{mode}.{}", series.name);
        figures.extend(server_figures(&prefix, series));
        let outcomes: Vec<&Outcome> = series.samples.iter().map(|sample| &sample.outcome).collect();
        figures.extend(outcome_figures(&prefix, &outcomes));
        if series.name != base.name {
            let pairs = series.samples.iter().zip(&base.samples);
            let ratios = pairs.map(|(own, other)| cost(own) / cost(other));
            figures.push(median(format!("{prefix}.ratio_to_{}", base.name), "x", ratios));
            if base.name.ends_with("@1") {
                let pairs = series.samples.iter().zip(&base.samples);
                let losses = pairs.map(|(own, one)| 100.0 * (1.0 - cost(one) / cost(own)));
                figures.push(median(format!("{prefix}.loss_per_core"), "%", losses));
            }
        }
        warnings.extend(series_warnings(&prefix, series));
    }
    (figures, warnings)
}

/// The servers beside each other, for a page: a table in Markdown, of medians.
#[must_use]
pub fn table(measured: &Measured) -> String {
    let mut table = String::from(
        "| server | requests/s | CPU, us/request | p99, us | switches/request | memory, bytes/connection |\n\
         |---|---|---|---|---|---|\n",
    );
    for Series { name, samples, connection_bytes, switches, .. } in &measured.series {
        let middle =
            |value: fn(&Sample) -> f64| Plain(median(String::new(), "", samples.iter().map(value)).value);
        let rate = middle(|sample| sample.outcome.ok as f64 / sample.outcome.wall.as_secs_f64());
        let p99 = middle(|sample| sample.outcome.latency_ns.value_at_quantile(0.99) as f64 / 1e3);
        let switches = switches.map_or_else(|| "–".to_owned(), |each| Plain(each[0] + each[1]).to_string());
        let bytes = connection_bytes.map_or_else(|| "–".to_owned(), |bytes| Plain(bytes).to_string());
        writeln!(table, "| {name} | {rate} | {} | {p99} | {switches} | {bytes} |", middle(cost))
            .expect("writing to a String cannot fail");
    }
    table
}

fn cost(sample: &Sample) -> f64 {
    per_request(sample.server.total, &sample.outcome)
}

fn waited(sample: &Sample) -> f64 {
    sample.server.waited.as_secs_f64() / sample.outcome.wall.as_secs_f64()
}

fn server_figures(prefix: &str, series: &Series) -> Vec<Figure> {
    let mut all = CpuTime::default();
    let mut requests = 0;
    for sample in &series.samples {
        all += sample.server;
        requests += sample.outcome.ok + sample.outcome.failed;
    }
    let busy = |sample: &Sample| sample.server.total.as_secs_f64() / sample.outcome.wall.as_secs_f64();
    let mut figures = vec![median(format!("{prefix}.cpu"), "us/request", series.samples.iter().map(cost))];
    if let Some(user) = all.user() {
        // Sampled by the kernel's tick, so one figure over all rounds, and the number of samples in it.
        let value = us(user) / requests.max(1) as f64;
        let mut push = |what: &str, value, unit| {
            figures.push(Figure { name: format!("{prefix}.{what}"), value, unit, spread: None });
        };
        push("cpu_user", value, "us/request");
        push("cpu_user_sampled", all.user_ticks as f64, "ticks");
    }
    for (what, value, unit) in [
        ("cpu_in_all", all.total.as_secs_f64(), "s"),
        ("rounds", series.samples.len() as f64, "rounds"),
        ("requests", series.requests as f64, "requests/round"),
    ] {
        figures.push(Figure { name: format!("{prefix}.{what}"), value, unit, spread: None });
    }
    if let Some(value) = series.connection_bytes {
        let name = format!("{prefix}.memory");
        figures.push(Figure { name, value, unit: "bytes/connection", spread: None });
    }
    if let Some(switches) = series.switches {
        for (what, value) in ["switches_voluntary", "switches_involuntary"].into_iter().zip(switches) {
            figures.push(Figure {
                name: format!("{prefix}.{what}"),
                value,
                unit: "switches/request",
                spread: None,
            });
        }
    }
    figures.push(median(format!("{prefix}.busy"), "cpus", series.samples.iter().map(busy)));
    figures.push(median(format!("{prefix}.waited"), "cpus", series.samples.iter().map(waited)));
    figures
}

fn series_warnings(prefix: &str, series: &Series) -> Vec<String> {
    let mut warnings = Vec::new();
    let was_limited = |sample: &&Sample| {
        let wall = sample.outcome.wall.as_secs_f64();
        sample.outcome.cpu.as_secs_f64() / wall > BUSY && sample.server.total.as_secs_f64() / wall < BUSY
    };
    let limited = series.samples.iter().filter(was_limited).count();
    if limited > 0 {
        let rounds = series.samples.len();
        warnings.push(format!("{prefix}: the client was the limit in {limited} of {rounds} rounds"));
    }
    if let Some(failure) = series.samples.iter().find_map(|sample| sample.outcome.failure.as_ref()) {
        warnings.push(format!("{prefix}: failed requests: {failure}"));
    }
    warnings
}

/// A report as JSON: the machine's lines, the figures, the warnings.
#[must_use]
pub fn to_json(machine: &[(&'static str, String)], figures: &[Figure], warnings: &[String]) -> String {
    let mut json = String::from("{\n  \"machine\": {");
    join(&mut json, machine, |json, (key, value)| write!(json, "{}: {}", Quoted(key), Quoted(value)));
    json.push_str("},\n  \"figures\": [");
    join(&mut json, figures, |json, figure| {
        let Figure { name, value, unit, spread } = figure;
        write!(json, "{{\"name\": {}, \"value\": {value}, \"unit\": {}", Quoted(name), Quoted(unit))?;
        if let Some(Spread { min, lower, upper, max }) = spread {
            write!(json, ", \"min\": {min}, \"lower\": {lower}, \"upper\": {upper}, \"max\": {max}")?;
        }
        write!(json, "}}")
    });
    json.push_str("],\n  \"warnings\": [");
    join(&mut json, warnings, |json, warning| write!(json, "{}", Quoted(warning)));
    json.push_str("]\n}\n");
    json
}

/// Writes `items`, one per line, with commas between them.
fn join<T>(json: &mut String, items: &[T], write_item: impl Fn(&mut String, &T) -> fmt::Result) {
    for (index, item) in items.iter().enumerate() {
        json.push_str(if index == 0 { "\n    " } else { ",\n    " });
        write_item(json, item).expect("writing to a String cannot fail");
    }
    if !items.is_empty() {
        json.push_str("\n  ");
    }
}

/// A JSON string (RFC 8259 §7).
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c < ' ' => write!(f, "\\u{:04x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(values: &[f64]) -> Figure {
        median("a.b".to_owned(), "us", values.iter().copied())
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(figure(&[4.0, 1.0, 2.0, 9.0]).value, 3.0);
        assert_eq!(figure(&[9.0, 1.0, 2.0]).value, 2.0);
    }

    #[test]
    fn a_figure_reads_as_name_value_unit_and_spread() {
        assert_eq!(
            figure(&[5.4321, 5.0, 123_456.0]).to_string(),
            "a.b 5.432 us  (5.000 [5.216..61731] 123456)"
        );
        assert_eq!(figure(&[0.04321]).to_string(), "a.b 0.04321 us");
        assert_eq!(figure(&[0.0]).to_string(), "a.b 0.000 us");
    }

    #[test]
    fn json_quotes_what_it_must() {
        let json = to_json(&[("command", "a \"b\"\n".to_owned())], &[figure(&[1.0, 2.0])], &[]);
        let expected = "{\n  \"machine\": {\n    \"command\": \"a \\\"b\\\"\\u000a\"\n  },\n  \"figures\": [\n    \
                        {\"name\": \"a.b\", \"value\": 1.5, \"unit\": \"us\", \"min\": 1, \"lower\": 1.25, \
                        \"upper\": 1.75, \"max\": 2}\n  ],\n  \
                        \"warnings\": []\n}\n";
        assert_eq!(json, expected);
    }
}
