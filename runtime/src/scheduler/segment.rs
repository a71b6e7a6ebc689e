#![forbid(unsafe_code)]
//! Growing past the slot: a call that needs more stack than is left continues on a further segment.
//!
//! ```text
//!   stack of the thread          segment                segment
//!   ├ main                  ┌──▶ ├ f, on_stack     ┌──▶ ├ f
//!   ├ …                     │    ├ …               │    ├ … park: the switch goes from here to the scheduler
//!   ├ ensure_stack ─────────┘    ├ ensure_stack ───┘    │
//!   ┆ too little is left         ┆ too little           ┆
//!   guard                        guard                  guard
//! ```
//! Segments come out of the capability's pool, like the stacks of threads, and go back when the call has returned or has
//! unwound (the unwind is caught on the segment and goes on below it). Which stack the caller is on is not recorded
//! anywhere: its address tells (`Capability::stack_left`). So parking, being switched, killed or walked on a segment
//! needs nothing, and the message of an overflow names the segment that overflowed.

use super::{Capability, current, park};
use crate::coroutine;
use crate::stack::SizeClass;

/// Runs `f` with at least `bytes` of stack: where the caller stands, if so much is left, else on a further segment, which
/// is given back when `f` has returned. For recursion whose depth the input decides, such as in parsers: called in
/// each step, it makes the depth a question of memory.
///
/// ```
/// fn depth(nested: &str) -> usize {
///     // More than a step needs; a step that finds as much goes on where it is.
///     bast::ensure_stack(32 << 10, || match nested.strip_prefix('(') {
///         Some(inner) => 1 + depth(inner),
///         None => 0,
///     })
/// }
/// let nested = "(".repeat(100_000); // tens of megabytes, on a thread of 192 KiB
/// assert_eq!(bast::run(move || depth(&nested)), 100_000);
/// ```
///
/// `f` may do all that the caller may: park, spawn, unwind, borrow from the caller, call `ensure_stack` again. Where
/// enough is left it costs a few nanoseconds, and a segment some tens more. A segment has 192 KiB or the least size of
/// [`Builder::stack_size`](crate::Builder::stack_size) that holds `bytes`; it is guarded as stacks are, and an overflow of
/// it says its size.
///
/// On a plain OS thread it only calls `f`, on the stack that the OS thread has: how much is left there is not known.
/// That is sound, since such a stack has a guard too, but an overflow ends the process there.
///
/// # Panics
/// If a segment is needed and `bytes` is more than 8 MiB, or there is no memory for one. Unwinds if `f` does.
#[inline]
pub fn ensure_stack<R>(bytes: usize, f: impl FnOnce() -> R) -> R {
    match current::thread() {
        Some((capability, _)) if capability.stack_left().is_some_and(|left| left < bytes) => {
            on_segment(capability, bytes, f)
        }
        _ => f(),
    }
}

/// How much stack the caller has left before it must continue elsewhere ([`ensure_stack`]) or overflows, in bytes; `None`
/// on a plain OS thread. It is the distance to the guard of the stack, or segment, that the caller is on.
pub fn stack_left() -> Option<usize> {
    current::thread().and_then(|(capability, _)| capability.stack_left())
}

#[cold]
fn on_segment<R>(capability: &Capability, bytes: usize, f: impl FnOnce() -> R) -> R {
    // A slot has a page more than its class promises; the frames of the switch take less of it.
    let class = match SizeClass::for_bytes(bytes) {
        Ok(class) if class.bytes() < SizeClass::DEFAULT.bytes() => SizeClass::DEFAULT,
        Ok(class) => class,
        Err(error) => panic!("ensure_stack: {error}"),
    };
    let segment = match capability.take_stack(class) {
        Ok(segment) => segment,
        Err(error) => panic!("ensure_stack: {error}"),
    };
    let result = coroutine::on_stack(&segment, f);
    capability.give_stack(segment);
    result.unwrap_or_else(|payload| park::resume_unwind(payload))
}
