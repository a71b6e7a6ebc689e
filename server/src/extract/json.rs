//! JSON (RFC 8259) from requests and in responses, by serde_json.
#![forbid(unsafe_code)]

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::{media_type, quoted};
use crate::error::Error;
use crate::message::Status;
use crate::request::Request;
use crate::response::Response;

/// So much stack is there when a text of somebody else's is read. serde_json goes 128 levels deep and refuses what is deeper;
/// measured without optimisation a level of structs takes 3.3 KiB, so this leaves room for types that read themselves. The
/// thread of a connection has 192 KiB: the rest comes from a segment that is lent for the call, for some tens of nanoseconds.
pub(crate) const STACK_BYTES: usize = 1 << 20;

impl Request<'_> {
    /// The body as a value, read from JSON.
    ///
    /// ```
    /// use bast_server::{Error, Request, Response};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Deserialize, Serialize)]
    /// struct Item {
    ///     name: String,
    ///     price: u32,
    /// }
    ///
    /// fn double(req: &mut Request) -> Result<Response, Error> {
    ///     let mut item: Item = req.json()?;
    ///     item.price *= 2;
    ///     Response::json(&item)
    /// }
    /// # let _ = double;
    /// ```
    ///
    /// A key that is there twice does not fit a struct (422); in a map or a `serde_json::Value` the last one counts. Unknown keys
    /// are skipped unless the type denies them. Arrays and objects nest at most 127 deep. Maps of std are keyed at
    /// random, so a client cannot choose keys that collide; who uses another hasher is on his own.
    ///
    /// # Errors
    /// 415 where the content type is neither `application/json` nor of the kind `application/…+json`, or the body is compressed and nobody undoes that; 400 where the body
    /// is not JSON in UTF-8; 422 where it does not fit the type; and those of [`read_body`](Request::read_body).
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        if !is_json(media_type(self)) {
            return Err(Error::new(
                Status::UNSUPPORTED_MEDIA_TYPE,
                "expected a body of type application/json",
            ));
        }
        self.refuse_coded()?;
        let body = self.read_body()?;
        let text = std::str::from_utf8(&body).map_err(|_| Error::bad_request("the body is not UTF-8"))?;
        bast::ensure_stack(STACK_BYTES, || parse(text))
    }
}

impl Response {
    /// A `200 OK` with this value as JSON.
    ///
    /// # Errors
    /// A 500 where the value cannot be written as JSON: a map has keys that are no strings, say.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Response, Error> {
        Ok(Response::bytes("application/json", serde_json::to_vec(value)?))
    }
}

/// `application/json`, or what says that it is JSON by its suffix (RFC 6839 §3.1). Parameters are taken off before.
pub(crate) fn is_json(media_type: &str) -> bool {
    let Some((kind, subtype)) = media_type.split_once('/') else { return false };
    let suffixed = subtype.rsplit_once('+').filter(|(name, _)| !name.is_empty());
    let suffix = suffixed.map_or(subtype, |(_, suffix)| suffix);
    kind.eq_ignore_ascii_case("application") && suffix.eq_ignore_ascii_case("json")
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        refused(&path, error.into_inner())
    })?;
    deserializer.end().map_err(|error| refused(".", error))?;
    Ok(value)
}

/// What to tell about text that is no JSON, or JSON that is no such value: where, but not what was there.
fn refused(path: &str, error: serde_json::Error) -> Error {
    if error.classify() != Category::Data {
        let message = format!("the body is not JSON at line {}, column {}", error.line(), error.column());
        return Error::bad_request(message).caused_by(error);
    }
    let text = error.to_string();
    let below = |name: &str| if path == "." { name.to_owned() } else { format!("{path}.{name}") };
    // serde says some things only in its text. Its wording is documented nowhere and stays the same; where it should not,
    // the last line is said instead.
    let named = |prefix: &str| text.strip_prefix(prefix)?.split('`').next();
    let message = if let Some(name) = named("missing field `") {
        format!("field {} is missing", quoted(&below(name)))
    } else if text.starts_with("unknown field `") {
        format!("field {} is not known", quoted(path))
    } else if let Some(name) = named("duplicate field `") {
        format!("field {} is given twice", quoted(&below(name)))
    } else if path == "." {
        String::from("the body is not as expected")
    } else {
        format!("field {} is not as expected", quoted(path))
    };
    Error::new(Status::UNPROCESSABLE_CONTENT, message).caused_by(error)
}
