//! The pairs of a query or of a form, `name=value&…` (`application/x-www-form-urlencoded` in the URL Standard), as a serde
//! type.
//!
//! Stricter than the standard's own algorithm, which replaces what it cannot decode: that would be a guess.
#![forbid(unsafe_code)]

use serde::de::value::SeqDeserializer;
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use super::text::{Fault, FieldError, Fields, Pair, transparent};
use crate::error::Error;
use crate::message::Status;
use crate::percent;

/// Most pairs in a query or a form: each takes a few dozen times the two bytes that it may have on the wire, so without a limit a
/// body of 8 MiB could ask for 200 MiB.
const PAIRS_MAX: usize = 10_000;

/// What pairs are called in messages, and how a value that does not fit is answered.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) misfit: Status,
}

/// Reads a type from encoded pairs.
pub(super) fn parse<T: DeserializeOwned>(text: &str, kind: &Kind) -> Result<T, Error> {
    let refuse = |fault: &str| Error::bad_request(format!("{} {fault}", kind.name));
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        if pairs.len() == PAIRS_MAX {
            return Err(refuse("beyond the limit of their number"));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = percent::decode_form(name).ok_or_else(|| refuse("with a malformed name"))?;
        let value = percent::decode_form(value)
            .ok_or_else(|| refuse(&format!("{} is malformed", super::quoted(&name))))?;
        pairs.push((name, value));
    }
    T::deserialize(Pairs(pairs))
        .map_err(|error| Error::new(kind.misfit, error.message(kind.name)).caused_by(error))
}

/// All pairs.
struct Pairs<'a>(Vec<Pair<'a>>);

impl<'de> Deserializer<'de> for Pairs<'_> {
    type Error = FieldError;

    transparent!();

    /// As a struct or a map: by name.
    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_map(Fields::grouped(&mut self.0))
    }

    /// As a list of pairs, in their order.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        let pairs = self.0.iter().map(|(name, value)| Strings(name, value));
        visitor.visit_seq(SeqDeserializer::new(pairs))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, FieldError> {
        Err(FieldError::new(Fault::Malformed("pairs are no enum".into())))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit_struct tuple tuple_struct
        map struct identifier ignored_any
    }
}

/// One pair in a list of them.
struct Strings<'p>(&'p str, &'p str);

impl<'de, 'p> IntoDeserializer<'de, FieldError> for Strings<'p> {
    type Deserializer = SeqDeserializer<std::array::IntoIter<&'p str, 2>, FieldError>;

    fn into_deserializer(self) -> Self::Deserializer {
        SeqDeserializer::new([self.0, self.1].into_iter())
    }
}
