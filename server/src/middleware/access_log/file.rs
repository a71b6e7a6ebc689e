//! A file that lines are appended to, and that can be moved away meanwhile.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A log file. Clones are the same file: one is the sink of an [`AccessLog`](super::AccessLog), another asks for the file to be
/// reopened.
///
/// Writing blocks the OS thread, as the log's own may be.
#[derive(Clone, Debug)]
pub struct LogFile {
    path: Arc<Path>,
    file: Arc<std::sync::Mutex<File>>,
    is_stale: Arc<AtomicBool>,
}

impl LogFile {
    /// Opens the file to append to it, and makes it where it is not there: for its owner to write and its group to read (mode
    /// 0640, less what the umask takes), because addresses and queries are nobody else's. One that is there keeps its mode.
    ///
    /// # Errors
    /// Those of open(2), with the path in the message.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<LogFile> {
        let path = path.into();
        let file = std::sync::Mutex::new(open(&path)?);
        Ok(LogFile { path: path.into(), file: Arc::new(file), is_stale: Arc::default() })
    }

    /// Opens the path anew before the next lines are written, for when the file was moved away. Where that fails the old one is
    /// kept and the log facade is told. Waits for nothing, so a thread that receives signals may call it.
    pub fn reopen(&self) {
        self.is_stale.store(true, Ordering::Release);
    }
}

const NEW_FILE_MODE: u32 = 0o640;

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(NEW_FILE_MODE)
        .open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("log file {}: {error}", path.display())))
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Acquire, with the release in `reopen`: who asked has moved the file before.
        if self.is_stale.swap(false, Ordering::Acquire) {
            match open(&self.path) {
                Ok(fresh) => *file = fresh,
                Err(error) => log::error!("{error}; going on with the old one"),
            }
        }
        file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
