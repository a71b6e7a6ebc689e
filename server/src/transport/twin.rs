//! A transport in memory: a script of what the client sends, and a record of what happened.
//!
//! It needs no runtime and never waits: where a socket would, the script goes on, ends, or (a silent client) the wait
//! times out.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

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
}

/// The server's end of a scripted connection.
#[derive(Default)]
pub(crate) struct Twin {
    script: RefCell<VecDeque<Vec<u8>>>,
    events: RefCell<Vec<Event>>,
    /// After the script the client neither sends nor closes.
    silent: Cell<bool>,
    expired: Cell<bool>,
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
    pub(crate) fn silent(script: &[&[u8]]) -> Rc<Twin> {
        let twin = Twin::new(script);
        twin.silent.set(true);
        twin
    }

    /// Adds to what the client sends.
    pub(crate) fn push(&self, part: &[u8]) {
        self.script.borrow_mut().push_back(part.to_vec());
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// The outputs, one for each system call.
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
    pub(crate) fn output(&self) -> String {
        self.sends().concat()
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.expired.get()
    }

    /// What the client sent and the server did not read.
    pub(crate) fn unread(&self) -> usize {
        self.script.borrow().iter().map(Vec::len).sum()
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
    pub(super) fn is_hung_up(&self) -> bool {
        self.expired.get() || (self.script.borrow().is_empty() && !self.silent.get())
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
        Ok(count)
    }

    pub(super) fn write(&self, bytes: &[u8]) -> usize {
        self.record(bytes);
        self.corked.set(false);
        bytes.len()
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

    pub(super) fn expire(&self) {
        self.expired.set(true);
    }

    pub(super) fn unexpire(&self) {
        self.expired.set(false);
    }
}
