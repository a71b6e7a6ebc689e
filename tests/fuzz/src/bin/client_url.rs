//! Any two lines as a URL and a reference on its page (RFC 3986 §5): what goes into a request has no byte that would end its
//! line, and is read again as it is.
#![no_main]

use bast_server::fuzzing::read_url;

libfuzzer_sys::fuzz_target!(|input: &str| {
    let (text, reference) = input.split_once('\n').unwrap_or((input, ""));
    let Some(urls) = read_url(text, reference) else { return };
    for (authority, target) in &urls {
        assert!(!authority.is_empty() && authority.bytes().all(|byte| byte.is_ascii_graphic()), "{urls:?}");
        assert!(
            target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'),
            "{urls:?}"
        );
        let again = read_url(&format!("http://{authority}{target}"), "");
        let same = again.is_some_and(|[again, _]| again == (authority.clone(), target.clone()));
        assert!(same, "{authority:?} {target:?} is read otherwise");
    }
});
