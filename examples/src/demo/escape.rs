//! Text made safe for JSON and HTML. Labels of threads come from anywhere, a peer's address or a user's string,
//! so everything that is written into a page or document goes through here.
#![forbid(unsafe_code)]

use std::fmt::Write;

/// Appends `text` as a JSON string with its quotes (RFC 8259 §7). `<` is escaped as well, so that the document can
/// stand in a script element.
pub(super) fn json(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // Writing to a String cannot fail.
            '\0'..='\x1F' | '\x7F' | '<' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// Appends `text` so that it is text in an HTML element or in a quoted attribute.
pub(super) fn html(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(escape: impl Fn(&str, &mut String), text: &str) -> String {
        let mut out = String::new();
        escape(text, &mut out);
        out
    }

    #[test]
    fn no_text_ends_a_json_string_early() {
        for (text, written) in [
            ("conn 127.0.0.1:5", r#""conn 127.0.0.1:5""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\0\n\r\t\x1F\x7F", r#""\u0000\u000a\u000d\u0009\u001f\u007f""#),
            ("</script>", r#""\u003c/script>""#),
            ("\u{2028}é", r#""\u2028é""#),
        ] {
            assert_eq!(escaped(json, text), written);
        }
    }

    #[test]
    fn no_text_becomes_markup() {
        assert_eq!(escaped(html, "<b a='&\"'>é"), "&lt;b a=&#39;&amp;&quot;&#39;&gt;é");
    }
}
