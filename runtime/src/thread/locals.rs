#![forbid(unsafe_code)]
//! The local values of one green thread.

use std::any::Any;
use std::rc::Rc;

/// Values by key; see `local.rs` for the keys.
#[derive(Default)]
pub(crate) struct Locals {
    values: Vec<Option<Rc<dyn Any>>>,
}

impl Locals {
    pub(crate) fn get(&self, key: usize) -> Option<Rc<dyn Any>> {
        self.values.get(key).cloned().flatten()
    }

    /// Sets a value, and gives back the one before: its destructor is not to run in here.
    pub(crate) fn set(&mut self, key: usize, value: Rc<dyn Any>) -> Option<Rc<dyn Any>> {
        if self.values.len() <= key {
            self.values.resize(key + 1, None);
        }
        self.values[key].replace(value)
    }
}
