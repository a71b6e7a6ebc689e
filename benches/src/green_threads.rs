//! The runtime without the HTTP server: one green thread per connection, with the floor's answers. What is
//! above this in the figures is the server's, what is below the runtime's.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use bast::net::{TcpListener, TcpStream};

use crate::answer::Answer;
use crate::blocking::{Blocking, converse};

/// Serves `answer` on `addr` for ever, on `workers` capabilities.
///
/// # Errors
/// The listening socket's and the runtime's; a connection's own only end that connection.
pub fn serve(addr: SocketAddr, workers: usize, answer: Answer) -> io::Result<()> {
    let runtime = bast::Runtime::builder().capabilities(workers).build()?;
    runtime.run(move || {
        let listener = TcpListener::bind(addr)?;
        listener.set_nodelay(true)?;
        let answer = Arc::new(answer);
        loop {
            let (stream, _) = listener.accept()?;
            let answer = Arc::clone(&answer);
            bast::Builder::new().spawn(move || converse(stream, &answer))?;
        }
    })
}

impl Blocking for TcpStream {
    fn send_file(&self, file: BorrowedFd<'_>, offset: &mut u64, len: usize) -> io::Result<usize> {
        TcpStream::send_file(self, file, offset, len)
    }

    fn sleep(duration: Duration) {
        bast::sleep(duration);
    }
}
