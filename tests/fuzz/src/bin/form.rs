//! Any bytes as a form: its pairs are those of a plainer reader, and no type makes the reader panic.
#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bast_server::fuzzing::{percent_decode, serve_parts};
use bast_server::{Limits, Request, Response};
use serde::Deserialize;

/// A type with each kind of field.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only read into")]
struct Search {
    q: String,
    #[serde(default)]
    tag: Vec<String>,
    page: Option<u32>,
    exact: Option<bool>,
    kind: Option<Kind>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    A,
    B,
}

/// The form, read as a type by the handler.
fn read<T: for<'de> Deserialize<'de> + Send + 'static>(form: &[u8]) -> Option<T> {
    let read = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&read);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        form.len()
    );
    serve_parts(&[head.as_bytes(), form], &Limits::default(), move |request: &mut Request<'_>| {
        *kept.lock().expect("one thread") = request.form().ok();
        Response::text("").and_close()
    });
    read.lock().expect("one thread").take()
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let pairs: Option<Vec<(String, String)>> = read(input);
    assert_eq!(pairs, plainly(input));
    let grouped: Option<BTreeMap<String, Vec<String>>> = read(input);
    let expected = pairs.map(|pairs| {
        let mut grouped = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in pairs {
            grouped.entry(name).or_default().push(value);
        }
        grouped
    });
    assert_eq!(grouped, expected);
    if let Some(search) = read::<Search>(input) {
        let grouped = expected.expect("what has fields has pairs");
        assert_eq!(grouped["q"], [search.q]);
        assert_eq!(grouped.get("tag").cloned().unwrap_or_default(), search.tag);
    }
});

fn plainly(input: &[u8]) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(input).ok()?;
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent_decode(name, true)?, percent_decode(value, true)?))
        })
        .collect()
}
