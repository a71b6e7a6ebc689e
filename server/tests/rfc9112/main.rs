//! RFC 9112 clause by clause over real sockets: one server for all tests, a connection for each way to send a row. What the
//! client makes of responses is in `responses.rs`.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bast_server::{IntoResponse, Request, Response, Server, Settings};

use clauses::{Row, answer, statuses};

mod clauses;
mod responses;

/// No connection may take longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// In so many places a row is cut in two; the unit tests cut it everywhere.
const CUTS_MAX: usize = 6;

/// What the handler saw, by the client's address.
static CALLS: LazyLock<Mutex<HashMap<SocketAddr, Vec<String>>>> = LazyLock::new(Mutex::default);

static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let settings = Settings { workers: Some(2), handle_signals: false, ..Settings::default() };
    let server = Server::bind("127.0.0.1:0").expect("a port is free").settings(settings);
    let address = server.local_addr().expect("it is bound");
    thread::spawn(move || {
        server.serve(|request: &mut Request<'_>| {
            let (call, response) = answer(request);
            let peer = request.peer().expect("a socket has a peer");
            CALLS.lock().unwrap_or_else(PoisonError::into_inner).entry(peer).or_default().push(call);
            response
        })
    });
    address
});

/// Sends these parts, each on its own, and reads to the end. `ends` says whether the client ends its output then.
fn exchange(parts: &[&[u8]], ends: bool) -> (Vec<u8>, Vec<String>) {
    let mut client = TcpStream::connect(*SERVER).expect("it listens");
    client.set_nodelay(true).expect("small parts can be sent at once");
    client.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    for part in parts {
        client.write_all(part).expect("the server reads on, or lingers");
    }
    if ends {
        client.shutdown(Shutdown::Write).expect("it is connected");
    }
    let mut output = Vec::new();
    client.read_to_end(&mut output).expect("the answers and the end, without a reset");
    let address = client.local_addr().expect("it is connected");
    let calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    (output, calls.unwrap_or_default())
}

fn run(row: &Row, how: &str, parts: &[&[u8]]) {
    let (output, calls) = exchange(parts, row.is_cut_off);
    row.judge(how, &statuses(&output, &calls), &calls);
}

fn drive(rows: &[Row]) {
    for row in rows {
        let sent = row.sent();
        run(row, "whole", &[&sent]);
        // Once the connection is closed behind an answer nothing more may be sent: it would be reset.
        let sent = if row.statuses == [200] && !row.lives { &row.input } else { &sent };
        for cut in row.cuts(CUTS_MAX) {
            run(row, &format!("cut at {cut}"), &[&sent[..cut], &sent[cut..]]);
        }
        run(row, "byte by byte", &sent.chunks(1).collect::<Vec<_>>());
    }
}
