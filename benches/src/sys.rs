//! Every libc call of the benches, typed and without policy.
//!
//! This is the only file of the crate with `unsafe`. It may assume Linux. It must never decide anything:
//! no retries, no defaults beyond flags that every caller wants (close-on-exec, no SIGPIPE).

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Connections that may wait to be accepted. std listens with 128, and an overflow costs the client a
/// SYN retransmission of one second; the kernel cuts this to `net.core.somaxconn` (4096 by default).
const BACKLOG: i32 = 4096;

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// What [`Epoll::wait`] found: a token given at registration and the readiness bits.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Event(libc::epoll_event);

impl Event {
    /// A slot to be filled by [`Epoll::wait`].
    pub const EMPTY: Event = Event(libc::epoll_event { events: 0, u64: 0 });

    /// The token given to [`Epoll::add`].
    #[must_use]
    pub fn token(&self) -> u64 {
        self.0.u64
    }

    /// Whether the peer has finished sending, or the connection has failed: reads must go on until they
    /// return 0 or an error, a short one proves nothing.
    #[must_use]
    pub fn is_hangup(&self) -> bool {
        self.0.events & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (token, events) = (self.0.u64, self.0.events);
        f.debug_struct("Event").field("token", &token).field("events", &events).finish()
    }
}

/// An epoll instance on which every descriptor is registered edge-triggered, once, for both directions.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// Creates an instance.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)`.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: the call takes no pointers; the descriptor it returns is new, so nobody else owns it.
        unsafe {
            let fd = check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
            Ok(Epoll(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Registers `fd` under `token`. Closing the descriptor removes it.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: both descriptors are open, as their types say; `event` outlives the call, which only reads it.
        unsafe {
            check(libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event))?
        };
        Ok(())
    }

    /// Waits for events, for ever without a `timeout`; returns how many slots were filled. The timeout is
    /// rounded up to whole milliseconds. An interrupted wait finds 0 events.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`.
    pub fn wait(&self, events: &mut [Event], timeout: Option<Duration>) -> io::Result<usize> {
        let timeout_ms =
            timeout.map_or(-1, |d| i32::try_from(d.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        let len = i32::try_from(events.len()).unwrap_or(i32::MAX);
        // SAFETY: `Event` is a transparent wrapper of `epoll_event`, and the kernel fills at most `len` of
        // the slots that the exclusive borrow covers.
        let found =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr().cast(), len, timeout_ms) };
        match check(found) {
            Ok(found) => Ok(found as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Listens on `addr` with a deep accept queue; accepted sockets inherit TCP_NODELAY.
///
/// # Errors
/// Those of `bind(2)`, `setsockopt(2)` and `listen(2)`.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addr)?;
    set_nodelay(listener.as_fd(), true)?;
    // SAFETY: no pointers; a second listen(2) on a listening socket only changes its backlog.
    unsafe { check(libc::listen(listener.as_raw_fd(), BACKLOG))? };
    Ok(listener)
}

/// Whether a socket sends small segments at once (TCP_NODELAY); else it waits with one while another is not acknowledged.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn set_nodelay(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, i32::from(on))
}

fn set_option(fd: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the option value is an int that outlives the call, and its size is passed with it.
    unsafe {
        check(libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        ))?;
    }
    Ok(())
}

/// Accepts one connection, non-blocking and close-on-exec, without asking for the peer's address.
///
/// # Errors
/// Those of `accept4(2)`.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: null address pointers are allowed by accept4(2); the descriptor returned is new, so nobody
    // else owns it.
    unsafe {
        let fd = check(libc::accept4(
            listener.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Starts to connect a new non-blocking socket with TCP_NODELAY to `addr`. The connection may still be under
/// way when this returns: then sends find `WouldBlock`, and an epoll registration tells when it is made.
///
/// # Errors
/// Those of `socket(2)`, `setsockopt(2)` and `connect(2)` but `EINPROGRESS`.
pub fn connect(addr: SocketAddr) -> io::Result<OwnedFd> {
    connect_from(None, addr)
}

/// The same from an address of this machine, of which the port is chosen at the connect, so that it need only differ from
/// those of other connections between the same two addresses. All of 127.0.0.0/8 is this machine.
///
/// # Errors
/// Those of [`connect`], and of `bind(2)`.
pub fn connect_from(source: Option<Ipv4Addr>, addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the descriptor returned is new, so nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(check(libc::socket(family, kind, 0))?) };
    set_nodelay(fd.as_fd(), true)?;
    let raw = fd.as_raw_fd();
    if let Some(source) = source {
        set_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        let name = sockaddr_in(SocketAddrV4::new(source, 0));
        // SAFETY: `name` is a sockaddr_in of the size passed, and outlives the call.
        unsafe {
            let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            check(libc::bind(raw, (&raw const name).cast(), len))?;
        }
    }
    let connected = match addr {
        SocketAddr::V4(v4) => {
            let name = sockaddr_in(v4);
            let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            // SAFETY: `name` is a sockaddr_in of `len` bytes that outlives the call.
            unsafe { libc::connect(raw, (&raw const name).cast(), len) }
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            let len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            // SAFETY: `name` is a sockaddr_in6 of `len` bytes that outlives the call.
            unsafe { libc::connect(raw, (&raw const name).cast(), len) }
        }
    };
    match check(connected) {
        Ok(_) => Ok(fd),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(fd),
        Err(error) => Err(error),
    }
}

fn sockaddr_in(addr: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: addr.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(addr.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// Receives into `buf`.
///
/// # Errors
/// Those of `recv(2)`.
pub fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buf.len()` bytes of the exclusively borrowed buffer.
    check_size(unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), 0) })
}

/// Whether more of the same message follows a [`send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// The kernel may hold the bytes back to join them with the next ones (MSG_MORE).
    Follows,
    /// The bytes go out at once.
    No,
}

/// Sends `buf`, or the part of it that fits.
///
/// # Errors
/// Those of `send(2)`; never raises SIGPIPE.
pub fn send(fd: BorrowedFd<'_>, buf: &[u8], more: More) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | if more == More::Follows { libc::MSG_MORE } else { 0 };
    // SAFETY: the kernel only reads the `buf.len()` bytes of the borrowed buffer.
    check_size(unsafe { libc::send(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len(), flags) })
}

/// Sends up to `len` bytes of `file` from `offset` on.
///
/// # Errors
/// Those of `sendfile(2)`.
pub fn send_file(fd: BorrowedFd<'_>, file: BorrowedFd<'_>, offset: usize, len: usize) -> io::Result<usize> {
    let mut offset = i64::try_from(offset).map_err(io::Error::other)?;
    // SAFETY: `offset` outlives the call; no other pointer is passed.
    check_size(unsafe { libc::sendfile(fd.as_raw_fd(), file.as_raw_fd(), &mut offset, len) })
}

/// The CPUs that the calling OS thread may use, in ascending order.
///
/// # Errors
/// Those of `sched_getaffinity(2)`.
pub fn affinity() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero cpu_set_t is the empty set; the call fills it and is told its size. CPU_ISSET
    // stays below CPU_SETSIZE, the number of bits in the set.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set))?;
        Ok((0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect())
    }
}

/// Lets the calling OS thread, and what it starts from now on, use only `cpus`.
///
/// # Errors
/// Those of `sched_setaffinity(2)`, among them an empty set.
///
/// # Panics
/// Where a CPU number does not fit a `cpu_set_t` (1024).
pub fn set_affinity(cpus: &[usize]) -> io::Result<()> {
    assert!(cpus.iter().all(|&cpu| cpu < libc::CPU_SETSIZE as usize));
    // SAFETY: an all-zero cpu_set_t is the empty set; CPU_SET stays inside it by the assertion above, and
    // the call only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        for &cpu in cpus {
            libc::CPU_SET(cpu, &mut set);
        }
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))?;
    }
    Ok(())
}

fn clock(id: libc::clockid_t) -> io::Result<Duration> {
    // SAFETY: the call fills the timespec, which outlives it.
    let now = unsafe {
        let mut now: libc::timespec = zeroed();
        check(libc::clock_gettime(id, &mut now))?;
        now
    };
    Ok(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
}

/// The CPU time that process `pid` has used, in all its OS threads, to the nanosecond: a running thread's
/// share is included up to now.
///
/// # Errors
/// Where the process has ended.
pub fn process_cpu(pid: u32) -> io::Result<Duration> {
    let mut id: libc::clockid_t = 0;
    // SAFETY: the call fills `id`, which outlives it. It returns an error number, not -1.
    let failed = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut id) };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    clock(id)
}

/// The CPU time that the calling OS thread has used.
///
/// # Errors
/// Those of `clock_gettime(2)`.
pub fn thread_cpu() -> io::Result<Duration> {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Units per second of the times in `/proc/PID/stat`.
#[must_use]
pub fn clock_ticks_per_second() -> u64 {
    // SAFETY: no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).expect("sysconf(_SC_CLK_TCK) is known on every Linux")
}

/// Context switches of an OS thread, or of many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Switches {
    /// It had to wait.
    pub voluntary: u64,
    /// Another took its CPU.
    pub involuntary: u64,
}

/// Those of all processes that this one has started and that have ended, in all their OS threads.
///
/// # Errors
/// Those of `getrusage(2)`.
pub fn switches_of_children() -> io::Result<Switches> {
    // SAFETY: the call fills the rusage, which outlives it; all-zero is one.
    let usage = unsafe {
        let mut usage: libc::rusage = zeroed();
        check(libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage))?;
        usage
    };
    Ok(Switches { voluntary: usage.ru_nvcsw as u64, involuntary: usage.ru_nivcsw as u64 })
}

/// Asks process `pid` to end (SIGTERM).
///
/// # Errors
/// Those of `kill(2)`.
pub fn terminate(pid: u32) -> io::Result<()> {
    signal(pid, libc::SIGTERM)
}

/// Ends process `pid` (SIGKILL).
///
/// # Errors
/// Those of `kill(2)`.
pub fn kill(pid: u32) -> io::Result<()> {
    signal(pid, libc::SIGKILL)
}

fn signal(pid: u32, signal: i32) -> io::Result<()> {
    // Anything else would mean a group, or all processes.
    assert!(pid > 0 && i32::try_from(pid).is_ok(), "signal: {pid} is not a process");
    // SAFETY: no pointers.
    unsafe { check(libc::kill(pid as libc::pid_t, signal))? };
    Ok(())
}

/// Gives the calling OS thread, and those that it starts, the lowest of the usual priorities (setpriority(2), which on Linux
/// is about one OS thread).
///
/// # Errors
/// Those of the call.
pub fn give_way() -> io::Result<()> {
    const LOWEST: libc::c_int = 19;
    // SAFETY: no pointers.
    unsafe { check(libc::setpriority(libc::PRIO_PROCESS, 0, LOWEST))? };
    Ok(())
}

/// Has the kernel end this process when the OS thread that started it ends, so that an interrupted bench
/// leaves no server behind.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes an integer, no pointers.
    unsafe { check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))? };
    Ok(())
}
