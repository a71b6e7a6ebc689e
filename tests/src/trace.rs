//! Lists and counts the system calls of another process by ptrace(2), as `strace -f` does, so that no tool need be installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often each system call was begun, by its number.
pub type Calls = BTreeMap<i64, u64>;

/// A system call that was begun: its number and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// As in `libc::SYS_…`.
    pub number: i64,
    /// What of them means something is the call's own affair.
    pub arguments: [u64; 6],
}

/// Counts what all OS threads of the process `pid` ask of the kernel while `body` runs.
pub fn count_calls(pid: u32, body: impl FnOnce()) -> Calls {
    let mut counts = Calls::new();
    list_calls(pid, body).iter().for_each(|call| *counts.entry(call.number).or_default() += 1);
    counts
}

/// The same with their arguments, in their order.
pub fn list_calls(pid: u32, body: impl FnOnce()) -> Vec<Call> {
    let (attached, over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        // What is traced belongs to the OS thread that traces, and is let go when that ends.
        let tracer = scope.spawn(|| {
            let tasks = attach(pid);
            attached.store(true, Ordering::SeqCst);
            follow(tasks, &over)
        });
        while !attached.load(Ordering::SeqCst) && !tracer.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        body();
        over.store(true, Ordering::SeqCst);
        tracer.join().expect("the process can be traced")
    })
}

/// One request of ptrace(2) to the OS thread `task`.
fn ptrace(request: u32, task: libc::pid_t, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: the requests below take no pointer, but for GET_SYSCALL_INFO, which is given a live buffer with its size.
    let result = unsafe { libc::ptrace(request, task, address, data) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Traces all OS threads of the process. They are stopped at their next system call or, if they are in one, now.
fn attach(pid: u32) -> BTreeSet<libc::pid_t> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let tasks: BTreeSet<libc::pid_t> = tasks
        .map(|entry| entry.expect("a task").file_name().to_string_lossy().parse().expect("a number"))
        .collect();
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE;
    for &task in &tasks {
        ptrace(libc::PTRACE_SEIZE, task, 0, options as usize).expect("a child can be traced");
        ptrace(libc::PTRACE_INTERRUPT, task, 0, 0).expect("it is traced");
    }
    let mut moving = BTreeSet::new();
    while moving != tasks {
        moving.extend(next_stop().map(|stop| {
            stop.go_on();
            stop.task
        }));
    }
    tasks
}

/// Notes all calls until it is over.
fn follow(mut tasks: BTreeSet<libc::pid_t>, over: &AtomicBool) -> Vec<Call> {
    let mut calls = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let Some(stop) = next_stop() else {
            thread::sleep(Duration::from_micros(50));
            continue;
        };
        tasks.insert(stop.task);
        calls.extend(stop.call());
        stop.go_on();
    }
    calls
}

/// An OS thread that has stopped.
struct Stop {
    task: libc::pid_t,
    status: libc::c_int,
}

/// The next of the traced OS threads that has stopped, if there is one.
fn next_stop() -> Option<Stop> {
    let mut status = 0;
    // SAFETY: the kernel writes one int to the local. Only what this OS thread traces is waited for.
    let task =
        unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG) };
    (task > 0 && libc::WIFSTOPPED(status)).then_some(Stop { task, status })
}

impl Stop {
    fn is_call(&self) -> bool {
        libc::WSTOPSIG(self.status) == libc::SIGTRAP | 0x80
    }

    /// The system call that begins here.
    fn call(&self) -> Option<Call> {
        if !self.is_call() {
            return None;
        }
        // struct ptrace_syscall_info: a byte that says which stop it is, at its 24th byte the number, and behind it
        // the arguments.
        let mut info = [0u64; 16];
        let address = ptr::from_mut(&mut info) as usize;
        ptrace(libc::PTRACE_GET_SYSCALL_INFO, self.task, size_of_val(&info), address).ok()?;
        let arguments = std::array::from_fn(|index| info[4 + index]);
        (info[0] as u8 == libc::PTRACE_SYSCALL_INFO_ENTRY)
            .then(|| Call { number: info[3].cast_signed(), arguments })
    }

    /// Lets it run to its next system call, with the signal that it stopped for.
    fn go_on(&self) {
        let is_event = self.status >> 16 != 0;
        let signal = if self.is_call() || is_event { 0 } else { libc::WSTOPSIG(self.status) };
        // It may have been killed meanwhile.
        let _ = ptrace(libc::PTRACE_SYSCALL, self.task, 0, signal as usize);
    }
}
