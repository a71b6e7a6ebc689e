//! The system calls that tests need and std has not.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::time::Duration;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Sends one byte as urgent data (MSG_OOB, tcp(7)).
pub fn send_urgent(socket: impl AsFd, byte: u8) {
    // SAFETY: the byte is live, and one byte long.
    let sent = unsafe { libc::send(socket.as_fd().as_raw_fd(), (&raw const byte).cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1, "{}", io::Error::last_os_error());
}

/// Makes dropping the socket a reset (SO_LINGER of zero, socket(7)).
pub fn reset_on_close(socket: impl AsFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: `linger` is live, and of the given size.
    let set = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    check(set).expect("SO_LINGER can be set");
}

/// Changes how many connections may wait to be accepted (listen(2)).
pub fn set_backlog(listener: impl AsFd, connections: i32) {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::listen(listener.as_fd().as_raw_fd(), connections) }).expect("the socket listens");
}

/// Runs `child` in a forked child process (fork(2), without exec) and returns how that ended: its exit code, or the
/// signal's number, negative. The child ends with 0 when `child` returns.
pub fn fork(child: impl FnOnce()) -> i32 {
    // SAFETY: the child has this OS thread only. What tests do there is to be refused, or is theirs to judge.
    let pid = check(unsafe { libc::fork() }).expect("fork");
    if pid == 0 {
        child();
        // SAFETY: no pointers.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: the kernel writes one int to the local.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) }).expect("waitpid");
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
}

/// Handles SIGUSR1 by `handler`, on the OS thread's signal stack, and sends it to the calling OS thread.
pub fn in_signal_handler(handler: extern "C" fn(libc::c_int)) {
    // SAFETY: all zeroes is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_ONSTACK;
    // SAFETY: the action is live, and its function has the signature that its flags promise; raise takes no pointer.
    unsafe {
        check(libc::sigaction(libc::SIGUSR1, &raw const action, ptr::null_mut())).expect("sigaction");
        check(libc::raise(libc::SIGUSR1)).expect("raise");
    }
}

/// The CPU time that this process has used, in user and kernel mode.
pub fn cpu_time() -> Duration {
    // SAFETY: all zeroes is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one rusage to the local.
    check(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) }).expect("getrusage");
    let duration = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

/// The CPU time that the calling OS thread has used, in user and kernel mode.
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to the local.
    check(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) })
        .expect("clock_gettime");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Lets this process map no more than `bytes` of address space (RLIMIT_AS).
pub fn limit_address_space(bytes: usize) {
    let limit = libc::rlimit { rlim_cur: bytes as libc::rlim_t, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel reads one rlimit from the local.
    check(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }).expect("RLIMIT_AS can be lowered");
}

/// The bytes of address space that this process has mapped (statm, proc(5)).
pub fn address_space() -> usize {
    statm(0)
}

/// The bytes of memory of this process that are resident (statm, proc(5)).
pub fn resident() -> usize {
    statm(1)
}

fn statm(field: usize) -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("there is a /proc");
    let pages: usize = statm.split(' ').nth(field).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// How many descriptors this process has open.
pub fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("there is a /proc").count()
}

/// How many OS threads this process has.
pub fn os_threads() -> usize {
    fs::read_dir("/proc/self/task").expect("there is a /proc").count()
}

/// Sends a signal to this process.
pub fn raise(signal: i32) {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::kill(libc::getpid(), signal) }).expect("a process may signal itself");
}

/// Sends `signals` to the calling OS thread so that all of them are pending before the first is handled.
pub fn raise_together(signals: &[i32]) {
    // SAFETY: the sets are locals that sigfillset and the kernel write; raise takes no pointer.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) =
            (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        assert_eq!(libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before), 0);
        for &signal in signals {
            check(libc::raise(signal)).expect("raise");
        }
        assert_eq!(libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()), 0);
    }
}

/// A second descriptor for the same open file.
pub fn duplicate(fd: impl AsFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().expect("a descriptor is left")
}

/// Makes a FIFO (mkfifo(3)).
pub fn make_fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path has no NUL");
    // SAFETY: the path ends in NUL, and is only read.
    check(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }).expect("a FIFO can be made");
}

/// Writes a file's content to the disk, and has the kernel forget it (posix_fadvise(2)).
pub fn evict(file: &fs::File) {
    file.sync_all().expect("a file can be written back");
    // SAFETY: no pointers are passed.
    let refused = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(refused, 0, "posix_fadvise");
}

/// Lets this process have no more than so many descriptors open (RLIMIT_NOFILE).
pub fn limit_descriptors(count: usize) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit to the local.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })
        .expect("RLIMIT_NOFILE can be read");
    limit.rlim_cur = count as libc::rlim_t;
    // SAFETY: the kernel reads one rlimit from the local.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
        .expect("RLIMIT_NOFILE can be lowered");
}

/// Lets this process have at least so many descriptors open, as far as the system does.
pub fn raise_descriptors(count: usize) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit to the local, and reads it again.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit)).expect("RLIMIT_NOFILE can be read");
        limit.rlim_cur = limit.rlim_cur.max(count as libc::rlim_t).min(limit.rlim_max);
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)).expect("RLIMIT_NOFILE can be raised");
    }
}

/// Whether a descriptor is closed by execve(2).
pub fn is_close_on_exec(fd: impl AsFd) -> bool {
    // SAFETY: no pointers are passed.
    let flags = check(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GETFD) });
    flags.expect("an open descriptor has flags") & libc::FD_CLOEXEC != 0
}

/// No such child: it was reaped by somebody else.
pub const ECHILD: i32 = libc::ECHILD;

/// Lets the kernel reap all children of this process (SIGCHLD ignored, wait(2)).
pub fn ignore_children() {
    // SAFETY: SIG_IGN is a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Sends a signal to another process.
pub fn kill(pid: u32, signal: i32) {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::kill(pid.cast_signed(), signal) }).expect("a child may be signalled");
}
