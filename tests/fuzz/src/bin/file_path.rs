//! Any bytes as the target of a file: what comes out never leads out of the root, and means the same if it is asked for
//! again.
#![no_main]

use std::path::Component;

use bast_server::file::path::SafePath;

libfuzzer_sys::fuzz_target!(|target: &[u8]| {
    let Ok(path) = SafePath::from_target(target) else { return };
    let bytes = path.as_bytes();
    assert!(!bytes.starts_with(b"/") && !bytes.windows(2).any(|two| two == b"//"));
    assert!(bytes.iter().all(|&byte| byte >= b' ' && byte != 0x7f && byte != b'\\'));
    for name in bytes.split(|&byte| byte == b'/') {
        assert!(!name.starts_with(b".") || name == b".well-known", "{}", bytes.escape_ascii());
    }
    let file = path.to_file();
    assert!(file.is_relative() && file.components().all(|part| matches!(part, Component::Normal(_))));

    let encoded: String =
        bytes.iter().map(|&byte| if byte == b'/' { "/".into() } else { format!("%{byte:02X}") }).collect();
    let encoded = format!("/{encoded}");
    if let Ok(again) = SafePath::from_target(encoded.as_bytes()) {
        assert_eq!(again.as_bytes(), bytes);
    } else {
        panic!("{encoded} is not what {} is", target.escape_ascii());
    }
});
