//! The protocols between capabilities under loom: every interleaving, and every reordering that the memory model
//! allows, of a small case. The files under test are the runtime's own, compiled with loom's atomics in place of std's.

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
}

mod linked {
    use super::atomic::AtomicPtr;

    pub(crate) trait Linked: Sized + 'static {
        fn link(&self) -> &AtomicPtr<Self>;
    }
}

#[path = "../../runtime/src/scheduler/inbox.rs"]
mod inbox;
#[path = "../../runtime/src/scheduler/sleep.rs"]
mod sleep;

use atomic::AtomicPtr;
use inbox::Inbox;
use linked::Linked;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Notify};
use sleep::SleepFlag;

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
