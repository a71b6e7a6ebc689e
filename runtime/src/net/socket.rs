#![forbid(unsafe_code)]
//! A socket of any kind, for those who only wait for it.

use crate::io_manager::Source;
use std::fmt;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

/// A borrowed socket of any kind, for [`Select`](crate::Select). Made from a reference to one.
#[derive(Clone, Copy)]
pub struct Socket<'a> {
    source: &'a Source,
}

impl<'a> Socket<'a> {
    pub(super) fn new(source: &'a Source) -> Socket<'a> {
        Socket { source }
    }

    pub(crate) fn source(self) -> &'a Source {
        self.source
    }
}

impl fmt::Debug for Socket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.source.as_fd().as_raw_fd()).finish()
    }
}
