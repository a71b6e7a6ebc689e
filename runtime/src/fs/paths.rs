#![forbid(unsafe_code)]
//! What is done to files by their paths: std's functions, off-loaded as a whole.

use super::blocking;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::path::{Path, PathBuf};

/// Defines functions of paths that are off-loaded.
macro_rules! off_loaded {
    ($($(#[$doc:meta])* $name:ident($($path:ident),+) -> $result:ty = $std:path;)+) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// Those of the function in std; or the pool cannot start an OS thread.
            pub fn $name($($path: impl AsRef<Path>),+) -> io::Result<$result> {
                $(let $path = $path.as_ref().to_owned();)+
                blocking(move || $std($($path),+))
            }
        )+
    };
}

off_loaded! {
    /// The whole content of a file; see [`std::fs::read`].
    read(path) -> Vec<u8> = fs::read;

    /// The whole content of a file as text; see [`std::fs::read_to_string`].
    read_to_string(path) -> String = fs::read_to_string;

    /// What is known of a file, links followed; see [`std::fs::metadata`].
    metadata(path) -> Metadata = fs::metadata;

    /// What is known of a file or link; see [`std::fs::symlink_metadata`].
    symlink_metadata(path) -> Metadata = fs::symlink_metadata;

    /// Whether there is such a file; see [`std::fs::exists`].
    try_exists(path) -> bool = fs::exists;

    /// The path without links and dots; see [`std::fs::canonicalize`].
    canonicalize(path) -> PathBuf = fs::canonicalize;

    /// Where a symbolic link leads to; see [`std::fs::read_link`].
    read_link(path) -> PathBuf = fs::read_link;

    /// Makes a directory; see [`std::fs::create_dir`].
    create_dir(path) -> () = fs::create_dir;

    /// Makes a directory and those above it; see [`std::fs::create_dir_all`].
    create_dir_all(path) -> () = fs::create_dir_all;

    /// Removes a file; see [`std::fs::remove_file`].
    remove_file(path) -> () = fs::remove_file;

    /// Removes an empty directory; see [`std::fs::remove_dir`].
    remove_dir(path) -> () = fs::remove_dir;

    /// Removes a directory with everything in it; see [`std::fs::remove_dir_all`].
    remove_dir_all(path) -> () = fs::remove_dir_all;

    /// Gives a file another name; see [`std::fs::rename`].
    rename(from, to) -> () = fs::rename;

    /// Copies content and permissions, and returns the number of bytes; see [`std::fs::copy`].
    copy(from, to) -> u64 = fs::copy;

    /// Gives a file a further name; see [`std::fs::hard_link`].
    hard_link(original, link) -> () = fs::hard_link;

    /// Makes a symbolic link; see [`std::os::unix::fs::symlink`].
    symlink(original, link) -> () = std::os::unix::fs::symlink;
}

/// Writes a file as a whole, of a copy of `contents`; see [`std::fs::write`].
///
/// # Errors
/// Those of the function in std; or the pool cannot start an OS thread.
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let (path, contents) = (path.as_ref().to_owned(), contents.as_ref().to_owned());
    blocking(move || fs::write(path, contents))
}

/// Changes what is permitted; see [`std::fs::set_permissions`].
///
/// # Errors
/// Those of the function in std; or the pool cannot start an OS thread.
pub fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    blocking(move || fs::set_permissions(path, permissions))
}
