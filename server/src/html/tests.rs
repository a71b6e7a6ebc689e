//! What templates become, and that nothing in a value gets out of its place.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use super::*;
use crate::html;
use crate::testing::TestClient;
use crate::{Request, Status};

#[track_caller]
fn becomes(html: Html, expected: &str) {
    assert_eq!(html.as_str(), expected);
}

#[test]
fn elements_attributes_and_constants_are_written_as_they_stand() {
    becomes(html! {}, "");
    becomes(html! { "a &amp; b" 'c' 1 }, "a &amp; bc1");
    becomes(html! { p {} p { "x" "y" } br; hr; }, "<p></p><p>xy</p><br><hr>");
    becomes(
        html! { doctype; html lang="en" { head { title { "t" } } body {} } },
        "<!DOCTYPE html><html lang=\"en\"><head><title>t</title></head><body></body></html>",
    );
    becomes(
        html! { input type="number" min=1 required; label for="x" { "l" } },
        "<input type=\"number\" min=\"1\" required><label for=\"x\">l</label>",
    );
    becomes(
        html! { my-own-element data-a-b="c" http-equiv="d" "xlink:href"="e" { "f" } },
        "<my-own-element data-a-b=\"c\" http-equiv=\"d\" xlink:href=\"e\">f</my-own-element>",
    );
    becomes(
        html! { ul { li { a href="/" { "x" } } li { b { i { "y" } } "z" } } "end" },
        "<ul><li><a href=\"/\">x</a></li><li><b><i>y</i></b>z</li></ul>end",
    );
    becomes(
        html! { script src="x" {} style { "p > a { }" } },
        "<script src=\"x\"></script><style>p > a { }</style>",
    );
}

#[test]
fn values_of_all_kinds_are_rendered() {
    becomes(
        html! { ("s") (String::from("t")) (Cow::Borrowed("u")) ('v') (true) (&&"w") (Box::new("x")) },
        "stuvtruewx",
    );
    becomes(
        html! { (0) " " (7u8) " " (-1i8) " " (i64::MIN) " " (u64::MAX) " " (u128::MAX) " " (i128::MIN) },
        "0 7 -1 -9223372036854775808 18446744073709551615 340282366920938463463374607431768211455 \
         -170141183460469231731687303715884105728",
    );
    becomes(html! { (Some("a")) (None::<u8>) (vec![1, 2]) (display(1.5)) (display("<")) }, "a121.5&lt;");
    becomes(html! { (html! { b { "x" } }) (Raw("<hr>")) (Raw(String::from("&"))) }, "<b>x</b><hr>&");
    let (width, title) = (7, Cow::Borrowed("t"));
    becomes(
        html! { img width=(width) title=(title) alt=(display(0.5)) id=(Raw("&amp;")); },
        "<img width=\"7\" title=\"t\" alt=\"0.5\" id=\"&amp;\">",
    );
}

#[test]
fn attributes_may_depend_on_a_condition_or_an_option() {
    let page = |checked: bool, name: Option<&str>| {
        html! { input checked[checked] name=[name] type="checkbox"; option selected[!checked] value=[name] { "o" } }
    };
    becomes(
        page(true, Some("<n>")),
        "<input checked name=\"&lt;n&gt;\" type=\"checkbox\">\
        <option value=\"&lt;n&gt;\">o</option>",
    );
    becomes(page(false, None), "<input type=\"checkbox\"><option selected>o</option>");
}

#[test]
fn control_flow_is_that_of_the_language() {
    let page = |count: u32, name: Option<&str>| {
        html! {
            ul {
                for (number in 0..count) { li { (number) } }
            }
            if (count == 0) { "none" } else if (count == 1) { "one" } else { "many" }
            if (let Some(name) = name) { b { (name) } }
            match (name) {
                Some(name) if name.len() > 1 => { "long " (name.len()) }
                Some(_) => { "short" },
                None => { i { "nobody" } }
            }
            let (half, rest) = (count / 2, count % 2);
            p { (half) "+" (rest) }
        }
    };
    becomes(page(0, None), "<ul></ul>none<i>nobody</i><p>0+0</p>");
    becomes(page(1, Some("x")), "<ul><li>0</li></ul>one<b>x</b>short<p>0+1</p>");
    becomes(page(3, Some("xy")), "<ul><li>0</li><li>1</li><li>2</li></ul>many<b>xy</b>long 2<p>1+1</p>");
}

struct Card<'c> {
    title: &'c str,
    body: &'c dyn Render,
}

impl Render for Card<'_> {
    fn render(&self, page: &mut Html) {
        html!(page => section class="card" { h2 { (self.title) } (self.body) });
    }
}

#[test]
fn components_nest_in_one_buffer() {
    let inner = Card { title: "<inner>", body: &"text" };
    let outer = Card { title: "outer", body: &inner };
    let expected = "<section class=\"card\"><h2>outer</h2><section class=\"card\"><h2>&lt;inner&gt;</h2>text</section></section>";
    becomes(html! { (outer) }, expected);
    let mut page = Html::with_capacity(1000);
    let (place, room) = (page.as_str().as_ptr(), page.0.capacity());
    let out = &mut page;
    html!(out => (outer));
    html!(out => (outer) "!");
    assert_eq!(page.as_str(), [expected, expected, "!"].concat());
    assert_eq!((page.as_str().as_ptr(), page.0.capacity()), (place, room), "it was never moved");
}

/// Texts by which pages were attacked, and what a page must never have of them.
const VECTORS: &[&str] = &[
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "\"><script>alert(1)</script>",
    "' onmouseover='alert(1)",
    "\" onmouseover=\"alert(1)",
    "\" autofocus onfocus=alert(1) x=\"",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<!--<img src=\"--><img src=x onerror=alert(1)//\">",
    "]]><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "&lt;script&gt;",
    "&#60;script&#62;",
    "<<script>alert(1);//<</script>",
    "<scr\0ipt>alert(1)</scr\0ipt>",
    "\u{ff1c}script\u{ff1e}",
    "`<b>`",
    "a&b<c>d\"e'f",
];

/// What stands for itself in HTML must be what was written: decoding gives the text back.
fn decoded(html: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    entities.iter().fold(html.to_owned(), |text, (entity, letter)| text.replace(entity, letter))
}

#[test]
fn no_text_gets_out_of_its_place() {
    for vector in VECTORS {
        let page = html! { p title=(vector) alt=[Some(vector)] { (vector) } };
        let rest = page.as_str().strip_prefix("<p title=\"").expect("the tag is the template's");
        let (title, rest) = rest.split_once("\" alt=\"").expect("the value ends where the template ends it");
        let (alt, rest) = rest.split_once("\">").expect("and the tag, too");
        let text = rest.strip_suffix("</p>").expect("and the element");
        for part in [title, alt, text] {
            assert!(!part.contains(['<', '>', '"', '\'']), "{vector}: {part}");
            assert_eq!(decoded(part), *vector);
            for (at, _) in part.match_indices('&') {
                let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
                assert!(known.iter().any(|entity| part[at..].starts_with(entity)), "{vector}: {part}");
            }
        }
        assert_eq!(html! { (display(vector)) (vector.to_string()) }.as_str(), [text, text].concat());
        let mut pushed = Html::new();
        pushed.push_text(vector);
        assert_eq!(pushed.as_str(), text);
    }
}

#[test]
fn every_byte_but_five_is_itself() {
    let all: String = (0..=0x2ff).filter_map(char::from_u32).collect();
    let mut page = Html::new();
    page.push_text(&all);
    assert_eq!(decoded(page.as_str()), all);
    assert_eq!(page.as_str().len(), all.len() + 3 + 3 + 4 + 5 + 4);
}

#[test]
fn attributes_that_are_code_are_known() {
    for name in ["onclick", "OnLoad", "style", "STYLE", "srcdoc", "onx"] {
        assert!(is_script_attribute(name), "{name}");
    }
    for name in ["on", "href", "class", "data-on", "styles", "src"] {
        assert!(!is_script_attribute(name), "{name}");
    }
}

#[test]
fn trusted_code_is_copied_where_code_stands() {
    let code = String::from("f('<')");
    becomes(
        html! { script { "let x = " (Raw("1 < 2")) ";" } p onclick=(Raw(&code)) style="x" { "y" } },
        "<script>let x = 1 < 2;</script><p onclick=\"f('<')\" style=\"x\">y</p>",
    );
}

#[test]
fn a_handler_returns_a_page() {
    let client = TestClient::new(|request: &mut Request<'_>| html! { h1 { (request.path()) } });
    let response = client.get("/a'b").send();
    assert_eq!(response.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(response.text(), "<h1>/a&#39;b</h1>");
    let client = TestClient::new(|_: &mut Request<'_>| (Status::NOT_FOUND, html! { p { "not here" } }));
    assert_eq!(client.get("/").send().status(), Status::NOT_FOUND);
}

/// Long enough for real pages without raising the compiler's limit.
#[test]
fn a_template_of_many_items_compiles() {
    let x = "x";
    let page = html! {
        div {
            table class="t" id=(x) {
                tr { td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } }
                tr { td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } }
                tr { td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } }
                tr { td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } td { (x) } }
            }
            p { "a" } p { "b" } p { "c" } p { "d" } p { "e" } p { "f" } p { "g" } p { "h" } p { "i" } p { "j" }
            p { "a" } p { "b" } p { "c" } p { "d" } p { "e" } p { "f" } p { "g" } p { "h" } p { "i" } p { "j" }
        }
    };
    assert_eq!(page.as_str().matches("<td>x</td>").count(), 40);
    assert!(page.as_str().ends_with("<p>j</p></div>"));
}
