//! Frames (RFC 6455 §5.2): what is before the payload, read from any cut of the bytes and written; and the mask.
//!
//! ```text
//!   bit  0   1 2 3   4 5 6 7    8    9 ... 15      then, as the length says     then, from clients
//!       FIN   RSV     opcode   MASK   length    16 bits (126), 64 bits (127)     32 bits of mask
//! ```
#![forbid(unsafe_code)]

use super::close::{CloseCode, Violation};

/// The longest that can stand before a payload: two bytes, a length of eight, a mask of four.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a control frame (RFC 6455 §5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is for (RFC 6455 §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        }
    }

    pub(super) fn is_control(self) -> bool {
        self.bits() & 8 != 0
    }
}

/// Whose frames are read: a client masks them and a server does not (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Peer {
    #[default]
    Client,
    Server,
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    /// RSV1: the message is compressed (RFC 7692 §6).
    pub(super) compressed: bool,
    pub(super) opcode: Opcode,
    pub(super) length: u64,
    /// Zeros where there is none, which change nothing.
    pub(super) mask: [u8; 4],
}

/// The bytes of a header as they arrive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeaderBytes {
    bytes: [u8; HEADER_BYTES_MAX],
    len: usize,
    peer: Peer,
}

impl HeaderBytes {
    pub(super) fn of(peer: Peer) -> HeaderBytes {
        HeaderBytes { peer, ..HeaderBytes::default() }
    }

    /// Takes what the header needs from the front of `input`; a header, once it is whole. What is wrong is told as
    /// soon as it can be: the peer may never send the rest.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Result<Option<Header>, Violation> {
        loop {
            let needed = self.needed();
            let count = (needed - self.len).min(input.len());
            let (taken, rest) = input.split_at(count);
            self.bytes[self.len..self.len + count].copy_from_slice(taken);
            self.len += count;
            *input = rest;
            if self.len < needed {
                return Ok(None);
            }
            if needed == 2 {
                self.check_first_two()?;
            }
            // The first two bytes say how long the header is.
            if self.len == self.needed() {
                break;
            }
        }
        let header = self.whole()?;
        self.len = 0;
        Ok(Some(header))
    }

    /// Did a part of a header come?
    pub(super) fn is_begun(&self) -> bool {
        self.len > 0
    }

    /// How long the header is, as far as is known.
    fn needed(&self) -> usize {
        if self.len < 2 {
            return 2;
        }
        2 + self.length_bytes() + self.mask_bytes()
    }

    fn mask_bytes(&self) -> usize {
        match self.peer {
            Peer::Client => 4,
            Peer::Server => 0,
        }
    }

    fn length_bytes(&self) -> usize {
        match self.bytes[1] & 0x7f {
            127 => 8,
            126 => 2,
            _ => 0,
        }
    }

    fn check_first_two(&self) -> Result<(), Violation> {
        let [first, second, ..] = self.bytes;
        if first & 0x30 != 0 {
            return Err(Violation::protocol("a reserved bit is set"));
        }
        let Some(opcode) = Opcode::from_bits(first & 0x0f) else {
            return Err(Violation::protocol("an unknown opcode"));
        };
        match (self.peer, second & 0x80 != 0) {
            (Peer::Client, false) => return Err(Violation::protocol("a client's frame without a mask")),
            (Peer::Server, true) => return Err(Violation::protocol("a server's frame with a mask")),
            (Peer::Client, true) | (Peer::Server, false) => {}
        }
        if opcode.is_control() {
            if first & 0x80 == 0 {
                return Err(Violation::protocol("a control frame in fragments"));
            }
            if usize::from(second & 0x7f) > CONTROL_BYTES_MAX {
                return Err(Violation::protocol("a control frame beyond 125 bytes"));
            }
        }
        Ok(())
    }

    fn whole(&self) -> Result<Header, Violation> {
        let [first, second, rest @ ..] = self.bytes;
        let (length, mask) = rest.split_at(self.length_bytes());
        let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let length = match second & 0x7f {
            126 => Some(big_endian(length)).filter(|length| *length >= 126),
            127 => Some(big_endian(length)).filter(|length| (1 << 16..1 << 63).contains(length)),
            length => Some(u64::from(length)),
        };
        // "The minimal number of bytes MUST be used", and the first bit of eight bytes is 0 (RFC 6455 §5.2).
        let Some(length) = length else {
            return Err(Violation::protocol("a length that is not in its shortest form"));
        };
        Ok(Header {
            fin: first & 0x80 != 0,
            compressed: first & 0x40 != 0,
            opcode: Opcode::from_bits(first & 0x0f).expect("websocket: an opcode was checked before"),
            length,
            mask: match self.peer {
                Peer::Client => [mask[0], mask[1], mask[2], mask[3]],
                Peer::Server => [0; 4],
            },
        })
    }
}

/// Removes the mask from a stretch of a payload (or lays it on) that begins `offset` bytes into it.
pub(super) fn apply_mask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut mask = mask;
    mask.rotate_left((offset % 4) as usize);
    let word = u64::from_ne_bytes([mask, mask].concat().try_into().expect("twice four bytes"));
    let mut words = bytes.chunks_exact_mut(8);
    for chunk in &mut words {
        let masked = u64::from_ne_bytes(chunk.try_into().expect("eight bytes")) ^ word;
        chunk.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Appends a server's header for a payload of `length` bytes in one frame. A server does not mask (RFC 6455 §5.1).
pub(super) fn encode_header(out: &mut Vec<u8>, opcode: Opcode, compressed: bool, length: usize) {
    debug_assert!(!opcode.is_control() || length <= CONTROL_BYTES_MAX);
    out.push(0x80 | u8::from(compressed) << 6 | opcode.bits());
    match length {
        0..=125 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends a client's frame, whole and masked.
pub(crate) fn encode_masked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    let second = out.len() + 1;
    encode_header(out, opcode, false, payload.len());
    out[second] |= 0x80;
    out.extend_from_slice(&mask);
    let at = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[at..], mask, 0);
}

const _: () = assert!(CloseCode::BYTES + super::close::REASON_BYTES_MAX == CONTROL_BYTES_MAX);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A client's frame, masked.
    pub(in crate::websocket) fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        encode_header(&mut frame, Opcode::Text, false, payload.len());
        frame[0] = first;
        frame[1] |= 0x80;
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        frame.extend_from_slice(&mask);
        let at = frame.len();
        frame.extend_from_slice(payload);
        apply_mask(&mut frame[at..], mask, 0);
        frame
    }

    fn take(mut bytes: &[u8]) -> Result<Option<Header>, &'static str> {
        HeaderBytes::default().take(&mut bytes).map_err(|violation| violation.reason)
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 6455 §5.7: a masked text message, "Hello".
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(client_frame(0x81, b"Hello"), hello);
        let header = take(&hello).unwrap().unwrap();
        assert_eq!((header.fin, header.opcode, header.length), (true, Opcode::Text, 5));
        let mut payload = hello[6..].to_vec();
        apply_mask(&mut payload, header.mask, 0);
        assert_eq!(payload, b"Hello");
    }

    #[test]
    fn a_header_is_the_same_wherever_the_bytes_are_cut() {
        for length in [0, 1, 125, 126, 127, 0xffff, 0x1_0000] {
            let frame = client_frame(0x82, &vec![7; length]);
            let whole = take(&frame).unwrap().unwrap();
            assert_eq!(whole.length, length as u64);
            for cut in 0..HEADER_BYTES_MAX.min(frame.len()) {
                let mut header = HeaderBytes::default();
                let mut first = &frame[..cut];
                let mut second = &frame[cut..];
                let early = header.take(&mut first).unwrap();
                let taken = early.or_else(|| header.take(&mut second).unwrap());
                assert_eq!(taken, Some(whole), "length {length} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_servers_frame_has_no_mask_and_a_clients_is_masked_by_us_as_by_others() {
        for length in [0, 1, 125, 126, 0xffff, 0x1_0000] {
            let mut frame = Vec::new();
            encode_header(&mut frame, Opcode::Binary, false, length);
            for cut in 0..=frame.len() {
                let mut header = HeaderBytes::of(Peer::Server);
                let (mut first, mut second) = frame.split_at(cut);
                let early = header.take(&mut first).unwrap();
                let taken = early.or_else(|| header.take(&mut second).unwrap()).unwrap();
                assert_eq!(
                    (taken.length, taken.mask),
                    (length as u64, [0; 4]),
                    "length {length} cut at {cut}"
                );
            }
        }
        let mut masked = Vec::new();
        encode_masked(&mut masked, Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(masked, client_frame(0x81, b"Hello"));
        let refused = HeaderBytes::of(Peer::Server).take(&mut &masked[..]);
        assert_eq!(refused.unwrap_err().reason, "a server's frame with a mask");
    }

    #[test]
    fn what_the_rfc_forbids_in_a_header_is_refused() {
        const MASK: [u8; 4] = [0; 4];
        let with_mask = |bytes: &[u8]| [bytes, &MASK].concat();
        for (bytes, reason) in [
            (with_mask(&[0xa1, 0x80]), "a reserved bit is set"),
            (with_mask(&[0x91, 0x80]), "a reserved bit is set"),
            (with_mask(&[0x83, 0x80]), "an unknown opcode"),
            (with_mask(&[0x87, 0x80]), "an unknown opcode"),
            (with_mask(&[0x8b, 0x80]), "an unknown opcode"),
            (with_mask(&[0x8f, 0x80]), "an unknown opcode"),
            (vec![0x81, 0x05], "a client's frame without a mask"),
            (with_mask(&[0x09, 0x80]), "a control frame in fragments"),
            (with_mask(&[0x08, 0x80]), "a control frame in fragments"),
            (with_mask(&[0x8a, 0xfe, 0, 126]), "a control frame beyond 125 bytes"),
            (with_mask(&[0x82, 0xfe, 0, 125]), "a length that is not in its shortest form"),
            (
                with_mask(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
                "a length that is not in its shortest form",
            ),
            (
                with_mask(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0]),
                "a length that is not in its shortest form",
            ),
        ] {
            assert_eq!(take(&bytes), Err(reason), "{bytes:x?}");
        }
    }

    #[test]
    fn all_bytes_at_the_front_of_a_header_are_either_a_header_or_refused() {
        let known = [0, 1, 2, 8, 9, 10];
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let mut bytes = [0; HEADER_BYTES_MAX];
                (bytes[0], bytes[1]) = (first, second);
                // The shortest lengths of each form.
                match second & 0x7f {
                    126 => bytes[3] = 126,
                    127 => bytes[7] = 1,
                    _ => {}
                }
                let control = first & 0x08 != 0;
                let expected = first & 0x30 == 0
                    && known.contains(&(first & 0x0f))
                    && second & 0x80 != 0
                    && (!control || (first & 0x80 != 0 && second & 0x7f <= 125));
                assert_eq!(matches!(take(&bytes), Ok(Some(_))), expected, "{first:#x} {second:#x}");
            }
        }
    }

    #[test]
    fn a_mask_is_the_same_wherever_the_payload_is_cut() {
        let plain: Vec<u8> = (0..50).collect();
        let mask = [0x11, 0x22, 0x44, 0x88];
        let masked: Vec<u8> = plain.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        for cut in 0..=plain.len() {
            let mut bytes = masked.clone();
            let (first, second) = bytes.split_at_mut(cut);
            apply_mask(first, mask, 0);
            apply_mask(second, mask, cut as u64);
            assert_eq!(bytes, plain, "cut at {cut}");
        }
    }

    #[test]
    fn lengths_are_written_in_their_shortest_form() {
        let header = |length| {
            let mut out = Vec::new();
            encode_header(&mut out, Opcode::Binary, false, length);
            out
        };
        assert_eq!(header(0), [0x82, 0]);
        assert_eq!(header(125), [0x82, 125]);
        assert_eq!(header(126), [0x82, 126, 0, 126]);
        assert_eq!(header(0xffff), [0x82, 126, 0xff, 0xff]);
        assert_eq!(header(0x1_0000), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
