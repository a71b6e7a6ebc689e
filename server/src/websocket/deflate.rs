//! permessage-deflate (RFC 7692): what is agreed upon in the handshake, and the two directions.
//!
//! Without context takeover, which is the default, a connection keeps no compressor between two messages: they are
//! lent from a pool of its capability. One takes some 300 KiB, which a hundred thousand quiet clients cannot have.
//!
//! The deflate library has a window of 32 KiB and no other. Inflating works with what a client sends for any smaller
//! one, so its window is never limited. Where the client wants a smaller window from us, a full flush after so many
//! bytes forgets what was before: then no reference reaches further back than the window.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fmt;

use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress, Status};

use super::close::{CloseCode, Violation};

/// The name of the extension.
const NAME: &str = "permessage-deflate";

/// What ends each flush of a deflate stream, and is not sent (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The window of deflate, in bits (RFC 1951 §2).
const WINDOW_BITS_MAX: u8 = 15;

/// An offer that wants a smaller window from us is declined: to forget costs the library some 10 us each time, which for every
/// 256 bytes is more than the compression itself.
const SERVER_WINDOW_BITS_MIN: u8 = 12;

/// Compression of messages: permessage-deflate, for clients that offer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// From 1, fast, to 9, small: 1 by default.
    pub level: u32,
    /// Each message goes on with the dictionary of the one before, which makes small ones of one kind much smaller, and
    /// costs a connection some 300 KiB as long as it lives. Off by default.
    pub context_takeover: bool,
    /// Messages shorter than this are sent as they are: 64 bytes by default.
    pub bytes_min: usize,
}

impl Default for Compression {
    fn default() -> Compression {
        Compression { level: 1, context_takeover: false, bytes_min: 64 }
    }
}

/// What was agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    server_takeover: bool,
    client_takeover: bool,
    server_window_bits: u8,
    /// The client named the size, so the answer has to.
    says_server_window: bool,
}

impl Agreed {
    /// Accepts the first offer among the values of Sec-WebSocket-Extensions that can be.
    pub(super) fn of<'v>(offers: impl Iterator<Item = &'v str>, compression: Compression) -> Option<Agreed> {
        offers.flat_map(|value| split(value, ',')).find_map(|offer| Agreed::of_one(offer, compression))
    }

    /// `None` where the offer is for another extension or has to be declined (RFC 7692 §7.1).
    fn of_one(offer: &str, compression: Compression) -> Option<Agreed> {
        let mut parts = split(offer, ';');
        if !parts.next()?.trim().eq_ignore_ascii_case(NAME) {
            return None;
        }
        let mut offered = Offer::default();
        for parameter in parts {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (name, Some(value.trim())),
                None => (parameter, None),
            };
            offered.take(name.trim(), value)?;
        }
        Some(Agreed {
            server_takeover: compression.context_takeover && !offered.server_no_takeover,
            client_takeover: compression.context_takeover && !offered.client_no_takeover,
            server_window_bits: offered.server_window_bits.unwrap_or(WINDOW_BITS_MAX),
            says_server_window: offered.server_window_bits.is_some(),
        })
    }

    /// The value of Sec-WebSocket-Extensions in the answer.
    pub(super) fn answer(&self) -> String {
        let mut answer = NAME.to_owned();
        if !self.server_takeover {
            answer.push_str("; server_no_context_takeover");
        }
        if !self.client_takeover {
            // Allowed although the client did not offer it (RFC 7692 §7.1.1.2).
            answer.push_str("; client_no_context_takeover");
        }
        if self.says_server_window {
            answer.push_str(&format!("; server_max_window_bits={}", self.server_window_bits));
        }
        answer
    }

    pub(super) fn inflater(&self) -> Inflater {
        Inflater { stream: None, keeps: self.client_takeover, final_blocks: 0 }
    }

    pub(super) fn deflater(&self, compression: Compression) -> Deflater {
        Deflater {
            stream: None,
            keeps: self.server_takeover,
            window_bytes: 1 << self.server_window_bits,
            level: compression.level.clamp(1, 9),
            bytes_min: compression.bytes_min,
        }
    }
}

/// The parameters of an offer.
#[derive(Debug, Default)]
struct Offer {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_window_bits: Option<u8>,
    client_window_bits: Option<Option<u8>>,
}

impl Offer {
    /// `None` for a parameter that is unknown, there twice, or has a wrong value: such an offer must be declined.
    fn take(&mut self, name: &str, value: Option<&str>) -> Option<()> {
        match (name, value) {
            ("server_no_context_takeover", None) => once(&mut self.server_no_takeover),
            ("client_no_context_takeover", None) => once(&mut self.client_no_takeover),
            ("server_max_window_bits", Some(bits)) => {
                let bits = window_bits(bits).filter(|bits| *bits >= SERVER_WINDOW_BITS_MIN)?;
                self.server_window_bits.replace(bits).is_none().then_some(())
            }
            ("client_max_window_bits", bits) => {
                let bits = match bits {
                    Some(bits) => Some(window_bits(bits)?),
                    None => None,
                };
                self.client_window_bits.replace(bits).is_none().then_some(())
            }
            _ => None,
        }
    }
}

fn once(flag: &mut bool) -> Option<()> {
    (!std::mem::replace(flag, true)).then_some(())
}

/// 8 to 15, without leading zeros; perhaps in quotes (RFC 6455 §9.1).
fn window_bits(text: &str) -> Option<u8> {
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|bits| plain && (8..=WINDOW_BITS_MAX).contains(bits))
}

/// Splits a value where `separator` stands outside of quotes.
fn split(value: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    value.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// How many free streams of each kind a capability keeps.
const POOLED_MAX: usize = 8;

thread_local! {
    static INFLATERS: RefCell<Vec<Decompress>> = const { RefCell::new(Vec::new()) };
    /// With their levels.
    static DEFLATERS: RefCell<Vec<(u32, Compress)>> = const { RefCell::new(Vec::new()) };
}

/// The deflate library makes its state, some 300 KiB, on the stack before it is in its box, in debug builds several
/// times; a connection's thread has 192 KiB.
const STACK_BYTES: usize = 2 << 20;

/// Keeps a free stream for others.
fn keep<T>(pool: &RefCell<Vec<T>>, stream: T) {
    let mut pool = pool.borrow_mut();
    if pool.len() < POOLED_MAX {
        // An allocation may let a neighbour run, which would find the pool borrowed.
        bast::no_park(|| pool.push(stream));
    }
}

/// Most blocks in a message that say they are the last. Compressors that flush by them make one; each costs the library a
/// window of 32 KiB, which it fills with zeros, and an empty one takes 2 bytes of a client.
const FINAL_BLOCKS_MAX: usize = 16;

/// Inflates messages.
pub(super) struct Inflater {
    stream: Option<Decompress>,
    /// How many blocks of this message said that they were the last.
    final_blocks: usize,
    /// The stream stays from one message to the next.
    keeps: bool,
}

impl Inflater {
    /// Inflates a piece of a message behind what is in `out`, which may hold `bytes_max`.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), Violation> {
        /// So much room is made at a time: a small message may claim to be a large one.
        const STEP_BYTES: usize = 4 << 10;
        let stream = self.stream.get_or_insert_with(|| {
            INFLATERS
                .with_borrow_mut(Vec::pop)
                .unwrap_or_else(|| bast::ensure_stack(STACK_BYTES, || Decompress::new(false)))
        });
        let mut piece = piece;
        loop {
            if out.len() == out.capacity() {
                out.reserve(STEP_BYTES);
            }
            let before = (stream.total_in(), stream.total_out());
            let inflated = stream.decompress_vec(piece, out, FlushDecompress::Sync);
            let (taken, made) = (stream.total_in() - before.0, stream.total_out() - before.1);
            piece = &piece[taken as usize..];
            if out.len() > bytes_max {
                return Err(Violation::too_big("a compressed message beyond the limit"));
            }
            match inflated {
                // A block that says it is the last ends the stream; another may follow (RFC 7692 §7.2.3.4).
                Ok(Status::StreamEnd) => {
                    self.final_blocks += 1;
                    if self.final_blocks > FINAL_BLOCKS_MAX {
                        return Err(Violation::protocol("a compressed message of too many final blocks"));
                    }
                    stream.reset(false);
                }
                Ok(Status::Ok | Status::BufError)
                    if taken == 0 && made == 0 && out.len() < out.capacity() =>
                {
                    return if piece.is_empty() { Ok(()) } else { Err(not_deflate()) };
                }
                Ok(Status::Ok | Status::BufError) => {}
                Err(_) => return Err(not_deflate()),
            }
            if piece.is_empty() && out.len() < out.capacity() {
                return Ok(());
            }
        }
    }

    /// Ends a message.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Violation> {
        self.push(&TAIL, out, bytes_max)?;
        self.final_blocks = 0;
        if !self.keeps
            && let Some(mut stream) = self.stream.take()
        {
            stream.reset(false);
            INFLATERS.with(|pool| keep(pool, stream));
        }
        Ok(())
    }
}

#[cold]
fn not_deflate() -> Violation {
    Violation { code: CloseCode::INVALID_PAYLOAD, reason: "compressed data that is malformed" }
}

/// Compresses messages.
pub(super) struct Deflater {
    stream: Option<Compress>,
    /// The stream stays from one message to the next.
    keeps: bool,
    window_bytes: usize,
    level: u32,
    bytes_min: usize,
}

/// A compressed message that is not sent yet.
pub(super) struct Compressed {
    pub(super) payload: Vec<u8>,
    /// Goes on behind this message, if the client gets it.
    stream: Option<Compress>,
}

impl Deflater {
    /// Compresses a message; `None` where it is better sent as it is. With context takeover it goes on from the last message
    /// that was [`sent`](Deflater::sent); where one was not, from nothing, which every client understands.
    ///
    /// Lets others run between two pieces. An interruptible point.
    pub(super) fn compress(&mut self, plain: &[u8]) -> Option<Compressed> {
        if plain.is_empty() || plain.len() < self.bytes_min {
            return None;
        }
        let mut stream = self.stream.take().unwrap_or_else(|| take_deflater(self.level));
        let mut payload = Vec::with_capacity(plain.len() / 2 + 64);
        // The library's own window needs no help.
        let forgets = self.window_bytes < 1 << WINDOW_BITS_MAX;
        let mut pieces = plain.chunks(self.window_bytes).peekable();
        while let Some(piece) = pieces.next() {
            let flush = match (pieces.peek(), forgets) {
                (None, false) => FlushCompress::Sync,
                (Some(_), false) => FlushCompress::None,
                (_, true) => FlushCompress::Full,
            };
            deflate(&mut stream, piece, &mut payload, flush);
            bast::yield_point();
        }
        debug_assert!(payload.ends_with(&TAIL), "websocket: a flush ends like this");
        payload.truncate(payload.len() - TAIL.len());
        if self.keeps {
            return Some(Compressed { payload, stream: Some(stream) });
        }
        bast::ensure_stack(STACK_BYTES, || stream.reset());
        DEFLATERS.with(|pool| keep(pool, (self.level, stream)));
        (payload.len() < plain.len()).then_some(Compressed { payload, stream: None })
    }

    /// The client has the message: the next one may refer to it.
    pub(super) fn sent(&mut self, message: Compressed) {
        self.stream = message.stream;
    }
}

fn take_deflater(level: u32) -> Compress {
    let pooled = DEFLATERS.with_borrow_mut(|pool| {
        let at = pool.iter().position(|(of, _)| *of == level)?;
        Some(pool.swap_remove(at).1)
    });
    pooled.unwrap_or_else(|| bast::ensure_stack(STACK_BYTES, || Compress::new(Level::new(level), false)))
}

/// Compresses all of a piece, and flushes.
fn deflate(stream: &mut Compress, mut piece: &[u8], out: &mut Vec<u8>, flush: FlushCompress) {
    loop {
        // A flush that finds its room full would not be known to be over.
        out.reserve(piece.len() / 2 + 64);
        let before = stream.total_in();
        stream.compress_vec(piece, out, flush).expect("websocket: deflate takes any bytes");
        piece = &piece[(stream.total_in() - before) as usize..];
        if piece.is_empty() && out.len() < out.capacity() {
            return;
        }
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("keeps", &self.keeps).finish_non_exhaustive()
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("keeps", &self.keeps).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::{Decoded, Decoder, MessageLimits};
    use super::super::frame::tests::client_frame;
    use super::super::message::Message;
    use super::*;

    const TAKEOVER: Compression = Compression { level: 6, context_takeover: true, bytes_min: 0 };
    const NO_TAKEOVER: Compression = Compression { level: 6, context_takeover: false, bytes_min: 0 };

    fn answer(offer: &str, compression: Compression) -> Option<String> {
        Agreed::of([offer].into_iter(), compression).map(|agreed| agreed.answer())
    }

    fn agreed(offer: &str, compression: Compression) -> Agreed {
        Agreed::of([offer].into_iter(), compression).unwrap()
    }

    #[test]
    fn offers_are_answered_as_the_rfc_says() {
        for (offer, expected) in [
            ("permessage-deflate", "permessage-deflate"),
            ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
            ("permessage-deflate; client_max_window_bits=9", "permessage-deflate"),
            (
                "permessage-deflate;server_no_context_takeover",
                "permessage-deflate; server_no_context_takeover",
            ),
            (
                "permessage-deflate; client_no_context_takeover ;server_max_window_bits=\"12\"",
                "permessage-deflate; client_no_context_takeover; server_max_window_bits=12",
            ),
            ("x-other; a=\"b, permessage-deflate; c\", Permessage-Deflate", "permessage-deflate"),
            (
                "permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=15",
                "permessage-deflate; server_max_window_bits=15",
            ),
        ] {
            assert_eq!(answer(offer, TAKEOVER).as_deref(), Some(expected), "{offer}");
        }
        assert_eq!(
            answer("permessage-deflate", NO_TAKEOVER).as_deref(),
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
        );
    }

    #[test]
    fn offers_that_must_be_declined_are() {
        for offer in [
            "",
            "x-webkit-deflate-frame",
            "permessage-deflate; unknown",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits=8; client_max_window_bits=8",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=11",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=7",
        ] {
            assert_eq!(answer(offer, TAKEOVER), None, "{offer}");
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_inflated() {
        // RFC 7692 §7.2.3: one block; two blocks; no compression; a last block; the second of two messages.
        for payload in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        ] {
            for compression in [TAKEOVER, NO_TAKEOVER] {
                let mut inflater = agreed("permessage-deflate", compression).inflater();
                let mut out = Vec::new();
                payload.chunks(1).for_each(|byte| inflater.push(byte, &mut out, 100).unwrap());
                inflater.finish(&mut out, 100).unwrap();
                assert_eq!(out, b"Hello", "{payload:x?}");
            }
        }
        let mut inflater = agreed("permessage-deflate", TAKEOVER).inflater();
        for payload in [&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], &[0xf2, 0x00, 0x11, 0x00, 0x00]] {
            let mut out = Vec::new();
            inflater.push(payload, &mut out, 100).unwrap();
            inflater.finish(&mut out, 100).unwrap();
            assert_eq!(out, b"Hello");
        }
    }

    /// Bytes that compress somewhat, with repetitions at all distances.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 7u32;
        let word = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("{} ", *state >> 20)
        };
        std::iter::repeat_with(|| word(&mut state)).flat_map(String::into_bytes).take(len).collect()
    }

    #[test]
    fn what_is_deflated_is_inflated_again() {
        for compression in [TAKEOVER, NO_TAKEOVER] {
            for bits in [12, 13, 15] {
                let offer = format!("permessage-deflate; server_max_window_bits={bits}");
                let agreed = agreed(&offer, compression);
                let (mut deflater, mut inflater) = (agreed.deflater(compression), agreed.inflater());
                for len in [0, 1, 100, 4095, 4096, 4097, 5000, 40_000, 200_000, 3] {
                    let plain = sample(len);
                    let Some(compressed) = deflater.compress(&plain) else { continue };
                    let mut out = Vec::new();
                    inflater.push(&compressed.payload, &mut out, len).unwrap();
                    inflater.finish(&mut out, len).unwrap();
                    assert!(out == plain, "{bits} bits, {len} bytes");
                    deflater.sent(compressed);
                }
            }
        }
    }

    #[test]
    fn a_smaller_window_is_kept_to() {
        // The second half repeats the first, 8 KiB before: with a window of 4 KiB it cannot be referred to.
        let half = sample(8192);
        let plain = [&half[..], &half].concat();
        let len = |bits| {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            let compressed = agreed(&offer, TAKEOVER).deflater(TAKEOVER).compress(&plain);
            compressed.unwrap().payload.len()
        };
        assert!(len(15) < len(12) * 3 / 4, "{} and {}", len(15), len(12));
    }

    #[test]
    fn with_takeover_a_message_that_repeats_the_last_is_short() {
        let plain = sample(1000);
        let lens = |compression| {
            let mut deflater = agreed("permessage-deflate", compression).deflater(compression);
            [0; 2].map(|_| {
                let compressed = deflater.compress(&plain).unwrap();
                let len = compressed.payload.len();
                deflater.sent(compressed);
                len
            })
        };
        let [first, second] = lens(TAKEOVER);
        assert!(second < first / 10, "{second} after {first}");
        let [first, second] = lens(NO_TAKEOVER);
        assert_eq!(first, second);
    }

    #[test]
    fn a_message_that_was_not_sent_is_not_referred_to() {
        let agreed = agreed("permessage-deflate", TAKEOVER);
        let (mut deflater, mut inflater) = (agreed.deflater(TAKEOVER), agreed.inflater());
        let plain = sample(1000);
        for sent in [true, false, true, true] {
            let compressed = deflater.compress(&plain).unwrap();
            if !sent {
                continue;
            }
            let mut out = Vec::new();
            inflater.push(&compressed.payload, &mut out, 1000).unwrap();
            inflater.finish(&mut out, 1000).unwrap();
            assert!(out == plain);
            deflater.sent(compressed);
        }
    }

    /// What a compressor of this level makes of the pieces, each ended by `flush`.
    fn pieces(level: u32, pieces: &[&[u8]], flush: FlushCompress) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut stream = Compress::new(Level::new(level), false);
        for piece in pieces {
            deflate(&mut stream, piece, &mut payload, flush);
            if flush == FlushCompress::Finish {
                stream.reset();
            }
        }
        payload
    }

    #[test]
    fn a_message_of_empty_final_blocks_is_refused_at_the_first_too_many() {
        let payload = [0x03, 0x00].repeat(500);
        let limits = MessageLimits { bytes_max: 1 << 20, fragments_max: 10 };
        for compression in [TAKEOVER, NO_TAKEOVER] {
            let inflater = agreed("permessage-deflate", compression).inflater();
            let mut decoder = Decoder::new(limits, Some(inflater));
            // The message is not whole, and refused all the same.
            let frame = client_frame(0x42, &payload);
            let violation = decoder.decode(&mut &frame[..]).unwrap_err();
            assert_eq!(violation, Violation::protocol("a compressed message of too many final blocks"));
            let inflater = decoder.into_inflater().unwrap();
            assert_eq!(inflater.final_blocks, FINAL_BLOCKS_MAX + 1, "no more were worked on");
        }
    }

    #[test]
    fn final_blocks_are_counted_for_each_message_alone() {
        let mut inflater = agreed("permessage-deflate", NO_TAKEOVER).inflater();
        let payload = [&[0x03, 0x00].repeat(FINAL_BLOCKS_MAX)[..], &[0x00]].concat();
        for _ in 0..3 {
            let mut out = Vec::new();
            inflater.push(&payload, &mut out, 100).unwrap();
            inflater.finish(&mut out, 100).unwrap();
            assert_eq!(out, b"");
        }
    }

    #[test]
    fn what_honest_compressors_make_is_inflated() {
        let plain = sample(100_000);
        let parts: Vec<&[u8]> = plain.chunks(plain.len() / FINAL_BLOCKS_MAX + 1).collect();
        for level in 0..=9 {
            // One flush at the end, several on the way, and blocks that say they are the last with the byte that
            // RFC 7692 §7.2.3.4 puts behind them.
            let mut synced = pieces(level, &parts, FlushCompress::Sync);
            synced.truncate(synced.len() - TAIL.len());
            let mut whole = pieces(level, &[&plain], FlushCompress::Sync);
            whole.truncate(whole.len() - TAIL.len());
            let mut finished = pieces(level, &parts, FlushCompress::Finish);
            finished.push(0x00);
            for payload in [synced, whole, finished] {
                for compression in [TAKEOVER, NO_TAKEOVER] {
                    let mut inflater = agreed("permessage-deflate", compression).inflater();
                    let mut out = Vec::new();
                    inflater.push(&payload, &mut out, plain.len()).unwrap();
                    inflater.finish(&mut out, plain.len()).unwrap();
                    assert!(out == plain, "level {level}");
                }
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_long_before_it_is_inflated() {
        let bomb =
            agreed("permessage-deflate", NO_TAKEOVER).deflater(NO_TAKEOVER).compress(&vec![0; 1 << 20]);
        let bomb = bomb.unwrap().payload;
        let limits = MessageLimits { bytes_max: 10_000, fragments_max: 10 };
        assert!(bomb.len() < limits.bytes_max);
        let inflater = agreed("permessage-deflate", NO_TAKEOVER).inflater();
        let mut decoder = Decoder::new(limits, Some(inflater));
        let violation = decoder.decode(&mut &client_frame(0xc2, &bomb)[..]).unwrap_err();
        assert_eq!(violation.code, CloseCode::MESSAGE_TOO_BIG);
    }

    #[test]
    fn what_is_not_deflate_is_refused() {
        for payload in [&[0xff; 20][..], &[0x07], &[0x00, 0x05, 0x00, 0x00, 0x00]] {
            let mut inflater = agreed("permessage-deflate", NO_TAKEOVER).inflater();
            let mut out = Vec::new();
            let result = inflater.push(payload, &mut out, 100).and_then(|()| inflater.finish(&mut out, 100));
            assert_eq!(
                result.map_err(|violation| violation.code),
                Err(CloseCode::INVALID_PAYLOAD),
                "{payload:x?}"
            );
        }
    }

    #[test]
    fn a_compressed_message_in_fragments_is_put_together_wherever_it_is_cut() {
        let plain = String::from_utf8(sample(600)).unwrap();
        let agreed = agreed("permessage-deflate", TAKEOVER);
        let compressed = agreed.deflater(TAKEOVER).compress(plain.as_bytes()).unwrap().payload;
        let (first, second) = compressed.split_at(compressed.len() / 3);
        let bytes = [
            client_frame(0x41, first),
            client_frame(0x89, b""),
            client_frame(0x80, second),
            client_frame(0x81, b"plain"),
        ]
        .concat();
        for cut in 0..bytes.len() {
            let limits = MessageLimits { bytes_max: 1000, fragments_max: 10 };
            let mut decoder = Decoder::new(limits, Some(agreed.inflater()));
            let mut messages = Vec::new();
            for mut part in [&bytes[..cut], &bytes[cut..]] {
                while let Some(decoded) = decoder.decode(&mut part).unwrap() {
                    messages.push(decoded);
                }
            }
            let text = |text: &str| Decoded::Message(Message::Text(text.to_owned()));
            assert_eq!(messages, [Decoded::Ping(vec![]), text(&plain), text("plain")], "cut at {cut}");
        }
        let mut decoder =
            Decoder::new(MessageLimits { bytes_max: 1000, fragments_max: 10 }, Some(agreed.inflater()));
        let twice = [client_frame(0x41, first), client_frame(0xc0, second)].concat();
        let violation = decoder.decode(&mut &twice[..]).unwrap_err();
        assert_eq!(violation, Violation::protocol("a reserved bit is set"), "on a continuation");
    }
}
