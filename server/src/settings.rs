//! How a server is set up; every default is meant for production.
#![forbid(unsafe_code)]

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
            drain_deadline: Duration::from_secs(30),
            server_name: "bast",
            handle_signals: true,
            proxy_protocol: None,
            hooks: Hooks::default(),
            metrics: None,
        }
    }
}
