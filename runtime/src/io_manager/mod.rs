#![forbid(unsafe_code)]
//! The io manager of one capability: an edge-triggered epoll instance in front of the fd objects.
//!
//! It turns kernel events into a ready list (the tokens of the parks that may go on) and wakes nobody itself; the
//! scheduler does. Other capabilities and OS threads reach it in one way: the eventfd that is always in its set.

mod object;
mod source;

pub(crate) use object::{CAPABILITIES_MAX, Direction, Queued, Readiness, Wants};
pub(crate) use source::Source;

use crate::sys::epoll::{self, Epoll, Events, Timeout};
use crate::sys::eventfd::EventFd;
use crate::thread::Token;
use std::io;
use std::os::fd::AsFd;

/// Every event a descriptor may have, registered at once: re-arming would cost an epoll_ctl per change of mind. PRI,
/// since a read stops at an urgent mark (tcp(7)): it comes back short with more to come.
const INTEREST: u32 = epoll::IN | epoll::OUT | epoll::RDHUP | epoll::PRI;

/// The data word of the eventfd. No fd object has it: its index part is out of their range.
const WAKE: u64 = u64::MAX;

/// Events taken in one wait. Large enough for a whole burst; the array is touched only as far as it is filled.
pub(crate) const EVENTS_MAX: usize = 512;

#[derive(Debug)]
pub(crate) struct IoManager {
    epoll: Epoll,
    wake: EventFd,
}

impl IoManager {
    pub(crate) fn new() -> io::Result<IoManager> {
        let epoll = Epoll::new()?;
        let wake = EventFd::new()?;
        // Edge-triggered: every write is an edge, so that nobody has to read the counter.
        epoll.add(wake.as_fd(), epoll::IN, WAKE)?;
        Ok(IoManager { epoll, wake })
    }

    /// Ends the wait that the owner is in, or the next one. From any OS thread.
    pub(crate) fn interrupt(&self) {
        self.wake.signal();
    }

    /// Sees to it that events of `source` arrive here. What is ready already is reported by the next `poll`.
    pub(crate) fn register(&self, source: &Source, slot: u16) -> io::Result<()> {
        if source.object().is_registered(slot) {
            return Ok(());
        }
        self.epoll.add(source.as_fd(), INTEREST, source.object().data())?;
        source.object().set_registered(slot);
        Ok(())
    }

    /// Waits for events and gives the parks that they may end to `ready`. Returns how many events there were.
    pub(crate) fn poll(
        &self,
        events: &mut Events,
        timeout: Timeout,
        mut ready: impl FnMut(Token),
    ) -> io::Result<usize> {
        match self.epoll.wait(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            Err(error) => return Err(error),
        }
        let mut count = 0;
        for event in events.iter() {
            count += 1;
            if event.data() == WAKE {
                continue;
            }
            // An event of a descriptor that was closed meanwhile finds another generation, and is dropped.
            if let Some(object) = object::from_data(event.data()) {
                object.on_event(event.bits(), &mut ready);
            }
        }
        Ok(count)
    }
}
