//! Any bytes as what a WebSocket's client sends: a reader that has all of them at once finds the same messages in what is
//! not compressed, and where they are cut changes nothing, compressed or not.
#![no_main]

use bast_fuzz::parts;
use bast_server::fuzzing::decode_websocket;

/// Shorter, and fewer, than inputs may have.
const BYTES_MAX: usize = 300;
const FRAGMENTS_MAX: usize = 6;

/// What was whole, and the code of what was refused.
type Read = (Vec<(&'static str, Vec<u8>)>, Option<u16>);

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let parts = parts(input);
    let whole = parts.concat();
    let single: Vec<&[u8]> = whole.chunks(1).collect();
    for takeover in [None, Some(false), Some(true)] {
        let decode = |parts: &[&[u8]]| decode_websocket(parts, BYTES_MAX, FRAGMENTS_MAX, takeover);
        let (all, refused) = decode(&[&whole]);
        for cut in [decode(&parts), decode(&single)] {
            assert_eq!(cut.0, all, "{takeover:?}");
            // Of two faults in one compressed frame the cuts may show either first.
            assert_eq!(cut.1.is_some(), refused.is_some(), "{takeover:?}");
            assert!(takeover.is_some() || cut.1 == refused, "{:?} and {refused:?}", cut.1);
        }
        assert!(all.iter().all(|(_, bytes)| bytes.len() <= BYTES_MAX));
        if takeover.is_none() {
            assert_eq!((all, refused), read(&whole));
        }
    }
});

/// RFC 6455 §5.2 to §5.5 for bytes that are all there.
fn read(mut input: &[u8]) -> Read {
    let mut all = Vec::new();
    // Kind, bytes, frames.
    let mut message: Option<(&'static str, Vec<u8>, usize)> = None;
    loop {
        let (opcode, fin, payload, announced) = match frame(&mut input, &message) {
            Ok(frame) => frame,
            Err(refused) => return (all, refused),
        };
        match opcode {
            9 => all.push(("ping", payload)),
            10 => all.push(("pong", Vec::new())),
            8 => {
                let refused = match &*payload {
                    [] => None,
                    [_] => Some(1002),
                    [high, low, reason @ ..] => match u16::from_be_bytes([*high, *low]) {
                        1000..=1003 | 1007..=1014 | 3000..=4999 => {
                            std::str::from_utf8(reason).is_err().then_some(1007)
                        }
                        _ => Some(1002),
                    },
                };
                if refused.is_none() {
                    all.push(("close", payload));
                }
                return (all, refused);
            }
            _ => {
                let kind = if opcode == 1 { "text" } else { "binary" };
                let (kind, mut bytes, frames) = message.take().unwrap_or((kind, Vec::new(), 0));
                bytes.extend(payload);
                let whole = announced == 0;
                if kind == "text" && !may_be_text(&bytes, fin && whole) {
                    return (all, Some(1007));
                }
                if !whole {
                    return (all, None);
                }
                if fin {
                    all.push((kind, bytes));
                } else {
                    message = Some((kind, bytes, frames + 1));
                }
            }
        }
    }
}

/// Is it UTF-8, or (unless it is the `end`) the beginning of it?
fn may_be_text(bytes: &[u8], end: bool) -> bool {
    std::str::from_utf8(bytes).err().is_none_or(|error| !end && error.error_len().is_none())
}

/// Opcode, FIN, the payload as far as it is there, and how much of it is missing, which of a control frame is nothing.
/// The code of what is wrong, or none where more is needed.
#[expect(clippy::type_complexity, reason = "one caller, which takes it apart")]
fn frame(
    input: &mut &[u8],
    message: &Option<(&'static str, Vec<u8>, usize)>,
) -> Result<(u8, bool, Vec<u8>, usize), Option<u16>> {
    let [first, second, rest @ ..] = *input else { return Err(None) };
    let (fin, opcode, length) = (first & 0x80 != 0, first & 0x0f, second & 0x7f);
    let control = opcode >= 8;
    if first & 0x30 != 0
        || !matches!(opcode, 0..=2 | 8..=10)
        || second & 0x80 == 0
        || control && (!fin || length > 125)
    {
        return Err(Some(1002));
    }
    let length_bytes = [0, 2, 8][usize::from(length.saturating_sub(125))];
    if rest.len() < length_bytes + 4 {
        return Err(None);
    }
    let (extended, rest) = rest.split_at(length_bytes);
    let (mask, rest) = rest.split_at(4);
    let extended = extended.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let length = match length_bytes {
        0 => u64::from(length),
        2 if extended > 125 => extended,
        8 if extended > 0xffff && extended >> 63 == 0 => extended,
        _ => return Err(Some(1002)),
    };
    if first & 0x40 != 0 || !control && (opcode == 0) != message.is_some() {
        return Err(Some(1002));
    }
    if !control {
        let (bytes, frames) = message.as_ref().map_or((0, 0), |(_, bytes, frames)| (bytes.len(), *frames));
        if bytes as u64 + length > BYTES_MAX as u64 || frames == FRAGMENTS_MAX {
            return Err(Some(1009));
        }
    }
    let length = length as usize;
    let there = length.min(rest.len());
    if control && there < length {
        return Err(None);
    }
    let (payload, rest) = rest.split_at(there);
    *input = rest;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Ok((opcode, fin, payload, length - there))
}
