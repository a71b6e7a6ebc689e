//! A connection's byte stream with the output that is held back: what `serve`, body readers and writers share.
//!
//! Note [held output]. Answers are gathered in one buffer and sent together, but nobody waits because of that:
//! `serve` sends what is held before it handles a request that is not wholly received, and the park hook
//! ([`Wire::flush_before_park`]) sends it before the connection's thread parks for whatever reason: a handler that
//! sleeps, a lock, a database. The buffer sits in a `RefCell` that is never borrowed while the application runs, so
//! the hook finds it free then. It finds it borrowed only when the park is that of a flush itself.
#![forbid(unsafe_code)]

use std::cell::{RefCell, RefMut};
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use crate::buffer::{Buffers, Input};
use crate::http1::encode;
use crate::timeout::{Activity, Phase};

/// Output is sent as soon as this much is held.
pub(crate) const HELD_BYTES_MAX: usize = 16 << 10;

/// One connection's stream.
#[derive(Debug)]
pub(crate) struct Wire {
    activity: Rc<Activity>,
    output: RefCell<Output>,
}

/// Bytes to be sent.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Without room while the connection has no buffers.
    pub(crate) bytes: Vec<u8>,
    /// Where the chunk begins that is being written.
    chunk: Option<usize>,
    /// Sending failed; nothing can be sent any more.
    failed: bool,
}

impl Output {
    /// Opens a chunk unless one is open.
    pub(crate) fn open_chunk(&mut self) {
        if self.chunk.is_none() {
            self.chunk = Some(encode::begin_chunk(&mut self.bytes));
        }
    }

    /// Closes the chunk that is open.
    #[inline]
    pub(crate) fn close_chunk(&mut self) {
        if let Some(start) = self.chunk.take() {
            encode::end_chunk(&mut self.bytes, start);
        }
    }
}

impl Wire {
    pub(crate) fn new(activity: Rc<Activity>) -> Wire {
        Wire { activity, output: RefCell::default() }
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// The activity, for what outlives the story of the connection.
    pub(crate) fn share_activity(&self) -> Rc<Activity> {
        Rc::clone(&self.activity)
    }

    /// Takes buffers from the pool until the loan is dropped.
    pub(crate) fn borrow_buffers(&self) -> Loan<'_> {
        let mut buffers = Buffers::take();
        mem::swap(&mut self.output.borrow_mut().bytes, &mut buffers.output);
        Loan { wire: self, buffers: Some(buffers) }
    }

    /// The output buffer, to append to. The borrow must end before anything that may park.
    #[inline]
    pub(crate) fn output(&self) -> RefMut<'_, Output> {
        self.output.borrow_mut()
    }

    /// How many bytes are held.
    pub(crate) fn held(&self) -> usize {
        self.output.borrow().bytes.len()
    }

    /// Sends what is held.
    ///
    /// # Errors
    /// Those of the transport, now or in an earlier flush.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.send(&mut self.output.borrow_mut())
    }

    /// Sends what is held and then `more`, which is not copied.
    pub(crate) fn flush_with(&self, more: &[u8]) -> io::Result<()> {
        self.send_once(&mut self.output.borrow_mut(), |bytes| self.send_both(bytes, more))
    }

    /// The park hook; see Note [held output]. A failure is kept for the next flush to report.
    pub(crate) fn flush_before_park(&self) {
        if let Ok(mut output) = self.output.try_borrow_mut()
            && !output.bytes.is_empty()
        {
            let _ = self.send(&mut output);
        }
    }

    /// Sends the output, which is empty afterwards. If the thread is interrupted meanwhile (a handler's limit passes in
    /// the park hook, say), just what was not sent is left for the next flush.
    #[inline]
    fn send(&self, output: &mut Output) -> io::Result<()> {
        output.close_chunk();
        if output.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut unsent = Unsent { bytes: &mut output.bytes, sent: 0 };
        let sent = self.in_phase(Phase::Write, || {
            while unsent.sent < unsent.bytes.len() {
                let sent = self.activity.transport().write(&unsent.bytes[unsent.sent..])?;
                unsent.sent += sent;
                self.client_took_bytes(sent)?;
            }
            Ok(())
        });
        unsent.finish();
        output.failed = sent.is_err();
        sent
    }

    /// Sends the output and what `body` has besides. Interrupted, that cannot be taken up again.
    fn send_once(&self, output: &mut Output, body: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        output.close_chunk();
        if output.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        output.failed = true;
        let sent = self.in_phase(Phase::Write, || body(&output.bytes));
        output.failed = sent.is_err();
        output.bytes.clear();
        sent
    }

    #[inline]
    fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self.activity.transport().write(bytes)?;
            self.client_took_bytes(sent)?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    #[inline(never)]
    fn send_both(&self, mut first: &[u8], second: &[u8]) -> io::Result<()> {
        while !first.is_empty() {
            let parts = [IoSlice::new(first), IoSlice::new(second)];
            let sent = self.activity.transport().write_vectored(&parts)?;
            self.client_took_bytes(sent)?;
            match first.get(sent..) {
                Some(rest) => first = rest,
                None => return self.send_all(&second[sent - first.len()..]),
            }
        }
        self.send_all(second)
    }

    /// Notes that the client's side took so many bytes.
    ///
    /// # Errors
    /// `WriteZero` where it took none. `TimedOut` where that was the last look after the limit. The kernel finds room for a few more bytes now and
    /// then although the client reads nothing; taken for progress, that would keep such a client for minutes.
    #[inline]
    fn client_took_bytes(&self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if self.activity.is_expired() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.activity.progress();
        Ok(())
    }

    /// Sends what is held and then `len` bytes of a file from `offset` on, in whole segments.
    ///
    /// # Errors
    /// Those of the transport, and `UnexpectedEof` where the file is shorter than it was.
    pub(crate) fn flush_with_file(
        &self,
        file: BorrowedFd<'_>,
        mut offset: u64,
        mut len: u64,
    ) -> io::Result<()> {
        self.send_once(&mut self.output.borrow_mut(), |mut head| {
            let transport = self.activity.transport();
            while !head.is_empty() {
                let sent = transport.send_more(head)?;
                self.client_took_bytes(sent)?;
                head = &head[sent..];
            }
            while len > 0 {
                let want = usize::try_from(len).unwrap_or(usize::MAX);
                let sent = transport.send_file(file, &mut offset, want)?;
                if sent == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.client_took_bytes(sent)?;
                len -= sent as u64;
            }
            Ok(())
        })
    }

    /// Waits for input and appends it to `input`; returns 0 at the end of the stream.
    pub(crate) fn fill(&self, input: &mut Input, keep: usize) -> io::Result<usize> {
        input.fill(keep, |room| self.read(room))
    }

    /// Waits for input.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.activity.transport().read(buffer)
    }

    /// Runs `body` in a phase, and returns to the one before.
    #[inline]
    pub(crate) fn in_phase<T>(&self, phase: Phase, body: impl FnOnce() -> T) -> T {
        struct Return<'a>(&'a Activity, Phase);
        impl Drop for Return<'_> {
            #[inline]
            fn drop(&mut self) {
                self.0.enter(self.1);
            }
        }
        let _return = Return(&self.activity, self.activity.phase());
        self.activity.enter(phase);
        body()
    }
}

/// Output of which the first bytes were sent. If it is dropped by an unwind the others stay.
struct Unsent<'a> {
    bytes: &'a mut Vec<u8>,
    sent: usize,
}

impl Unsent<'_> {
    /// All of it was sent, or cannot be any more.
    #[inline]
    fn finish(mut self) {
        self.sent = 0;
        self.bytes.clear();
    }
}

impl Drop for Unsent<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.sent > 0 {
            self.bytes.drain(..self.sent);
        }
    }
}

/// The buffers of a connection while it is in the middle of a request: the input here, the output with its [`Wire`].
/// They go back to the pool with whatever is in them.
#[derive(Debug)]
pub(crate) struct Loan<'w> {
    wire: &'w Wire,
    /// Until it is dropped.
    buffers: Option<Box<Buffers>>,
}

impl Loan<'_> {
    #[inline]
    pub(crate) fn input(&mut self) -> &mut Input {
        &mut self.buffers.as_mut().expect("wire: buffers used after their return").input
    }
}

impl Drop for Loan<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(mut buffers) = self.buffers.take() else { return };
        mem::swap(&mut self.wire.output.borrow_mut().bytes, &mut buffers.output);
        buffers.give_back();
    }
}
