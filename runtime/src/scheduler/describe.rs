#![forbid(unsafe_code)]
//! What messages call a thread: in panics, overflows and at shutdown.

use super::{current, park};
use crate::thread::control::Reference;
use crate::thread::label::Label;
use crate::thread::{Control, ThreadId};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::fmt;
use std::panic::PanicHookInfo;
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

/// Where the size of the running thread's stack is set. Async-signal-safe, as [`describe_running`] is.
pub(super) fn stack_set_by() -> &'static str {
    let role = current::thread().and_then(|(_, control)| match Reference::new(control).label() {
        Some(Label::Role(role, _)) => Some(*role),
        _ => None,
    });
    role.map_or("Builder::stack_size", |role| role.stack_set_by)
}

fn write_name(out: &mut dyn fmt::Write, thread: &Reference) -> fmt::Result {
    write!(out, "thread {}", thread.control().id().map_or(0, ThreadId::get))?;
    match thread.label() {
        Some(label) => write!(out, " \"{label}\""),
        None => Ok(()),
    }
}

/// Where a panic began; see [`take_panic_place`].
#[derive(Debug)]
pub struct PanicPlace {
    location: String,
    backtrace: Option<String>,
}

impl PanicPlace {
    /// File, line and column, as `src/main.rs:7:5`.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The stack, where `RUST_BACKTRACE` asks for it.
    #[must_use]
    pub fn backtrace(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }
}

/// So many panics of one OS thread may be on their way, or caught by who did not ask for their places; older ones are
/// forgotten.
const PLACES_MAX: usize = 8;

thread_local! {
    /// By green thread, the latest last.
    static PLACES: RefCell<Vec<(Option<ThreadId>, PanicPlace)>> = const { RefCell::new(Vec::new()) };
}

fn remember(control: &'static Control, panic: &PanicHookInfo<'_>) {
    let location = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let place = (control.id(), PanicPlace { location, backtrace });
    PLACES.with(|places| {
        let mut places = places.borrow_mut();
        if places.len() == PLACES_MAX {
            places.remove(0);
        }
        places.push(place);
    });
}

/// Where the latest panic of the calling green thread began, for who has caught it and writes a log; nothing where
/// somebody has asked before. The runtime's own panic hook takes note of it: one that was set later, and does not call
/// the one before it, hides panics from it.
///
/// ```
/// bast::run(|| {
///     bast::catch_unwind(|| panic!("no")).unwrap_err();
///     let place = bast::take_panic_place().expect("there was a panic");
///     assert!(place.location().contains(".rs:"));
///     assert!(bast::take_panic_place().is_none());
/// });
/// ```
pub fn take_panic_place() -> Option<PanicPlace> {
    let (_, control) = current::thread()?;
    let id = control.id();
    PLACES.with(|places| {
        let mut places = places.borrow_mut();
        let latest = places.iter().rposition(|(thread, _)| *thread == id)?;
        let (_, place) = places.remove(latest);
        // Earlier ones of this thread were caught by who did not ask.
        places.retain(|(thread, _)| *thread != id);
        Some(place)
    })
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
                return capability.no_park(|| {
                    remember(control, panic);
                    next(panic);
                });
            }
            next(panic);
        }));
    });
}
