//! Responses that are the same every time, composed when the program is compiled.
//!
//! ```text
//! status line │ Server │ Date │ further fields │ Content-Type │ Content-Length │ blank line │ body
//! └── composed once a second ─┘                └──────────────── one constant ────────────────────┘
//! ```
//! Serving one copies the two pieces one behind the other: no number is formatted, nothing is looked up or allocated. A large
//! body is not copied; its head is composed like any.
#![forbid(unsafe_code)]

use std::fmt;

/// A `200 OK` with a constant body, made by [`constant_response!`](crate::constant_response).
///
/// A reference to one is a handler, and what a handler may return. The [`Response`](crate::Response) made from it is like any other:
/// fields can be added, and with another body or media type it simply loses what was prepared.
///
/// ```
/// use bast_server::{Constant, Request, Router, constant_response};
///
/// static HELLO: Constant = constant_response!("text/plain; charset=utf-8", "hello");
/// static ICON: Constant = constant_response!("image/gif", b"GIF89a");
///
/// let app = Router::new().get("/", &HELLO).get("/icon", |_: &mut Request| &ICON);
/// # let _ = app;
/// assert_eq!(HELLO.body(), b"hello");
/// ```
pub struct Constant {
    media_type: &'static str,
    /// From `Content-Type` to the end of the body.
    rest: &'static [u8],
    /// Where the body begins in that.
    body_at: usize,
}

impl Constant {
    /// The media type.
    #[must_use]
    pub const fn media_type(&self) -> &'static str {
        self.media_type
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &'static [u8] {
        &self.rest[self.body_at..]
    }

    /// From `Content-Type` to the end of the body.
    pub(crate) fn rest(&self) -> &'static [u8] {
        self.rest
    }

    /// For [`constant_response!`](crate::constant_response): the response that `rest` was composed for.
    #[doc(hidden)]
    #[must_use]
    pub const fn from_rest(media_type: &'static str, rest: &'static [u8], body: &[u8]) -> Constant {
        Constant { media_type, rest, body_at: rest.len() - body.len() }
    }
}

impl fmt::Debug for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constant")
            .field("media_type", &self.media_type)
            .field("body_bytes", &self.body().len())
            .finish()
    }
}

/// Composes a [`Constant`] response of a media type and a body, which are constants: text, or bytes as of `include_bytes!`.
///
/// A media type that could end its line does not compile:
/// ```compile_fail
/// static SPLIT: bast_server::Constant = bast_server::constant_response!("text/plain\r\nX: y", "hello");
/// ```
#[macro_export]
macro_rules! constant_response {
    ($media_type:expr, $body:expr $(,)?) => {{
        const MEDIA_TYPE: &str = $media_type;
        const BODY: &[u8] = $crate::constant::Source($body).bytes();
        const REST: [u8; $crate::constant::rest_len(MEDIA_TYPE, BODY)] =
            $crate::constant::rest(MEDIA_TYPE, BODY);
        $crate::Constant::from_rest(MEDIA_TYPE, &REST, BODY)
    }};
}

/// By a path, for the tests of other modules.
#[cfg(test)]
pub(crate) use constant_response;

/// A body given to the macro, as text or as bytes.
#[doc(hidden)]
#[derive(Debug)]
pub struct Source<T>(pub T);

impl Source<&'static str> {
    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        self.0.as_bytes()
    }
}

impl Source<&'static [u8]> {
    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        self.0
    }
}

impl<const LEN: usize> Source<&'static [u8; LEN]> {
    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        self.0
    }
}

const TYPE_NAME: &[u8] = b"Content-Type: ";
const LENGTH_NAME: &[u8] = b"\r\nContent-Length: ";
const BLANK: &[u8] = b"\r\n\r\n";

/// How long [`rest`] is.
#[doc(hidden)]
#[must_use]
pub const fn rest_len(media_type: &str, body: &[u8]) -> usize {
    TYPE_NAME.len() + media_type.len() + LENGTH_NAME.len() + digits(body.len()) + BLANK.len() + body.len()
}

/// How many digits a number has in decimal.
const fn digits(mut number: usize) -> usize {
    let mut count = 1;
    while number >= 10 {
        number /= 10;
        count += 1;
    }
    count
}

/// From `Content-Type` to the end of the body.
#[doc(hidden)]
#[must_use]
pub const fn rest<const LEN: usize>(media_type: &str, body: &[u8]) -> [u8; LEN] {
    assert_is_field_value(media_type.as_bytes());
    let mut out = [0; LEN];
    let at = copy(TYPE_NAME, &mut out, 0);
    let at = copy(media_type.as_bytes(), &mut out, at);
    let at = copy(LENGTH_NAME, &mut out, at);
    let end = at + digits(body.len());
    let (mut place, mut number) = (end, body.len());
    while place > at {
        place -= 1;
        out[place] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let at = copy(BLANK, &mut out, end);
    let at = copy(body, &mut out, at);
    assert!(at == LEN, "constant: a length that was not foreseen");
    out
}

const fn copy(from: &[u8], to: &mut [u8], at: usize) -> usize {
    // At once: a loop over a large body would be more than the compiler evaluates without complaint.
    let (place, _) = to.split_at_mut(at).1.split_at_mut(from.len());
    place.copy_from_slice(from);
    at + from.len()
}

const fn assert_is_field_value(bytes: &[u8]) {
    let mut index = 0;
    while index < bytes.len() {
        let byte = bytes[index];
        assert!(byte == b'\t' || (byte >= b' ' && byte != 0x7f), "a media type with a control character");
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_what_the_encoder_would_write() {
        const LONG: [u8; 1000] = [b'x'; 1000];
        static EMPTY: Constant = constant_response!("a/b", "");
        static NINE: Constant = constant_response!("a/b", b"123456789");
        static TEN: Constant = constant_response!("a/b", "1234567890");
        static LARGE: Constant = constant_response!("a/b", &[b'x'; 1 << 20]);
        static THOUSAND: Constant = constant_response!("text/plain; charset=utf-8", &LONG);
        for constant in [&EMPTY, &NINE, &TEN, &THOUSAND, &LARGE] {
            let head = format!(
                "Content-Type: {}\r\nContent-Length: {}\r\n\r\n",
                constant.media_type(),
                constant.body().len()
            );
            assert_eq!(constant.rest(), [head.as_bytes(), constant.body()].concat());
        }
        assert_eq!((NINE.body(), THOUSAND.body()), (&b"123456789"[..], &LONG[..]));
    }
}
