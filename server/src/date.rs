//! The `Date` line, rendered at most once a second on each capability (RFC 9110 §6.6.1).
//!
//! The cache is an OS thread's own: no lock, no sharing. It is keyed by the second it is asked for, so nothing has
//! to refresh it, and an idle server does nothing.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

/// `Date: Sun, 06 Nov 1994 08:49:37 GMT` and CRLF.
pub(crate) type Line = [u8; 37];

/// The last second that an HTTP date can spell: the end of the year 9999.
const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

thread_local! {
    static CACHE: Cell<(u64, Line)> = const { Cell::new((u64::MAX, [0; 37])) };
}

/// The line for this second after 1970.
pub(crate) fn line(unix_seconds: u64) -> Line {
    let (second, line) = CACHE.get();
    if second == unix_seconds { line } else { render(unix_seconds) }
}

#[cold]
fn render(unix_seconds: u64) -> Line {
    let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(unix_seconds.min(UNIX_SECONDS_MAX)));
    let mut line: Line = [b' '; 37];
    let written = write!(&mut line[..], "Date: {date}\r\n");
    assert!(written.is_ok(), "date: a date longer than RFC 9110 allows");
    CACHE.set((unix_seconds, line));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_an_imf_fixdate() {
        assert_eq!(&line(784_111_777), b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        assert_eq!(&line(1_349_081_930), b"Date: Mon, 01 Oct 2012 08:58:50 GMT\r\n");
        assert_eq!(&line(u64::MAX), b"Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n");
    }

    #[test]
    fn a_second_is_rendered_once() {
        let first = line(1000);
        CACHE.set((1000, [b'x'; 37]));
        assert_eq!(line(1000), [b'x'; 37], "the cached line is used");
        assert_ne!(line(1001), first, "the next second is rendered");
    }
}
