//! A small blocking client for HTTP/1.1: for tests, for generating load, and for handlers that call upstreams.
//!
//! ```
//! use bast_server::client::Client;
//! use bast_server::{Request, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let server = Server::bind("127.0.0.1:0")?;
//! let (address, handle) = (server.local_addr()?, server.handle());
//! bast::run(move || {
//!     let served = bast::spawn(move || server.serve(|_: &mut Request| "hello"));
//!
//!     let client = Client::new();
//!     let response = client.get(format!("http://{address}/")).header("Accept", "text/plain").send()?;
//!     assert_eq!(response.status().code(), 200);
//!     assert_eq!(response.text()?, "hello");
//!
//!     handle.shutdown();
//!     served.join()??;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! On a green thread a call that waits parks that thread only; on a plain OS thread it blocks it. A client is a handle: clone
//! it freely, and share it among threads of either kind. What [`send`](Request::send) returns has the head of the response;
//! the [body](Response::body) is read as it comes, in which the server has to wait for the reader.
//!
//! # Connections
//! They are kept for the next request where both sides allow it and the body was read to its end, up to the numbers in
//! [`Limits`] and for [`TimeLimits::idle`]. Before one is used again it is looked at: one that has ended, or has said
//! something unasked, is closed instead. What ends an exchange early (an error, a kill, a [`bast::timeout`]) closes its
//! connection.
//!
//! # Safety of what is sent
//! Method, target, host and fields are checked, so that nothing that comes from elsewhere can split a request. Of what a
//! server sends, everything is bounded by [`Limits`] and [`TimeLimits`], and a response that could be understood in two
//! ways is an error.
//!
//! # WebSocket
//! `Request::websocket` opens one, and the module `websocket` here has what it gives: with the feature `websocket`.
//!
//! # Errors
//! An [`Error`] names method, origin and path of its request, and what it failed at: connecting, sending, the head of
//! the response, or its body. It does not name the query, where keys travel; put no secret into a path.
//!
//! # What it does not do
//! No TLS (an `https` URL is an error), no proxies, no cookies, no content codings, no HTTP/2. Redirects are followed only
//! if [asked for](Request::follow). Addresses of a name are tried one after the other.
#![forbid(unsafe_code)]

mod body;
mod connection;
mod error;
mod head;
mod headers;
mod limits;
mod pace;
mod place;
mod pool;
mod prepared;
mod redirect;
mod request;
mod response;
mod sending;
mod upgraded;
mod upload;
mod url;
#[cfg(feature = "websocket")]
pub mod websocket;

use std::fmt;
use std::sync::Arc;

use connection::Shared;
use pool::Pool;

use crate::class::is_field_value;
use crate::message::Method;

pub use body::Body;
pub use error::Error;
pub use headers::Headers;
pub use limits::{Limits, TimeLimits};
pub use request::Request;
pub use response::Response;
pub use upgraded::Upgraded;
pub use upload::{DuplexAnswer, DuplexWriter, Upload};

/// For the fuzz targets: status, fields and length of the head of a response, as far as it is one.
#[cfg(fuzzing)]
pub fn read_head(bytes: &[u8], to_head: bool) -> Option<(crate::Status, Headers, usize)> {
    let read = head::parse(bytes, &mut head::Scan::default(), to_head, &Limits::default());
    read.ok().flatten().map(|(head, len)| (head.status, head.headers, len))
}

/// For the fuzz targets: a URL, and what a reference means on a page there, each as authority and target of a GET.
#[cfg(fuzzing)]
pub fn read_url(text: &str, reference: &str) -> Option<[(String, String); 2]> {
    let url = url::Url::parse(text).ok()?;
    let other = url.join(reference).ok()?;
    Some([url, other].map(|url| (url.authority().to_owned(), url.target(Method::Get).to_owned())))
}

/// Makes requests, and keeps idle connections for them.
///
/// Its clones share the connections. They are closed when the last clone and the last of its responses are dropped.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// A client with the default limits.
    #[must_use]
    pub fn new() -> Client {
        Client::builder().build()
    }

    /// A client to be set up.
    pub fn builder() -> Builder {
        Builder {
            limits: Limits::default(),
            time_limits: TimeLimits::default(),
            user_agent: concat!("bast/", env!("CARGO_PKG_VERSION")).to_owned(),
            redirects_max: 0,
        }
    }

    /// A request with any method. `CONNECT` is refused: this client knows no proxies.
    pub fn request(&self, method: Method<'_>, url: impl AsRef<str>) -> Request {
        Request::new(Arc::clone(&self.shared), method, url.as_ref())
    }

    /// A `GET` request.
    pub fn get(&self, url: impl AsRef<str>) -> Request {
        self.request(Method::Get, url)
    }

    /// A `HEAD` request.
    pub fn head(&self, url: impl AsRef<str>) -> Request {
        self.request(Method::Head, url)
    }

    /// A `POST` request.
    pub fn post(&self, url: impl AsRef<str>) -> Request {
        self.request(Method::Post, url)
    }

    /// A `PUT` request.
    pub fn put(&self, url: impl AsRef<str>) -> Request {
        self.request(Method::Put, url)
    }

    /// A `PATCH` request.
    pub fn patch(&self, url: impl AsRef<str>) -> Request {
        self.request(Method::Patch, url)
    }

    /// A `DELETE` request.
    pub fn delete(&self, url: impl AsRef<str>) -> Request {
        self.request(Method::Delete, url)
    }

    /// How many connections are idle. One that its server has closed meanwhile counts until somebody looks at it.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.shared.pool.len()
    }

    /// Closes the idle connections. Those that are too old are closed whenever another is taken or kept; a client that is
    /// not used for long may want this.
    pub fn close_idle(&self) {
        self.shared.pool.clear();
    }
}

impl Default for Client {
    fn default() -> Client {
        Client::new()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("idle_connections", &self.idle_connections()).finish_non_exhaustive()
    }
}

/// Sets a [`Client`] up.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    limits: Limits,
    time_limits: TimeLimits,
    user_agent: String,
    redirects_max: u32,
}

impl Builder {
    /// What a server may send, and how many idle connections are kept.
    pub fn limits(mut self, limits: Limits) -> Builder {
        self.limits = limits;
        self
    }

    /// How long a server may take.
    pub fn time_limits(mut self, time_limits: TimeLimits) -> Builder {
        self.time_limits = time_limits;
        self
    }

    /// The value of the `User-Agent` field, `bast/` and the version by default; an empty one leaves it out.
    ///
    /// # Panics
    /// It has a control character in it.
    pub fn user_agent(mut self, user_agent: &str) -> Builder {
        assert!(is_field_value(user_agent.as_bytes()), "client: the user agent is no field value");
        user_agent.clone_into(&mut self.user_agent);
        self
    }

    /// Follows so many redirects of each request; see [`Request::follow`]. 0, the default, follows none.
    pub fn follow(mut self, redirects_max: u32) -> Builder {
        self.redirects_max = redirects_max;
        self
    }

    /// The client.
    #[must_use]
    pub fn build(self) -> Client {
        let Limits { idle_connections_max, idle_connections_per_host_max, .. } = self.limits;
        let pool = Pool::new(idle_connections_max, idle_connections_per_host_max, self.time_limits.idle);
        Client {
            shared: Arc::new(Shared {
                limits: self.limits,
                time_limits: self.time_limits,
                pool,
                user_agent: self.user_agent,
                redirects_max: self.redirects_max,
            }),
        }
    }
}
