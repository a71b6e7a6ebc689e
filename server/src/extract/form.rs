//! Queries and HTML forms as values of the program's own types.
#![forbid(unsafe_code)]

use serde::de::DeserializeOwned;

use super::media_type;
use super::pairs::{self, Kind};
use crate::error::Error;
use crate::message::Status;
use crate::request::Request;

const QUERY: Kind = Kind { name: "query parameter", misfit: Status::BAD_REQUEST };
const FORM: Kind = Kind { name: "form field", misfit: Status::UNPROCESSABLE_CONTENT };

impl Request<'_> {
    /// The query as a value: a struct or a map by name, or a list of pairs. No query is one without parameters.
    ///
    /// ```
    /// use bast_server::{Error, Request};
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct Search {
    ///     q: String,
    ///     page: Option<u32>,
    ///     #[serde(default)]
    ///     tag: Vec<String>, // ?tag=a&tag=b
    /// }
    ///
    /// fn search(req: &mut Request) -> Result<String, Error> {
    ///     let Search { q, page, tag } = req.query_as()?;
    ///     Ok(format!("{q} on page {} with {tag:?}", page.unwrap_or(1)))
    /// }
    /// # let _ = search;
    /// ```
    ///
    /// A name that is there several times is a list; where the type has no list for it that is an error. Fields of a
    /// struct that is flattened into another are all text.
    ///
    /// # Errors
    /// A 400 that names the parameter: it is missing, given twice, does not fit, or has a malformed escape; also where there
    /// are more than 10,000.
    pub fn query_as<T: DeserializeOwned>(&self) -> Result<T, Error> {
        pairs::parse(self.query().unwrap_or(""), &QUERY)
    }

    /// The body as a value, read from a form of the type `application/x-www-form-urlencoded`. What is said at
    /// [`query_as`](Request::query_as) holds here, too.
    ///
    /// # Errors
    /// 415 where the content type is another one; 400 where the body is malformed or has more than 10,000 fields; 422
    /// with the name of the field where it does not fit the type; and those of [`read_body`](Request::read_body).
    pub fn form<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        const TYPE: &str = "application/x-www-form-urlencoded";
        if !media_type(self).eq_ignore_ascii_case(TYPE) {
            return Err(Error::new(
                Status::UNSUPPORTED_MEDIA_TYPE,
                format!("expected a body of type {TYPE}"),
            ));
        }
        pairs::parse(&self.read_text()?, &FORM)
    }
}
