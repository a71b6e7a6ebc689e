#![forbid(unsafe_code)]
//! Sockets that a supervisor opened and this process was started with: systemd's socket activation, `sd_listen_fds(3)`.
//!
//! `LISTEN_FDS` says how many there are, from descriptor 3 on, `LISTEN_PID` for whom, and `LISTEN_FDNAMES` what they are
//! called, with colons between. Variables for another process (a parent that did not clear them) count as none.

use super::TcpListener;
use crate::sys::inherited;
use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

/// More than this is a mistake: systemd passes a handful.
const INHERITED_MAX: usize = 1024;

/// A socket that this process was started with; see [`inherited_sockets`].
#[derive(Debug)]
pub struct InheritedSocket {
    name: String,
    fd: OwnedFd,
}

impl InheritedSocket {
    /// What the supervisor calls it (`FileDescriptorName=` of a systemd unit); empty where it says nothing.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl AsFd for InheritedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<InheritedSocket> for OwnedFd {
    fn from(socket: InheritedSocket) -> OwnedFd {
        socket.fd
    }
}

impl TryFrom<InheritedSocket> for TcpListener {
    type Error = io::Error;

    /// # Errors
    /// `InvalidInput` where it is not a TCP socket that listens.
    fn try_from(socket: InheritedSocket) -> io::Result<TcpListener> {
        if let Some(fault) = inherited::fault_as_tcp_listener(socket.fd.as_fd()) {
            return Err(invalid(format!("the inherited descriptor {:?} is {fault}", socket.name)));
        }
        TcpListener::try_from(socket.fd)
    }
}

/// The sockets that this process was started with, in their order. They are given once: later calls get none, and so do
/// child processes.
///
/// What is given are duplicates, close-on-exec; the descriptors themselves stay open, as they do in the supervisor.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// for socket in bast::net::inherited_sockets()? {
///     println!("started with {:?}", socket.name());
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `InvalidInput` where the variables contradict themselves, or name descriptors that are not open.
pub fn inherited_sockets() -> io::Result<Vec<InheritedSocket>> {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    if GIVEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let variable = |name| env::var(name).ok();
    let names =
        named(process::id(), variable("LISTEN_PID"), variable("LISTEN_FDS"), variable("LISTEN_FDNAMES"))?;
    let count = names.len();
    let sockets = names.into_iter().enumerate().map(|(index, name)| {
        let fd = inherited::duplicate(index, count).map_err(|error| {
            invalid(format!("LISTEN_FDS counts descriptor {}: {error}", inherited::FIRST + index))
        })?;
        Ok(InheritedSocket { name, fd })
    });
    sockets.collect()
}

/// What the variables say for the process `own`: a name for each socket.
fn named(
    own: u32,
    pid: Option<String>,
    count: Option<String>,
    names: Option<String>,
) -> io::Result<Vec<String>> {
    let (Some(pid), Some(count)) = (pid, count) else { return Ok(Vec::new()) };
    let pid: u32 = pid.parse().map_err(|_| invalid(format!("LISTEN_PID is {pid:?}")))?;
    if pid != own {
        return Ok(Vec::new());
    }
    let count = count.parse().ok().filter(|count| *count <= INHERITED_MAX);
    let count = count.ok_or_else(|| invalid("LISTEN_FDS is no number of descriptors".to_owned()))?;
    let Some(names) = names else { return Ok(vec![String::new(); count]) };
    let names: Vec<String> =
        if count == 0 { Vec::new() } else { names.split(':').map(str::to_owned).collect() };
    if names.len() != count {
        return Err(invalid(format!("LISTEN_FDNAMES has {} names for {count} descriptors", names.len())));
    }
    Ok(names)
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_are_read_as_sd_listen_fds_does() {
        let read = |pid: &str, count: &str, names: Option<&str>| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            named(7, some(pid), some(count), names.map(str::to_owned)).map_err(|error| error.kind())
        };
        let invalid = Err(io::ErrorKind::InvalidInput);
        let names = |names: &[&str]| Ok(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(read("", "", None), names(&[]));
        assert_eq!(read("7", "", None), names(&[]));
        assert_eq!(read("", "1", None), names(&[]));
        assert_eq!(read("8", "1", None), names(&[]), "for another process");
        assert_eq!(read("7", "0", None), names(&[]));
        assert_eq!(read("7", "0", Some("")), names(&[]));
        assert_eq!(read("7", "2", None), names(&["", ""]));
        assert_eq!(read("7", "2", Some("http:admin")), names(&["http", "admin"]));
        assert_eq!(read("7", "2", Some(":admin")), names(&["", "admin"]));
        assert_eq!(read("7", "2", Some("http")), invalid);
        assert_eq!(read("7", "x", None), invalid);
        assert_eq!(read("7", "-1", None), invalid);
        assert_eq!(read("7", "1025", None), invalid);
        assert_eq!(read("me", "1", None), invalid);
    }
}
