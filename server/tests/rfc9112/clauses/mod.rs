//! The clauses of RFC 9112, and of RFC 9110 where a server's core is concerned, as tables: what a client sends, and what
//! becomes of it.
//!
//! The tables are driven twice: over sockets by `main.rs`, and in memory by the unit tests of the library, where every cut
//! is really seen. Whoever has this as a module gives it [`drive`](super::drive) and the types of the library.
#![forbid(unsafe_code)]

use super::{IntoResponse, Request, Response, drive};

mod connection;
mod fields;
mod framing;
mod llhttp;
mod message;
mod request_line;
mod semantics;

/// What is sent behind a row's input, to see whether the connection lives on.
pub(super) const PROBE: &str = "GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// One input and its outcome.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) input: Vec<u8>,
    /// The final responses.
    pub(super) statuses: Vec<u16>,
    /// What the handler saw, one text per call: method, target, and the body or `!` and the status of its failure.
    pub(super) calls: Vec<String>,
    /// The connection serves a further request.
    pub(super) lives: bool,
    /// The client ends its output behind the input.
    pub(super) is_cut_off: bool,
}

impl Row {
    fn new(input: impl AsRef<[u8]>, statuses: &[u16], calls: &[&str], lives: bool) -> Row {
        let calls = calls.iter().map(|&call| call.to_owned()).collect();
        Row { input: input.as_ref().to_vec(), statuses: statuses.to_vec(), calls, lives, is_cut_off: false }
    }

    /// What is sent, the probe included.
    pub(super) fn sent(&self) -> Vec<u8> {
        let probe = if self.is_cut_off { "" } else { PROBE };
        [&self.input, probe.as_bytes()].concat()
    }

    /// Where to cut it: everywhere, or in so many places if it is long.
    pub(super) fn cuts(&self, count_max: usize) -> Vec<usize> {
        let len = self.input.len();
        (1..=len).step_by(len.div_ceil(count_max).max(1)).collect()
    }

    /// Compares what came of it. The statuses are those of all final responses.
    pub(super) fn judge(&self, how: &str, statuses: &[u16], calls: &[String]) {
        let mut expected = (self.statuses.clone(), self.calls.clone());
        if self.lives {
            expected.0.push(200);
            expected.1.push("GET /probe ".to_owned());
        }
        assert_eq!((statuses, calls), (&*expected.0, &*expected.1), "{how}: {}", self.input.escape_ascii());
    }
}

/// One request that is answered, after which the connection lives on.
fn answered(input: impl AsRef<[u8]>, call: &str) -> Row {
    Row::new(input, &[200], &[call], true)
}

/// The same, and then the connection is closed.
fn closed(input: impl AsRef<[u8]>, call: &str) -> Row {
    Row { lives: false, ..answered(input, call) }
}

/// A request that no handler sees: one response, and the connection is closed.
fn refused(status: u16, input: impl AsRef<[u8]>) -> Row {
    Row::new(input, &[status], &[], false)
}

/// A request whose body fails while the handler reads it: one response, and the connection is closed.
fn failed(status: u16, input: impl AsRef<[u8]>) -> Row {
    Row::new(input, &[status], &[&format!("POST / !{status}")], false)
}

/// Several requests that are answered in their order, after which the connection lives on.
fn all_answered(input: impl AsRef<[u8]>, calls: &[&str]) -> Row {
    Row::new(input, &vec![200; calls.len()], calls, true)
}

/// Input that ends before it is a request: no response and no call.
fn unanswered(input: impl AsRef<[u8]>) -> Row {
    Row { is_cut_off: true, ..Row::new(input, &[], &[], false) }
}

fn check(rows: impl IntoIterator<Item = Row>) {
    let rows: Vec<Row> = rows.into_iter().collect();
    assert!(!rows.is_empty());
    drive(&rows);
}

/// A request for `/` with these field lines, which end by CRLF each.
fn with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A POST to `/` with these field lines and this body.
fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

/// The handler behind all tables: what it saw, and its answer. Below `/ignore` it leaves the body unread.
pub(super) fn answer(request: &mut Request<'_>) -> (String, Response) {
    let body = if request.path().starts_with("/ignore") { Ok(Vec::new()) } else { request.read_body() };
    let (body, response) = match body {
        Ok(body) => (body.escape_ascii().to_string(), None),
        Err(error) => {
            let response = error.into_response();
            (format!("!{}", response.status().code()), Some(response))
        }
    };
    let call = format!("{} {} {body}", request.method(), request.target());
    let response = response.unwrap_or_else(|| Response::text(call.clone()));
    (call, response)
}

/// The statuses of the final responses that a client was sent; `calls` tells which of them are answers to HEAD. The last one
/// must announce the close.
pub(super) fn statuses(mut output: &[u8], calls: &[String]) -> Vec<u16> {
    let shown = output.escape_ascii().to_string();
    let (mut statuses, mut says_close) = (Vec::new(), false);
    while !output.is_empty() {
        assert!(!says_close, "something follows the last response: {shown}");
        let end = output.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, rest) =
            output.split_at(end.unwrap_or_else(|| panic!("a head without an end: {shown}")) + 4);
        let head = str::from_utf8(head).unwrap_or_else(|_| panic!("a head that is no text: {shown}"));
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3)?.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("a malformed status line: {shown}"));
        output = rest;
        if status == 100 {
            assert_eq!(head, "HTTP/1.1 100 Continue\r\n\r\n");
            continue;
        }
        let is_to_head = calls.get(statuses.len()).is_some_and(|call| call.starts_with("HEAD "));
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).expect("each has a length");
        if !is_to_head {
            output = output.get(length..).unwrap_or_else(|| panic!("a body is too short: {shown}"));
        }
        says_close = head.contains("\r\nConnection: close\r\n");
        statuses.push(status);
    }
    statuses
}
