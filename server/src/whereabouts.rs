//! Whose connection it is and what it does: the beginning of a log line about a connection.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;

use crate::timeout::Phase;

/// As `192.0.2.1:56324 in phase body`. What a client sends is no part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whereabouts {
    /// The client, as far as it is known: a socket that was reset has none any more, and one in memory never had.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) phase: Phase,
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => peer.fmt(f)?,
            None => f.write_str("nobody")?,
        }
        write!(f, " in phase {}", self.phase.name())
    }
}
