#![forbid(unsafe_code)]
//! Unix sockets: streams, listeners, datagrams, and open descriptors as part of a message.

mod datagram;
mod listener;
mod stream;

pub use datagram::UnixDatagram;
pub use listener::UnixListener;
pub use stream::{UCred, UnixStream};

use super::endpoint::Endpoint;
use super::retry;
use crate::sys::socket::rights;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

impl Endpoint {
    fn send_with_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        if fds.len() > rights::RIGHTS_MAX {
            let text = format!("more than {} descriptors in one message", rights::RIGHTS_MAX);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if bytes.is_empty() && !fds.is_empty() {
            // A stream would send nothing at all, and say that it had.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptors travel with bytes"));
        }
        retry(self.source(), self.write(false), |fd| rights::send(fd, bytes, fds), |_| false)
    }

    fn recv_with_fds(&self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let received = retry(self.source(), self.read(false), |fd| rights::recv(fd, buffer), |_| false)?;
        fds.extend(received.fds);
        if received.lost {
            return Err(io::Error::other("descriptors were lost: this process has as many as it may have"));
        }
        Ok(received.count)
    }
}
