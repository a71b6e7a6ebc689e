//! References for how a connection gets to the thread that serves it, each with threads of both kinds.
//!
//! ```text
//! queue      one acceptor ──▶ queue ──▶ a pool of workers      a switch, and a lock, before any work (FEATURES L19)
//! leaders    N threads, each: accept, serve, accept …          no hand-over; the kernel picks who accepts (FEATURES L20)
//! ```
//! A worker serves its connection until that ends, so a pool is for connections that end. The third way, an acceptor that
//! spawns a thread for each connection, is `green_threads` and `os_threads`.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use bast::Runtime;
use bast::sync::channel;

use crate::answer::Answer;
use crate::blocking::converse;
use crate::sys;

/// Workers of a pool, and threads that accept: as many as the accept bench has connections at a time.
const THREADS: usize = 64;
/// Connections that may wait in the queue of green threads: as many as the kernel's own queue takes.
const QUEUE_MAX: usize = 4096;
const STACK_BYTES: usize = 64 * 1024;

/// Acceptor, queue, workers: OS threads.
///
/// # Errors
/// The listening socket's, and those of starting threads.
pub fn queue_os(addr: SocketAddr, answer: Answer) -> io::Result<()> {
    let listener = sys::listen(addr)?;
    let queue = Arc::new((Mutex::new(VecDeque::new()), Condvar::new()));
    let answer = Arc::new(answer);
    for _ in 0..THREADS {
        let (queue, answer) = (Arc::clone(&queue), Arc::clone(&answer));
        start(move || {
            loop {
                // A connection's error ends that connection alone.
                let _ = converse(take(&queue), &answer);
            }
        })?;
    }
    loop {
        let (stream, _) = listener.accept()?;
        let (waiting, arrived) = &*queue;
        waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(stream);
        arrived.notify_one();
    }
}

fn take((waiting, arrived): &(Mutex<VecDeque<TcpStream>>, Condvar)) -> TcpStream {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match waiting.pop_front() {
            Some(stream) => return stream,
            None => waiting = arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// Acceptor, queue, workers: green threads on `workers` capabilities.
///
/// # Errors
/// The listening socket's and the runtime's.
pub fn queue_green(addr: SocketAddr, workers: usize, answer: Answer) -> io::Result<()> {
    Runtime::builder().capabilities(workers).build()?.run(move || {
        let listener = listen(addr)?;
        let (sender, receiver) = channel(QUEUE_MAX);
        let answer = Arc::new(answer);
        for _ in 0..THREADS {
            let (receiver, answer) = (receiver.clone(), Arc::clone(&answer));
            bast::spawn(move || {
                while let Ok(stream) = receiver.recv() {
                    let _ = converse::<bast::net::TcpStream>(stream, &answer);
                }
            });
        }
        loop {
            let (stream, _) = listener.accept()?;
            sender.send(stream).map_err(|_| io::Error::other("accepting: the workers are gone"))?;
        }
    })
}

/// Who accepts serves: OS threads.
///
/// # Errors
/// The listening socket's, and those of starting threads.
pub fn leaders_os(addr: SocketAddr, answer: Answer) -> io::Result<()> {
    let listener = Arc::new(sys::listen(addr)?);
    let answer = Arc::new(answer);
    let leaders: Vec<_> = (0..THREADS)
        .map(|_| {
            let (listener, answer) = (Arc::clone(&listener), Arc::clone(&answer));
            start(move || -> io::Result<()> {
                loop {
                    let (stream, _) = listener.accept()?;
                    let _ = converse(stream, &answer);
                }
            })
        })
        .collect::<io::Result<_>>()?;
    leaders.into_iter().try_for_each(|leader| leader.join().expect("a leader does not panic"))
}

/// Who accepts serves: green threads on `workers` capabilities.
///
/// # Errors
/// The listening socket's and the runtime's.
pub fn leaders_green(addr: SocketAddr, workers: usize, answer: Answer) -> io::Result<()> {
    Runtime::builder().capabilities(workers).build()?.run(move || {
        let listener = Arc::new(listen(addr)?);
        let answer = Arc::new(answer);
        let leaders: Vec<_> = (0..THREADS)
            .map(|_| {
                let (listener, answer) = (Arc::clone(&listener), Arc::clone(&answer));
                bast::spawn(move || -> io::Result<()> {
                    loop {
                        let (stream, _) = listener.accept()?;
                        let _ = converse(stream, &answer);
                    }
                })
            })
            .collect();
        leaders.into_iter().try_for_each(|leader| leader.join().map_err(io::Error::other)?)
    })
}

fn listen(addr: SocketAddr) -> io::Result<bast::net::TcpListener> {
    let listener = bast::net::TcpListener::bind(addr)?;
    listener.set_nodelay(true)?;
    Ok(listener)
}

fn start<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().stack_size(STACK_BYTES).spawn(body)
}
