//! Stacks: small, growable, guarded.
//!
//! A [`StackPool`] belongs to one capability and lends [`Stack`]s of a [`SizeClass`]. A stack is a slot of address
//! space: pages appear when first touched, a guard at the low end turns an overflow into a message and an abort
//! (`overflow`), and memory goes back to the kernel in batches once threads have finished. Taking and giving a warm
//! stack is a pop and a push: no system call, no clock, no lock.
//!
//! The layer knows nothing of coroutines or threads. It never looks into a stack, and it may not be used from more
//! than the one OS thread that owns the pool.

mod class;
mod error;
mod give_back;
mod guard;
pub(crate) mod overflow;
mod pool;
mod slab;
mod slot;
mod table;

pub(crate) use class::{GUARD_BYTES, SizeClass};
pub(crate) use error::{Limit, StackError};
pub(crate) use guard::{GuardKind, stacks_max};
pub(crate) use pool::{DECAY_NS, StackPool};
pub(crate) use slot::Stack;
pub(crate) use table::around;
