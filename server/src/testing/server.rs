//! A server for one test, on a real socket.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use crate::handler::Handler;
use crate::server::{Server, ServerHandle};
use crate::settings::Settings;

/// A server on a port of this machine that the system chooses, for what goes on for long: streams that are read piece by
/// piece, WebSockets, clients of other libraries. It has a runtime of its own with one core, and ends when it is dropped;
/// what is under way is killed then.
///
/// ```
/// use bast_server::client::Client;
/// use bast_server::testing::TestServer;
/// use bast_server::{Request, Response, Router};
/// use std::io::Read;
///
/// let ticks = |_: &mut Request| {
///     Response::events(|events| {
///         for n in 1.. {
///             events.send(&*n.to_string())?;
///         }
///         Ok(())
///     })
/// };
/// let server = TestServer::start(Router::new().get("/ticks", ticks));
/// let mut response = Client::new().get(server.url("/ticks")).send()?;
/// let mut first = [0; 18];
/// response.body().read_exact(&mut first)?;
/// assert_eq!(&first, b"data: 1\n\ndata: 2\n\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TestServer {
    address: SocketAddr,
    handle: ServerHandle,
    serving: Option<JoinHandle<io::Result<()>>>,
}

impl TestServer {
    /// Serves this handler with the default settings.
    ///
    /// # Panics
    /// If it cannot.
    #[must_use]
    pub fn start(handler: impl Handler) -> TestServer {
        TestServer::with_settings(handler, Settings::default()).expect("the handler cannot be served")
    }

    /// The same with settings; but signals are left to the test.
    ///
    /// # Errors
    /// No address or OS thread can be had, or the handler cannot serve ([`Handler::prepare`]).
    pub fn with_settings(handler: impl Handler, settings: Settings) -> io::Result<TestServer> {
        handler.prepare()?;
        let settings = Settings { handle_signals: false, ..settings };
        let server = Server::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.settings(settings).workers(1);
        let (address, handle) = (server.local_addr()?, server.handle());
        let serving =
            thread::Builder::new().name("test server".into()).spawn(move || server.serve(handler))?;
        Ok(TestServer { address, handle, serving: Some(serving) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path, which begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // The second time kills what is under way.
        self.handle.shutdown();
        self.handle.shutdown();
        let ended = self.serving.take().map(JoinHandle::join);
        if !thread::panicking() {
            match ended {
                Some(Ok(Ok(()))) | None => {}
                Some(Ok(Err(error))) => panic!("the test server could not serve: {error}"),
                Some(Err(payload)) => std::panic::resume_unwind(payload),
            }
        }
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::mpsc;

    use super::*;
    use crate::client::Client;
    use crate::request::Request;
    use crate::response::Response;
    use crate::router::Router;

    /// Tells when it is dropped.
    struct Tells(mpsc::Sender<()>);

    impl Drop for Tells {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    #[test]
    fn a_stream_without_end_is_read_piecewise_and_ends_with_the_server() {
        let (tell, told) = mpsc::channel();
        let app = Router::new().get("/stream", move |_: &mut Request<'_>| {
            let tells = Tells(tell.clone());
            Response::stream("text/plain", move |body| {
                let _tells = tells;
                body.write_all(b"first")?;
                bast::sleep(std::time::Duration::from_secs(3600));
                Ok(())
            })
        });
        let server = TestServer::start(app);
        let mut response = Client::new().get(server.url("/stream")).send().expect("a response");
        let mut first = [0; 5];
        response.body().read_exact(&mut first).expect("the first piece");
        assert_eq!(&first, b"first");
        drop(server);
        assert!(response.body().read_to_end(&mut Vec::new()).is_err(), "it was not sent to its end");
        told.recv_timeout(std::time::Duration::from_secs(60)).expect("the producer is unwound");
    }

    #[cfg(feature = "websocket")]
    #[test]
    fn a_websocket_can_be_spoken_to() {
        use crate::websocket::{self, WebSocket};
        let app = Router::new().get("/echo", |request: &mut Request<'_>| {
            websocket::upgrade(request, |socket: &mut WebSocket| {
                while let Some(message) = socket.recv() {
                    let _ = socket.send(message);
                }
            })
        });
        let server = TestServer::start(app);
        let mut socket = Client::new().get(server.url("/echo")).websocket().expect("a WebSocket");
        socket.send("hello").expect("it is taken");
        let message = socket.recv().expect("an answer").expect("a message");
        assert_eq!(message.as_text(), Some("hello"));
    }

    #[test]
    fn a_handler_that_cannot_serve_is_an_error() {
        let app = Router::new().files("/", "/does/not/exist");
        let error = TestServer::with_settings(app, Settings::default()).expect_err("there are no files");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
