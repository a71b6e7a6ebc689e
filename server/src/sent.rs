//! What became of a response, told when nothing more of it will be sent.
//!
//! ```text
//!   handler ──▶ response ──▶ head and body written ──▶ told, with what was really sent
//!      └─ killed, no response ─────────────────────▶ told, without a status
//! ```
//! An access log and counters cannot know this while the handler runs: a body may be produced later, break off, or be
//! replaced by a 500. So they leave a function with the request ([`Request::on_sent`](crate::Request::on_sent)).
#![forbid(unsafe_code)]

use std::fmt;

use crate::extensions::Extensions;
use crate::hooks::guarded;
use crate::message::Status;

/// The end of an exchange; see [`Request::on_sent`](crate::Request::on_sent).
#[derive(Debug)]
pub struct Sent<'a> {
    pub(crate) outcome: Outcome,
    pub(crate) route: Option<&'static str>,
    pub(crate) extensions: &'a Extensions,
}

/// How far a response has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `None` before there is a response.
    pub(crate) status: Option<Status>,
    pub(crate) body_bytes: u64,
    pub(crate) is_whole: bool,
}

impl Sent<'_> {
    /// The status that was sent: the server's own 500 where the handler panicked. `None` where there is no response,
    /// because the thread of the connection was killed: its client is sent a bare 503 behind that, if it can be.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.outcome.status
    }

    /// How many bytes of the body were handed to the kernel or are about to be, together with what frames its chunks.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.outcome.body_bytes
    }

    /// Was all of it sent? If not the client closed, took too long, or the body broke off.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.outcome.is_whole
    }

    /// The pattern of the route that answered, as by [`Request::route`](crate::Request::route).
    #[must_use]
    pub fn route(&self) -> Option<&'static str> {
        self.route
    }

    /// What middleware and handlers left with the request.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        self.extensions
    }
}

/// What waits for the end of an exchange.
pub(crate) type Observer = Box<dyn FnOnce(&Sent<'_>)>;

/// What few requests have, apart, so that the others pay one word for it.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) extensions: Extensions,
    pub(crate) observers: Vec<Observer>,
    /// The route, once the handler is done.
    pub(crate) route: Option<&'static str>,
    /// As far as it is known; told when this is dropped.
    pub(crate) outcome: Outcome,
}

impl Drop for Extras {
    fn drop(&mut self) {
        let observers = std::mem::take(&mut self.observers);
        let sent = Sent { outcome: self.outcome, route: self.route, extensions: &self.extensions };
        // The thread may be unwinding already, because it was killed: a second panic would end the process. And a kill that comes now
        // must not cost those that are still to be told.
        bast::mask(|_| {
            for observer in observers {
                guarded("on_sent", || observer(&sent));
            }
        });
    }
}

impl fmt::Debug for Extras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extras")
            .field("extensions", &self.extensions)
            .field("observers", &self.observers.len())
            .field("outcome", &self.outcome)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Write as _;
    use std::rc::Rc;

    use super::*;
    use crate::handler::Handler;
    use crate::http1::serve::tests::{run, service};
    use crate::request::Request;
    use crate::response::Response;
    use crate::router::Router;
    use crate::transport::twin::Twin;
    use crate::{Middleware, Next};

    /// Status, bytes of the body, whether it is whole, and the route.
    type Told = (Option<u16>, u64, bool, Option<&'static str>);

    /// Keeps what is told. The tests are single-threaded, middleware is not.
    struct Watch;

    thread_local! {
        static TOLD: RefCell<Vec<Told>> = const { RefCell::new(Vec::new()) };
    }

    impl Middleware for Watch {
        fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
            request.on_sent(|sent| {
                let status = sent.status().map(Status::code);
                let told = (status, sent.body_bytes(), sent.is_whole(), sent.route());
                TOLD.with(|all| all.borrow_mut().push(told));
            });
            next.run(request)
        }
    }

    /// What was told of each request.
    fn told(handler: impl Handler, input: &[u8]) -> Vec<Told> {
        let twin: Rc<Twin> = Twin::new(&[input]);
        TOLD.take();
        run(&twin, &service(handler.with(Watch)));
        TOLD.take()
    }

    #[test]
    fn the_end_of_each_kind_of_response_is_told_with_its_bytes() {
        let app = Router::new()
            .get("/bytes/{n}", |request: &mut Request<'_>| -> Result<Vec<u8>, crate::Error> {
                Ok(vec![b'x'; request.param("n")?])
            })
            .get("/stream", |_: &mut Request<'_>| Response::stream("a/b", |body| body.write_all(b"12345")))
            .get("/broken", |_: &mut Request<'_>| {
                Response::stream("a/b", |body| {
                    body.write_all(b"12345")?;
                    body.flush()?;
                    Err(std::io::Error::other("no more"))
                })
            })
            .get("/replaced", |_: &mut Request<'_>| {
                Response::stream("a/b", |body| {
                    body.write_all(b"12345")?;
                    Err(std::io::Error::other("nothing was sent"))
                })
            })
            .get("/panic", |_: &mut Request<'_>| -> Response { panic!("a handler that fails") });
        let app: std::sync::Arc<dyn Handler> = std::sync::Arc::new(app);
        for (method, path, expected) in [
            ("GET", "/bytes/5", (Some(200), 5, true, Some("/bytes/{n}"))),
            ("GET", "/bytes/100000", (Some(200), 100_000, true, Some("/bytes/{n}"))),
            ("HEAD", "/bytes/5", (Some(200), 0, true, Some("/bytes/{n}"))),
            ("GET", "/stream", (Some(200), 5, true, Some("/stream"))),
            ("GET", "/broken", (Some(200), 5, false, Some("/broken"))),
            ("GET", "/replaced", (Some(500), 26, true, Some("/replaced"))),
            ("GET", "/panic", (Some(500), 26, true, Some("/panic"))),
            ("GET", "/nothing", (Some(404), 14, true, None)),
        ] {
            let app = std::sync::Arc::clone(&app);
            let request = format!("{method} {path} HTTP/1.0\r\nHost: a\r\n\r\n");
            let handler = move |request: &mut Request<'_>| app.handle(request);
            assert_eq!(told(handler, request.as_bytes()), [expected], "{method} {path}");
        }
    }

    #[test]
    fn pipelined_responses_are_told_apart() {
        let echo = |request: &mut Request<'_>| request.path().to_owned();
        let requests = ["/", "/12", "/1234"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let bytes: Vec<u64> = told(echo, requests.concat().as_bytes()).iter().map(|told| told.1).collect();
        assert_eq!(bytes, [1, 3, 5]);
    }
}
