//! What becomes of a connection that leaves HTTP by `Upgrade` (RFC 9110 §7.8): a raw byte stream, and who serves it.
//!
//! ```text
//! 101 sent ──▶ Upgraded ──serve returns or panics──▶ lingering close
//!                 │ split                                  ▲
//!                 └──▶ reader, writer ── still held ───────┘ shut down in both directions
//! ```
//! The stream lives as long as the function that serves it, on the connection's own thread; so the connection counts,
//! drains and is killed like any other. Note [drain of an upgraded stream] says how its reader learns of a drain.
//!
//! Two threads of one capability may use the halves, each the only one of its direction, hence no lock. Only the writer enters
//! phases while the stream is in use: the reader's wait has no limit of its own.
//!
//! Note [drain of an upgraded stream]. A drain marks the activity and expires its wait. The read that this ends, or the
//! next one, says `TimedOut` without looking for bytes, once. From then on reads wait again, for the answer to a farewell, under the
//! limit of a lingering close. A writer takes an expiry back by entering its phase, so it expires the reader again when it
//! is done. One that never pauses would be back before the reader has run: as long as there is news, it lets the reader run
//! before it begins.
//!
//! Note [whose the socket is]. The connection's: it is closed with it, and only then does the connection leave the limits.
//! The halves borrow it for each call, so one that another thread keeps does not keep the descriptor. Whoever is in a call at that time
//! is woken, and gives it back as soon as it runs.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::rc::{Rc, Weak};

use crate::timeout::{Activity, Phase};
use crate::transport::Transport;

/// A connection after an upgrade, made by [`Response::upgrade`](crate::Response::upgrade): the raw stream, beginning with
/// what the client sent behind its request.
///
/// Reads wait as long as they like; [`bast::timeout`] around one limits it, and loses nothing. Writes go to the client
/// at once, without a buffer, and are under [`TimeLimits::write`](crate::TimeLimits::write). When the server drains, one read
/// fails with [`TimedOut`](io::ErrorKind::TimedOut) and [`is_draining`](Upgraded::is_draining) says so: the time to say
/// farewell. After that reads wait no longer than [`TimeLimits::linger`](crate::TimeLimits::linger).
pub struct Upgraded {
    reader: UpgradedReader,
    writer: UpgradedWriter,
}

impl Upgraded {
    /// The stream of a connection whose client was promised another protocol, and who may close it.
    pub(crate) fn new(activity: &Rc<Activity>, received: Vec<u8>) -> (Upgraded, Closer) {
        activity.set_left_http(true);
        let activity = Rc::downgrade(activity);
        let stream = Rc::new(Stream { activity, told: Cell::new(false), closed: Cell::new(false) });
        let closer = Closer(Rc::clone(&stream));
        let writer = UpgradedWriter { stream: Rc::clone(&stream) };
        (Upgraded { reader: UpgradedReader { stream, received, at: 0 }, writer }, closer)
    }

    /// Splits the stream for two threads of this capability ([`bast::spawn_local`]): one reads, the other writes.
    ///
    /// What the function that serves the stream leaves with another thread fails from its return on.
    #[must_use]
    pub fn split(self) -> (UpgradedReader, UpgradedWriter) {
        (self.reader, self.writer)
    }

    /// Is the server shutting down? Then the protocol should say farewell and the function return.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.reader.is_draining()
    }

    /// Ends the output: the client reads the end of the stream, and may go on sending.
    ///
    /// # Errors
    /// The client is gone.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.writer.shutdown()
    }
}

impl Read for Upgraded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Write for Upgraded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writer.write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").field("stream", &self.reader.stream).finish_non_exhaustive()
    }
}

/// The half of an [`Upgraded`] stream that reads.
pub struct UpgradedReader {
    stream: Rc<Stream>,
    /// What came with the request.
    received: Vec<u8>,
    /// How much of that was read.
    at: usize,
}

impl UpgradedReader {
    /// Is the server shutting down? See [`Upgraded::is_draining`].
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.stream.is_draining()
    }

    /// Waits until a read is expected not to wait: there are bytes, an end, or an error. Who waits like this needs no
    /// buffer meanwhile.
    ///
    /// # Errors
    /// As a read.
    pub fn wait_readable(&mut self) -> io::Result<()> {
        if !self.received.is_empty() {
            return Ok(());
        }
        self.stream.receive(Transport::wait_readable)
    }
}

impl Read for UpgradedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at < self.received.len() {
            let count = (&self.received[self.at..]).read(buffer)?;
            self.at += count;
            if self.at == self.received.len() {
                (self.received, self.at) = (Vec::new(), 0);
            }
            return Ok(count);
        }
        self.stream.read(buffer)
    }
}

impl fmt::Debug for UpgradedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradedReader").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// The half of an [`Upgraded`] stream that writes. Dropping it ends the output.
pub struct UpgradedWriter {
    stream: Rc<Stream>,
}

impl UpgradedWriter {
    /// Is the server shutting down? See [`Upgraded::is_draining`].
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.stream.is_draining()
    }

    /// Ends the output: the client reads the end of the stream, and may go on sending.
    ///
    /// # Errors
    /// The client is gone.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.stream.write(|transport| transport.shutdown(Shutdown::Write).map(|()| 0)).map(drop)
    }
}

impl Write for UpgradedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.let_reader_run()?;
        self.stream.write(|transport| transport.write(bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.let_reader_run()?;
        self.stream.write(|transport| transport.write_vectored(parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for UpgradedWriter {
    fn drop(&mut self) {
        // A client that is gone already is no news.
        let _ = self.shutdown();
    }
}

impl fmt::Debug for UpgradedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradedWriter").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// What the halves share.
#[derive(Debug)]
struct Stream {
    /// See Note [whose the socket is].
    activity: Weak<Activity>,
    /// The reader was told of the drain.
    told: Cell<bool>,
    /// Nothing can be read or written any more.
    closed: Cell<bool>,
}

impl Stream {
    /// The connection, which can be read and written.
    fn open(&self) -> io::Result<Rc<Activity>> {
        let activity = if self.closed.get() { None } else { self.activity.upgrade() };
        activity.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the upgraded connection is over"))
    }

    fn is_draining(&self) -> bool {
        self.activity.upgrade().is_some_and(|activity| activity.is_draining())
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.receive(|transport| transport.read(buffer))?;
        if let Some(activity) = self.activity.upgrade() {
            activity.count_received(count);
        }
        Ok(count)
    }

    fn receive<T>(&self, call: impl FnOnce(&Transport) -> io::Result<T>) -> io::Result<T> {
        let activity = self.open()?;
        if self.is_news(&activity) {
            return Err(self.tell(&activity));
        }
        match call(activity.transport()) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut && self.is_news(&activity) => {
                Err(self.tell(&activity))
            }
            result => result,
        }
    }

    /// The server drains, and the reader does not know.
    fn is_news(&self, activity: &Activity) -> bool {
        activity.is_draining() && !self.told.get()
    }

    /// Tells the reader of the drain; see the note above.
    fn tell(&self, activity: &Activity) -> io::Error {
        self.told.set(true);
        if activity.phase() != Phase::Write {
            self.rest(activity);
        }
        io::Error::new(io::ErrorKind::TimedOut, "the server is shutting down")
    }

    /// Enters the phase of a stream on which nobody writes. Once it is closed the connection has other phases, or none.
    fn rest(&self, activity: &Activity) {
        if self.closed.get() {
            return;
        }
        activity.enter(if self.told.get() { Phase::Linger } else { Phase::Upgraded });
        if self.is_news(activity) {
            activity.expire();
        }
    }

    /// Lets the reader hear of the drain before a write takes its expiry back.
    fn let_reader_run(&self) -> io::Result<()> {
        let activity = self.open()?;
        if self.is_news(&activity) {
            activity.expire();
            bast::yield_now();
        }
        Ok(())
    }

    fn write(&self, call: impl FnOnce(&Transport) -> io::Result<usize>) -> io::Result<usize> {
        struct Rest<'a>(&'a Stream, &'a Activity);
        impl Drop for Rest<'_> {
            fn drop(&mut self) {
                self.0.rest(self.1);
            }
        }
        let activity = self.open()?;
        let _rest = Rest(self, &activity);
        activity.enter(Phase::Write);
        let written = call(activity.transport());
        if let Ok(count) = written {
            // A failure is that of the limit, which is dealt with here.
            let _ = activity.sent(count);
        }
        if activity.is_expired() {
            // As in `Wire`: what the kernel found room for in the last look is no progress.
            self.close();
            return Err(io::ErrorKind::TimedOut.into());
        }
        written
    }

    /// Ends both directions, for whoever waits in one.
    fn close(&self) {
        self.closed.set(true);
        if let Some(activity) = self.activity.upgrade() {
            let _ = activity.transport().shutdown(Shutdown::Both);
        }
    }
}

/// Closes the stream when the function that serves it has ended, in whatever way.
pub(crate) struct Closer(Rc<Stream>);

impl Closer {
    /// Gives the connection back where nobody else has the stream and all is well: then it may linger.
    pub(crate) fn take_back(self) -> bool {
        let is_back = Rc::strong_count(&self.0) == 1 && !self.0.closed.get();
        if is_back && let Some(activity) = self.0.activity.upgrade() {
            activity.set_left_http(false);
        }
        is_back
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) > 1 && !self.0.closed.get() {
            self.0.close();
        }
    }
}

/// The other protocol of a response, and who speaks it; made by [`Response::upgrade`](crate::Response::upgrade).
pub struct Upgrade {
    pub(crate) protocol: Box<str>,
    pub(crate) serve: Box<dyn FnOnce(Upgraded)>,
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::twin::Twin;

    #[test]
    fn a_half_that_is_kept_does_not_keep_the_socket() {
        let twin = Twin::new(&[]);
        let activity = Activity::new((&twin).into(), None);
        let (upgraded, closer) = Upgraded::new(&activity, Vec::new());
        let (mut reader, mut writer) = upgraded.split();
        drop(closer);
        drop(activity);
        assert_eq!(Rc::strong_count(&twin), 1, "the connection has closed it");
        let over = Err(io::ErrorKind::NotConnected);
        assert_eq!(reader.read(&mut [0]).map_err(|error| error.kind()), over);
        assert_eq!(writer.write(b"x").map_err(|error| error.kind()), over);
    }
}
