//! The handler of static files: a root, a request and its conditions become a response.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::conditional::{Conditions, Verdict};
use super::entry::Entry;
use super::root::{Missing, Root};
use crate::error::Error;
use crate::handler::Handler;
use crate::message::{Method, Status};
use crate::request::Request;
use crate::response::{Body, FilePart, IntoResponse, Response};

/// Answers GET and HEAD with the files below a directory, with their types, validators and single ranges
/// (RFC 9110 §13 and §14), and OPTIONS with a 204 that says so. A request for several ranges gets the whole file.
///
/// Which names are served and which never are is said in [`path`](super::path); what changes below the root is seen
/// within [`TTL_SECONDS`](super::TTL_SECONDS).
#[derive(Debug)]
pub struct Files {
    root: Root,
    /// What paths begin with that are looked for here; it does not end in a slash.
    prefix: Box<str>,
}

impl Files {
    /// The files below this directory.
    ///
    /// # Errors
    /// The directory cannot be opened: the message names it.
    pub fn open(root: impl AsRef<Path>) -> io::Result<Files> {
        Ok(Files { root: Root::open(root)?, prefix: Box::default() })
    }

    /// Serves them below this path instead of below `/`: with `/static`, the request `/static/a.css` gets the
    /// file `a.css`. Requests for other paths get a 404. Within a [mount](crate::Router::mount) the path is the rest of it, and
    /// this is not needed.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Files {
        self.prefix = prefix.trim_end_matches('/').into();
        self
    }

    fn respond(&self, request: &Request<'_>) -> Response {
        let is_get = match request.method() {
            Method::Get => true,
            Method::Head => false,
            Method::Options => return Response::new(Status::NO_CONTENT).with_header("Allow", ALLOWED),
            _ => {
                let refusal = Error::new(Status::METHOD_NOT_ALLOWED, "a file can only be read");
                return refusal.into_response().with_header("Allow", ALLOWED);
            }
        };
        let found = match request.subpath().strip_prefix(&*self.prefix) {
            None => Err(Missing::NotFound),
            Some("") => Err(Missing::Directory),
            Some(target) => self.root.find(target.as_bytes()),
        };
        match found {
            Ok(file) => {
                let verdict =
                    Conditions::from_fields(request.headers()).verdict(is_get, &file.representation());
                answer(file, verdict)
            }
            Err(missing) => explain(missing, request.path(), request.query()),
        }
    }
}

/// The methods that a file answers, found or not.
const ALLOWED: &str = "GET, HEAD, OPTIONS";

impl Handler for Files {
    fn handle(&self, request: &mut Request<'_>) -> Response {
        self.respond(request)
    }
}

/// The response with a file that was found.
fn answer(file: Rc<Entry>, verdict: Verdict) -> Response {
    let (status, offset, len) = match verdict {
        Verdict::Whole => (Status::OK, 0, file.len()),
        Verdict::Part { offset, len } => (Status::PARTIAL_CONTENT, offset, len),
        // RFC 9110 §15.4.5: the validators again, and nothing else that a 200 would say of the content.
        Verdict::NotModified => return with_validators(Response::new(Status::NOT_MODIFIED), &file),
        Verdict::PreconditionFailed => {
            let refusal = Error::new(Status::PRECONDITION_FAILED, "the file is another one by now");
            return with_validators(refusal.into_response(), &file);
        }
        Verdict::Unsatisfiable => {
            let refusal = Error::new(Status::RANGE_NOT_SATISFIABLE, "the file is shorter than that");
            return refusal.into_response().with_header("Content-Range", format!("bytes */{}", file.len()));
        }
    };
    let response = Response::new(status).with_own_header("Content-Type", file.content_type());
    let response = with_validators(response, &file).with_own_header("Accept-Ranges", "bytes");
    let response = match verdict {
        Verdict::Part { offset, len } => {
            let range = format!("bytes {}-{}/{}", offset, offset + len - 1, file.len());
            response.with_own_header("Content-Range", &range)
        }
        _ => response,
    };
    response.with_body(Body::File(FilePart { file, offset, len }))
}

fn with_validators(response: Response, file: &Entry) -> Response {
    response.with_own_header("Last-Modified", file.last_modified()).with_own_header("ETag", file.etag())
}

/// The response where no file was found for `path`.
fn explain(missing: Missing, path: &str, query: Option<&str>) -> Response {
    match missing {
        Missing::Malformed => Error::bad_request("malformed path").into_response(),
        Missing::NotFound => Error::not_found().into_response(),
        Missing::Directory => to_directory(path, query),
        Missing::Unavailable(error) => Error::new(Status::SERVICE_UNAVAILABLE, "the file cannot be opened")
            .caused_by(error)
            .into_response(),
    }
}

/// Sends the client to the same path with a slash at its end, so that relative links in the index work. The
/// reference is relative and begins with a dot: whatever the path is, it stays on this host, and a colon in it makes
/// no scheme (RFC 3986 §4.2).
fn to_directory(path: &str, query: Option<&str>) -> Response {
    let name = path.rsplit('/').next().unwrap_or_default();
    let location = match query {
        Some(query) => format!("./{name}/?{query}"),
        None => format!("./{name}/"),
    };
    Response::new(Status::MOVED_PERMANENTLY).with_header("Location", location)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::tests::Scratch;

    fn entry() -> Rc<Entry> {
        let scratch = Scratch::new();
        scratch.write("a.txt", b"0123456789");
        Root::open(scratch.path())
            .and_then(|root| root.find(b"/a.txt").map_err(io::Error::other))
            .expect("a file")
    }

    fn headers(response: &Response) -> [Option<&str>; 5] {
        ["Content-Type", "Last-Modified", "ETag", "Accept-Ranges", "Content-Range"]
            .map(|name| response.header(name))
    }

    fn part(response: &Response) -> Option<(u64, u64)> {
        match response.body() {
            Body::File(part) => Some((part.offset, part.len)),
            _ => None,
        }
    }

    #[test]
    fn each_verdict_has_its_status_fields_and_part() {
        let file = entry();
        let (text, modified, etag) =
            (Some("text/plain; charset=utf-8"), Some(file.last_modified()), Some(file.etag()));
        for (verdict, status, fields, sent) in [
            (Verdict::Whole, Status::OK, [text, modified, etag, Some("bytes"), None], Some((0, 10))),
            (
                Verdict::Part { offset: 7, len: 3 },
                Status::PARTIAL_CONTENT,
                [text, modified, etag, Some("bytes"), Some("bytes 7-9/10")],
                Some((7, 3)),
            ),
            (Verdict::NotModified, Status::NOT_MODIFIED, [None, modified, etag, None, None], None),
            (
                Verdict::PreconditionFailed,
                Status::PRECONDITION_FAILED,
                [text, modified, etag, None, None],
                None,
            ),
            (
                Verdict::Unsatisfiable,
                Status::RANGE_NOT_SATISFIABLE,
                [text, None, None, None, Some("bytes */10")],
                None,
            ),
        ] {
            let response = answer(Rc::clone(&file), verdict);
            assert_eq!(response.status(), status);
            assert_eq!(headers(&response), fields, "{verdict:?}");
            assert_eq!(part(&response), sent, "{verdict:?}");
        }
    }

    #[test]
    fn what_is_missing_is_explained_without_telling_why() {
        for (missing, status) in [
            (Missing::Malformed, Status::BAD_REQUEST),
            (Missing::NotFound, Status::NOT_FOUND),
            (Missing::Unavailable(io::Error::other("secret")), Status::SERVICE_UNAVAILABLE),
        ] {
            let response = explain(missing, "/a", None);
            assert_eq!(response.status(), status);
            let Body::Bytes(body) = response.body() else { panic!("a short text") };
            assert!(!String::from_utf8_lossy(body.as_slice()).contains("secret"));
        }
    }

    #[test]
    fn a_directory_is_moved_behind_its_slash_and_never_to_another_host() {
        for (path, query, location) in [
            ("/docs", None, "./docs/"),
            ("/a/docs", Some("v=1&w"), "./docs/?v=1&w"),
            ("//example.com", None, "./example.com/"),
            ("/http:%2F%2Fexample.com", None, "./http:%2F%2Fexample.com/"),
            ("/a//b:c", None, "./b:c/"),
        ] {
            let response = explain(Missing::Directory, path, query);
            assert_eq!(response.status(), Status::MOVED_PERMANENTLY);
            assert_eq!(response.header("Location"), Some(location));
        }
    }
}
