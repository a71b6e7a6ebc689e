//! What the command lines of the programs share.
#![forbid(unsafe_code)]

use std::error::Error;
use std::str::FromStr;

use lexopt::ValueExt;

/// The value of an option that is read from text. lexopt's message quotes the value; this adds whose it is and what it
/// looks like.
///
/// # Errors
/// There is no value, or it does not parse.
pub fn named<T>(option: &str, parser: &mut lexopt::Parser) -> Result<T, lexopt::Error>
where
    T: FromStr,
    T::Err: Into<Box<dyn Error + Send + Sync>>,
{
    parser.value()?.parse().map_err(|error| format!("{option}: {error}").into())
}
