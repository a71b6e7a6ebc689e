//! One form for all errors.
#![forbid(unsafe_code)]

use std::error::Error as StdError;
use std::fmt;

use super::{Middleware, Next};
use crate::error::Error;
use crate::message::Status;
use crate::request::Request;
use crate::response::{Body, IntoResponse, Response};

/// Renders the errors of all that is inside of it: what handlers and extractors return as an [`Error`], the router's 404 and 405,
/// the refusals of other middleware.
///
/// It sees every response with a status from 400 on. One that has a content of its own, of another type than plain text, was
/// rendered by the program already and stays as it is. Of the others the status stays, unless the rendered one has another than
/// 200, and so do the header fields (`Allow`, `WWW-Authenticate`, `Retry-After`), unless the rendered one has the same.
///
/// What is refused before there is a request (a head that is malformed), and a panic that nobody catches, are answered by the server
/// itself. Inside of it, [`CatchPanic`](super::CatchPanic) with the answer `Status::INTERNAL_SERVER_ERROR` makes a panic one more
/// error to be rendered. [`Compress`](super::Compress) belongs outside of it.
///
/// ```
/// # #[cfg(feature = "json")] {
/// use bast_server::middleware::{CatchPanic, ErrorView, Errors};
/// use bast_server::{Handler, Request, Response, Router, Status};
///
/// fn problem(_: &mut Request, error: &ErrorView) -> Response {
///     let text = serde_json::json!({ "status": error.status().code(), "title": error.message() });
///     Response::bytes("application/problem+json", text.to_string())
/// }
///
/// let app = Router::new().get("/", |_: &mut Request| "hello");
/// let app = app.with(CatchPanic::new(|_, _| Status::INTERNAL_SERVER_ERROR)).with(Errors::new(problem));
/// # let _ = app;
/// # }
/// ```
pub struct Errors<F> {
    render: F,
}

impl<F, R> Errors<F>
where
    F: Fn(&mut Request<'_>, &ErrorView<'_>) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    /// Renders errors by this function.
    #[must_use]
    pub fn new(render: F) -> Errors<F> {
        Errors { render }
    }
}

impl<F, R> Middleware for Errors<F>
where
    F: Fn(&mut Request<'_>, &ErrorView<'_>) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        let response = next.run(request);
        if response.status().code() < 400 || is_rendered(&response) {
            return response;
        }
        let view = ErrorView { status: response.status(), error: response.cause() };
        let rendered = (self.render)(request, &view).into_response();
        if rendered.is_faulty() { rendered } else { merge(response, rendered) }
    }
}

impl<F> fmt::Debug for Errors<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Errors")
    }
}

/// Does it have a content that is more than a word for the status?
fn is_rendered(response: &Response) -> bool {
    match response.body() {
        Body::Empty => false,
        Body::Bytes(_) => {
            response.header("Content-Type").is_some_and(|media| !media.starts_with("text/plain"))
        }
        _ => true,
    }
}

/// The response with the content and the fields of the other one.
fn merge(mut response: Response, mut rendered: Response) -> Response {
    response = response.without_header("Content-Type").without_header("Content-Encoding");
    for (name, _) in rendered.headers().iter() {
        response = response.without_header(name);
    }
    for (name, value) in rendered.headers().iter() {
        response = response.with_added_header(name, value);
    }
    if rendered.status() != Status::OK {
        response = response.with_status(rendered.status());
    }
    if rendered.closes() {
        response = response.and_close();
    }
    response.with_body(rendered.take_body())
}

/// An error that is to be rendered.
#[derive(Debug)]
pub struct ErrorView<'e> {
    status: Status,
    error: Option<&'e Error>,
}

impl<'e> ErrorView<'e> {
    /// The status it is answered with.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// What the client may be told: the message of the [`Error`], or what the status is called.
    #[must_use]
    pub fn message(&self) -> &'e str {
        self.error.and_then(Error::message).unwrap_or(self.status.reason())
    }

    /// The cause, which is not for clients.
    #[must_use]
    pub fn source(&self) -> Option<&'e (dyn StdError + 'static)> {
        self.error.and_then(Error::source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::Handler;
    use crate::middleware::CatchPanic;
    use crate::middleware::tests::ask;
    use crate::router::Router;

    fn app() -> impl Handler {
        let app = Router::new()
            .get("/n/{id}", |request: &mut Request<'_>| {
                let id: u32 = request.param("id")?;
                Ok::<_, Error>(id.to_string())
            })
            .get("/broken", |_: &mut Request<'_>| Err::<(), _>(std::io::Error::other("secret")))
            .get("/panic", |_: &mut Request<'_>| -> Response { panic!("a bug") })
            .get("/own", |_: &mut Request<'_>| Response::html("<p>own").with_status(Status::GONE));
        let app = app.with(CatchPanic::new(|_, _| Status::INTERNAL_SERVER_ERROR));
        app.with(Errors::new(|_: &mut Request<'_>, error: &ErrorView<'_>| {
            let source = error.source().map(ToString::to_string);
            Response::bytes("x/error", format!("<{}|{}|{source:?}>", error.status().code(), error.message()))
                .with_header("X-Rendered", "yes")
        }))
    }

    #[test]
    fn all_errors_are_rendered_in_one_place() {
        for (request, status, content) in [
            ("GET /broken", 500, "<500|Internal Server Error|Some(\"secret\")>"),
            ("GET /nowhere", 404, "<404|Not Found|None>"),
            ("POST /own", 405, "<405|Method Not Allowed|None>"),
            ("GET /panic", 500, "<500|Internal Server Error|None>"),
        ] {
            let answer = ask(app(), &format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.ends_with(content), "{answer}");
            assert!(
                answer.contains("Content-Type: x/error\r\n") && answer.contains("X-Rendered: yes\r\n"),
                "{answer}"
            );
            assert_eq!(answer.contains("Allow: "), status == 405, "{answer}");
        }
        let refused = ask(app(), "GET /n/x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains("<400|"), "{refused}");
        assert!(!refused.contains("<400|Bad Request|"), "what the extractor says: {refused}");
    }

    #[test]
    fn what_is_rendered_already_and_what_is_no_error_stay() {
        let own = ask(app(), "GET /own HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(own.starts_with("HTTP/1.1 410 ") && own.ends_with("<p>own"), "{own}");
        let well = ask(app(), "GET /n/7 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(well.starts_with("HTTP/1.1 200 ") && well.ends_with("\r\n\r\n7"), "{well}");
    }
}
