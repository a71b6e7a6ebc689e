//! A client for the tests of programs: it gives requests to a handler without a socket (feature `testing`).
//!
//! ```
//! use bast_server::testing::TestClient;
//! use bast_server::{Error, Request, Router, Status};
//!
//! fn app() -> Router {
//!     Router::new().get("/double/{n}", |req: &mut Request| -> Result<String, Error> {
//!         let n: u32 = req.param("n")?;
//!         Ok((2 * n).to_string())
//!     })
//! }
//!
//! let client = TestClient::new(app());
//! let response = client.get("/double/21").send();
//! assert_eq!(response.status(), Status::OK);
//! assert_eq!(response.text(), "42");
//! assert_eq!(client.get("/double/x").send().status(), Status::BAD_REQUEST);
//! ```
//! It is the server's own code that runs: the request is written as bytes and parsed, the limits hold, a panic of the
//! handler is a 500, the response is composed and read back strictly. Only the transport is one in memory. Nothing
//! waits there, so the limits of time do not come into it.
//!
//! A handler that never parks needs no runtime: such tests are plain functions. Where a handler sleeps, locks or calls
//! somebody, the test runs in [`bast::run`]; the handler is then on the green thread of the test.
//!
//! What goes on for long (a stream to be read piece by piece, server-sent events, a WebSocket) needs somebody at the other end
//! meanwhile: for that there is [`TestServer`], with the [`client`](crate::client).
//!
//! The feature belongs into `[dev-dependencies]`: it gives every connection a second kind of transport to tell apart.
#![forbid(unsafe_code)]

mod request;
mod response;
mod server;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::handler::Handler;
use crate::http1::serve::serve;
use crate::http1::service::Service;
use crate::http1::wire::Wire;
use crate::message::Method;
use crate::settings::Settings;
use crate::timeout::Activity;
use crate::transport::twin::Twin;

pub use request::TestRequest;
pub use response::TestResponse;
pub use server::TestServer;

use response::Reader;

/// Calls a handler as a server would. See the [module](self).
pub struct TestClient {
    service: Service,
    peer: Option<SocketAddr>,
}

impl TestClient {
    /// A client of this handler, which is served with the default settings.
    ///
    /// # Panics
    /// If the handler cannot serve ([`Handler::prepare`]).
    #[must_use]
    pub fn new(handler: impl Handler) -> TestClient {
        TestClient::with_settings(handler, Settings::default()).expect("the handler cannot serve")
    }

    /// The same with settings; the limits and the name of the server are what counts here.
    ///
    /// # Errors
    /// Why the handler cannot serve ([`Handler::prepare`]).
    pub fn with_settings(handler: impl Handler, settings: Settings) -> io::Result<TestClient> {
        handler.prepare()?;
        Ok(TestClient { service: Service::new(Box::new(handler), &settings), peer: None })
    }

    /// The address that handlers see as that of the client. Without it they see none.
    #[must_use]
    pub fn with_peer(mut self, peer: SocketAddr) -> TestClient {
        self.peer = Some(peer);
        self
    }

    /// A `GET` of this target: a path, with a query perhaps, percent-encoded as it is to be sent.
    pub fn get(&self, target: &str) -> TestRequest<'_> {
        self.request(Method::Get, target)
    }

    /// A `HEAD` of this target.
    pub fn head(&self, target: &str) -> TestRequest<'_> {
        self.request(Method::Head, target)
    }

    /// A `POST` to this target.
    pub fn post(&self, target: &str) -> TestRequest<'_> {
        self.request(Method::Post, target)
    }

    /// A `PUT` to this target.
    pub fn put(&self, target: &str) -> TestRequest<'_> {
        self.request(Method::Put, target)
    }

    /// A `PATCH` of this target.
    pub fn patch(&self, target: &str) -> TestRequest<'_> {
        self.request(Method::Patch, target)
    }

    /// A `DELETE` of this target.
    pub fn delete(&self, target: &str) -> TestRequest<'_> {
        self.request(Method::Delete, target)
    }

    /// A request with this method.
    pub fn request(&self, method: Method<'_>, target: &str) -> TestRequest<'_> {
        TestRequest::new(self, method.as_str(), target)
    }

    /// Sends these requests over one connection, each when the one before has been answered. Where the server closes
    /// the connection, those behind have no response.
    ///
    /// ```
    /// # use bast_server::testing::TestClient;
    /// # use bast_server::Request;
    /// let client = TestClient::new(|req: &mut Request| req.path().to_owned());
    /// let responses = client.send_all([client.get("/a"), client.get("/b")]);
    /// assert_eq!(responses[1].text(), "/b");
    /// assert!(responses[1].keeps_alive());
    /// ```
    ///
    /// # Panics
    /// If what the server sends is malformed.
    #[must_use]
    pub fn send_all<'r>(&self, requests: impl IntoIterator<Item = TestRequest<'r>>) -> Vec<TestResponse> {
        let requests: Vec<TestRequest<'_>> = requests.into_iter().collect();
        let parts: Vec<Vec<u8>> = requests.iter().flat_map(TestRequest::parts).collect();
        let output = self.raw_parts(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let mut reader = Reader::new(&output);
        let mut responses = Vec::new();
        for request in &requests {
            if reader.is_empty() {
                break;
            }
            responses.push(reader.response(request.is_head()).unwrap_or_else(|error| {
                panic!("{request:?}: {error} in {:?}", String::from_utf8_lossy(&output))
            }));
        }
        assert!(reader.is_empty(), "bytes behind the last response: {:?}", String::from_utf8_lossy(&output));
        responses
    }

    /// Sends these bytes over a connection and closes it; returns all that the server sends.
    ///
    /// ```
    /// # use bast_server::testing::TestClient;
    /// # use bast_server::Request;
    /// let client = TestClient::new(|_: &mut Request| "never called");
    /// let output = client.raw(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n");
    /// assert!(output.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
    /// ```
    #[must_use]
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        self.raw_parts(&[bytes])
    }

    /// The same with bytes that arrive one part after the other, each received by a read of its own.
    #[must_use]
    pub fn raw_parts(&self, parts: &[&[u8]]) -> Vec<u8> {
        let twin = Twin::new(parts);
        let green = bast::is_green();
        let wire = Wire::new(Activity::new((&twin).into(), green.then(bast::current)));
        let serve = || serve(&wire, &self.service, self.peer);
        if green {
            bast::with_park_hook(&|| wire.flush_before_park(), serve);
        } else {
            serve();
        }
        twin.output_bytes()
    }
}

impl fmt::Debug for TestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClient").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
