//! Ways into the server for the benches of this project, which else see only what every program sees. No part of the
//! library: what is here may change or go with any version.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "nobody but the benches sees this")]

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::rc::Rc;

use crate::date;
use crate::file::Entry;
use crate::file::cache::{Cache, RootId};
use crate::http1::encode::{Length, ResponseHead};
use crate::http1::head::Head;
use crate::http1::parse::{Progress, Scan, parse};
use crate::http1::persistence::Persistence;
use crate::http1::preamble;
use crate::limits::Limits;
use crate::message::Version;
use crate::response::Response;
use crate::timeout::{Activity, Membership, Phase, Registry, ServerId, TimeLimits};
use crate::transport::twin::Twin;

/// Composes heads as a connection does that stays open.
#[derive(Debug)]
pub struct Composer {
    id: ServerId,
}

impl Composer {
    #[expect(clippy::new_without_default, reason = "each is another server")]
    pub fn new() -> Composer {
        Composer { id: ServerId::next() }
    }

    #[inline]
    pub fn compose(&self, response: &Response, length: u64, unix_seconds: u64, out: &mut Vec<u8>) {
        preamble::with(self.id, b"Server: bast\r\n", unix_seconds, |preamble| {
            let head = ResponseHead {
                status: response.status(),
                preamble,
                header_lines: response.headers().lines(),
                content_type: response.headers().content_type(),
                length: Length::Sized(length),
                version: Version::Http11,
                persistence: Persistence::Reuse,
            };
            head.encode(out);
        });
    }
}

/// Reads heads into the same memory again and again.
#[derive(Debug, Default)]
pub struct HeadReader {
    head: Head,
    limits: Limits,
}

impl HeadReader {
    /// How many fields the head has, if it is a whole one.
    #[inline]
    pub fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        match parse(bytes, &mut Scan::default(), &self.limits, &mut self.head) {
            Ok(Progress::Complete) => Some(self.head.fields.len()),
            _ => None,
        }
    }
}

/// The line of the response's date.
#[inline]
pub fn date_line(unix_seconds: u64) -> [u8; 37] {
    date::line(unix_seconds)
}

/// The cache of open files, which keeps one file under as many names as it is told.
#[derive(Debug)]
pub struct FileCache {
    cache: Cache,
    entry: Rc<Entry>,
}

const ROOT: RootId = RootId(1);

impl FileCache {
    /// # Errors
    /// Those of opening `file`.
    pub fn new(folder: &Path, file: &Path, unix_seconds: u64) -> io::Result<FileCache> {
        let folder = bast::fs::open_directory(folder)?;
        let (file, metadata) = bast::fs::open_beneath(folder.as_fd(), file)?;
        let entry = Rc::new(Entry::new(file, &metadata, "text/plain", unix_seconds));
        Ok(FileCache { cache: Cache::new(), entry })
    }

    /// Whether there is a fresh file of this name.
    #[inline]
    pub fn look_up(&self, name: &[u8], unix_seconds: u64) -> bool {
        self.cache.get(ROOT, name, unix_seconds).is_some()
    }

    #[inline]
    pub fn insert(&mut self, name: &[u8], unix_seconds: u64) {
        self.cache.insert(ROOT, name, Rc::clone(&self.entry), unix_seconds);
    }

    /// How many files are left.
    #[inline]
    pub fn sweep(&mut self, unix_seconds: u64) -> usize {
        self.cache.sweep(unix_seconds);
        self.cache.len()
    }
}

/// A connection under the watch of the timeouts.
#[derive(Debug)]
pub struct Watched {
    registry: Rc<Registry>,
    activity: Rc<Activity>,
    _membership: Membership,
}

impl Watched {
    #[expect(clippy::new_without_default, reason = "each is another registry")]
    pub fn new() -> Watched {
        let registry = Registry::new(TimeLimits::default());
        let activity = Activity::new((&Twin::new(&[])).into(), None);
        let membership = registry.register(&activity);
        Watched { registry, activity, _membership: membership }
    }

    /// Says that the connection is not quiet, as each step of a request does.
    #[inline]
    pub fn tickle(&self) {
        self.activity.enter(Phase::Head);
    }

    /// Another connection, to be registered.
    pub fn another(&self) -> Unwatched {
        Unwatched {
            registry: Rc::clone(&self.registry),
            activity: Activity::new((&Twin::new(&[])).into(), None),
        }
    }
}

/// A connection that is not registered.
#[derive(Debug)]
pub struct Unwatched {
    registry: Rc<Registry>,
    activity: Rc<Activity>,
}

impl Unwatched {
    /// Registers it, and takes it out again.
    #[inline]
    pub fn come_and_go(&self) {
        drop(self.registry.register(&self.activity));
    }
}
