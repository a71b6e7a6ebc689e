//! The input of a WebSocket: waits for bytes without a buffer, and reads messages out of them.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Read as _};
use std::time::Instant;

use super::close::{CloseFrame, Violation};
use super::decode::{Decoded, Decoder};
use super::message::Message;
use crate::buffer::Buffers;
use crate::upgrade::UpgradedReader;

/// So many bytes are decoded at a time, and then others run: compressed, they may become a thousand times as many.
const PIECE_BYTES: usize = 2 << 10;

/// What its receiver is to deal with.
#[derive(Debug)]
pub(super) enum Received {
    Message(Message),
    Close(Option<CloseFrame>),
}

/// Reads messages.
pub(super) struct Source {
    stream: UpgradedReader,
    decoder: Decoder,
    /// While bytes are received that were not decoded.
    buffers: Option<Box<Buffers>>,
    /// When the first wait in the midst of a message, or of a frame, began.
    unfinished_since: Option<Instant>,
    /// The payload of the last ping that is not answered.
    pub(super) ping: Option<Vec<u8>>,
    /// What was decoded, until it is taken.
    pub(super) received: Option<Received>,
}

impl Source {
    pub(super) fn new(stream: UpgradedReader, decoder: Decoder) -> Source {
        Source { stream, decoder, buffers: None, unfinished_since: None, ping: None, received: None }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.stream.is_draining()
    }

    /// Decodes what is there, up to the next message or Close. Where more bytes are needed for one there is no buffer.
    ///
    /// Lets others run between two pieces: an interruptible point, at which nothing is lost.
    pub(super) fn decode(&mut self) -> Result<(), Violation> {
        while self.received.is_none()
            && let Some(buffers) = &mut self.buffers
        {
            let unread = buffers.input.unread();
            let mut piece = &unread[..unread.len().min(PIECE_BYTES)];
            let received = piece.len();
            let decoded = self.decoder.decode(&mut piece);
            let taken = received - piece.len();
            buffers.input.consume(taken);
            if buffers.input.is_empty() {
                self.release();
            }
            match decoded? {
                Some(Decoded::Message(message)) => self.received = Some(Received::Message(message)),
                Some(Decoded::Close(frame)) => self.received = Some(Received::Close(frame)),
                Some(Decoded::Ping(payload)) => self.ping = Some(payload),
                Some(Decoded::Pong) | None => {}
            }
            if !self.decoder.is_within() {
                self.unfinished_since = None;
            }
            bast::yield_point();
        }
        Ok(())
    }

    /// Since when more bytes have been waited for in the midst of a message or a frame; for before a wait.
    pub(super) fn unfinished_since(&mut self) -> Option<Instant> {
        if !self.decoder.is_within() {
            return None;
        }
        Some(*self.unfinished_since.get_or_insert_with(Instant::now))
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
