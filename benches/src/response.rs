//! HTTP/1.1 responses as the load generator reads them: status, length, the body's bytes, nothing more.
//!
//! No sockets: bytes come in as they were received, cut anywhere, and counts of right and wrong responses
//! come out. It has to be cheap, for the client shares the machine with the server it measures: a head whose
//! bytes equal the last one's (all but one a second do) is not parsed again.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

/// Largest head that is waited for; more without its end is malformed.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bodies up to this size are compared byte by byte. Beyond it the comparison would cost the client as much
/// as the server pays for sending, and only the length is checked.
const BODY_BYTES_COMPARED_MAX: usize = 16 * 1024;

/// A response that cannot be delimited, so that the connection is of no more use.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed response: {}", self.0)
    }
}

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, malformed.to_string())
    }
}

/// What a response's head says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The body's length in bytes.
    pub length: usize,
    /// Whether the server closes the connection after this response.
    pub close: bool,
}

impl Head {
    /// Parses a head that ends in an empty line. Only bodies delimited by Content-Length are known
    /// (RFC 9112 §6.3, case 6), and statuses that have none.
    ///
    /// # Errors
    /// Where the body's end cannot be told.
    pub fn parse(head: &[u8]) -> Result<Head, Malformed> {
        let head = str::from_utf8(head).map_err(|_| Malformed("the head is not UTF-8"))?;
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let mut words = status_line.split(' ');
        let version = words.next().unwrap_or_default();
        if !version.starts_with("HTTP/1.") {
            return Err(Malformed("not a status line of HTTP/1"));
        }
        let status = words.next().and_then(|w| w.parse().ok()).ok_or(Malformed("no status code"))?;
        let mut length = matches!(status, 204 | 304).then_some(0);
        let mut close = version == "HTTP/1.0";
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.parse().map_err(|_| Malformed("Content-Length is not a number"))?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(Malformed("Transfer-Encoding is not supported here"));
            } else if name.eq_ignore_ascii_case("connection") {
                close = value.eq_ignore_ascii_case("close")
                    || (close && !value.eq_ignore_ascii_case("keep-alive"));
            }
        }
        let length = length.ok_or(Malformed("no Content-Length"))?;
        Ok(Head { status, length, close })
    }
}

/// The position behind the first empty line.
#[must_use]
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

/// How far a connection's current response has been read.
#[derive(Debug, Default)]
pub struct Progress {
    /// An incomplete head.
    held: Vec<u8>,
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    head: Head,
    read: usize,
    right: bool,
}

/// What some received bytes completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completed {
    /// Responses of the expected status and body.
    pub ok: u64,
    /// Complete responses of another status or body.
    pub wrong: u64,
    /// The last one said that the server closes the connection.
    pub close: bool,
}

/// Reads responses and compares them with the expected one.
#[derive(Debug)]
pub struct Checker {
    status: u16,
    body: Vec<u8>,
    /// The last head parsed, and what it said.
    known: (Vec<u8>, Head),
}

impl Checker {
    /// Expects this status and body of every response.
    #[must_use]
    pub fn new(status: u16, body: Vec<u8>) -> Checker {
        let nothing = Head { status: 0, length: 0, close: false };
        Checker { status, body, known: (Vec::new(), nothing) }
    }

    /// Takes the next bytes of a connection.
    ///
    /// # Errors
    /// Where they are no response that can be delimited.
    pub fn feed(&mut self, progress: &mut Progress, bytes: &[u8]) -> Result<Completed, Malformed> {
        let mut completed = Completed::default();
        if progress.held.is_empty() {
            self.feed_whole(progress, bytes, &mut completed)?;
        } else {
            let mut joined = std::mem::take(&mut progress.held);
            joined.extend_from_slice(bytes);
            self.feed_whole(progress, &joined, &mut completed)?;
        }
        Ok(completed)
    }

    /// `feed` with no incomplete head held.
    fn feed_whole(
        &mut self,
        progress: &mut Progress,
        mut bytes: &[u8],
        completed: &mut Completed,
    ) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            let mut body = match progress.body.take() {
                Some(body) => body,
                None => match self.take_head(&mut bytes)? {
                    Some(head) => {
                        let right = head.status == self.status && head.length == self.body.len();
                        Body { head, read: 0, right }
                    }
                    None => {
                        progress.held.extend_from_slice(bytes);
                        return Ok(());
                    }
                },
            };
            let part;
            (part, bytes) = bytes.split_at(bytes.len().min(body.head.length - body.read));
            if body.right && self.body.len() <= BODY_BYTES_COMPARED_MAX {
                body.right = self.body[body.read..][..part.len()] == *part;
            }
            body.read += part.len();
            if body.read < body.head.length {
                progress.body = Some(body);
                continue;
            }
            if body.right {
                completed.ok += 1;
            } else {
                completed.wrong += 1;
            }
            completed.close = body.head.close;
        }
        Ok(())
    }

    /// Takes a head off the front of `bytes`, if all of it is there.
    fn take_head(&mut self, bytes: &mut &[u8]) -> Result<Option<Head>, Malformed> {
        let (known, head) = &self.known;
        if !known.is_empty() && bytes.starts_with(known) {
            *bytes = &bytes[known.len()..];
            return Ok(Some(*head));
        }
        let Some(end) = head_end(bytes) else {
            return if bytes.len() > HEAD_BYTES_MAX {
                Err(Malformed("the head has no end"))
            } else {
                Ok(None)
            };
        };
        let (head, rest) = bytes.split_at(end);
        self.known = (head.to_vec(), Head::parse(head)?);
        *bytes = rest;
        Ok(Some(self.known.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nDate: now\r\n\r\nhello";

    fn ok(count: u64) -> Completed {
        Completed { ok: count, ..Completed::default() }
    }

    fn wrong(count: u64) -> Completed {
        Completed { wrong: count, ..Completed::default() }
    }

    fn feed(bytes: &[u8]) -> Result<Completed, Malformed> {
        Checker::new(200, b"hello".to_vec()).feed(&mut Progress::default(), bytes)
    }

    #[test]
    fn responses_cut_at_every_byte_are_counted_once() {
        let two = [HELLO, HELLO].concat();
        for cut in 0..=two.len() {
            let mut checker = Checker::new(200, b"hello".to_vec());
            let mut progress = Progress::default();
            let first = checker.feed(&mut progress, &two[..cut]).unwrap();
            let second = checker.feed(&mut progress, &two[cut..]).unwrap();
            assert_eq!(first.ok + second.ok, 2, "cut at {cut}");
            assert_eq!(first.wrong + second.wrong, 0, "cut at {cut}");
        }
    }

    #[test]
    fn a_head_may_change_between_responses() {
        let later = HELLO.to_vec().iter().map(|&b| if b == b'w' { b'x' } else { b }).collect::<Vec<_>>();
        assert_eq!(feed(&[HELLO, &later, HELLO].concat()), Ok(ok(3)));
    }

    #[test]
    fn another_status_is_wrong() {
        assert_eq!(feed(b"HTTP/1.1 404 no\r\nContent-Length: 5\r\n\r\nhello"), Ok(wrong(1)));
    }

    #[test]
    fn another_length_is_wrong_and_delimits_all_the_same() {
        let longer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!";
        assert_eq!(feed(&[longer, HELLO].concat()), Ok(Completed { ok: 1, wrong: 1, close: false }));
    }

    #[test]
    fn another_body_of_the_same_length_is_wrong() {
        assert_eq!(feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhallo"), Ok(wrong(1)));
    }

    #[test]
    fn an_announced_close_is_noticed() {
        let closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
        assert!(feed(closing).unwrap().close);
        assert!(!feed(HELLO).unwrap().close);
    }

    #[test]
    fn http_1_0_closes_unless_it_says_otherwise() {
        assert!(Head::parse(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap().close);
        let kept = b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n";
        assert!(!Head::parse(kept).unwrap().close);
    }

    #[test]
    fn what_cannot_be_delimited_is_an_error() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 OK\r\n\r\n",
        ] {
            assert!(feed(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }
}
