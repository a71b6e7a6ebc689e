//! One chunk for many clients. A program of its own: it looks at the memory of its whole process.
#![forbid(unsafe_code)]

mod support;

use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bast_server::{Bytes, Request, Response};

use support::{DEADLINE, settings, start};

/// More than the sockets' buffers take, so that each connection's thread waits in the middle of it.
const CHUNK_BYTES: usize = 16 << 20;
const CLIENTS: usize = 100;

/// What this process has in memory, in bytes; what the kernel holds for its sockets is not in it.
fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").expect("statm");
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("resident pages") * 4096
}

#[test]
fn a_chunk_that_is_sent_to_many_clients_is_in_memory_once() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let chunk: Arc<[u8]> = vec![b'c'; CHUNK_BYTES].into();
    let shared = Arc::clone(&chunk);
    let server = start(settings(), move |_: &mut Request<'_>| {
        ASKED.fetch_add(1, Ordering::Relaxed);
        Response::parts("video/mp4", [Bytes::from("<"), Bytes::from(Arc::clone(&shared)), Bytes::from(">")])
    });
    let before = resident_bytes();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    }
    // All are in the middle of it: each has the chunk, and nobody has read.
    let start = Instant::now();
    while ASKED.load(Ordering::Relaxed) < CLIENTS || Arc::strong_count(&chunk) < 2 + CLIENTS {
        assert!(start.elapsed() < DEADLINE, "{} have it", Arc::strong_count(&chunk) - 2);
        thread::sleep(Duration::from_millis(1));
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(
        grown < CHUNK_BYTES * 2,
        "{CLIENTS} clients cost {grown} bytes, a copy each {}",
        CLIENTS * CHUNK_BYTES
    );
    let mut buffer = vec![0; 1 << 20];
    for client in &mut clients {
        let mut count = 0;
        loop {
            match client.stream.read(&mut buffer).expect("the rest") {
                0 => break,
                more => count += more,
            }
        }
        assert!(count > CHUNK_BYTES + 2, "{count}");
    }
    drop(clients);
    server.handle.shutdown();
    server.ended().expect("a graceful end");
    assert_eq!(Arc::strong_count(&chunk), 1, "and everybody has let go of it");
}
