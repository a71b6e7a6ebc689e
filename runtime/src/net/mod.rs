#![forbid(unsafe_code)]
//! TCP in the manner of `std::net`: calls that have to wait park the calling green thread only.
//!
//! Every call works on plain OS threads too, where it blocks that OS thread.

mod direction;
mod resolve;
mod split;
mod tcp;
mod unshared;
mod wait;

pub use resolve::{ToSocketAddrs, lookup_host, lookup_host_timeout};
pub use split::{ReadHalf, WriteHalf};
pub use tcp::{TcpListener, TcpStream};
pub use unshared::Unshared;

pub(crate) use wait::{Operation, retry};
