#![forbid(unsafe_code)]
//! A dump on SIGQUIT (Ctrl-\ on a terminal), as Go and the JVM have it.

use super::dump;
use crate::scheduler::{Inner, current};
use crate::sys::epoll::{self, Epoll, Events, Timeout};
use crate::sys::signal;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::thread;

/// Makes SIGQUIT (`Ctrl-\`, `kill -QUIT`) write a [`dump`](crate::dump()) of the caller's runtime to stderr, from now on and as
/// long as the runtime lives. To be called once, at the start: it dumps nothing itself, and without it the signal ends the
/// process, as is the system's default.
///
/// An OS thread waits for the signal, so that it works when all cores are stuck.
///
/// It is called within the runtime that it is to watch. What makes one by itself where there is none, as `serve` of
/// `bast-server` does, has no place for that, so it is called in one:
///
/// ```
/// # fn serve() -> std::io::Result<()> { Ok(()) }
/// fn main() -> std::io::Result<()> {
///     bast::run(|| {
///         bast::dump_on_sigquit()?;
///         serve()
///     })
/// }
/// ```
///
/// # Errors
/// The OS thread or the descriptors that it needs cannot be had.
///
/// # Panics
/// Outside a runtime; see [`Handle::dump_on_sigquit`](crate::Handle::dump_on_sigquit).
pub fn dump_on_sigquit() -> io::Result<()> {
    let capability =
        current::get().expect("bast::dump_on_sigquit outside a runtime: use Handle::dump_on_sigquit");
    watch(capability.runtime())
}

pub(crate) fn watch(runtime: &Arc<Inner>) -> io::Result<()> {
    let epoll = Epoll::new()?;
    let inbox = signal::subscribe(&[signal::QUIT])?;
    let runtime = Arc::downgrade(runtime);
    let started = epoll.add(inbox.event().as_fd(), epoll::IN, 0).and_then(|()| {
        let wait = move || {
            // A wait that fails for another reason than a signal would do so for ever.
            while wait(&epoll, inbox).is_ok() && print(&runtime) {}
            signal::unsubscribe(inbox);
        };
        thread::Builder::new().name("bast-sigquit".into()).spawn(wait)
    });
    if let Err(error) = started {
        signal::unsubscribe(inbox);
        return Err(error);
    }
    Ok(())
}

fn wait(epoll: &Epoll, inbox: &signal::Inbox) -> io::Result<()> {
    let mut events = Events::new(1);
    while inbox.take().is_none() {
        match epoll.wait(&mut events, Timeout::Never) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// False: the runtime is gone.
fn print(runtime: &Weak<Inner>) -> bool {
    let Some(runtime) = runtime.upgrade() else { return false };
    let text = dump::take(&runtime).to_string();
    // Nobody can be told that stderr is closed.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    true
}
