#![forbid(unsafe_code)]
//! How files are opened.

use super::{File, blocking};
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How a file is opened, in the manner of `std::fs::OpenOptions`.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    options: fs::OpenOptions,
}

/// Defines methods that set a flag.
macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident;)+) => {
        $(
            $(#[$doc])*
            pub fn $name(&mut self, on: bool) -> &mut OpenOptions {
                self.options.$name(on);
                self
            }
        )+
    };
}

impl OpenOptions {
    /// None yet: at least reading, writing or appending has to be chosen.
    #[expect(clippy::new_without_default, reason = "as in std")]
    pub fn new() -> OpenOptions {
        OpenOptions { options: fs::OpenOptions::new() }
    }

    flags! {
        /// Whether the file can be read.
        read;
        /// Whether the file can be written.
        write;
        /// Whether what is written goes to the end of the file, wherever that is by then.
        append;
        /// Whether the file loses its content; needs writing.
        truncate;
        /// Whether the file is made if there is none; needs writing.
        create;
        /// Whether the file is made, and opening fails if there is one; needs writing.
        create_new;
    }

    /// What is permitted with a file that is made (open(2)), 0o666 if not said, less the process's mask.
    pub fn mode(&mut self, mode: u32) -> &mut OpenOptions {
        self.options.mode(mode);
        self
    }

    /// Further flags of open(2).
    pub fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        self.options.custom_flags(flags);
        self
    }

    /// Opens the file. A FIFO waits for its peer.
    ///
    /// # Errors
    /// Those of open(2); or the pool cannot start an OS thread.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let (options, path) = (self.options.clone(), path.as_ref().to_owned());
        blocking(move || File::try_from(options.open(path)?))
    }
}
