//! A server: bound, set up, served, drained.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bast::net::{TcpListener, TcpStream, ToSocketAddrs};
use bast::signal::{Signal, Signals};
use bast::sync::Receiver;
use bast::{Builder, JoinHandle, Runtime, Thread};

use crate::admission::Admission;
use crate::class::is_field_value;
use crate::handler::Handler;
use crate::http1::serve::Service;
use crate::listener;
use crate::load::LoadTable;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::shutdown::{Event, Shutdown};
use crate::timeout::Registry;

/// An HTTP server, bound to its address and not serving yet.
///
/// ```no_run
/// use bast_server::{Request, Response, Router, Server};
///
/// fn main() -> std::io::Result<()> {
///     let app = Router::new().get("/", |_: &mut Request| Response::text("hello"));
///     Server::bind("127.0.0.1:8080")?.serve(app)
/// }
/// ```
pub struct Server {
    listener: TcpListener,
    /// Nobody else listens on the socket, so that the server may stop it.
    is_sole_listener: bool,
    settings: Settings,
    #[cfg(feature = "tls")]
    tls: Option<Arc<rustls::ServerConfig>>,
    shutdown: Arc<Shutdown>,
    events: Receiver<Event>,
}

impl Server {
    /// Binds to an address. Connections wait in the kernel's queue until the server serves.
    ///
    /// # Errors
    /// Those of resolving the address and of socket(2), bind(2) and listen(2).
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Server> {
        let server = Server::from_listener(TcpListener::bind(address)?)?;
        Ok(Server { is_sole_listener: true, ..server })
    }

    /// Serves on a socket that listens already.
    ///
    /// Others may listen on it too: a supervisor that keeps it, or the successor that it was handed to. A drain
    /// therefore leaves it as it is, and later connections wait in its queue for whoever accepts next; those to a
    /// server of [`bind`](Server::bind) are refused.
    ///
    /// # Errors
    /// TCP_NODELAY cannot be set on it.
    pub fn from_listener(listener: TcpListener) -> io::Result<Server> {
        // Inherited by the accepted sockets: no system call for each. Short answers are never held back by Nagle.
        listener.set_nodelay(true)?;
        let (shutdown, events) = Shutdown::new();
        Ok(Server {
            listener,
            is_sole_listener: false,
            settings: Settings::default(),
            #[cfg(feature = "tls")]
            tls: None,
            shutdown: Arc::new(shutdown),
            events,
        })
    }

    /// Replaces the settings.
    #[must_use]
    pub fn with(mut self, settings: Settings) -> Server {
        self.settings = settings;
        self
    }

    /// Sets how many capabilities serve; see [`Settings::workers`].
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Server {
        self.settings.workers = Some(workers);
        self
    }

    /// Serves HTTPS; see [`tls`](crate::tls).
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, config: Arc<rustls::ServerConfig>) -> Server {
        self.tls = Some(crate::tls::prepare(config));
        self
    }

    /// The address the server is bound to: with port 0 asked for, the one that was given.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What shuts the server down from elsewhere.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { shutdown: Arc::clone(&self.shutdown) }
    }

    /// Serves until it is shut down, and returns after a graceful drain: no new connections, idle ones closed at once,
    /// every request whose head had arrived answered, as long as that takes no longer than
    /// [`Settings::drain_deadline`]. What is left then, or at the second call or signal, is killed; the server has ended
    /// as it was told to, so that this is `Ok` too, and a warning in the log.
    ///
    /// On a plain OS thread this makes a runtime and ends it again. On a green thread it serves with all capabilities
    /// of its runtime.
    ///
    /// # Errors
    /// The handler cannot serve, the runtime or a thread cannot be made, signals cannot be received, or the settings
    /// make no sense. Nothing that happens to a connection is an error of the server.
    pub fn serve(self, handler: impl Handler) -> io::Result<()> {
        if !is_field_value(self.settings.server_name.as_bytes()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the server name is no field value"));
        }
        handler.prepare()?;
        if bast::is_green() {
            return self.serve_here(Box::new(handler));
        }
        let mut runtime = Runtime::builder();
        if let Some(workers) = self.settings.workers {
            runtime = runtime.capabilities(workers);
        }
        runtime.build()?.run(move || self.serve_here(Box::new(handler)))
    }

    fn serve_here(self, handler: Box<dyn Handler>) -> io::Result<()> {
        let Server { listener, is_sole_listener, settings, shutdown, events, .. } = self;
        if let Some(bytes) = settings.stack_bytes {
            // The runtime knows which sizes there are. Without this, no connection could be served and only the log knew.
            Builder::new().stack_size(bytes).spawn(|| {})?;
        }
        let runtime = bast::Handle::current();
        let shared = Arc::new(Shared {
            load: LoadTable::new(runtime.capabilities()),
            admission: Admission::new(&settings.limits),
            refusals: Arc::default(),
            runtime,
            listener,
            service: Service::new(handler, &settings),
            time_limits: settings.time_limits,
            stack_bytes: settings.stack_bytes,
            #[cfg(feature = "tls")]
            tls: self.tls,
            shutdown,
        });
        let signals = settings.handle_signals.then(|| watch_signals(&shared)).transpose()?;
        let running = Running { shared, is_sole_listener, helpers: signals.into_iter().collect() };
        running.serve(&events, settings.drain_deadline)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).field("settings", &self.settings).finish()
    }
}

/// Shuts a server down, from any thread.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    shutdown: Arc<Shutdown>,
}

impl ServerHandle {
    /// Begins a graceful shutdown, as the first SIGTERM does. The second call, like the second signal, ends it at once
    /// by killing what is left: handlers unwind at their next blocking call or [`bast::yield_point`]; one that only computes
    /// is given up after a few seconds, and named in the log. Returns at once; `serve` returns when it is done.
    pub fn shutdown(&self) {
        self.shutdown.send(Event::Stop);
    }
}

/// Turns signals into events.
fn watch_signals(shared: &Shared) -> io::Result<Thread> {
    let signals = Signals::new([Signal::Interrupt, Signal::Terminate])?;
    let shutdown = Arc::clone(&shared.shutdown);
    let watcher = Builder::new().name("signals").spawn(move || {
        while let Ok(signal) = signals.wait() {
            log::info!("received {signal:?}");
            shutdown.send(Event::Stop);
        }
    })?;
    Ok(watcher.thread().clone())
}

/// How long killed connections may take to unwind before they are left to the runtime.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// A server that serves. However it ends, it stops listening and its helpers are killed.
struct Running {
    shared: Arc<Shared>,
    is_sole_listener: bool,
    helpers: Vec<Thread>,
}

impl Running {
    fn serve(mut self, events: &Receiver<Event>, drain_deadline: Duration) -> io::Result<()> {
        let acceptor = {
            let shared = Arc::clone(&self.shared);
            Builder::new()
                .name("acceptor")
                .on(bast::capability())
                .spawn(move || listener::accept_all(&shared))?
        };
        while !matches!(events.recv(), Ok(Event::Stop)) {}
        self.drain(events, acceptor, drain_deadline)
    }

    fn drain(
        &mut self,
        events: &Receiver<Event>,
        acceptor: JoinHandle<()>,
        deadline: Duration,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.stop_accepting();
        if acceptor.join().is_err() {
            log::error!("the acceptor had panicked");
        }
        accept_the_rest(&shared)?;
        // From here on a new client is to go elsewhere at once, not to wait in a queue that nobody empties.
        if self.is_sole_listener
            && let Err(error) = shared.listener.stop_listening()
        {
            log::warn!("new connections wait until the drain is over: {error}");
        }
        log::info!("draining {} connections", shared.load.total());
        // Whoever begins to wait after this sees `draining` by itself.
        on_each_capability(&shared, Registry::expire_waiting)?;
        shared.shutdown.report_the_last(&shared.load);
        if self.wait_for_the_last(events, deadline)? {
            return Ok(());
        }
        log::warn!("killing {} connections", shared.load.total());
        on_each_capability(&shared, Registry::kill_all)?;
        if !self.wait_for_the_last(events, KILL_GRACE)? {
            log::error!("{} connections do not end", shared.load.total());
        }
        Ok(())
    }

    /// Waits until no connection is left; `false` if that takes too long or somebody is impatient.
    fn wait_for_the_last(&mut self, events: &Receiver<Event>, limit: Duration) -> io::Result<bool> {
        let shutdown = Arc::clone(&self.shared.shutdown);
        let alarm = Builder::new().name("drain deadline").spawn(move || {
            bast::sleep(limit);
            shutdown.send(Event::Deadline);
        })?;
        self.helpers.push(alarm.thread().clone());
        Ok(matches!(events.recv(), Ok(Event::Gone)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop_accepting();
        self.helpers.iter().for_each(Thread::kill);
    }
}

/// Accepts what waits in the kernel's queue when the listener is closed already: their requests may have arrived,
/// and closing the socket would reset them.
fn accept_the_rest(shared: &Arc<Shared>) -> io::Result<()> {
    let queue = std::net::TcpListener::from(shared.listener.duplicate_fd()?);
    for _ in 0..QUEUE_MAX {
        match queue.accept() {
            Ok((stream, peer)) => listener::admit(shared, TcpStream::try_from(stream)?, peer)?,
            Err(error) if listener::concerns_one_connection(&error) => {}
            // Nothing is left, or nothing can be accepted now.
            Err(_) => break,
        }
    }
    Ok(())
}

/// No queue of connections is longer than the backlog that the runtime asks for.
const QUEUE_MAX: usize = 4096;

/// Does something to the connections of each capability, on the capability itself, and waits until it is done.
fn on_each_capability(shared: &Arc<Shared>, action: fn(&Registry)) -> io::Result<()> {
    let spawned: Vec<JoinHandle<()>> = (0..shared.runtime.capabilities())
        .map(|index| {
            let (id, limits) = (shared.service.id, shared.time_limits);
            Builder::new()
                .on(shared.runtime.capability(index))
                .spawn(move || action(&Registry::of(id, limits)))
        })
        .collect::<io::Result<_>>()?;
    for thread in spawned {
        if thread.join().is_err() {
            log::error!("a capability could not be told to shut down");
        }
    }
    Ok(())
}
