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
//! A successor that dies before READY has changed nothing. A predecessor that dies after HELLO leaves a successor with
//! the socket. A drain that begins while a successor has not said READY leaves the queue to it. One successor is dealt
//! with at a time; others wait, and are turned away when the socket is gone. The socket of the path is of mode 0600, and
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

/// How long one side waits for a word that the other says without having to work for it. READY has no limit: a
/// successor may have much to load before it serves.
const WORD_LIMIT: Duration = Duration::from_secs(10);

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
    Ok(Some(Taken { listener, sharing, predecessor: Predecessor { stream } }))
}

/// The process before this one, which goes on serving until it is told that this one does.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: UnixStream,
}

impl Predecessor {
    /// Says that this process accepts. On return the predecessor does not any more, if it still lives.
    pub(crate) fn relieve(mut self) {
        let mut word = [0; YOURS.len()];
        let heard = self.stream.write_all(READY).and_then(|()| self.stream.read_exact(&mut word));
        match heard {
            Ok(()) if word == YOURS => log::info!("took over from the server before"),
            Ok(()) => log::warn!("the server before answers in words that are not known"),
            Err(error) => log::warn!("the server before does not answer: {error}"),
        }
    }
}

/// The other end of [`take`]: a Unix socket, first under a name of its own.
#[derive(Debug)]
pub(crate) struct Offer {
    listener: UnixListener,
    path: PathBuf,
    place: Place,
    lent: Arc<Lent>,
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
    /// Prepares to hand over at the path, which is not touched yet.
    pub(crate) fn prepare(path: &Path) -> io::Result<Offer> {
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
        Ok(Offer { listener, path: path.to_owned(), place, lent: Arc::default() })
    }

    /// Takes the path: from now on there is something to be had at it. Who was there must have gone.
    ///
    /// # Errors
    /// `AddrInUse` where somebody offers at the path, `AlreadyExists` where something other than a socket is there.
    pub(crate) fn publish(&mut self) -> io::Result<()> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if !found.file_type().is_socket() => {
                let text = format!("{} is there and no socket", self.path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Ok(_) if UnixStream::connect(&self.path).is_ok() => {
                let text = format!("a server that runs hands over at {}", self.path.display());
                return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::rename(&self.place.path, &self.path)?;
        self.place.path.clone_from(&self.path);
        Ok(())
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
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    log::error!("no successor can come any more: {error}");
                    return;
                }
            };
            let outcome = self.offer(&mut stream, socket, sharing, &is_draining).unwrap_or_else(|error| {
                log::warn!("a successor failed, and this server goes on: {error}");
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
        stream.read_exact(&mut word)?;
        if word != READY {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no hand-over of this version"));
        }
        Ok(Outcome::Serves)
    }
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
