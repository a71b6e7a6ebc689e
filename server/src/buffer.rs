//! The buffers of a connection, pooled by capability: an idle connection holds none.
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

/// How many free buffers of each kind a capability keeps: it needs as many as it has connections *in the middle of a
/// request* at one time.
const POOLED_MAX: usize = 1024;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { inputs: Vec::new(), outputs: Vec::new(), lines: Vec::new() }) };
}

struct Pool {
    #[expect(clippy::vec_box, reason = "lending one moves a pointer")]
    inputs: Vec<Box<Input>>,
    outputs: Vec<Vec<u8>>,
    lines: Vec<String>,
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

/// An input buffer on loan from the pool.
#[derive(Debug)]
pub(crate) struct PooledInput(Option<Box<Input>>);

impl PooledInput {
    pub(crate) fn take() -> PooledInput {
        let pooled = POOL.with_borrow_mut(|pool| pool.inputs.pop());
        PooledInput(Some(pooled.unwrap_or_else(|| {
            Box::new(Input { bytes: vec![0; INPUT_BYTES], start: 0, end: 0, head: Head::default() })
        })))
    }

    pub(crate) fn get(&mut self) -> &mut Input {
        self.0.as_mut().expect("buffer: used after its return")
    }
}

impl Drop for PooledInput {
    fn drop(&mut self) {
        let Some(mut input) = self.0.take() else { return };
        if input.bytes.len() > KEPT_BYTES_MAX {
            return;
        }
        (input.start, input.end) = (0, 0);
        // The pool may be gone already while the OS thread ends; then the buffer is simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.inputs.len() < POOLED_MAX {
                pool.inputs.push(input);
            }
        });
    }
}

/// An empty vector with room, from the pool.
pub(crate) fn take_output() -> Vec<u8> {
    POOL.with_borrow_mut(|pool| pool.outputs.pop()).unwrap_or_else(|| Vec::with_capacity(OUTPUT_BYTES))
}

/// Gives a vector back, leaving an empty one without room.
pub(crate) fn return_output(output: &mut Vec<u8>) {
    if output.capacity() == 0 {
        return;
    }
    let mut output = mem::take(output);
    if output.capacity() > KEPT_BYTES_MAX {
        return;
    }
    output.clear();
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.outputs.len() < POOLED_MAX {
            pool.outputs.push(output);
        }
    });
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
    fn the_same_buffer_serves_one_connection_after_the_other() {
        let address = PooledInput::take().get().bytes.as_ptr();
        assert_eq!(PooledInput::take().get().bytes.as_ptr(), address);
        let mut output = take_output();
        let address = output.as_ptr();
        return_output(&mut output);
        assert_eq!(output.capacity(), 0);
        let again = take_output();
        assert_eq!(again.as_ptr(), address);
    }

    #[test]
    fn a_buffer_comes_back_empty() {
        let mut loan = PooledInput::take();
        put(loan.get(), 0, b"secret");
        drop(loan);
        assert!(PooledInput::take().get().is_empty());
    }

    #[test]
    fn a_buffer_that_grew_large_is_not_kept() {
        let mut output = Vec::with_capacity(KEPT_BYTES_MAX + 1);
        return_output(&mut output);
        assert!(take_output().capacity() <= KEPT_BYTES_MAX);
    }

    #[test]
    fn unread_bytes_move_only_when_there_is_no_room_and_never_over_what_is_kept() {
        let mut loan = PooledInput::take();
        let input = loan.get();
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
        let mut loan = PooledInput::take();
        let input = loan.get();
        for _ in 0..INPUT_BYTES {
            put(input, 0, b"0123456789");
        }
        assert_eq!(input.unread().len(), INPUT_BYTES * 10);
    }
}
