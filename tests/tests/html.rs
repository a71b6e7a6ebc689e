//! Templates cost no memory but that of their page.

use bast_server::html;
use bast_server::html::Html;
use bast_tests::counting_alloc::CountingAlloc;
use bast_tests::deadline;

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

#[test]
fn a_page_of_strings_and_numbers_is_rendered_without_an_allocation() {
    deadline(|| {
        let names = [String::from("<Ann>"), String::from("Bob & Co")];
        let mut html = Html::with_capacity(1000);
        let page = &mut html;
        let before = CountingAlloc::here();
        html!(page =>
            doctype;
            html lang="en" {
                body {
                    h1 { "Names" }
                    for ((number, name) in names.iter().enumerate()) {
                        p id=(number) title=[Some(name)] { (number) ": " (name) }
                    }
                }
            }
        );
        assert_eq!(CountingAlloc::here(), before);
        assert!(html.as_str().contains("<p id=\"1\" title=\"Bob &amp; Co\">1: Bob &amp; Co</p>"), "{html}");
        let before = CountingAlloc::here();
        drop(vec![7]);
        assert_eq!(CountingAlloc::here(), before + 1, "the count can fail");
    });
}
