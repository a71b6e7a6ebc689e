//! What the threads of one server share: the acceptor, the connections, and the thread that called `serve`.
//!
//! It is made before the first of them starts, and lives until the last of them has ended.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bast::net::TcpListener;

use crate::admission::{Admission, Client, NoRoom};
use crate::http1::serve::Service;
use crate::load::LoadTable;
use crate::refusal::Refusals;
use crate::shutdown::Shutdown;
use crate::timeout::TimeLimits;

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
    pub(crate) load: LoadTable,
    pub(crate) admission: Admission,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) shutdown: Arc<Shutdown>,
}

impl Shared {
    /// Ends accepting, whatever the acceptor waits for.
    pub(crate) fn stop_accepting(&self) {
        self.service.draining.store(true, Ordering::SeqCst);
        self.listener.close();
        self.admission.departures.wake();
    }

    /// Is accepting to end?
    pub(crate) fn is_stopping(&self) -> bool {
        self.service.draining.load(Ordering::SeqCst)
    }
}

/// A connection's share of the load, from its acceptance until it is dropped.
pub(crate) struct Live {
    shared: Arc<Shared>,
    capability: usize,
    client: Client,
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
        Ok(Live { shared: Arc::clone(shared), capability, client })
    }

    /// The connection has started, for good, on this capability, which may have taken it from the one it was meant for.
    pub(crate) fn settle(&mut self, capability: usize) {
        if capability != self.capability {
            self.shared.load.shift(self.capability, capability);
            self.capability = capability;
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.load.remove(self.capability);
        self.shared.admission.leave(self.client);
        self.shared.admission.departures.tell();
        self.shared.shutdown.connection_ended(&self.shared.load);
    }
}
