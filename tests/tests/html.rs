//! Templates cost no memory but that of their page.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bast_server::html;
use bast_server::html::Html;
use bast_tests::deadline;

/// Counts the allocations of each OS thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is done by `System`; counting neither allocates nor unwinds, since the cell needs no initialiser and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory is from `System.alloc` with this layout, as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_page_of_strings_and_numbers_is_rendered_without_an_allocation() {
    deadline(|| {
        let names = [String::from("<Ann>"), String::from("Bob & Co")];
        let mut html = Html::with_capacity(1000);
        let page = &mut html;
        let before = COUNT.get();
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
        assert_eq!(COUNT.get(), before);
        assert!(html.as_str().contains("<p id=\"1\" title=\"Bob &amp; Co\">1: Bob &amp; Co</p>"), "{html}");
        let before = COUNT.get();
        drop(vec![7]);
        assert_eq!(COUNT.get(), before + 1, "the count can fail");
    });
}
