//! The story of a connection in direct style, told once for OS threads and for green threads (FEATURES W09).
//!
//! It has the floor's answers and its shortcuts (requests are not parsed), so what it costs beyond the floor
//! is what its kind of thread costs.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::answer::{Answer, count_heads};

const INPUT_BYTES: usize = 16 * 1024;

/// What a connection needs of its kind of thread besides `Read` and `Write`.
pub trait Blocking: Read + Write {
    /// sendfile(2) of up to `len` bytes, which moves `offset` on.
    ///
    /// # Errors
    /// Those of the call.
    fn send_file(&self, file: BorrowedFd<'_>, offset: &mut u64, len: usize) -> io::Result<usize>;

    /// Blocks the calling thread for this time.
    fn sleep(duration: Duration);
}

/// Answers the requests of one connection until the peer closes it.
///
/// # Errors
/// The connection's or the file's; either ends the conversation.
pub fn converse<S: Blocking>(mut stream: S, answer: &Answer) -> io::Result<()> {
    let mut input = vec![0; INPUT_BYTES];
    let mut output = Vec::new();
    let mut left = [0; 3];
    loop {
        input[..3].copy_from_slice(&left);
        let len = stream.read(&mut input[3..])?;
        if len == 0 {
            return Ok(());
        }
        let heads;
        (heads, left) = count_heads(&input[..3 + len]);
        if heads == 0 {
            continue;
        }
        if !answer.delay.is_zero() {
            S::sleep(answer.delay);
        }
        if answer.is_sent_from_page_cache() {
            for _ in 0..heads {
                send_from_page_cache(&mut stream, answer)?;
            }
        } else {
            answer.compose(heads, &mut output)?;
            stream.write_all(&output[..heads * answer.bytes_each()])?;
        }
        if answer.close {
            return Ok(());
        }
    }
}

fn send_from_page_cache(stream: &mut impl Blocking, answer: &Answer) -> io::Result<()> {
    stream.write_all(&answer.head)?;
    let Some((file, len)) = &answer.file else { return Ok(()) };
    let len = *len as u64;
    let mut offset = 0;
    while offset < len {
        let rest = (len - offset) as usize;
        if stream.send_file(file.as_fd(), &mut offset, rest)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
