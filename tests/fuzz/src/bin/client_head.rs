//! Any bytes as the head of a response that the client reads: what is accepted says the same to httparse.
#![no_main]

use bast_server::fuzzing::read_head;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((status, headers, len)) = read_head(input, false) else { return };
    assert_eq!(read_head(input, true).map(|(status, _, len)| (status, len)), Some((status, len)));
    assert!(read_head(&input[..len - 1], false).is_none(), "it is not whole without its last byte");
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut theirs = httparse::Response::new(&mut fields);
    assert_eq!(theirs.parse(input), Ok(httparse::Status::Complete(len)));
    assert_eq!(theirs.code, Some(status.code()));
    let theirs = theirs.headers.iter().map(|field| (field.name, field.value));
    assert!(headers.iter().eq(theirs), "{headers:?}");
});
