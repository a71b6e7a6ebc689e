//! One parameter of the query by its name.
#![forbid(unsafe_code)]

use std::str::FromStr;

use crate::error::Error;
use crate::percent;
use crate::request::Request;

impl Request<'_> {
    /// The first value of this parameter in the query, decoded and parsed: `None` where it is absent.
    ///
    /// ```
    /// # use bast_server::{Error, Request};
    /// fn list(req: &mut Request) -> Result<String, Error> {
    ///     let page: u32 = req.query_value("page")?.unwrap_or(1);
    ///     Ok(format!("page {page}"))
    /// }
    /// # let _ = list;
    /// ```
    ///
    /// # Errors
    /// A 400 that names the parameter where its value has a malformed escape, is not UTF-8, or does not parse.
    pub fn query_value<T: FromStr>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.query_text(name) else { return Ok(None) };
        let parsed = percent::decode_form(value).and_then(|value| value.parse().ok());
        let malformed = || Error::bad_request(format!("query parameter {name:?} is malformed"));
        parsed.map(Some).ok_or_else(malformed)
    }
}
