//! The input of a WebSocket: waits for bytes without a buffer, and reads messages out of them.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Read as _};

use super::close::Violation;
use super::decode::{Decoded, Decoder};
use crate::buffer::Buffers;
use crate::upgrade::UpgradedReader;

/// Reads messages.
pub(super) struct Source {
    stream: UpgradedReader,
    decoder: Decoder,
    /// While bytes are received that were not decoded.
    buffers: Option<Box<Buffers>>,
}

impl Source {
    pub(super) fn new(stream: UpgradedReader, decoder: Decoder) -> Source {
        Source { stream, decoder, buffers: None }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.stream.is_draining()
    }

    /// What was received, next. `None` where more bytes are needed: then there is no buffer.
    pub(super) fn decode(&mut self) -> Result<Option<Decoded>, Violation> {
        let Some(buffers) = &mut self.buffers else { return Ok(None) };
        let mut input = buffers.input.unread();
        let received = input.len();
        let decoded = self.decoder.decode(&mut input);
        let taken = received - input.len();
        buffers.input.consume(taken);
        if buffers.input.is_empty() {
            self.release();
        }
        decoded
    }

    /// Waits for bytes. False at the end of the stream.
    ///
    /// # Errors
    /// Those of the stream, and `TimedOut` for a drain.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        self.stream.wait_readable()?;
        let buffers = self.buffers.get_or_insert_with(Buffers::take);
        let stream = &mut self.stream;
        match buffers.input.fill(0, |room| stream.read(room)) {
            Ok(count @ 1..) => {
                debug_assert_eq!(count, buffers.input.unread().len(), "all before was decoded");
                Ok(true)
            }
            ended => {
                self.release();
                ended.map(|_| false)
            }
        }
    }

    fn release(&mut self) {
        if let Some(buffers) = self.buffers.take() {
            buffers.give_back();
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("stream", &self.stream).finish_non_exhaustive()
    }
}
