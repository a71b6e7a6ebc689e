//! Any bytes, cut anywhere, as the head of a response: the cuts change nothing, and what is accepted says the same to
//! httparse.
#![no_main]

use bast_fuzz::parts;
use bast_server::fuzzing::response_head;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let parts = parts(input);
    let whole = parts.concat();
    for to_head in [false, true] {
        let in_parts = response_head(&parts, to_head).map_err(|error| error.to_string());
        let at_once = response_head(&[&whole], to_head).map_err(|error| error.to_string());
        match (&in_parts, &at_once) {
            (Ok(in_parts), Ok(at_once)) => assert_eq!(in_parts, at_once),
            // Only some of it was needed to see that it is wrong, and another fault may be seen first.
            (Err(_), Err(_)) => {}
            _ => panic!("{in_parts:?} {at_once:?}"),
        }
        let Ok(Some(ours)) = at_once else { continue };
        let mut fields = [httparse::EMPTY_HEADER; 256];
        let mut theirs = httparse::Response::new(&mut fields);
        assert_eq!(theirs.parse(&whole), Ok(httparse::Status::Complete(ours.len)));
        assert_eq!((theirs.code, theirs.version), (Some(ours.code), Some(ours.minor)));
        let theirs: Vec<_> =
            theirs.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
        assert_eq!(ours.fields, theirs);
        let has_no_body = to_head || matches!(ours.code, 100..200 | 204 | 304);
        assert!(!has_no_body || ours.framing == "Known(Empty)", "{ours:?}");
    }
});
