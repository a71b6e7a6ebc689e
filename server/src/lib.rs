//! A direct-style blocking HTTP server on green threads.
//!
//! ```no_run
//! use bast_server::{Error, Request, Response, Router, Server};
//!
//! fn main() -> std::io::Result<()> {
//!     let app = Router::new()
//!         .get("/", |_: &mut Request| Response::text("hello"))
//!         .get("/users/{id}", user)
//!         .files("/", "www");
//!     Server::bind("127.0.0.1:8080")?.serve(app) // returns after a graceful drain
//! }
//!
//! fn user(req: &mut Request) -> Result<Response, Error> {
//!     let id: u64 = req.param("id")?; // a bad number is a 400
//!     Ok(Response::text(format!("user {id}")))
//! }
//! ```
//!
//! A [`Handler`] is a plain function. It runs on the green thread of its connection and may block as it likes: only
//! that connection waits. [`Limits`] and [`TimeLimits`] are on by default.
//!
//! In a closure the type of the parameter has to be written down, as above: every `Fn(&mut Request) -> R` is a handler, but a
//! handler need not be a function, so that the compiler does not guess. (Without it, it says `type annotations needed`.)
//!
//! ```compile_fail,E0282
//! let app = bast_server::Router::new().get("/", |request| request.path().to_owned());
//! ```
//!
//! # Cargo features
//! | feature | on by default | what it adds |
//! |---|---|---|
//! | `json` | yes | [`Request::json`], [`form`](Request::form), [`query_as`](Request::query_as), [`path_as`](Request::path_as), [`Response::json`]: types of the program's own, by serde |
//! | `gzip` | yes | `middleware::Compress` and `Decompress` (gzip and deflate), and `gzip`: bodies joined from compressed fragments |
//! | `websocket` | yes | `websocket`, with compression where `gzip` is on, too, and `client::websocket` |
//! | `brotli`, `zstd` | no | further codings for `Compress` |
//! | `tls` | no | `tls`: HTTPS by rustls |
//! | `http-types` | no | `http_types`: from and to the types of the `http` crate |
//! | `testing` | no | `testing::TestClient` and `TestServer`; belongs into `[dev-dependencies]` |
//!
//! In debug builds the compressors are slow, and want much stack, unless dependencies are optimised:
//!
//! ```toml
//! [profile.dev.package."*"]
//! opt-level = 2
//! ```
//!
//! # Logging
//! Everything goes to the [`log`] facade. Install a logger, else the causes of 500s are seen by nobody: clients are
//! told the status only. With env_logger, say:
//!
//! ```ignore
//! // in Cargo.toml: env_logger = "0.11"
//! env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
//! ```
//!
//! What the server did wrong, a panic of a handler, and an [`Error`] that is a 5xx are errors there; what happens to it
//! is info or a warning; what a client did wrong is debug.
//!
//! A panic is one line that says where it began. With `RUST_BACKTRACE=1` the stack follows, some forty lines of it;
//! `RUST_LIB_BACKTRACE=0` beside that keeps it out of the log and leaves std's own message on stderr as it is.
#![forbid(unsafe_code)]

mod admission;
#[cfg(feature = "benching")]
#[doc(hidden)]
pub mod benching;
mod buffer;
mod class;
pub mod client;
mod coding;
mod connection;
#[doc(hidden)]
pub mod constant;
mod cookie;
mod date;
mod dump;
mod error;
mod extensions;
mod extract;
pub mod file;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "gzip")]
pub mod gzip;
mod handler;
pub mod handover;
pub mod hooks;
pub mod html;
mod http1;
#[cfg(feature = "http-types")]
pub mod http_types;
mod inflate;
mod limits;
mod listener;
mod load;
mod message;
mod meter;
pub mod metrics;
pub mod middleware;
mod pattern;
mod percent;
mod presence;
mod printable;
pub mod proxy;
mod refusal;
mod request;
mod response;
mod router;
mod sent;
mod server;
mod settings;
mod shared;
mod shutdown;
pub mod sse;
#[cfg(feature = "testing")]
pub mod testing;
mod timeout;
#[cfg(feature = "tls")]
pub mod tls;
pub mod topic;
mod transport;
mod upgrade;
#[cfg(feature = "websocket")]
pub mod websocket;
mod whereabouts;

pub use coding::Coding;
pub use constant::Constant;
pub use cookie::{Cookie, SameSite};
pub use dump::dump_handler;
pub use error::Error;
pub use extensions::Extensions;
pub use handler::Handler;
pub use hooks::{Cause, Closed, Fault, FaultKind, Hooks};
pub use http1::reader::BodyReader;
pub use http1::stream::BodyWriter;
pub use limits::{Limits, Overload};
pub use message::{Method, Status, Version};
pub use metrics::Metrics;
pub use middleware::{Middleware, Next, With};
pub use presence::{Gone, Presence};
pub use proxy::{Proxied, ProxyProtocol};
pub use request::Request;
pub use response::{Body, Bytes, FilePart, IntoResponse, Response, StreamBody};
pub use router::Router;
pub use sent::Sent;
pub use server::{Server, ServerHandle};
pub use settings::Settings;
pub use sse::{EventWriter, ServerEvent};
pub use timeout::{Phase, TimeLimits};
pub use topic::Topic;
pub use upgrade::{Upgrade, Upgraded, UpgradedReader, UpgradedWriter};

/// The programs of the README, which are to compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
