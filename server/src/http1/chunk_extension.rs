//! The extensions of a chunk (RFC 9112 §7.1.1): `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`. Sans-IO.
//!
//! ```text
//!            ┌──────────────────────── ; ────────────────────────┐
//!            ▼                                                   │
//!   ; ──▶ BeforeName ──▶ Name ─ = ─▶ BeforeValue ──▶ Value ──────┤
//!                         │              └── " ──▶ Quoted ─ " ─▶ Closed
//!                         └── ; ──▶                 ▲   \         │
//!                                                 Escaped         ▼ white space: Spaced, then only ; or =
//! ```
//! What they say is ignored, as it may be. They are read all the same: a byte that some reader takes for the end of the line,
//! and another for a part of an extension, is how a request is smuggled past one of the two.
#![forbid(unsafe_code)]

use crate::class::{is_field_value, is_token_byte};

/// Where in an extension a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    /// Behind the semicolon.
    BeforeName,
    Name,
    /// In white space behind a name.
    NameSpaced,
    /// Behind the equals sign.
    BeforeValue,
    Value,
    Quoted,
    /// Behind a backslash in a quoted string.
    Escaped,
    /// Behind the quote that ends a value.
    Closed,
    /// In white space behind a value.
    ValueSpaced,
}

impl Extension {
    /// Where it is behind one more byte; `None` where that byte cannot stand there.
    pub(crate) fn after(self, byte: u8) -> Option<Extension> {
        use Extension::*;
        Some(match (self, byte) {
            (BeforeName | BeforeValue | NameSpaced | ValueSpaced, b' ' | b'\t') => self,
            (BeforeName | Name, _) if is_token_byte(byte) => Name,
            (Name, b' ' | b'\t') => NameSpaced,
            (Name | NameSpaced, b'=') => BeforeValue,
            (BeforeValue, b'"') => Quoted,
            (BeforeValue | Value, _) if is_token_byte(byte) => Value,
            (Value | Closed, b' ' | b'\t') => ValueSpaced,
            (Name | NameSpaced | Value | Closed | ValueSpaced, b';') => BeforeName,
            (Quoted, b'"') => Closed,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, _) if is_field_value(&[byte]) => Quoted,
            _ => return None,
        })
    }

    /// May the line end here? White space stands before a semicolon or an equals sign only.
    pub(crate) fn may_end(self) -> bool {
        matches!(self, Extension::Name | Extension::Value | Extension::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Is this what may stand between the first semicolon and the end of the line?
    fn is_extension(text: &[u8]) -> bool {
        let end = text.iter().try_fold(Extension::BeforeName, |at, &byte| at.after(byte));
        end.is_some_and(Extension::may_end)
    }

    #[test]
    fn extensions_are_names_with_values_or_without() {
        for good in
            ["a", " a", "a=b", "a \t=\t b", "a=\"\"", "a=\"b;c=\t\\\"\\\\\u{e9}\"", "a;b", "a=1 ;b=\"2\" ; c"]
        {
            assert!(is_extension(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "",
            " ",
            ";a",
            "a;",
            "a=",
            "=b",
            "a ",
            "a=b ",
            "a b",
            "a=b c",
            "a=b=c",
            "a=\"",
            "a=\"b",
            "a=\"b\\",
            "a=\"b\\\"",
            "a=\"b\"c",
            "a=b\"c\"",
            "a\"b\"",
            "\"a\"",
            "a=\"b\" ",
            "a,b",
        ] {
            assert!(!is_extension(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn no_byte_that_ends_a_line_for_anybody_is_part_of_one() {
        for byte in [b'\r', b'\n', 0, 0x0b, 0x0c, 0x7f, 0x1b] {
            for before in ["", "a", "a=", "a=b", "a=\"", "a=\"b\\", "a=\"b\"", "a ", "a=b "] {
                for after in ["", "a", "\"", ";a"] {
                    let text = [before.as_bytes(), &[byte], after.as_bytes()].concat();
                    assert!(!is_extension(&text), "{}", text.escape_ascii());
                }
            }
        }
    }
}
