#![forbid(unsafe_code)]
//! Deadlines of one capability's parked threads: deadlines in, ready list out. Nobody is woken from here.
//!
//! A thread has at most one *live* entry in the heap, and the entry is lazy. Arming a deadline that is later than
//! the live entry's stores a word in the control block and leaves the heap alone; when the entry comes due it moves
//! itself to the deadline of that time, or goes if none is armed any more. So a connection that reads with a 30 s
//! limit a thousand times per second costs one heap operation per 30 s, and disarming is always one store. Entries
//! that were overtaken (by an earlier deadline of the same thread) or orphaned (their thread ended) are counted, and
//! cleared out when they are more than half.

use crate::thread::notice::Home;
use crate::thread::{Control, Token, table};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;

/// Below this many dead entries the heap is left alone.
const DEAD_MIN: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    deadline_ns: u64,
    index: u32,
}

pub(crate) struct Timers {
    home: Home,
    heap: BinaryHeap<Reverse<Entry>>,
    dead: usize,
}

impl Timers {
    pub(crate) fn new(slot: u16) -> Timers {
        Timers { home: Home::Capability(slot), heap: BinaryHeap::new(), dead: 0 }
    }

    /// Sets the deadline of the park that `control` is about to begin; `deadline_ns` is on the monotonic clock.
    pub(crate) fn arm(&mut self, control: &'static Control, deadline_ns: u64) {
        let deadline_ns = deadline_ns.max(1);
        control.deadline_ns().store(deadline_ns, Ordering::Relaxed);
        let live = control.timer_ns().load(Ordering::Relaxed);
        if live == 0 || deadline_ns < live {
            self.dead += usize::from(live != 0);
            self.push(control, deadline_ns);
        }
    }

    /// The park is over.
    #[inline]
    pub(crate) fn disarm(control: &Control) {
        control.deadline_ns().store(0, Ordering::Relaxed);
    }

    /// The thread is over.
    pub(crate) fn forget(&mut self, control: &Control) {
        if control.timer_ns().load(Ordering::Relaxed) != 0 {
            control.timer_ns().store(0, Ordering::Relaxed);
            self.dead += 1;
            self.clear_dead();
        }
    }

    /// When to look again.
    #[inline]
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| entry.deadline_ns)
    }

    /// Gives the parks whose deadline has passed at `now_ns` to `due`.
    pub(crate) fn expire(&mut self, now_ns: u64, mut due: impl FnMut(Token)) {
        while let Some(&Reverse(entry)) = self.heap.peek() {
            if entry.deadline_ns > now_ns {
                return;
            }
            self.heap.pop();
            let Some(control) = self.live(entry) else {
                self.dead = self.dead.saturating_sub(1);
                continue;
            };
            control.timer_ns().store(0, Ordering::Relaxed);
            match control.deadline_ns().load(Ordering::Relaxed) {
                0 => {}
                later if later > now_ns => self.push(control, later),
                _ => {
                    if let Some(token) = control.word().parked_token() {
                        due(token);
                    }
                }
            }
        }
    }

    fn push(&mut self, control: &'static Control, deadline_ns: u64) {
        control.timer_ns().store(deadline_ns, Ordering::Relaxed);
        self.heap.push(Reverse(Entry { deadline_ns, index: control.index() }));
        self.clear_dead();
    }

    /// The thread that the entry stands for, unless the entry is dead. The slot may have gone to a thread of another
    /// capability since; that one's words are only looked at.
    fn live(&self, entry: Entry) -> Option<&'static Control> {
        table::control(entry.index).filter(|control| {
            control.home() == self.home && control.timer_ns().load(Ordering::Relaxed) == entry.deadline_ns
        })
    }

    fn clear_dead(&mut self) {
        if self.dead > DEAD_MIN && self.dead > self.heap.len() / 2 {
            let mut heap = std::mem::take(&mut self.heap);
            heap.retain(|Reverse(entry)| self.live(*entry).is_some());
            self.heap = heap;
            self.dead = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::block::BlockedOn;
    use crate::thread::label::Label;
    use crate::thread::table::ThreadLimit;

    /// A slot that no capability of another test has.
    const SLOT: u16 = 255;

    fn thread() -> &'static Control {
        let control = table::occupy(Home::Capability(SLOT), Label::None, 0, 1, ThreadLimit::TABLE).unwrap();
        assert!(control.word().take());
        control.word().running();
        control
    }

    fn end(timers: &mut Timers, control: &'static Control) {
        timers.forget(control);
        control.word().finished();
        control.release_only_reference();
    }

    /// Parks the thread until `deadline_ns` at most.
    fn park(timers: &mut Timers, control: &'static Control, deadline_ns: u64) -> Token {
        let token = control.begin_park(BlockedOn::Timer);
        timers.arm(control, deadline_ns);
        control.word().parked(token);
        token
    }

    fn wake(token: Token, control: &'static Control) {
        let claim = Control::claim(token, crate::thread::Woken::Event);
        assert!(claim.is_some());
        let _ = control.resumed();
        Timers::disarm(control);
    }

    fn due(timers: &mut Timers, now_ns: u64) -> Vec<Token> {
        let mut due = Vec::new();
        timers.expire(now_ns, |token| due.push(token));
        due
    }

    #[test]
    fn a_deadline_that_is_armed_again_and_again_is_one_entry() {
        let mut timers = Timers::new(SLOT);
        let control = thread();
        for turn in 0..1000 {
            let token = park(&mut timers, control, 1_000_000 + turn);
            wake(token, control);
        }
        assert_eq!(timers.heap.len(), 1);
        // The entry comes due for a park that is over, and then there is none.
        assert!(due(&mut timers, 2_000_000).is_empty());
        assert_eq!(timers.next_ns(), None);
        end(&mut timers, control);
    }

    #[test]
    fn a_lazy_entry_moves_to_the_deadline_of_its_time() {
        let mut timers = Timers::new(SLOT);
        let control = thread();
        let token = park(&mut timers, control, 100);
        wake(token, control);
        let token = park(&mut timers, control, 200);
        assert!(due(&mut timers, 100).is_empty());
        assert_eq!(timers.next_ns(), Some(200));
        assert!(due(&mut timers, 199).is_empty());
        assert_eq!(due(&mut timers, 200), [token]);
        wake(token, control);
        end(&mut timers, control);
    }

    #[test]
    fn an_early_deadline_after_a_late_one_is_due_first_and_once() {
        let mut timers = Timers::new(SLOT);
        let control = thread();
        let token = park(&mut timers, control, 1000);
        wake(token, control);
        let token = park(&mut timers, control, 10);
        assert_eq!(timers.next_ns(), Some(10));
        assert_eq!(due(&mut timers, 10), [token]);
        wake(token, control);
        assert!(due(&mut timers, 5000).is_empty());
        assert_eq!(timers.next_ns(), None);
        end(&mut timers, control);
    }

    #[test]
    fn deadlines_are_due_in_their_order() {
        let mut timers = Timers::new(SLOT);
        let threads: Vec<_> = (0..100u64).map(|n| (thread(), 1 + n * 37 % 100)).collect();
        let mut tokens: Vec<_> =
            threads.iter().map(|&(control, at_ns)| (at_ns, park(&mut timers, control, at_ns))).collect();
        tokens.sort_by_key(|&(at_ns, _)| at_ns);
        let expected: Vec<_> = tokens.iter().map(|&(_, token)| token).collect();
        assert_eq!(due(&mut timers, 100), expected);
        for (control, _) in threads {
            wake(control.word().parked_token().expect("it is parked still"), control);
            end(&mut timers, control);
        }
    }

    #[test]
    fn entries_of_threads_that_ended_are_cleared_out() {
        let mut timers = Timers::new(SLOT);
        for _ in 0..10_000 {
            let control = thread();
            let token = park(&mut timers, control, 1_000_000);
            wake(token, control);
            end(&mut timers, control);
            assert!(timers.heap.len() <= DEAD_MIN + 1);
        }
        // And so are those that an earlier deadline of the same thread overtook.
        let control = thread();
        for turn in 0..10_000 {
            let token = park(&mut timers, control, 1_000_000 - turn);
            wake(token, control);
            assert!(timers.heap.len() <= 2 * DEAD_MIN + 2, "{}", timers.heap.len());
        }
        end(&mut timers, control);
    }

    #[test]
    fn an_entry_of_a_thread_that_ended_does_not_touch_the_next_in_its_slot() {
        let mut timers = Timers::new(SLOT);
        let first = thread();
        let token = park(&mut timers, first, 100);
        wake(token, first);
        let index = first.index();
        end(&mut timers, first);
        let next = std::iter::repeat_with(thread).take(1000).find(|next| next.index() == index).unwrap();
        let token = park(&mut timers, next, 500);
        assert!(due(&mut timers, 400).is_empty());
        assert_eq!(due(&mut timers, 500), [token]);
        wake(token, next);
        end(&mut timers, next);
    }
}
