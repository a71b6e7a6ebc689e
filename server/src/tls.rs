//! HTTPS (RFC 9110 §4.2.2), by [`rustls`]. Cargo feature `tls`.
//!
//! ```no_run
//! use bast_server::tls::rustls::ServerConfig;
//! use bast_server::tls::rustls::pki_types::pem::PemObject as _;
//! use bast_server::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
//! use bast_server::{Request, Server};
//! use std::sync::Arc;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let certificates = CertificateDer::pem_file_iter("fullchain.pem")?.collect::<Result<_, _>>()?;
//!     let key = PrivateKeyDer::from_pem_file("privkey.pem")?;
//!     let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key)?;
//!     Server::bind("0.0.0.0:443")?.tls(Arc::new(config)).serve(|_: &mut Request| "hello")?;
//!     Ok(())
//! }
//! ```
//! TLS 1.3 and 1.2, with the cryptography of `ring`; which certificate a client gets, whether it must show one of its own, and
//! what becomes of sessions is said in rustls' [`ServerConfig`]. A certificate is renewed while the server serves by a
//! [`ResolvesServerCert`](rustls::server::ResolvesServerCert) that looks at the latest one. What the configuration calls must
//! not block: it runs where no other thread of the core can; a file is to be read beforehand.
//!
//! # What is different from HTTP
//! - A handshake runs on the connection's own thread, under [`TimeLimits::head`](crate::TimeLimits::head) as a whole, and a client
//!   that sends nothing is under that limit as well. One that fails is a line in the log at level debug, with the peer.
//! - A client that speaks HTTP without TLS is answered by a 400 without TLS.
//! - ALPN (RFC 7301) offers `http/1.1` if the configuration offers nothing. Data before the end of a handshake (0-RTT)
//!   is not taken, because it can be replayed (RFC 8470).
//! - The end of a connection is announced (`close_notify`, RFC 8446 §6.1) unless a response broke off. A body from a client
//!   that ends without that, or too early, is an error.
//! - Files are read and encrypted here; nothing is sent by the kernel alone.
//! - What arrives counts when the record that it is in is whole, so the least rate of a body is a record (16 KiB at the most) in
//!   [`TimeLimits::body`](crate::TimeLimits::body).
#![forbid(unsafe_code)]

use std::sync::Arc;

pub use rustls;

pub use crate::transport::tls::Secured;

use rustls::ServerConfig;

use crate::hooks::FaultKind;
use crate::http1::head::bad;
use crate::http1::serve::turn_away;
use crate::http1::service::Service;
use crate::http1::wire::Wire;
use crate::timeout::Phase;
use crate::transport::Transport;
use crate::transport::tls::NoSession;

/// The only protocol that is spoken here.
const HTTP_1_1: &[u8] = b"http/1.1";

/// The configuration as the server uses it.
pub(crate) fn prepare(mut config: Arc<ServerConfig>) -> Arc<ServerConfig> {
    if config.alpn_protocols.is_empty() {
        Arc::make_mut(&mut config).alpn_protocols.push(HTTP_1_1.to_vec());
    }
    if config.max_early_data_size > 0 {
        Arc::make_mut(&mut config).max_early_data_size = 0;
    }
    config
}

/// Begins a connection's session, under the limit of a head. `false` if there is none, and the connection is over.
#[inline(never)]
pub(crate) fn begin(config: &Arc<ServerConfig>, wire: &Wire, service: &Service) -> bool {
    let activity = wire.activity();
    let Transport::Tls(stream) = activity.transport() else { return false };
    activity.enter(Phase::Head);
    if service.is_in_haste() {
        // As for a head: what is there by now is taken, more is not waited for.
        activity.expire();
    }
    let Err(none) = stream.handshake(Arc::clone(config)) else { return true };
    log::debug!("{}: {none}", wire.whereabouts());
    activity.failed(FaultKind::Tls, &none);
    match none {
        NoSession::PlainHttp => {
            turn_away(wire, service, &bad("HTTP without TLS, at a port for HTTPS"));
        }
        NoSession::Failed(_) => {
            activity.enter(Phase::Linger);
            stream.drop_input(service.limits.linger_bytes_max);
        }
        NoSession::Gone(_) => {}
    }
    false
}
