//! A request on a connection that stays open takes no heap memory: everything is pooled, or a slice of what is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bast_server::{Error, Handler, Request, Response, Router, Server, Settings};
use bast_tests::counting_alloc::CountingAlloc;
use bast_tests::deadline;

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

/// A few milliseconds' worth: what happens once a second (the date, a sweep) is in few of the windows. A multiple of all
/// numbers of connections.
const REQUESTS_PER_WINDOW: u64 = 240;
const WINDOWS: usize = 20;

/// The fewest allocations of a server in one of several runs of so many requests, after the pools are filled.
fn allocations_per_window(handler: impl Handler, request: &str) -> u64 {
    allocations_with(1, handler, request)
}

/// The same with so many workers, and four connections for each.
fn allocations_with(workers: usize, handler: impl Handler, request: &str) -> u64 {
    deadline(|| {
        CountingAlloc::leave_out_this_thread();
        let settings = Settings { workers: Some(workers), handle_signals: false, ..Settings::default() };
        let server = Server::bind("127.0.0.1:0").unwrap().settings(settings);
        let (address, handle) = (server.local_addr().unwrap(), server.handle());
        let served = thread::spawn(move || server.serve(handler));
        let fewest = windows(address, 4 * workers, request).min().unwrap();
        handle.shutdown();
        served.join().unwrap().unwrap();
        fewest
    })
}

/// Requests go around the connections, and to all of them at once, so that the workers work side by side.
fn windows(address: SocketAddr, connections: usize, request: &str) -> impl Iterator<Item = u64> {
    let mut streams: Vec<TcpStream> =
        (0..connections).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut answer = [0; 4096];
    let mut asked = 0;
    let mut ask = move || {
        if asked % connections == 0 {
            streams.iter_mut().for_each(|stream| stream.write_all(request.as_bytes()).unwrap());
        }
        let count = streams[asked % connections].read(&mut answer).unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", answer[..count].escape_ascii());
        asked += 1;
    };
    (0..REQUESTS_PER_WINDOW).for_each(|_| ask());
    (0..WINDOWS).map(move |_| {
        let before = CountingAlloc::everywhere();
        (0..REQUESTS_PER_WINDOW).for_each(|_| ask());
        CountingAlloc::everywhere() - before
    })
}

/// The counter is the process's: one test at a time.
#[test]
fn requests_on_a_kept_connection_allocate_nothing() {
    let plain = |_: &mut Request<'_>| Response::bytes("text/plain", "Hello, World!");
    assert_eq!(allocations_per_window(plain, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 0, "a constant");

    let routed = Router::new().get("/", plain).get("/users/{id}", |request: &mut Request<'_>| {
        let id: u64 = request.param("id")?;
        Ok::<_, Error>(Response::text(if id == 7 { "the user" } else { "another" }))
    });
    assert_eq!(allocations_per_window(routed, "GET /users/7 HTTP/1.1\r\nHost: a\r\n\r\n"), 0, "a route");

    let with_fields =
        |_: &mut Request<'_>| Response::text("x").with_header("X-A", "1").with_header("X-B", "2");
    assert_eq!(allocations_per_window(with_fields, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 0, "header fields");

    // What does not allocate takes no lock of an allocator, however many cores ask at once.
    for workers in [2, 3] {
        let seen = Arc::new(AtomicUsize::new(0));
        let counted = {
            let seen = Arc::clone(&seen);
            move |_: &mut Request<'_>| {
                seen.fetch_or(1 << bast::capability().index(), Ordering::Relaxed);
                Response::text("x").with_header("X-A", "1")
            }
        };
        let app = Router::new().get("/users/{id}", counted);
        let request = "GET /users/7 HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(allocations_with(workers, app, request), 0, "{workers} workers");
        assert_eq!(seen.load(Ordering::Relaxed), (1 << workers) - 1, "every one of {workers} has served");
    }

    let boxed = |_: &mut Request<'_>| Response::text(String::from("x"));
    assert_eq!(
        allocations_per_window(boxed, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        REQUESTS_PER_WINDOW,
        "the handler's own are counted"
    );
}
