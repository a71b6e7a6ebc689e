#![forbid(unsafe_code)]
//! What messages call a thread: in panics, overflows and at shutdown.

use super::{current, park};
use crate::thread::control::Reference;
use crate::thread::{Control, ThreadId};
use std::fmt;
use std::sync::Once;

/// A thread in a few words, for messages.
pub(super) fn describe(control: &'static Control) -> String {
    let Some(reference) = Reference::try_new(control) else { return "thread".into() };
    let mut text = String::new();
    let _ = write_name(&mut text, &reference);
    if let Some(reason) = control.blocked_on() {
        text.push_str(&format!(" (blocked on {reason})"));
    }
    text
}

/// The running thread in a few words. Async-signal-safe: it reads, formats numbers, and nothing else.
pub(super) fn describe_running(out: &mut dyn fmt::Write) {
    let described = match current::thread() {
        Some((_, control)) => write_name(out, &Reference::new(control)),
        None => out.write_str("a scheduler"),
    };
    // The writer's only failure is to be full.
    let _ = described;
}

fn write_name(out: &mut dyn fmt::Write, thread: &Reference) -> fmt::Result {
    write!(out, "thread {}", thread.control().id().map_or(0, ThreadId::get))?;
    match thread.label() {
        Some(label) => write!(out, " \"{label}\""),
        None => Ok(()),
    }
}

/// Lets panic messages say which green thread panicked: std names the OS thread only. The hook that was there
/// before does the rest.
pub(super) fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if let Some((capability, control)) = current::thread() {
                park::begin_unwind();
                eprintln!("bast: {} panicked:", describe(control));
                // A neighbour's panic while this one is in its hook would end the process: std takes it for a second one.
                return capability.no_park(|| next(panic));
            }
            next(panic);
        }));
    });
}
