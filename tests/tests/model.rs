//! The protocols between capabilities under loom: every interleaving, and every reordering that the memory model
//! allows, of a small case. The files under test are the runtime's own, compiled with loom's atomics in place of std's.

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
}

mod linked {
    use super::atomic::AtomicPtr;

    pub(crate) trait Linked: Sized + 'static {
        fn link(&self) -> &AtomicPtr<Self>;
    }
}

#[path = "../../runtime/src/scheduler/inbox.rs"]
mod inbox;
#[expect(dead_code, reason = "the model uses the transitions that race")]
#[path = "../../runtime/src/thread/notice.rs"]
mod notice;
#[expect(dead_code, reason = "as above")]
#[path = "../../runtime/src/thread/park_word.rs"]
mod park_word;
#[path = "../../runtime/src/scheduler/sleep.rs"]
mod sleep;
#[path = "../../runtime/src/thread/token.rs"]
mod token;

use atomic::{AtomicBool, AtomicPtr, Ordering};
use inbox::Inbox;
use linked::Linked;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex, Notify};
use notice::{Home, Notice};
use park_word::{ParkWord, Woken};
use sleep::SleepFlag;
use token::{State, Token};

/// What stands for a claimed thread: a link, and a value that the waker wrote before it pushed.
struct Node {
    link: AtomicPtr<Node>,
    value: UnsafeCell<u32>,
}

impl Linked for Node {
    fn link(&self) -> &AtomicPtr<Node> {
        &self.link
    }
}

impl Node {
    fn new() -> &'static Node {
        Box::leak(Box::new(Node { link: AtomicPtr::new(std::ptr::null_mut()), value: UnsafeCell::new(0) }))
    }

    fn write(&self, value: u32) {
        // SAFETY: loom checks that no access is concurrent with this one; that is the test.
        self.value.with_mut(|place| unsafe { *place = value });
    }

    fn read(&self) -> u32 {
        // SAFETY: as above.
        self.value.with(|place| unsafe { *place })
    }
}

/// What others may touch of a capability, as in `scheduler/remote.rs`; the eventfd is a `Notify`.
struct Remote {
    inbox: Inbox<Node>,
    sleep: SleepFlag,
    eventfd: Notify,
}

impl Remote {
    fn new() -> Arc<Remote> {
        Arc::new(Remote { inbox: Inbox::new(), sleep: SleepFlag::new(), eventfd: Notify::new() })
    }

    fn push(&self, node: &'static Node, value: u32) {
        node.write(value);
        self.inbox.push(node);
        if self.sleep.must_wake() {
            self.eventfd.notify();
        }
    }

    /// The loop of a capability that has nothing else to do, until it has seen `count` nodes.
    fn run(&self, count: usize) -> Vec<u32> {
        let mut seen = Vec::new();
        loop {
            self.inbox.take(|node| seen.push(node.read()));
            if seen.len() == count {
                return seen;
            }
            self.sleep.announce();
            if self.inbox.is_empty() {
                // A wake that was lost would leave us here for ever, which loom reports as a deadlock.
                self.eventfd.wait();
            }
            self.sleep.retract();
        }
    }
}

/// The cases with two nodes have too many interleavings to see all in a test: at most two involuntary switches an
/// execution, which still shows the negative below.
fn bounded() -> loom::model::Builder {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model
}

#[test]
fn a_wake_is_not_lost_between_the_last_look_and_the_sleep() {
    loom::model(|| {
        let remote = Remote::new();
        let waker = loom::thread::spawn({
            let remote = Arc::clone(&remote);
            move || remote.push(Node::new(), 7)
        });
        assert_eq!(remote.run(1), [7]);
        waker.join().unwrap();
    });
}

#[test]
fn two_wakers_at_once_are_both_heard() {
    bounded().check(|| {
        let remote = Remote::new();
        let wakers: Vec<_> = (1..=2)
            .map(|value| {
                let remote = Arc::clone(&remote);
                loom::thread::spawn(move || remote.push(Node::new(), value))
            })
            .collect();
        let mut seen = remote.run(2);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}

#[test]
fn an_inbox_keeps_the_order_of_one_sender() {
    bounded().check(|| {
        let remote = Remote::new();
        let waker = loom::thread::spawn({
            let remote = Arc::clone(&remote);
            move || {
                remote.push(Node::new(), 1);
                remote.push(Node::new(), 2);
            }
        });
        assert_eq!(remote.run(2), [1, 2]);
        waker.join().unwrap();
    });
}

/// The negative: without the second look some interleaving loses the wake, so the tests above can fail.
#[test]
fn without_the_second_look_a_wake_is_lost() {
    static LOST: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    loom::model(|| {
        let remote = Remote::new();
        let waker = loom::thread::spawn({
            let remote = Arc::clone(&remote);
            move || {
                remote.inbox.push(Node::new());
                remote.sleep.must_wake()
            }
        });
        let looked_before = remote.inbox.is_empty();
        remote.sleep.announce();
        let woken = waker.join().unwrap();
        if looked_before && !woken {
            LOST.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    assert!(LOST.load(std::sync::atomic::Ordering::Relaxed));
}

/// The flag that `looks_asleep` gives is a hint only; here it is at least the owner's own.
#[test]
fn a_sleeper_looks_asleep_until_it_retracts() {
    loom::model(|| {
        let flag = SleepFlag::new();
        assert!(!flag.looks_asleep());
        flag.announce();
        assert!(flag.looks_asleep());
        flag.retract();
        assert!(!flag.looks_asleep());
    });
}

/// A thread that is parked, and the token of that park.
fn parked() -> (Arc<ParkWord>, Token) {
    let word = ParkWord::new(1);
    word.occupy(State::New);
    assert!(word.take());
    word.running();
    let token = word.next_token();
    word.parked(token);
    (Arc::new(word), token)
}

#[test]
fn one_of_two_wakers_wins_a_park_and_what_it_gave_is_there_when_the_thread_goes_on() {
    bounded().check(|| {
        let (word, token) = parked();
        let (remote, node) = (Remote::new(), Node::new());
        let wakers = [Woken::Event, Woken::Interrupt].map(|cause| {
            let (word, remote) = (Arc::clone(&word), Arc::clone(&remote));
            loom::thread::spawn(move || {
                let won = word.claim(token, cause);
                if won {
                    // Only an event gives something; the value is written before the push.
                    remote.push(node, u32::from(cause == Woken::Event));
                }
                won
            })
        });
        let given = remote.run(1);
        let woken = word.resumed();
        assert_eq!(given, [u32::from(woken == Woken::Event)]);
        let won = wakers.map(|waker| waker.join().unwrap());
        assert!(won[0] != won[1], "the thread would be in two queues");
        assert!(!word.claim(token, Woken::Timer), "the park is over");
    });
}

#[test]
fn an_exception_is_accepted_or_withdrawn_and_never_both_or_neither() {
    loom::model(|| {
        // The thrower waits; its exception lies with the target.
        let (thrower, token) = parked();
        let thrown = Arc::new(Mutex::new(Some("payload")));
        let home = loom::thread::spawn({
            let (thrower, thrown) = (Arc::clone(&thrower), Arc::clone(&thrown));
            move || {
                let mut thrown = thrown.lock().unwrap();
                let accepted = thrown.is_some() && thrower.claim(token, Woken::Event);
                // Accepted it is raised, else it is dropped: its thrower is gone.
                thrown.take();
                accepted
            }
        });
        let killed = thrower.claim(token, Woken::Interrupt);
        if killed {
            thrown.lock().unwrap().take();
        }
        assert!(home.join().unwrap() != killed);
        assert!(thrown.lock().unwrap().is_none());
    });
}

const OLD: u16 = 0;
const NEW: u16 = 1;

/// What is sent to a thread that is being stolen: whom the sender tells, and whether the thief finds the mark.
fn sent_and_stolen(send: impl Fn(&Notice) -> Home + Send + Sync + Copy + 'static) {
    loom::model(move || {
        let notice = Arc::new(Notice::new());
        notice.reset(Home::Capability(OLD));
        let sender = loom::thread::spawn({
            let notice = Arc::clone(&notice);
            move || send(&notice)
        });
        notice.move_home(NEW);
        let found = notice.is_killed();
        assert!(found || sender.join().unwrap() == Home::Capability(NEW), "nobody would raise it");
    });
}

#[test]
fn what_is_sent_to_a_thread_that_is_being_stolen_is_not_lost() {
    sent_and_stolen(|notice| {
        notice.mark_killed();
        notice.home()
    });
}

#[test]
#[should_panic(expected = "nobody would raise it")]
fn a_sender_that_looked_at_the_home_first_would_lose_it() {
    sent_and_stolen(|notice| {
        let home = notice.home();
        notice.mark_killed();
        home
    });
}

/// The innermost frame, whose time is over, is left while the one around it is cancelled. Returns whether the thread
/// knows of that afterwards.
fn cancelled_and_left(cancel: impl Fn(&AtomicBool, &Notice) + Send + Sync + Copy + 'static) {
    loom::model(move || {
        let notice = Arc::new(Notice::new());
        let outer = Arc::new(AtomicBool::new(false));
        notice.mark_frame_over();
        let canceller = loom::thread::spawn({
            let (notice, outer) = (Arc::clone(&notice), Arc::clone(&outer));
            move || cancel(&outer, &notice)
        });
        notice.forget_frame_over(|| outer.load(Ordering::Acquire));
        canceller.join().unwrap();
        assert!(notice.is_frame_over(), "the cancellation is forgotten");
    });
}

#[test]
fn a_frame_that_is_cancelled_while_an_inner_one_is_left_stays_cancelled() {
    cancelled_and_left(|outer, notice| {
        outer.store(true, Ordering::Release);
        notice.mark_frame_over();
    });
}

#[test]
#[should_panic(expected = "the cancellation is forgotten")]
fn a_canceller_that_marked_first_would_be_forgotten() {
    cancelled_and_left(|outer, notice| {
        notice.mark_frame_over();
        outer.store(true, Ordering::Release);
    });
}
