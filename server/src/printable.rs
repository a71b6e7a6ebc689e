//! Text of unknown origin, for a log: nothing in it ends a line or moves a terminal's cursor.
//!
//! What a cause of an error says may quote what a client sent. [`fmt::Debug`] would escape it too, but put quotes around it and
//! escape the quotes within.
#![forbid(unsafe_code)]

use std::fmt::{self, Write as _};

/// Shows what it holds with all control characters escaped, those above ASCII too.
pub(crate) struct Printable<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            match part.char_indices().next_back() {
                Some((at, control)) if control.is_control() => {
                    self.0.write_str(&part[..at])?;
                    write!(self.0, "{}", control.escape_debug())?;
                }
                _ => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_nothing_else() {
        for (text, shown) in [
            ("", ""),
            ("plain \"text\" \\ \u{e9}", "plain \"text\" \\ \u{e9}"),
            ("a\r\nERROR b", "a\\r\\nERROR b"),
            ("\x1b[31m\0\u{9b}\u{7f}", "\\u{1b}[31m\\0\\u{9b}\\u{7f}"),
            ("\n\n", "\\n\\n"),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
        }
    }
}
