#![forbid(unsafe_code)]
//! The end of a thread, as an arm of a select.

use crate::handle::JoinHandle;
use crate::sync::Arm;
use crate::thread::Token;

/// The handle is borrowed mutably: nobody else can wait for the thread meanwhile, whose block has room for one token.
pub(super) struct JoinArm<'a, T> {
    thread: &'a mut JoinHandle<T>,
    entered: bool,
}

impl<'a, T> JoinArm<'a, T> {
    pub(super) fn new(thread: &'a mut JoinHandle<T>) -> JoinArm<'a, T> {
        JoinArm { thread, entered: false }
    }
}

impl<T> Arm for JoinArm<'_, T> {
    type Output = ();

    fn poll(&mut self) -> bool {
        self.thread.assert_not_own();
        self.thread.is_finished()
    }

    fn prepare(&mut self) {}

    fn enter(&mut self, token: Token) -> bool {
        self.entered = self.thread.joiner().wait(token);
        self.entered
    }

    /// Never served: that the thread has ended is seen by the next poll, and stays true.
    fn leave(&mut self) -> bool {
        if std::mem::take(&mut self.entered) {
            self.thread.joiner().give_up();
        }
        false
    }

    fn output(self) {}
}

impl<T> Drop for JoinArm<'_, T> {
    fn drop(&mut self) {
        self.leave();
    }
}
