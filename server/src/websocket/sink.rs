//! The output of a WebSocket: whole frames, or the stream is given up.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice, Write as _};

use super::deflate::Deflater;
use super::frame::{HEADER_BYTES_MAX, Opcode, encode_header};
use super::message::{Message, Prepared};
use crate::upgrade::UpgradedWriter;

/// Writes frames.
pub(super) struct Sink {
    stream: UpgradedWriter,
    /// Where compression was agreed upon.
    deflater: Option<Deflater>,
    /// A part of a frame was sent, or sending failed: what came next would be taken for the rest of it.
    broken: bool,
}

impl Sink {
    pub(super) fn new(stream: UpgradedWriter, deflater: Option<Deflater>) -> Sink {
        Sink { stream, deflater, broken: false }
    }

    pub(super) fn send(&mut self, message: &Message) -> io::Result<()> {
        let plain = message.as_bytes();
        let Some(compressed) = self.deflater.as_mut().and_then(|deflater| deflater.compress(plain)) else {
            return self.frame(message.opcode(), false, plain);
        };
        self.frame(message.opcode(), true, &compressed.payload)?;
        if let Some(deflater) = &mut self.deflater {
            deflater.sent(compressed);
        }
        Ok(())
    }

    pub(super) fn send_prepared(&mut self, message: &Prepared) -> io::Result<()> {
        self.write(&[], message.frame())
    }

    pub(super) fn control(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        self.frame(opcode, false, payload)
    }

    fn frame(&mut self, opcode: Opcode, compressed: bool, payload: &[u8]) -> io::Result<()> {
        let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
        encode_header(&mut header, opcode, compressed, payload.len());
        self.write(&header, payload)
    }

    /// Writes a frame, of which an interrupt may stop the first byte, but not leave a part.
    fn write(&mut self, header: &[u8], payload: &[u8]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "an earlier message could not be sent"));
        }
        let total = header.len() + payload.len();
        let mut progress = Progress { broken: &mut self.broken, sent: 0, total };
        while progress.sent < total {
            let sent = match progress.sent.checked_sub(header.len()) {
                Some(of_payload) => self.stream.write(&payload[of_payload..]),
                None => {
                    let header = IoSlice::new(&header[progress.sent..]);
                    self.stream.write_vectored(&[header, IoSlice::new(payload)])
                }
            };
            match sent {
                Ok(0) => return Err(progress.fail(io::ErrorKind::WriteZero.into())),
                Ok(sent) => progress.sent += sent,
                Err(error) => return Err(progress.fail(error)),
            }
        }
        Ok(())
    }
}

/// How far a frame has been sent. Dropped within it, by an unwind, it breaks the stream.
struct Progress<'a> {
    broken: &'a mut bool,
    sent: usize,
    total: usize,
}

impl Progress<'_> {
    fn fail(&mut self, error: io::Error) -> io::Error {
        *self.broken = true;
        error
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        *self.broken |= 0 < self.sent && self.sent < self.total;
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink")
            .field("stream", &self.stream)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
