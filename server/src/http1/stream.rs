//! Response bodies that are written while they are sent.
//!
//! The writer gathers into the connection's output buffer. That is sent when it is full, on `flush`, and before the
//! thread parks (Note [held output] in `wire.rs`), so each piece is on its way before the producer waits for the next.
//! A piece that alone would fill the buffer is not copied: it is sent from the caller's memory, with what is held before it.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice};
use std::mem;

use crate::class::{is_field_value, is_token};
use crate::coding::DIGESTS;
use crate::http1::encode::{self, CHUNK_BYTES_MAX, LAST_CHUNK, Length};
use crate::http1::trailers;
use crate::http1::wire::{HELD_BYTES_MAX, Wire};

// A chunk is closed by each flush, and a flush comes before the buffer holds more than this.
const _: () = assert!(HELD_BYTES_MAX <= CHUNK_BYTES_MAX);

/// Where a streamed response body is written to; see [`Response::stream`](crate::Response::stream).
///
/// Writes may wait for the client. One that is interrupted while it waits ([`bast::timeout`]), or fails, may have sent a part: the
/// body cannot be continued then, all later writes fail, and the response is broken off. The same goes for one that is interrupted
/// or fails within a content coding ([`Compress`](crate::middleware::Compress)). A `flush` that is interrupted loses nothing.
pub struct BodyWriter<'w> {
    wire: &'w Wire,
    framing: Framing,
    /// The lines to send behind the body, where the client wants any.
    trailers: Option<String>,
    coding: Coding,
}

/// Whether what is written is sent as it is.
enum Coding {
    Plain,
    /// It goes through this first.
    Coded(Box<dyn Encode>),
    /// A write or the encoder failed, or was interrupted. What came of that is unknown, so nothing can follow: neither content as
    /// it is nor the end.
    Broken,
}

fn broken_off() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "an earlier write of this body was broken off")
}

/// A content coding at work: takes plain bytes, and leaves coded ones in its output.
pub(crate) trait Encode {
    /// Takes all of the bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the output such that all that was written can be decoded from it.
    fn flush(&mut self) -> io::Result<()>;

    /// Ends the content.
    fn finish(&mut self) -> io::Result<()>;

    /// What is to be sent; whoever sends it empties it.
    fn output(&mut self) -> &mut Vec<u8>;
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    /// So many bytes are still owed.
    Sized(u64),
    Chunked,
    UntilClose,
}

impl<'w> BodyWriter<'w> {
    /// The writer of a body whose length the head announced like this; `None` where it announced no body.
    pub(crate) fn new(wire: &'w Wire, length: Length, wants_trailers: bool) -> Option<BodyWriter<'w>> {
        let framing = match length {
            Length::Absent => return None,
            Length::Sized(length) => Framing::Sized(length),
            Length::Chunked => Framing::Chunked,
            Length::UntilClose => Framing::UntilClose,
        };
        let trailers = (wants_trailers && length == Length::Chunked).then(String::new);
        Some(BodyWriter { wire, framing, trailers, coding: Coding::Plain })
    }

    /// Adds a field that is sent behind the body: a checksum or a signature, say, that is known only when all was written
    /// (RFC 9110 §6.5).
    ///
    /// It is sent only to a client that said `TE: trailers`, in a chunked response; else it is dropped without a word, as
    /// anybody on the way may drop it, too. So is a digest (`Repr-Digest` and its kin) of content that goes through a content coding,
    /// because it is that of other bytes. The names are best announced by
    /// [`with_header("Trailer", …)`](crate::Response::with_header).
    ///
    /// ```
    /// use bast_server::Response;
    /// use std::io::Write;
    /// let response = Response::stream("text/plain", |body| {
    ///     body.write_all(b"123456789")?;
    ///     body.add_trailer("X-Sum", "45")
    /// });
    /// let response = response.with_header("Trailer", "X-Sum");
    /// # let _ = response;
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a name that is no token, a value that could end the line, and a field that means something only ahead
    /// of the body: those of framing, routing, authentication, caching and content (RFC 9110 §6.5.1).
    pub fn add_trailer(&mut self, name: &str, value: &str) -> io::Result<()> {
        if !is_token(name.as_bytes())
            || !is_field_value(value.as_bytes())
            || !trailers::is_allowed(name.as_bytes())
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this field cannot be a trailer"));
        }
        let is_of_plain_content = !matches!(self.coding, Coding::Plain)
            && DIGESTS.iter().any(|digest| name.eq_ignore_ascii_case(digest));
        if let Some(lines) = self.trailers.as_mut().filter(|_| !is_of_plain_content) {
            [name, ": ", value, "\r\n"].into_iter().for_each(|part| lines.push_str(part));
        }
        Ok(())
    }

    /// Sends what is written from now on through a content coding, up to [`end_encoding`](BodyWriter::end_encoding).
    #[cfg_attr(not(feature = "gzip"), expect(dead_code, reason = "no coding is there"))]
    pub(crate) fn encode_by(&mut self, encoder: Box<dyn Encode>) {
        self.coding = Coding::Coded(encoder);
    }

    /// Ends the coded content, and sends the rest of it.
    ///
    /// # Errors
    /// Those of the encoder and of writing, and `BrokenPipe` where there was one before.
    #[cfg_attr(not(feature = "gzip"), expect(dead_code, reason = "no coding is there"))]
    pub(crate) fn end_encoding(&mut self) -> io::Result<()> {
        if let Some(mut encoder) = self.take_encoder()? {
            encoder.finish()?;
            self.send_output(&mut *encoder)?;
        }
        self.coding = Coding::Plain;
        Ok(())
    }

    /// Takes the encoder, if there is to be one. Without it the body is broken until it is put back, so that it stays so when
    /// the work ends by an unwind or an error, whoever catches that.
    fn take_encoder(&mut self) -> io::Result<Option<Box<dyn Encode>>> {
        match mem::replace(&mut self.coding, Coding::Broken) {
            Coding::Plain => {
                self.coding = Coding::Plain;
                Ok(None)
            }
            Coding::Coded(encoder) => Ok(Some(encoder)),
            Coding::Broken => Err(broken_off()),
        }
    }

    /// Lets the encoder work, and sends what it has for it.
    #[inline(never)]
    fn encode(
        &mut self,
        mut encoder: Box<dyn Encode>,
        work: impl FnOnce(&mut dyn Encode) -> io::Result<()>,
    ) -> io::Result<()> {
        work(&mut *encoder)?;
        self.send_output(&mut *encoder)?;
        self.coding = Coding::Coded(encoder);
        Ok(())
    }

    fn send_output(&mut self, encoder: &mut dyn Encode) -> io::Result<()> {
        let output = encoder.output();
        let mut rest = &output[..];
        while !rest.is_empty() {
            let count = self.write_plain(rest)?;
            rest = &rest[count..];
        }
        output.clear();
        Ok(())
    }

    pub(crate) fn wire(&self) -> &'w Wire {
        self.wire
    }

    /// Ends the body.
    ///
    /// # Errors
    /// `UnexpectedEof` where less was written than announced, `BrokenPipe` where a write was broken off: the connection cannot be
    /// used any more.
    pub(crate) fn finish(self) -> io::Result<()> {
        if matches!(self.coding, Coding::Broken) {
            return Err(broken_off());
        }
        match self.framing {
            Framing::UntilClose | Framing::Sized(0) => {}
            Framing::Sized(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Framing::Chunked => {
                let mut output = self.wire.output();
                output.close_chunk();
                output.bytes.extend_from_slice(LAST_CHUNK);
                if let Some(lines) = &self.trailers {
                    output.bytes.extend_from_slice(lines.as_bytes());
                }
                output.bytes.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    /// How many of `count` bytes still belong to the body.
    fn owed(&self, count: usize) -> io::Result<usize> {
        match self.framing {
            Framing::Sized(0) => {
                Err(io::Error::new(io::ErrorKind::WriteZero, "response body beyond its length"))
            }
            Framing::Sized(left) => Ok(count.min(usize::try_from(left).unwrap_or(usize::MAX))),
            Framing::Chunked | Framing::UntilClose => Ok(count),
        }
    }

    /// So many bytes were written.
    fn paid(&mut self, count: usize) {
        if let Framing::Sized(left) = &mut self.framing {
            *left -= count as u64;
        }
    }

    /// Sends what is held in the midst of a write. The wire could go on where that was interrupted, but whoever called
    /// `write_all` does not know how much of his bytes was taken: what he wrote next would come behind a gap.
    #[inline(never)]
    fn flush_within(&mut self) -> io::Result<()> {
        let coding = mem::replace(&mut self.coding, Coding::Broken);
        self.wire.flush()?;
        self.coding = coding;
        Ok(())
    }

    /// Copies what fits behind what is held.
    fn gather(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.wire.held() >= HELD_BYTES_MAX {
            self.flush_within()?;
        }
        let mut output = self.wire.output();
        let room = HELD_BYTES_MAX - output.bytes.len();
        let count = bytes.len().min(room);
        if matches!(self.framing, Framing::Chunked) {
            output.open_chunk();
        }
        output.bytes.extend_from_slice(&bytes[..count]);
        drop(output);
        self.paid(count);
        Ok(count)
    }

    /// Sends what is held, and these parts as they are, `count` bytes together: in a chunk of their own.
    fn pass<'p>(&mut self, parts: impl Iterator<Item = &'p [u8]>, count: usize) -> io::Result<usize> {
        if matches!(self.framing, Framing::Chunked) {
            let mut output = self.wire.output();
            output.close_chunk();
            encode::push_chunk_size(count as u64, &mut output.bytes);
            drop(output);
            self.wire.flush_with(parts.chain([&b"\r\n"[..]]))?;
        } else {
            self.wire.flush_with(parts)?;
        }
        self.paid(count);
        Ok(count)
    }
}

impl BodyWriter<'_> {
    fn write_plain(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let bytes = &bytes[..self.owed(bytes.len())?];
        if bytes.len() < HELD_BYTES_MAX {
            self.gather(bytes)
        } else {
            self.pass([bytes].into_iter(), bytes.len())
        }
    }
}

impl io::Write for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.take_encoder()? {
            None => self.write_plain(bytes),
            Some(encoder) => self.encode(encoder, |encoder| encoder.write(bytes)).map(|()| bytes.len()),
        }
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if !matches!(self.coding, Coding::Plain) {
            let first = parts.iter().find(|part| !part.is_empty());
            return first.map_or(Ok(0), |part| self.write(part));
        }
        let count = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
        if count >= HELD_BYTES_MAX && self.owed(count)? == count {
            return self.pass(parts.iter().map(|part| &**part), count);
        }
        let mut written = 0;
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let owed = match self.owed(part.len()) {
                Ok(owed) => owed,
                // The next call says so.
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            };
            let count = self.gather(&part[..owed])?;
            written += count;
            if count < part.len() {
                break;
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(encoder) = self.take_encoder()? {
            self.encode(encoder, |encoder| encoder.flush())?;
        }
        self.wire.flush()
    }
}

impl fmt::Debug for BodyWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter").field("framing", &self.framing).finish_non_exhaustive()
    }
}
