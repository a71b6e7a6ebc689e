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

    /// With a further binding, and without the one that it hides: a chain of threads that each bind and spawn stays short.
    pub(crate) fn bind(&self, key: usize, value: Value) -> Bindings {
        Bindings(Some(Arc::new(Binding { key, value, outer: self.without(key) })))
    }

    fn without(&self, key: usize) -> Bindings {
        match &self.0 {
            Some(binding) if binding.key == key => binding.outer.without(key),
            Some(binding) if self.get(key).is_some() => {
                let (key_here, value) = (binding.key, Arc::clone(&binding.value));
                Bindings(Some(Arc::new(Binding { key: key_here, value, outer: binding.outer.without(key) })))
            }
            _ => self.clone(),
        }
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
