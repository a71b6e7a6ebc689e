#![forbid(unsafe_code)]
//! Scoped values as data: what a thread was given to see, innermost first, shared with those that it spawns.

use std::any::Any;
use std::sync::Arc;

/// A shared value of some type.
pub(crate) type Value = Arc<dyn Any + Send + Sync>;

/// A list that grows at its head; a thread that is spawned starts with its spawner's.
#[derive(Clone, Default)]
pub(crate) struct Bindings(Option<Arc<Binding>>);

struct Binding {
    key: usize,
    value: Value,
    outer: Bindings,
}

impl Bindings {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn bind(&self, key: usize, value: Value) -> Bindings {
        Bindings(Some(Arc::new(Binding { key, value, outer: self.clone() })))
    }

    pub(crate) fn get(&self, key: usize) -> Option<Value> {
        let mut binding = self.0.as_ref();
        while let Some(this) = binding {
            if this.key == key {
                return Some(Arc::clone(&this.value));
            }
            binding = this.outer.0.as_ref();
        }
        None
    }
}
