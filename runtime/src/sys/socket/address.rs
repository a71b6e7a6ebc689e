//! Socket addresses in the kernel's form, and the way from and to std's.

use std::ffi::OsStr;
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::{net, os::unix};

/// A socket address in the kernel's form.
pub(crate) struct Storage {
    bytes: MaybeUninit<libc::sockaddr_storage>,
    pub(super) len: libc::socklen_t,
}

/// An address of std's that a socket can have.
pub(crate) trait Address: Sized {
    /// The address in the kernel's form.
    fn store(&self) -> Storage;

    /// # Errors
    /// It is an address of another family.
    fn load(storage: &Storage) -> io::Result<Self>;
}

impl Storage {
    pub(super) fn new() -> Storage {
        Storage {
            bytes: MaybeUninit::zeroed(),
            len: mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t,
        }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        self.bytes.as_mut_ptr().cast()
    }

    pub(super) fn family(&self) -> libc::c_int {
        // SAFETY: the storage was zeroed at birth, so that its family is readable whatever the kernel wrote.
        i32::from(unsafe { (*self.as_ptr()).sa_family })
    }

    /// What follows the family, as far as the kernel says that it wrote. None: the socket has no address.
    fn path(&self) -> &[u8] {
        let (len, start) = (self.len as usize, mem::offset_of!(libc::sockaddr_un, sun_path));
        let bytes = self.bytes.as_ptr().cast::<u8>();
        // SAFETY: the storage was zeroed at birth, so all its bytes are readable, and it is borrowed as long as they.
        let bytes = unsafe { std::slice::from_raw_parts(bytes, mem::size_of::<libc::sockaddr_storage>()) };
        bytes.get(start..len.min(bytes.len())).unwrap_or_default()
    }
}

fn wrong_family(family: libc::c_int) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("an address of another family than expected: {family}"),
    )
}

impl Address for net::SocketAddr {
    fn store(&self) -> Storage {
        let mut storage = Storage::new();
        match self {
            net::SocketAddr::V4(v4) => {
                // SAFETY: the storage is zeroed, aligned and large enough for a sockaddr_in.
                let raw = unsafe { &mut *storage.as_mut_ptr().cast::<libc::sockaddr_in>() };
                raw.sin_family = libc::AF_INET as libc::sa_family_t;
                raw.sin_port = v4.port().to_be();
                raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                storage.len = mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            net::SocketAddr::V6(v6) => {
                // SAFETY: the storage is zeroed, aligned and large enough for a sockaddr_in6.
                let raw = unsafe { &mut *storage.as_mut_ptr().cast::<libc::sockaddr_in6>() };
                raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                raw.sin6_port = v6.port().to_be();
                raw.sin6_addr.s6_addr = v6.ip().octets();
                raw.sin6_flowinfo = v6.flowinfo();
                raw.sin6_scope_id = v6.scope_id();
                storage.len = mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        storage
    }

    fn load(storage: &Storage) -> io::Result<net::SocketAddr> {
        match storage.family() {
            libc::AF_INET => {
                // SAFETY: the family says that this is a sockaddr_in; the storage is aligned and large enough.
                let v4 = unsafe { &*storage.as_ptr().cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that this is a sockaddr_in6; the storage is aligned and large enough.
                let v6 = unsafe { &*storage.as_ptr().cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Ok(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            family => Err(wrong_family(family)),
        }
    }
}

impl Address for unix::net::SocketAddr {
    fn store(&self) -> Storage {
        let mut storage = Storage::new();
        // SAFETY: the storage is zeroed, aligned and large enough for a sockaddr_un.
        let raw = unsafe { &mut *storage.as_mut_ptr().cast::<libc::sockaddr_un>() };
        raw.sun_family = libc::AF_UNIX as libc::sa_family_t;
        // An abstract name follows a NUL, a path is followed by one; std made sure that there is room for it.
        let (start, name, end) = if let Some(path) = self.as_pathname() {
            (0, path.as_os_str().as_bytes(), 1)
        } else {
            self.as_abstract_name().map_or((0, [].as_slice(), 0), |name| (1, name, 0))
        };
        for (place, byte) in raw.sun_path[start..].iter_mut().zip(name) {
            *place = byte.cast_signed();
        }
        let len = mem::offset_of!(libc::sockaddr_un, sun_path) + start + name.len() + end;
        storage.len = len as libc::socklen_t;
        storage
    }

    fn load(storage: &Storage) -> io::Result<unix::net::SocketAddr> {
        match (storage.family(), storage.path()) {
            // A datagram of a socket without a name comes with no address at all.
            (libc::AF_UNIX | libc::AF_UNSPEC, []) => unix::net::SocketAddr::from_pathname(""),
            (libc::AF_UNIX, [0, name @ ..]) => unix::net::SocketAddr::from_abstract_name(name),
            (libc::AF_UNIX, path) => {
                let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
                // One that fills the structure has no room for std's NUL. By now a connection, or a datagram, has been
                // taken: better without the sender's name than lost.
                let path = OsStr::from_bytes(&path[..end]);
                unix::net::SocketAddr::from_pathname(path)
                    .or_else(|_| unix::net::SocketAddr::from_pathname(""))
            }
            (family, _) => Err(wrong_family(family)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internet_addresses_survive_the_way_through_the_kernel_form() {
        for text in ["127.0.0.1:80", "255.1.2.3:65535", "[::1]:8080", "[fe80::1%3]:1"] {
            let address: net::SocketAddr = text.parse().unwrap();
            assert_eq!(net::SocketAddr::load(&address.store()).unwrap(), address);
        }
    }

    #[test]
    fn unix_addresses_survive_the_way_through_the_kernel_form() {
        use unix::net::SocketAddr;
        let path = "/".to_owned() + &"x".repeat(106);
        let named = SocketAddr::load(&SocketAddr::from_pathname(&path).unwrap().store()).unwrap();
        assert_eq!(named.as_pathname().unwrap().as_os_str(), &*path);
        for name in [&b"a name"[..], b"\0nul\0", &[b'x'; 107]] {
            let address = SocketAddr::from_abstract_name(name).unwrap();
            assert_eq!(SocketAddr::load(&address.store()).unwrap().as_abstract_name(), Some(name));
        }
        let unnamed = SocketAddr::from_pathname("").unwrap();
        assert!(SocketAddr::load(&unnamed.store()).unwrap().is_unnamed());
        assert!(net::SocketAddr::load(&unnamed.store()).is_err());
    }
}
