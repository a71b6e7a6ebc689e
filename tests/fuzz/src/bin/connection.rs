//! Any bytes, cut anywhere, as a whole connection: as many responses as calls of the handler and one refusal at most, all
//! of them well-formed and in order; where the input is cut changes nothing.
#![no_main]

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};

use bast_fuzz::{answers, parts};
use bast_server::fuzzing::serve_parts;
use bast_server::{Error, Limits, Request, Response, Status};

/// One call of the handler: method, target and what was read of the body.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    method: String,
    target: String,
    body: Option<Vec<u8>>,
}

/// What a client is sent, and the calls. What a call does depends on the target's second byte.
fn serve(parts: &[&[u8]]) -> (Vec<u8>, Vec<Call>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&calls);
    let limits = Limits {
        body_bytes_max: 200,
        drain_bytes_max: 50,
        linger_bytes_max: 100,
        chunk_overhead_bytes_max: 100,
        request_line_bytes_max: 200,
        head_bytes_max: 400,
        fields_max: 10,
    };
    let output = serve_parts(parts, &limits, move |request: &mut Request<'_>| {
        let behaviour = request.path().bytes().nth(1).unwrap_or_default();
        let body = match behaviour {
            // Left unread, or read in part.
            b'i' => Ok(Vec::new()),
            b'p' => {
                let mut bytes = Vec::new();
                request.body().take(3).read_to_end(&mut bytes).map(|_| bytes).map_err(Error::from)
            }
            _ => request.read_body(),
        };
        let mut calls = kept.lock().expect("one thread");
        let mark = format!("{} {}", calls.len(), request.method());
        calls.push(Call {
            method: request.method().to_string(),
            target: request.target().to_owned(),
            body: body.as_ref().ok().cloned(),
        });
        let response = match (body, behaviour) {
            (Err(error), _) => bast_server::IntoResponse::into_response(error),
            (Ok(_), b's') => Response::stream("a/b", |body| {
                body.write_all(b"one")?;
                body.flush()?;
                body.write_all(b"two")
            }),
            (Ok(_), b'z') => Response::stream_sized("a/b", 3, |body| body.write_all(b"one")),
            (Ok(_), b'n') => Response::text("unwanted").with_status(Status::NO_CONTENT),
            (Ok(_), b'm') => Response::text("unwanted").with_status(Status::NOT_MODIFIED),
            (Ok(_), b'x') => Response::text("unwanted").with_status(Status::RESET_CONTENT),
            (Ok(_), b'c') => Response::text("closed").and_close(),
            (Ok(body), _) => Response::bytes("a/b", body),
        };
        response.with_header("X-Call", mark)
    });
    let calls = std::mem::take(&mut *calls.lock().expect("one thread"));
    (output, calls)
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let parts = parts(input);
    let (output, calls) = serve(&parts);
    let answers = answers(&output, |answer| answer.field("X-Call").is_some_and(|mark| mark.ends_with(b" HEAD")));
    let mut marked = 0;
    let mut finals = answers.iter().filter(|answer| answer.status != 100).peekable();
    while let Some(answer) = finals.next() {
        if let Some(mark) = answer.field("X-Call") {
            assert_eq!(mark, format!("{marked} {}", calls[marked].method).as_bytes());
            marked += 1;
        } else {
            assert!(matches!(answer.status, 400 | 414 | 417 | 431 | 501 | 505), "{answer:?}");
            assert!(answer.closes() && finals.peek().is_none(), "a refusal is the last: {answer:?}");
        }
        assert!(answer.status != 205 || answer.body.is_empty(), "{answer:?}");
    }
    assert_eq!(marked, calls.len(), "each call is answered");
    assert!(answers.last().is_none_or(|last| last.status != 100), "what is asked for is answered");

    // A client that waits for a 100 is served differently if its body was there already.
    let whole = parts.concat();
    if !whole.to_ascii_lowercase().windows(6).any(|window| window == b"expect") {
        let (other, other_calls) = serve(&[&whole]);
        assert_eq!(calls, other_calls);
        assert_eq!(output.len() == 0, other.len() == 0);
    }
});
