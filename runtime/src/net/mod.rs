#![forbid(unsafe_code)]
//! TCP, UDP and Unix sockets in the manner of `std::net`: calls that have to wait park the calling green thread only.
//!
//! ```
//! use bast::net::UnixStream;
//! use std::io::{Read, Write};
//!
//! # fn main() -> std::io::Result<()> {
//! let text = bast::run(|| {
//!     let (mut ours, mut theirs) = UnixStream::pair()?;
//!     let reader = bast::spawn(move || {
//!         let mut text = String::new();
//!         ours.read_to_string(&mut text).map(|_| text) // parks this green thread only
//!     });
//!     theirs.write_all(b"hello")?;
//!     drop(theirs);
//!     reader.join().unwrap()
//! })?;
//! assert_eq!(text, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! Every call works on plain OS threads too, where it blocks that OS thread.

mod direction;
mod endpoint;
mod inherited;
mod listening;
mod resolve;
mod socket;
mod split;
mod tcp;
mod udp;
mod unix;
mod unshared;
mod wait;

pub use inherited::{InheritedSocket, inherited_sockets};
pub use resolve::{ToSocketAddrs, lookup_host, lookup_host_timeout};
pub use socket::Socket;
pub use split::{ReadHalf, WriteHalf};
pub use tcp::{TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UCred, UnixDatagram, UnixListener, UnixStream};
pub use unshared::Unshared;

pub(crate) use wait::{Announced, Operation, read_now, readable_any, retry};
