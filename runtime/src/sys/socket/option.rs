//! What can be set of a socket, or asked of it (getsockopt(2)).

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// An option whose value is a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOption {
    level: i32,
    name: i32,
}

pub(crate) const NO_DELAY: SocketOption = SocketOption { level: libc::IPPROTO_TCP, name: libc::TCP_NODELAY };
pub(crate) const BROADCAST: SocketOption = SocketOption { level: libc::SOL_SOCKET, name: libc::SO_BROADCAST };
pub(crate) const TTL: SocketOption = SocketOption { level: libc::IPPROTO_IP, name: libc::IP_TTL };
pub(crate) const MULTICAST_TTL_V4: SocketOption =
    SocketOption { level: libc::IPPROTO_IP, name: libc::IP_MULTICAST_TTL };
pub(crate) const MULTICAST_LOOP_V4: SocketOption =
    SocketOption { level: libc::IPPROTO_IP, name: libc::IP_MULTICAST_LOOP };
pub(crate) const MULTICAST_LOOP_V6: SocketOption =
    SocketOption { level: libc::IPPROTO_IPV6, name: libc::IPV6_MULTICAST_LOOP };
pub(crate) const TYPE: SocketOption = SocketOption { level: libc::SOL_SOCKET, name: libc::SO_TYPE };
pub(crate) const DOMAIN: SocketOption = SocketOption { level: libc::SOL_SOCKET, name: libc::SO_DOMAIN };
pub(crate) const LISTENS: SocketOption = SocketOption { level: libc::SOL_SOCKET, name: libc::SO_ACCEPTCONN };
const ERROR: SocketOption = SocketOption { level: libc::SOL_SOCKET, name: libc::SO_ERROR };

pub(crate) fn set(fd: BorrowedFd<'_>, option: SocketOption, value: i32) -> io::Result<()> {
    set_value(fd, option, &value)
}

pub(crate) fn get(fd: BorrowedFd<'_>, option: SocketOption) -> io::Result<i32> {
    let mut value = 0i32;
    let mut len = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is live and writable and its size is passed.
    super::super::check(unsafe {
        libc::getsockopt(fd.as_raw_fd(), option.level, option.name, (&raw mut value).cast(), &raw mut len)
    })?;
    Ok(value)
}

/// The pending error of the socket, taken (SO_ERROR).
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let code = get(fd, ERROR)?;
    Ok((code != 0).then(|| io::Error::from_raw_os_error(code)))
}

/// Makes close(2) reset the connection (`Some(0)`), or keep trying to send for a while, or not care (`None`).
pub(crate) fn set_linger(fd: BorrowedFd<'_>, linger: Option<Duration>) -> io::Result<()> {
    let value = libc::linger {
        l_onoff: i32::from(linger.is_some()),
        l_linger: linger.map_or(0, |time| i32::try_from(time.as_secs()).unwrap_or(i32::MAX)),
    };
    set_value(fd, SocketOption { level: libc::SOL_SOCKET, name: libc::SO_LINGER }, &value)
}

/// Whether a socket belongs to a multicast group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    Join,
    Leave,
}

pub(crate) fn set_membership_v4(
    fd: BorrowedFd<'_>,
    membership: Membership,
    group: Ipv4Addr,
    interface: Ipv4Addr,
) -> io::Result<()> {
    let raw = |address: Ipv4Addr| libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
    let value = libc::ip_mreq { imr_multiaddr: raw(group), imr_interface: raw(interface) };
    let name = match membership {
        Membership::Join => libc::IP_ADD_MEMBERSHIP,
        Membership::Leave => libc::IP_DROP_MEMBERSHIP,
    };
    set_value(fd, SocketOption { level: libc::IPPROTO_IP, name }, &value)
}

pub(crate) fn set_membership_v6(
    fd: BorrowedFd<'_>,
    membership: Membership,
    group: Ipv6Addr,
    interface: u32,
) -> io::Result<()> {
    let address = libc::in6_addr { s6_addr: group.octets() };
    let value = libc::ipv6_mreq { ipv6mr_multiaddr: address, ipv6mr_interface: interface };
    let name = match membership {
        Membership::Join => libc::IPV6_ADD_MEMBERSHIP,
        Membership::Leave => libc::IPV6_DROP_MEMBERSHIP,
    };
    set_value(fd, SocketOption { level: libc::IPPROTO_IPV6, name }, &value)
}

/// Process, user and group of who made the other end of a Unix socket (SO_PEERCRED).
pub(crate) fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<(i32, u32, u32)> {
    let mut value = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is live and writable and its size is passed.
    super::super::check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut value).cast(),
            &raw mut len,
        )
    })?;
    Ok((value.pid, value.uid, value.gid))
}

fn set_value<T>(fd: BorrowedFd<'_>, option: SocketOption, value: &T) -> io::Result<()> {
    // SAFETY: `value` is live and its size is passed; the kernel only reads it.
    super::super::check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            option.level,
            option.name,
            (&raw const *value).cast(),
            mem::size_of::<T>() as libc::socklen_t,
        )
    })?;
    Ok(())
}
