//! What the threads of one server share: the acceptor, the connections, and the thread that called `serve`.
//!
//! It is made before the first of them starts, and lives until the last of them has ended.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bast::net::{TcpListener, TcpStream};

use crate::admission::{Admission, Client, NoRoom};
use crate::hooks::Hooks;
use crate::http1::serve::Service;
use crate::load::LoadTable;
use crate::meter::Meter;
use crate::metrics::{Recorder, ServerCells};
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
    /// What a connection's thread is given; `None` is the runtime's.
    pub(crate) stack_bytes: Option<usize>,
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

    /// A client was turned away.
    pub(crate) fn refused(&self) {
        if let Some(cells) = &self.cells {
            cells.refused();
        }
    }
}

/// A connection's share of the load, from its acceptance until it is dropped.
pub(crate) struct Live {
    shared: Arc<Shared>,
    capability: usize,
    client: Client,
    /// When it was accepted, if anybody wants to know.
    accepted: Option<Instant>,
}

impl Live {
    /// The share of a connection from this address.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn new(shared: &Arc<Shared>, capability: usize, address: IpAddr) -> Result<Live, NoRoom> {
        let client = Client::from(address);
        shared.admission.enter(client, shared.load.total())?;
        shared.load.add(capability);
        if let Some(cells) = &shared.cells {
            cells.accepted();
        }
        let is_metered = shared.cells.is_some() || !shared.hooks.is_empty();
        Ok(Live { shared: Arc::clone(shared), capability, client, accepted: is_metered.then(Instant::now) })
    }

    /// The connection has started, for good, on this capability, which may have taken it from the one it was meant for.
    pub(crate) fn settle(&mut self, capability: usize) {
        if capability != self.capability {
            self.shared.load.shift(self.capability, capability);
            self.capability = capability;
        }
    }

    /// The meter of the connection, which is settled, if it is to have one.
    pub(crate) fn meter(&self, peer: SocketAddr) -> Option<Box<Meter>> {
        let cells = self.shared.cells.as_ref();
        let recorder = cells.map(|cells| Recorder::new(Arc::clone(cells), self.capability));
        Some(Box::new(Meter::new(peer, self.accepted?, self.shared.hooks.clone(), recorder)))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(cells) = &self.shared.cells {
            cells.ended();
        }
        self.shared.load.remove(self.capability);
        self.shared.admission.leave(self.client);
        self.shared.admission.departures.tell();
        self.shared.shutdown.connection_ended(&self.shared.load);
    }
}
