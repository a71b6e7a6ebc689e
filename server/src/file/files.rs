//! The handler of static files: a root, a request and its conditions become a response.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::conditional::{Conditions, Verdict};
use super::entry::Entry;
use super::root::{Missing, Root};
use crate::coding::{Accepted, Choice, Coding};
use crate::error::Error;
use crate::handler::Handler;
use crate::message::{Method, Status};
use crate::percent;
use crate::request::Request;
use crate::response::{Body, FilePart, IntoResponse, Response};

/// Answers GET and HEAD with the files below a directory, with their types, validators and single ranges
/// (RFC 9110 §13 and §14), and OPTIONS with a 204 that says so. A request for several ranges gets the whole file.
///
/// Which names are served and which never are is said in [`path`](super::path); what changes below the root is seen
/// within [`TTL_SECONDS`](super::TTL_SECONDS).
///
/// It is a [`Handler`]; [`Router::files`](crate::Router::files) puts it below a prefix.
#[derive(Debug)]
pub struct Files {
    root: Root,
    /// What paths begin with that are looked for here; it does not end in a slash.
    prefix: Box<str>,
    /// Files may have compressed ones beside them.
    precompressed: bool,
    /// Pages that are not there are the program's that the index starts.
    single_page: bool,
}

impl Files {
    /// The files below this directory.
    ///
    /// # Errors
    /// The directory cannot be opened: the message names it.
    pub fn open(root: impl AsRef<Path>) -> io::Result<Files> {
        Ok(Files {
            root: Root::open(root)?,
            prefix: Box::default(),
            precompressed: false,
            single_page: false,
        })
    }

    /// Serves them below this path instead of below `/`: with `/static`, the request `/static/a.css` gets the
    /// file `a.css`. Requests for other paths get a 404. Within a [mount](crate::Router::mount) the path is the rest of it, and
    /// this is not needed.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Files {
        self.prefix = prefix.trim_end_matches('/').into();
        self
    }

    /// Sends `a.css.br`, `a.css.zst` or `a.css.gz` in place of `a.css` to clients that take it (RFC 9110 §12.5.3), if it
    /// is there and not older. Both say `Vary: Accept-Encoding`, each has a tag of its own, and conditions and ranges are those of
    /// what is sent.
    ///
    /// Whether there is such a file is asked for each request that could have it; only files that are there are cached.
    ///
    /// ```
    /// use bast_server::Router;
    /// use bast_server::file::Files;
    /// # fn main() -> std::io::Result<()> {
    /// let app = Router::new().files("/static", Files::open(".")?.precompressed());
    /// # let _ = app;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn precompressed(mut self) -> Files {
        self.precompressed = true;
        self
    }

    /// Answers a path that no file has by the root's `index.html`, with status 200: for an application of a single page,
    /// which reads the path itself, so that its links can be opened and reloaded.
    ///
    /// A file that is missing is still a 404: a path with a dot in its last segment is taken for one (`/assets/app.js`), and so
    /// is one with a segment that begins with a dot (`/.git/config`). A browser that got a page in place of a script would
    /// tell of a syntax error and not of what is missing. A page of the application thus needs a path without a dot at its end.
    ///
    /// Beside it, give the router of an interface that programs call a fallback of its own: below its prefix that
    /// comes before files of a shorter one, and nobody gets a page in place of JSON.
    ///
    /// ```no_run
    /// use bast_server::file::Files;
    /// use bast_server::{Request, Router, Server, Status};
    /// # fn main() -> std::io::Result<()> {
    /// let api = Router::new()
    ///     .get("/time", |_: &mut Request| "now")
    ///     .fallback(|_: &mut Request| Status::NOT_FOUND);
    /// let app = Router::new().nest("/api", api).files("/", Files::open("dist")?.single_page());
    /// Server::bind("127.0.0.1:8080")?.serve(app)
    /// # }
    /// ```
    #[must_use]
    pub fn single_page(mut self) -> Files {
        self.single_page = true;
        self
    }

    /// The same file in the best coding that the client takes and that is there.
    fn coded(&self, request: &Request<'_>, target: &str, file: &Entry) -> Option<(Coding, Rc<Entry>)> {
        let path = target.split('?').next().unwrap_or_default();
        let index = if path.ends_with('/') { "index.html" } else { "" };
        let accepted = Accepted::from_fields(request.headers());
        let mut left = BESIDE.to_vec();
        while let Choice::Coding(coding) = accepted.choose(left.iter().map(|(coding, _)| *coding)) {
            let at = left.iter().position(|(known, _)| *known == coding)?;
            let (_, suffix) = left.remove(at);
            let name = format!("{path}{index}{suffix}");
            if let Ok(found) = self.root.find(name.as_bytes())
                && found.modified_unix_seconds() >= file.modified_unix_seconds()
            {
                return Some((coding, found));
            }
        }
        None
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
        let below = |rest: &&str| rest.is_empty() || rest.starts_with('/');
        let mut target = request.subpath().strip_prefix(&*self.prefix).filter(below);
        let mut found = match target {
            None => Err(Missing::NotFound),
            Some("") => Err(Missing::Directory),
            Some(target) => self.root.find(target.as_bytes()),
        };
        if self.single_page && matches!(found, Err(Missing::NotFound)) && target.is_some_and(is_page) {
            target = Some("/index.html");
            found = self.root.find(b"/index.html");
        }
        let verdict =
            |file: &Entry| Conditions::from_fields(request.headers()).verdict(is_get, &file.representation());
        match found {
            Ok(file) if self.precompressed => {
                let content_type = file.content_type();
                let (coding, file) = match self.coded(request, target.unwrap_or_default(), &file) {
                    Some((coding, coded)) => (Some(coding), coded),
                    None => (None, file),
                };
                answer_coded(coding, content_type, verdict(&file), file)
            }
            Ok(file) => {
                let verdict = verdict(&file);
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

/// What a program gives [`Router::files`](crate::Router::files): the path of a directory, or [`Files`] that were opened and set up.
pub trait IntoFiles {
    /// The files.
    ///
    /// # Errors
    /// The directory cannot be opened: the message names it.
    fn into_files(self) -> io::Result<Files>;
}

impl IntoFiles for Files {
    fn into_files(self) -> io::Result<Files> {
        Ok(self)
    }
}

impl<P: AsRef<Path>> IntoFiles for P {
    fn into_files(self) -> io::Result<Files> {
        Files::open(self)
    }
}

/// Is this, where there is no such file, a page of an application, and not a file that is missing? `path` is well-formed.
fn is_page(path: &str) -> bool {
    let is_file = |segment: &str| segment.starts_with('.');
    // What is no text names nothing that an application could show.
    let Some(decoded) = percent::decode(path) else { return false };
    let mut segments = decoded.rsplit('/');
    !segments.next().is_some_and(|last| last.contains('.')) && !segments.any(is_file)
}

/// The endings of compressed files, the smaller ones first.
const BESIDE: &[(Coding, &str)] = &[(Coding::Brotli, ".br"), (Coding::Zstd, ".zst"), (Coding::Gzip, ".gz")];

/// The response with a file for which the client's codings mattered, of this type when it is decoded.
fn answer_coded(coding: Option<Coding>, content_type: &str, verdict: Verdict, file: Rc<Entry>) -> Response {
    let has_content = matches!(verdict, Verdict::Whole | Verdict::Part { .. });
    let response = answer(file, verdict).with_added_header("Vary", "Accept-Encoding");
    match coding.filter(|_| has_content) {
        Some(coding) => {
            response.with_header("Content-Type", content_type).with_header("Content-Encoding", coding.name())
        }
        None => response,
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

    #[test]
    fn a_path_of_a_single_page_is_its_index_and_a_missing_asset_is_missing() {
        use crate::http1::serve::tests::codes;
        use crate::middleware::tests::ask;
        let scratch = Scratch::new();
        for (name, content) in
            [("index.html", "the page"), ("assets/app.js", "the program"), ("index.html.gz", "packed")]
        {
            scratch.write(name, content.as_bytes());
        }
        let request = |method: &str, target: &str| {
            let files = Files::open(scratch.path()).expect("a directory").single_page().precompressed();
            let fields = "Host: a\r\nConnection: close\r\n";
            ask(files.below("/app"), &format!("{method} /app{target} HTTP/1.1\r\n{fields}\r\n"))
        };
        for (target, code, content) in [
            ("/", 200, "the page"),
            ("/users/7", 200, "the page"),
            ("/users/7/", 200, "the page"),
            ("/v1.2/users?tab=a.b", 200, "the page"),
            ("/caf%C3%A9", 200, "the page"),
            ("/assets/app.js", 200, "the program"),
            ("/assets/old.js", 404, "404 Not Found\n"),
            ("/assets/old%2Ejs", 404, "404 Not Found\n"),
            ("/%FF.js", 404, "404 Not Found\n"),
            ("/users/%FF", 404, "404 Not Found\n"),
            ("/.git/config", 404, "404 Not Found\n"),
            ("/%2Egit/config", 404, "404 Not Found\n"),
        ] {
            let output = request("GET", target);
            assert_eq!(codes(&output), [code], "{target}");
            assert!(output.ends_with(&format!("\r\n\r\n{content}")), "{target}: {output}");
        }
        assert_eq!(codes(&request("POST", "/users/7")), [405]);
        assert_eq!(codes(&request("HEAD", "/users/7")), [200]);
    }

    #[test]
    fn what_lies_compressed_beside_a_file_is_sent_to_who_takes_it() {
        use crate::http1::serve::tests::codes;
        use crate::middleware::tests::{ask, field};
        let scratch = Scratch::new();
        for (name, content) in [
            ("a.css", "plain"),
            ("a.css.gz", "by gzip"),
            ("a.css.br", "by brotli"),
            ("docs/index.html", "plain index"),
            ("docs/index.html.zst", "zstd index"),
            ("stale.js.gz", "old"),
            ("alone.txt.gz", "x"),
        ] {
            scratch.write(name, content.as_bytes());
        }
        let old = std::fs::File::open(scratch.path().join("stale.js.gz")).expect("a file");
        let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        old.set_modified(long_ago).expect("its time is set");
        scratch.write("stale.js", b"new");
        let get = |target: &str, fields: &str| {
            let files = Files::open(scratch.path()).expect("a directory").precompressed();
            ask(files.below("/s"), &format!("GET /s{target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
        };
        for (target, accepts, coding, content) in [
            ("/a.css", "gzip, br", Some("br"), "by brotli"),
            ("/a.css?v=1", "gzip", Some("gzip"), "by gzip"),
            ("/a.css", "gzip, br;q=0.5", Some("gzip"), "by gzip"),
            ("/a.css", "zstd", None, "plain"),
            ("/a.css", "zstd, gzip;q=0.1", Some("gzip"), "by gzip"),
            ("/a.css", "identity, br;q=0.1", None, "plain"),
            ("/a.css", "", None, "plain"),
            ("/docs/", "zstd, br", Some("zstd"), "zstd index"),
            ("/stale.js", "gzip", None, "new"),
        ] {
            let output = get(target, &format!("Accept-Encoding: {accepts}\r\n"));
            assert_eq!(field(&output, "Content-Encoding"), coding, "{target} {accepts}");
            assert_eq!(field(&output, "Vary"), Some("Accept-Encoding"), "{target} {accepts}");
            assert!(output.ends_with(&format!("\r\n\r\n{content}")), "{target} {accepts}: {output}");
            let content_type = field(&output, "Content-Type").expect("a type");
            assert!(content_type.starts_with("text/"), "{target}: {content_type}");
        }
        assert_eq!(codes(&get("/alone.txt", "Accept-Encoding: gzip\r\n")), [404]);
        let (plain, coded) = (get("/a.css", ""), get("/a.css", "Accept-Encoding: gzip\r\n"));
        let tag = field(&coded, "ETag").expect("a tag");
        assert_ne!(Some(tag), field(&plain, "ETag"), "they are different bytes");
        let again = get("/a.css", &format!("Accept-Encoding: gzip\r\nIf-None-Match: {tag}\r\n"));
        assert_eq!((codes(&again), field(&again, "Vary")), (vec![304], Some("Accept-Encoding")));
        assert_eq!(field(&again, "Content-Encoding"), None);
        let part = get("/a.css", "Accept-Encoding: gzip\r\nRange: bytes=3-\r\n");
        assert_eq!((codes(&part), field(&part, "Content-Range")), (vec![206], Some("bytes 3-6/7")));
        assert!(part.ends_with("gzip") && field(&part, "Content-Encoding") == Some("gzip"), "{part}");
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
    fn only_paths_below_the_prefix_are_looked_for() {
        use crate::http1::serve::tests::codes;
        use crate::middleware::tests::ask;
        let scratch = Scratch::new();
        scratch.write("a", b"");
        for (path, code) in [
            ("/static/a", 200),
            ("/static", 301),
            ("/static//a", 200),
            ("/statica", 404),
            ("/static%2fa", 404),
            ("/stati", 404),
            ("/a", 404),
            ("/x/static/a", 404),
        ] {
            let files = Files::open(scratch.path()).expect("a directory").below("/static/");
            assert_eq!(
                codes(&ask(files, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))),
                [code],
                "{path}"
            );
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
