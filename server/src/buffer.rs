//! The buffers of a connection, pooled by capability: an idle connection holds none. Input and output are lent together,
//! since each request needs both.
//!
//! ```text
//! Input:   │ head of this request │ taken │ unread ..... │ free ....... │
//!          0                      keep    start          end            capacity
//! ```
//! A buffer is taken when bytes are there to be read and goes back when the connection waits for its next request.
//! The pool is an OS thread's own. Green threads are pinned, so a buffer returns to where it came from; no borrow of
//! the pool outlives a call in this file.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::mem;

use crate::http1::head::Head;

/// A new input buffer: holds the head of nearly every request, and ten or more pipelined ones.
const INPUT_BYTES: usize = 8 << 10;

/// A new output buffer: holds the head and a small body, or a stretch of pipelined answers.
const OUTPUT_BYTES: usize = 16 << 10;

/// The least room that a read is given.
const ROOM_BYTES_MIN: usize = 1 << 10;

/// Buffers that grew beyond this are given back to the allocator.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// How many free pairs of buffers (and lines of header fields) a capability keeps: it needs as many as it has connections *in the middle of a
/// request* at one time.
const POOLED_MAX: usize = 1024;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { buffers: Vec::new(), lines: Vec::new() }) };
}

struct Pool {
    #[expect(clippy::vec_box, reason = "lending them moves a pointer")]
    buffers: Vec<Box<Buffers>>,
    lines: Vec<String>,
}

/// What a connection needs while it is in the middle of a request.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) input: Input,
    /// Room for output. Whoever has the buffers may exchange it for another vector, and back.
    pub(crate) output: Vec<u8>,
}

impl Buffers {
    /// Empty buffers, from the pool.
    pub(crate) fn take() -> Box<Buffers> {
        POOL.with_borrow_mut(|pool| pool.buffers.pop()).unwrap_or_else(|| {
            let input = Input { bytes: vec![0; INPUT_BYTES], start: 0, end: 0, head: Head::default() };
            Box::new(Buffers { input, output: Vec::with_capacity(OUTPUT_BYTES) })
        })
    }

    /// Gives them back. They may hold anything, and are kept empty.
    #[inline]
    pub(crate) fn give_back(mut self: Box<Buffers>) {
        if self.input.bytes.len() > KEPT_BYTES_MAX || self.output.capacity() > KEPT_BYTES_MAX {
            return;
        }
        (self.input.start, self.input.end) = (0, 0);
        self.output.clear();
        // The pool may be gone already while the OS thread ends; then the buffers are simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.buffers.len() < POOLED_MAX {
                // An allocation may let a neighbour run, which would find the pool borrowed.
                if pool.buffers.len() == pool.buffers.capacity() {
                    bast::no_park(|| pool.buffers.reserve(1));
                }
                pool.buffers.push(self);
            }
        });
    }
}

/// Received bytes, consumed by index: nothing is moved as long as there is room behind them.
#[derive(Debug)]
pub(crate) struct Input {
    /// Initialised to its whole length once; the lengths in use are `start` and `end`.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The current head, as far as it is parsed.
    pub(crate) head: Head,
}

impl Input {
    /// The bytes received and not consumed.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The bytes from `start`, which was the position before they were consumed.
    pub(crate) fn since(&self, start: usize) -> &[u8] {
        &self.bytes[start..self.end]
    }

    /// Where the unread bytes begin.
    pub(crate) fn position(&self) -> usize {
        self.start
    }

    /// The unread bytes, and the head to parse them into.
    pub(crate) fn parts(&mut self) -> (&[u8], &mut Head) {
        (&self.bytes[self.start..self.end], &mut self.head)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Marks the first `count` unread bytes as consumed.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "buffer: consumed more than was received");
        self.start += count;
    }

    /// Holds this head alone, all of it consumed.
    pub(crate) fn hold(&mut self, head: &[u8]) {
        if self.bytes.len() < head.len() {
            self.bytes.resize(head.len(), 0);
        }
        self.bytes[..head.len()].copy_from_slice(head);
        (self.start, self.end) = (head.len(), head.len());
    }

    /// Appends what `read` puts into the free room, and returns how much that was. The bytes before `keep` stay where
    /// they are; the unread ones may move down to it.
    pub(crate) fn fill(
        &mut self,
        keep: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        debug_assert!(keep <= self.start);
        if self.is_empty() {
            (self.start, self.end) = (keep, keep);
        }
        if self.bytes.len() - self.end < ROOM_BYTES_MIN {
            self.make_room(keep);
        }
        let count = read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count)
    }

    #[cold]
    fn make_room(&mut self, keep: usize) {
        self.bytes.copy_within(self.start..self.end, keep);
        (self.start, self.end) = (keep, keep + (self.end - self.start));
        if self.bytes.len() - self.end < ROOM_BYTES_MIN {
            // Bounded: heads are limited, and within a body only what is before `keep` stays.
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
    }
}

/// Room for the header fields of nearly every response.
const LINES_BYTES: usize = 256;

/// Header fields that grew beyond this are given back to the allocator.
const KEPT_LINES_BYTES_MAX: usize = 4 << 10;

/// An empty string with room, from the pool.
pub(crate) fn take_lines() -> String {
    POOL.with_borrow_mut(|pool| pool.lines.pop()).unwrap_or_else(|| String::with_capacity(LINES_BYTES))
}

/// Gives a string that has room back, leaving an empty one without.
pub(crate) fn return_lines(lines: &mut String) {
    if lines.capacity() > KEPT_LINES_BYTES_MAX {
        return;
    }
    let mut lines = mem::take(lines);
    lines.clear();
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.lines.len() < POOLED_MAX {
            if pool.lines.len() == pool.lines.capacity() {
                bast::no_park(|| pool.lines.reserve(1));
            }
            pool.lines.push(lines);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(input: &mut Input, keep: usize, bytes: &[u8]) {
        let count = input.fill(keep, |room| {
            room[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        });
        assert_eq!(count.unwrap(), bytes.len());
    }

    #[test]
    fn the_same_buffers_serve_one_connection_after_the_other() {
        let addresses = |buffers: &Buffers| (buffers.input.bytes.as_ptr(), buffers.output.as_ptr());
        let buffers = Buffers::take();
        let first = addresses(&buffers);
        buffers.give_back();
        assert_eq!(addresses(&Buffers::take()), first);
    }

    #[test]
    fn buffers_come_back_empty() {
        let mut buffers = Buffers::take();
        put(&mut buffers.input, 0, b"secret");
        buffers.output.extend_from_slice(b"secret");
        buffers.give_back();
        let again = Buffers::take();
        assert!(again.input.is_empty());
        assert!(again.output.is_empty() && again.output.capacity() > 0);
    }

    #[test]
    fn buffers_that_grew_large_are_not_kept() {
        let mut buffers = Buffers::take();
        buffers.output.reserve(KEPT_BYTES_MAX + 1);
        buffers.give_back();
        assert!(Buffers::take().output.capacity() <= KEPT_BYTES_MAX);
        let mut buffers = Buffers::take();
        buffers.input.bytes.resize(KEPT_BYTES_MAX + 1, 0);
        buffers.give_back();
        assert!(Buffers::take().input.bytes.len() <= KEPT_BYTES_MAX);
    }

    #[test]
    fn unread_bytes_move_only_when_there_is_no_room_and_never_over_what_is_kept() {
        let mut buffers = Buffers::take();
        let input = &mut buffers.input;
        put(input, 0, b"HEAD");
        input.consume(4);
        put(input, 4, &vec![b'a'; INPUT_BYTES - 10]);
        input.consume(INPUT_BYTES - 12);
        assert_eq!(input.position(), INPUT_BYTES - 8);
        put(input, 4, b"b");
        assert_eq!(input.unread(), b"aab");
        assert_eq!(input.position(), 4, "moved down to what is kept");
        assert_eq!(&input.since(0)[..4], b"HEAD");
    }

    #[test]
    fn a_full_buffer_grows() {
        let mut buffers = Buffers::take();
        let input = &mut buffers.input;
        for _ in 0..INPUT_BYTES {
            put(input, 0, b"0123456789");
        }
        assert_eq!(input.unread().len(), INPUT_BYTES * 10);
    }
}
