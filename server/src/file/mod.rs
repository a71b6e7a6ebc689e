//! Static files: from a request target to an open file with its length, type and validators, and from that and
//! the conditions of the request to a response.
//!
//! ```text
//!   target ──path──▶ name ──cache──▶ Rc<Entry> ──conditional──▶ 200 │ 206 │ 304 │ 412 │ 416
//!                              └─miss─▶ bast::fs ──▶ entry
//! ```
//! How the bytes travel (one `send`, or `sendfile`) is the connection's affair: a response only names the part
//! of the file ([`FilePart`](crate::FilePart)).
#![forbid(unsafe_code)]

pub(crate) mod cache;
mod conditional;
pub mod content_type;
mod entry;
mod files;
pub mod path;
mod root;

pub use cache::{ENTRIES_MAX, TTL_SECONDS};
pub use entry::Entry;
pub use files::{Files, IntoFiles};
pub use root::{Missing, Root};

/// For the fuzz targets: how a file of this length is answered under these conditions.
#[cfg(fuzzing)]
pub fn ask_for_part<'a>(
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    is_get: bool,
    len_bytes: u64,
) -> Asked {
    let current = conditional::Representation {
        etag: "\"ours\"",
        last_modified: "Mon, 01 Oct 2012 07:38:50 GMT",
        modified_unix_seconds: 1_349_077_130,
        last_modified_is_strong: true,
        len_bytes,
    };
    match conditional::Conditions::from_fields(fields).verdict(is_get, &current) {
        conditional::Verdict::Whole => Asked::Whole,
        conditional::Verdict::Part { offset, len } => Asked::Part { offset, len },
        conditional::Verdict::NotModified => Asked::Nothing(304),
        conditional::Verdict::PreconditionFailed => Asked::Nothing(412),
        conditional::Verdict::Unsatisfiable => Asked::Nothing(416),
    }
}

/// What [`ask_for_part`] found.
#[cfg(fuzzing)]
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "nobody but the fuzz targets sees this")]
pub enum Asked {
    Whole,
    Part { offset: u64, len: u64 },
    Nothing(u16),
}

#[cfg(test)]
mod tests {
    //! What the tests of this folder share.

    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory of the test's own, removed with everything in it at the end.
    #[derive(Debug)]
    pub(super) struct Scratch(PathBuf);

    impl Scratch {
        pub(super) fn new() -> Scratch {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("bast-server-{}-{number}", std::process::id()));
            fs::create_dir(&path).expect("make the scratch directory");
            Scratch(path)
        }

        pub(super) fn path(&self) -> &Path {
            &self.0
        }

        /// Writes a file, and the directories above it.
        pub(super) fn write(&self, name: &str, content: &[u8]) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().expect("below the scratch directory"))
                .expect("make directories");
            fs::write(path, content).expect("write a file");
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("remove the scratch directory");
        }
    }
}
