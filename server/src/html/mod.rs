//! Pages in HTML, written in the program and escaped: the [`html!`](crate::html!) macro.
//!
//! ```
//! use bast_server::html::{Html, Render};
//! use bast_server::{Request, html};
//!
//! struct User<'u> {
//!     name: &'u str,
//!     age: u32,
//! }
//!
//! /// A component: something that can be rendered.
//! impl Render for User<'_> {
//!     fn render(&self, page: &mut Html) {
//!         html!(page => li class="user" { (self.name) ", " (self.age) });
//!     }
//! }
//!
//! fn page(title: &str, content: Html) -> Html {
//!     html! {
//!         doctype;
//!         html lang="en" {
//!             head { meta charset="utf-8"; title { (title) } }
//!             body { h1 { (title) } (content) }
//!         }
//!     }
//! }
//!
//! fn users(_: &mut Request) -> Html {
//!     let users = [User { name: "<Ann>", age: 7 }];
//!     page("Users", html! {
//!         if (users.is_empty()) { p { "Nobody is here." } } else { ul { for (user in &users) { (user) } } }
//!     })
//! }
//! # let text = page("a & b", html! { for (user in [User { name: "<Ann>", age: 7 }]) { (user) } });
//! # assert!(text.as_str().ends_with("<h1>a &amp; b</h1><li class=\"user\">&lt;Ann&gt;, 7</li></body></html>"));
//! # let _ = users;
//! ```
//!
//! # What can be written
//! | | is | |
//! |---|---|---|
//! | `p class="x" { … }` | `<p class="x">…</p>` | an element; a name with hyphens is written as it is |
//! | `br;` `img src="x";` | `<br>` `<img src="x">` | an element without an end; the void elements of HTML (`br`, `input`, …) have only this form |
//! | `"text"` | `text` | HTML of the program's own: **copied as it is** |
//! | `(value)` | | a value, escaped: strings, numbers, [`Html`], options, all that is [`Render`] |
//! | `href=(value)` | `href="…"` | an attribute with a value, escaped and quoted |
//! | `title=[option]` | | an attribute that is there if the option is `Some` |
//! | `checked` `checked[condition]` | `checked` | an attribute without a value, always or on a condition |
//! | `"xlink:href"="x"` | `xlink:href="x"` | a name that is no identifier |
//! | `if (…) { … } else { … }` | | also `else if`, and `if (let Some(x) = y)` |
//! | `for (pattern in values) { … }` | | |
//! | `match (value) { pattern => { … } }` | | also with guards |
//! | `let name = value;` | | for what follows |
//! | `doctype;` | `<!DOCTYPE html>` | |
//!
//! Elements are closed by their braces, so tags are balanced. What is constant is put together when the program is
//! compiled and copied in as large pieces as there are; nothing goes through formatting; all goes into one buffer.
//!
//! # What is escaped, and what is not
//! The macro knows two contexts: text, and the value of a quoted attribute. In both it escapes `& < > " '`, so that a value
//! is harmless within quotes that were written by hand, too. A value in `script` or `style`, in an attribute `on…`, `style` or
//! `srcdoc` would be read as another language, in which that does not help: there it does not compile unless it is
//! [`Raw`], which says that you have seen to it.
//!
//! **It cannot know what a text means.** `href=(url)` with `javascript:…` from a client runs it: check the scheme of such
//! addresses. The same holds for names of elements, which are never values here, and for HTML in string literals and in
//! [`Raw`], which is copied as it is.
//!
//! A long template may reach the compiler's limit of recursion: each item of a list and each attribute is a step, and 128
//! are allowed. Make components of its parts, or raise `#![recursion_limit]`.
#![forbid(unsafe_code)]

mod macros;
mod render;

use std::fmt;

use crate::response::{IntoResponse, Response};

#[doc(hidden)]
pub use macros::{is_script_attribute, is_script_in_disguise, trusted};
pub use render::{Attribute, Raw, Render, display};

/// A piece of HTML that is known to be well escaped; made by [`html!`](crate::html!). A handler can return it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Html(String);

impl Html {
    /// An empty piece.
    #[must_use]
    pub fn new() -> Html {
        Html::default()
    }

    /// An empty piece with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Html {
        Html(String::with_capacity(bytes))
    }

    /// Appends text, escaped.
    pub fn push_text(&mut self, text: &str) {
        render::escape(text, &mut self.0);
    }

    /// Appends HTML as it is. Nothing from outside of the program belongs in there.
    #[inline]
    pub fn push_raw(&mut self, html: &str) {
        self.0.push_str(html);
    }

    /// The HTML.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The HTML.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Html({:?})", self.0)
    }
}

/// A `200 OK` with the page, as [`Response::html`].
impl IntoResponse for Html {
    fn into_response(self) -> Response {
        Response::html(self.0)
    }
}

#[cfg(test)]
mod tests;
