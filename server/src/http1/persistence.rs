//! Does the connection live on after this exchange? RFC 9112 §9.3.
//!
//! Pure decisions; the loop in `serve` adds its own reasons to close (errors, unread bodies, drain).
#![forbid(unsafe_code)]

use crate::message::{Version, list};

/// What becomes of the connection once the response is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Persistence {
    /// The next request may follow.
    Reuse,
    /// Nothing follows this response.
    Close,
}

/// What the `Connection` fields of a request asked for, collected over all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionOptions {
    /// The `close` option was named.
    pub(crate) close: bool,
    /// The `keep-alive` option was named.
    pub(crate) keep_alive: bool,
}

impl ConnectionOptions {
    /// Adds the options of one `Connection` field value.
    pub(crate) fn add(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// What the request asks for: `close` wins over everything, 1.1 persists by default, 1.0 only on demand.
    pub(crate) fn persistence(self, version: Version) -> Persistence {
        match version {
            _ if self.close => Persistence::Close,
            Version::Http11 => Persistence::Reuse,
            Version::Http10 if self.keep_alive => Persistence::Reuse,
            Version::Http10 => Persistence::Close,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_wins_and_only_http_1_1_persists_by_default() {
        use Persistence::{Close, Reuse};
        let table: [(&[&str], Persistence, Persistence); 6] = [
            (&[], Close, Reuse),
            (&["keep-alive"], Reuse, Reuse),
            (&["Keep-Alive"], Reuse, Reuse),
            (&["close"], Close, Close),
            (&["keep-alive, CLOSE"], Close, Close),
            (&["upgrade", "close"], Close, Close),
        ];
        for (values, http10, http11) in table {
            let mut options = ConnectionOptions::default();
            values.iter().for_each(|value| options.add(value.as_bytes()));
            assert_eq!(options.persistence(Version::Http10), http10, "1.0 {values:?}");
            assert_eq!(options.persistence(Version::Http11), http11, "1.1 {values:?}");
        }
    }
}
