//! Which of two representations a client likes better: the Accept field (RFC 9110 §12.5.1).
#![forbid(unsafe_code)]

/// True if the Accept field puts HTML before JSON. Browsers do; a client that likes both alike, or says nothing,
/// is a program.
pub(super) fn prefers_html(accept: &str) -> bool {
    quality(accept, "text", "html") > quality(accept, "application", "json")
}

/// The weight in thousandths that the most specific matching range gives to a media type; 0 if none matches.
fn quality(accept: &str, kind: &str, subtype: &str) -> u16 {
    let mut best = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let Some((range_kind, range_subtype)) = parts.next().and_then(|media| media.split_once('/')) else {
            continue;
        };
        let specificity = match (range_kind, range_subtype) {
            (k, s) if k.eq_ignore_ascii_case(kind) && s.eq_ignore_ascii_case(subtype) => 3,
            (k, "*") if k.eq_ignore_ascii_case(kind) => 2,
            ("*", "*") => 1,
            _ => continue,
        };
        let weight = parts.find_map(weight).unwrap_or(1000);
        best = best.max((specificity, weight));
    }
    best.1
}

/// Reads `q=0.123` in thousandths; `None` if the parameter is another one or malformed.
fn weight(parameter: &str) -> Option<u16> {
    let value = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_a_page_and_a_program_gets_json() {
        for (accept, html) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("text/html", true),
            ("TEXT/HTML", true),
            ("text/*", true),
            ("application/json;q=0.5, text/html;q=0.501", true),
            ("text/html;level=1;q=0.4, */*;q=0.3", true),
            ("*/*", false),
            ("", false),
            ("application/json", false),
            ("text/html, application/json", false),
            ("text/html;q=0", false),
            ("text/html;q=0, text/*", false),
            ("application/json, text/html;q=0.9", false),
            ("image/png", false),
            ("html", false),
        ] {
            assert_eq!(prefers_html(accept), html, "{accept}");
        }
    }

    #[test]
    fn a_weight_is_between_0_and_1_with_three_digits() {
        for (parameter, thousandths) in [
            ("q=0", Some(0)),
            ("q=1", Some(1000)),
            ("q=1.000", Some(1000)),
            ("Q=0.5", Some(500)),
            ("q=0.123", Some(123)),
            ("q=0.", Some(0)),
            ("q=1.001", None),
            ("q=2", None),
            ("q=-1", None),
            ("q=0.1234", None),
            ("q=", None),
            ("level=1", None),
        ] {
            assert_eq!(weight(parameter), thousandths, "{parameter}");
        }
    }
}
