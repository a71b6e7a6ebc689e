//! How nearly all responses begin: the status line of a 200, the `Server` line, the `Date` line.
//!
//! They are the same for all responses of a server within a second, so that composing a head copies them in one piece. The
//! cache is an OS thread's own, like that of the date; it has room for one server, and another one of the same process makes it
//! anew.
#![forbid(unsafe_code)]

use std::cell::RefCell;

use crate::date;
use crate::timeout::ServerId;

/// The status line of most responses.
pub(crate) const OK_LINE: &[u8] = b"HTTP/1.1 200 OK\r\n";

thread_local! {
    static CACHE: RefCell<Preamble> = const { RefCell::new(Preamble { of: None, bytes: Vec::new() }) };
}

/// [`OK_LINE`], the `Server` line, the `Date` line.
struct Preamble {
    /// Whose it is, and of which second.
    of: Option<(ServerId, u64)>,
    bytes: Vec<u8>,
}

/// Gives the preamble of this server in this second to `body`, which must not ask for another.
#[inline]
pub(crate) fn with<R>(
    server: ServerId,
    server_line: &[u8],
    unix_seconds: u64,
    body: impl FnOnce(&[u8]) -> R,
) -> R {
    CACHE.with_borrow_mut(|preamble| {
        if preamble.of != Some((server, unix_seconds)) {
            preamble.render(server, server_line, unix_seconds);
        }
        body(&preamble.bytes)
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_and_each_second_has_its_own() {
        let (a, b) = (ServerId::next(), ServerId::next());
        for (server, line, second, expected) in [
            (a, "Server: a\r\n", 784_111_777, "Server: a\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
            (b, "", 784_111_777, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
            (b, "", 784_111_778, "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"),
            (a, "Server: a\r\n", 784_111_777, "Server: a\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        ] {
            for _ in 0..2 {
                let found = with(server, line.as_bytes(), second, <[u8]>::to_vec);
                assert_eq!(String::from_utf8(found).unwrap(), format!("HTTP/1.1 200 OK\r\n{expected}"));
            }
        }
    }

    #[test]
    fn a_preamble_is_rendered_once() {
        let server = ServerId::next();
        with(server, b"Server: a\r\n", 1000, |_| ());
        let second = with(server, b"Server: b\r\n", 1000, <[u8]>::to_vec);
        assert!(second.starts_with(b"HTTP/1.1 200 OK\r\nServer: a\r\n"), "{}", second.escape_ascii());
    }
}
