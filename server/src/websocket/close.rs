//! How a WebSocket ends: codes and reasons (RFC 6455 §7.4), and what a peer did wrong.
#![forbid(unsafe_code)]

use std::fmt;

/// Why a WebSocket was closed (RFC 6455 §7.4.1 and the IANA registry).
///
/// ```
/// use bast_server::websocket::CloseCode;
/// assert_eq!(CloseCode::NORMAL.get(), 1000);
/// assert!(CloseCode::new(4001).is_some(), "the program's own");
/// assert!(CloseCode::new(1006).is_none(), "never sent");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// What the connection was for is done.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// The server is shutting down, or the page was left.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// A kind of data that cannot be accepted, as binary where text is expected.
    pub const UNSUPPORTED_DATA: CloseCode = CloseCode(1003);
    /// Data that does not fit its kind, as text that is not UTF-8.
    pub const INVALID_PAYLOAD: CloseCode = CloseCode(1007);
    /// A message that goes against a rule of the program's.
    pub const POLICY_VIOLATION: CloseCode = CloseCode(1008);
    /// A message that is too big.
    pub const MESSAGE_TOO_BIG: CloseCode = CloseCode(1009);
    /// The server met something that it cannot deal with: a panic, for one.
    pub const INTERNAL_ERROR: CloseCode = CloseCode(1011);
    /// The server is restarting: come again.
    pub const SERVICE_RESTART: CloseCode = CloseCode(1012);
    /// The server has too much to do: come again later.
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);

    /// What it takes in a frame.
    pub(super) const BYTES: usize = 2;

    /// The code with this number, if it may be sent: those that are registered for it, and 3000 to 4999, which belong to
    /// frameworks and programs.
    #[must_use]
    pub const fn new(code: u16) -> Option<CloseCode> {
        // 1004 is reserved; 1005, 1006 and 1015 say that there was no code (RFC 6455 §7.4.1).
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(CloseCode(code)),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The longest reason in bytes: what a control frame has room for behind the code.
pub(super) const REASON_BYTES_MAX: usize = 123;

/// What a Close frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// Why.
    pub code: CloseCode,
    /// The same in words, for a developer; may be empty.
    pub reason: String,
}

impl CloseFrame {
    /// Reads the payload of a Close frame; `None` where it is empty.
    pub(super) fn decode(payload: &[u8]) -> Result<Option<CloseFrame>, Violation> {
        let (code, reason) = match payload {
            [] => return Ok(None),
            [_] => return Err(Violation::protocol("a close code of one byte")),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        let Some(code) = CloseCode::new(code) else {
            return Err(Violation::protocol("a close code that may not be sent"));
        };
        match std::str::from_utf8(reason) {
            Ok(reason) => Ok(Some(CloseFrame { code, reason: reason.to_owned() })),
            Err(_) => Err(Violation::invalid_payload("a close reason that is not UTF-8")),
        }
    }

    /// The payload of a Close frame. A reason that is too long for one is cut.
    pub(crate) fn encode(code: CloseCode, reason: &str) -> Vec<u8> {
        let mut end = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        [&code.0.to_be_bytes(), &reason.as_bytes()[..end]].concat()
    }
}

impl fmt::Display for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.code, self.reason)
    }
}

/// What a client did wrong; the connection is failed with it (RFC 6455 §7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: CloseCode,
    pub(crate) reason: &'static str,
}

impl Violation {
    pub(super) fn protocol(reason: &'static str) -> Violation {
        Violation { code: CloseCode::PROTOCOL_ERROR, reason }
    }

    pub(super) fn invalid_payload(reason: &'static str) -> Violation {
        Violation { code: CloseCode::INVALID_PAYLOAD, reason }
    }

    pub(super) fn policy(reason: &'static str) -> Violation {
        Violation { code: CloseCode::POLICY_VIOLATION, reason }
    }

    pub(super) fn too_big(reason: &'static str) -> Violation {
        Violation { code: CloseCode::MESSAGE_TOO_BIG, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_may_be_sent_or_not_as_the_registry_says() {
        for code in 0..=u16::MAX {
            let allowed = matches!(code, 1000 | 1001 | 1002 | 1003 | 1007..=1014 | 3000..=4999);
            assert_eq!(CloseCode::new(code).is_some(), allowed, "{code}");
            let decoded = CloseFrame::decode(&code.to_be_bytes());
            assert_eq!(decoded.is_ok(), allowed, "{code}");
        }
    }

    #[test]
    fn a_close_frame_is_read_as_it_was_written() {
        for reason in ["", "bye", "ünïcödé"] {
            let payload = CloseFrame::encode(CloseCode::GOING_AWAY, reason);
            let expected = CloseFrame { code: CloseCode::GOING_AWAY, reason: reason.to_owned() };
            assert_eq!(CloseFrame::decode(&payload), Ok(Some(expected)));
        }
        assert_eq!(CloseFrame::decode(&[]), Ok(None));
    }

    #[test]
    fn a_malformed_close_frame_is_refused_with_the_right_code() {
        let code = |payload: &[u8]| CloseFrame::decode(payload).unwrap_err().code;
        assert_eq!(code(&[3]), CloseCode::PROTOCOL_ERROR);
        assert_eq!(code(&[3, 0xed]), CloseCode::PROTOCOL_ERROR, "1005");
        assert_eq!(code(b"\x03\xe8\xff"), CloseCode::INVALID_PAYLOAD);
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        let payload = CloseFrame::encode(CloseCode::NORMAL, &"ä".repeat(100));
        assert_eq!(payload.len(), 2 + 122);
        assert!(CloseFrame::decode(&payload).is_ok());
    }
}
