//! The libraries' sources as data, for the tests that check rules about them: which module uses which, and where the
//! word `unsafe` stands.
//!
//! A reader of Rust it is not: it knows comments, literals, braces and paths, which is what the rules are about. Paths
//! that a macro makes up are not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file below the source folder of a crate.
#[derive(Debug)]
pub struct File {
    /// Its path below the repository, with slashes.
    pub path: String,
    /// Its module, as `scheduler::park`; the crate's root is empty.
    pub module: String,
    /// All of it.
    pub text: String,
    /// The same without comments and literals: blanks are in their place, so that lines and columns are the same.
    pub code: String,
    /// The same without `#[cfg(test)]` modules either.
    pub shipped: String,
}

/// A crate's files.
#[derive(Debug)]
pub struct Crate {
    /// The files in the order of their paths.
    pub files: Vec<File>,
    /// Names that a module re-exports from one below it, as (`file`, `Entry`) → `file::entry`.
    reexports: BTreeMap<(String, String), String>,
}

/// A use of one module by another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The using file.
    pub path: String,
    /// Its line, from 1.
    pub line: usize,
    /// The module it belongs to.
    pub from: String,
    /// The module that is used.
    pub to: String,
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is in a folder of the repository")
        .into()
}

impl Crate {
    /// Reads the crate whose sources are in `folder` (such as `runtime/src`).
    pub fn read(folder: &str) -> Crate {
        let mut paths = Vec::new();
        collect(&repository().join(folder), &mut paths);
        paths.sort();
        let sources = paths.iter().map(|path| {
            let below = path.strip_prefix(repository()).expect("it was found below").to_str().expect("UTF-8");
            (below.to_owned(), fs::read_to_string(path).expect("a source file can be read"))
        });
        Crate::new(folder, sources)
    }

    /// A crate of these files, by path.
    pub fn new(folder: &str, sources: impl IntoIterator<Item = (String, String)>) -> Crate {
        let files: Vec<File> = sources
            .into_iter()
            .map(|(path, text)| {
                let module = module_of(path.strip_prefix(folder).expect("below the folder"));
                let code = code_of(&text);
                let shipped = without_tests(&code);
                File { path, module, text, code, shipped }
            })
            .filter(|file| !file.path.ends_with("/tests.rs"))
            .collect();
        let mut this = Crate { files, reexports: BTreeMap::new() };
        this.reexports = this.find_reexports();
        this
    }

    /// All uses of one module by another, by their paths (`crate::…`, `super::…`, `self::…`); tests left out.
    pub fn uses(&self) -> Vec<Use> {
        let mut uses = BTreeSet::new();
        for file in &self.files {
            for (line, path) in paths_in(&file.shipped) {
                let Some(to) = self.resolve(&absolute(&file.module, &path)) else { continue };
                if to != file.module {
                    uses.insert(Use { path: file.path.clone(), line, from: file.module.clone(), to });
                }
            }
        }
        uses.into_iter().collect()
    }

    /// The module in which what the path names is defined, as far as files and re-exports tell.
    fn resolve(&self, path: &[String]) -> Option<String> {
        let mut module = String::new();
        for name in path {
            let below = join(&module, name);
            if self.files.iter().any(|file| file.module == below) {
                module = below;
            } else {
                // What is neither a module nor re-exported from one is defined here.
                return Some(self.reexports.get(&(module.clone(), name.clone())).unwrap_or(&module).clone());
            }
        }
        Some(module)
    }

    fn find_reexports(&self) -> BTreeMap<(String, String), String> {
        let mut reexports = BTreeMap::new();
        for file in &self.files {
            for statement in file.shipped.split(';') {
                let Some(at) = statement.find("pub use ").or_else(|| statement.find("pub(crate) use "))
                else {
                    continue;
                };
                let (_, tree) = statement[at..].split_once("use ").expect("just found");
                for path in expand(tree) {
                    let path = if path.first().is_some_and(|first| first == "crate") {
                        path[1..].to_vec()
                    } else {
                        file.module
                            .split("::")
                            .filter(|name| !name.is_empty())
                            .map(str::to_owned)
                            .chain(path)
                            .collect()
                    };
                    let Some((name, parents)) = path.split_last() else { continue };
                    let to = parents.join("::");
                    if to != file.module && self.files.iter().any(|other| other.module == to) {
                        reexports.insert((file.module.clone(), name.clone()), to);
                    }
                }
            }
        }
        reexports
    }
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("a source folder can be read").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// `/scheduler/park.rs` is `scheduler::park`, `/scheduler/mod.rs` is `scheduler`, `/lib.rs` is the root.
fn module_of(path: &str) -> String {
    let path = path.trim_start_matches('/').trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { String::new() } else { path.replace('/', "::") }
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

/// The path from the crate's root that `path`, written in `module`, stands for.
fn absolute(module: &str, path: &[String]) -> Vec<String> {
    let mut base: Vec<String> =
        module.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    for (index, name) in path.iter().enumerate() {
        match name.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => drop(base.pop()),
            _ => {
                base.extend(path[index..].iter().filter(|name| *name != "self").cloned());
                break;
            }
        }
    }
    base
}

/// The paths that begin with `crate`, `super` or `self`, with their lines; trees of `use` are expanded.
fn paths_in(code: &str) -> Vec<(usize, Vec<String>)> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || "_$:".contains(c)) {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            paths.extend(expand(&code[at..]).into_iter().map(|path| (line, path)));
        }
    }
    paths
}

/// The paths of a tree as in `a::{b, c::{d, e as f}}`; reads no further than the tree goes.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim_start();
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(tree.len());
    let prefix: Vec<String> =
        tree[..end].split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if !tree[..end].ends_with("::") || !tree[end..].starts_with('{') {
        return vec![prefix];
    }
    let mut paths = Vec::new();
    let (mut depth, mut from) = (0, end + 1);
    for (index, c) in tree.char_indices().skip_while(|(index, _)| *index < end) {
        let ends_a_branch = match c {
            '{' => {
                depth += 1;
                false
            }
            '}' => {
                depth -= 1;
                depth == 0
            }
            ',' => depth == 1,
            _ => false,
        };
        if ends_a_branch {
            if !tree[from..index].trim().is_empty() {
                paths
                    .extend(expand(&tree[from..index]).into_iter().map(|rest| [&prefix[..], &rest].concat()));
            }
            from = index + 1;
        }
        if c == '}' && depth == 0 {
            break;
        }
    }
    paths
}

/// Puts blanks in the place of comments and of what is in literals.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut blank = |from: usize, to: usize| {
        for byte in &mut code[from..to] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    };
    let find = |from: usize, what: &str| text[from..].find(what).map_or(text.len(), |at| from + at);
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            find(at, "\n")
        } else if rest.starts_with(b"/*") {
            (find(at, "*/") + 2).min(bytes.len())
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            find(at + hashes + 2, &close) + close.len()
        } else if rest[0] == b'"' {
            literal_end(bytes, at, b'"')
        } else if rest.starts_with(b"'\\") || (rest.len() > 2 && rest[0] == b'\'' && char_closes(&text[at..]))
        {
            literal_end(bytes, at, b'\'')
        } else {
            at += 1;
            continue;
        };
        blank(at, end);
        at = end;
    }
    String::from_utf8(code).expect("whole literals and comments were blanked")
}

/// The number of hashes of the raw string that begins here.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let after = rest.strip_prefix(b"r")?;
    let hashes = after.iter().take_while(|byte| **byte == b'#').count();
    (after.get(hashes) == Some(&b'"')).then_some(hashes)
}

/// Whether the quote that begins here is a character's, not a lifetime's.
fn char_closes(rest: &str) -> bool {
    rest.chars().nth(2) == Some('\'')
}

fn literal_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Puts blanks in the place of modules that only tests have.
fn without_tests(code: &str) -> String {
    let mut rest = code.to_owned();
    while let Some(start) = rest.find("#[cfg(test)]") {
        let attribute_end = start + "#[cfg(test)]".len();
        let item = &rest[attribute_end..];
        let end = match (item.find('{'), item.find(';')) {
            (Some(open), semicolon) if semicolon.is_none_or(|semicolon| open < semicolon) => {
                attribute_end + open + block_len(&item[open..])
            }
            (_, Some(semicolon)) => attribute_end + semicolon + 1,
            (_, None) => rest.len(),
        };
        let blanks: String = rest[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        rest.replace_range(start..end, &blanks);
    }
    rest
}

fn block_len(block: &str) -> usize {
    let mut depth = 0;
    for (index, c) in block.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    block.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Crate {
        Crate::new("x/src", files.iter().map(|(path, text)| (format!("x/src/{path}"), (*text).to_owned())))
    }

    fn uses(files: &[(&str, &str)]) -> Vec<(String, String)> {
        of(files).uses().into_iter().map(|found| (found.from, found.to)).collect()
    }

    fn pair(from: &str, to: &str) -> (String, String) {
        (from.to_owned(), to.to_owned())
    }

    #[test]
    fn uses_are_found_in_every_way_to_write_a_path() {
        let others = [("a.rs", ""), ("b/mod.rs", "mod d;"), ("b/d.rs", ""), ("lib.rs", "")];
        for (text, to) in [
            ("use crate::a::X;", vec!["a"]),
            ("fn f(x: &crate::a::X) {}", vec!["a"]),
            ("use crate::{a::X, b::{self, d::{Y as Z, W}}};", vec!["a", "b", "b::d"]),
            ("use super::a;", vec!["a"]),
            ("use crate::f;", vec![""]),
            ("use std::a; use self::g; use $crate::a;", vec![]),
            (
                "// use crate::a;\n/* crate::a */ const C: &str = \"crate::a\"; const R: &str = r#\"crate::a\"#;",
                vec![],
            ),
            ("#[cfg(test)] mod tests { use crate::a; }", vec![]),
            ("#[cfg(test)] mod tests { const C: char = '{'; } use crate::b;", vec!["b"]),
            ("struct S<'a>(&'a crate::a::X);", vec!["a"]),
        ] {
            let files = [&others[..], &[("c.rs", text)]].concat();
            let expected: Vec<_> = to.into_iter().map(|to| pair("c", to)).collect();
            assert_eq!(uses(&files), expected, "{text}");
        }
    }

    #[test]
    fn a_name_that_is_re_exported_is_traced_to_its_module() {
        let files = [
            ("lib.rs", "mod b; pub use b::d::X; mod c;"),
            ("b/mod.rs", "mod d; pub(crate) use d::{X, Y};"),
            ("b/d.rs", ""),
            ("c.rs", "use crate::X;\nuse crate::b::Y;\nuse crate::b::Z;"),
        ];
        assert_eq!(uses(&files), [pair("c", "b::d"), pair("c", "b::d"), pair("c", "b")]);
    }
}
