//! A directory whose files are served, and the way from a request target to an open file below it.
//!
//! The one file here that joins the parts: name (`path`), open files of this capability (`cache`), the file
//! system (`bast::fs`). No borrow of the cache is held while the file system is asked or a thread is spawned.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bast::fs;

use super::cache::{Cache, RootId, TTL_SECONDS};
use super::content_type;
use super::entry::Entry;
use super::path::{BadPath, SafePath};

thread_local! {
    /// The open files of this capability. Borrowed with `try_`: where a heap allocation is a yield point, two
    /// green threads can meet here, and the second one then goes without the cache.
    static CACHE: RefCell<Cache> = const { RefCell::new(Cache::new()) };

    /// Does a thread of this capability sweep the cache?
    static IS_SWEPT: Cell<bool> = const { Cell::new(false) };
}

/// A directory, open for as long as this value lives; it may be renamed meanwhile.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    path: PathBuf,
    id: RootId,
}

/// Why a target leads to no file.
#[derive(Debug)]
pub enum Missing {
    /// The target is not a path: a 400.
    Malformed,
    /// No file that may be served has this name: a 404. What the file system forbids counts as missing too, so
    /// that an answer does not tell what exists.
    NotFound,
    /// The name is that of a directory, without the slash at its end.
    Directory,
    /// The file system could not say, or there is no descriptor left: a 503, and a line in the log.
    Unavailable(io::Error),
}

impl Root {
    /// Opens the directory.
    ///
    /// # Errors
    /// Those of opening it, with its path in the message.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Root> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let path = path.as_ref();
        let directory = fs::open_directory(path)
            .map_err(|error| io::Error::new(error.kind(), format!("root {}: {error}", path.display())))?;
        Ok(Root { directory, path: path.into(), id: RootId(NEXT_ID.fetch_add(1, Ordering::Relaxed)) })
    }

    /// The path by which the directory was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that a request target names, at most [`TTL_SECONDS`](super::TTL_SECONDS) behind the file system.
    /// A hit costs a hash of the name and no system call; it allocates nothing if the target is plain
    /// ([`SafePath::from_target`]).
    ///
    /// # Errors
    /// [`Missing`] says why there is none.
    pub fn find(&self, target: &[u8]) -> Result<Rc<Entry>, Missing> {
        self.find_at(target, bast::time::coarse_unix_seconds())
    }

    fn find_at(&self, target: &[u8], now: u64) -> Result<Rc<Entry>, Missing> {
        let path = SafePath::from_target(target)?;
        let name = path.as_bytes();
        let cached = CACHE.with(|cache| cache.try_borrow().ok()?.get(self.id, name, now));
        if let Some(entry) = cached {
            return Ok(entry);
        }
        let file = path.to_file();
        let (opened, metadata) = fs::open_beneath(self.directory.as_fd(), &file)?;
        let content_type = content_type::by_name(file.as_os_str().as_encoded_bytes());
        let entry = Rc::new(Entry::new(opened, &metadata, content_type, now));
        CACHE.with(|cache| {
            if let Ok(mut cache) = cache.try_borrow_mut() {
                cache.insert(self.id, name, Rc::clone(&entry), now);
            }
        });
        ensure_swept();
        Ok(entry)
    }
}

/// Starts the thread that sweeps the cache of this capability, unless it is there. It ends when the cache is empty, so
/// that a server without requests for files does not wake up. Outside a green thread, and where no thread can be
/// spawned, the cache is swept when it is full.
fn ensure_swept() {
    if !bast::is_green() || IS_SWEPT.replace(true) {
        return;
    }
    // Moved into the thread, so that it is dropped however that ends: killed, or never started.
    let swept = Swept;
    let spawned = bast::Builder::new().label("file cache sweep").spawn_local(move || {
        let _swept = swept;
        while CACHE.with(|cache| cache.try_borrow().is_ok_and(|cache| !cache.is_empty())) {
            bast::sleep(Duration::from_secs(TTL_SECONDS));
            CACHE.with(|cache| {
                if let Ok(mut cache) = cache.try_borrow_mut() {
                    cache.sweep(bast::time::coarse_unix_seconds());
                }
            });
        }
    });
    if let Err(error) = spawned {
        log::debug!("no thread to sweep the file cache: {error}");
    }
}

struct Swept;

impl Drop for Swept {
    fn drop(&mut self) {
        // When the OS thread ends, the cell may be gone before the closure of a thread that never ran.
        let _ = IS_SWEPT.try_with(|swept| swept.set(false));
    }
}

impl From<BadPath> for Missing {
    fn from(bad: BadPath) -> Missing {
        match bad {
            BadPath::Malformed => Missing::Malformed,
            BadPath::NoSuchFile => Missing::NotFound,
        }
    }
}

impl From<io::Error> for Missing {
    /// Reads an error of [`fs::open_beneath`].
    fn from(error: io::Error) -> Missing {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::IsADirectory => Missing::Directory,
            // A step through a file (`/index.html/x`), out of the root, to a FIFO, into what is not ours, or a
            // name longer than the file system has.
            Kind::NotFound
            | Kind::NotADirectory
            | Kind::CrossesDevices
            | Kind::InvalidInput
            | Kind::PermissionDenied
            | Kind::InvalidFilename => Missing::NotFound,
            _ => Missing::Unavailable(error),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Malformed => f.write_str("malformed path"),
            Missing::NotFound => f.write_str("no such file"),
            Missing::Directory => f.write_str("a directory"),
            Missing::Unavailable(_) => f.write_str("the file cannot be opened"),
        }
    }
}

impl std::error::Error for Missing {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Missing::Unavailable(error) => Some(error),
            Missing::Malformed | Missing::NotFound | Missing::Directory => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::tests::Scratch;
    use std::os::unix::fs::symlink;
    use std::time::{Instant, SystemTime};

    fn content(entry: &Entry) -> Vec<u8> {
        let mut buf = vec![0; usize::try_from(entry.len()).expect("a small file")];
        assert_eq!(entry.file().read_at(&mut buf, 0).expect("read"), buf.len());
        buf
    }

    #[test]
    fn a_target_finds_its_file_with_everything_a_response_says_about_it() {
        let scratch = Scratch::new();
        scratch.write("index.html", b"<p>");
        scratch.write("a/b c.PNG", b"image");
        // In the past: what was written just now may be ahead of the coarse clock, and is then said to be of this second.
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = std::fs::File::options().write(true).open(scratch.path().join("a/b c.PNG"));
        file.and_then(|file| file.set_modified(modified)).expect("set the time");
        let root = Root::open(scratch.path()).expect("open the root");

        let index = root.find(b"/").expect("the index");
        assert_eq!((index.content_type(), content(&index)), ("text/html; charset=utf-8", b"<p>".to_vec()));
        let image = root.find(b"/a//b%20c.PNG?v=1").expect("the image");
        assert_eq!((image.content_type(), image.len()), ("image/png", 5));
        assert_ne!(index.etag(), image.etag());
        assert!(image.etag().starts_with('"') && image.etag().ends_with('"'));
        assert_eq!(image.last_modified(), httpdate::fmt_http_date(modified));
    }

    #[test]
    fn what_is_no_file_below_the_root_is_missing_for_its_own_reason() {
        let scratch = Scratch::new();
        scratch.write("file", b"");
        scratch.write("dir/inner", b"");
        symlink("/etc/passwd", scratch.path().join("passwd")).expect("symlink");
        symlink("..", scratch.path().join("up")).expect("symlink");
        let root = Root::open(scratch.path()).expect("open the root");
        let too_long = format!("/{}", "n".repeat(256));
        let far_too_long = format!("/{}", "n/".repeat(5000));
        for target in [
            "/missing",
            "/file/",
            "/file/x",
            "/dir/",
            "/passwd",
            "/up/x",
            "/../x",
            "/%2e%2e/x",
            "/a%2fb",
            "/%00",
            &too_long,
            &far_too_long,
        ] {
            assert!(matches!(root.find(target.as_bytes()), Err(Missing::NotFound)), "{target}");
        }
        assert!(matches!(root.find(b"/dir"), Err(Missing::Directory)));
        assert!(matches!(root.find(b"/%zz"), Err(Missing::Malformed)));
    }

    #[test]
    fn a_root_that_cannot_be_opened_is_named_in_the_error() {
        let error = Root::open("/nowhere/at/all").expect_err("no such root");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }

    #[test]
    fn a_changed_file_is_seen_after_the_time_to_live_and_not_before() {
        let scratch = Scratch::new();
        scratch.write("file", b"old");
        let root = Root::open(scratch.path()).expect("open the root");
        let now = bast::time::coarse_unix_seconds();
        let find = |now| root.find_at(b"/file", now);

        let old = find(now).expect("the old file");
        scratch.write("new", b"new, and longer");
        std::fs::rename(scratch.path().join("new"), scratch.path().join("file")).expect("rename");
        assert!(Rc::ptr_eq(&find(now).expect("the cached file"), &old));

        let new = find(now + TTL_SECONDS).expect("the new file");
        assert_eq!(content(&new), b"new, and longer");
        assert_ne!(new.etag(), old.etag());
        // A response that has begun with the old file ends with it.
        assert_eq!(content(&old), b"old");

        std::fs::remove_file(scratch.path().join("file")).expect("remove");
        assert!(matches!(find(now + 2 * TTL_SECONDS), Err(Missing::NotFound)));
        scratch.write("file", b"back at once");
        assert_eq!(content(&find(now + 2 * TTL_SECONDS).expect("misses are not kept")), b"back at once");
    }

    #[test]
    fn a_file_that_nobody_asks_for_is_closed_and_so_is_the_thread_that_saw_to_it() {
        bast::run(|| {
            let scratch = Scratch::new();
            scratch.write("file", b"");
            let root = Root::open(scratch.path()).expect("open the root");
            let entry = root.find(b"/file").expect("find");
            assert_eq!(Rc::strong_count(&entry), 2, "the cache's and ours");
            assert!(IS_SWEPT.get());
            let started = Instant::now();
            while Rc::strong_count(&entry) > 1 || IS_SWEPT.get() {
                assert!(started.elapsed() < Duration::from_secs(20), "never swept");
                bast::sleep(Duration::from_millis(10));
            }
        });
    }

    #[test]
    fn a_date_is_neither_in_the_future_nor_before_1970() {
        let scratch = Scratch::new();
        let root = Root::open(scratch.path()).expect("open the root");
        let epoch = SystemTime::UNIX_EPOCH;
        let now = 1_349_077_130;
        for (name, modified, last_modified, strong) in [
            ("future", epoch + Duration::from_secs(1 << 33), "Mon, 01 Oct 2012 07:38:50 GMT", false),
            ("now", epoch + Duration::from_secs(now), "Mon, 01 Oct 2012 07:38:50 GMT", false),
            ("just before", epoch + Duration::from_secs(now - 1), "Mon, 01 Oct 2012 07:38:49 GMT", true),
            ("ancient", epoch - Duration::from_millis(1500), "Thu, 01 Jan 1970 00:00:00 GMT", true),
        ] {
            scratch.write(name, b"");
            let file = std::fs::File::options().write(true).open(scratch.path().join(name)).expect("open");
            file.set_modified(modified).expect("set the time of modification");
            let entry = root.find_at(format!("/{}", name.replace(' ', "%20")).as_bytes(), now).expect("find");
            assert_eq!(entry.last_modified(), last_modified, "{name}");
            assert_eq!(
                httpdate::parse_http_date(last_modified).ok(),
                epoch.checked_add(Duration::from_secs(entry.representation().modified_unix_seconds))
            );
            assert_eq!(entry.representation().last_modified_is_strong, strong, "{name}");
        }
    }

    #[test]
    fn equal_names_below_two_roots_are_two_files() {
        let (one, two) = (Scratch::new(), Scratch::new());
        one.write("name", b"one");
        two.write("name", b"two");
        let roots = [&one, &two].map(|scratch| Root::open(scratch.path()).expect("open the root"));
        // Twice, so that the second round comes from the cache.
        for _ in 0..2 {
            let [first, second] = roots.each_ref().map(|root| content(&root.find(b"/name").expect("find")));
            assert_eq!((first, second), (b"one".to_vec(), b"two".to_vec()));
        }
    }
}
