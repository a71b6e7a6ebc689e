//! The content type of a file, by the extension of its name.
//!
//! A table in the program, not the system's: an answer must not depend on which packages are installed. Text is
//! labelled UTF-8; what is not listed is `application/octet-stream`, which a browser saves instead of guessing.
#![forbid(unsafe_code)]

/// The type of a file whose extension is not in the table.
pub const DEFAULT: &str = "application/octet-stream";

/// The longest extension in the table, in bytes.
const EXTENSION_BYTES_MAX: usize = 11;

/// Extension in lower case → type, sorted by extension. Types as registered by IANA; where a file format has
/// several, the one that browsers and nginx use.
#[rustfmt::skip]
const TABLE: &[(&str, &str)] = &[
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("apng", "image/apng"),
    ("atom", "application/atom+xml"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("bin", "application/octet-stream"),
    ("bmp", "image/bmp"),
    ("br", "application/octet-stream"),
    ("bz2", "application/x-bzip2"),
    ("cjs", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("deb", "application/vnd.debian.binary-package"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("eot", "application/vnd.ms-fontobject"),
    ("epub", "application/epub+zip"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("jxl", "image/jxl"),
    ("m4a", "audio/mp4"),
    ("m4v", "video/mp4"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("rss", "application/rss+xml"),
    ("rtf", "application/rtf"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("tgz", "application/gzip"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "text/xml; charset=utf-8"),
    ("xz", "application/x-xz"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// The type for a file of this name (its last component): what its extension says, in whatever case, or
/// [`DEFAULT`].
pub fn by_name(name: &[u8]) -> &'static str {
    extension(name).and_then(by_extension).unwrap_or(DEFAULT)
}

/// What follows the last dot, if something precedes it: `.profile` is a name, not an extension.
fn extension(name: &[u8]) -> Option<&[u8]> {
    match name.iter().rposition(|&b| b == b'.') {
        None | Some(0) => None,
        Some(dot) => Some(&name[dot + 1..]),
    }
}

fn by_extension(extension: &[u8]) -> Option<&'static str> {
    let mut lower = [0; EXTENSION_BYTES_MAX];
    let lower = lower.get_mut(..extension.len())?;
    lower.copy_from_slice(extension);
    lower.make_ascii_lowercase();
    let found = TABLE.binary_search_by(|(known, _)| known.as_bytes().cmp(lower)).ok()?;
    Some(TABLE[found].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_in_lower_case_and_every_row_is_found() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for (extension, content_type) in TABLE {
            assert!(extension.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{extension}");
            for name in [format!("name.{extension}"), format!("A.B.{}", extension.to_ascii_uppercase())] {
                assert_eq!(by_name(name.as_bytes()), *content_type, "{name}");
            }
        }
        let longest = TABLE.iter().map(|(extension, _)| extension.len()).max();
        assert_eq!(longest, Some(EXTENSION_BYTES_MAX));
    }

    #[test]
    fn text_is_labelled_utf_8_and_nothing_else_is() {
        for (_, content_type) in TABLE {
            let text = content_type.starts_with("text/");
            assert_eq!(content_type.ends_with("; charset=utf-8"), text, "{content_type}");
        }
    }

    #[test]
    fn what_is_not_known_is_octets() {
        for name in
            ["", "name", "name.", ".html", "name.unheardof", "html", "name.htmlhtmlhtml", "a.html.orig"]
        {
            assert_eq!(by_name(name.as_bytes()), DEFAULT, "{name}");
        }
        assert_eq!(by_name(b"name.\xFF"), DEFAULT);
        assert_eq!(by_name(b"name.htm\0"), DEFAULT);
    }
}
