#![forbid(unsafe_code)]
//! The park word: which park of which thread, and how far it has come, in 64 bits.
//!
//! ```text
//!   63            40 39                       8 7      0
//!  +----------------+--------------------------+--------+
//!  |  table index   |       park count         | state  |
//!  +----------------+--------------------------+--------+
//!  `---------------- Token (state = 0) -------'
//! ```
//!
//! A [`Token`] names one park of one thread. It is a plain number: whoever holds one may try to wake that park at
//! any time, for ever. Once the park is over the word has moved on and the attempt fails ([`Control::claim`]
//! returns `None`), since control blocks are type-stable (`table.rs` never frees one) and the count of a slot is
//! never taken back, not even when the slot serves its next thread. So wakers need no references, no locks and no
//! clean-up to be memory-safe; what a stale token costs is one failed compare-and-swap.
//!
//! The count wraps after 2^32 parks of one slot. A stale token would have to be kept over exactly that many to be
//! taken for a live one; every queue drops its tokens when the park that left them is over.
//!
//! [`Control::claim`]: super::Control::claim

use std::fmt;
use std::num::NonZeroU64;

const COUNT_SHIFT: u32 = 8;
const INDEX_SHIFT: u32 = 40;
const STATE_MASK: u64 = 0xff;

/// One more than the largest table index: 24 bits.
pub(crate) const INDEX_LIMIT: usize = 1 << (64 - INDEX_SHIFT);

/// One park of one thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(NonZeroU64);

impl Token {
    /// The token of slot `index` before its first park.
    pub(crate) fn first(index: u32) -> Token {
        assert!(index > 0 && (index as usize) < INDEX_LIMIT, "token: index out of range");
        Token::from_raw(u64::from(index) << INDEX_SHIFT).expect("the index is not 0")
    }

    /// The token in a number that [`Token::raw`] made; `None` for 0, which atomic slots use for "nobody".
    #[inline]
    pub(crate) fn from_raw(raw: u64) -> Option<Token> {
        NonZeroU64::new(raw & !STATE_MASK).map(Token)
    }

    #[inline]
    pub(crate) fn raw(self) -> u64 {
        self.0.get()
    }

    /// The thread's slot in the table.
    #[inline]
    pub(crate) fn index(self) -> u32 {
        (self.raw() >> INDEX_SHIFT) as u32
    }

    /// The token of the slot's next park.
    #[inline]
    pub(crate) fn next(self) -> Token {
        let low = self.raw().wrapping_add(1 << COUNT_SHIFT) & ((1 << INDEX_SHIFT) - 1);
        Token::from_raw(u64::from(self.index()) << INDEX_SHIFT | low).expect("the index is not 0")
    }

    /// The park word for this token in `state`.
    #[inline]
    pub(crate) fn with(self, state: State) -> u64 {
        self.raw() | state as u64
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = (self.raw() >> COUNT_SHIFT) as u32;
        write!(f, "Token({}.{})", self.index(), count)
    }
}

/// How far a thread has come. The picture is in `control.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// The slot belongs to nobody.
    Free = 0,
    /// Spawned, in a nursery.
    New,
    /// Started, in a run queue or inbox.
    Runnable,
    /// On its capability's OS thread right now.
    Running,
    /// Waiting to be claimed.
    Parked,
    /// Claimed by an event: on its way to a run queue.
    ClaimedEvent,
    /// Claimed because its deadline passed.
    ClaimedTimer,
    /// Claimed to be killed.
    ClaimedInterrupt,
    /// Its body is over.
    Finished,
}

impl State {
    /// The state in a park word.
    #[inline]
    pub(crate) fn of(word: u64) -> State {
        match word & STATE_MASK {
            0 => State::Free,
            1 => State::New,
            2 => State::Runnable,
            3 => State::Running,
            4 => State::Parked,
            5 => State::ClaimedEvent,
            6 => State::ClaimedTimer,
            7 => State::ClaimedInterrupt,
            8 => State::Finished,
            _ => unreachable!("park word: no such state"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_keeps_its_index_when_the_count_wraps() {
        let mut token = Token::from_raw(7 << INDEX_SHIFT | 0xffff_ffff << COUNT_SHIFT).unwrap();
        assert_eq!(token.index(), 7);
        token = token.next();
        assert_eq!(token, Token::first(7));
        assert_ne!(token, token.next());
    }

    #[test]
    fn every_state_survives_the_way_through_the_word() {
        let token = Token::first(3).next();
        for state in [
            State::Free,
            State::New,
            State::Runnable,
            State::Running,
            State::Parked,
            State::ClaimedEvent,
            State::ClaimedTimer,
            State::ClaimedInterrupt,
            State::Finished,
        ] {
            let word = token.with(state);
            assert_eq!(State::of(word), state);
            assert_eq!(Token::from_raw(word), Some(token));
        }
    }
}
