//! A connection that speaks another protocol from now on.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};

use bast::net::TcpStream;

/// The raw connection behind a `101 Switching Protocols`. It reads first what was received together with the response.
///
/// No limit of time of the client's counts any more; set those of the [stream](Upgraded::stream) as wanted.
#[derive(Debug)]
pub struct Upgraded {
    stream: TcpStream,
    /// Received with the head, and read up to there.
    received: io::Cursor<Vec<u8>>,
}

impl Upgraded {
    pub(super) fn new(stream: TcpStream, received: Vec<u8>) -> Upgraded {
        Upgraded { stream, received: io::Cursor::new(received) }
    }

    /// The stream, for its settings and for waiting. Reading from it directly would miss what was received already.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The bytes received and not read yet, which come first, and the stream: for two threads that read and write.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, TcpStream) {
        let at = usize::try_from(self.received.position()).unwrap_or(usize::MAX);
        let mut received = self.received.into_inner();
        received.drain(..at.min(received.len()));
        (received, self.stream)
    }
}

impl Read for Upgraded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.received.read(buffer)? {
            0 if !buffer.is_empty() => self.stream.read(buffer),
            count => Ok(count),
        }
    }
}

impl Write for Upgraded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
