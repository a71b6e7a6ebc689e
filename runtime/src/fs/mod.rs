#![forbid(unsafe_code)]
//! Files in the manner of `std::fs`: what has to wait for a disk parks the calling green thread only.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! # fn main() -> std::io::Result<()> {
//! let path = std::env::temp_dir().join(format!("bast-fs-doc-{}", std::process::id()));
//! let text = bast::run(move || -> std::io::Result<String> {
//!     let mut file = bast::fs::File::create(&path)?;
//!     file.write_all(b"a line\nanother line\n")?;
//!     file.sync_all()?; // waits for the disk, and no core with it
//!     let mut text = String::new();
//!     bast::fs::File::open(&path)?.read_to_string(&mut text)?;
//!     bast::fs::remove_file(&path)?;
//!     Ok(text)
//! })?;
//! assert_eq!(text, "a line\nanother line\n");
//! # Ok(())
//! # }
//! ```
//!
//! # How
//! The kernel has no readiness for files, so each call is [off-loaded](crate::offload()) as a whole, with buffers that
//! belong to the pool. A read asks first for what is in the page cache (`RWF_NOWAIT`), and only if there is nothing it
//! takes the way over the pool; what lives in memory (tmpfs) is read in place. FIFOs, terminals and other streams are
//! waited for as sockets are. On a plain OS thread the calls are those of std.
//!
//! # Cancellation
//! Every call is an interruptible point: a thread that was killed unwinds before it has any effect. One that is killed
//! while it waits leaves at once, and **the call it waited for may still happen**, later: a file that it created, a
//! rename, bytes that it wrote. What it opened is closed, what it read is dropped. The position of a [`File`] moves
//! only when a call returns, so what an abandoned read has read is there for the next; an abandoned write may
//! overwrite what somebody else wrote to the same place meanwhile.
//!
//! Off-loaded calls have no time limit of their own. An open of a FIFO waits for its peer on a thread of the pool, and
//! keeps that thread, though its waiter was killed, until a peer comes.

mod beneath;
mod dir;
mod file;
mod options;
mod paths;

pub use beneath::{open_beneath, open_directory};
pub use dir::{DirEntry, ReadDir, read_dir};
pub use file::File;
pub use options::OpenOptions;
pub use paths::{
    canonicalize, copy, create_dir, create_dir_all, hard_link, metadata, read, read_link, read_to_string,
    remove_dir, remove_dir_all, remove_file, rename, set_permissions, symlink, symlink_metadata, try_exists,
    write,
};
pub use std::fs::{FileTimes, FileType, Metadata, Permissions};

use crate::offload;
use std::io;

/// Makes a call that may block, on a thread of the pool.
fn blocking<T: Send + 'static>(call: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    offload::attempt(None, call)?.expect("a wait without a deadline is not cut short")
}

/// Makes a system call again for as long as signals interrupt it (signal(7)).
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
