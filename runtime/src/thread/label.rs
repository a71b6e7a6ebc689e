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
