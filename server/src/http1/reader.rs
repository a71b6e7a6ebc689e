//! Request bodies as readers: framing is eaten, data goes to the caller, large pieces past the input buffer.
#![forbid(unsafe_code)]

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Read};

use crate::buffer::Input;
use crate::http1::body::{RequestBody, Step};
use crate::http1::encode::CONTINUE;
use crate::http1::head::Refusal;
use crate::http1::wire::Wire;
use crate::message::Status;
use crate::timeout::Phase;

/// The body of a request, as a blocking reader that ends where the body ends.
///
/// Errors of the body (malformed, too large, cut off, too slow) come as [`io::Error`]; turned into an
/// [`Error`](crate::Error) by `?` they are answered by 400, 413 or 408.
pub struct BodyReader<'r> {
    pub(crate) wire: &'r Wire,
    pub(crate) input: &'r mut Input,
    pub(crate) body: &'r mut RequestBody,
    /// The client waits for a 100 before it sends the body.
    pub(crate) expects_continue: &'r mut bool,
    /// What must stay in the input: the head.
    pub(crate) keep: usize,
}

/// From this size on a read goes to the caller's memory without passing the input buffer.
const DIRECT_READ_BYTES_MIN: usize = 4 << 10;

impl BodyReader<'_> {
    /// The fields behind a chunked body: none before it was read to its end. See
    /// [`Request::trailers`](crate::Request::trailers).
    pub fn trailers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.body.trailers()
    }

    /// Tells a client that waits for it to send its body.
    pub(crate) fn ask(&mut self) -> io::Result<()> {
        if !*self.expects_continue {
            return Ok(());
        }
        *self.expects_continue = false;
        self.wire.output().bytes.extend_from_slice(CONTINUE);
        self.wire.flush()
    }

    /// Waits for more of the body: into `direct` if given, else into the input buffer.
    fn receive(&mut self, direct: Option<&mut [u8]>) -> io::Result<usize> {
        self.ask()?;
        let received = self.wire.in_phase(Phase::Body, || match direct {
            Some(buffer) => self.wire.read(buffer),
            None => self.wire.fill(self.input, self.keep),
        });
        match received {
            Ok(0) => {
                self.body.break_off();
                Err(BodyError::cut_off(io::ErrorKind::UnexpectedEof))
            }
            Ok(count) => Ok(count),
            Err(error) => {
                self.body.break_off();
                Err(BodyError::cut_off(error.kind()))
            }
        }
    }
}

impl Read for BodyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let (framing, step) = self.body.step(self.input.unread()).map_err(BodyError::refused)?;
            self.input.consume(framing);
            match step {
                Step::Done => return Ok(0),
                Step::Data(left) => {
                    let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let unread = self.input.unread();
                    let count = if unread.is_empty() && want >= DIRECT_READ_BYTES_MIN {
                        self.receive(Some(&mut buffer[..want]))?
                    } else if unread.is_empty() {
                        self.receive(None)?;
                        continue;
                    } else {
                        let count = want.min(unread.len());
                        buffer[..count].copy_from_slice(&unread[..count]);
                        self.input.consume(count);
                        count
                    };
                    self.body.took(count);
                    return Ok(count);
                }
                Step::More => {
                    self.receive(None)?;
                }
            }
        }
    }
}

impl fmt::Debug for BodyReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyReader").field("body", &self.body).finish_non_exhaustive()
    }
}

/// Why the body of a request could not be read: carried inside an [`io::Error`], because bodies are read by
/// [`std::io::Read`].
#[derive(Debug)]
pub(crate) struct BodyError(pub(crate) Refusal);

impl BodyError {
    /// The refusal, as what `Read` returns.
    pub(crate) fn refused(refusal: Refusal) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, BodyError(refusal))
    }

    /// The client closed or fell silent within its body.
    pub(crate) fn cut_off(cause: io::ErrorKind) -> io::Error {
        let refusal = match cause {
            io::ErrorKind::TimedOut => {
                Refusal { status: Status::REQUEST_TIMEOUT, reason: "request body did not arrive in time" }
            }
            _ => Refusal { status: Status::BAD_REQUEST, reason: "request body cut off" },
        };
        io::Error::new(cause, BodyError(refusal))
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.reason)
    }
}

impl StdError for BodyError {}
