//! The rules about the libraries' sources that the compiler does not know: who may use whom, who may name libc and
//! corosensei, where `unsafe` may be and that each use of it is argued for.
#![forbid(unsafe_code)]

use bast_tests::source::{Crate, File, repository};
use std::collections::BTreeSet;
use std::fs;

/// The order of the runtime's modules. A module uses only those of earlier rows, and of its own row.
const RUNTIME: &[&[&str]] = &[
    &["sys"],
    &["critical", "tell"],
    &["stack"],
    &["walk"],
    &["coroutine"],
    &["thread"],
    &["deadlock"],
    &["timer"],
    &["io_manager"],
    &["pool"],
    &["event_log::ring"],
    &["scheduler"],
    &["time"],
    &["mask", "timeout", "scoped"],
    &["offload"],
    &["sync"],
    &["net"],
    &["fs"],
    &["stdio"],
    &["process"],
    &["future"],
    &["signal"],
    &["monitor"],
    &["event_log"],
    &["alloc", "local", "handle", "select", "builder", "scope", "runtime", ""],
];

/// The order of the server's modules.
const SERVER: &[&[&str]] = &[
    &["limits"],
    &["percent"],
    &["printable"],
    &["date"],
    &["class"],
    &["constant"],
    &["message"],
    &["coding"],
    &["extensions"],
    &["pattern"],
    &["transport"],
    &["timeout", "meter", "metrics", "hooks", "whereabouts"],
    &["sent"],
    &["upgrade"],
    &["proxy"],
    &["handover"],
    &["load"],
    &["shutdown"],
    &["admission"],
    &["refusal"],
    &["settings"],
    &["http1::persistence"],
    &["http1::head"],
    &["http1::request_line"],
    &["http1::fields"],
    &["http1::parse"],
    &["http1::chunk_extension"],
    &["http1::trailers"],
    &["http1::body"],
    &["http1::preamble"],
    &["http1::encode"],
    &["buffer"],
    &["http1::wire"],
    &["http1::reader", "http1::stream"],
    &["topic"],
    &["presence"],
    &["file::content_type"],
    &["file::path"],
    &["file::conditional"],
    &["file::entry"],
    &["file::cache"],
    &["file::root"],
    // A response keeps the error that it was made from.
    &["response", "error"],
    &["inflate"],
    &["request"],
    &["cookie", "extract", "html"],
    &["sse"],
    &["websocket::close"],
    &["websocket::frame"],
    &["websocket::message"],
    &["websocket::deflate", "websocket::no_deflate"],
    &["websocket::decode"],
    &["websocket::sink", "websocket::source"],
    &["websocket"],
    &["handler", "middleware"],
    &["gzip"],
    &["dump", "metrics::page"],
    &["file::files"],
    &["router"],
    &["http1::service"],
    &["http1::rest"],
    // The next request may be looked for before the answer to this one is composed.
    &["http1::exchange"],
    &["http1::receive"],
    &["http1::call"],
    &["http1::send"],
    &["http1::produce", "http1::switch"],
    &["http1::ahead"],
    &["http1::serve"],
    &["benching"],
    &["shared"],
    &["tls"],
    &["connection"],
    &["listener"],
    &["client"],
    &["server"],
    &["testing"],
    &["http_types"],
    &["http1", "file", ""],
    &["fuzzing"],
];

fn runtime() -> Crate {
    Crate::read("runtime/src")
}

fn server() -> Crate {
    Crate::read("server/src")
}

/// The row of a module: that of the longest of its parents that has one.
fn row(order: &[&[&str]], module: &str) -> Option<usize> {
    let mut name = module;
    loop {
        if let Some(row) = order.iter().position(|row| row.contains(&name)) {
            return Some(row);
        }
        // Modules that nobody has placed do not count as the root's.
        name = name.rsplit_once("::")?.0;
    }
}

/// What breaks the order, a line for each.
fn breaches(order: &[&[&str]], of: &Crate) -> Vec<String> {
    let unplaced = of.files.iter().filter(|file| row(order, &file.module).is_none());
    let unplaced = unplaced.map(|file| format!("{}: has no place in the order", file.path));
    let upwards = of.uses().into_iter().filter(|found| row(order, &found.from) < row(order, &found.to));
    let upwards =
        upwards.map(|found| format!("{}:{}: {} uses {}", found.path, found.line, found.from, found.to));
    unplaced.chain(upwards).collect()
}

fn none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

/// The lines on which `word` stands by itself.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let holds = |line: &str| line.split(|c| !is_part(c)).any(|part| part == word);
    code.lines().enumerate().filter(|(_, line)| holds(line)).map(|(index, _)| index + 1).collect()
}

/// Files outside of `home` whose code names `word`.
fn named_outside(of: &Crate, word: &str, home: &str, code: fn(&File) -> &str) -> Vec<String> {
    let outside = of.files.iter().filter(|file| !file.path.starts_with(home));
    outside
        .flat_map(|file| {
            lines_with(code(file), word).into_iter().map(|line| format!("{}:{line}: {word}", file.path))
        })
        .collect()
}

#[test]
fn a_module_uses_only_the_layers_before_it() {
    none(&breaches(RUNTIME, &runtime()));
    none(&breaches(SERVER, &server()));
}

/// The negative: the check above can fail, in each way.
#[test]
fn a_use_of_a_later_layer_is_found() {
    let of = |path: &str, text: &str| {
        let files = [
            (path, text),
            ("x/sys/mod.rs", ""),
            ("x/stack/mod.rs", ""),
            ("x/stack/pool.rs", ""),
            ("x/lib.rs", ""),
        ];
        Crate::new("x", files.map(|(path, text)| (path.to_owned(), text.to_owned())))
    };
    let order: &[&[&str]] = &[&["sys"], &["stack"], &["thread", ""]];
    for (path, text, expected) in [
        ("x/thread.rs", "use crate::{sys, stack::pool::Pool};", ""),
        (
            "x/sys/clock.rs",
            "\nuse crate::stack::pool::Pool;",
            "x/sys/clock.rs:2: sys::clock uses stack::pool",
        ),
        ("x/sys/clock.rs", "fn f() { super::super::stack::f() }", "x/sys/clock.rs:1: sys::clock uses stack"),
        ("x/stack/slab.rs", "use super::super::sys;", ""),
        ("x/stack/slab.rs", "use crate::top;", "x/stack/slab.rs:1: stack::slab uses "),
        ("x/new.rs", "", "x/new.rs: has no place in the order"),
    ] {
        assert_eq!(breaches(order, &of(path, text)).join("\n"), expected, "{path}: {text}");
    }
}

#[test]
fn libc_is_named_below_sys_only() {
    none(&named_outside(&runtime(), "libc", "runtime/src/sys/", |file| &file.code));
    none(&named_outside(&server(), "libc", "nowhere", |file| &file.code));
}

#[test]
fn corosensei_is_named_in_one_file() {
    none(&named_outside(&runtime(), "corosensei", "runtime/src/coroutine.rs", |file| &file.shipped));
    none(&named_outside(&server(), "corosensei", "nowhere", |file| &file.code));
    let pool = runtime();
    assert!(
        !named_outside(&pool, "corosensei", "nowhere", |file| &file.shipped).is_empty(),
        "the check can fail"
    );
}

fn uses_unsafe(file: &File) -> bool {
    !lines_with(&file.code, "unsafe").is_empty()
}

/// Whether the file, or a module below it, uses `unsafe`: then it cannot forbid it.
fn may_not_forbid(of: &Crate, file: &File) -> bool {
    let below = format!("{}::", file.module);
    uses_unsafe(file)
        || of
            .files
            .iter()
            .any(|other| uses_unsafe(other) && (file.module.is_empty() || other.module.starts_with(&below)))
}

#[test]
fn every_file_without_unsafe_code_forbids_it() {
    for of in [runtime(), server()] {
        let missing = of
            .files
            .iter()
            .filter(|file| !file.code.contains("#![forbid(unsafe_code)]") && !may_not_forbid(&of, file))
            .map(|file| format!("{}: lacks #![forbid(unsafe_code)]", file.path));
        none(&missing.collect::<Vec<_>>());
    }
}

#[test]
fn the_server_has_no_unsafe_code() {
    none(&named_outside(&server(), "unsafe", "nowhere", |file| &file.code));
}

/// Blocks and impls of `unsafe` without a note, by line.
fn unargued(text: &str, code: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let code: Vec<&str> = code.lines().collect();
    let opens = |line: &str| line.contains("unsafe {") || line.contains("unsafe impl");
    let argued = |index: usize| {
        // The note stands above the statement that the block is in: look back to the end of the one before.
        let before = (0..index).rev().take(12);
        let mut statement = before.take_while(|&above| {
            let line = code[above].trim_end();
            line.trim().is_empty()
                || !(line.ends_with(';') || line.ends_with('}'))
                || lines[above].contains("SAFETY:")
        });
        lines[index].contains("SAFETY:") || statement.any(|above| lines[above].contains("SAFETY:"))
    };
    let sites = (0..code.len()).filter(|&index| opens(code[index]));
    sites.filter(|&index| !argued(index)).map(|index| index + 1).collect()
}

#[test]
fn every_unsafe_block_and_impl_says_why_it_is_sound() {
    for of in [runtime(), server()] {
        let missing = of.files.iter().flat_map(|file| {
            unargued(&file.text, &file.code).into_iter().map(|line| format!("{}:{line}", file.path))
        });
        none(&missing.collect::<Vec<_>>());
    }
    let bare = "fn f() {\n    // SAFETY: g.\n    unsafe { g() };\n    unsafe { h() };\n}\n";
    assert_eq!(unargued(bare, bare), [4], "the check can fail");
}

#[test]
fn every_file_with_unsafe_code_has_its_heading_in_the_inventory() {
    let page = fs::read_to_string(repository().join("design/UNSAFE.md")).expect("the inventory can be read");
    let headings: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|name| name.ends_with(".rs"))
        .collect();
    let of = runtime();
    let files: BTreeSet<&str> =
        of.files.iter().filter(|file| uses_unsafe(file)).map(|file| file.path.as_str()).collect();
    let missing: Vec<_> = files.difference(&headings).collect();
    let stale: Vec<_> = headings.difference(&files).collect();
    assert!(missing.is_empty() && stale.is_empty(), "missing: {missing:?}, without unsafe code: {stale:?}");
}
