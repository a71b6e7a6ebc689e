#![forbid(unsafe_code)]
//! TCP in the manner of `std::net`: calls that have to wait park the calling green thread only.
//!
//! Every call works on plain OS threads too, where it blocks that OS thread.

mod direction;
mod socket;
mod split;
mod tcp;
mod unshared;
mod wait;

pub use socket::Socket;
pub use split::{ReadHalf, WriteHalf};
pub use tcp::{TcpListener, TcpStream};
pub use unshared::Unshared;

pub(crate) use wait::{Operation, retry};
