//! How a server is set up; every default is meant for production.
#![forbid(unsafe_code)]

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::hooks::Hooks;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::proxy::ProxyProtocol;
use crate::timeout::TimeLimits;

/// The settings of a [`Server`](crate::Server).
///
/// ```
/// use bast_server::Settings;
/// use std::time::Duration;
/// let settings = Settings { drain_deadline: Duration::from_secs(5), ..Settings::default() };
/// assert!(settings.handle_signals);
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many capabilities serve; `None`, the default, is one for each CPU. It counts only where `serve` makes a runtime of its
    /// own: called on a green thread, it uses all of that thread's runtime.
    pub workers: Option<usize>,
    /// How much stack a connection's thread, on which the handler runs, may use, in bytes, rounded up as by
    /// [`bast::Builder::stack_size`]. `None`, the default, is the runtime's: 192 KiB where `serve` makes it. It is address
    /// space; only what is touched costs memory.
    ///
    /// A handler that needs more ends the process, not only its thread: the message on stderr names the connection.
    /// Recursion that a client can drive wants a bound of its own.
    pub stack_bytes: Option<usize>,
    /// What a client may send; the defaults are at the fields of [`Limits`].
    pub limits: Limits,
    /// How long a client may take; the defaults are at the fields of [`TimeLimits`].
    pub time_limits: TimeLimits,
    /// How many requests that a client has sent ahead on one connection (pipelined) may be handled at the same time. `None`, the
    /// default, is one after the other, as is right for nearly all servers: browsers do not pipeline.
    ///
    /// With a number, requests that have arrived together are handled by threads of their own, so many at a time, and the answers
    /// are sent in the order of the requests: all of them take as long as the slowest, and not as their sum. That goes for requests
    /// with a safe method (GET, HEAD, OPTIONS, TRACE; RFC 9112 §9.3.2) and without a body only. Any other waits for those
    /// before it, and those behind it wait for it.
    ///
    /// What must be sent before its turn is held, up to 16 KiB of a stream for each request; whoever writes more, or flushes, waits for
    /// its turn. So does whoever sends an interim response ([`Request::early_hints`](crate::Request::early_hints)) or watches the client
    /// ([`Presence::wait`](crate::Presence::wait)).
    ///
    /// Whoever waits keeps what it holds meanwhile: a lock, a connection from a pool. If a request before it needs the same, both wait
    /// for ever. So such things are to be given back before the body is written, or
    /// [`TimeLimits::handler`] is to be set, which ends that wait.
    ///
    /// A handler that sees several requests of a connection at the same time must be right for that, and its work is in
    /// vain where the connection ends before its turn: its thread is killed then.
    pub pipelined_requests_parallel: Option<NonZeroUsize>,
    /// How long a shutdown waits for requests that were received, before it kills them: 30 s by default.
    pub drain_deadline: Duration,
    /// The value of the `Server` field, `bast` by default; an empty one leaves it out.
    pub server_name: &'static str,
    /// Shut down on SIGINT and SIGTERM, as is the default. A program with signal handling of its own switches it off and uses a
    /// [`ServerHandle`](crate::ServerHandle). Other signals (SIGHUP to read files again or to hand over, SIGUSR1) are the
    /// program's: see [`ServerHandle`](crate::ServerHandle) for how.
    pub handle_signals: bool,
    /// Who must begin a connection with the header of the PROXY protocol; nobody by default. See [`ProxyProtocol`].
    pub proxy_protocol: Option<ProxyProtocol>,
    /// What is called when connections open, close and fail; nothing by default. See [`Hooks`].
    pub hooks: Hooks,
    /// Where the server counts and takes times; `None`, the default, costs nothing. See [`Metrics`].
    pub metrics: Option<Metrics>,
}

impl Settings {
    /// Refuses what makes no sense, by the name of its field.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.fault().map_or(Ok(()), |fault| {
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("settings: {fault}")))
        })
    }

    fn fault(&self) -> Option<String> {
        if self.workers == Some(0) {
            return Some("workers is 0: at least 1 is needed".to_owned());
        }
        if self.stack_bytes == Some(0) {
            return Some("stack_bytes is 0".to_owned());
        }
        let times = &self.time_limits;
        let time_limits = [
            ("head", Some(times.head)),
            ("keep_alive_idle", Some(times.keep_alive_idle)),
            ("body", Some(times.body)),
            ("write", Some(times.write)),
            ("handler", times.handler),
            ("linger", Some(times.linger)),
        ];
        if let Some((field, _)) =
            time_limits.iter().find(|(_, limit)| limit.is_some_and(|limit| limit.is_zero()))
        {
            return Some(format!("time_limits.{field} is zero: nothing could be done within it"));
        }
        self.limits.check().err()
    }

    /// The `Server` line of every response, or nothing.
    pub(crate) fn server_line(&self) -> Box<[u8]> {
        match self.server_name {
            "" => Box::default(),
            name => format!("Server: {name}\r\n").into_bytes().into(),
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            workers: None,
            stack_bytes: None,
            limits: Limits::default(),
            time_limits: TimeLimits::default(),
            pipelined_requests_parallel: None,
            drain_deadline: Duration::from_secs(30),
            server_name: "bast",
            handle_signals: true,
            proxy_protocol: None,
            hooks: Hooks::default(),
            metrics: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the settings with this change.
    fn said(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.check().expect_err("settings that make no sense").to_string()
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_by_the_name_of_the_field() {
        Settings::default().check().expect("the defaults make sense");
        for (said, field) in [
            (said(|it| it.workers = Some(0)), "settings: workers is 0"),
            (said(|it| it.stack_bytes = Some(0)), "settings: stack_bytes is 0"),
            (said(|it| it.limits.head_bytes_max = 10), "settings: limits.head_bytes_max is 10: at least 16"),
            (said(|it| it.limits.request_line_bytes_max = 0), "settings: limits.request_line_bytes_max is 0"),
            (said(|it| it.limits.fields_max = 0), "settings: limits.fields_max is 0"),
            (
                said(|it| it.limits.requests_per_connection_max = 0),
                "settings: limits.requests_per_connection_max is 0",
            ),
            (said(|it| it.limits.connections_max = 0), "settings: limits.connections_max is 0"),
            (
                said(|it| it.limits.connections_per_address_max = 0),
                "settings: limits.connections_per_address_max is 0",
            ),
            (said(|it| it.time_limits.head = Duration::ZERO), "settings: time_limits.head is zero"),
            (
                said(|it| it.time_limits.keep_alive_idle = Duration::ZERO),
                "settings: time_limits.keep_alive_idle is zero",
            ),
            (said(|it| it.time_limits.body = Duration::ZERO), "settings: time_limits.body is zero"),
            (said(|it| it.time_limits.write = Duration::ZERO), "settings: time_limits.write is zero"),
            (
                said(|it| it.time_limits.handler = Some(Duration::ZERO)),
                "settings: time_limits.handler is zero",
            ),
            (said(|it| it.time_limits.linger = Duration::ZERO), "settings: time_limits.linger is zero"),
        ] {
            assert!(said.starts_with(field), "{field}: {said}");
        }
    }
}
