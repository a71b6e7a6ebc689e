#![forbid(unsafe_code)]
//! The two halves of a stream: one descriptor, one fd object, two owners.

use super::endpoint::{Endpoint, endpoint_read, endpoint_write};
use crate::sys::socket;
use std::fmt;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;

/// The half of a stream that reads. The descriptor is closed when both halves are gone.
pub struct ReadHalf {
    endpoint: Arc<Endpoint>,
}

/// The half of a stream that writes. Dropping it shuts the writing direction down: the peer reads the end.
pub struct WriteHalf {
    endpoint: Arc<Endpoint>,
}

pub(super) fn split(endpoint: Arc<Endpoint>) -> (ReadHalf, WriteHalf) {
    (ReadHalf { endpoint: Arc::clone(&endpoint) }, WriteHalf { endpoint })
}

endpoint_read!(ReadHalf, |this| this.endpoint, false);
endpoint_write!(WriteHalf, |this| this.endpoint, false);

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // A peer that is gone already is no news.
        let _ = socket::shutdown(self.endpoint.source().as_fd(), Shutdown::Write);
    }
}

impl fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadHalf").field("source", self.endpoint.source()).finish()
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHalf").field("source", self.endpoint.source()).finish()
    }
}
