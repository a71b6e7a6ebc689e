//! Requests whose body is written while they are sent.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Read, Write};

use super::error::Error;
use super::headers::Lines;
use super::response::Response;
use super::sending::Sending;
use crate::http1::trailers;

/// How much of a reader is read at once.
const PIECE_BYTES: usize = 16 << 10;

/// A request whose body is being written, made by [`Request::start`](super::Request::start).
///
/// What is written is gathered, and sent when 16 KiB are there and by [`flush`](Write::flush). If the server answers early,
/// with an error or a redirect, writing fails with `BrokenPipe`, and [`finish`](Upload::finish) has the answer. An answer
/// that is none of these is kept until then: a server that sends much before it has the request, and a client that reads
/// nothing before it has sent it, would wait for each other until the limit of writing. For such servers there is
/// [`duplex`](Upload::duplex). Dropped, it breaks the request off.
#[must_use = "without `finish` the request is broken off"]
pub struct Upload {
    sending: Sending,
    trailers: Lines,
    is_chunked: bool,
}

impl Upload {
    pub(super) fn new(sending: Sending, is_chunked: bool) -> Upload {
        Upload { sending, trailers: Lines::default(), is_chunked }
    }

    /// Writes what the reader has, until the server has heard enough.
    ///
    /// # Errors
    /// Those of the reader, and of sending.
    pub(super) fn copy_from(&mut self, reader: &mut impl Read) -> Result<(), Error> {
        let mut piece = vec![0; PIECE_BYTES];
        while !self.sending.is_stopped() {
            match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => self.sending.write(&piece[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let unread = Error::io("the body to be sent could not be read", error);
                    return Err(unread.about(self.sending.place()));
                }
            }
        }
        Ok(())
    }

    /// Splits the exchange in two, for two threads: one writes the request while the other reads the response. The
    /// connection serves no other exchange afterwards.
    ///
    /// ```no_run
    /// # use std::io::{self, Write};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = bast_server::client::Client::new();
    /// let (mut request, answer) = client.post("http://127.0.0.1:8080/translate").start()?.duplex()?;
    /// let writing = bast::spawn(move || {
    ///     for line in io::stdin().lines() {
    ///         writeln!(request, "{}", line?)?;
    ///         request.flush()?;
    ///     }
    ///     request.finish().map_err(io::Error::other)
    /// });
    /// io::copy(answer.wait()?.body(), &mut io::stdout())?;
    /// writing.join()??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// There is no second handle of the connection.
    pub fn duplex(self) -> Result<(DuplexWriter, DuplexAnswer), Error> {
        let (writer, answer) = self.sending.split()?;
        let upload = Upload { sending: writer, trailers: self.trailers, is_chunked: self.is_chunked };
        Ok((DuplexWriter { upload }, DuplexAnswer { sending: answer }))
    }

    /// Adds a field behind the body (RFC 9110 §6.5).
    ///
    /// # Errors
    /// The body is not sent in chunks; the field is malformed, or one that must not come so late (RFC 9110 §6.5.1).
    pub fn trailer(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let refused = if !self.is_chunked {
            "trailers behind a body that is not chunked"
        } else if !trailers::is_allowed(name.as_bytes()) {
            "a field that must not be a trailer"
        } else if !self.trailers.put(name, value.as_ref(), false) {
            "a malformed trailer"
        } else {
            return Ok(());
        };
        Err(Error::request(refused).about(self.sending.place()))
    }

    /// Ends the body and waits for the head of the response.
    ///
    /// # Errors
    /// Less was written than announced; there is no response, or it is not one of HTTP/1.
    pub fn finish(self) -> Result<Response, Error> {
        self.sending.finish(&self.trailers)
    }

    fn is_open(&self) -> io::Result<()> {
        if self.sending.is_stopped() {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the server does not want the rest of the request",
            ));
        }
        Ok(())
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_open()?;
        self.sending.write(bytes).map_err(Error::into_io)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.is_open()?;
        self.sending.flush().map_err(Error::into_io)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("is_chunked", &self.is_chunked).finish_non_exhaustive()
    }
}

/// The half of an exchange that writes the request, made by [`Upload::duplex`]. What was written without being finished
/// is broken off when this is dropped.
#[derive(Debug)]
#[must_use = "without `finish` the request is broken off"]
pub struct DuplexWriter {
    upload: Upload,
}

impl DuplexWriter {
    /// Adds a field behind the body.
    ///
    /// # Errors
    /// As [`Upload::trailer`].
    pub fn trailer(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.upload.trailer(name, value)
    }

    /// Ends the body.
    ///
    /// # Errors
    /// Less was written than announced, or the server did not take it in time. That it has closed is no error here: its
    /// answer may say why.
    pub fn finish(mut self) -> Result<(), Error> {
        let Upload { sending, trailers, .. } = &mut self.upload;
        sending.finish_writing(trailers)
    }
}

impl Write for DuplexWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.upload.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.upload.flush()
    }
}

impl Drop for DuplexWriter {
    fn drop(&mut self) {
        self.upload.sending.break_off();
    }
}

/// The half of an exchange that waits for the response, made by [`Upload::duplex`].
#[must_use = "without `wait` there is no response"]
pub struct DuplexAnswer {
    sending: Sending,
}

impl DuplexAnswer {
    /// Waits for the head of the response, for [`TimeLimits::head`](super::TimeLimits::head) from now on.
    ///
    /// # Errors
    /// There is no response, or it is not one of HTTP/1.
    pub fn wait(self) -> Result<Response, Error> {
        self.sending.finish_reading()
    }
}

impl fmt::Debug for DuplexAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DuplexAnswer").finish_non_exhaustive()
    }
}
