//! What bodies cost in memory. A program of its own: it looks at the memory of its whole process, the clients' included.
#![forbid(unsafe_code)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bast_server::{Bytes, Error, Limits, Request, Response, Router, Settings};

use support::{DEADLINE, settings, start};

/// More than the sockets' buffers take, so that each connection's thread waits in the middle of it.
const CHUNK_BYTES: usize = 16 << 20;
const CLIENTS: usize = 100;

/// What this process has in memory, in bytes; what the kernel holds for its sockets is not in it.
fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").expect("statm");
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("resident pages") * 4096
}

/// One test at a time, since they share what they measure.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A large body, and what it may add to the memory of the process.
const BODY_BYTES: usize = 1 << 30;
const GROWN_BYTES_MAX: usize = 4 << 20;

/// The most that was resident while `body` ran, beyond what was before.
fn growth_during(body: impl FnOnce(&mut dyn FnMut())) -> usize {
    let before = resident_bytes();
    let mut most = before;
    body(&mut || most = most.max(resident_bytes()));
    most - before
}

#[test]
fn a_gibibyte_goes_up_and_comes_down_in_a_few_buffers() {
    let _alone = alone();
    let app = Router::new()
        .post("/", |request: &mut Request<'_>| -> Result<String, Error> {
            let (mut piece, mut sum) = ([0; 16 << 10], 0);
            loop {
                match request.body().read(&mut piece)? {
                    0 => return Ok(sum.to_string()),
                    count => sum += count,
                }
            }
        })
        .get("/", |_: &mut Request<'_>| {
            Response::stream("a/b", |body| {
                (0..BODY_BYTES >> 12).try_for_each(|_| body.write_all(&[b'd'; 1 << 12]))
            })
        });
    let limits = Limits { body_bytes_max: 1 << 40, ..Limits::default() };
    let server = start(Settings { limits, ..settings() }, app);
    let mut client = server.connect();
    assert_eq!(client.get("/nothing").code, 404, "what a connection takes is there");
    let mut piece = vec![0; 1 << 20];
    let grown = growth_during(|look| {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES}\r\n\r\n"));
        for _ in 0..BODY_BYTES >> 20 {
            client.send(&piece);
            look();
        }
        assert_eq!(client.answer().body, BODY_BYTES.to_string());
    });
    assert!(grown < GROWN_BYTES_MAX, "{grown} bytes for the way up");
    for version in ["1.0", "1.1"] {
        let mut client = server.connect();
        let grown = growth_during(|look| {
            client.send(format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n"));
            let mut received = 0;
            loop {
                let count = client.stream.read(&mut piece).expect("more of it");
                if count == 0 {
                    break;
                }
                received += count;
                look();
            }
            assert!(received > BODY_BYTES, "{received}");
        });
        assert!(grown < GROWN_BYTES_MAX, "{grown} bytes for the way down, {version}");
    }
}

#[test]
fn a_chunk_that_is_sent_to_many_clients_is_in_memory_once() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let _alone = alone();
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
