//! Handlers that wait, for a database, for the disk and for a name, and the others of their core, which go on. What is
//! waited for comes when the test says so, so it is an order that is shown, and no time.
#![forbid(unsafe_code)]

mod support;

use std::fs;
use std::io::Write;
use std::process::{self, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use bast::Runtime;
use bast_server::{Error, Handler, Request, Router, Server, Settings};
use support::{Client, DEADLINE, Gate, Running, open, settings};

/// The handlers that have returned, in their order.
type Done = Arc<Mutex<Vec<&'static str>>>;

/// A handler whose end is noted.
fn noting(done: &Done, name: &'static str, handler: impl Handler) -> impl Handler {
    let done = Arc::clone(done);
    handler.with(move |request: &mut Request<'_>, next: bast_server::Next<'_>| {
        let response = next.run(request);
        done.lock().expect("nobody panics with it").push(name);
        response
    })
}

/// Asks without waiting for the answer.
fn asking(server: &Running, path: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

#[test]
fn handlers_that_wait_for_a_database_a_disk_and_a_name_hold_up_no_other_of_their_core() {
    const PEERS: usize = 4;
    const REQUESTS: usize = 50;
    let fifo = std::env::temp_dir().join(format!("bast-waiting-handlers-{}", process::id()));
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("run mkfifo").success());
    let database = Gate::new();
    let done = Done::default();
    let app = {
        let fifo = fifo.clone();
        // Opening and reading block the OS thread, as a file on a slow disk does, or a driver that knows nothing of this.
        let disk = move |_: &mut Request<'_>| -> Result<Vec<u8>, Error> {
            let fifo = fifo.clone();
            Ok(bast::offload(move || fs::read(fifo))?)
        };
        let name = |_: &mut Request<'_>| -> Result<String, Error> {
            let found = bast::net::lookup_host(("localhost", 80))?;
            Ok(found.map(|address| address.port().to_string()).next().unwrap_or_default())
        };
        Router::new()
            .get("/database", noting(&done, "database", database.handler()))
            .get("/disk", noting(&done, "disk", disk))
            .get("/name", noting(&done, "name", name))
            .get("/peer", noting(&done, "peer", |_: &mut Request<'_>| "hello"))
            .get("/jobs", |_: &mut Request<'_>| {
                let jobs = bast::offload_stats();
                format!("{} {}", jobs.running, jobs.queued)
            })
    };
    // One core, and a pool with one thread, which the disk's handler has: the resolver that the name's asks does not answer.
    let server = support::run_in(
        || Runtime::builder().capabilities(1).offload_threads(1).build().expect("a runtime"),
        Server::bind("127.0.0.1:0").expect("bind").settings(Settings { workers: None, ..settings() }),
        app,
    );
    let mut jobs = server.connect();
    let mut until_jobs = |expected: &str| {
        let start = Instant::now();
        while jobs.get("/jobs").body != expected {
            assert!(start.elapsed() < DEADLINE, "the jobs are not {expected}");
            thread::yield_now();
        }
    };
    let mut disk = asking(&server, "/disk");
    until_jobs("1 0");
    let mut name = asking(&server, "/name");
    until_jobs("1 1");
    let mut query = asking(&server, "/database");
    let visitor = database.arrival();

    // All three wait; everybody else is served.
    let mut peers: Vec<Client> = (0..PEERS).map(|_| server.connect()).collect();
    for _ in 0..REQUESTS {
        peers.iter_mut().for_each(|peer| assert_eq!(peer.get("/peer").body, "hello"));
    }
    assert_eq!(*done.lock().expect("nobody panics with it"), ["peer"; PEERS * REQUESTS]);

    open(visitor);
    assert_eq!(query.answer().body, "through");
    fs::OpenOptions::new().write(true).open(&fifo).expect("it is read").write_all(b"data").expect("write");
    assert_eq!(disk.answer().body, "data");
    assert_eq!(name.answer().body, "80");
    let mut waiting = done.lock().expect("nobody panics with it").split_off(PEERS * REQUESTS);
    waiting.sort_unstable();
    assert_eq!(waiting, ["database", "disk", "name"]);
    fs::remove_file(fifo).expect("remove it");
}
