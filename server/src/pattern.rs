//! The patterns of routes: their text, its segments and its names.
//!
//! Routes are part of the program, so their text lives as long as the program does: each different one is kept once, and
//! a request names its route by a pointer, without a count that many cores would share.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ptr;

use bast::sync::Mutex;

/// Most parameters that one route may have.
pub(crate) const PARAMS_MAX: usize = 8;

/// One segment of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment<'p> {
    /// Itself.
    Literal(&'p str),
    /// `{name}`
    Param(&'p str),
    /// `{name...}`; the name is empty for a mount.
    Rest(&'p str),
}

/// The segments of a pattern.
///
/// # Panics
/// If the pattern is malformed.
#[track_caller]
pub(crate) fn segments(pattern: &str) -> Vec<Segment<'_>> {
    let Some(path) = pattern.strip_prefix('/') else {
        panic!("route {pattern:?} does not begin with a slash")
    };
    assert!(!path.contains(['?', '#']), "route {pattern:?} has a query: a pattern is of the path only");
    let segments: Vec<Segment<'_>> = match path.split('/').map(segment).collect() {
        Ok(segments) => segments,
        Err(fault) => panic!("route {pattern:?} {fault}"),
    };
    let rest = segments.iter().position(|segment| matches!(segment, Segment::Rest(_)));
    assert!(rest.is_none_or(|at| at + 1 == segments.len()), "route {pattern:?} goes on after {{...}}");
    let names: Vec<&str> = names(pattern).collect();
    for (index, name) in names.iter().enumerate() {
        assert!(!names[..index].contains(name), "route {pattern:?} names {name:?} twice");
    }
    assert!(names.len() <= PARAMS_MAX, "route {pattern:?} has more than {PARAMS_MAX} parameters");
    segments
}

/// One segment, or what is wrong with it. What would be a parameter elsewhere is no literal here: it would never match.
fn segment(text: &str) -> Result<Segment<'_>, String> {
    let Some(name) = text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) else {
        return if let Some(name) = text.strip_prefix(':') {
            Err(format!("has {text:?}, which is no parameter: write {{{name}}}"))
        } else if let Some(name) = text.strip_prefix('*') {
            let name = if name.is_empty() { "rest" } else { name };
            Err(format!("has {text:?}, which is no parameter: write {{{name}...}}"))
        } else if let Some(name) = text.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')) {
            Err(format!("has {text:?}, which is no parameter: write {{{name}}}"))
        } else if text.contains(['{', '}']) {
            Err(format!("has a brace within the segment {text:?}"))
        } else {
            Ok(Segment::Literal(text))
        };
    };
    if name == "..." {
        return Ok(Segment::Rest(""));
    }
    if let Some(rest) = name.strip_prefix('*').filter(|rest| is_identifier(rest)) {
        return Err(format!("has {text:?}, which is no parameter: write {{{rest}...}}"));
    }
    if let Some((before, _)) = name.split_once(':').filter(|(before, _)| is_identifier(before)) {
        return Err(format!(
            "has {text:?}: write {{{before}}}, and let the handler say which values there are"
        ));
    }
    let rest = name.strip_suffix("...");
    if !is_identifier(rest.unwrap_or(name)) {
        return Err(format!("has a malformed parameter {text:?}: a name is letters, digits and underscores"));
    }
    Ok(rest.map_or(Segment::Param(name), Segment::Rest))
}

fn is_identifier(name: &str) -> bool {
    let is_letter = |c: char| c == '_' || c.is_alphabetic();
    name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_numeric())
}

/// The names of a pattern's parameters, in their order.
pub(crate) fn names(pattern: &str) -> impl Iterator<Item = &str> {
    pattern
        .split('/')
        .filter_map(|text| text.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.strip_suffix("...").unwrap_or(name))
}

/// A pattern below a prefix: the root of what is nested is the prefix itself.
pub(crate) fn join(prefix: &str, pattern: &str) -> String {
    let prefix = prefix.trim_end_matches('/');
    if pattern == "/" && !prefix.is_empty() { prefix.to_owned() } else { format!("{prefix}{pattern}") }
}

/// The same, kept for ever. Who asks again on one OS thread gets it without an allocation and without a lock.
pub(crate) fn joined(prefix: &'static str, pattern: &'static str) -> &'static str {
    /// By where the two texts are, which are not read: a request asks for this.
    type Known = BTreeMap<(*const str, *const str), &'static str>;
    thread_local! {
        /// As many as there are routes of mounted routers.
        static KNOWN: RefCell<Known> = const { RefCell::new(BTreeMap::new()) };
    }
    let key = (ptr::from_ref(prefix), ptr::from_ref(pattern));
    KNOWN.with(|known| {
        // Where an allocation is a yield point two threads can meet here; the second one then does without.
        let found = known.try_borrow().ok().and_then(|known| known.get(&key).copied());
        found.unwrap_or_else(|| {
            let text = intern(&join(prefix, pattern));
            if let Ok(mut known) = known.try_borrow_mut() {
                known.insert(key, text);
            }
            text
        })
    })
}

/// The text, for ever.
pub(crate) fn intern(text: &str) -> &'static str {
    static TEXTS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut texts = TEXTS.lock();
    if let Some(known) = texts.get(text) {
        return known;
    }
    let text: &'static str = text.to_owned().leak();
    texts.insert(text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_taken_apart() {
        use Segment::{Literal, Param, Rest};
        for (pattern, expected) in [
            ("/", &[Literal("")][..]),
            ("/a/", &[Literal("a"), Literal("")]),
            ("/a/{b}/{c...}", &[Literal("a"), Param("b"), Rest("c")]),
            ("/a/{...}", &[Literal("a"), Rest("")]),
        ] {
            assert_eq!(segments(pattern), expected);
        }
        assert_eq!(names("/a/{b}/{c...}").collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn the_patterns_of_others_are_refused_with_the_one_to_write() {
        for (pattern, advice) in [
            ("/n/:id", "write {id}"),
            ("/n/*rest", "write {rest...}"),
            ("/n/*", "write {rest...}"),
            ("/n/{*rest}", "write {rest...}"),
            ("/n/{id:[0-9]+}", "write {id}"),
            ("/n/{id:[0-9]{2}}", "write {id}"),
            ("/n/<id>", "write {id}"),
            ("/n?x=1", "has a query"),
            ("/n/{user-id}", "malformed parameter"),
            ("/n/{7}", "malformed parameter"),
            ("/n/{}", "malformed parameter"),
            ("/n/x{id}", "a brace within"),
        ] {
            let panic = std::panic::catch_unwind(|| segments(pattern)).expect_err(pattern);
            let message = panic.downcast_ref::<String>().expect("a message");
            assert!(message.contains(advice) && message.contains(pattern), "{pattern}: {message}");
        }
        for pattern in ["/a:b", "/a*", "/<", "/{_id2}", "/{größe}"] {
            assert_eq!(segments(pattern).len(), 1, "{pattern}");
        }
    }

    #[test]
    fn what_is_nested_begins_at_its_prefix() {
        for (prefix, pattern, joined) in [
            ("/api", "/users", "/api/users"),
            ("/api/", "/users", "/api/users"),
            ("/api", "/", "/api"),
            ("/", "/", "/"),
            ("", "/a", "/a"),
            ("/api", "/{id}", "/api/{id}"),
        ] {
            assert_eq!(join(prefix, pattern), joined);
        }
    }

    #[test]
    fn many_mounted_routes_are_each_joined_once_and_none_is_taken_for_another() {
        let prefixes = ["/a", "/b"].map(|prefix| intern(&format!("/mounted{prefix}")));
        let patterns: Vec<&str> = (0..1000).map(|number| intern(&format!("/route-{number}"))).collect();
        let join_all = || -> Vec<&str> {
            prefixes
                .iter()
                .flat_map(|prefix| patterns.iter().map(|pattern| joined(prefix, pattern)))
                .collect()
        };
        let texts = join_all();
        assert_eq!((texts[0], texts[1999]), ("/mounted/a/route-0", "/mounted/b/route-999"));
        assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), 2000);
        assert!(join_all().iter().zip(&texts).all(|(again, text)| ptr::eq(*again, *text)));
        // A pattern that begins where another does, and is shorter.
        assert_eq!(joined(prefixes[0], &patterns[10][..8]), "/mounted/a/route-1");
    }

    #[test]
    fn a_text_is_kept_once() {
        let text = String::from("/kept/{once}");
        assert!(std::ptr::eq(intern(&text), intern("/kept/{once}")));
    }
}
