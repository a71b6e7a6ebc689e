//! RFC 9112 clause by clause in memory: each row of the tables whole, cut in two at every byte, and byte by byte.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex};

use super::{Limits, Twin, run, service};
use crate::{IntoResponse, Request, Response};

use clauses::{Row, answer, statuses};

#[path = "../../../../tests/rfc9112/clauses/mod.rs"]
mod clauses;

/// Longer rows are cut in so many places only.
const CUTS_MAX: usize = 150;

fn check(row: &Row, how: &str, parts: &[&[u8]]) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let mut service = service(move |request: &mut Request<'_>| {
        let (call, response) = answer(request);
        seen.lock().expect("one thread").push(call);
        response
    });
    service.limits = Limits::default();
    let twin = Twin::new(parts);
    run(&twin, &service);
    let calls = calls.lock().expect("one thread");
    row.judge(how, &statuses(twin.output().as_bytes(), &calls), &calls);
}

fn drive(rows: &[Row]) {
    for row in rows {
        let sent = row.sent();
        check(row, "whole", &[&sent]);
        for cut in row.cuts(CUTS_MAX) {
            check(row, &format!("cut at {cut}"), &[&sent[..cut], &sent[cut..]]);
        }
        check(row, "byte by byte", &sent.chunks(1).collect::<Vec<_>>());
    }
}
