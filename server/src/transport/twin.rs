//! A transport in memory: a script of what the client sends, and a record of what happened.
//!
//! It needs no runtime and never waits: where a socket would, the script goes on, ends, or (a silent client) the wait
//! times out.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;
#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicBool, Ordering};

use super::Transport;

/// One thing that the server did to its transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// One system call's worth of output.
    Sent(Vec<u8>),
    /// A read that returned so many bytes.
    Received(usize),
    /// The output was ended.
    ShutDown,
    /// The connection is to be reset.
    Reset,
}

/// The server's end of a scripted connection.
#[derive(Default)]
pub(crate) struct Twin {
    script: RefCell<VecDeque<Vec<u8>>>,
    events: RefCell<Vec<Event>>,
    /// After the script the client neither sends nor closes.
    silent: Cell<bool>,
    expired: Cell<bool>,
    /// So much of the output was not acknowledged by the client.
    unacknowledged: Cell<usize>,
    /// How many bytes one write takes at most.
    room: Cell<Option<usize>>,
    /// While this is set the client takes no second write.
    #[cfg(test)]
    stalled: RefCell<Option<Arc<AtomicBool>>>,
    /// The server said that nothing is missing.
    said_farewell: Cell<bool>,
    /// Where in memory the slices of the outputs lay, and how long they were: what was copied on its way lies elsewhere.
    #[cfg(test)]
    lent: RefCell<Vec<(usize, usize)>>,
    /// Where in memory reads have put their bytes.
    #[cfg(test)]
    filled: RefCell<Vec<(usize, usize)>>,
    /// `send_more` came last: the next output belongs to the same segment.
    corked: Cell<bool>,
}

impl Twin {
    /// A client that sends these parts, each received by its own read, and closes.
    pub(crate) fn new(script: &[&[u8]]) -> Rc<Twin> {
        let script = script.iter().filter(|part| !part.is_empty()).map(|part| part.to_vec()).collect();
        Rc::new(Twin { script: RefCell::new(script), ..Twin::default() })
    }

    /// The same client, but it never closes.
    #[cfg(test)]
    pub(crate) fn silent(script: &[&[u8]]) -> Rc<Twin> {
        let twin = Twin::new(script);
        twin.silent.set(true);
        twin
    }

    /// From now on a write takes so many bytes at most, as where the socket's buffer is nearly full. With 0 writes fail.
    #[cfg(test)]
    pub(crate) fn narrow(&self, room: usize) {
        self.room.set(Some(room));
    }

    /// A client that takes so many bytes, and no more until the flag is taken back: a write waits.
    #[cfg(test)]
    pub(crate) fn stall(&self, room: usize) -> Arc<AtomicBool> {
        let stalled = Arc::new(AtomicBool::new(true));
        self.narrow(room);
        *self.stalled.borrow_mut() = Some(Arc::clone(&stalled));
        stalled
    }

    #[cfg(test)]
    fn wait_while_stalled(&self) {
        let Some(stalled) = self.stalled.borrow().clone() else { return };
        while stalled.load(Ordering::SeqCst) && !self.sends().is_empty() {
            bast::yield_now();
        }
        if !stalled.load(Ordering::SeqCst) {
            self.room.set(None);
        }
    }

    /// The slices that were written: address and length.
    #[cfg(test)]
    pub(crate) fn lent(&self) -> Vec<(usize, usize)> {
        self.lent.borrow().clone()
    }

    /// The memory that was read into: address and length.
    #[cfg(test)]
    pub(crate) fn filled(&self) -> Vec<(usize, usize)> {
        self.filled.borrow().clone()
    }

    #[cfg(test)]
    pub(crate) fn said_farewell(&self) -> bool {
        self.said_farewell.get()
    }

    /// Adds to what the client sends.
    #[cfg(test)]
    pub(crate) fn push(&self, part: &[u8]) {
        self.script.borrow_mut().push_back(part.to_vec());
    }

    #[cfg(test)]
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// The outputs, one for each system call.
    #[cfg(test)]
    pub(crate) fn sends(&self) -> Vec<String> {
        self.events
            .borrow()
            .iter()
            .filter_map(|event| match event {
                Event::Sent(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
                _ => None,
            })
            .collect()
    }

    /// All output.
    #[cfg(test)]
    pub(crate) fn output(&self) -> String {
        self.sends().concat()
    }

    #[cfg(test)]
    pub(crate) fn is_expired(&self) -> bool {
        self.expired.get()
    }

    /// What the client sent and the server did not read.
    pub(crate) fn unread(&self) -> usize {
        self.script.borrow().iter().map(Vec::len).sum()
    }

    /// From now on the client has not acknowledged so many bytes.
    #[cfg(test)]
    pub(crate) fn set_unacknowledged(&self, bytes: usize) {
        self.unacknowledged.set(bytes);
    }

    /// All output as it is.
    #[cfg(feature = "testing")]
    pub(crate) fn output_bytes(&self) -> Vec<u8> {
        let events = self.events.borrow();
        let sent = events
            .iter()
            .filter_map(|event| if let Event::Sent(bytes) = event { Some(&bytes[..]) } else { None });
        sent.collect::<Vec<_>>().concat()
    }

    fn record(&self, bytes: &[u8]) {
        let mut events = self.events.borrow_mut();
        match events.last_mut() {
            Some(Event::Sent(segment)) if self.corked.get() => segment.extend_from_slice(bytes),
            _ => events.push(Event::Sent(bytes.to_vec())),
        }
    }
}

impl From<&Rc<Twin>> for Transport {
    fn from(twin: &Rc<Twin>) -> Transport {
        Transport::Twin(Rc::clone(twin))
    }
}

/// What `Transport` asks for.
impl Twin {
    /// The end of the script is no end of the client: it still waits for its answer.
    pub(super) fn is_hung_up(&self) -> bool {
        self.expired.get()
    }

    pub(super) fn wait_readable(&self) -> io::Result<()> {
        if self.script.borrow().is_empty() && (self.silent.get() || self.expired.get()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.read(buffer) {
            Ok(count) => Ok(Some(count)),
            Err(_) => Ok(None),
        }
    }

    pub(super) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait_readable()?;
        let script = self.script.borrow();
        let Some(part) = script.front() else { return Ok(0) };
        let count = part.len().min(buffer.len());
        buffer[..count].copy_from_slice(&part[..count]);
        Ok(count)
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait_readable()?;
        let mut script = self.script.borrow_mut();
        let Some(part) = script.front_mut() else { return Ok(0) };
        let count = part.len().min(buffer.len());
        buffer[..count].copy_from_slice(&part[..count]);
        part.drain(..count);
        if part.is_empty() {
            script.pop_front();
        }
        self.events.borrow_mut().push(Event::Received(count));
        #[cfg(test)]
        self.filled.borrow_mut().push((buffer.as_ptr().addr(), count));
        Ok(count)
    }

    pub(super) fn write(&self, bytes: &[u8]) -> usize {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    pub(super) fn write_vectored(&self, parts: &[IoSlice<'_>]) -> usize {
        #[cfg(test)]
        self.lent.borrow_mut().extend(parts.iter().map(|part| (part.as_ptr().addr(), part.len())));
        #[cfg(test)]
        self.wait_while_stalled();
        let room = self.room.get().unwrap_or(usize::MAX);
        let mut taken = Vec::new();
        for part in parts {
            taken.extend_from_slice(&part[..part.len().min(room - taken.len())]);
        }
        self.record(&taken);
        self.corked.set(false);
        taken.len()
    }

    pub(super) fn send_more(&self, bytes: &[u8]) -> usize {
        self.record(bytes);
        self.corked.set(true);
        bytes.len()
    }

    pub(super) fn send_file(&self, file: BorrowedFd<'_>, offset: &mut u64, len: usize) -> io::Result<usize> {
        let mut bytes = vec![0; len.min(100_000)];
        let count = File::from(file.try_clone_to_owned()?).read_at(&mut bytes, *offset)?;
        *offset += count as u64;
        self.record(&bytes[..count]);
        self.corked.set(count < len);
        Ok(count)
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        if how == Shutdown::Both {
            self.script.borrow_mut().clear();
            self.silent.set(false);
        }
        self.events.borrow_mut().push(Event::ShutDown);
    }

    pub(super) fn unacknowledged(&self) -> usize {
        self.unacknowledged.get()
    }

    pub(super) fn farewell(&self) {
        self.said_farewell.set(true);
    }

    pub(super) fn reset_on_close(&self) {
        self.events.borrow_mut().push(Event::Reset);
    }

    pub(super) fn expire(&self) {
        self.expired.set(true);
    }

    pub(super) fn unexpire(&self) {
        self.expired.set(false);
    }
}
