//! What is sent and received: messages, and messages that were framed once for many receivers.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::frame::{HEADER_BYTES_MAX, Opcode, encode_header};

/// A message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text in UTF-8.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Message {
    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
        }
    }

    /// The bytes, of whichever kind.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    pub(crate) fn opcode(&self) -> Opcode {
        match self {
            Message::Text(_) => Opcode::Text,
            Message::Binary(_) => Opcode::Binary,
        }
    }
}

impl From<String> for Message {
    fn from(text: String) -> Message {
        Message::Text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Message {
        Message::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Message {
        Message::Binary(bytes)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Message {
        Message::Binary(bytes.to_vec())
    }
}

/// A message in its frame, to be sent to many: a server's frames are the same for all receivers, because it does not
/// mask them. Cloning shares the bytes. It is never compressed.
///
/// ```
/// use bast_server::websocket::Prepared;
/// let news = Prepared::text("all hands");
/// let same = news.clone(); // no copy
/// # drop((news, same));
/// ```
#[derive(Clone)]
pub struct Prepared {
    frame: Arc<[u8]>,
}

impl Prepared {
    /// A text message.
    #[must_use]
    pub fn text(text: &str) -> Prepared {
        Prepared::new(Opcode::Text, text.as_bytes())
    }

    /// A binary message.
    #[must_use]
    pub fn binary(bytes: &[u8]) -> Prepared {
        Prepared::new(Opcode::Binary, bytes)
    }

    fn new(opcode: Opcode, payload: &[u8]) -> Prepared {
        let mut frame = Vec::with_capacity(HEADER_BYTES_MAX + payload.len());
        encode_header(&mut frame, opcode, false, payload.len());
        frame.extend_from_slice(payload);
        Prepared { frame: frame.into() }
    }

    pub(super) fn frame(&self) -> &[u8] {
        &self.frame
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared({} bytes)", self.frame.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_message_is_one_whole_frame() {
        assert_eq!(Prepared::text("hi").frame(), b"\x81\x02hi");
        assert_eq!(Prepared::binary(&[1]).frame(), b"\x82\x01\x01");
        let long = Prepared::text(&"x".repeat(300));
        assert_eq!((long.frame().len(), &long.frame()[..4]), (304, &b"\x81\x7e\x01\x2c"[..]));
    }
}
