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
        assert_eq!(&line(1_349_077_130), b"Date: Mon, 01 Oct 2012 07:38:50 GMT\r\n");
        assert_eq!(&line(1_349_081_930), b"Date: Mon, 01 Oct 2012 08:58:50 GMT\r\n");
        assert_eq!(&line(u64::MAX), b"Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n");
    }

    /// A calendar that counts: one day after the other, with the rules of leap years, and no arithmetic on dates.
    #[test]
    fn every_day_from_1970_to_2100_is_spelled_as_a_calendar_spells_it() {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [(&str, u64); 12] = [
            ("Jan", 31),
            ("Feb", 28),
            ("Mar", 31),
            ("Apr", 30),
            ("May", 31),
            ("Jun", 30),
            ("Jul", 31),
            ("Aug", 31),
            ("Sep", 30),
            ("Oct", 31),
            ("Nov", 30),
            ("Dec", 31),
        ];
        let mut days = 0;
        for year in 1970..=2100u64 {
            let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
            for (month, length) in MONTHS {
                let length = length + u64::from(is_leap && month == "Feb");
                for day in 1..=length {
                    let weekday = DAYS[(days % 7) as usize];
                    // The first and the last second, and one in between that is another each day.
                    for second in [0, days * 7919 % 86_400, 86_399] {
                        let (hour, minute, rest) = (second / 3600, second / 60 % 60, second % 60);
                        let expected = format!(
                            "Date: {weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{rest:02} GMT\r\n"
                        );
                        let line = line(days * 86_400 + second);
                        assert_eq!(String::from_utf8_lossy(&line), expected);
                        // What a client sends back is read as the same second.
                        let date = httpdate::parse_http_date(expected["Date: ".len()..].trim_end());
                        let read = date.expect("a date").duration_since(UNIX_EPOCH).expect("after 1970");
                        assert_eq!(read.as_secs(), days * 86_400 + second);
                    }
                    days += 1;
                }
            }
        }
        assert_eq!(days, 47_847);
    }

    #[test]
    fn a_second_is_rendered_once() {
        let first = line(1000);
        CACHE.set((1000, [b'x'; 37]));
        assert_eq!(line(1000), [b'x'; 37], "the cached line is used");
        assert_ne!(line(1001), first, "the next second is rendered");
    }
}
