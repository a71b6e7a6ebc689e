//! The metrics as a page in the text format of Prometheus, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use bast::Counters;

use super::histogram::Sum;
use super::{CAUSES, Cell, Cells, KINDS, METHODS, Metrics, REASONS, STATUSES, ServerCells, Step};
use crate::handler::Handler;
use crate::request::Request;
use crate::response::Response;
use crate::timeout::Phase;

/// What the format is called on the wire.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Metrics {
    /// Answers with [`text`](Metrics::text), as Prometheus expects it.
    pub fn handler(&self) -> impl Handler + use<> {
        let metrics = self.clone();
        move |_: &mut Request<'_>| {
            Response::bytes(CONTENT_TYPE, metrics.text().into_bytes())
                .with_header("Cache-Control", "no-store")
        }
    }

    /// The current numbers in the text format of Prometheus. The runtime's own are those of the runtime that this is
    /// called in; elsewhere they are left out.
    #[must_use]
    pub fn text(&self) -> String {
        let servers = self.all();
        let mut page = Page::default();
        connections(&mut page, &servers);
        requests(&mut page, &servers);
        times(&mut page, &servers);
        if bast::is_green() {
            runtime(&mut page);
        }
        page.text
    }
}

fn sum(servers: &[std::sync::Arc<ServerCells>], of: impl Fn(&Cells) -> &Cell) -> u64 {
    let cells = servers.iter().flat_map(|server| &server.capabilities);
    cells.fold(0, |sum, cells| sum.wrapping_add(of(cells).get()))
}

fn connections(page: &mut Page, servers: &[std::sync::Arc<ServerCells>]) {
    let total = |of: &dyn Fn(&ServerCells) -> &AtomicU64| -> u64 {
        servers.iter().map(|server| of(server).load(Ordering::Relaxed)).sum()
    };
    // What has become of connections is read before how many there were, so that none is missing.
    let closed: Vec<(&str, u64)> = CAUSES
        .into_iter()
        .enumerate()
        .map(|(index, cause)| (cause, sum(servers, |cells| &cells.closed[index])))
        .collect();
    let refused: Vec<(&str, u64)> = REASONS
        .into_iter()
        .enumerate()
        .map(|(index, reason)| (reason, total(&|server| &server.refused[index])))
        .collect();
    let states: Vec<(&str, u64)> = Phase::ALL
        .into_iter()
        .map(|phase| (phase.name(), sum(servers, |cells| &cells.states[phase as usize])))
        // A cell may be read between its connection's two steps.
        .map(|(name, count)| (name, (count as i64).max(0) as u64))
        .collect();
    let accepted = total(&|server| &server.accepted);
    let known: u64 = [&states, &closed, &refused].into_iter().flatten().map(|(_, count)| count).sum();
    page.family("http_connections", "gauge", "Open connections by what they do.");
    page.sample("", &[("state", "queued")], accepted.saturating_sub(known));
    for (name, count) in states {
        page.sample("", &[("state", name)], count);
    }
    page.family("http_connections_accepted_total", "counter", "Connections accepted.");
    page.sample("", &[], accepted);
    page.family("http_connections_refused_total", "counter", "Connections turned away, by reason.");
    for (reason, count) in refused {
        page.sample("", &[("reason", reason)], count);
    }
    page.family("http_connections_closed_total", "counter", "Connections that are over, by cause.");
    for (cause, count) in closed {
        page.sample("", &[("cause", cause)], count);
    }
}

fn requests(page: &mut Page, servers: &[std::sync::Arc<ServerCells>]) {
    page.family("http_requests_total", "counter", "Requests answered, by method and class of the status.");
    for (method, name) in METHODS.into_iter().enumerate() {
        for (status, class) in STATUSES.into_iter().enumerate() {
            let count = sum(servers, |cells| &cells.requests[method][status]);
            page.sample("", &[("method", name), ("status", class)], count);
        }
    }
    page.family("http_errors_total", "counter", "What failed on connections.");
    for (index, kind) in KINDS.into_iter().enumerate() {
        page.sample("", &[("kind", kind)], sum(servers, |cells| &cells.errors[index]));
    }
    page.family("http_received_bytes_total", "counter", "Bytes received from clients.");
    page.sample("", &[], sum(servers, |cells| &cells.received_bytes));
    page.family("http_sent_bytes_total", "counter", "Bytes sent to clients.");
    page.sample("", &[], sum(servers, |cells| &cells.sent_bytes));
}

fn times(page: &mut Page, servers: &[std::sync::Arc<ServerCells>]) {
    let sum = |of: &dyn Fn(&Cells) -> &super::Histogram| {
        let mut sum = Sum::default();
        servers.iter().flat_map(|server| &server.capabilities).for_each(|cells| sum.add(of(cells)));
        sum
    };
    page.family(
        "http_request_seconds",
        "histogram",
        "From the first bytes of a request until its response is sent.",
    );
    page.histogram(&[], &sum(&|cells| &cells.request));
    page.family("http_request_phase_seconds", "histogram", "The parts of a request's time.");
    for (index, (_, name, _)) in Step::RECORDED.into_iter().enumerate() {
        page.histogram(&[("phase", name)], &sum(&|cells| &cells.steps[index]));
    }
    let mut routes = BTreeMap::new();
    servers.iter().flat_map(|server| &server.capabilities).for_each(|cells| cells.routes.add_to(&mut routes));
    page.family("http_handler_seconds", "histogram", "The handlers' own time, by method and route.");
    for ((route, method), sum) in &routes {
        page.histogram(&[("method", method), ("route", route)], sum);
    }
    page.family(
        "http_connection_queue_seconds",
        "histogram",
        "From a connection's acceptance until its thread runs.",
    );
    page.histogram(&[], &sum(&|cells| &cells.queue));
    page.family(
        "http_connection_first_byte_seconds",
        "histogram",
        "From a connection's acceptance until its first request begins.",
    );
    page.histogram(&[], &sum(&|cells| &cells.first_byte));
    page.family("http_connection_seconds", "histogram", "From a connection's acceptance to its end.");
    page.histogram(&[], &sum(&|cells| &cells.connection));
}

/// A counter of the runtime: its name here, its type, what it counts, and where it is.
type Row = (&'static str, &'static str, &'static str, fn(&Counters) -> u64);

/// The counters of the runtime, in their order there.
const RUNTIME: &[Row] = &[
    ("bast_switches_total", "counter", "Times that a thread got the core.", |c| c.switches),
    ("bast_wakes_total", "counter", "Threads made runnable on their own core.", |c| c.wakes),
    ("bast_wakes_sent_total", "counter", "Threads of other cores made runnable.", |c| c.wakes_sent),
    ("bast_wakes_received_total", "counter", "Threads made runnable by others.", |c| c.wakes_received),
    ("bast_polls_total", "counter", "Looks at the io manager.", |c| c.polls),
    ("bast_spawned_total", "counter", "Threads spawned by threads of this core.", |c| c.spawned),
    ("bast_started_total", "counter", "Threads that began to run here.", |c| c.started),
    ("bast_finished_total", "counter", "Threads that ended here.", |c| c.finished),
    ("bast_steals_total", "counter", "Unstarted threads taken from other cores.", |c| c.steals),
    ("bast_accepts_total", "counter", "Connections accepted here.", |c| c.accepts),
    ("bast_timers_total", "counter", "Waits that ended because their time was over.", |c| c.timers),
    ("bast_exceptions_total", "counter", "Exceptions from outside that were raised.", |c| c.exceptions),
    ("bast_spins_total", "counter", "Spins for want of work.", |c| c.spins),
    ("bast_sleeps_total", "counter", "Times that the core went to sleep.", |c| c.sleeps),
    ("bast_stalls_total", "counter", "Time slices that were overrun.", |c| c.stalls),
    ("bast_stacks", "gauge", "Stacks that exist.", |c| c.stacks),
    ("bast_stacks_warm", "gauge", "Free stacks that keep their memory.", |c| c.stacks_warm),
    ("bast_stacks_given_back_total", "counter", "Free stacks whose memory was given back.", |c| {
        c.stacks_given_back
    }),
    ("bast_stacks_trimmed_total", "counter", "Free stacks that gave back what deep use had left.", |c| {
        c.stacks_trimmed
    }),
];

fn runtime(page: &mut Page) {
    let counters = bast::Handle::current().counters();
    for (name, kind, help, of) in RUNTIME {
        page.family(name, kind, help);
        for (index, counters) in counters.iter().enumerate() {
            page.sample("", &[("capability", &index.to_string())], of(counters));
        }
    }
}

/// A page that is being written.
#[derive(Default)]
struct Page {
    text: String,
    /// The metric whose samples come now.
    name: &'static str,
}

impl Page {
    /// Begins a metric; its samples follow.
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        let family = self.name;
        self.put(format_args!("{family}{suffix}"));
        for (index, (name, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            self.put(format_args!("{before}{name}=\"{}\"", Escaped(value)));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.put(format_args!("{end} {value}\n"));
    }

    fn histogram(&mut self, labels: &[(&str, &str)], sum: &Sum) {
        for (bound, count) in sum.cumulative() {
            self.sample("_bucket", &[labels, &[("le", bound)]].concat(), count);
        }
        self.sample("_sum", labels, sum.seconds());
        self.sample("_count", labels, sum.count());
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a string takes all that is written");
    }
}

/// A label's value, in which three characters must be escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
