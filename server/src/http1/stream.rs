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
        Some(BodyWriter { wire, framing })
    }

    pub(crate) fn wire(&self) -> &'w Wire {
        self.wire
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

impl io::Write for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
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

    fn flush(&mut self) -> io::Result<()> {
        self.wire.flush()
    }
}

impl fmt::Debug for BodyWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter").field("framing", &self.framing).finish_non_exhaustive()
    }
}
