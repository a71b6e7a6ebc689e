//! How long `/sleep` sleeps: the `ms` of its query.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Without a word from the client.
const DEFAULT_MS: u64 = 10;

/// A client that wants to wait longer can ask again.
const MS_MAX: u64 = 10_000;

/// Reads the query (what follows the question mark, if there is one). Other parameters are ignored, and of several
/// `ms` the first counts.
///
/// # Errors
/// What is wrong with `ms`, for the body of a 400.
pub(super) fn from_query(query: Option<&str>) -> Result<Duration, &'static str> {
    let Some(ms) = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("ms="))) else {
        return Ok(Duration::from_millis(DEFAULT_MS));
    };
    // Digits only: `parse` would take a plus sign too.
    if !ms.bytes().all(|b| b.is_ascii_digit()) {
        return Err("ms must be a number of milliseconds\n");
    }
    match ms.parse() {
        Ok(ms) if ms <= MS_MAX => Ok(Duration::from_millis(ms)),
        _ => Err("ms must be from 0 to 10000\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_ten_milliseconds_unless_the_query_says_otherwise() {
        for (query, ms) in [
            (None, 10),
            (Some(""), 10),
            (Some("msx=5"), 10),
            (Some("a=b"), 10),
            (Some("ms=0"), 0),
            (Some("ms=25"), 25),
            (Some("ms=0025"), 25),
            (Some("a=b&ms=25"), 25),
            (Some("ms=25&ms=x"), 25),
            (Some("ms=10000"), 10_000),
        ] {
            assert_eq!(from_query(query), Ok(Duration::from_millis(ms)), "{query:?}");
        }
    }

    #[test]
    fn a_pause_that_is_no_number_or_too_long_is_refused() {
        for query in
            ["ms=", "ms=-1", "ms=+1", "ms=1.5", "ms=ten", "ms=10001", "ms=99999999999999999999999", "ms=%31"]
        {
            assert!(from_query(Some(query)).is_err(), "{query}");
        }
    }
}
