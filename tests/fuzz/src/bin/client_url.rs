//! Any two texts (up to a byte 0xFF) as a URL and a reference: what comes of them can stand in a request.
#![no_main]

use bast_server::fuzzing::refer;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut texts = input.splitn(2, |&byte| byte == 0xff).map(String::from_utf8_lossy);
    let (base, reference) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
    let Some((authority, target)) = refer(&base, &reference) else { return };
    assert!(target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{target:?}");
    assert!(!authority.is_empty() && authority.bytes().all(|byte| byte.is_ascii_graphic()), "{authority:?}");
    assert!(!authority.contains(['/', '?', '#', '@']), "{authority:?}");
    let again = format!("http://{authority}{target}");
    assert_eq!(refer(&again, ""), Some((authority, target)), "{again:?}");
});
