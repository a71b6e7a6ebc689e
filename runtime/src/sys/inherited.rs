//! Descriptors that a process is started with, by their numbers (sd_listen_fds(3)).

use super::socket::option;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The number of the first one: SD_LISTEN_FDS_START.
pub(crate) const FIRST: usize = 3;

/// A second descriptor, close-on-exec, for the inherited one with this index of `count`, which becomes close-on-exec
/// itself. Its number is beyond theirs.
///
/// Nothing is said about who owns the number: it is neither closed nor used for io.
pub(crate) fn duplicate(index: usize, count: usize) -> io::Result<OwnedFd> {
    let number = |index: usize| {
        let number = FIRST.checked_add(index).and_then(|number| RawFd::try_from(number).ok());
        number.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    };
    let (number, beyond) = (number(index)?, number(count)?);
    // SAFETY: no pointers are passed; a number that is not open is an error.
    let duplicate = super::check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, beyond) })?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    let duplicate = unsafe { OwnedFd::from_raw_fd(duplicate) };
    // SAFETY: no pointers are passed.
    super::check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(duplicate)
}

/// What the descriptor is, if it is not a TCP socket that listens.
pub(crate) fn fault_as_tcp_listener(fd: BorrowedFd<'_>) -> Option<&'static str> {
    match option::get(fd, option::TYPE) {
        Ok(libc::SOCK_STREAM) => {}
        Ok(_) => return Some("not a stream socket"),
        Err(_) => return Some("not a socket"),
    }
    if !matches!(option::get(fd, option::DOMAIN), Ok(libc::AF_INET | libc::AF_INET6)) {
        return Some("not an internet socket");
    }
    (option::get(fd, option::LISTENS).ok() != Some(1)).then_some("not a listening socket")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_a_tcp_socket_that_listens_is_a_tcp_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(fault_as_tcp_listener(listener.as_fd()), None);
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(fault_as_tcp_listener(stream.as_fd()), Some("not a listening socket"));
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(fault_as_tcp_listener(datagrams.as_fd()), Some("not a stream socket"));
        let file = File::open("/dev/null").unwrap();
        assert_eq!(fault_as_tcp_listener(file.as_fd()), Some("not a socket"));
        let path = std::env::temp_dir().join(format!("bast-inherited-{}", std::process::id()));
        let unix = UnixListener::bind(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(fault_as_tcp_listener(unix.as_fd()), Some("not an internet socket"));
    }

    #[test]
    fn a_number_that_is_not_open_is_an_error() {
        assert_eq!(duplicate(100_000_000, 0).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(duplicate(usize::MAX, 0).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
