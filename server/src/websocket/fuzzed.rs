//! The decoder as the fuzz targets see it; there under `--cfg fuzzing` alone.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "nobody but the fuzz targets sees this")]

use super::Message;
use super::decode::{Decoded, Decoder, MessageLimits};
use super::deflate::{Agreed, Compression};

/// Decodes what a client sends in these parts: the kind and the bytes of all that is whole, those of a Close as they are
/// in its frame, and the code of what is refused. With `context_takeover` permessage-deflate was agreed upon.
pub fn decode_parts(
    parts: &[&[u8]],
    bytes_max: usize,
    fragments_max: usize,
    context_takeover: Option<bool>,
) -> (Vec<(&'static str, Vec<u8>)>, Option<u16>) {
    let inflater = context_takeover.map(|context_takeover| {
        let compression = Compression { context_takeover, ..Compression::default() };
        Agreed::of(["permessage-deflate"].into_iter(), compression).expect("an offer that is good").inflater()
    });
    let mut decoder = Decoder::new(MessageLimits { bytes_max, fragments_max }, inflater);
    let mut all = Vec::new();
    for part in parts {
        let mut input = *part;
        loop {
            all.push(match decoder.decode(&mut input) {
                Ok(None) => break,
                Ok(Some(Decoded::Message(Message::Text(text)))) => ("text", text.into_bytes()),
                Ok(Some(Decoded::Message(Message::Binary(bytes)))) => ("binary", bytes),
                Ok(Some(Decoded::Ping(payload))) => ("ping", payload),
                Ok(Some(Decoded::Pong)) => ("pong", Vec::new()),
                Ok(Some(Decoded::Close(frame))) => {
                    let payload = frame
                        .map(|frame| [&frame.code.get().to_be_bytes(), frame.reason.as_bytes()].concat());
                    ("close", payload.unwrap_or_default())
                }
                Err(violation) => return (all, Some(violation.code.get())),
            });
        }
        assert!(input.is_empty(), "bytes were left although more are needed");
    }
    (all, None)
}
