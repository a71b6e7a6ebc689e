//! Which request an error is about. Sans-IO.
#![forbid(unsafe_code)]

use std::fmt;

use super::url::Url;
use crate::message::Method;

/// How much of a path is named: enough to know it by, and no flood of a log.
const PATH_BYTES_MAX: usize = 200;

/// Method and URL of a request, as it was when it was sent.
///
/// It prints itself without the query, where keys and tokens travel, and without what could end a line of a log.
#[derive(Debug)]
pub(super) struct Place {
    method: String,
    pub(super) url: Url,
}

impl Place {
    pub(super) fn new(method: &str, url: Url) -> Place {
        Place { method: method.to_owned(), url }
    }

    /// Origin and path.
    pub(super) fn url_without_query(&self) -> String {
        let target = self.url.target(Method::from_name(&self.method));
        let path = target.split('?').next().unwrap_or_default();
        // A URL that was found to be in order is ASCII.
        let (path, rest) = match path.get(..PATH_BYTES_MAX) {
            Some(begin) if path.len() > PATH_BYTES_MAX => (begin, "..."),
            _ => (path, ""),
        };
        format!("http://{}{path}{rest}", self.url.authority())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.escape_debug(), self.url_without_query())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_method_origin_and_path_without_secrets() {
        let long = format!("http://a/{}", "x".repeat(300));
        for (method, url, expected) in [
            ("GET", "http://a.b:81/p/q?key=secret#f", "GET http://a.b:81/p/q"),
            ("POST", "http://a?q", "POST http://a/"),
            ("OPTIONS", "http://a", "OPTIONS http://a*"),
            ("A\nB", "http://a/", "A\\nB http://a/"),
            ("GET", &long, &format!("GET http://a/{}...", "x".repeat(199))),
        ] {
            let place = Place::new(method, Url::parse(url).expect("a URL"));
            assert_eq!(place.to_string(), expected);
        }
    }
}
