//! How a server gets its listening socket from the process before it, and gives it to the one after it.
//!
//! A new version of a program takes over from the one that runs, without a connection refused or reset: both share one
//! listening socket, whose queue is never emptied into nothing. Every version runs the same code:
//!
//! ```no_run
//! use bast_server::{Request, Router, Server};
//!
//! # fn main() -> std::io::Result<()> {
//! let path = "/run/hello/handover";
//! let server = match Server::take_over(path)? {
//!     Some(server) => server,                  // from the one that runs
//!     None => Server::bind("127.0.0.1:8080")?, // nobody runs
//! };
//! server.hand_over_at(path).serve(Router::new().get("/", |_: &mut Request| "hello"))
//! # }
//! ```
//! Start it again and the first one drains and ends. A socket that the supervisor holds is the other way:
//! [`Server::from_env`](crate::Server::from_env).
//!
//! Note \[handover\]. The two speak over a Unix socket at the path. Nothing is closed before the successor serves:
//!
//! ```text
//!      predecessor                                   successor
//!          │ ◀──────────────── connect ───────────────── │  take_over
//!          │ ── HELLO, with the listening socket ──────▶ │
//!          │                                             │  serve: it accepts
//!          │ ◀───────────────── READY ────────────────── │
//!   closes the path's socket, accepts no more            │
//!          │ ── YOURS ─────────────────────────────────▶ │  its own socket takes the path
//!        drains                                        serves
//! ```
//! A successor that dies before READY has changed nothing, and so has one that does not say it within five minutes. A
//! predecessor that dies after HELLO leaves a successor with the socket. From READY on the successor serves, whatever
//! happens: if the path is not free then, it tries until it is. A drain that begins while a successor has not said READY
//! leaves the queue to it, and says so in the log. One successor is dealt with at a time; others wait, and are turned
//! away when the socket is gone. The socket of the path is of mode 0600, and
//! both sides insist that the other runs as the same user (SO_PEERCRED, unix(7)).
#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bast::net::{TcpListener, UnixListener, UnixStream};

/// What the predecessor says with the socket; the byte behind it is its [`Sharing`]. The digit is the version of this
/// protocol: old and new programs may differ in more than that.
const HELLO: &[u8] = b"bast handover 1 ";
const READY: &[u8] = b"ready\n";
const YOURS: &[u8] = b"yours\n";

/// How long one side waits for a word that the other says without having to work for it.
const WORD_LIMIT: Duration = Duration::from_secs(10);

/// How long a successor may take from the socket to READY. It may have much to load; but while it is waited for no other
/// can come, so that one that hangs must not do so for ever.
const READY_LIMIT: Duration = Duration::from_secs(5 * 60);

/// How often a server that has taken over tries to take the path, when something is in its way.
const PUBLISH_PAUSE: Duration = Duration::from_secs(1);

/// How often a server tries to let a successor in, when it has no descriptor for it. Less than what that one waits for the
/// first word.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const _: () = assert!(ACCEPT_PAUSE.as_secs() < WORD_LIMIT.as_secs());

/// Who else may accept from a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Nobody: it ends with the server.
    Sole,
    /// The program gave it, and nobody knows who has it besides. It goes on listening, but what waits in its queue is
    /// served, since that may be lost otherwise.
    Unknown,
    /// Somebody who goes on when the server ends: it is left with all that waits in its queue.
    Shared,
}

impl Sharing {
    fn letter(self) -> u8 {
        match self {
            Sharing::Sole => b's',
            Sharing::Unknown => b'u',
            Sharing::Shared => b'm',
        }
    }

    fn of_letter(letter: u8) -> Option<Sharing> {
        [Sharing::Sole, Sharing::Unknown, Sharing::Shared]
            .into_iter()
            .find(|sharing| sharing.letter() == letter)
    }
}

/// What a successor was given.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) listener: TcpListener,
    pub(crate) sharing: Sharing,
    pub(crate) predecessor: Predecessor,
}

/// Takes the socket from whoever serves at the path; `None` if nobody does.
pub(crate) fn take(path: &Path) -> io::Result<Option<Taken>> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        // No file, or one that a server left which did not end in order.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    insist_on_own_user(&stream)?;
    stream.set_read_timeout(Some(WORD_LIMIT))?;
    stream.set_write_timeout(Some(WORD_LIMIT))?;
    let mut hello = [0; HELLO.len() + 1];
    let mut fds = Vec::new();
    let mut received = 0;
    while received < hello.len() {
        match stream.recv_with_fds(&mut hello[received..], &mut fds)? {
            0 => {
                let text = "the server hands over to somebody else, or has just ended";
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
            }
            count => received += count,
        }
    }
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "no hand-over of this version");
    let (words, letter) = hello.split_at(HELLO.len());
    let (Some(sharing), [fd]) = (
        Sharing::of_letter(letter[0]).filter(|_| words == HELLO),
        <[OwnedFd; 1]>::try_from(fds).map_err(|_| malformed())?,
    ) else {
        return Err(malformed());
    };
    let listener = TcpListener::try_from(fd)?;
    // A socket of another kind has no such address.
    listener.local_addr()?;
    let predecessor = Predecessor { stream, path: path.to_owned(), identity: identity(path).ok() };
    Ok(Some(Taken { listener, sharing, predecessor }))
}

/// The process before this one, which goes on serving until it is told that this one does.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: UnixStream,
    /// Where it was met, and the file that was there.
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Predecessor {
    /// Fails where it has given this process up, and goes on: then nothing has happened yet.
    ///
    /// # Errors
    /// `ConnectionAborted`.
    pub(crate) fn insist_it_waits(&self) -> io::Result<()> {
        // It says nothing before it hears READY.
        let waits = matches!(self.stream.try_read(&mut [0]), Ok(None));
        if !waits && UnixStream::connect(&self.path).is_ok() {
            let text =
                format!("the server before has not waited any longer than {READY_LIMIT:?}, and goes on");
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
        }
        Ok(())
    }

    /// Says that this process accepts. From now on nobody else may.
    pub(crate) fn relieve(mut self) -> Relieved {
        if let Err(error) = self.stream.write_all(READY) {
            log::warn!("the server before does not listen: {error}");
        }
        Relieved { stream: self.stream }
    }
}

/// The process before this one, which was told to let go.
#[derive(Debug)]
pub(crate) struct Relieved {
    stream: UnixStream,
}

impl Relieved {
    /// Waits until it has: its path is free then, and it does not accept any more. `false` where it has gone without a
    /// word.
    pub(crate) fn wait(mut self) -> bool {
        let mut word = [0; YOURS.len()];
        let mut received = 0;
        let mut said = false;
        while received < word.len() {
            match self.stream.read(&mut word[received..]) {
                Ok(0) => {
                    log::error!(
                        "the server before has hung up without a word; if it still lives, both serve"
                    );
                    return false;
                }
                Ok(count) => received += count,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    if !std::mem::replace(&mut said, true) {
                        log::error!(
                            "the server before does not let go within {WORD_LIMIT:?}; both serve until then"
                        );
                    }
                }
                Err(error) => {
                    log::error!("the server before does not answer, and may still serve: {error}");
                    return false;
                }
            }
        }
        if word != YOURS {
            log::error!("the server before answers in words that are not known");
            return false;
        }
        log::info!("took over from the server before");
        true
    }
}

/// The other end of [`take`]: a Unix socket, first under a name of its own.
#[derive(Debug)]
pub(crate) struct Offer {
    listener: UnixListener,
    path: PathBuf,
    place: Place,
    lent: Arc<Lent>,
    ready_limit: Duration,
}

/// Whether a successor has the listening socket and has not said READY yet.
///
/// It sets `is_out` and then looks whether the server drains; the drain begins and then looks at `is_out`. All four are
/// SeqCst, so that one of the two sees the other: either nothing is lent, or the drain leaves the queue alone.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    is_out: AtomicBool,
}

impl Lent {
    pub(crate) fn is_out(&self) -> bool {
        self.is_out.load(Ordering::SeqCst)
    }
}

/// What became of a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It serves.
    Serves,
    /// It said nothing, or was not to be trusted: all is as before.
    Failed,
    /// The server ends.
    Ends,
}

impl Offer {
    /// Prepares to hand over at the path, which is not touched yet. The predecessor, if there is one, may be at it.
    ///
    /// # Errors
    /// `AddrInUse` where another server offers at the path, `AlreadyExists` where something other than a socket is there, and
    /// those of making a socket beside it.
    pub(crate) fn prepare(path: &Path, predecessor: Option<&Predecessor>) -> io::Result<Offer> {
        insist_on_room(path, predecessor)?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", process::id()));
        let own = PathBuf::from(name);
        // Of a process that had the same id.
        match fs::remove_file(&own) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&own)?;
        let place = Place::of(own)?;
        fs::set_permissions(&place.path, Permissions::from_mode(0o600))?;
        Ok(Offer { listener, path: path.to_owned(), place, lent: Arc::default(), ready_limit: READY_LIMIT })
    }

    /// Takes the path: from now on there is something to be had at it. Who was there must have gone.
    ///
    /// # Errors
    /// Those of [`prepare`](Offer::prepare).
    pub(crate) fn publish(&mut self) -> io::Result<()> {
        insist_on_room(&self.path, None)?;
        fs::rename(&self.place.path, &self.path)?;
        self.place.path.clone_from(&self.path);
        Ok(())
    }

    /// The same for a server that has taken over, hence must go on: waits until it can be done.
    pub(crate) fn publish_in_the_end(&mut self) {
        let mut said = false;
        while let Err(error) = self.publish() {
            if !std::mem::replace(&mut said, true) {
                log::error!("no successor can come until this changes: {error}");
            }
            bast::sleep(PUBLISH_PAUSE);
        }
        if said {
            log::info!("a successor can come now");
        }
    }

    pub(crate) fn lent(&self) -> Arc<Lent> {
        Arc::clone(&self.lent)
    }

    /// Hands `socket` to the first successor that comes and serves, calls `relieved`, and returns. `is_draining` says
    /// whether the server has begun to end.
    pub(crate) fn serve(
        self,
        socket: &TcpListener,
        sharing: Sharing,
        is_draining: impl Fn() -> bool,
        relieved: impl FnOnce(),
    ) {
        let mut said = false;
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Descriptors may be short, and a new version may be just what is needed then: it waits in the queue.
                    if !std::mem::replace(&mut said, true) {
                        log::error!("no successor can come until this changes: {error}");
                    }
                    bast::sleep(ACCEPT_PAUSE);
                    continue;
                }
            };
            said = false;
            let outcome = self.offer(&mut stream, socket, sharing, &is_draining).unwrap_or_else(|error| {
                log::error!("a successor failed, and this server goes on: {error}");
                Outcome::Failed
            });
            match outcome {
                Outcome::Serves => {
                    log::info!("handed over to another process");
                    relieved();
                    // The path is closed before the successor is told that it is free, and not removed, as it is about
                    // to be replaced.
                    let Offer { listener, place, .. } = self;
                    place.leave();
                    drop(listener);
                    if let Err(error) = stream.write_all(YOURS) {
                        log::warn!("the successor does not listen: {error}");
                    }
                    return;
                }
                Outcome::Failed => self.lent.is_out.store(false, Ordering::SeqCst),
                Outcome::Ends => return,
            }
        }
    }

    fn offer(
        &self,
        stream: &mut UnixStream,
        socket: &TcpListener,
        sharing: Sharing,
        is_draining: &impl Fn() -> bool,
    ) -> io::Result<Outcome> {
        insist_on_own_user(stream)?;
        stream.set_write_timeout(Some(WORD_LIMIT))?;
        self.lent.is_out.store(true, Ordering::SeqCst);
        if is_draining() {
            self.lent.is_out.store(false, Ordering::SeqCst);
            return Ok(Outcome::Ends);
        }
        let hello = [HELLO, &[sharing.letter()]].concat();
        let sent = stream.send_with_fds(&hello, &[socket.as_fd()])?;
        // The descriptor is with the first byte.
        stream.write_all(&hello[sent..])?;
        let mut word = [0; READY.len()];
        let heard = bast::timeout(self.ready_limit, || stream.read_exact(&mut word));
        heard.unwrap_or_else(|_| {
            let text = format!("it has not said that it serves within {:?}", self.ready_limit);
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })?;
        if word != READY {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no hand-over of this version"));
        }
        Ok(Outcome::Serves)
    }
}

/// Fails where the path is not free for a socket. The file of the predecessor will be.
fn insist_on_room(path: &Path, predecessor: Option<&Predecessor>) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let text = format!("{} is there and no socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let is_predecessors = predecessor.is_some_and(|it| it.identity == Some((found.dev(), found.ino())));
    if !is_predecessors && UnixStream::connect(path).is_ok() {
        let text = format!("a server that runs hands over at {}", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    }
    Ok(())
}

/// A socket's file, which is removed with its owner if it is still the same.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Device and inode.
    identity: Option<(u64, u64)>,
}

impl Place {
    fn of(path: PathBuf) -> io::Result<Place> {
        let identity = Some(identity(&path)?);
        Ok(Place { path, identity })
    }

    /// Leaves the file where it is.
    fn leave(mut self) {
        self.identity = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path).ok() == self.identity {
            // Whoever is not allowed to leaves it; the next server replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The listening socket is for the same user only, and is taken from nobody else.
fn insist_on_own_user(stream: &UnixStream) -> io::Result<()> {
    // Who made a pair of sockets is this process.
    let own = UnixStream::pair()?.0.peer_cred()?.uid;
    let other = stream.peer_cred()?.uid;
    if own == other {
        return Ok(());
    }
    let text = format!("user {other} is at the other end, and this is user {own}");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Removed at the end, with what is in it.
    struct Directory(PathBuf);

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_successor_that_hangs_in_its_start_is_given_up_and_the_next_one_takes_over() {
        let directory = Directory(std::env::temp_dir().join(format!("bast-hangs-{}", process::id())));
        fs::create_dir(&directory.0).expect("a new directory");
        let path = directory.0.join("socket");
        bast::run(move || {
            let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
            let mut offer = Offer::prepare(&path, None).expect("a socket beside the path");
            offer.publish().expect("nothing is at the path");
            offer.ready_limit = Duration::from_secs(1);
            let lent = offer.lent();
            let (relieved, is_relieved) = bast::sync::channel(1);
            let server = bast::spawn(move || {
                offer.serve(&socket, Sharing::Sole, || false, || relieved.send(()).expect("the test waits"));
            });
            let hanging = take(&path).expect("a server").expect("one that runs").predecessor;
            hanging.insist_it_waits().expect("it has not hung up yet");
            assert!(lent.is_out());
            let next = take(&path).expect("it comes to this one, too").expect("one that runs").predecessor;
            let error = hanging.insist_it_waits().expect_err("it was given up");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            assert!(next.relieve().wait(), "it hears the last word");
            is_relieved.recv_timeout(WORD_LIMIT).expect("the server drains");
            server.join().expect("no panic");
        });
    }
}
