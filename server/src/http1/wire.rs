//! A connection's byte stream with the output that is held back: what `serve`, body readers and writers share.
//!
//! Note [held output]. Answers are gathered in one buffer and sent together, but nobody waits because of that:
//! `serve` sends what is held before it handles a request that is not wholly received, and the park hook
//! ([`Wire::flush_before_park`]) sends it before the connection's thread parks for whatever reason: a handler that
//! sleeps, a lock, a database. The buffer sits in a `RefCell` that is never borrowed while the application runs, so
//! the hook finds it free then. It finds it borrowed only when the park is that of a flush itself, or of who is told that
//! it failed: then there is nothing left to send.
//!
//! Note [turn]. An answer that is made ahead of its turn (`ahead.rs`) is written to a wire of its own over the same transport. Until
//! its turn comes that wire only holds: a flush waits for the turn, and the park hook does nothing. The connection's thread
//! takes over what is held, sends it, and only then says whose turn it is, so that there is one writer at any time. No borrow
//! of the output is alive while a thread waits for its turn. A turn that will not come is given up: whoever waits for it, in a thread
//! that is unwinding or cannot be interrupted too, is told that nothing can be sent.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell, RefMut};
use std::io::{self, IoSlice};
use std::iter;
use std::mem;
use std::net::Shutdown;
use std::rc::Rc;

use bast::fs::File;
use bast::sync::Once;

use crate::buffer::{Buffers, Input};
use crate::hooks::FaultKind;
use crate::http1::encode;
use crate::message::Status;
use crate::proxy::Proxied;
use crate::sent::Outcome;
use crate::timeout::{Activity, Phase};
use crate::whereabouts::Whereabouts;

/// Output is sent as soon as this much is held.
pub(crate) const HELD_BYTES_MAX: usize = 16 << 10;

/// How much is read and dropped before a close that does not wait, in pieces of 512 bytes: what a client sends with a request.
const UNREAD_PIECES_MAX: usize = 128;

/// One connection's stream.
#[derive(Debug)]
pub(crate) struct Wire {
    activity: Rc<Activity>,
    output: RefCell<Output>,
    /// Whom a proxy speaks for on this connection.
    proxied: Option<Rc<Proxied>>,
    /// What is sent waits for this; see Note [turn]. Nearly always nothing.
    turn: Option<Box<Turn>>,
    /// How many bytes have left: all that was ever in the output, but for what is there now, and what was sent past it.
    gone: Cell<u64>,
    /// The response that was begun last: its status, and where in all bytes its body begins.
    begun: Cell<(Option<Status>, u64)>,
    /// How many requests had been received when the last head was composed.
    answered: Cell<u32>,
}

/// The turn of an answer that is made ahead.
#[derive(Debug, Default)]
struct Turn {
    /// Set before anybody is woken, which may let others run.
    state: Cell<TurnState>,
    wake: Once,
}

/// ```text
///   Awaited ──give_turn──▶ Come ──give_up──▶ GivenUp
///      └──────────────give_up──────────────────▲
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TurnState {
    #[default]
    Awaited,
    Come,
    /// The connection does without it: nothing more can be sent.
    GivenUp,
}

/// Bytes to be sent.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Without room while the connection has no buffers.
    pub(crate) bytes: Vec<u8>,
    /// Where the chunk begins that is being written.
    chunk: Option<usize>,
    sending: Sending,
}

/// May more be sent?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sending {
    #[default]
    Possible,
    /// It was interrupted in the middle of what cannot be taken up again.
    Torn,
    /// It failed, and that was told.
    Failed,
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
        Wire {
            activity,
            output: RefCell::default(),
            proxied: None,
            turn: None,
            gone: Cell::new(0),
            begun: Cell::new((None, 0)),
            answered: Cell::new(0),
        }
    }

    /// The same stream, which a proxy made if it said so.
    pub(crate) fn behind(self, proxied: Option<Rc<Proxied>>) -> Wire {
        Wire { proxied, ..self }
    }

    /// A wire over the same transport for an answer whose turn has not come. It holds in `output`.
    pub(crate) fn ahead(&self, output: Vec<u8>) -> Wire {
        Wire {
            output: RefCell::new(Output { bytes: output, ..Output::default() }),
            turn: Some(Box::default()),
            ..Wire::new(Rc::clone(&self.activity)).behind(self.proxied.clone())
        }
    }

    /// Its turn has come: nothing is before it any more, and it sends by itself.
    pub(crate) fn give_turn(&self) {
        self.end_wait(TurnState::Come);
    }

    /// Its turn will not come, or is over: what is sent from now on fails. An unwind does not cut this short, because nobody else
    /// would wake who waits.
    pub(crate) fn give_up(&self) {
        bast::mask(|_| self.end_wait(TurnState::GivenUp));
    }

    fn end_wait(&self, state: TurnState) {
        if let Some(turn) = &self.turn {
            turn.state.set(state);
            turn.wake.call_once(|| {});
        }
    }

    /// # Errors
    /// `BrokenPipe` where the turn was given up.
    #[inline]
    fn await_turn(&self) -> io::Result<()> {
        let Some(turn) = &self.turn else { return Ok(()) };
        if turn.state.get() == TurnState::Awaited {
            turn.wake.wait();
        }
        if turn.state.get() == TurnState::GivenUp {
            // Whoever reads this as a failure of the client's side is right: it gets no more.
            self.output.borrow_mut().sending = Sending::Failed;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    /// Appends what `other` holds, or fails as that has failed. `false` while its thread is in the middle of composing, where it had to
    /// let others run.
    pub(crate) fn take_over(&self, other: &Wire) -> bool {
        let Ok(mut from) = other.output.try_borrow_mut() else { return false };
        let mut output = self.output.borrow_mut();
        if from.sending == Sending::Possible {
            from.close_chunk();
            other.gone.set(other.gone.get() + from.bytes.len() as u64);
            output.bytes.append(&mut from.bytes);
        } else {
            output.sending = from.sending;
        }
        true
    }

    /// The answer to the request that was received last is that of `other`, if any of it has left that or may just be leaving.
    pub(crate) fn is_answered_by(&self, other: &Wire) {
        if other.gone.get() > 0 || other.output.try_borrow().is_err() {
            self.answered.set(self.activity.requests());
        }
    }

    /// Does it hold an answer that is made ahead?
    pub(crate) fn is_ahead(&self) -> bool {
        self.turn.is_some()
    }

    /// The status of the response that was begun last.
    pub(crate) fn status(&self) -> Option<Status> {
        self.begun.get().0
    }

    /// Gives up the room for output.
    pub(crate) fn take_room(&self) -> Vec<u8> {
        mem::take(&mut self.output.borrow_mut().bytes)
    }

    pub(crate) fn proxied(&self) -> Option<&Proxied> {
        self.proxied.as_deref()
    }

    /// Whose connection it is, behind a proxy too, and what it does: for a log line.
    #[cold]
    pub(crate) fn whereabouts(&self) -> Whereabouts {
        let whereabouts = self.activity.whereabouts();
        Whereabouts { peer: self.proxied().map(Proxied::client).or(whereabouts.peer), ..whereabouts }
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// The activity, for what outlives the story of the connection.
    pub(crate) fn shared_activity(&self) -> &Rc<Activity> {
        &self.activity
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

    /// A response with this status begins: its head is what was appended to `output` last, but for `composed_bytes` of its body that are
    /// there already. All that leaves behind the head is its body, which is how [`outcome`](Wire::outcome) counts that.
    #[inline]
    pub(crate) fn begin_body(&self, output: &Output, status: Status, composed_bytes: usize) {
        self.answered.set(self.activity.requests());
        let head_end = output.bytes.len() - composed_bytes;
        self.begun.set((Some(status), self.gone.get() + head_end as u64));
    }

    /// Where in all bytes the next one will be that is appended to the output.
    pub(crate) fn position(&self) -> u64 {
        self.gone.get() + self.held() as u64
    }

    /// Takes back all that was appended since this position. `false` if some of it has left already, or nothing more can be sent.
    pub(crate) fn take_back(&self, position: u64) -> bool {
        let mut output = self.output.borrow_mut();
        let Some(kept) = position.checked_sub(self.gone.get()) else { return false };
        if output.sending != Sending::Possible {
            return false;
        }
        debug_assert!(
            output.chunk.is_none_or(|start| start as u64 >= kept),
            "wire: a chunk of the answer before"
        );
        output.chunk = None;
        output.bytes.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        // The request is without an answer again.
        self.answered.set(self.activity.requests().wrapping_sub(1));
        true
    }

    /// No response has begun yet.
    pub(crate) fn begin_exchange(&self) {
        self.begun.set((None, 0));
    }

    /// What has become of the response that was begun. What is held counts as sent.
    pub(crate) fn outcome(&self, is_whole: bool) -> Outcome {
        let (status, body_at) = self.begun.get();
        // The output is borrowed where its sending was interrupted.
        let (held, failed) = self
            .output
            .try_borrow()
            .map_or((0, true), |output| (output.bytes.len() as u64, output.sending != Sending::Possible));
        let body_bytes = if status.is_some() { (self.gone.get() + held).saturating_sub(body_at) } else { 0 };
        Outcome { status, body_bytes, is_whole: is_whole && !failed }
    }

    /// Has sending failed? Then that was told already, and what the writer makes of it is no fault of its own.
    pub(crate) fn has_failed(&self) -> bool {
        self.output.try_borrow().is_ok_and(|output| output.sending == Sending::Failed)
    }

    /// Can more be sent? Not behind what was broken off in the middle.
    pub(crate) fn can_send(&self) -> bool {
        self.output.try_borrow().is_ok_and(|output| output.sending == Sending::Possible)
    }

    /// Was a request received of whose answer nothing was composed, and can one still be sent?
    pub(crate) fn owes_an_answer(&self) -> bool {
        let is_free = |output: &Output| output.sending == Sending::Possible && output.bytes.is_empty();
        self.answered.get() != self.activity.requests()
            && self.output.try_borrow().is_ok_and(|it| is_free(&it))
    }

    /// Sends this as the last of the connection, in a thread that is unwinding: without waiting, and all or nothing for what the
    /// client knows.
    #[cold]
    pub(crate) fn send_last_words(&self, bytes: &[u8]) {
        let transport = self.activity.transport();
        if !transport.write(bytes).is_ok_and(|count| count == bytes.len()) {
            return;
        }
        let _ = self.activity.sent(bytes.len());
        let _ = transport.shutdown(Shutdown::Write);
        // What is unread would make the close a reset, which could destroy them (RFC 9112 §9.6).
        let mut piece = [0; 512];
        for _ in 0..UNREAD_PIECES_MAX {
            if !matches!(transport.try_read(&mut piece), Ok(Some(1..))) {
                return;
            }
        }
    }

    /// How many bytes are held.
    pub(crate) fn held(&self) -> usize {
        self.output.borrow().bytes.len()
    }

    /// Sends what is held.
    ///
    /// # Errors
    /// Those of the transport, now or in an earlier flush.
    #[inline]
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.await_turn()?;
        self.send(&mut self.output.borrow_mut())
    }

    /// Sends what is held and then these parts, which are not copied, by as few system calls as the client's side has room
    /// for.
    pub(crate) fn flush_with<'p>(&self, parts: impl Iterator<Item = &'p [u8]>) -> io::Result<()> {
        /// So many slices need no memory of their own: what is held, and most bodies.
        const FEW: usize = 4;
        self.await_turn()?;
        self.send_once(&mut self.output.borrow_mut(), |held| {
            #[expect(clippy::redundant_closure, reason = "the slices live no longer than what is held")]
            let slices = iter::once(IoSlice::new(held)).chain(parts.map(|part| IoSlice::new(part)));
            if slices.size_hint().1.is_some_and(|count| count <= FEW) {
                let mut few = [IoSlice::new(&[]); FEW];
                few.iter_mut().zip(slices).for_each(|(to, slice)| *to = slice);
                self.send_slices(&mut few)
            } else {
                self.send_slices(&mut slices.collect::<Vec<_>>())
            }
        })
    }

    /// The park hook; see Note [held output]. A failure is kept for the next flush to report.
    pub(crate) fn flush_before_park(&self) {
        if self.turn.as_ref().is_none_or(|turn| turn.state.get() == TurnState::Come)
            && let Ok(mut output) = self.output.try_borrow_mut()
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
        if output.sending != Sending::Possible {
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
        output.sending = if sent.is_ok() { Sending::Possible } else { Sending::Failed };
        sent.inspect_err(|error| self.write_failed(error))
    }

    /// Sends the output and what `body` has besides. Interrupted, that cannot be taken up again.
    fn send_once(&self, output: &mut Output, body: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        output.close_chunk();
        if output.sending != Sending::Possible {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        output.sending = Sending::Torn;
        let sent = self.in_phase(Phase::Write, || body(&output.bytes));
        output.sending = if sent.is_ok() { Sending::Possible } else { Sending::Failed };
        output.bytes.clear();
        sent.inspect_err(|error| self.write_failed(error))
    }

    #[cold]
    fn write_failed(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::TimedOut {
            // The kernel would keep what it has, megabytes, for as long as the client takes a byte now and then.
            self.activity.transport().reset_on_close();
        }
        let kind = match error.kind() {
            // Of a file that was to be sent.
            io::ErrorKind::UnexpectedEof => FaultKind::BrokenOff,
            kind => FaultKind::Write(kind),
        };
        self.in_phase(Phase::Write, || self.activity.failed(kind, error));
    }

    /// The kernel takes 1,024 slices (IOV_MAX) at a time; the transport gives it no more.
    #[inline(never)]
    fn send_slices(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        // Empty slices in front are passed by: a call with nothing in it would look like a client that takes nothing.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let sent = self.activity.transport().write_vectored(slices)?;
            self.client_took_bytes(sent)?;
            IoSlice::advance_slices(&mut slices, sent);
        }
        Ok(())
    }

    /// Notes that the client's side took so many bytes.
    ///
    /// # Errors
    /// `WriteZero` where it took none, `TimedOut` as for [`Activity::sent`].
    #[inline]
    fn client_took_bytes(&self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.gone.set(self.gone.get() + count as u64);
        self.activity.sent(count)
    }

    /// Sends what is held and then `len` bytes of a file from `offset` on, in whole segments.
    ///
    /// # Errors
    /// Those of the transport, and `UnexpectedEof` where the file is shorter than it was.
    pub(crate) fn flush_with_file(&self, file: &File, mut offset: u64, mut len: u64) -> io::Result<()> {
        self.await_turn()?;
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

    /// Sends what is held of a connection whose thread is killed: answers that were given before.
    #[cold]
    #[inline(never)]
    fn send_rest(&self) {
        let _ = self.flush();
    }

    /// Waits for input and appends it to `input`; returns 0 at the end of the stream.
    pub(crate) fn fill(&self, input: &mut Input, keep: usize) -> io::Result<usize> {
        input.fill(keep, |room| self.read(room))
    }

    /// Waits for input.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.activity.transport().read(buffer)?;
        self.activity.received(count)?;
        Ok(count)
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
        if self.wire.held() > 0 {
            self.wire.send_rest();
        }
        mem::swap(&mut self.wire.output.borrow_mut().bytes, &mut buffers.output);
        buffers.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeout::Activity;
    use crate::transport::twin::Twin;

    #[test]
    fn an_answer_that_was_taken_back_is_owed_again() {
        let twin = Twin::new(&[]);
        let wire = Wire::new(Activity::new((&twin).into(), None));
        assert!(!wire.owes_an_answer(), "nothing was asked");
        wire.activity().begin_request();
        assert!(wire.owes_an_answer());
        let begin = wire.position();
        let mut output = wire.output();
        output.bytes.extend_from_slice(b"a head");
        wire.begin_body(&output, Status::OK, 0);
        drop(output);
        assert!(!wire.owes_an_answer(), "it was composed");
        assert!(wire.take_back(begin), "none of it was sent");
        assert!(wire.owes_an_answer());
    }
}
