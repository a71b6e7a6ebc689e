//! Gzip bodies joined from parts that were compressed beforehand and text that is new: no compression while a request waits.
//!
//! ```text
//!  member header │ fragment │ stored literal │ fragment │ … │ empty last block │ CRC-32, length
//!    10 bytes      deflate,    5 bytes ahead                   2 bytes            8 bytes
//!                  on a byte boundary
//! ```
//! Most bytes of a page are the same each time. A [`Fragment`] is compressed once, by itself, and ended by a full flush
//! (RFC 1951 §3.2.4: an empty stored block), so that it ends on a byte boundary and refers to nothing before it. So deflate
//! data may be joined from fragments by copying. What is new goes between them in stored blocks. The CRC-32 of the whole follows
//! from those of the parts: appending n bytes multiplies by x^(8n) in GF(2), and that factor is part of a
//! fragment, too.
//!
//! Rejected: Huffman blocks with the fixed code for the literals. A letter has 8 bits there as well, and to return to a byte
//! boundary the same empty block is needed that a stored block costs; without matches nothing is won. Patching distances so that
//! fragments refer to each other would save some bytes of repeated fragments, and cost a rewrite of each on
//! the way out.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Write as _};
use std::sync::Arc;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::coding::{Accepted, CODER_STACK_BYTES, Choice, Coding};
use crate::http1::stream::BodyWriter;
use crate::middleware::add_vary;
use crate::presence::{Gone, Presence};
use crate::request::Request;
use crate::response::Response;

/// A part of pages, compressed once. Clones share it.
///
/// ```
/// use bast_server::gzip::{Composer, Fragment};
/// use bast_server::{Request, Response};
/// use std::sync::LazyLock;
///
/// static HEAD: LazyLock<Fragment> = LazyLock::new(|| Fragment::new("<!DOCTYPE html><title>Chat</title><p>Hello, "));
/// static TAIL: LazyLock<Fragment> = LazyLock::new(|| Fragment::new("</p>"));
///
/// fn page(request: &mut Request) -> Response {
///     let mut page = Composer::for_request(request);
///     page.fragment(&HEAD).literal("Ada").fragment(&TAIL);
///     page.into_response("text/html; charset=utf-8")
/// }
/// # let _ = page;
/// ```
#[derive(Clone)]
pub struct Fragment {
    parts: Arc<Parts>,
}

struct Parts {
    plain: Box<[u8]>,
    /// Whole deflate blocks, none of them the last, that end on a byte boundary and refer to nothing before them.
    deflated: Box<[u8]>,
    crc: u32,
    /// What a checksum is multiplied by where this is appended.
    shift: u32,
}

impl Fragment {
    /// Compresses the bytes, as well as it can: it is done once.
    #[must_use]
    pub fn new(bytes: impl AsRef<[u8]>) -> Fragment {
        let plain = bytes.as_ref();
        let mut crc = Crc::new();
        crc.update(plain);
        let parts = Parts {
            plain: plain.into(),
            deflated: bast::ensure_stack(CODER_STACK_BYTES, || deflate(plain)).into(),
            crc: crc.sum(),
            shift: shift_of(plain.len()),
        };
        Fragment { parts: Arc::new(parts) }
    }

    /// The bytes as they were given.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.parts.plain
    }
}

impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fragment")
            .field("bytes", &self.parts.plain.len())
            .field("deflated_bytes", &self.parts.deflated.len())
            .finish()
    }
}

/// Deflates up to a full flush.
fn deflate(plain: &[u8]) -> Vec<u8> {
    if plain.is_empty() {
        return Vec::new();
    }
    let mut compress = Compress::new(Compression::best(), false);
    let mut out = Vec::with_capacity(plain.len() / 2 + 64);
    loop {
        let taken = usize::try_from(compress.total_in()).expect("gzip: more taken than given");
        let status = compress.compress_vec(&plain[taken..], &mut out, FlushCompress::Full);
        assert!(matches!(status, Ok(Status::Ok | Status::BufError)), "gzip: compressing in memory failed");
        // Room that is left means that the flush has come to its end.
        if out.len() < out.capacity() {
            break;
        }
        out.reserve(out.capacity());
    }
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]), "gzip: a fragment does not end with a flush");
    out
}

/// A body that is joined from fragments and literals, compressed or not, as the client takes it.
#[derive(Debug)]
pub struct Composer {
    out: Vec<u8>,
    /// `None` where the body goes out as it is.
    gzip: Option<Checksum>,
    /// The choice was the request's.
    varies: bool,
}

#[derive(Clone, Copy, Debug)]
struct Checksum {
    crc: u32,
    /// Modulo 2³², as the trailer has it.
    len: u32,
}

/// The fixed fields of a member (RFC 1952 §2.3): deflate, no flags, no time, best compression, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];

/// A last block with the fixed code and nothing in it.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// What the length of a stored block can say.
const STORED_BYTES_MAX: usize = 0xffff;

impl Composer {
    /// A body that is compressed if the client takes gzip (RFC 9110 §12.5.3).
    #[must_use]
    pub fn for_request(request: &Request<'_>) -> Composer {
        let choice = Accepted::from_fields(request.headers()).choose([Coding::Gzip]);
        let composer =
            if choice == Choice::Coding(Coding::Gzip) { Composer::gzip() } else { Composer::identity() };
        Composer { varies: true, ..composer }
    }

    /// A body that is compressed.
    #[must_use]
    pub fn gzip() -> Composer {
        Composer { out: HEADER.to_vec(), gzip: Some(Checksum { crc: 0, len: 0 }), varies: false }
    }

    /// A body that is not.
    #[must_use]
    pub fn identity() -> Composer {
        Composer { out: Vec::new(), gzip: None, varies: false }
    }

    /// Appends a fragment.
    pub fn fragment(&mut self, fragment: &Fragment) -> &mut Composer {
        let parts = &*fragment.parts;
        match &mut self.gzip {
            None => self.out.extend_from_slice(&parts.plain),
            Some(sum) => {
                self.out.extend_from_slice(&parts.deflated);
                sum.append(parts.crc, parts.shift, parts.plain.len());
            }
        }
        self
    }

    /// Appends bytes that are new: 5 bytes longer than they are, for each 64 KiB. What is long and compresses well is
    /// better a [`Fragment`] of its own.
    pub fn literal(&mut self, bytes: impl AsRef<[u8]>) -> &mut Composer {
        let bytes = bytes.as_ref();
        let Some(sum) = &mut self.gzip else {
            self.out.extend_from_slice(bytes);
            return self;
        };
        for block in bytes.chunks(STORED_BYTES_MAX) {
            // RFC 1951 §3.2.4: not the last, stored, up to the byte boundary where we are; length, and its complement.
            let len = u16::try_from(block.len()).expect("gzip: a block longer than it may be");
            self.out.push(0);
            self.out.extend_from_slice(&len.to_le_bytes());
            self.out.extend_from_slice(&(!len).to_le_bytes());
            self.out.extend_from_slice(block);
        }
        let mut crc = Crc::new();
        crc.update(bytes);
        sum.append(crc.sum(), shift_of(bytes.len()), bytes.len());
        self
    }

    /// The body.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        if let Some(sum) = self.gzip {
            self.out.extend_from_slice(&LAST_BLOCK);
            self.out.extend_from_slice(&sum.crc.to_le_bytes());
            self.out.extend_from_slice(&sum.len.to_le_bytes());
        }
        self.out
    }

    /// A `200 OK` with the body, which says how it is coded.
    #[must_use]
    pub fn into_response(self, content_type: impl AsRef<str>) -> Response {
        let (is_gzip, varies) = (self.gzip.is_some(), self.varies);
        described(Response::bytes(content_type.as_ref().to_owned(), self.finish()), is_gzip, varies)
    }

    /// A `200 OK` whose body goes on while it is sent: `produce` appends, and [sends](Composing::send) what there is. A client
    /// can make text of each part at once. One fragment for an event that thousands hear is compressed once:
    ///
    /// ```
    /// use bast::Select;
    /// use bast::sync::broadcast;
    /// use bast_server::gzip::{Composer, Fragment};
    /// use bast_server::{Request, Response};
    ///
    /// fn listen(request: &Request, mut said: broadcast::Receiver<Fragment>) -> Response {
    ///     Composer::for_request(request).into_stream("text/plain", move |stream| {
    ///         while let Ok(line) = stream.presence().wait(Select::new().broadcast(&mut said, |line| line))? {
    ///             stream.composer().fragment(&line);
    ///             stream.send()?;
    ///         }
    ///         Ok(())
    ///     })
    /// }
    /// # let _ = listen;
    /// ```
    /// Where `produce` returns, the body is ended, and so it is where it returns the error that a [`Presence`] gives it because
    /// the client is gone or the server shuts down; any other error breaks the connection off.
    #[must_use]
    pub fn into_stream(
        self,
        content_type: impl AsRef<str>,
        produce: impl FnOnce(&mut Composing<'_, '_>) -> io::Result<()> + 'static,
    ) -> Response {
        let (is_gzip, varies) = (self.gzip.is_some(), self.varies);
        let response = Response::stream(content_type, move |body| {
            let mut composing = Composing { composer: self, body };
            match produce(&mut composing) {
                Err(error) if !Gone::is_in(&error) => return Err(error),
                _ => {}
            }
            composing.body.write_all(&composing.composer.finish())
        });
        described(response, is_gzip, varies)
    }
}

/// Says how a body is coded, and whether that was the request's choice.
fn described(response: Response, is_gzip: bool, varies: bool) -> Response {
    let response = if varies { add_vary(response, "Accept-Encoding") } else { response };
    if is_gzip { response.with_header("Content-Encoding", Coding::Gzip.name()) } else { response }
}

/// A body that is composed while it is sent.
#[derive(Debug)]
pub struct Composing<'c, 'w> {
    composer: Composer,
    body: &'c mut BodyWriter<'w>,
}

impl Composing<'_, '_> {
    /// What the next parts are appended to. They are kept until they are [sent](Composing::send).
    pub fn composer(&mut self) -> &mut Composer {
        &mut self.composer
    }

    /// Sends what was appended.
    ///
    /// # Errors
    /// Those of the connection: to be passed on by `?`.
    ///
    /// # Cancellation
    /// Interruptible while it waits for the client.
    pub fn send(&mut self) -> io::Result<()> {
        self.body.write_all(&self.composer.out)?;
        self.composer.out.clear();
        self.body.flush()
    }

    /// The client, as long as it stays: to wait for what comes next.
    #[must_use]
    pub fn presence(&self) -> Presence<'_> {
        Presence::new(self.body.wire())
    }
}

impl Checksum {
    /// The checksum of what was before and `len` bytes with the checksum `crc`.
    fn append(&mut self, crc: u32, shift: u32, len: usize) {
        self.crc = multiply(shift, self.crc) ^ crc;
        // Truncation is meant: the trailer has the length modulo 2³².
        self.len = self.len.wrapping_add(len as u32);
    }
}

/// The polynomial of CRC-32 (RFC 1952 §8): the bit of x⁰ is the highest one.
const POLYNOMIAL: u32 = 0xEDB8_8320;
const X_0: u32 = 1 << 31;

/// The product of two polynomials modulo [`POLYNOMIAL`].
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = X_0;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 0 { b >> 1 } else { b >> 1 ^ POLYNOMIAL };
        bit >>= 1;
    }
    product
}

/// x^(8·2^k) for each bit k of a length in bytes.
const POWERS: [u32; 64] = {
    let mut powers = [X_0 >> 8; 64];
    let mut k = 1;
    while k < 64 {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// x^(8·len): what a checksum is multiplied by where so many bytes follow.
fn shift_of(len: usize) -> u32 {
    let mut shift = X_0;
    let mut left = len;
    while left != 0 {
        shift = multiply(POWERS[left.trailing_zeros() as usize], shift);
        left &= left - 1;
    }
    shift
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    /// What a decoder other than ours makes of it: it checks the blocks, the checksum and the length.
    fn decode(body: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(body);
        decoder.read_to_end(&mut plain).expect("a valid member");
        assert!(decoder.into_inner().is_empty(), "nothing is behind the member");
        plain
    }

    /// Bytes that look random and are the same each time (Knuth's MMIX constants).
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn a_member_without_parts_is_empty() {
        assert_eq!(decode(&Composer::gzip().finish()), b"");
        let mut empty = Composer::gzip();
        empty.fragment(&Fragment::new("")).literal("").fragment(&Fragment::new(""));
        assert_eq!(decode(&empty.finish()), b"");
    }

    #[test]
    fn fragments_end_on_byte_boundaries_whatever_their_length_is() {
        // The last block of each ends at another bit; any error of alignment breaks what follows.
        for len in 0..300 {
            for text in [
                vec![b'a'; len],
                b"<li>some text</li>".iter().copied().cycle().take(len).collect(),
                noise(7, len),
            ] {
                let fragment = Fragment::new(&text);
                let mut body = Composer::gzip();
                body.literal("before")
                    .fragment(&fragment)
                    .literal("between")
                    .fragment(&fragment)
                    .fragment(&fragment);
                let expected = [b"before", &text[..], b"between", &text, &text].concat();
                assert_eq!(decode(&body.finish()), expected, "{len}");
            }
        }
    }

    #[test]
    fn literals_of_any_length_are_whole() {
        for len in [0, 1, 255, 256, 65_534, 65_535, 65_536, 65_537, 131_070, 131_071, 300_000] {
            let literal = noise(len as u64, len);
            let mut body = Composer::gzip();
            body.literal(&literal).fragment(&Fragment::new("end"));
            assert_eq!(decode(&body.finish()), [&literal[..], b"end"].concat(), "{len}");
        }
    }

    #[test]
    fn parts_in_any_order_decompress_to_their_text() {
        let sizes = [0, 1, 2, 3, 15, 16, 17, 100, 1000, 5000, 40_000, 70_000];
        let texts: Vec<Vec<u8>> = sizes
            .iter()
            .map(|&size| {
                // Half noise, half repetition.
                let mut text = noise(size as u64, size / 2);
                text.extend(b"repeated ".iter().cycle().take(size - size / 2));
                text
            })
            .collect();
        let fragments: Vec<Fragment> = texts.iter().map(Fragment::new).collect();
        for round in 0..200 {
            let choices = noise(round, 2 + round as usize % 12);
            let (mut gzip, mut identity, mut expected) = (Composer::gzip(), Composer::identity(), Vec::new());
            for choice in choices {
                let index = usize::from(choice >> 1) % texts.len();
                expected.extend_from_slice(&texts[index]);
                for composer in [&mut gzip, &mut identity] {
                    if choice & 1 == 0 {
                        composer.fragment(&fragments[index]);
                    } else {
                        composer.literal(&texts[index]);
                    }
                }
            }
            assert_eq!(decode(&gzip.finish()), expected, "round {round}");
            assert_eq!(identity.finish(), expected, "round {round}");
        }
    }

    #[test]
    fn a_checksum_that_is_wrong_would_be_noticed() {
        let mut body = Composer::gzip();
        body.fragment(&Fragment::new("text")).literal("more");
        let mut body = body.finish();
        let at = body.len() - 8;
        body[at] ^= 1;
        assert!(GzDecoder::new(&body[..]).read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn checksums_combine_as_if_all_had_been_read() {
        let text = noise(1, 10_000);
        let crc = |bytes: &[u8]| {
            let mut crc = Crc::new();
            crc.update(bytes);
            crc.sum()
        };
        for at in [0, 1, 2, 7, 255, 256, 4096, 9_999, 10_000] {
            let (a, b) = text.split_at(at);
            let mut sum = Checksum { crc: crc(a), len: 0 };
            sum.append(crc(b), shift_of(b.len()), b.len());
            assert_eq!(sum.crc, crc(&text), "{at}");
        }
    }

    #[test]
    fn a_fragment_is_smaller_than_its_text() {
        let text = "<tr><td class=\"name\">somebody</td><td class=\"number\">7</td></tr>\n".repeat(50);
        let fragment = Fragment::new(&text);
        assert!(fragment.parts.deflated.len() * 10 < text.len(), "{fragment:?}");
        assert_eq!(fragment.as_bytes(), text.as_bytes());
    }

    #[test]
    fn a_fragment_can_be_made_on_a_green_thread() {
        let fragment = bast::run(|| Fragment::new(noise(3, 100_000)));
        let mut body = Composer::gzip();
        body.fragment(&fragment);
        assert_eq!(decode(&body.finish()), noise(3, 100_000));
    }

    #[test]
    fn what_is_composed_while_it_is_sent_is_one_member_and_ends_quietly_when_the_client_goes() {
        use crate::testing::TestClient;
        /// How a producer ends.
        type End = fn() -> io::Result<()>;
        let ends: [(End, bool); 3] = [
            (|| Ok(()), true),
            (|| Err(Gone::Draining.into()), true),
            (|| Err(io::ErrorKind::InvalidData.into()), false),
        ];
        for (end, is_whole) in ends {
            let client = TestClient::new(move |request: &mut Request<'_>| {
                let mut composer = Composer::for_request(request);
                composer.literal("begin ");
                composer.into_stream("text/plain", move |stream| {
                    for number in 0..3 {
                        stream.composer().fragment(&Fragment::new("and on ")).literal(format!("{number} "));
                        stream.send()?;
                    }
                    stream.composer().literal("end");
                    end()
                })
            });
            let text = "begin and on 0 and on 1 and on 2 end";
            let gzip = client.get("/").header("Accept-Encoding", "gzip").try_send();
            let plain = client.get("/").try_send();
            assert_eq!((gzip.is_ok(), plain.is_ok()), (is_whole, is_whole));
            if let (Ok(gzip), Ok(plain)) = (gzip, plain) {
                assert_eq!(gzip.header("Content-Encoding"), Some("gzip"));
                assert_eq!((decode(gzip.body()), plain.text()), (text.as_bytes().to_vec(), text));
            }
        }
    }

    #[test]
    fn the_client_decides_whether_it_is_compressed() {
        use crate::middleware::tests::{ask, field};
        let page = |request: &mut Request<'_>| {
            let mut page = Composer::for_request(request);
            page.fragment(&Fragment::new("<p>")).literal("x");
            page.into_response("text/html")
        };
        for (accepts, coding) in
            [("gzip", Some("gzip")), ("gzip;q=0", None), ("br", None), ("*", Some("gzip"))]
        {
            let output =
                ask(page, &format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accepts}\r\n\r\n"));
            assert_eq!(field(&output, "Content-Encoding"), coding, "{accepts}");
            assert_eq!(field(&output, "Vary"), Some("Accept-Encoding"));
            assert_eq!(output.ends_with("\r\n\r\n<p>x"), coding.is_none());
        }
    }
}
