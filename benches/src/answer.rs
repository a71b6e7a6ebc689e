//! What the reference servers answer: always the same bytes, for they have one resource only.
//!
//! So that they send as much as the server they are compared with, the head is a copy of that server's; only
//! its Date stands still.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crate::mode::{Mode, Resource};
use crate::probe::Fetched;
use crate::sys::More;

/// Files from this size on are sent by `sendfile` from the page cache; below, `pread` into the output buffer
/// and one `send` is cheaper.
const SENDFILE_BYTES_MIN: usize = 64 * 1024;

fn plain_head(length: usize) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nServer: bast\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// The one answer of a reference server.
#[derive(Debug)]
pub struct Answer {
    /// The head, followed by the body if that is not in a file.
    pub head: Vec<u8>,
    /// The file that holds the body, and its length.
    pub file: Option<(File, usize)>,
    /// How long to wait before answering.
    pub delay: Duration,
    /// Whether to close the connection after one answer.
    pub close: bool,
    /// Bodies of files from this length on are sent from the page cache.
    pub page_cache_bytes_min: usize,
    /// Whether the head of such an answer says that more follows, so that both share a segment.
    pub head_says_more: More,
}

impl Answer {
    /// The answer to the requests of `mode`, with static files below `root`. Its head is that of `model`, or
    /// of a plain server if there is none to compare with.
    ///
    /// # Errors
    /// The file's, or `InvalidInput` where it is not as long as the model's body.
    pub fn of(mode: &Mode, root: &Path, model: Option<Fetched>) -> io::Result<Answer> {
        let (length, head, body) = match model {
            Some(model) => (model.head.length, model.head_bytes, model.body),
            None => {
                let body = mode.body().unwrap_or_default();
                (body.len(), plain_head(body.len()), body)
            }
        };
        let mut answer = Answer {
            head,
            file: None,
            delay: Duration::ZERO,
            close: !mode.keep_alive,
            page_cache_bytes_min: SENDFILE_BYTES_MIN,
            head_says_more: More::Follows,
        };
        match mode.resource {
            Resource::Constant => answer.head.extend(body),
            Resource::Delayed(delay) => {
                answer.head.extend(body);
                answer.delay = delay;
            }
            Resource::File(_) => {
                let file = File::open(root.join(&mode.path[1..]))?;
                if file.metadata()?.len() != length as u64 {
                    let why = format!("{} is not as long as what the model serves", mode.path);
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
                }
                answer.file = Some((file, length));
            }
        }
        Ok(answer)
    }

    /// Length in bytes of one answer.
    #[must_use]
    pub fn bytes_each(&self) -> usize {
        self.head.len() + self.file.as_ref().map_or(0, |(_, len)| *len)
    }

    /// Whether the body is to be sent by `sendfile`.
    #[must_use]
    pub fn is_sent_from_page_cache(&self) -> bool {
        self.file.as_ref().is_some_and(|(_, len)| *len >= self.page_cache_bytes_min)
    }

    /// Has `out` hold exactly `count` answers or more. Constant answers stay in it from call to call; a
    /// file's body is read anew each time.
    ///
    /// # Errors
    /// The file's.
    pub fn compose(&self, count: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let Some((file, len)) = &self.file else {
            while out.len() < count * self.head.len() {
                out.extend_from_slice(&self.head);
            }
            return Ok(());
        };
        let stride = self.bytes_each();
        let composed_before = out.len() / stride;
        for _ in composed_before..count {
            out.extend_from_slice(&self.head);
            out.resize(out.len() + len, 0);
        }
        for at in 0..count {
            file.read_exact_at(&mut out[at * stride + self.head.len()..][..*len], 0)?;
        }
        Ok(())
    }
}

/// Counts the request heads that end in `bytes`: each ends in an empty line (the requests have no bodies).
/// The first three bytes are what was left of the last call, or zeros; what is left of this one is returned.
#[must_use]
pub fn count_heads(bytes: &[u8]) -> (usize, [u8; 3]) {
    const END: &[u8; 4] = b"\r\n\r\n";
    let mut count = 0;
    let mut at = 0;
    let mut counted_to = 0;
    // The fourth byte from here tells how near the end of a head can be: mostly not here.
    while let Some(&fourth) = bytes.get(at + 3) {
        if fourth > b'\r' {
            at += 4;
        } else if fourth == b'\n' && bytes[at..at + 4] == *END {
            count += 1;
            at += 4;
            counted_to = at;
        } else {
            at += 1;
        }
    }
    let mut left = [0; 3];
    let tail = &bytes[counted_to.max(bytes.len() - 3)..];
    left[3 - tail.len()..].copy_from_slice(tail);
    (count, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_cut_at_every_byte_are_counted_once() {
        let requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /a HTTP/1.1\r\nHost: xyz\r\n\r\n\r\n\r\n";
        for first in 0..=requests.len() {
            for second in first..=requests.len() {
                let mut left = [0; 3];
                let mut total = 0;
                for part in [&requests[..first], &requests[first..second], &requests[second..]] {
                    let count;
                    (count, left) = count_heads(&[&left, part].concat());
                    total += count;
                }
                assert_eq!(total, 3, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn constant_answers_are_composed_once() {
        let mode = Mode::named("keepalive").unwrap();
        let answer = Answer::of(&mode, Path::new("/"), None).unwrap();
        let mut out = Vec::new();
        answer.compose(3, &mut out).unwrap();
        assert_eq!(out, answer.head.repeat(3));
        answer.compose(2, &mut out).unwrap();
        assert_eq!(out, answer.head.repeat(3));
    }
}
