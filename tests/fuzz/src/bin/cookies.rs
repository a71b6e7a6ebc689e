//! Any name, value, path and domain of a cookie, one on each line: what is set is one field and comes back as it was, and any
//! bytes of a `Cookie` field (the rest of the input) give pairs.
#![no_main]

use std::sync::{Arc, Mutex};

use bast_fuzz::answers;
use bast_server::fuzzing::serve_parts;
use bast_server::{Cookie, Limits, Request, Response};

/// What a handler sees of this field, and what the client is sent.
fn ask(
    field: &[u8],
    cookie: impl Fn() -> Cookie + Send + Sync + 'static,
) -> (Option<Vec<(String, String)>>, Vec<u8>) {
    let seen = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&seen);
    let head = [b"GET / HTTP/1.1\r\nHost: a\r\nCookie: ", field, b"\r\n\r\n"].concat();
    let output = serve_parts(&[&head], &Limits::default(), move |request: &mut Request<'_>| {
        let cookies = request.cookies().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        *kept.lock().expect("one thread") = Some(cookies);
        Response::text("").with_cookie(cookie()).and_close()
    });
    (seen.lock().expect("one thread").take(), output)
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(5, |&byte| byte == b'\n');
    let texts = [(); 4].map(|()| String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned());
    let field = lines.next().unwrap_or_default();
    let [name, value, path, domain] = texts.clone();
    let (seen, output) = ask(field, move || {
        let mut cookie = Cookie::new(name.clone(), value.clone());
        if !path.is_empty() {
            cookie = cookie.path(path.clone());
        }
        if !domain.is_empty() {
            cookie = cookie.domain(domain.clone());
        }
        cookie
    });
    for (name, value) in seen.iter().flatten() {
        assert!(!name.is_empty() && !name.contains([';', '=']) && !value.contains(';'), "{name:?} {value:?}");
    }
    let answers = answers(&output, |_| false);
    let (Some(_), [answer]) = (seen, &answers[..]) else { return };
    let [name, value, ..] = texts;
    match answer.field("Set-Cookie") {
        None => assert_eq!(answer.status, 500),
        Some(set) => {
            let pair = set.split(|&byte| byte == b';').next().unwrap_or_default();
            assert_eq!(pair, format!("{name}={value}").as_bytes());
            let (back, _) = ask(pair, || Cookie::new("a", "b"));
            assert_eq!(back, Some(vec![(name, value)]), "it comes back as it was");
        }
    }
});
