//! How nearly all responses begin: the status line of a 200, the `Server` line, the `Date` line, `Content-Type`.
//!
//! The first three are the same for all responses of a server within a second, and the last for most of them, so that composing
//! a head copies them in one piece. The cache is an OS thread's own, like that of the date; it has room for one server and one
//! media type, and others make it anew, which costs little more than composing a head without it.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::ptr;

use crate::date;
use crate::timeout::ServerId;

/// The status line of most responses.
pub(crate) const OK_LINE: &[u8] = b"HTTP/1.1 200 OK\r\n";

thread_local! {
    static CACHE: RefCell<Preamble> = const {
        RefCell::new(Preamble { of: None, bytes: Vec::new(), media_type: None, with_type: Vec::new() })
    };
}

/// The preamble of a server in a second.
pub(crate) struct Preamble {
    /// Whose it is, and of which second.
    of: Option<(ServerId, u64)>,
    /// [`OK_LINE`], the `Server` line, the `Date` line.
    bytes: Vec<u8>,
    /// What `with_type` was made for.
    media_type: Option<&'static str>,
    /// `bytes` and the `Content-Type` line.
    with_type: Vec<u8>,
}

/// Gives the preamble of this server in this second to `body`, which must not ask for another.
#[inline]
pub(crate) fn with<R>(
    server: ServerId,
    server_line: &[u8],
    unix_seconds: u64,
    body: impl FnOnce(&mut Preamble) -> R,
) -> R {
    CACHE.with_borrow_mut(|preamble| {
        if preamble.of != Some((server, unix_seconds)) {
            preamble.render(server, server_line, unix_seconds);
        }
        body(preamble)
    })
}

impl Preamble {
    #[cold]
    fn render(&mut self, server: ServerId, server_line: &[u8], unix_seconds: u64) {
        self.bytes.clear();
        for line in [OK_LINE, server_line, &date::line(unix_seconds)] {
            self.bytes.extend_from_slice(line);
        }
        self.of = Some((server, unix_seconds));
        self.media_type = None;
    }

    /// The status line of a 200, the `Server` line and the `Date` line.
    #[inline]
    pub(crate) fn ok(&self) -> &[u8] {
        &self.bytes
    }

    /// The `Server` line and the `Date` line.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.bytes[OK_LINE.len()..]
    }

    /// The same as [`ok`](Preamble::ok) with this media type.
    #[inline]
    pub(crate) fn ok_with_type(&mut self, media_type: &'static str) -> &[u8] {
        // By address: a text of the program is there for good, and the same one is meant every time.
        if !self.media_type.is_some_and(|known| ptr::eq(known, media_type)) {
            self.render_type(media_type);
        }
        &self.with_type
    }

    #[inline(never)]
    fn render_type(&mut self, media_type: &'static str) {
        self.with_type.clear();
        self.with_type.extend_from_slice(&self.bytes);
        push_type(media_type, &mut self.with_type);
        self.media_type = Some(media_type);
    }
}

/// Appends a `Content-Type` line.
#[inline]
pub(crate) fn push_type(media_type: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Type: ");
    out.extend_from_slice(media_type.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    const SECOND: u64 = 784_111_777;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn each_server_each_second_and_each_type_has_its_own() {
        let (a, b) = (ServerId::next(), ServerId::next());
        let other_date = DATE.replace(":37", ":38");
        for (server, line, second, date) in [
            (a, "Server: a\r\n", SECOND, DATE),
            (b, "", SECOND, DATE),
            (b, "", SECOND + 1, &other_date),
            (a, "Server: a\r\n", SECOND, DATE),
        ] {
            for media_type in ["a/b", "a/b", "c/d", "a/b"] {
                with(server, line.as_bytes(), second, |preamble| {
                    assert_eq!(text(preamble.lines()), format!("{line}{date}"));
                    assert_eq!(text(preamble.ok()), format!("HTTP/1.1 200 OK\r\n{line}{date}"));
                    assert_eq!(
                        text(preamble.ok_with_type(media_type)),
                        format!("HTTP/1.1 200 OK\r\n{line}{date}Content-Type: {media_type}\r\n")
                    );
                });
            }
        }
    }

    #[test]
    fn a_preamble_is_rendered_once() {
        let server = ServerId::next();
        with(server, b"Server: a\r\n", SECOND, |_| ());
        let second = with(server, b"Server: b\r\n", SECOND, |preamble| text(preamble.lines()));
        assert_eq!(second, format!("Server: a\r\n{DATE}"));
    }
}
