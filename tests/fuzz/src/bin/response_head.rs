//! Any names and values that a handler may set: the client sees just those fields, or a 500, and never a response that was
//! split.
//!
//! The first line of an input is the status, each other one (up to a byte 0xFF) a field.
#![no_main]

use bast_fuzz::answers;
use bast_server::fuzzing::serve_parts;
use bast_server::{Limits, Request, Response, Status};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|&byte| byte == 0xff).map(|line| String::from_utf8_lossy(line).into_owned());
    let code = lines.next().and_then(|line| line.parse().ok()).unwrap_or(200);
    let Some(status) = Status::from_code(code) else { return };
    let fields: Vec<(String, String)> =
        lines.map(|line| line.split_once(':').map(|(n, v)| (n.into(), v.into())).unwrap_or((line, String::new()))).collect();
    let expected = fields.clone();
    let output = serve_parts(
        &[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"],
        &Limits::default(),
        move |_: &mut Request<'_>| {
            let response = Response::bytes("a/b", "body").with_status(status);
            fields.iter().fold(response, |response, (name, value)| response.with_added_header(name, value))
        },
    );
    let answers = answers(&output, |_| false);
    assert_eq!(answers.len(), 1);
    let answer = &answers[0];
    if !(code >= 200 && expected.iter().all(|(name, value)| is_allowed(name, value))) {
        assert_eq!((answer.status, &*answer.body), (500, &b"500 Internal Server Error\n"[..]));
        assert_eq!(answer.fields.len(), 3, "none of the handler's: {answer:?}");
        return;
    }
    assert_eq!(answer.status, code);
    // The date and the media type come first, the framing last.
    let own = |name: &str| matches!(name, "Content-Length" | "Connection");
    let sent: Vec<_> = answer.fields[2..]
        .iter()
        .filter(|(name, _)| !own(name))
        .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    assert_eq!(sent, expected);
});

fn is_allowed(name: &str, value: &str) -> bool {
    let reserved =
        ["Connection", "Content-Length", "Date", "Keep-Alive", "Server", "Transfer-Encoding", "Upgrade"];
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty()
        && name.bytes().all(token)
        && !reserved.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
        && value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f))
}
