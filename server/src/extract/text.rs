//! Values that were sent as text, one or several under a name: what a serde type is read from where nothing says what is
//! a number and what is not.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::slice;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::quoted;

/// What is wrong with a field.
#[derive(Debug)]
pub(super) struct FieldError {
    field: Option<String>,
    pub(super) fault: Fault,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Missing,
    Unknown,
    Twice,
    /// The text is no such value; serde's words are for the log.
    Malformed(String),
    /// The type does not fit the route, whatever the client sends.
    Route,
}

impl FieldError {
    pub(super) fn new(fault: Fault) -> FieldError {
        FieldError { field: None, fault }
    }

    /// In this field, unless it is known better.
    pub(super) fn within(mut self, name: &str) -> FieldError {
        self.field.get_or_insert_with(|| name.to_owned());
        self
    }

    /// What to tell the client. `kind` is what fields are called there.
    pub(super) fn message(&self, kind: &str) -> String {
        let what = match self.fault {
            Fault::Missing => "is missing",
            Fault::Unknown => "is not known",
            Fault::Twice => "is given twice",
            Fault::Malformed(_) | Fault::Route => "is malformed",
        };
        match &self.field {
            Some(name) => format!("{kind} {} {what}", quoted(name)),
            None => format!("a {kind} {what}"),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message("field"))?;
        match &self.fault {
            Fault::Malformed(why) => write!(f, ": {why:?}"),
            Fault::Route => f.write_str(": the type and the route have different parameters"),
            _ => Ok(()),
        }
    }
}

impl StdError for FieldError {}

impl de::Error for FieldError {
    fn custom<T: fmt::Display>(why: T) -> FieldError {
        FieldError::new(Fault::Malformed(why.to_string()))
    }

    fn missing_field(field: &'static str) -> FieldError {
        FieldError::new(Fault::Missing).within(field)
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> FieldError {
        FieldError::new(Fault::Unknown).within(field)
    }

    fn duplicate_field(field: &'static str) -> FieldError {
        FieldError::new(Fault::Twice).within(field)
    }
}

/// A name and a value, decoded.
pub(super) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The pairs of one name: at least one.
#[derive(Clone, Copy)]
pub(super) struct Values<'p, 'a>(pub(super) &'p [Pair<'a>]);

impl Values<'_, '_> {
    /// The only value.
    fn one(&self) -> Result<&str, FieldError> {
        match self.0 {
            [(_, value)] => Ok(value),
            _ => Err(FieldError::new(Fault::Twice)),
        }
    }
}

/// What values, fields and all of them together do alike: an option is there, and a newtype is what it holds.
macro_rules! transparent {
    () => {
        fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
            visitor.visit_some(self)
        }

        fn deserialize_newtype_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            visitor: V,
        ) -> Result<V::Value, FieldError> {
            visitor.visit_newtype_struct(self)
        }
    };
}
pub(super) use transparent;

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
            let value: $type = self.one()?.parse().map_err(de::Error::custom)?;
            visitor.$visit(value)
        })*
    };
}

impl<'de> Deserializer<'de> for Values<'_, '_> {
    type Error = FieldError;

    transparent!();

    parsed! {
        deserialize_bool visit_bool bool,
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_i128 visit_i128 i128,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
        deserialize_u128 visit_u128 u128,
        deserialize_f32 visit_f32 f32,
        deserialize_f64 visit_f64 f64,
        deserialize_char visit_char char,
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_str(self.one()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_seq(Each(self.0))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, FieldError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        self.deserialize_seq(visitor)
    }

    /// The name of a variant without fields.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        visitor.visit_enum(StrDeserializer::new(self.one()?))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        str string bytes byte_buf unit unit_struct map struct identifier
    }
}

/// Pairs as a list of their values.
pub(super) struct Each<'p, 'a>(pub(super) &'p [Pair<'a>]);

impl<'de> SeqAccess<'de> for Each<'_, '_> {
    type Error = FieldError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, FieldError> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(None) };
        self.0 = rest;
        seed.deserialize(Values(slice::from_ref(first))).map(Some).map_err(|error| error.within(&first.0))
    }
}

/// Pairs as a map from names to values. Those of one name stand together.
pub(super) struct Fields<'p, 'a> {
    rest: &'p [Pair<'a>],
    current: &'p [Pair<'a>],
}

impl<'p, 'a> Fields<'p, 'a> {
    /// Puts pairs of one name together: by sorting, which no choice of names makes slow, and needs no memory of its own for
    /// each name. Values of one name stay in their order.
    pub(super) fn grouped(pairs: &'p mut [Pair<'a>]) -> Fields<'p, 'a> {
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        Fields { rest: pairs, current: &[] }
    }
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = FieldError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, FieldError> {
        let Some((name, _)) = self.rest.first() else { return Ok(None) };
        let count = self.rest.iter().take_while(|(other, _)| other == name).count();
        (self.current, self.rest) = self.rest.split_at(count);
        seed.deserialize(StrDeserializer::new(name)).map(Some).map_err(|error: FieldError| error.within(name))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, FieldError> {
        let (name, _) = self.current.first().expect("extract: a value was asked for before its key");
        seed.deserialize(Values(self.current)).map_err(|error| error.within(name))
    }
}
