#![forbid(unsafe_code)]
//! Signals as something that a thread receives, like messages from a channel.
//!
//! ```no_run
//! use bast::signal::{Signal, Signals};
//!
//! # fn main() -> std::io::Result<()> {
//! bast::run(|| {
//!     let signals = Signals::new([Signal::HangUp, Signal::Terminate])?;
//!     for signal in &signals {
//!         match signal {
//!             Signal::HangUp => println!("reading the settings again"),
//!             _ => break,
//!         }
//!     }
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Ctrl-C as an exception in the main thread
//! In GHC's runtime an interrupt is thrown to the main thread, wherever it is blocked. Here it is a pattern: a thread
//! receives the signal and kills the one that is to be interrupted, whose destructors run. The second Ctrl-C, of an
//! impatient user, ends the process at once:
//!
//! ```no_run
//! use bast::signal::{Signal, Signals};
//!
//! # fn the_program() {}
//! # fn main() -> std::io::Result<()> {
//! let signals = Signals::new([Signal::Interrupt])?; // from here on Ctrl-C is ours
//! let main = bast::Runtime::builder().build()?.run(move || {
//!     let main = bast::spawn(the_program);
//!     let program = main.thread();
//!     bast::spawn(move || {
//!         signals.wait().expect("signals can be received");
//!         program.kill();
//!         signals.wait().expect("signals can be received");
//!         std::process::exit(130);
//!     });
//!     main.join()
//! });
//! if main.is_err_and(|error| error.is_killed()) {
//!     std::process::exit(130); // 128 + SIGINT, as shells have it
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Why a handler and not signalfd(2)
//! A signalfd needs its signals blocked in every OS thread of the process, those of other libraries and those that were
//! there before us included: one that is not takes the signal away, and its default action ends the process. The mask
//! also passes to the programs that the process starts, which then cannot be interrupted. A handler that sets a bit and
//! writes to an eventfd per receiver needs none of that.

use crate::critical::Section;
use crate::io_manager::{Direction, Source};
use crate::net::{Announced, Operation, retry};
use crate::scheduler::wake_all;
use crate::sys::signal::{self, Inbox};
use crate::thread::block::BlockedOn;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

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
    /// SIGCHLD: a child has stopped or ended. [`process`](crate::process) does not need it.
    Child,
    /// SIGWINCH: the terminal has another size.
    WindowChange,
}

const ALL: [(Signal, i32); 8] = [
    (Signal::Interrupt, signal::INTERRUPT),
    (Signal::Terminate, signal::TERMINATE),
    (Signal::HangUp, signal::HANG_UP),
    (Signal::Quit, signal::QUIT),
    (Signal::User1, signal::USER_1),
    (Signal::User2, signal::USER_2),
    (Signal::Child, signal::CHILD),
    (Signal::WindowChange, signal::WINDOW_CHANGE),
];

impl Signal {
    /// The number that the kernel knows the signal by (signal(7)).
    pub fn number(self) -> i32 {
        let entry = ALL.iter().find(|(signal, _)| *signal == self);
        entry.expect("signal: all signals are in the table").1
    }

    fn of_number(number: i32) -> Signal {
        let entry = ALL.iter().find(|(_, known)| *known == number);
        entry.expect("signal: only signals of the table are subscribed to").0
    }
}

/// Receives signals of the process from now on, instead of what they would have done. Signals of one kind that come
/// faster than they are waited for are one; of those of several kinds that have come the lowest number is first. Several
/// receivers of a signal all get it; several threads that wait at one receiver get one each.
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
    pub fn new(signals: impl IntoIterator<Item = Signal>) -> io::Result<Signals> {
        let numbers: Vec<i32> = signals.into_iter().map(Signal::number).collect();
        let section = Section::enter();
        let inbox = signal::subscribe(&numbers)?;
        drop(section);
        match inbox.event().as_fd().try_clone_to_owned() {
            Ok(fd) => Ok(Signals { inbox, source: Source::new(fd) }),
            Err(error) => {
                signal::unsubscribe(inbox);
                Err(error)
            }
        }
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// `NotConnected` after [`close`](Signals::close).
    ///
    /// # Cancellation
    /// Interruptible: no signal is lost with the caller.
    pub fn wait(&self) -> io::Result<Signal> {
        self.receive(None)
    }

    /// Waits for the next signal, but no longer than `limit`: then `None`.
    ///
    /// # Errors
    /// As [`wait`](Signals::wait).
    pub fn wait_timeout(&self, limit: Duration) -> io::Result<Option<Signal>> {
        match self.receive(Some(limit)) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
            result => result.map(Some),
        }
    }

    /// The next signal, if one has come. Never parks.
    pub fn try_wait(&self) -> Option<Signal> {
        self.inbox.take().map(Signal::of_number)
    }

    /// Ends the waits of all threads at this receiver, and all later ones.
    pub fn close(&self) {
        self.source.object().close(&mut wake_all);
    }

    fn receive(&self, limit: Option<Duration>) -> io::Result<Signal> {
        let operation = Operation {
            direction: Direction::Read,
            reason: |_| BlockedOn::Signal,
            limit,
            exclusive: false,
            announced: Announced::ByEvent,
        };
        // The handler sets the bit before it writes to the eventfd, so after an eventfd that had nothing a signal that
        // is not seen here is yet to be announced.
        let next = |_: std::os::fd::BorrowedFd<'_>| {
            loop {
                if let Some(number) = self.inbox.take() {
                    return Ok(Signal::of_number(number));
                }
                self.inbox.event().drain()?;
            }
        };
        retry(&self.source, operation, next, |_| false)
    }
}

/// Waits for one signal after another, until [`close`](Signals::close).
#[derive(Debug)]
pub struct Iter<'a> {
    signals: &'a Signals,
}

impl Iterator for Iter<'_> {
    type Item = Signal;

    fn next(&mut self) -> Option<Signal> {
        self.signals.wait().ok()
    }
}

impl<'a> IntoIterator for &'a Signals {
    type Item = Signal;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter { signals: self }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _section = Section::enter();
        signal::unsubscribe(self.inbox);
    }
}

/// Waits for the next Ctrl-C (SIGINT).
///
/// From the first call on Ctrl-C does not end the process any more, not even between two calls, when it does nothing: who
/// wants to see each of them keeps a [`Signals`].
///
/// # Errors
/// Those of [`Signals::new`] and [`Signals::wait`].
///
/// # Cancellation
/// Interruptible.
pub fn ctrl_c() -> io::Result<()> {
    Signals::new([Signal::Interrupt])?.wait().map(drop)
}
