//! What a scraper sees: the format, read back strictly, and numbers that fit together.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::*;
use crate::hooks::{Cause, FaultKind, Hooks};
use crate::message::{Method, Status};
use crate::meter::Meter;
use crate::metrics::Recorder;

/// The samples of a page by name and labels, read by the grammar of the format and nothing else.
type Samples = BTreeMap<String, f64>;

/// Reads a page, and checks what the format demands: each metric has one HELP and one TYPE before its samples, all its
/// samples stand together, none is there twice; names, labels, escapes and values are well formed; a histogram has cumulative
/// buckets that end with `+Inf`, which is its count.
fn read(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line has an end");
    let mut samples = Samples::new();
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(is_name(name) && !help.is_empty(), "{line}");
            assert!(families.insert(name.to_owned()), "{name} twice");
            let type_line = lines.next().expect("a type");
            let (of, is) =
                type_line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')).expect("a type");
            assert_eq!(of, name);
            assert!(["counter", "gauge", "histogram"].contains(&is), "{type_line}");
            assert_eq!(is == "counter", name.ends_with("_total"), "{name}: only counters are totals");
            (family, kind) = (name.to_owned(), is.to_owned());
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, read_labels(labels)),
            None => (series, Vec::new()),
        };
        let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{name} among {family}"));
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.contains(&suffix), "{line}");
        assert_eq!(suffix == "_bucket", labels.iter().any(|(label, _)| label == "le"), "{line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(value >= 0.0, "{line}");
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
    }
    check_histograms(text, &samples);
    samples
}

fn is_name(name: &str) -> bool {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit())
}

/// Reads `name="value",...}`.
fn read_labels(mut text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    loop {
        let (name, rest) = text.split_once("=\"").expect("a label");
        assert!(is_name(name), "{name}");
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().expect("the end of a value") {
                (at, '"') => break at + 1,
                (_, '\\') => match chars.next().expect("an escape").1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => panic!("\\{c} is no escape"),
                },
                (_, c) => value.push(c),
            }
        };
        labels.push((name.to_owned(), value));
        match &rest[end..] {
            "}" => return labels,
            rest => text = rest.strip_prefix(',').expect("a comma"),
        }
    }
}

fn check_histograms(text: &str, samples: &Samples) {
    let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains("_bucket{")) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once("_bucket{").expect("a bucket");
        let labels = read_labels(labels);
        let (bound, others): (Vec<_>, Vec<_>) = labels.into_iter().partition(|(label, _)| label == "le");
        let others: Vec<String> =
            others.into_iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if others.is_empty() { String::new() } else { format!("{{{}}}", others.join(",")) };
        let bound = match &*bound[0].1 {
            "+Inf" => f64::INFINITY,
            text => text.parse().expect("a bound"),
        };
        buckets.entry(format!("{name}|{labels}")).or_default().push((bound, value.parse().expect("a count")));
    }
    assert!(!buckets.is_empty());
    for (series, buckets) in buckets {
        let (name, labels) = series.split_once('|').expect("a name and labels");
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{series}: {buckets:?}");
        let last = buckets.last().expect("a bucket");
        assert!(last.0.is_infinite(), "{series}");
        assert_eq!(last.1, samples[&format!("{name}_count{labels}")], "{series}");
        assert!(samples.contains_key(&format!("{name}_sum{labels}")), "{series}");
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 9))
}

/// A connection of a server with these cells.
fn meter(metrics: &Metrics) -> Meter {
    let cells = metrics.add_server(2);
    cells.accepted();
    let meter = Meter::new(peer(), Instant::now(), Hooks::new(), Some(Recorder::new(cells, 1)));
    assert!(meter.opens(peer()));
    meter
}

/// Lets the clock go on, without waiting for more than that.
fn tick() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(20) {
        std::hint::spin_loop();
    }
}

#[test]
fn the_page_is_in_the_format_and_every_series_is_there_from_the_start() {
    let metrics = Metrics::new();
    metrics.add_server(2);
    let samples = read(&metrics.text());
    for series in [
        "http_connections{state=\"upgraded\"}",
        "http_requests_total{method=\"GET\",status=\"2xx\"}",
        "http_request_phase_seconds_bucket{phase=\"handler\",le=\"0.001\"}",
        "http_sent_bytes_total",
    ] {
        assert_eq!(samples.get(series), Some(&0.0), "{series}");
    }
}

#[test]
fn a_label_is_escaped() {
    assert_eq!(Escaped("a\\b\"c\nd").to_string(), "a\\\\b\\\"c\\nd");
    assert_eq!(read_labels("le=\"a\\\\b\\\"c\\nd\"}"), [("le".to_owned(), "a\\b\"c\nd".to_owned())]);
}

#[test]
fn the_steps_of_a_request_add_up_to_its_time_and_a_connection_lasts_no_less() {
    let metrics = Metrics::new();
    let meter = meter(&metrics);
    meter.begins();
    tick();
    meter.enters(Phase::New, Phase::Head);
    tick();
    meter.enters(Phase::Head, Phase::Handler);
    tick();
    meter.enters(Phase::Handler, Phase::Body);
    tick();
    meter.enters(Phase::Body, Phase::Handler);
    tick();
    meter.answers(Some(Method::Post), Status::CREATED);
    tick();
    meter.enters(Phase::Handler, Phase::Write);
    tick();
    meter.enters(Phase::Write, Phase::Handler);
    meter.ends();
    meter.enters(Phase::Handler, Phase::Idle);
    tick();
    meter.received(70);
    meter.sent(200);
    let open = read(&metrics.text());
    assert_eq!(open["http_connections{state=\"idle\"}"], 1.0);
    meter.closes(Phase::Idle, Cause::Client);
    let samples = read(&metrics.text());
    let seconds = |name: &str| samples[&format!("{name}_sum")];
    let step = |name: &str| samples[&format!("http_request_phase_seconds_sum{{phase=\"{name}\"}}")];
    let steps = ["parse", "head", "handler", "body", "respond", "write"].map(step);
    assert!(steps.iter().all(|step| *step >= 20e-6), "{steps:?}");
    assert!((steps.iter().sum::<f64>() - seconds("http_request_seconds")).abs() < 1e-8, "{steps:?}");
    let parts = seconds("http_connection_queue_seconds") + step("handler") + step("write");
    assert!(seconds("http_connection_seconds") >= parts);
    assert!(seconds("http_connection_seconds") >= seconds("http_connection_first_byte_seconds"));
    for (series, expected) in [
        ("http_requests_total{method=\"POST\",status=\"2xx\"}", 1.0),
        ("http_requests_total{method=\"GET\",status=\"2xx\"}", 0.0),
        ("http_received_bytes_total", 70.0),
        ("http_sent_bytes_total", 200.0),
        ("http_connections_closed_total{cause=\"client\"}", 1.0),
        ("http_connections{state=\"idle\"}", 0.0),
        ("http_connections_accepted_total", 1.0),
        ("http_request_seconds_count", 1.0),
        ("http_connection_first_byte_seconds_count", 1.0),
    ] {
        assert_eq!(samples[series], expected, "{series}");
    }
}

#[test]
fn waits_that_did_not_happen_are_not_recorded() {
    let metrics = Metrics::new();
    let meter = meter(&metrics);
    for _ in 0..3 {
        meter.begins();
        meter.enters(Phase::New, Phase::Handler);
        meter.answers(Some(Method::Other("PURGE")), Status::NOT_FOUND);
        meter.ends();
    }
    let samples = read(&metrics.text());
    let count = |name: &str| samples[&format!("http_request_phase_seconds_count{{phase=\"{name}\"}}")];
    assert_eq!(
        ["parse", "head", "handler", "body", "respond", "write"].map(count),
        [3.0, 0.0, 3.0, 0.0, 3.0, 0.0]
    );
    assert_eq!(samples["http_requests_total{method=\"other\",status=\"4xx\"}"], 3.0);
    assert_eq!(samples["http_connection_first_byte_seconds_count"], 1.0);
}

#[test]
fn what_fails_is_counted_by_kind_and_a_panic_is_no_cause_of_an_end() {
    let metrics = Metrics::new();
    let first = meter(&metrics);
    first.fails(Phase::Handler, FaultKind::Panicked, &"oh");
    first.closes(Phase::New, Cause::Finished);
    let second = meter(&metrics);
    second.fails(Phase::Head, FaultKind::Refused(Status::BAD_REQUEST), &"no");
    second.answers(None, Status::BAD_REQUEST);
    second.closes(Phase::New, Cause::Finished);
    let samples = read(&metrics.text());
    for (series, expected) in [
        ("http_errors_total{kind=\"panicked\"}", 1.0),
        ("http_errors_total{kind=\"refused\"}", 1.0),
        ("http_connections_closed_total{cause=\"finished\"}", 1.0),
        ("http_connections_closed_total{cause=\"fault\"}", 1.0),
        ("http_requests_total{method=\"none\",status=\"4xx\"}", 1.0),
    ] {
        assert_eq!(samples[series], expected, "{series}");
    }
}

#[test]
fn the_runtime_counts_on_the_same_page_with_all_that_it_counts() {
    let text = bast::run(|| Metrics::new().text());
    let samples = read(&text);
    assert!(samples["bast_switches_total{capability=\"0\"}"] >= 1.0);
    let debug = format!("{:?}", bast::Counters::default());
    let fields: Vec<&str> = debug
        .split([' ', ':'])
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    for field in fields.into_iter().filter(|field| !field.is_empty()) {
        let series = [format!("bast_{field}_total"), format!("bast_{field}")];
        assert!(RUNTIME.iter().any(|(name, ..)| series.iter().any(|series| series == name)), "{field}");
    }
}

#[test]
fn every_method_and_status_has_its_place() {
    let method = |name| METHODS[super::super::method_index(Some(Method::from_name(name)))];
    for name in ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"] {
        assert_eq!(method(name), name);
    }
    assert_eq!(
        (method("PURGE"), method("get"), method("none"), method("other")),
        ("other", "other", "other", "other")
    );
    let class = |code| STATUSES[super::super::status_index(Status::from_code(code).expect("a code"))];
    assert_eq!(
        [100, 204, 304, 499, 599, 600, 999].map(class),
        ["1xx", "2xx", "3xx", "4xx", "5xx", "other", "other"]
    );
}

#[test]
fn bytes_that_never_became_a_request_are_none() {
    let metrics = Metrics::new();
    let meter = meter(&metrics);
    meter.begins();
    meter.enters(Phase::New, Phase::Head);
    meter.ends();
    let samples = read(&metrics.text());
    assert_eq!(samples["http_request_seconds_count"], 0.0);
    assert_eq!(samples["http_request_phase_seconds_count{phase=\"parse\"}"], 0.0);
}
