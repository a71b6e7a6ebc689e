//! What the threads of one server share: the acceptor, the connections, and the thread that called `serve`.
//!
//! It is made before the first of them starts, and lives until the last of them has ended.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bast::net::{TcpListener, TcpStream};

use crate::admission::{Admission, Client, NoRoom};
use crate::hooks::Hooks;
use crate::http1::service::Service;
use crate::load::LoadTable;
use crate::meter::Meter;
use crate::metrics::{Reason, Recorder, ServerCells};
use crate::proxy::ProxyProtocol;
use crate::refusal::Refusals;
use crate::shutdown::Shutdown;
use crate::timeout::{Patience, TimeLimits};
use crate::transport::Transport;
#[cfg(feature = "tls")]
use crate::transport::tls::TlsStream;

/// What the threads of a server share while it serves.
pub(crate) struct Shared {
    pub(crate) runtime: bast::Handle,
    pub(crate) listener: TcpListener,
    pub(crate) service: Service,
    pub(crate) time_limits: TimeLimits,
    /// How to speak TLS, where that is to be spoken.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    pub(crate) hooks: Hooks,
    pub(crate) cells: Option<Arc<ServerCells>>,
    pub(crate) load: LoadTable,
    pub(crate) admission: Admission,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) shutdown: Arc<Shutdown>,
}

impl Shared {
    /// Ends accepting, whatever the acceptor waits for.
    pub(crate) fn stop_accepting(&self, patience: Patience) {
        self.service.drain(patience);
        self.listener.close();
        self.admission.departures.wake();
    }

    /// The stream of a connection that was accepted.
    pub(crate) fn transport(&self, stream: TcpStream) -> Transport {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return Transport::Tls(Box::new(TlsStream::new(stream)));
        }
        Transport::Tcp(stream)
    }

    /// Is accepting to end?
    pub(crate) fn is_stopping(&self) -> bool {
        self.service.draining.load(Ordering::SeqCst)
    }

    /// A connection was accepted.
    pub(crate) fn accepted(&self) {
        if let Some(cells) = &self.cells {
            cells.accepted();
        }
    }

    /// A connection that was accepted is turned away.
    pub(crate) fn refused(&self, reason: Reason) {
        if let Some(cells) = &self.cells {
            cells.refused(reason);
        }
    }

    /// Whose connection from this address is; `None` where the PROXY header is to say it.
    fn client_at(&self, address: IpAddr) -> Option<Client> {
        let is_proxy = self.proxy_protocol.as_ref().is_some_and(|protocol| protocol.trusts(address));
        (!is_proxy).then(|| Client::from(address))
    }
}

/// A connection's share of the load, from its acceptance until it is dropped. If that is before it has started, the client
/// is turned away.
pub(crate) struct Live {
    shared: Arc<Shared>,
    capability: usize,
    /// The connection, until it starts.
    stream: Option<TcpStream>,
    /// Whom it is counted for, if that is known and anybody.
    client: Cell<Option<Client>>,
    /// When it was accepted, if anybody wants to know.
    accepted: Option<Instant>,
}

impl Live {
    /// The share of this connection, which is from this address.
    ///
    /// # Errors
    /// There is no room for it: it comes back.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        capability: usize,
        stream: TcpStream,
        address: IpAddr,
    ) -> Result<Live, (NoRoom, TcpStream)> {
        let (admission, total) = (&shared.admission, shared.load.total());
        let client = shared.client_at(address);
        let entered = match client {
            Some(client) => admission.enter(client, total),
            None if admission.has_room(total) => Ok(()),
            None => Err(NoRoom::InAll),
        };
        if let Err(no_room) = entered {
            return Err((no_room, stream));
        }
        shared.load.add(capability);
        let is_metered = shared.cells.is_some() || !shared.hooks.is_empty();
        Ok(Live {
            shared: Arc::clone(shared),
            capability,
            stream: Some(stream),
            client: Cell::new(client),
            accepted: is_metered.then(Instant::now),
        })
    }

    /// The connection starts, for good, on this capability, which may have taken it from the one it was meant for.
    pub(crate) fn start(&mut self, capability: usize) -> TcpStream {
        if capability != self.capability {
            self.shared.load.shift(self.capability, capability);
            self.capability = capability;
        }
        self.stream.take().expect("live: a connection starts twice")
    }

    /// A proxy has said whose connection this is.
    ///
    /// # Errors
    /// The client has as many as it may.
    pub(crate) fn is_of(&self, address: IpAddr) -> Result<(), NoRoom> {
        let client = Client::from(address);
        self.shared.admission.count(client)?;
        let before = self.client.replace(Some(client));
        assert!(before.is_none(), "live: a connection of two clients");
        Ok(())
    }

    /// The meter of the connection, which has started, if it is to have one.
    pub(crate) fn meter(&self, peer: SocketAddr) -> Option<Box<Meter>> {
        let cells = self.shared.cells.as_ref();
        let recorder = cells.map(|cells| Recorder::new(Arc::clone(cells), self.capability));
        Some(Box::new(Meter::new(peer, self.accepted?, self.shared.hooks.clone(), recorder)))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// No thread could be had for the connection, or the runtime has ended before it.
    #[cold]
    fn never_started(&self, stream: TcpStream) {
        self.shared.refused(Reason::Thread);
        if self.shared.is_stopping() {
            return;
        }
        let reason = "no thread can be had for a connection";
        if bast::is_green() {
            self.shared.refusals.refuse(stream, reason);
        } else {
            // It had no stack to start on: this is the scheduler, where nothing can be kept or waited for.
            self.shared.refusals.refuse_at_once(&stream, reason);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.never_started(stream);
        }
        self.shared.load.remove(self.capability);
        if let Some(client) = self.client.get() {
            self.shared.admission.leave(client);
        }
        self.shared.admission.departures.tell();
        self.shared.shutdown.connection_ended(&self.shared.load);
    }
}
