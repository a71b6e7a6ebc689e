#![forbid(unsafe_code)]
//! Directories, read in batches: a hop to the pool for each entry would cost more than the entry.

use super::blocking;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries read in one hop: about as many as std gets from one getdents64(2).
const BATCH: usize = 256;

/// The entries of a directory, in the manner of `std::fs::ReadDir`. Each batch of 256 may park the thread.
///
/// If a thread is killed while it waits for a batch, the iteration is over.
pub struct ReadDir {
    /// `None` while the pool has it, and after the end.
    entries: Option<fs::ReadDir>,
    batch: VecDeque<io::Result<DirEntry>>,
}

/// An entry of a directory, in the manner of `std::fs::DirEntry`.
pub struct DirEntry {
    entry: Arc<fs::DirEntry>,
    /// If it was known without a further call.
    file_type: Option<FileType>,
}

/// The entries of a directory; see [`std::fs::read_dir`].
///
/// # Errors
/// Those of the function in std; or the pool cannot start an OS thread.
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let path = path.as_ref().to_owned();
    let (entries, batch) = blocking(move || fs::read_dir(path).map(next_batch))?;
    Ok(ReadDir { entries, batch })
}

fn next_batch(mut entries: fs::ReadDir) -> (Option<fs::ReadDir>, VecDeque<io::Result<DirEntry>>) {
    let entry = |entry: fs::DirEntry| DirEntry { file_type: entry.file_type().ok(), entry: Arc::new(entry) };
    let batch: VecDeque<_> = entries.by_ref().take(BATCH).map(|found| found.map(entry)).collect();
    let has_more = batch.len() == BATCH;
    (has_more.then_some(entries), batch)
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<io::Result<DirEntry>> {
        if self.batch.is_empty()
            && let Some(entries) = self.entries.take()
        {
            match blocking(move || Ok(next_batch(entries))) {
                Ok((entries, batch)) => (self.entries, self.batch) = (entries, batch),
                Err(error) => return Some(Err(error)),
            }
        }
        self.batch.pop_front()
    }
}

impl DirEntry {
    /// The path: that of the directory, with the name.
    pub fn path(&self) -> PathBuf {
        self.entry.path()
    }

    /// The name.
    pub fn file_name(&self) -> OsString {
        self.entry.file_name()
    }

    /// What is known of the entry; links are not followed. May park.
    ///
    /// # Errors
    /// Those of lstat(2); or the pool cannot start an OS thread.
    pub fn metadata(&self) -> io::Result<Metadata> {
        let entry = Arc::clone(&self.entry);
        blocking(move || entry.metadata())
    }

    /// What kind of file it is; links are not followed. Most file systems tell it with the name.
    ///
    /// # Errors
    /// Those of lstat(2); or the pool cannot start an OS thread.
    pub fn file_type(&self) -> io::Result<FileType> {
        match self.file_type {
            Some(file_type) => Ok(file_type),
            None => self.metadata().map(|metadata| metadata.file_type()),
        }
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir").field("batch", &self.batch.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirEntry").field(&self.path()).finish()
    }
}
