//! One request, one response, in whole: to learn what a server answers before it is measured.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::response::{Head, head_end};
use crate::url::Target;

/// A server that has not answered a single request by then is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// A response in whole.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What the head says.
    pub head: Head,
    /// The head's bytes, with the empty line.
    pub head_bytes: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
}

/// Fetches `target` over a connection of its own; `close` asks for its end with the response.
///
/// # Errors
/// The connection's, `InvalidData` for a malformed response, `UnexpectedEof` for an incomplete one.
pub fn fetch(target: &Target, close: bool) -> io::Result<Fetched> {
    Ok(fetch_over_new(target, close)?.1)
}

/// The same, and the connection, which is still open unless its end was asked for.
///
/// # Errors
/// Those of [`fetch`].
pub fn fetch_over_new(target: &Target, close: bool) -> io::Result<(TcpStream, Fetched)> {
    let mut stream = TcpStream::connect_timeout(&target.addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&target.request(close))?;
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = head_end(&bytes) {
            break end;
        }
        read_more(&mut stream, &mut bytes)?;
    };
    let head = Head::parse(&bytes[..end])?;
    while bytes.len() < end + head.length {
        read_more(&mut stream, &mut bytes)?;
    }
    let body = bytes.split_off(end);
    Ok((stream, Fetched { head, head_bytes: bytes, body }))
}

fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut part = [0; 16 * 1024];
    match stream.read(&mut part)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        len => {
            bytes.extend_from_slice(&part[..len]);
            Ok(())
        }
    }
}
