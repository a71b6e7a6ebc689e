//! An open file with all that a response says about it.
//!
//! Length, validators and bytes come from one descriptor: a file that is replaced by a rename cannot mix into
//! an answer that has begun. Nothing here is looked up again after [`Entry::new`].
#![forbid(unsafe_code)]

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use bast::fs::{File, Metadata};

use super::conditional::Representation;

/// A regular file, open for reading. Shared behind an `Rc` by the cache and by the responses being sent: the
/// descriptor is closed when the last of them lets go.
#[derive(Debug)]
pub struct Entry {
    file: File,
    len_bytes: u64,
    content_type: &'static str,
    modified_unix_seconds: u64,
    /// True if the second of the modification was over when the file was opened, so that no other content carries
    /// the same date (RFC 9110 §8.8.2.2).
    last_modified_is_strong: bool,
    last_modified: Box<str>,
    etag: Box<str>,
}

impl Entry {
    /// The open file `file`, of which `metadata` was asked, at `now_unix_seconds`.
    pub(crate) fn new(
        file: File,
        metadata: &Metadata,
        content_type: &'static str,
        now_unix_seconds: u64,
    ) -> Entry {
        // A file from the future was modified "now" (RFC 9110 §8.8.2.1), one from before 1970 in 1970, which is
        // as far back as the HTTP dates that clients understand go.
        let modified = u64::try_from(metadata.mtime()).unwrap_or(0).min(now_unix_seconds);
        Entry {
            file,
            len_bytes: metadata.len(),
            content_type,
            modified_unix_seconds: modified,
            last_modified_is_strong: modified < now_unix_seconds,
            last_modified: http_date(modified).into(),
            etag: etag(metadata).into(),
        }
    }

    /// The file, to read at offsets and to send. Its position means nothing: it is shared.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The file's length in bytes when it was opened. It may have shrunk since: whoever meets the end early has
    /// to break the connection off, for the length was promised in the head.
    #[expect(clippy::len_without_is_empty, reason = "an empty file is a file like others")]
    pub fn len(&self) -> u64 {
        self.len_bytes
    }

    /// The value of Content-Type.
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// The value of Last-Modified: an IMF-fixdate (RFC 9110 §5.6.7), not later than the time of opening.
    pub fn last_modified(&self) -> &str {
        &self.last_modified
    }

    /// The value of ETag: strong, quoted, of the file's time of modification in nanoseconds, its length and its
    /// inode. Two versions share it only if both were written in place within one tick of the kernel's clock
    /// (4 ms) and are equally long.
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// When the file was modified.
    pub(super) fn modified_unix_seconds(&self) -> u64 {
        self.modified_unix_seconds
    }

    /// What the conditions of a request are compared with.
    pub(super) fn representation(&self) -> Representation<'_> {
        Representation {
            etag: &self.etag,
            last_modified: &self.last_modified,
            modified_unix_seconds: self.modified_unix_seconds,
            last_modified_is_strong: self.last_modified_is_strong,
            len_bytes: self.len_bytes,
        }
    }
}

fn etag(metadata: &Metadata) -> String {
    format!(
        "\"{:x}.{:x}-{:x}-{:x}\"",
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len(),
        metadata.ino()
    )
}

/// The IMF-fixdate of an instant not after the present (httpdate panics from the year 10000 on).
fn http_date(unix_seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds))
}
