//! Messages out of bytes: fragments are put together, control frames between them are given out at once, text is
//! checked as it comes (RFC 6455 §5.4 to §5.6, §8.1).
//!
//! ```text
//!   between frames ──header──▶ in a payload ──all of it──▶ between frames
//!         │                                                     │ FIN: a message, or a control frame
//!         └───── Close ──▶ closed: what comes behind it is dropped
//! ```
//! Bytes in, messages out: no socket. Memory is taken as bytes arrive, never because a length was announced.
#![forbid(unsafe_code)]

use super::close::{CloseFrame, Violation};
use super::deflate::Inflater;
use super::frame::{CONTROL_BYTES_MAX, Header, HeaderBytes, Opcode, Peer, apply_mask};
use super::message::Message;

/// So much is reserved for an announced payload at once; the rest as it arrives.
const RESERVED_BYTES_MAX: usize = 16 << 10;

/// What a peer may send in one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageLimits {
    /// Payload bytes, as sent and, where it is compressed, as inflated.
    pub(crate) bytes_max: usize,
    /// Frames.
    pub(crate) fragments_max: usize,
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Message(Message),
    Ping(Vec<u8>),
    Pong,
    Close(Option<CloseFrame>),
}

/// Reads what a peer sends.
#[derive(Debug)]
pub(crate) struct Decoder {
    limits: MessageLimits,
    header: HeaderBytes,
    frame: Option<Frame>,
    message: Option<Gathered>,
    /// The payload of a control frame, which may come between the fragments of a message.
    control: Vec<u8>,
    inflater: Option<Inflater>,
    closed: bool,
}

/// A frame of which the payload is arriving.
#[derive(Clone, Copy, Debug)]
struct Frame {
    header: Header,
    taken: u64,
}

/// A message of which more is to come.
#[derive(Debug)]
struct Gathered {
    text: bool,
    compressed: bool,
    bytes: Vec<u8>,
    /// Payload bytes on the wire, those of the frame that is arriving included.
    announced: u64,
    /// How many of the bytes are known to be UTF-8.
    valid: usize,
    fragments: usize,
}

impl Gathered {
    /// Refuses text as soon as no continuation could make it UTF-8.
    fn check_text(&mut self) -> Result<(), Violation> {
        if !self.text {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(not_utf8()),
        }
        Ok(())
    }

    fn finish(self) -> Result<Message, Violation> {
        if self.text {
            return String::from_utf8(self.bytes).map(Message::Text).map_err(|_| not_utf8());
        }
        Ok(Message::Binary(self.bytes))
    }
}

#[cold]
fn not_utf8() -> Violation {
    Violation::invalid_payload("text that is not UTF-8")
}

impl Decoder {
    /// `inflater` where compression was agreed upon.
    pub(super) fn new(limits: MessageLimits, inflater: Option<Inflater>) -> Decoder {
        Decoder {
            limits,
            header: HeaderBytes::default(),
            frame: None,
            message: None,
            control: Vec::new(),
            inflater,
            closed: false,
        }
    }

    /// Reads what a server sends, where no extension was agreed upon.
    pub(crate) fn of_server(limits: MessageLimits) -> Decoder {
        Decoder { header: HeaderBytes::of(Peer::Server), ..Decoder::new(limits, None) }
    }

    /// Takes bytes from the front of `input` up to the end of the next message or control frame. `None` where more
    /// bytes are needed, and after a Close.
    pub(crate) fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Decoded>, Violation> {
        while !self.closed {
            let frame = match self.frame {
                Some(frame) => frame,
                None => match self.header.take(input)? {
                    None => break,
                    Some(header) => self.begin(header)?,
                },
            };
            match self.take_payload(frame, input)? {
                None => break,
                Some(Whole::Fragment) => {}
                Some(Whole::Decoded(decoded)) => return Ok(Some(decoded)),
            }
        }
        if self.closed {
            *input = &[];
        } else if let Some(message) = &mut self.message {
            message.check_text()?;
        }
        Ok(None)
    }

    /// Is a message, or a frame, begun and not whole?
    pub(super) fn is_within(&self) -> bool {
        self.message.is_some() || self.frame.is_some() || self.header.is_begun()
    }

    #[cfg(all(test, feature = "gzip"))]
    pub(super) fn into_inflater(self) -> Option<Inflater> {
        self.inflater
    }

    /// Begins a frame, if it may come now.
    fn begin(&mut self, header: Header) -> Result<Frame, Violation> {
        let frame = Frame { header, taken: 0 };
        if header.compressed
            && (self.inflater.is_none() || !matches!(header.opcode, Opcode::Text | Opcode::Binary))
        {
            // Also on a fragment but the first (RFC 7692 §6.1).
            return Err(Violation::protocol("a reserved bit is set"));
        }
        if header.opcode.is_control() {
            self.control.clear();
            return Ok(frame);
        }
        match (header.opcode, &self.message) {
            (Opcode::Continuation, None) => return Err(Violation::protocol("a continuation of nothing")),
            (Opcode::Continuation, Some(_)) => {}
            (_, Some(_)) => return Err(Violation::protocol("a message within another")),
            (opcode, None) => {
                self.message = Some(Gathered {
                    text: opcode == Opcode::Text,
                    compressed: header.compressed,
                    bytes: Vec::new(),
                    announced: 0,
                    valid: 0,
                    fragments: 0,
                });
            }
        }
        let message = self.message.as_mut().expect("websocket: a data frame belongs to a message");
        message.fragments += 1;
        message.announced = message.announced.saturating_add(header.length);
        if message.announced > self.limits.bytes_max as u64 {
            return Err(too_big());
        }
        if message.fragments > self.limits.fragments_max {
            return Err(Violation::too_big("a message in too many fragments"));
        }
        Ok(frame)
    }

    /// Takes as much of the frame's payload as there is; what the frame made whole once it is at its end.
    fn take_payload(&mut self, mut frame: Frame, input: &mut &[u8]) -> Result<Option<Whole>, Violation> {
        let left = frame.header.length - frame.taken;
        let count = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (payload, rest) = input.split_at(count);
        *input = rest;
        let (mask, offset) = (frame.header.mask, frame.taken);
        frame.taken += count as u64;
        let ended = frame.taken == frame.header.length;
        self.frame = (!ended).then_some(frame);
        if frame.header.opcode.is_control() {
            append_unmasked(&mut self.control, payload, mask, offset, CONTROL_BYTES_MAX);
            return if ended { self.control_frame(frame.header.opcode).map(Some) } else { Ok(None) };
        }
        let message = self.message.as_mut().expect("websocket: a data frame belongs to a message");
        if message.compressed {
            let inflater = self.inflater.as_mut().expect("websocket: compression was agreed upon");
            inflate(inflater, message, payload, mask, offset, self.limits.bytes_max)?;
        } else {
            let expected = usize::try_from(left).unwrap_or(usize::MAX);
            append_unmasked(&mut message.bytes, payload, mask, offset, expected);
        }
        if !ended {
            return Ok(None);
        }
        if !frame.header.fin {
            // Not only once all of the input is decoded: what is told must not depend on where the bytes are cut.
            message.check_text()?;
            return Ok(Some(Whole::Fragment));
        }
        let mut message = self.message.take().expect("websocket: a data frame belongs to a message");
        if message.compressed {
            let inflater = self.inflater.as_mut().expect("websocket: compression was agreed upon");
            inflater.finish(&mut message.bytes, self.limits.bytes_max)?;
        }
        Ok(Some(Whole::Decoded(Decoded::Message(message.finish()?))))
    }

    fn control_frame(&mut self, opcode: Opcode) -> Result<Whole, Violation> {
        let decoded = match opcode {
            Opcode::Ping => Decoded::Ping(std::mem::take(&mut self.control)),
            Opcode::Pong => Decoded::Pong,
            _ => {
                self.closed = true;
                Decoded::Close(CloseFrame::decode(&self.control)?)
            }
        };
        Ok(Whole::Decoded(decoded))
    }
}

/// What the end of a frame brings.
enum Whole {
    /// A part of a message.
    Fragment,
    Decoded(Decoded),
}

#[cold]
fn too_big() -> Violation {
    Violation::too_big("a message beyond the limit")
}

/// Appends a stretch of a payload that begins `offset` bytes into it, without its mask.
fn append_unmasked(to: &mut Vec<u8>, payload: &[u8], mask: [u8; 4], offset: u64, expected: usize) {
    let at = to.len();
    if to.capacity() == at {
        to.reserve(payload.len().max(expected.min(RESERVED_BYTES_MAX)));
    }
    to.extend_from_slice(payload);
    apply_mask(&mut to[at..], mask, offset);
}

/// Inflates a stretch of a payload into its message.
fn inflate(
    inflater: &mut Inflater,
    message: &mut Gathered,
    payload: &[u8],
    mask: [u8; 4],
    mut offset: u64,
    bytes_max: usize,
) -> Result<(), Violation> {
    /// Unmasked on the stack, so that no second buffer is held.
    const STRETCH_BYTES: usize = 512;
    let mut plain = [0; STRETCH_BYTES];
    for stretch in payload.chunks(STRETCH_BYTES) {
        let plain = &mut plain[..stretch.len()];
        plain.copy_from_slice(stretch);
        apply_mask(plain, mask, offset);
        offset += stretch.len() as u64;
        inflater.push(plain, &mut message.bytes, bytes_max)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::close::CloseCode;
    use super::super::frame::tests::client_frame;
    use super::*;

    const LIMITS: MessageLimits = MessageLimits { bytes_max: 1000, fragments_max: 5 };

    fn decoder() -> Decoder {
        Decoder::new(LIMITS, None)
    }

    /// All that comes out of these bytes, and how it ends.
    fn decode_parts(parts: &[&[u8]]) -> (Vec<Decoded>, Option<Violation>) {
        let mut decoder = decoder();
        let mut all = Vec::new();
        for part in parts {
            let mut input = *part;
            loop {
                match decoder.decode(&mut input) {
                    Ok(Some(decoded)) => all.push(decoded),
                    Ok(None) => break,
                    Err(violation) => return (all, Some(violation)),
                }
            }
            assert!(input.is_empty(), "bytes were left although more are needed");
        }
        (all, None)
    }

    fn decode(bytes: &[u8]) -> (Vec<Decoded>, Option<Violation>) {
        decode_parts(&[bytes])
    }

    fn text(text: &str) -> Decoded {
        Decoded::Message(Message::Text(text.to_owned()))
    }

    fn binary(bytes: &[u8]) -> Decoded {
        Decoded::Message(Message::Binary(bytes.to_vec()))
    }

    #[test]
    fn messages_are_put_together_wherever_the_bytes_are_cut() {
        let bytes = [
            client_frame(0x81, "grün".as_bytes()),
            client_frame(0x01, b"fra"),
            client_frame(0x89, b"ping"),
            client_frame(0x00, b"gme"),
            client_frame(0x8a, b""),
            client_frame(0x80, "nté".as_bytes()),
            client_frame(0x02, b""),
            client_frame(0x80, b""),
            client_frame(0x82, &[9; 200]),
            client_frame(0x88, b"\x03\xe8bye"),
            client_frame(0x81, b"dropped"),
        ]
        .concat();
        let close = CloseFrame { code: CloseCode::NORMAL, reason: "bye".to_owned() };
        let expected = vec![
            text("grün"),
            Decoded::Ping(b"ping".to_vec()),
            Decoded::Pong,
            text("fragmenté"),
            binary(b""),
            binary(&[9; 200]),
            Decoded::Close(Some(close)),
        ];
        for cut in 0..=bytes.len() {
            let (all, violation) = decode_parts(&[&bytes[..cut], &bytes[cut..]]);
            assert_eq!((&all, violation), (&expected, None), "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode_parts(&single), (expected, None), "byte by byte");
    }

    #[test]
    fn frames_out_of_turn_are_refused() {
        for (frames, reason) in [
            (vec![client_frame(0x80, b"x")], "a continuation of nothing"),
            (vec![client_frame(0x00, b"x")], "a continuation of nothing"),
            (vec![client_frame(0x01, b"x"), client_frame(0x81, b"y")], "a message within another"),
            (vec![client_frame(0x01, b"x"), client_frame(0x02, b"y")], "a message within another"),
            (vec![client_frame(0xc1, b"x")], "a reserved bit is set"),
            (vec![client_frame(0xc9, b"x")], "a reserved bit is set"),
        ] {
            let (all, violation) = decode(&frames.concat());
            assert_eq!(violation, Some(Violation::protocol(reason)), "{frames:x?}");
            assert_eq!(all, []);
        }
    }

    #[test]
    fn text_is_refused_as_soon_as_it_cannot_be_utf_8() {
        // Autobahn's cases 6.4: the fault is in the middle of a message that is not whole.
        for bad in [&b"\xce\xba\xe1\xbd\xb9\xf4\x90"[..], b"\xff", b"a\xc0\xaf", b"\xed\xa0\x80", b"\xc3("] {
            let unfinished = client_frame(0x01, bad);
            let (_, violation) = decode(&unfinished);
            assert_eq!(
                violation.map(|violation| violation.code),
                Some(CloseCode::INVALID_PAYLOAD),
                "{bad:x?}"
            );
            let frame = client_frame(0x81, &[bad, b"and more"].concat());
            let cut = frame.len() - 8;
            let (_, violation) = decode(&frame[..cut]);
            assert_eq!(
                violation.map(|violation| violation.code),
                Some(CloseCode::INVALID_PAYLOAD),
                "{bad:x?}"
            );
        }
        assert_eq!(decode(&client_frame(0x82, b"\xff")), (vec![binary(b"\xff")], None));
    }

    #[test]
    fn a_fragment_that_is_not_utf_8_is_refused_before_what_follows_it() {
        for follows in [client_frame(0x89, b""), client_frame(0x88, b""), client_frame(0x83, b"")] {
            let bytes = [client_frame(0x01, b"\xff"), follows].concat();
            assert_eq!(decode(&bytes), (vec![], Some(not_utf8())), "{bytes:x?}");
        }
    }

    #[test]
    fn a_character_may_be_cut_by_fragments_but_not_by_the_end() {
        let cut = |last: u8| {
            [client_frame(0x01, b"\xf0\x9f"), client_frame(0x00, b""), client_frame(last, b"\x98\x80")]
                .concat()
        };
        assert_eq!(decode(&cut(0x80)), (vec![text("😀")], None));
        let (_, violation) = decode(&client_frame(0x81, b"\xf0\x9f\x98"));
        assert_eq!(violation, Some(not_utf8()));
    }

    #[test]
    fn a_message_beyond_the_limit_is_refused_before_its_bytes_come() {
        let header = |length: u64| {
            let mut header = vec![0x82, 0xff];
            header.extend_from_slice(&length.to_be_bytes());
            header.extend_from_slice(&[0; 4]);
            header
        };
        assert_eq!(decode(&header(u64::MAX >> 1)).1, Some(too_big()));
        assert_eq!(decode(&header(1 << 16)).1, Some(too_big()));
        assert_eq!(decode(&client_frame(0x82, &[0; 1000])).1, None);
        let parts = [client_frame(0x02, &[0; 600]), client_frame(0x80, &[0; 401])[..8].to_vec()].concat();
        assert_eq!(decode(&parts).1, Some(too_big()));
    }

    #[test]
    fn endless_empty_fragments_are_refused() {
        let mut bytes = client_frame(0x01, b"");
        for _ in 1..LIMITS.fragments_max {
            bytes.extend(client_frame(0x00, b""));
        }
        assert_eq!(decode(&bytes).1, None);
        bytes.extend(client_frame(0x00, b""));
        assert_eq!(decode(&bytes).1.map(|violation| violation.code), Some(CloseCode::MESSAGE_TOO_BIG));
    }

    #[test]
    fn it_is_known_whether_something_was_begun_and_is_not_whole() {
        let mut decoder = decoder();
        let frames = [client_frame(0x01, b"a"), client_frame(0x89, b""), client_frame(0x80, b"b")].concat();
        assert!(!decoder.is_within());
        for (at, byte) in frames.iter().enumerate() {
            decoder.decode(&mut &[*byte][..]).unwrap();
            let last = at + 1 == frames.len();
            assert_eq!(decoder.is_within(), !last, "behind byte {at}");
        }
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut decoder = Decoder::new(MessageLimits { bytes_max: usize::MAX, fragments_max: 1 }, None);
        let mut input: &[u8] = &[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1];
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert!(decoder.message.unwrap().bytes.capacity() <= RESERVED_BYTES_MAX);
    }

    #[test]
    fn no_input_makes_it_panic() {
        // Every pair of first bytes with a few payloads behind, under a mask of zeros.
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let mut bytes = vec![first, second];
                bytes.extend([0x00; 4]);
                bytes.extend([0x03, 0xe8, 0xff, 0x80, 0x00, 0x81, 0x80]);
                let _ = decode(&bytes);
            }
        }
    }
}
