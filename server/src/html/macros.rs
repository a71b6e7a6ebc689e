//! The macro itself, and what it calls: a template is taken apart item by item. What is constant is gathered as far as it
//! goes and then written by one `concat!`.
//!
//! ```text
//! @items page [constant so far] [constant behind] items…          between tags
//! @attributes page [constant so far] [constant behind] (name) …   within a tag
//! ```
//! The items of an element are expanded beside what follows it, not before it, so that the depth of the expansion is the longest
//! list on the way to an item. What closes the element goes with its items, as the *constant behind* them: together with
//! what they end with it is one piece.
#![forbid(unsafe_code)]

use super::{Html, Raw};

/// HTML from a template; see the [module](mod@crate::html). `html! { … }` is a piece of [`Html`](crate::html::Html), and
/// `html!(page => …)` appends to the one that `page` is, a `&mut Html`.
#[macro_export]
macro_rules! html {
    () => { $crate::html::Html::new() };
    ($page:ident => $($items:tt)*) => {{
        let page: &mut $crate::html::Html = $page;
        $crate::__html!(@items page [] [] $($items)*);
    }};
    ($($items:tt)*) => {{
        // The template is about as long as what comes of it.
        let mut html = $crate::html::Html::with_capacity(stringify!($($items)*).len());
        {
            let page = &mut html;
            $crate::__html!(@items page [] [] $($items)*);
        }
        html
    }};
}

/// One step of [`html!`](crate::html!).
#[doc(hidden)]
#[macro_export]
macro_rules! __html {
    // Constants are written.
    (@write $page:ident []) => {};
    (@write $page:ident [$($constant:tt)+]) => { $page.push_raw(concat!($($constant)+)); };

    // The end.
    (@items $page:ident [$($before:tt)*] [$($behind:tt)*]) => {
        $crate::__html!(@write $page [$($before)* $($behind)*]);
    };
    // Constant text.
    (@items $page:ident [$($before:tt)*] $behind:tt $text:literal $($rest:tt)*) => {
        $crate::__html!(@items $page [$($before)* $text,] $behind $($rest)*);
    };
    // A value.
    (@items $page:ident $before:tt $behind:tt ($value:expr) $($rest:tt)*) => {
        $crate::__html!(@write $page $before);
        $crate::html::Render::render(&$value, $page);
        $crate::__html!(@items $page [] $behind $($rest)*);
    };
    // Control flow.
    (@items $page:ident $before:tt $behind:tt if ($($condition:tt)*) { $($then:tt)* } $($rest:tt)*) => {
        $crate::__html!(@write $page $before);
        $crate::__html!(@if $page $behind [if $($condition)* { $crate::__html!(@items $page [] [] $($then)*); }] $($rest)*);
    };
    (@if $page:ident $behind:tt [$($done:tt)*] else if ($($condition:tt)*) { $($then:tt)* } $($rest:tt)*) => {
        $crate::__html!(@if $page $behind
            [$($done)* else if $($condition)* { $crate::__html!(@items $page [] [] $($then)*); }] $($rest)*);
    };
    (@if $page:ident $behind:tt [$($done:tt)*] else { $($then:tt)* } $($rest:tt)*) => {
        $($done)* else { $crate::__html!(@items $page [] [] $($then)*); }
        $crate::__html!(@items $page [] $behind $($rest)*);
    };
    (@if $page:ident $behind:tt [$($done:tt)*] $($rest:tt)*) => {
        $($done)*
        $crate::__html!(@items $page [] $behind $($rest)*);
    };
    (@items $page:ident $before:tt $behind:tt for ($pattern:pat in $values:expr) { $($each:tt)* } $($rest:tt)*) => {
        $crate::__html!(@write $page $before);
        for $pattern in $values {
            $crate::__html!(@items $page [] [] $($each)*);
        }
        $crate::__html!(@items $page [] $behind $($rest)*);
    };
    (@items $page:ident $before:tt $behind:tt
        match ($value:expr) { $($pattern:pat $(if $guard:expr)? => { $($then:tt)* } $(,)?)* } $($rest:tt)*) => {
        $crate::__html!(@write $page $before);
        match $value {
            $($pattern $(if $guard)? => { $crate::__html!(@items $page [] [] $($then)*); })*
        }
        $crate::__html!(@items $page [] $behind $($rest)*);
    };
    (@items $page:ident $before:tt $behind:tt let $pattern:pat = $value:expr; $($rest:tt)*) => {
        $crate::__html!(@write $page $before);
        let $pattern = $value;
        $crate::__html!(@items $page [] $behind $($rest)*);
    };
    (@items $page:ident $before:tt $behind:tt if $($rest:tt)*) => {
        compile_error!("a condition is written in parentheses: if (condition) { .. }")
    };
    (@items $page:ident $before:tt $behind:tt else $($rest:tt)*) => {
        compile_error!("this else has no if before it")
    };
    (@items $page:ident $before:tt $behind:tt for $($rest:tt)*) => {
        compile_error!("the head of a loop is written in parentheses: for (pattern in values) { .. }")
    };
    (@items $page:ident $before:tt $behind:tt match $($rest:tt)*) => {
        compile_error!("a match is written like this: match (value) { pattern => { .. } }")
    };
    (@items $page:ident $before:tt $behind:tt let $($rest:tt)*) => {
        compile_error!("a binding is written like this: let name = value;")
    };
    // Elements.
    (@items $page:ident [$($before:tt)*] $behind:tt doctype; $($rest:tt)*) => {
        $crate::__html!(@items $page [$($before)* "<!DOCTYPE html>",] $behind $($rest)*);
    };
    // A few forms that are whole in one step.
    (@items $page:ident [$($before:tt)*] $behind:tt $name:ident { $($text:literal)* } $($rest:tt)*) => {
        $crate::__html!(@braces ($name));
        $crate::__html!(@items $page
            [$($before)* "<", stringify!($name), ">", $($text,)* "</", stringify!($name), ">",] $behind $($rest)*);
    };
    (@items $page:ident [$($before:tt)*] $behind:tt $name:ident; $($rest:tt)*) => {
        $crate::__html!(@items $page [$($before)* "<", stringify!($name), ">",] $behind $($rest)*);
    };
    (@items $page:ident $before:tt $behind:tt $name:ident - $more:ident $($rest:tt)*) => {
        $crate::__html!(@element $page $before $behind (stringify!($name), "-", stringify!($more),) $($rest)*);
    };
    (@element $page:ident $before:tt $behind:tt ($($name:tt)*) - $more:ident $($rest:tt)*) => {
        $crate::__html!(@element $page $before $behind ($($name)* "-", stringify!($more),) $($rest)*);
    };
    (@element $page:ident [$($before:tt)*] $behind:tt ($($name:tt)*) $($rest:tt)*) => {
        $crate::__html!(@attributes $page [$($before)* "<", $($name)*] $behind (-) ($($name)*) $($rest)*);
    };
    (@items $page:ident [$($before:tt)*] $behind:tt $name:ident $($rest:tt)*) => {
        $crate::__html!(@attributes $page [$($before)* "<", stringify!($name),] $behind
            ($name) (stringify!($name),) $($rest)*);
    };
    (@items $page:ident $before:tt $behind:tt $unexpected:tt $($rest:tt)*) => {
        compile_error!(concat!("no item begins with `", stringify!($unexpected),
            "`: an element is written `p { .. }`, a text \"..\", and a value in parentheses"))
    };
    // Elements that never have content (HTML, "Void elements") have no end tag.
    (@braces (area)) => { $crate::__html!(@void area) };
    (@braces (base)) => { $crate::__html!(@void base) };
    (@braces (br)) => { $crate::__html!(@void br) };
    (@braces (col)) => { $crate::__html!(@void col) };
    (@braces (embed)) => { $crate::__html!(@void embed) };
    (@braces (hr)) => { $crate::__html!(@void hr) };
    (@braces (img)) => { $crate::__html!(@void img) };
    (@braces (input)) => { $crate::__html!(@void input) };
    (@braces (link)) => { $crate::__html!(@void link) };
    (@braces (meta)) => { $crate::__html!(@void meta) };
    (@braces (source)) => { $crate::__html!(@void source) };
    (@braces (track)) => { $crate::__html!(@void track) };
    (@braces (wbr)) => { $crate::__html!(@void wbr) };
    (@braces ($name:ident)) => {
        const {
            assert!(
                !$crate::html::is_script_in_disguise(stringify!($name)),
                "`script` and `style` are written in small letters, so that it is seen that their content is code"
            )
        };
    };
    (@braces $other:tt) => {};
    (@void $name:ident) => {
        compile_error!(concat!("the element `", stringify!($name), "` has no content: it ends with `;`, not with `{ .. }`"))
    };

    // The end of a tag.
    (@attributes $page:ident [$($before:tt)*] $behind:tt $element:tt $name:tt ; $($rest:tt)*) => {
        $crate::__html!(@items $page [$($before)* ">",] $behind $($rest)*);
    };
    (@attributes $page:ident [$($before:tt)*] $behind:tt (script) $name:tt { $($code:tt)* } $($rest:tt)*) => {
        $crate::__html!(@script $page [$($before)* ">",] $($code)*);
        $crate::__html!(@items $page ["</script>",] $behind $($rest)*);
    };
    (@attributes $page:ident [$($before:tt)*] $behind:tt (style) $name:tt { $($code:tt)* } $($rest:tt)*) => {
        $crate::__html!(@script $page [$($before)* ">",] $($code)*);
        $crate::__html!(@items $page ["</style>",] $behind $($rest)*);
    };
    // The last item of a list: what closes the list is behind this, too.
    (@attributes $page:ident [$($before:tt)*] [$($behind:tt)*] $element:tt ($($name:tt)*) { $($items:tt)* }) => {
        $crate::__html!(@braces $element);
        $crate::__html!(@items $page [$($before)* ">",] ["</", $($name)* ">", $($behind)*] $($items)*);
    };
    (@attributes $page:ident [$($before:tt)*] $behind:tt $element:tt ($($name:tt)*) { $($items:tt)* } $($rest:tt)*) => {
        $crate::__html!(@braces $element);
        { $crate::__html!(@items $page [$($before)* ">",] ["</", $($name)* ">",] $($items)*); }
        $crate::__html!(@items $page [] $behind $($rest)*);
    };
    // An attribute: first its name.
    (@attributes $page:ident $before:tt $behind:tt $element:tt $name:tt $attribute:ident $($rest:tt)*) => {
        $crate::__html!(@value $page $before $behind $element $name (stringify!($attribute),) $($rest)*);
    };
    (@attributes $page:ident $before:tt $behind:tt $element:tt $name:tt $attribute:literal $($rest:tt)*) => {
        $crate::__html!(@value $page $before $behind $element $name ($attribute,) $($rest)*);
    };
    (@attributes $page:ident $before:tt $behind:tt $element:tt ($($name:tt)*)) => {
        compile_error!(concat!("the element `", $($name)* "` is not closed: behind it and its attributes stands `{ .. }`, or `;` if it \
            has no content (a value is written in parentheses)"))
    };
    (@attributes $page:ident $before:tt $behind:tt $element:tt ($($name:tt)*) $unexpected:tt $($rest:tt)*) => {
        compile_error!(concat!("the element `", $($name)* "` is followed by `", stringify!($unexpected),
            "`: behind it and its attributes stands `{ .. }`, or `;` if it has no content"))
    };
    (@value $page:ident $before:tt $behind:tt $element:tt $name:tt ($($attribute:tt)*) - $more:ident $($rest:tt)*) => {
        $crate::__html!(@value $page $before $behind $element $name ($($attribute)* "-", stringify!($more),) $($rest)*);
    };
    // Then its value.
    (@value $page:ident [$($before:tt)*] $behind:tt $element:tt $name:tt ($($attribute:tt)*) = $value:literal $($rest:tt)*) => {
        $crate::__html!(@attributes $page [$($before)* " ", $($attribute)* "=\"", $value, "\"",] $behind $element $name $($rest)*);
    };
    (@value $page:ident [$($before:tt)*] $behind:tt $element:tt $name:tt ($($attribute:tt)*) = (Raw($value:expr)) $($rest:tt)*) => {
        $crate::__html!(@write $page [$($before)* " ", $($attribute)* "=\"",]);
        $crate::html::trusted($page, &$crate::html::Raw($value));
        $crate::__html!(@attributes $page ["\"",] $behind $element $name $($rest)*);
    };
    (@value $page:ident [$($before:tt)*] $behind:tt $element:tt $name:tt ($($attribute:tt)*) = ($value:expr) $($rest:tt)*) => {
        $crate::__html!(@text ($($attribute)*));
        $crate::__html!(@write $page [$($before)* " ", $($attribute)* "=\"",]);
        $crate::html::Attribute::render_attribute(&$value, $page);
        $crate::__html!(@attributes $page ["\"",] $behind $element $name $($rest)*);
    };
    (@value $page:ident $before:tt $behind:tt $element:tt $name:tt ($($attribute:tt)*) = [$value:expr] $($rest:tt)*) => {
        $crate::__html!(@text ($($attribute)*));
        $crate::__html!(@write $page $before);
        if let Some(value) = &$value {
            $page.push_raw(concat!(" ", $($attribute)* "=\""));
            $crate::html::Attribute::render_attribute(value, $page);
            $page.push_raw("\"");
        }
        $crate::__html!(@attributes $page [] $behind $element $name $($rest)*);
    };
    (@value $page:ident $before:tt $behind:tt $element:tt $name:tt ($($attribute:tt)*) [$condition:expr] $($rest:tt)*) => {
        $crate::__html!(@write $page $before);
        if $condition {
            $page.push_raw(concat!(" ", $($attribute)*));
        }
        $crate::__html!(@attributes $page [] $behind $element $name $($rest)*);
    };
    (@value $page:ident $before:tt $behind:tt $element:tt ($($name:tt)*) ($($attribute:tt)*) = $($rest:tt)*) => {
        compile_error!(concat!("the attribute `", $($attribute)* "` of the element `", $($name)*
            "` lacks its value: a literal, (value), or [option]"))
    };
    (@value $page:ident [$($before:tt)*] $behind:tt $element:tt $name:tt ($($attribute:tt)*) $($rest:tt)*) => {
        $crate::__html!(@attributes $page [$($before)* " ", $($attribute)*] $behind $element $name $($rest)*);
    };
    (@text ($($attribute:tt)*)) => {
        const {
            assert!(
                !$crate::html::is_script_attribute(concat!($($attribute)*)),
                "a value of this attribute is read as code: only Raw(..) can stand there"
            )
        };
    };

    // Code in another language.
    (@script $page:ident $before:tt) => { $crate::__html!(@write $page $before); };
    (@script $page:ident [$($before:tt)*] $text:literal $($rest:tt)*) => {
        $crate::__html!(@script $page [$($before)* $text,] $($rest)*);
    };
    (@script $page:ident $before:tt ($value:expr) $($rest:tt)*) => {
        $crate::__html!(@write $page $before);
        $crate::html::trusted($page, &$value);
        $crate::__html!(@script $page [] $($rest)*);
    };
    (@script $page:ident $before:tt $unexpected:tt $($rest:tt)*) => {
        compile_error!(concat!("`", stringify!($unexpected),
            "` in a script or style: code is written as string literals and as (Raw(value))"))
    };
}

/// Appends code that is trusted: only [`Raw`] is.
///
/// ```
/// use bast_server::html;
/// use bast_server::html::Raw;
/// let text = "x";
/// let _ = html! { script { (Raw(text)) } p onclick=(Raw(text)) title=(text) { (html! { b { (text) } }) } };
/// ```
/// ```compile_fail
/// let text = "x";
/// let _ = bast_server::html! { script { (text) } };
/// ```
/// ```compile_fail
/// let text = "x";
/// let _ = bast_server::html! { style media="x" { (text) } };
/// ```
/// ```compile_fail
/// let text = "x";
/// let _ = bast_server::html! { SCRIPT { (text) } };
/// ```
/// ```compile_fail
/// let text = "x";
/// let _ = bast_server::html! { div { stYle media="x" { "a" (text) } } };
/// ```
/// ```compile_fail
/// let text = "x";
/// let _ = bast_server::html! { p onclick=(text) {} };
/// ```
/// ```compile_fail
/// let text = "x";
/// let _ = bast_server::html! { p style=[Some(text)] {} };
/// ```
/// HTML is no value of an attribute, and control flow has its parentheses:
/// ```compile_fail
/// let text = "x";
/// let _ = bast_server::html! { p title=(bast_server::html! { b { (text) } }) {} };
/// ```
/// ```compile_fail
/// let text = "x";
/// let _ = bast_server::html! { if text.is_empty() { p {} } };
/// ```
/// An element is closed, a value has its parentheses, and a void element no content:
/// ```
/// let a = "x";
/// let _ = bast_server::html! { p { (a) } p { input type="text" value=(a); } br; my-br { "x" } };
/// ```
/// ```compile_fail
/// let a = "x";
/// let _ = bast_server::html! { p { a } };
/// ```
/// ```compile_fail
/// let a = "x";
/// let _ = bast_server::html! { p { input type="text" value=(a) } };
/// ```
/// ```compile_fail
/// let a = "x";
/// let _ = bast_server::html! { p (a) };
/// ```
/// ```compile_fail
/// let a = "x";
/// let _ = bast_server::html! { p title=a {} };
/// ```
/// ```compile_fail
/// let _ = bast_server::html! { br {} };
/// ```
/// ```compile_fail
/// let _ = bast_server::html! { div { img src="x" { "text" } } };
/// ```
/// ```compile_fail
/// let _ = bast_server::html! { { "text" } };
/// ```
/// ```compile_fail
/// let _ = bast_server::html! { script { alert(1) } };
/// ```
#[doc(hidden)]
pub fn trusted<T: AsRef<str>>(page: &mut Html, code: &Raw<T>) {
    page.push_raw(code.0.as_ref());
}

/// Is this an element whose content is code, in letters by which the macro does not know it?
#[doc(hidden)]
#[must_use]
pub const fn is_script_in_disguise(name: &str) -> bool {
    let name = name.as_bytes();
    let mut capitals = 0;
    let mut index = 0;
    while index < name.len() {
        capitals += name[index].is_ascii_uppercase() as usize;
        index += 1;
    }
    capitals > 0 && (name.eq_ignore_ascii_case(b"script") || name.eq_ignore_ascii_case(b"style"))
}

/// Is the value of this attribute read as code, or as a document?
#[doc(hidden)]
#[must_use]
pub const fn is_script_attribute(name: &str) -> bool {
    let name = name.as_bytes();
    (name.len() > 2 && name[0].eq_ignore_ascii_case(&b'o') && name[1].eq_ignore_ascii_case(&b'n'))
        || name.eq_ignore_ascii_case(b"style")
        || name.eq_ignore_ascii_case(b"srcdoc")
}
