#![forbid(unsafe_code)]
//! What a thread is called.

use std::fmt;
use std::net::SocketAddr;

/// The name of a thread, for people: it appears in the thread list, in panic and overflow messages.
///
/// A label is rendered only when somebody looks, so that labelling a million connections with their peers formats
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Label {
    /// Not labelled.
    #[default]
    None,
    /// A name known at compile time.
    Static(&'static str),
    /// A name made at run time.
    Owned(Box<str>),
    /// A role and the peer it is played for: `conn 192.0.2.1:4711`.
    Peer(&'static str, SocketAddr),
    /// The same with a role that many threads have, of which more is known than its name.
    Role(&'static Role, SocketAddr),
}

/// What a library's threads are for, as a `static` of that library.
///
/// ```
/// use bast::{Label, Role};
/// static WORKER: Role = Role { name: "worker", stack_set_by: "my_library::Settings::stack_bytes" };
/// let peer = "192.0.2.1:4711".parse().unwrap();
/// assert_eq!(Label::Role(&WORKER, peer).to_string(), "worker 192.0.2.1:4711");
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Role {
    /// What such a thread is called.
    pub name: &'static str,
    /// Where a program sets the size of its stack, for the message of an overflow: the program does not see the
    /// `Builder::stack_size` of the library.
    pub stack_set_by: &'static str,
}

impl Label {
    /// Whether there is nothing to show.
    pub fn is_none(&self) -> bool {
        *self == Label::None
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Label::None => Ok(()),
            Label::Static(name) => f.write_str(name),
            Label::Owned(name) => f.write_str(name),
            Label::Peer(role, peer) => write!(f, "{role} {peer}"),
            Label::Role(role, peer) => write!(f, "{} {peer}", role.name),
        }
    }
}

impl From<&'static str> for Label {
    fn from(name: &'static str) -> Label {
        Label::Static(name)
    }
}

impl From<String> for Label {
    fn from(name: String) -> Label {
        Label::Owned(name.into_boxed_str())
    }
}
