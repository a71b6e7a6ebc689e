//! From the path of a request target to the name of a file below a root.
//!
//! Bytes in, bytes out: no file system, no sockets. The result is made of names that are safe to join to a
//! root. It is the first of two walls: the second is the kernel's `RESOLVE_BENEATH` (`bast::fs`), which also
//! holds against symbolic links, of which this file knows nothing.
//!
//! | in the target | what it means here | why |
//! |---|---|---|
//! | `%xx` | that byte, decoded **once** | `%252e` is a file name that begins with `%2e` (CVE-2021-42013 decoded twice) |
//! | `%`, `%4`, `%zz` | malformed | RFC 3986 §2.1 |
//! | `/` | separates names; empty names are dropped | as nginx merges slashes |
//! | `%2F` | no such file | it is data, not a separator (RFC 3986 §2.2), and no file name can hold it |
//! | `\`, `%5C` | no such file | a separator elsewhere; nobody should meet a target that two systems read differently |
//! | `.` | dropped | RFC 3986 §5.2.4 |
//! | `..` | no such file | clients resolve it before they send; what still carries it is looking for a way out |
//! | `.name` | no such file, but for `.well-known` (RFC 8615) | `.git`, `.env`, `.htpasswd` are there by accident |
//! | NUL and other control bytes, encoded or raw | no such file | NUL ends the name in the kernel (CVE-2013-4547), the others forge log lines |
//! | `?` | ends the path | RFC 3986 §3.3 |
//! | a trailing `/`, or `.` as the last name | `index.html` of that directory | |
//! | bytes above 0x7F | themselves | file names are bytes on Linux, mostly UTF-8 |
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The longest name of a file in bytes, as the kernel counts: `PATH_MAX` (4096) without the final NUL.
pub const PATH_BYTES_MAX: usize = 4095;

/// The file that stands for a directory.
const INDEX: &[u8] = b"index.html";

/// The one name beginning with a dot that is served.
const WELL_KNOWN: &[u8] = b".well-known";

/// The name of a file below a root: names joined by single slashes, none of them empty, hidden or a step
/// upwards. An empty name, or one that ends in a slash, means the index of that directory.
///
/// Two targets of one resource have equal names, so that it can be the key of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafePath<'a>(Cow<'a, [u8]>);

/// Why a target names no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// It is not a path: it does not begin with a slash, or has a broken percent-encoding.
    Malformed,
    /// It is a path that no served file has.
    NoSuchFile,
}

impl<'a> SafePath<'a> {
    /// Reads the path of a request target in origin form (RFC 9112 §3.2.1), up to its query if it has one. A
    /// target without percent-encoding, double slashes and names that begin with a dot is borrowed: that costs no
    /// allocation.
    pub fn from_target(target: &'a [u8]) -> Result<SafePath<'a>, BadPath> {
        let path = target.strip_prefix(b"/").ok_or(BadPath::Malformed)?;
        let path = match plain(path) {
            Some(path) => Cow::Borrowed(path),
            None => Cow::Owned(normalise(path)?),
        };
        if path.len() + INDEX.len() > PATH_BYTES_MAX {
            return Err(BadPath::NoSuchFile);
        }
        Ok(SafePath(path))
    }

    /// The name as bytes; a directory's ends in a slash, or is empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The file to open, relative to the root: the name, or the index of the directory that it names.
    pub fn to_file(&self) -> PathBuf {
        let mut file = PathBuf::from(OsStr::from_bytes(&self.0));
        if self.0.is_empty() || self.0.ends_with(b"/") {
            file.push(OsStr::from_bytes(INDEX));
        }
        file
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&b| b == b'/')
}

/// The path up to its query, if there is nothing in it that [`normalise`] would change or refuse: the way of nearly
/// every request. One pass of about a nanosecond per byte; five passes of iterator adapters took ten times that.
fn plain(path: &[u8]) -> Option<&[u8]> {
    let mut previous = b'/';
    for (at, &byte) in path.iter().enumerate() {
        match (NEEDS_CARE[usize::from(byte)], previous) {
            (false, _) => previous = byte,
            (true, _) if byte == b'?' => return Some(&path[..at]),
            // A slash or dot is special only as the first byte of a name.
            (true, b'/') => return None,
            (true, _) if byte == b'/' || byte == b'.' => previous = byte,
            (true, _) => return None,
        }
    }
    Some(path)
}

/// The bytes that mean something, at some place at least.
const NEEDS_CARE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, 0..b' ' | 0x7F | b'%' | b'.' | b'/' | b'?' | b'\\');
        byte += 1;
    }
    table
};

/// Takes the query off, decodes, and drops empty names and `.`, but not the trailing slash that they stood for.
fn normalise(path: &[u8]) -> Result<Vec<u8>, BadPath> {
    let path = path.split(|&b| b == b'?').next().unwrap_or_default();
    let path = decode(path)?;
    let mut normal = Vec::with_capacity(path.len());
    let mut rest = names(&path).peekable();
    while let Some(name) = rest.next() {
        if name.is_empty() || name == b"." {
            continue;
        }
        if !is_served(name) {
            return Err(BadPath::NoSuchFile);
        }
        normal.extend_from_slice(name);
        if rest.peek().is_some() {
            normal.push(b'/');
        }
    }
    Ok(normal)
}

/// True if a file of this name, which is not empty, may be served.
fn is_served(name: &[u8]) -> bool {
    let hidden = name.first() == Some(&b'.') && name != WELL_KNOWN;
    !hidden && !name.iter().any(|&b| b < b' ' || b == 0x7F || b == b'\\')
}

/// Undoes the percent-encoding, once. An encoded slash is refused here, while it can still be told from a
/// separator.
fn decode(path: &[u8]) -> Result<Vec<u8>, BadPath> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut names_no_file = false;
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let [high, low, after @ ..] = rest else { return Err(BadPath::Malformed) };
        let byte = hex(*high)? << 4 | hex(*low)?;
        names_no_file |= byte == b'/';
        decoded.push(byte);
        rest = after;
    }
    // Only now: a target that is also malformed further on is malformed.
    if names_no_file { Err(BadPath::NoSuchFile) } else { Ok(decoded) }
}

fn hex(digit: u8) -> Result<u8, BadPath> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BadPath::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::BadPath::{Malformed, NoSuchFile};
    use super::*;

    fn read(target: &[u8]) -> Result<Vec<u8>, BadPath> {
        SafePath::from_target(target).map(|path| path.as_bytes().to_vec())
    }

    #[test]
    fn a_target_becomes_the_name_that_the_table_says() {
        let table: &[(&[u8], &[u8])] = &[
            (b"/", b""),
            (b"/a", b"a"),
            (b"/a/b.txt", b"a/b.txt"),
            (b"/a/", b"a/"),
            // Decoded once, and only once.
            (b"/%61", b"a"),
            (b"/a%20b", b"a b"),
            (b"/100%25", b"100%"),
            (b"/%252e%252e/a", b"%2e%2e/a"),
            (b"/%25%32%65", b"%2e"),
            (b"/%c3%A9", b"\xC3\xA9"),
            (b"/\xC3\xA9", b"\xC3\xA9"),
            (b"/%ff", b"\xFF"),
            // An overlong UTF-8 slash is two bytes, no slash.
            (b"/%c0%af", b"\xC0\xAF"),
            (b"/%e2%88%95", b"\xE2\x88\x95"),
            // The query ends the path, an encoded question mark does not.
            (b"/a?b=../../c", b"a"),
            (b"/?a", b""),
            (b"/a%3Fb", b"a?b"),
            (b"/a?%zz", b"a"),
            (b"/a%23b", b"a#b"),
            // Empty names and dots are dropped.
            (b"//a", b"a"),
            (b"/a//b", b"a/b"),
            (b"/a///", b"a/"),
            (b"///", b""),
            (b"/./a", b"a"),
            (b"/a/./b", b"a/b"),
            (b"/a/.", b"a/"),
            (b"/.", b""),
            (b"/./", b""),
            (b"/%2e/a", b"a"),
            (b"/a/%2E", b"a/"),
            // A dot further on is a letter like others; a colon, a semicolon and a tilde mean nothing.
            (b"/a..b", b"a..b"),
            (b"/a..", b"a.."),
            (b"/a.", b"a."),
            (b"/c:/a", b"c:/a"),
            (b"/a;/b", b"a;/b"),
            (b"/~root", b"~root"),
            (b"/.well-known/acme", b".well-known/acme"),
            (b"/%2ewell-known/acme", b".well-known/acme"),
        ];
        for (target, name) in table {
            assert_eq!(read(target).as_deref(), Ok(*name), "{}", target.escape_ascii());
        }
    }

    #[test]
    fn a_target_that_must_not_name_a_file_is_refused() {
        let table: &[(&[u8], BadPath)] = &[
            (b"", Malformed),
            (b"a", Malformed),
            (b"*", Malformed),
            (b"?a", Malformed),
            (b"../a", Malformed),
            (b"http://h/a", Malformed),
            (b"/%", Malformed),
            (b"/%4", Malformed),
            (b"/%zz", Malformed),
            (b"/%4g", Malformed),
            (b"/%%34%31", Malformed),
            (b"/%u002e", Malformed),
            (b"/% 1", Malformed),
            (b"/%+1", Malformed),
            (b"/%2f%", Malformed),
            // Steps upwards, in every dress.
            (b"/..", NoSuchFile),
            (b"/../a", NoSuchFile),
            (b"/a/..", NoSuchFile),
            (b"/a/../b", NoSuchFile),
            (b"/a/../../b", NoSuchFile),
            (b"/.%2e/a", NoSuchFile),
            (b"/%2e%2e/a", NoSuchFile),
            (b"/%2E./a", NoSuchFile),
            (b"//../a", NoSuchFile),
            (b"/./../a", NoSuchFile),
            (b"/.../a", NoSuchFile),
            (b"/..;/a", NoSuchFile),
            (b"/..%3b/a", NoSuchFile),
            (b"/..%00/a", NoSuchFile),
            (b"/..%20/a", NoSuchFile),
            (b"/..\\a", NoSuchFile),
            (b"/..%5ca", NoSuchFile),
            (b"/..%c0%af/a", NoSuchFile),
            // Encoded separators.
            (b"/a%2fb", NoSuchFile),
            (b"/a%2Fb", NoSuchFile),
            (b"/%2f", NoSuchFile),
            (b"/%2fetc%2fpasswd", NoSuchFile),
            (b"/..%2fa", NoSuchFile),
            (b"/%2e%2e%2fa", NoSuchFile),
            (b"/a%5cb", NoSuchFile),
            (b"/a%5Cb", NoSuchFile),
            (b"/a\\b", NoSuchFile),
            // NUL and other control bytes.
            (b"/a%00", NoSuchFile),
            (b"/a%00.html", NoSuchFile),
            (b"/%00", NoSuchFile),
            (b"/a\0b", NoSuchFile),
            (b"/a%0d%0ab", NoSuchFile),
            (b"/a%09b", NoSuchFile),
            (b"/a%7f", NoSuchFile),
            // Hidden files.
            (b"/.git/config", NoSuchFile),
            (b"/a/.env", NoSuchFile),
            (b"/%2egit/config", NoSuchFile),
            (b"/.well-known2", NoSuchFile),
            (b"/.well-known/.git", NoSuchFile),
        ];
        for (target, why) in table {
            assert_eq!(read(target), Err(*why), "{}", target.escape_ascii());
        }
    }

    #[test]
    fn every_byte_encoded_is_that_byte_or_refused() {
        for byte in 0..=u8::MAX {
            for target in [format!("/x%{byte:02x}y"), format!("/x%{byte:02X}y")] {
                let refused = byte < b' ' || matches!(byte, 0x7F | b'/' | b'\\');
                let expected = if refused { Err(NoSuchFile) } else { Ok(vec![b'x', byte, b'y']) };
                assert_eq!(read(target.as_bytes()), expected, "{target}");
            }
        }
    }

    #[test]
    fn whatever_special_bytes_and_their_encodings_make_stays_below_the_root() {
        let pieces: &[&[u8]] = &[
            b".", b"%2e", b"/", b"%2f", b"\\", b"%5c", b"%", b"%25", b"2e", b"2f", b"a", b"%00", b";", b"?",
        ];
        let mut accepted = 0;
        let n = pieces.len();
        for number in 0..n.pow(4) {
            let picked = [number, number / n, number / n.pow(2), number / n.pow(3)].map(|i| pieces[i % n]);
            let target = [b"/".as_slice(), &picked.concat()].concat();
            if let Some(name) = plain(&target[1..]) {
                assert_eq!(normalise(&target[1..]).as_deref(), Ok(name), "{}", target.escape_ascii());
            }
            let Ok(path) = SafePath::from_target(&target) else { continue };
            accepted += 1;
            let file = path.to_file();
            let only_names = file.components().all(|c| matches!(c, std::path::Component::Normal(_)));
            assert!(only_names, "{} became {file:?}", target.escape_ascii());
        }
        assert!(accepted > 1000, "the table of pieces makes too few paths that pass");
    }

    #[test]
    fn a_directory_means_its_index() {
        for (target, file) in
            [("/", "index.html"), ("/a/", "a/index.html"), ("/a", "a"), ("/a/.", "a/index.html")]
        {
            let path = SafePath::from_target(target.as_bytes()).expect("a good target");
            assert_eq!(path.to_file(), PathBuf::from(file));
        }
    }

    #[test]
    fn a_name_is_as_long_as_the_kernel_allows_with_its_index() {
        let longest = PATH_BYTES_MAX - INDEX.len();
        let target = |len: usize| [b"/".as_slice(), &b"n/".repeat(len)[..len]].concat();
        assert_eq!(read(&target(longest)).map(|name| name.len()), Ok(longest));
        assert_eq!(read(&target(longest + 1)), Err(NoSuchFile));
    }

    #[test]
    fn a_plain_target_is_borrowed() {
        for target in
            ["/", "/index.html", "/a/b/", "/a..b/c.", "/a/b.css?v=1", "/?v", "/a/?v=%00/../.", "/\u{e9}"]
        {
            let path = SafePath::from_target(target.as_bytes()).expect("a good target");
            assert!(matches!(path.0, Cow::Borrowed(_)), "{target}");
        }
    }
}
