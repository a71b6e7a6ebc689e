//! The pages of the project say what is: the files, tests and pages that they name exist.
#![forbid(unsafe_code)]

use bast_tests::source::{Crate, repository};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rows of the list of features, as many as there are of each kind.
const ROWS: [(&str, usize); 9] =
    [("W", 80), ("H", 20), ("L", 39), ("P", 26), ("A.C", 44), ("M", 25), ("C", 21), ("B", 51), ("F", 51)];

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows of `design/COVERAGE.md`: id and state.
fn coverage() -> Vec<(String, String)> {
    let page = read("design/COVERAGE.md");
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        let (id, _, state) = (cells.next()?, cells.next()?, cells.next()?);
        Some((id.to_owned(), state.to_owned()))
    });
    rows.filter(|(id, _)| id != "row").collect()
}

/// What is written as code in a text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a quotation is the path of a file: other things have slashes, too.
fn is_path(quoted: &str) -> bool {
    quoted.contains('/') && !quoted.contains(' ') && Path::new(quoted).extension().is_some()
}

/// Whether a quotation is the name of a test: they are sentences.
fn is_test(quoted: &str) -> bool {
    quoted.matches('_').count() >= 3
        && quoted.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn files_below(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            files_below(&path, extension, found);
        } else if path.extension().is_some_and(|has| has == extension) {
            found.push(path);
        }
    }
}

/// The names of all functions in the workspace's sources.
fn functions() -> BTreeSet<String> {
    let mut files = Vec::new();
    for member in ["runtime", "server", "examples", "benches", "tests"] {
        files_below(&repository().join(member), "rs", &mut files);
    }
    let texts = files.iter().map(|path| fs::read_to_string(path).expect("a source file can be read"));
    let name = |rest: &str| rest.split('(').next().map(str::to_owned);
    texts.flat_map(|text| text.split("fn ").skip(1).filter_map(name).collect::<Vec<_>>()).collect()
}

#[test]
fn every_feature_has_one_row_in_the_coverage_page() {
    let mut expected: Vec<String> = ROWS
        .iter()
        .flat_map(|(kind, count)| (1..=*count).map(move |number| format!("{kind}{number:02}")))
        .collect();
    let mut rows: Vec<String> = coverage().into_iter().map(|(id, _)| id).collect();
    expected.sort();
    rows.sort();
    assert_eq!(rows, expected);
}

#[test]
fn what_the_coverage_page_names_exists() {
    let functions = functions();
    assert!(
        functions.contains("what_the_coverage_page_names_exists")
            && !functions.contains("no_such_test_as_this")
    );
    for (id, state) in coverage() {
        let known = ["shown: ", "partly: ", "not yet"].iter().any(|word| state.starts_with(word));
        assert!(known, "{id}: {state}");
        let named: Vec<&str> = quoted(&state).filter(|quoted| is_path(quoted) || is_test(quoted)).collect();
        assert!(!state.starts_with("shown") || !named.is_empty(), "{id} is shown by nothing");
        for name in named {
            let exists =
                if is_path(name) { repository().join(name).is_file() } else { functions.contains(name) };
            assert!(exists, "{id}: {name} does not exist");
        }
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = repository();
    let mut pages: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].iter().map(|name| root.join(name)).collect();
    files_below(&root.join("design"), "md", &mut pages);
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page can be read");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("http")) {
            let path =
                page.parent().expect("a page is in a folder").join(target.split('#').next().expect("a path"));
            assert!(path.exists(), "{}: {target} leads nowhere", page.display());
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let page = read("design/DEPENDENCIES.md");
    let reasons: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut dependencies = BTreeSet::new();
    for member in ["runtime", "server", "examples", "benches", "tests", "tests/fuzz"] {
        let manifest = read(&format!("{member}/Cargo.toml"));
        let tables = manifest
            .split("\n[")
            .filter(|table| table.split(']').next().is_some_and(|name| name.ends_with("dependencies")));
        let names = tables
            .flat_map(|table| table.lines().skip(1))
            .filter_map(|line| line.split(['.', ' ', '=']).next());
        dependencies.extend(
            names
                .filter(|name| !name.is_empty() && !name.starts_with("bast") && *name != "#")
                .map(str::to_owned),
        );
    }
    assert!(dependencies.len() > 5, "the manifests were read: {dependencies:?}");
    assert_eq!(reasons, dependencies.iter().map(String::as_str).collect());
}

/// What makes a file one with a lock: std's locks and its cells that are set once, those of Bast, and lock-free queues.
const LOCKS: [&str; 15] = [
    "Mutex",
    "RwLock",
    "ReentrantLock",
    "Condvar",
    "Barrier",
    "Once",
    "OnceLock",
    "LazyLock",
    "RawMutex",
    "WaitCell",
    "mpsc",
    "parking_lot",
    "SegQueue",
    "ArrayQueue",
    "spin_loop",
];

/// Whether the code names one of these, but for a `use` of a name that it only passes on or needs for its errors.
fn has_a_lock(code: &str) -> bool {
    let statements = code.split(';').filter(|statement| !statement.trim_start().starts_with("use "));
    let mut words = statements.flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.any(|word| LOCKS.contains(&word))
}

#[test]
fn every_file_with_a_lock_is_in_the_list_of_locks() {
    assert!(
        has_a_lock("use a; struct A { b: Mutex<u8> }")
            && !has_a_lock("use std::sync::Mutex; struct Mutexes;")
    );
    let page = read("design/LOCKS.md");
    let rows: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let crates = ["runtime/src", "server/src"].map(Crate::read);
    let files =
        crates.iter().flat_map(|library| &library.files).filter(|file| !file.path.contains("/tests/"));
    let with_locks: BTreeSet<&str> =
        files.filter(|file| has_a_lock(&file.shipped)).map(|file| &*file.path).collect();
    assert!(with_locks.len() > 30, "the sources were read: {with_locks:?}");
    let missing: Vec<&&str> = with_locks.difference(&rows).collect();
    let idle: Vec<&&str> = rows.difference(&with_locks).collect();
    assert!(missing.is_empty() && idle.is_empty(), "not in the list: {missing:?}; without a lock: {idle:?}");
}
