#![forbid(unsafe_code)]
//! The transitions of the park word: how far a thread has come, and who may wake it. The picture is in `control.rs`,
//! the layout of the word in `token.rs`.
//!
//! # Memory ordering
//! `parked` is a release store and `claim` an acquire exchange, so what the parking thread did happens before what
//! its waker does; the claimer hands the thread on through a queue whose push releases and whose pop acquires (or
//! which is its own OS thread's), so what the waker did happens before the thread goes on.

use super::atomic::{AtomicU64, Ordering};
use super::token::{State, Token};

/// Why a parked thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// What it waited for happened (or the commit found that there was no need to wait).
    Event,
    /// Its deadline passed first.
    Timer,
    /// An exception is to be raised in it: a kill, say.
    Interrupt,
}

pub(crate) struct ParkWord(AtomicU64);

impl ParkWord {
    /// That of a free slot which has never been used.
    pub(crate) fn new(index: u32) -> ParkWord {
        ParkWord(AtomicU64::new(Token::first(index).with(State::Free)))
    }

    /// The word itself: what an OS thread sleeps on.
    pub(crate) fn atomic(&self) -> &AtomicU64 {
        &self.0
    }

    /// The token of the last park.
    pub(crate) fn token(&self) -> Token {
        token_of(self.0.load(Ordering::Relaxed))
    }

    /// The park word, to compare with that of a later look: equal ones of a parked thread are of the same park.
    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        State::of(self.0.load(Ordering::Acquire))
    }

    /// Free → `state`: the slot has a thread again.
    pub(crate) fn occupy(&self, state: State) {
        let word = self.0.load(Ordering::Relaxed);
        debug_assert_eq!(State::of(word), State::Free, "control block: taken twice");
        self.0.store(token_of(word).next().with(state), Ordering::Relaxed);
    }

    /// Any → Free: nobody refers to the thread any more.
    pub(crate) fn free(&self) {
        self.0.store(self.token().next().with(State::Free), Ordering::Relaxed);
    }

    /// New → Runnable, for one winner: the one who starts the thread.
    #[must_use]
    pub(crate) fn take(&self) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        let taken = token_of(word).with(State::Runnable);
        State::of(word) == State::New
            && self.0.compare_exchange(word, taken, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Runnable → Running: the thread itself, when it starts or goes on after a yield.
    #[inline]
    pub(crate) fn running(&self) {
        let word = self.0.load(Ordering::Relaxed);
        debug_assert_eq!(State::of(word), State::Runnable, "thread: goes on without having been queued");
        self.0.store(token_of(word).with(State::Running), Ordering::Relaxed);
    }

    /// Running → Runnable: the thread itself, before it yields.
    #[inline]
    pub(crate) fn yielding(&self) {
        let word = self.0.load(Ordering::Relaxed);
        debug_assert_eq!(State::of(word), State::Running, "thread: yields without running");
        self.0.store(token_of(word).with(State::Runnable), Ordering::Relaxed);
    }

    /// The token of the park that the running thread is about to begin.
    #[inline]
    pub(crate) fn next_token(&self) -> Token {
        let word = self.0.load(Ordering::Relaxed);
        debug_assert_eq!(State::of(word), State::Running, "thread: parks without running");
        token_of(word).next()
    }

    /// Running → Parked: from here on `claim` may win. The thread is off its stack already.
    #[inline]
    pub(crate) fn parked(&self, token: Token) {
        let state = State::of(self.0.load(Ordering::Relaxed));
        debug_assert_eq!(state, State::Running, "thread: parked twice");
        self.0.store(token.with(State::Parked), Ordering::Release);
    }

    /// Parked → Claimed, for one winner per park. False: that park is over, or somebody else won it.
    #[inline]
    #[must_use]
    pub(crate) fn claim(&self, token: Token, cause: Woken) -> bool {
        let state = match cause {
            Woken::Event => State::ClaimedEvent,
            Woken::Timer => State::ClaimedTimer,
            Woken::Interrupt => State::ClaimedInterrupt,
        };
        let (parked, claimed) = (token.with(State::Parked), token.with(state));
        self.0.compare_exchange(parked, claimed, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The same by an event, without a locked operation, for the caller that no other claimer can race with: it runs on
    /// the thread's home, where deadlines and interrupts claim, and holds the lock of the only object that has the
    /// token.
    #[inline]
    #[must_use]
    pub(crate) fn claim_alone(&self, token: Token) -> bool {
        let parked = self.0.load(Ordering::Acquire) == token.with(State::Parked);
        if parked {
            self.0.store(token.with(State::ClaimedEvent), Ordering::Release);
        }
        parked
    }

    /// The token of the park that the thread is in just now.
    pub(crate) fn parked_token(&self) -> Option<Token> {
        let word = self.0.load(Ordering::Acquire);
        (State::of(word) == State::Parked).then(|| token_of(word))
    }

    /// Claimed → Runnable, for an OS thread, which is in no queue: its claimer, once it has given it what it waited
    /// for. Release: the thread sees what it was given.
    pub(crate) fn let_go(&self) {
        let word = self.0.load(Ordering::Relaxed);
        debug_assert_eq!(State::of(word), State::ClaimedEvent, "thread: let go without having been claimed");
        self.0.store(token_of(word).with(State::Runnable), Ordering::Release);
    }

    /// Claimed (an OS thread: Runnable) → Running: the thread itself, first thing after a park.
    #[inline]
    pub(crate) fn resumed(&self) -> Woken {
        let word = self.0.load(Ordering::Acquire);
        let woken = match State::of(word) {
            State::ClaimedEvent | State::Runnable => Woken::Event,
            State::ClaimedTimer => Woken::Timer,
            State::ClaimedInterrupt => Woken::Interrupt,
            state => unreachable!("thread: goes on after a park while {state:?}"),
        };
        self.0.store(token_of(word).with(State::Running), Ordering::Relaxed);
        woken
    }

    /// Running → Finished.
    pub(crate) fn finished(&self) {
        self.0.store(self.token().with(State::Finished), Ordering::Release);
    }
}

fn token_of(word: u64) -> Token {
    Token::from_raw(word).expect("a slot's index is not 0")
}
