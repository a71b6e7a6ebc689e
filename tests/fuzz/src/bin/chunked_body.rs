//! Any bytes, cut anywhere, as a chunked body: a decoder that has it all before it reads the same, and the next request
//! begins where that one says.
#![no_main]

use std::sync::{Arc, Mutex};

use bast_fuzz::{Chunked, chunked, parts};
use bast_server::fuzzing::serve_parts;
use bast_server::{Limits, Request, Response};

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// The bodies that the handler reads.
fn read(parts: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bodies);
    // Beyond what an input can have of either.
    let limits = Limits { body_bytes_max: u64::MAX, chunk_overhead_bytes_max: 1 << 20, ..Limits::default() };
    serve_parts(parts, &limits, move |request: &mut Request<'_>| {
        let is_next = request.path() == "/next";
        let body = request.read_body();
        kept.lock().expect("one thread").push(if is_next { None } else { body.ok() });
        Response::text("")
    });
    std::mem::take(&mut *bodies.lock().expect("one thread"))
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut parts = parts(input);
    let whole = parts.concat();
    let expected = chunked(&whole);
    parts.insert(0, HEAD);
    let bodies = read(&parts);
    match expected {
        Chunked::Incomplete | Chunked::Malformed => assert_eq!(bodies, [None]),
        Chunked::Whole { data, used } => {
            assert_eq!(bodies[0].as_deref(), Some(&data[..]));
            assert_eq!(read(&[HEAD, &whole[..used], NEXT]), [Some(data), None]);
        }
    }
});
