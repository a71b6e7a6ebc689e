//! What can stand in a page, and how it is escaped.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use super::Html;

/// Something that can stand between tags. Implement it for components of your own, by `html!(page => …)`.
pub trait Render {
    /// Appends itself to the page.
    fn render(&self, page: &mut Html);
}

/// Something that can be the value of an attribute: text and numbers, but no HTML.
pub trait Attribute {
    /// Appends itself to the page, where it stands in double quotes.
    fn render_attribute(&self, page: &mut Html);
}

/// HTML, or the value of an attribute, that is trusted to be harmless where it stands: it is copied as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<T>(pub T);

impl<T: AsRef<str>> Render for Raw<T> {
    fn render(&self, page: &mut Html) {
        page.push_raw(self.0.as_ref());
    }
}

impl<T: AsRef<str>> Attribute for Raw<T> {
    fn render_attribute(&self, page: &mut Html) {
        page.push_raw(self.0.as_ref());
    }
}

impl Render for Html {
    fn render(&self, page: &mut Html) {
        page.push_raw(&self.0);
    }
}

/// Whatever can be formatted, escaped. Strings and integers need no formatting, and are rendered without this.
///
/// ```
/// use bast_server::html;
/// let page = html! { p { (html::display(1.5)) } };
/// assert_eq!(page.as_str(), "<p>1.5</p>");
/// ```
#[must_use]
pub fn display<T: fmt::Display>(value: T) -> impl Render + Attribute {
    Shown(value)
}

struct Shown<T>(T);

impl<T: fmt::Display> Render for Shown<T> {
    fn render(&self, page: &mut Html) {
        struct Escaping<'p>(&'p mut Html);
        impl fmt::Write for Escaping<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.push_text(text);
                Ok(())
            }
        }
        // It fails only if the value says so; what it wrote before stays.
        let _ = write!(Escaping(page), "{}", self.0);
    }
}

impl<T: fmt::Display> Attribute for Shown<T> {
    fn render_attribute(&self, page: &mut Html) {
        self.render(page);
    }
}

/// Both traits for what is text.
macro_rules! text {
    ($($type:ty: |$value:ident, $page:ident| $body:expr;)*) => {
        $(impl Render for $type {
            #[inline]
            fn render(&self, $page: &mut Html) {
                let $value = self;
                $body
            }
        }

        impl Attribute for $type {
            #[inline]
            fn render_attribute(&self, page: &mut Html) {
                self.render(page);
            }
        })*
    };
}

text! {
    str: |text, page| page.push_text(text);
    String: |text, page| page.push_text(text);
    Cow<'_, str>: |text, page| page.push_text(text);
    char: |letter, page| page.push_text(letter.encode_utf8(&mut [0; 4]));
    bool: |value, page| page.push_raw(if *value { "true" } else { "false" });
}

/// Both traits for integers: digits, without formatting.
macro_rules! integers {
    ($($type:ty)*) => {
        $(text! {
            $type: |number, page| {
                if number.cmp(&0).is_lt() {
                    page.push_raw("-");
                }
                #[allow(clippy::cast_lossless, reason = "it is nothing else for usize")]
                push_digits(number.abs_diff(0) as u128, page);
            };
        })*
    };
}

integers! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize }

fn push_digits(magnitude: u128, page: &mut Html) {
    /// The most digits that a number has.
    const DIGITS_MAX: usize = 39;
    let mut digits = [b'0'; DIGITS_MAX];
    let mut first = DIGITS_MAX;
    // Most fit into a word, in which dividing is cheap.
    let mut large = magnitude;
    while large > u128::from(u64::MAX) {
        first -= 1;
        digits[first] += (large % 10) as u8;
        large /= 10;
    }
    let mut small = large as u64;
    loop {
        first -= 1;
        digits[first] += (small % 10) as u8;
        small /= 10;
        if small == 0 {
            break;
        }
    }
    page.push_raw(std::str::from_utf8(&digits[first..]).expect("html: digits are ASCII"));
}

/// Both traits for what points to something that has them.
macro_rules! pointers {
    ($($type:ty)*) => {
        $(impl<T: Render + ?Sized> Render for $type {
            #[inline]
            fn render(&self, page: &mut Html) {
                (**self).render(page);
            }
        }

        impl<T: Attribute + ?Sized> Attribute for $type {
            #[inline]
            fn render_attribute(&self, page: &mut Html) {
                (**self).render_attribute(page);
            }
        })*
    };
}

pointers! { &T &mut T Box<T> Rc<T> Arc<T> }

/// Nothing where there is none.
impl<T: Render> Render for Option<T> {
    fn render(&self, page: &mut Html) {
        if let Some(value) = self {
            value.render(page);
        }
    }
}

/// One after the other.
impl<T: Render> Render for [T] {
    fn render(&self, page: &mut Html) {
        for value in self {
            value.render(page);
        }
    }
}

/// One after the other.
impl<T: Render> Render for Vec<T> {
    fn render(&self, page: &mut Html) {
        self[..].render(page);
    }
}

/// Appends text with what HTML could read as a part of itself escaped, in text or in a quoted value.
pub(super) fn escape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'&' | b'<' | b'>' | b'"' | b'\'')) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "&#39;",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}
