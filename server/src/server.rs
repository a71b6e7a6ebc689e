//! A server: bound, set up, served, drained.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bast::net::{TcpListener, TcpStream, ToSocketAddrs};
use bast::signal::{Signal, Signals};
use bast::sync::Receiver;
use bast::{Builder, JoinHandle, Runtime, Thread};

use crate::admission::Admission;
use crate::class::is_field_value;
use crate::handler::Handler;
use crate::handover::{self, Lent, Offer, Predecessor, Relieved, Sharing};
use crate::http1::service::Service;
use crate::listener;
use crate::load::LoadTable;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::shutdown::{Event, PATIENCE, Shutdown, is_repeat};
use crate::timeout::{Patience, Registry};

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
    sharing: Sharing,
    /// Who serves until this one does.
    predecessor: Option<Predecessor>,
    /// Where this one hands over.
    handover_path: Option<PathBuf>,
    settings: Settings,
    #[cfg(feature = "tls")]
    tls: Option<Arc<rustls::ServerConfig>>,
    /// Asked for by [`Server::workers`], whatever the settings say.
    workers: Option<usize>,
    shutdown: Arc<Shutdown>,
    events: Receiver<Event>,
}

impl Server {
    /// Binds to an address. Connections wait in the kernel's queue until the server serves.
    ///
    /// # Errors
    /// Those of resolving the address and of socket(2), bind(2) and listen(2). The latter name the address and keep the
    /// kind; [`source`](std::error::Error::source) has the error itself, with its number.
    ///
    /// ```
    /// use bast_server::Server;
    /// let first = Server::bind("127.0.0.1:0")?;
    /// let error = Server::bind(first.local_addr()?).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    /// let address = first.local_addr()?;
    /// assert_eq!(error.to_string(), format!("cannot listen on {address}: Address already in use (os error 98)"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Server> {
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        let listener =
            TcpListener::bind(&*addresses).map_err(|error| CannotListen::explain(addresses, error))?;
        let server = Server::from_listener(listener)?;
        Ok(Server { sharing: Sharing::Sole, ..server })
    }

    /// Serves on a socket that listens already.
    ///
    /// Others may listen on it too: a supervisor that keeps it, or the successor that it was given to. A drain
    /// therefore leaves it as it is, and later connections wait in its queue for whoever accepts next; those to a
    /// server of [`bind`](Server::bind) are refused. What is in the queue when the drain begins is served, since nobody
    /// may be there to do it.
    ///
    /// # Errors
    /// TCP_NODELAY cannot be set on it.
    pub fn from_listener(listener: TcpListener) -> io::Result<Server> {
        // Inherited by the accepted sockets: no system call for each. Short answers are never held back by Nagle.
        listener.set_nodelay(true)?;
        let (shutdown, events) = Shutdown::new();
        Ok(Server {
            listener,
            sharing: Sharing::Unknown,
            predecessor: None,
            handover_path: None,
            settings: Settings::default(),
            #[cfg(feature = "tls")]
            tls: None,
            workers: None,
            shutdown: Arc::new(shutdown),
            events,
        })
    }

    /// Serves on the socket that the process was started with: systemd's socket activation, `sd_listen_fds(3)`, or
    /// whatever else sets `LISTEN_FDS` and `LISTEN_PID`. `None` if it was started without one, or one was taken already;
    /// with several, use [`bast::net::inherited_sockets`] and [`from_listener`](Server::from_listener).
    ///
    /// The supervisor keeps the socket, so a drain leaves it with all that waits in its queue: the next process serves
    /// it, and no client is refused in between.
    ///
    /// ```no_run
    /// use bast_server::{Request, Server};
    /// # fn main() -> std::io::Result<()> {
    /// let server = match Server::from_env()? {
    ///     Some(server) => server,
    ///     None => Server::bind("127.0.0.1:8080")?,
    /// };
    /// server.serve(|_: &mut Request| "hello")
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` where the variables make no sense, there is more than one socket, or it is not a TCP socket that listens.
    pub fn from_env() -> io::Result<Option<Server>> {
        let mut sockets = bast::net::inherited_sockets()?;
        let Some(socket) = sockets.pop() else { return Ok(None) };
        if !sockets.is_empty() {
            let text = format!("started with {} sockets, and one is to be served", sockets.len() + 1);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let server = Server::from_listener(TcpListener::try_from(socket)?)?;
        Ok(Some(Server { sharing: Sharing::Shared, ..server }))
    }

    /// Takes over from the process that serves and [hands over](Server::hand_over_at) at this path: gets its listening
    /// socket. `None` if nobody does. See [`handover`] for the whole.
    ///
    /// That process goes on until this server serves; then it drains. If this one never comes to that, nothing has
    /// happened. It has five minutes for it: what takes longer to load is to be loaded before.
    ///
    /// # Errors
    /// Those of connect(2); `PermissionDenied` where another user is there, `ConnectionAborted` where somebody else
    /// takes over, `TimedOut` where somebody else takes very long to, `InvalidData` where the other one speaks another version.
    pub fn take_over(path: impl AsRef<Path>) -> io::Result<Option<Server>> {
        let Some(taken) = handover::take(path.as_ref())? else { return Ok(None) };
        let server = Server::from_listener(taken.listener)?;
        Ok(Some(Server { sharing: taken.sharing, predecessor: Some(taken.predecessor), ..server }))
    }

    /// While it serves, the server hands its listening socket to the process that [takes over](Server::take_over) at this
    /// path, a Unix socket for this user only, and drains when that one serves; what waits in the socket's queue is left
    /// to it. Clients that have connected and sent nothing yet still have a few seconds to. The path is removed at the end
    /// of the server, and replaced if it is left over from one that did not end in order.
    ///
    /// [`serve`](Server::serve) fails with `AddrInUse` where another server hands over at the path, and with
    /// `AlreadyExists` where something else is there. It looks before it tells the server before, if there is one, to end.
    /// After that nothing at the path makes it fail: what is in the way is told in the log, and waited out.
    ///
    /// Who can write to the path's directory can put a socket of their own there. Only one of the same user is taken, but
    /// they can keep a successor from coming: use a directory that is yours, such as systemd's `RuntimeDirectory=`.
    #[must_use]
    pub fn hand_over_at(mut self, path: impl Into<PathBuf>) -> Server {
        self.handover_path = Some(path.into());
        self
    }

    /// Replaces the settings, all of them; but [`workers`](Server::workers) counts before those of the settings, whichever
    /// was called first.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Server {
        self.settings = settings;
        self
    }

    /// Sets how many capabilities serve, whatever [`settings`](Server::settings) say before or after; see
    /// [`Settings::workers`].
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Server {
        self.workers = Some(workers);
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
    /// [`Settings::drain_deadline`]. What is left then, or at the second call or [signal](ServerHandle), is killed, and answered by a
    /// 503 where nothing of its answer was sent; the server has ended as it was told to, so that this is `Ok` too, and a warning in
    /// the log.
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
        self.settings.check()?;
        handler.prepare()?;
        if bast::is_green() {
            return self.serve_here(Box::new(handler));
        }
        let mut runtime = Runtime::builder();
        if let Some(workers) = self.workers.or(self.settings.workers) {
            runtime = runtime.capabilities(workers);
        }
        runtime.build()?.run(move || self.serve_here(Box::new(handler)))
    }

    fn serve_here(self, handler: Box<dyn Handler>) -> io::Result<()> {
        let Server { listener, sharing, predecessor, handover_path, settings, shutdown, events, .. } = self;
        let mut offer = handover_path.map(|path| Offer::prepare(&path, predecessor.as_ref())).transpose()?;
        let had_predecessor = predecessor.is_some();
        if let Some(bytes) = settings.stack_bytes {
            // The runtime knows which sizes there are. Without this, no connection could be served and only the log knew.
            let of_the_field =
                |error: io::Error| io::Error::new(error.kind(), format!("settings: stack_bytes: {error}"));
            Builder::new().stack_size(bytes).spawn(|| {}).map_err(of_the_field)?;
        }
        let runtime = bast::Handle::current();
        let shared = Arc::new(Shared {
            load: LoadTable::new(runtime.capabilities()),
            admission: Admission::new(&settings.limits),
            refusals: Arc::default(),
            listener,
            service: Service::new(handler, &settings),
            time_limits: settings.time_limits,
            #[cfg(feature = "tls")]
            tls: self.tls,
            proxy_protocol: settings.proxy_protocol,
            cells: settings.metrics.as_ref().map(|metrics| metrics.add_server(runtime.capabilities())),
            hooks: settings.hooks,
            runtime,
            shutdown,
        });
        let signals = settings.handle_signals.then(|| watch_signals(&shared)).transpose()?;
        let mut running = Running {
            shared,
            sharing,
            lets_go: Arc::new(AtomicBool::new(!had_predecessor)),
            lent: None,
            is_stopped: false,
            helpers: signals.into_iter().collect(),
        };
        match &predecessor {
            Some(predecessor) => predecessor.insist_it_waits()?,
            None => offer.as_mut().map_or(Ok(()), Offer::publish)?,
        }
        let acceptor = running.accept()?;
        // Once the predecessor has been told to end, nothing may be an error of this server.
        let relieved = predecessor.map(Predecessor::relieve);
        running.hand_on(relieved, offer);
        running.serve(&events, acceptor, settings.drain_deadline);
        Ok(())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .field("settings", &self.settings)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// An error of bind(2) and its likes, which does not say itself what it is about.
struct CannotListen {
    addresses: Vec<SocketAddr>,
    source: io::Error,
}

impl CannotListen {
    fn explain(addresses: Vec<SocketAddr>, source: io::Error) -> io::Error {
        io::Error::new(source.kind(), CannotListen { addresses, source })
    }
}

impl fmt::Display for CannotListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot listen on ")?;
        for (index, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{address}", if index > 0 { " or " } else { "" })?;
        }
        // Most programs print an error without its causes, and this one is worth nothing without.
        write!(f, ": {}", self.source)
    }
}

impl fmt::Debug for CannotListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for CannotListen {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Shuts a server down, from any thread.
///
/// # Signals of the program's own
/// The server reacts to SIGINT and SIGTERM, unless [`Settings::handle_signals`] is off. The same signal again within 100 ms
/// of the one before is taken for the same wish: some supervisors send two, one to the process and one to its group. One thread receives what others
/// the program wants, and does what they mean; all capabilities see it, as they share the program's memory:
///
/// ```no_run
/// use bast::signal::{Signal, Signals};
/// use bast_server::middleware::{AccessLog, LogFile};
/// use bast_server::{Handler, Request, Server};
/// use std::sync::RwLock;
///
/// static GREETING: RwLock<String> = RwLock::new(String::new());
///
/// # fn main() -> std::io::Result<()> {
/// let log_file = LogFile::open("access.log")?;
/// let app = (|_: &mut Request| GREETING.read().unwrap().clone()).with(AccessLog::combined(log_file.clone()));
/// let server = Server::bind("127.0.0.1:8080")?;
/// let handle = server.handle();
/// let signals = Signals::new([Signal::HangUp, Signal::User1, Signal::User2])?;
/// bast::run(move || {
///     bast::spawn(move || {
///         for signal in &signals {
///             match signal {
///                 Signal::HangUp => *GREETING.write().unwrap() = std::fs::read_to_string("greeting").unwrap(),
///                 Signal::User1 => log_file.reopen(), // logrotate has moved it away
///                 _ => handle.shutdown(),
///             }
///         }
///     });
///     server.serve(app)
/// })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ServerHandle {
    shutdown: Arc<Shutdown>,
}

impl ServerHandle {
    /// Begins a graceful shutdown, as the first SIGTERM does. The second call, like the second signal, ends it at once
    /// by killing what is left: handlers unwind at their next blocking call or [`bast::yield_point`]; one that only computes
    /// is given up after a few seconds, and named in the log, unless it keeps the very core on which `serve` waits, which then hears
    /// nothing before it ends. Returns at once; `serve` returns when it is done.
    pub fn shutdown(&self) {
        self.shutdown.send(Event::Stop);
    }
}

/// Turns signals into events.
fn watch_signals(shared: &Shared) -> io::Result<Thread> {
    let signals = Signals::new([Signal::Interrupt, Signal::Terminate])?;
    let shutdown = Arc::clone(&shared.shutdown);
    let watcher = Builder::new().name("signals").spawn(move || {
        let mut before = None;
        while let Ok(signal) = signals.wait() {
            let now = Instant::now();
            if is_repeat(before, signal, now) {
                log::info!("received {signal:?} again, at once: taken for one");
                continue;
            }
            before = Some((signal, now));
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
    sharing: Sharing,
    /// No predecessor accepts any more from the socket.
    lets_go: Arc<AtomicBool>,
    /// What a successor has that does not serve yet.
    lent: Option<Arc<Lent>>,
    /// Somebody has asked for the end, by a signal or a handle.
    is_stopped: bool,
    helpers: Vec<Thread>,
}

/// What sets a drain off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    Shutdown,
    HandedOver,
}

impl Running {
    fn accept(&self) -> io::Result<JoinHandle<()>> {
        let shared = Arc::clone(&self.shared);
        Builder::new().name("acceptor").on(bast::capability()).spawn(move || listener::accept_all(&shared))
    }

    /// Waits for the predecessor to let go, and lets a successor come then, on a thread of its own: the server serves meanwhile,
    /// and also where none of it can be done.
    fn hand_on(&mut self, relieved: Option<Relieved>, offer: Option<Offer>) {
        if relieved.is_none() && offer.is_none() {
            return;
        }
        self.lent = offer.as_ref().map(Offer::lent);
        let (shared, sharing, lets_go) = (Arc::clone(&self.shared), self.sharing, Arc::clone(&self.lets_go));
        let spawned = Builder::new().name("hand-over").spawn(move || {
            let took_over = relieved.is_some();
            if relieved.is_some_and(Relieved::wait) {
                lets_go.store(true, Ordering::SeqCst);
            }
            let Some(mut offer) = offer else { return };
            if took_over {
                offer.publish_in_the_end();
            }
            let is_draining = || shared.is_stopping();
            let relieved = || shared.shutdown.send(Event::HandedOver);
            offer.serve(&shared.listener, sharing, is_draining, relieved);
        });
        match spawned {
            Ok(thread) => self.helpers.push(thread.thread().clone()),
            Err(error) => log::error!("no successor can come: {error}"),
        }
    }

    fn serve(mut self, events: &Receiver<Event>, acceptor: JoinHandle<()>, drain_deadline: Duration) {
        let drain = loop {
            match events.recv() {
                Ok(Event::Stop) => break Drain::Shutdown,
                Ok(Event::HandedOver) => break Drain::HandedOver,
                Ok(Event::Gone) | Err(_) => {}
            }
        };
        self.drain(drain, events, acceptor, drain_deadline);
    }

    /// Ends the server. What fails on the way is told in the log, and the rest is done all the same: requests are under way.
    fn drain(
        &mut self,
        drain: Drain,
        events: &Receiver<Event>,
        acceptor: JoinHandle<()>,
        deadline: Duration,
    ) {
        let shared = Arc::clone(&self.shared);
        let is_handed_over = drain == Drain::HandedOver;
        self.is_stopped = !is_handed_over;
        shared.stop_accepting(if is_handed_over { Patience::WithTheNew } else { Patience::Over });
        if acceptor.join().is_err() {
            log::error!("the acceptor had panicked");
        }
        let sharing = self.sharing_at_the_end(is_handed_over);
        if sharing != Sharing::Shared {
            accept_the_rest(&shared);
        }
        // From here on a new client is to go elsewhere at once, not to wait in a queue that nobody empties.
        if sharing == Sharing::Sole
            && let Err(error) = shared.listener.stop_listening()
        {
            log::warn!("new connections wait until the drain is over: {error}");
        }
        log::info!("draining {} connections", shared.load.total());
        // Whoever begins to wait after this sees `draining` by itself.
        if is_handed_over {
            on_each_capability(&shared, Registry::expire_idle);
            self.lose_patience(deadline);
        } else {
            on_each_capability(&shared, Registry::expire_waiting);
        }
        shared.shutdown.report_the_last(&shared.load);
        if self.wait_for_the_last(events, deadline) {
            return;
        }
        match shared.load.total() {
            // The last one has ended just now.
            0 => return,
            left => log::warn!("killing {left} connections"),
        }
        on_each_capability(&shared, Registry::kill_all);
        if !self.wait_for_the_last(events, KILL_GRACE) {
            log::error!("{} connections do not end", shared.load.total());
        }
    }

    /// Who else may accept from the socket, now that the server ends.
    fn sharing_at_the_end(&self, is_handed_over: bool) -> Sharing {
        if is_handed_over {
            return Sharing::Shared;
        }
        if self.lent.as_ref().is_some_and(|lent| lent.is_out()) {
            log::error!(
                "a successor has the socket and has not said that it serves: \
                 new clients wait for it, and are lost if it never does"
            );
            return Sharing::Shared;
        }
        if self.sharing == Sharing::Sole && !self.lets_go.load(Ordering::SeqCst) {
            // The predecessor may go on: the socket is not to be taken from it.
            return Sharing::Unknown;
        }
        self.sharing
    }

    /// Lets clients that have sent nothing yet wait a while longer; see Note [patience] in `shutdown.rs`.
    fn lose_patience(&mut self, deadline: Duration) {
        let shared = Arc::clone(&self.shared);
        let spawned = Builder::new().name("patience").spawn(move || {
            bast::sleep(PATIENCE.min(deadline));
            end_patience(&shared);
        });
        match spawned {
            Ok(thread) => self.helpers.push(thread.thread().clone()),
            Err(error) => log::error!("connections without a request wait for the deadline: {error}"),
        }
    }

    /// Waits until no connection is left; `false` if that takes too long or somebody is impatient.
    fn wait_for_the_last(&mut self, events: &Receiver<Event>, limit: Duration) -> bool {
        let begun = Instant::now();
        loop {
            match events.recv_timeout(limit.saturating_sub(begun.elapsed())) {
                Ok(Event::Gone) => return true,
                // The successor that had been lent the socket serves.
                Ok(Event::HandedOver) => {}
                // The drain was set off by a hand-over: this is the first who asks for an end, not the second.
                Ok(Event::Stop) if !self.is_stopped => {
                    self.is_stopped = true;
                    end_patience(&self.shared);
                }
                Ok(Event::Stop) | Err(_) => return false,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop_accepting(Patience::Over);
        self.helpers.iter().for_each(Thread::kill);
    }
}

/// From now on who has not sent a request is closed.
fn end_patience(shared: &Shared) {
    shared.service.lose_patience();
    on_each_capability(shared, Registry::expire_waiting);
}

/// Accepts what waits in the kernel's queue when the listener is closed already: their requests may have arrived,
/// and closing the socket would reset them.
fn accept_the_rest(shared: &Arc<Shared>) {
    let queue = match shared.listener.duplicate_fd() {
        Ok(fd) => std::net::TcpListener::from(fd),
        Err(error) => return log::error!("who waits to be accepted is not served any more: {error}"),
    };
    for _ in 0..QUEUE_MAX {
        let admitted = match queue.accept() {
            Ok((stream, peer)) => {
                TcpStream::try_from(stream).and_then(|stream| listener::admit(shared, stream, peer))
            }
            Err(error) if listener::concerns_one_connection(&error) => continue,
            // Nothing is left.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return log::error!("who waits to be accepted is not served any more: {error}"),
        };
        if let Err(error) = admitted {
            log::error!("a connection cannot be served any more: {error}");
        }
    }
}

/// No queue of connections is longer than the backlog that the runtime asks for.
const QUEUE_MAX: usize = 4096;

/// How long capabilities may take to hear what they are told. One of which a handler keeps the core hears nothing before that ends: the
/// drain, its deadline and the second signal do not wait for it.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

/// Time enough for one that has heard already to say so, where another has used all the time up.
const SAID_WITHIN: Duration = Duration::from_millis(10);

/// Does something to the connections of each capability, on the capability itself, and waits until it is done, or until it is
/// clear that it cannot be done now. It is done later then.
fn on_each_capability(shared: &Shared, action: fn(&Registry)) {
    let spawned: Vec<io::Result<JoinHandle<()>>> = (0..shared.runtime.capabilities())
        .map(|index| {
            let (id, limits) = (shared.service.id, shared.time_limits);
            Builder::new()
                .on(shared.runtime.capability(index))
                // The connections are borrowed meanwhile.
                .preempt_at_allocation(false)
                .spawn(move || {
                    let registry = Registry::of(id, limits);
                    action(&registry);
                    registry.ensure_haste();
                })
        })
        .collect();
    let begun = Instant::now();
    for (index, thread) in spawned.into_iter().enumerate() {
        let left = HEARD_WITHIN.saturating_sub(begun.elapsed()).max(SAID_WITHIN);
        match thread.map(|thread| bast::timeout(left, || thread.join())) {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(_))) => log::error!("capability {index} could not be told to shut down: it panicked"),
            Ok(Err(_elapsed)) => log::error!(
                "capability {index} does not hear that the server shuts down: a handler keeps its core"
            ),
            Err(error) => log::error!("capability {index} could not be told to shut down: {error}"),
        }
    }
}
