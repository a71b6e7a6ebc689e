//! Any text as a part of a path or query: decoded as a plainer decoder does it, and back again what it was.
#![no_main]

use bast_server::fuzzing::percent_decode;

libfuzzer_sys::fuzz_target!(|text: &str| {
    for form in [false, true] {
        let decoded = percent_decode(text, form);
        assert_eq!(decoded, plainly(text, form));
        let Some(decoded) = decoded else { continue };
        let encoded: String = decoded.bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(percent_decode(&encoded, form), Some(decoded));
    }
});

fn plainly(text: &str, form: bool) -> Option<String> {
    let text = if form { text.replace('+', "%20") } else { text.to_owned() };
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (escape, rest) = piece.as_bytes().split_at_checked(2)?;
        if !escape.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.push(u8::from_str_radix(std::str::from_utf8(escape).ok()?, 16).ok()?);
        bytes.extend_from_slice(rest);
    }
    String::from_utf8(bytes).ok()
}
