//! What travels with a request beside its head and body: one value of each type.
//!
//! A middleware leaves something, a handler finds it: who the client is, the id of the request. Nothing is allocated
//! before the first value is put in.
#![forbid(unsafe_code)]

use std::any::{Any, TypeId};
use std::fmt;

/// Values by their types: at most one of each. See [`Request::extensions`](crate::Request::extensions).
///
/// The values stay on the thread of their request, so they need not be `Send`.
///
/// ```
/// use bast_server::Extensions;
///
/// #[derive(Debug, PartialEq)]
/// struct Tenant(u32);
///
/// let mut extensions = Extensions::new();
/// assert_eq!(extensions.insert(Tenant(7)), None);
/// assert_eq!(extensions.get::<Tenant>(), Some(&Tenant(7)));
/// assert_eq!(extensions.remove::<Tenant>(), Some(Tenant(7)));
/// assert!(extensions.is_empty());
/// ```
#[derive(Default)]
pub struct Extensions {
    /// A handful at most, so looking through them beats hashing.
    values: Vec<Value>,
}

struct Value {
    type_id: TypeId,
    type_name: &'static str,
    value: Box<dyn Any>,
}

impl Extensions {
    /// No values.
    #[must_use]
    pub const fn new() -> Extensions {
        Extensions { values: Vec::new() }
    }

    /// Puts a value in; returns the one of this type that was there.
    pub fn insert<T: 'static>(&mut self, value: T) -> Option<T> {
        let earlier = self.remove();
        let value = Value {
            type_id: TypeId::of::<T>(),
            type_name: std::any::type_name::<T>(),
            value: Box::new(value),
        };
        self.values.push(value);
        earlier
    }

    /// The value of this type.
    #[must_use]
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.values.iter().find(|value| value.type_id == TypeId::of::<T>())?.value.downcast_ref()
    }

    /// The value of this type, to be changed.
    #[must_use]
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.values.iter_mut().find(|value| value.type_id == TypeId::of::<T>())?.value.downcast_mut()
    }

    /// The value of this type, which is made first where there is none.
    ///
    /// # Panics
    /// Where `make` does.
    pub fn get_or_insert_with<T: 'static>(&mut self, make: impl FnOnce() -> T) -> &mut T {
        if self.get::<T>().is_none() {
            self.insert(make());
        }
        self.get_mut().expect("extensions: a value that was just put in")
    }

    /// Takes the value of this type out.
    pub fn remove<T: 'static>(&mut self) -> Option<T> {
        let index = self.values.iter().position(|value| value.type_id == TypeId::of::<T>())?;
        self.values.swap_remove(index).value.downcast().ok().map(|value| *value)
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// The types; the values may be secrets.
impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.iter().map(|value| value.type_name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_one_value_and_types_do_not_meet() {
        let mut extensions = Extensions::new();
        assert!(extensions.get::<u32>().is_none());
        assert_eq!(extensions.insert(1u32), None);
        assert_eq!(extensions.insert("text"), None);
        assert_eq!(extensions.insert(2u32), Some(1), "the earlier value comes back");
        *extensions.get_mut::<u32>().expect("a value") += 1;
        assert_eq!(extensions.get::<u32>(), Some(&3));
        assert_eq!(extensions.get::<&str>(), Some(&"text"));
        assert_eq!(*extensions.get_or_insert_with(|| 9u32), 3);
        assert_eq!(*extensions.get_or_insert_with(|| 9u64), 9);
        assert_eq!(extensions.remove::<u32>(), Some(3));
        assert_eq!(extensions.remove::<u32>(), None);
        assert_eq!(format!("{extensions:?}"), "{\"&str\", \"u64\"}");
    }
}
