#![forbid(unsafe_code)]
//! Signals as something to wait for.

use crate::critical::Section;
use crate::io_manager::{Direction, Source};
use crate::net::{Operation, retry};
use crate::sys::signal::{self, Inbox};
use crate::thread::block::BlockedOn;
use std::io;
use std::os::fd::AsFd;

/// A signal that a program may want to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP.
    HangUp,
    /// SIGQUIT: Ctrl-\.
    Quit,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
}

const ALL: [(Signal, i32); 6] = [
    (Signal::Interrupt, signal::INTERRUPT),
    (Signal::Terminate, signal::TERMINATE),
    (Signal::HangUp, signal::HANG_UP),
    (Signal::Quit, signal::QUIT),
    (Signal::User1, signal::USER_1),
    (Signal::User2, signal::USER_2),
];

/// Receives signals of the process from now on, instead of what they would have done. Signals of one kind that come
/// faster than they are waited for are one. Several receivers of a signal all get it.
///
/// A signal keeps being caught after the receiver is gone; with no receiver it does nothing.
#[derive(Debug)]
pub struct Signals {
    inbox: &'static Inbox,
    source: Source,
}

impl Signals {
    /// Starts to receive the given signals.
    ///
    /// # Errors
    /// Those of sigaction(2) and eventfd(2); more than 16 receivers at a time.
    pub fn new(signals: &[Signal]) -> io::Result<Signals> {
        let numbers: Vec<i32> =
            ALL.iter().filter(|(signal, _)| signals.contains(signal)).map(|&(_, number)| number).collect();
        let section = Section::enter();
        let inbox = signal::subscribe(&numbers)?;
        drop(section);
        let fd = inbox.event().as_fd().try_clone_to_owned()?;
        Ok(Signals { inbox, source: Source::new(fd) })
    }

    /// Waits for the next signal. Interruptible by a kill.
    ///
    /// # Errors
    /// Those of read(2), none of which is expected.
    pub fn wait(&self) -> io::Result<Signal> {
        let operation = Operation {
            direction: Direction::Read,
            reason: |_| BlockedOn::Signal,
            limit: None,
            exclusive: false,
        };
        loop {
            if let Some(number) = self.inbox.take()
                && let Some(&(signal, _)) = ALL.iter().find(|(_, known)| *known == number)
            {
                return Ok(signal);
            }
            retry(&self.source, operation, |_| self.inbox.event().drain(), |()| false)?;
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _section = Section::enter();
        signal::unsubscribe(self.inbox);
    }
}
