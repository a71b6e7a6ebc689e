//! The stack walker: from the registers at one point of a stack to the return addresses above it.
//!
//! A stack is never walked where it lies and nobody runs on it for our sake: its bytes are copied (by the kernel, or by
//! a signal's handler on the OS thread that runs on it) and the copy is unwound by its DWARF tables, elsewhere. So a walk
//! commits no page, stops no core, cannot fault, and may be wrong at worst: of a stack that changes while it is copied
//! some addresses belong to an earlier moment.
//!
//! ```text
//!   stack of a suspended thread                         what is copied
//!   base ┌──────────────────────────────┐              ┐
//!        │ frames of the thread         │              │
//!        │ ...                          │              │
//!        │ park ▸ suspend: its pushes   │              │
//!        │  ┌ pc, sp, fp (`here`) ◀───────── Control    ┘
//!        │ corosensei's own             │
//!   sp ─▶└──────────────────────────────┘
//! ```
//! The walk begins in the function that suspends, at the registers it had there; the tables say for every instruction
//! how to find the caller's. Nothing here knows what corosensei keeps below.

mod here;
pub(crate) mod symbols;
mod unwind;

pub(crate) use here::here;
pub(crate) use unwind::{NoStack, Walker};
