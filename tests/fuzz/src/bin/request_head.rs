//! Any bytes as the head of a request: what is accepted says the same to httparse.
#![no_main]

use std::sync::{Arc, Mutex};

use bast_fuzz::answers;
use bast_server::fuzzing::serve_parts;
use bast_server::{Limits, Request, Response, Version};

/// What a handler sees of a head.
#[derive(Debug, PartialEq)]
struct Seen {
    method: String,
    target: String,
    minor: u8,
    fields: Vec<(String, Vec<u8>)>,
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let seen = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&seen);
    let output = serve_parts(&[input], &Limits::default(), move |request: &mut Request<'_>| {
        check_accessors(request);
        *kept.lock().expect("one thread") = Some(Seen {
            method: request.method().to_string(),
            target: request.target().to_owned(),
            minor: u8::from(request.version() == Version::Http11),
            fields: request.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
        });
        Response::text("").and_close()
    });
    let seen = seen.lock().expect("one thread").take();
    let head = seen.as_ref().is_some_and(|seen| seen.method == "HEAD");
    let answers = answers(&output, |_| head);
    assert!(answers.len() <= 1 && answers.iter().all(|answer| answer.closes()), "{answers:?}");
    let Some(seen) = seen else {
        assert!(answers.iter().all(|answer| answer.status >= 400), "{answers:?}");
        return;
    };
    assert_eq!(answers[0].status, 200);
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut theirs = httparse::Request::new(&mut fields);
    assert!(matches!(theirs.parse(input), Ok(httparse::Status::Complete(_))), "only we accept it");
    let theirs = Seen {
        method: theirs.method.unwrap_or_default().to_owned(),
        target: theirs.path.unwrap_or_default().to_owned(),
        minor: theirs.version.unwrap_or_default(),
        fields: theirs.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect(),
    };
    assert_eq!(seen, theirs);
});

/// What the accessors say fits together, and none of them panics.
fn check_accessors(request: &Request<'_>) {
    let (path, target) = (request.path(), request.target());
    assert!(path.starts_with('/') || path == "*", "{path:?}");
    assert!(path == "/" || target.contains(path));
    if let Some(query) = request.query() {
        assert!(target.ends_with(&format!("?{query}")), "{target:?} {query:?}");
    }
    assert!(request.host().is_some() || request.version() == Version::Http10);
    for (name, value) in request.headers() {
        assert!(value.first().is_none_or(|byte| !b" \t".contains(byte)));
        assert!(value.last().is_none_or(|byte| !b" \t".contains(byte)));
        assert!(request.header_bytes(&name.to_ascii_uppercase()).is_some());
    }
    let _ = request.query_param("a");
    let _ = format!("{request:?} {:?}", request.content_length());
}
