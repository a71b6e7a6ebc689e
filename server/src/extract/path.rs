//! The parameters of a route as a value of the program's own type.
#![forbid(unsafe_code)]

use serde::de::{DeserializeOwned, Deserializer, Visitor};

use super::quoted;
use super::text::{Each, Fault, FieldError, Fields, Pair, Values, transparent};
use crate::error::Error;
use crate::message::Status;
use crate::percent;
use crate::request::Request;

impl Request<'_> {
    /// The parameters of the route as a value: a struct or a map by name, a tuple or a list in their order, or a single value
    /// where there is one parameter.
    ///
    /// ```
    /// use bast_server::{Error, Request, Router};
    ///
    /// fn page(req: &mut Request) -> Result<String, Error> {
    ///     let (book, page): (String, u32) = req.path_as()?;
    ///     Ok(format!("page {page} of {book}"))
    /// }
    /// let app = Router::new().get("/books/{book}/{page}", page);
    /// # let _ = app;
    /// ```
    ///
    /// # Errors
    /// A 400 with the name of the parameter whose text in the path is malformed; a 500 where the type does not fit the
    /// route: that is a mistake of the program.
    pub fn path_as<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let mut pairs: Vec<Pair<'_>> = Vec::new();
        for (name, value) in self.params() {
            let value = percent::decode(value)
                .ok_or_else(|| Error::bad_request(format!("path parameter {} is malformed", quoted(name))))?;
            pairs.push((name.into(), value));
        }
        T::deserialize(Params(pairs)).map_err(|error| match error.fault {
            Fault::Malformed(_) => Error::bad_request(error.message("path parameter")).caused_by(error),
            _ => Error::new(Status::INTERNAL_SERVER_ERROR, "the route does not fit").caused_by(error),
        })
    }
}

/// All parameters, in their order in the pattern.
struct Params<'a>(Vec<Pair<'a>>);

impl Params<'_> {
    /// The only one there is.
    fn one<T>(&self, read: impl FnOnce(Values<'_, '_>) -> Result<T, FieldError>) -> Result<T, FieldError> {
        match &self.0[..] {
            [only] => read(Values(std::slice::from_ref(only))).map_err(|error| error.within(&only.0)),
            _ => Err(FieldError::new(Fault::Route)),
        }
    }

    fn list<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_seq(Each(&self.0))
    }
}

macro_rules! single {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
            self.one(|value| value.$method(visitor))
        })*
    };
}

impl<'de> Deserializer<'de> for Params<'_> {
    type Error = FieldError;

    transparent!();

    single! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_map(Fields::grouped(&mut self.0))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        self.list(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, FieldError> {
        if len == self.0.len() { self.list(visitor) } else { Err(FieldError::new(Fault::Route)) }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        self.one(|value| value.deserialize_enum(name, variants, visitor))
    }

    serde::forward_to_deserialize_any! { unit unit_struct map struct ignored_any }
}
