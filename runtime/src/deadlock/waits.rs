//! Note [wait-for]: who waits for whom, from thread to mutex to thread.
//!
//! ```text
//!   thread A ── control block: `block` = mutex M2 ──▶ word of M2: owner = index of B
//!      ▲                                                              │
//!      └── word of M1: owner = index of A ◀── `block` = mutex M1 ── thread B
//! ```
//! A mutex has its owner in its lock word, which locking writes anyhow. A thread that waits for a mutex has the address
//! of that word in its control block while it is parked. So the lock path keeps no books, and whoever is about to wait
//! follows the arrows.
//!
//! # No cycle is missed
//! Each thread publishes its arrow (the address, and that it is parked) and then, behind a fence, looks at those of the
//! others. Of two that close a cycle from both sides one looks second, and sees it. Afterwards a cycle cannot come to
//! be: an owner gets a mutex only while it runs.
//!
//! # No cycle is reported that is none
//! The arrows are read one after the other while the others go on, so a first walk proves nothing. A second one that
//! meets the same parks (tokens are never used again) and the same owners does: between the two all of them were parked
//! at once, and who is parked for one mutex neither gets nor gives up another. A thread whose wait has a deadline is not
//! stuck, and ends the walk. What is taken for granted is that the thread that locked a mutex is the one that unlocks
//! it. A guard can be moved to another thread, of the same capability, through `spawn_local`; its locker counts as the
//! owner even so. A guard that was forgotten stays its thread's as well, or that of the next thread in the same slot of
//! the table; such a mutex is never unlocked, so whoever waits for it does so in vain.
//!
//! # The word of a mutex that others wait for is alive
//! A walker reads words by address. Whoever is parked for a mutex borrows it; what must be kept off is that it goes on
//! and drops the mutex between two steps of a walker. So it looks, behind a fence, at [`WALKING`] when its park is over
//! ([`leave`]), after its control block has lost the address; the walker sets it, and then looks, behind a fence, at the
//! control block. One of them sees the other's store: the walker finds no address, or the leaver waits for the walker.

use crate::thread::{Control, Token, table};
use std::collections::VecDeque;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Mutex, PoisonError};

/// Where the owner begins in the word of a mutex: below are the flags, above the table index of a thread, or 0.
pub(crate) const OWNER_SHIFT: u32 = 8;

/// Longer cycles are not looked for. None of a program's own making is.
const CYCLE_MAX: usize = 64;

/// Cycles that are remembered: as many as may be found from several sides at once.
const FOUND_MAX: usize = 16;

/// Held by the one that walks. The parks with the least number of the cycles that were found last: whoever closes one
/// from another side at the same time finds it too.
static WALK: Mutex<VecDeque<Token>> = Mutex::new(VecDeque::new());
/// Somebody walks. In front of the lock, so that leaving costs a fence and a load.
static WALKING: AtomicBool = AtomicBool::new(false);

/// Says that `waiter` is parked, as `token`, for the mutex with this word, and looks whether that closes a cycle that
/// was not found before: then it is the parks in it, from the waiter's on. To be called in the commit of the park.
pub(crate) fn enter(waiter: &'static Control, token: Token, word: &AtomicU32) -> Option<Vec<Token>> {
    waiter.awaits_mutex(ptr::from_ref(word).expose_provenance());
    fence(Ordering::SeqCst);
    // A look without any cost for the others: most owners run, or wait for something else.
    let owner = owner(word)?;
    if owner != waiter.index() && table::control(owner)?.awaited_mutex().is_none() {
        return None;
    }
    let mut found = WALK.lock().unwrap_or_else(PoisonError::into_inner);
    WALKING.store(true, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    let cycle = walk(waiter, token, word).filter(|first| walk(waiter, token, word).as_ref() == Some(first));
    WALKING.store(false, Ordering::Release);
    let cycle = cycle?;
    let least = cycle.iter().copied().min_by_key(|park| park.raw())?;
    if found.contains(&least) {
        return None;
    }
    if found.len() == FOUND_MAX {
        found.pop_front();
    }
    found.push_back(least);
    Some(cycle)
}

/// The park that [`enter`] was called in is over. Before the mutex may be dropped.
#[inline]
pub(crate) fn leave() {
    fence(Ordering::SeqCst);
    if WALKING.load(Ordering::Relaxed) {
        drop(WALK.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn owner(word: &AtomicU32) -> Option<u32> {
    let owner = word.load(Ordering::Acquire) >> OWNER_SHIFT;
    (owner != 0).then_some(owner)
}

/// Follows the arrows from the waiter until they come back to it. For whoever has set [`WALKING`].
fn walk(waiter: &'static Control, token: Token, word: &AtomicU32) -> Option<Vec<Token>> {
    if has_deadline(waiter) {
        return None;
    }
    let mut parks = vec![token];
    let mut next = owner(word)?;
    while next != waiter.index() {
        let control = table::control(next)?;
        let token = control.word().parked_token()?;
        let address = control.awaited_mutex()?;
        // The same park before and after: the address is of that one.
        if control.word().parked_token() != Some(token)
            || has_deadline(control)
            || parks.contains(&token)
            || parks.len() == CYCLE_MAX
        {
            return None;
        }
        // SAFETY: the thread published the address of a mutex that it borrows until it has left, which it does not
        // before this walk is over (see above).
        next = owner(unsafe { &*ptr::with_exposed_provenance::<AtomicU32>(address) })?;
        parks.push(token);
    }
    // The last owner may be the waiter because it was just given the mutex: then it was claimed before.
    (waiter.word().parked_token() == Some(token)).then_some(parks)
}

fn has_deadline(control: &Control) -> bool {
    control.deadline_ns().load(Ordering::Relaxed) != 0
}
