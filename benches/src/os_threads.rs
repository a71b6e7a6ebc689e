//! A reference: one OS thread per connection, blocking std (FEATURES W05). What direct style costs without a
//! runtime.
#![forbid(unsafe_code)]

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::answer::Answer;
use crate::blocking::{Blocking, converse};
use crate::sys;

const STACK_BYTES: usize = 64 * 1024;

/// Serves `answer` on `addr` for ever.
///
/// # Errors
/// The listening socket's; a connection's own only end that connection.
pub fn serve(addr: SocketAddr, answer: Answer) -> io::Result<()> {
    let listener = sys::listen(addr)?;
    let answer = Arc::new(answer);
    loop {
        let (stream, _) = listener.accept()?;
        let answer = Arc::clone(&answer);
        thread::Builder::new().stack_size(STACK_BYTES).spawn(move || converse(stream, &answer))?;
    }
}

impl Blocking for TcpStream {
    fn send_file(&self, file: BorrowedFd<'_>, offset: &mut u64, len: usize) -> io::Result<usize> {
        let sent = sys::send_file(self.as_fd(), file, *offset as usize, len)?;
        *offset += sent as u64;
        Ok(sent)
    }

    fn sleep(duration: Duration) {
        thread::sleep(duration);
    }
}
