//! Response bodies that are written while they are sent.
//!
//! The writer gathers into the connection's output buffer. That is sent when it is full, on `flush`, and before the
//! thread parks (Note [held output] in `wire.rs`), so each piece is on its way before the producer waits for the next.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::http1::encode::{CHUNK_BYTES_MAX, LAST_CHUNK, Length};
use crate::http1::wire::{HELD_BYTES_MAX, Wire};

// A chunk is closed by each flush, and a flush comes before the buffer holds more than this.
const _: () = assert!(HELD_BYTES_MAX <= CHUNK_BYTES_MAX);

/// Where a streamed response body is written to; see [`Response::stream`](crate::Response::stream).
pub struct BodyWriter<'w> {
    wire: &'w Wire,
    framing: Framing,
    /// What is written goes through this first.
    encoder: Option<Box<dyn Encode>>,
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
    pub(crate) fn new(wire: &'w Wire, length: Length) -> Option<BodyWriter<'w>> {
        let framing = match length {
            Length::Absent => return None,
            Length::Sized(length) => Framing::Sized(length),
            Length::Chunked => Framing::Chunked,
            Length::UntilClose => Framing::UntilClose,
        };
        Some(BodyWriter { wire, framing, encoder: None })
    }

    /// Sends what is written from now on through a content coding, up to [`end_encoding`](BodyWriter::end_encoding).
    #[cfg_attr(not(feature = "gzip"), expect(dead_code, reason = "no coding is there"))]
    pub(crate) fn encode_by(&mut self, encoder: Box<dyn Encode>) {
        self.encoder = Some(encoder);
    }

    /// Ends the coded content, and sends the rest of it.
    #[cfg_attr(not(feature = "gzip"), expect(dead_code, reason = "no coding is there"))]
    pub(crate) fn end_encoding(&mut self) -> io::Result<()> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(()) };
        encoder.finish()?;
        self.send_output(&mut *encoder)
    }

    /// Lets the encoder work, and sends what it has for it. After a failure there is none any more: nothing would make sense.
    #[inline(never)]
    fn encode(
        &mut self,
        mut encoder: Box<dyn Encode>,
        work: impl FnOnce(&mut dyn Encode) -> io::Result<()>,
    ) -> io::Result<()> {
        work(&mut *encoder)?;
        self.send_output(&mut *encoder)?;
        self.encoder = Some(encoder);
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

    /// Ends the body.
    ///
    /// # Errors
    /// `UnexpectedEof` where less was written than announced: the connection cannot be used any more.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self.framing {
            Framing::UntilClose | Framing::Sized(0) => {}
            Framing::Sized(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Framing::Chunked => {
                let mut output = self.wire.output();
                output.close_chunk();
                output.bytes.extend_from_slice(LAST_CHUNK);
            }
        }
        Ok(())
    }
}

impl BodyWriter<'_> {
    fn write_plain(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.wire.held() >= HELD_BYTES_MAX {
            self.wire.flush()?;
        }
        let mut output = self.wire.output();
        let room = HELD_BYTES_MAX - output.bytes.len();
        let mut count = bytes.len().min(room);
        match &mut self.framing {
            Framing::Sized(0) => {
                return Err(io::Error::new(io::ErrorKind::WriteZero, "response body beyond its length"));
            }
            Framing::Sized(left) => {
                count = count.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
            }
            Framing::Chunked => output.open_chunk(),
            Framing::UntilClose => {}
        }
        output.bytes.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

impl io::Write for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.encoder.take() {
            None => self.write_plain(bytes),
            Some(encoder) => self.encode(encoder, |encoder| encoder.write(bytes)).map(|()| bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(encoder) = self.encoder.take() {
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
