//! A line for each response, when nothing more of it will be sent.
//!
//! ```text
//!   request ─▶ what the client said, escaped ─▶ handler ─▶ response sent or broken off ─▶ the line is composed
//!                                                                                              │ a copy under a short lock
//!                                                              OS thread of the log ◀── buffer ◀┘
//!                                                              write, once a second or when there is much
//! ```
//! What is here composes lines; `format` escapes, `journal` buffers and writes.
#![forbid(unsafe_code)]

mod file;
mod format;
mod journal;

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

pub use file::LogFile;

use super::{Middleware, Next, RequestId, User};
use crate::request::Request;
use crate::response::Response;
use crate::sent::Sent;
use format::{Form, Line};
use journal::Journal;

/// Writes a line for each response, with the status and the bytes that were really sent: also for a body that broke off, and
/// for a handler that panicked.
///
/// Lines go to anything that implements [`Write`]: [`LogFile`], [`std::io::stdout`], a function
/// ([`AccessLog::to_fn`]). They are gathered and written by an OS thread of the log's own once a second, or when 64 KiB have come
/// together, and when the handler is dropped, which is when [`Server::serve`](crate::Server::serve) returns. So no request waits for the disk,
/// and a crash of the process may lose a second. Where the sink takes too long, 4 MiB are kept; what comes on top is
/// counted, and the log facade is told how many lines were lost. At the end it has one second for what is left; a sink that stands
/// still (a pipe that nobody reads) holds up no shutdown, and its thread is abandoned.
///
/// What clients send is escaped, so that nothing in it can end a line, forge one or reach a terminal. Neither credentials nor
/// cookies are ever written; queries are, unless [`without_query`](AccessLog::without_query) says not to. A
/// [`RequestId`] is in JSON lines. Put this outermost.
///
/// Requests that the server refuses before any handler (malformed, too large, too slow) are not here but in the log facade.
///
/// ```no_run
/// use bast_server::middleware::{AccessLog, LogFile, RequestIds};
/// use bast_server::{Handler, Request, Server};
///
/// # fn main() -> std::io::Result<()> {
/// let file = LogFile::open("access.log")?;
/// let rotated = file.clone(); // rotated.reopen() after logrotate has moved the file away
/// let app = (|_: &mut Request| "hello").with(RequestIds::new()).with(AccessLog::json(file));
/// Server::bind("127.0.0.1:8080")?.serve(app)
/// # }
/// ```
pub struct AccessLog {
    form: Form,
    with_query: bool,
    journal: Arc<Journal>,
}

impl AccessLog {
    /// The Common Log Format: `peer - user [time] "GET /a HTTP/1.1" 200 1234`.
    #[must_use]
    pub fn common(sink: impl Write + Send + 'static) -> AccessLog {
        AccessLog::new(Form::Common, sink)
    }

    /// The same with `"referer" "user-agent"` behind it, as most programs that read logs expect it.
    #[must_use]
    pub fn combined(sink: impl Write + Send + 'static) -> AccessLog {
        AccessLog::new(Form::Combined, sink)
    }

    /// One JSON object per line: `time` (RFC 3339), `peer`, `user`, `method`, `target`, `version`, `host`, `route`, `status`,
    /// `bytes` (of the body, as sent), `complete` (false where it broke off), `duration_us`, `referer`, `user_agent`,
    /// `request_id`. What is not known is null.
    #[must_use]
    pub fn json(sink: impl Write + Send + 'static) -> AccessLog {
        AccessLog::new(Form::Json, sink)
    }

    fn new(form: Form, sink: impl Write + Send + 'static) -> AccessLog {
        AccessLog { form, with_query: true, journal: Arc::new(Journal::new(Box::new(sink))) }
    }

    /// A sink that gives whole lines to a function, many at a time. It runs on the log's OS thread and may block.
    pub fn to_fn(write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> impl Write + Send + 'static {
        struct Function<F>(F);
        impl<F: FnMut(&[u8]) -> io::Result<()>> Write for Function<F> {
            fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
                (self.0)(lines).map(|()| lines.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        Function(write)
    }

    /// Adds ` duration_us complete route request_id` to the lines of the common and the combined format, like `"/users/{id}" 1234
    /// + 7d44`, with `X` in place of `+` where the response broke off.
    #[must_use]
    pub fn extended(mut self) -> AccessLog {
        self.form = self.form.extended();
        self
    }

    /// Leaves out what follows the `?` of targets and referers, where tokens and names may be in queries.
    #[must_use]
    pub fn without_query(mut self) -> AccessLog {
        self.with_query = false;
        self
    }
}

impl Middleware for AccessLog {
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        let entry = Entry::of(request, self.form, self.with_query);
        let journal = Arc::clone(&self.journal);
        request.on_sent(move |sent| {
            let line = entry.line(sent);
            journal.append(&line);
        });
        next.run(request)
    }

    fn prepare(&self) -> io::Result<()> {
        self.journal.start()
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("form", &self.form).finish_non_exhaustive()
    }
}

/// What is known of a request before its handler runs.
struct Entry {
    form: Form,
    began: Instant,
    unix_seconds: u64,
    peer: Option<SocketAddr>,
    /// Escaped already, one behind the other.
    text: Vec<u8>,
    /// Where in `text` each of [`Form::fields`] ends; `None` where the request has none.
    ends: [Option<usize>; FIELDS],
}

/// Method, target, version, host, referer, user agent.
const FIELDS: usize = 6;

impl Entry {
    fn of(request: &Request<'_>, form: Form, with_query: bool) -> Entry {
        let shortened = |url: &[u8]| {
            let query = url.iter().position(|&byte| byte == b'?').filter(|_| !with_query);
            query.unwrap_or(url.len())
        };
        let target = request.target().as_bytes();
        let referer = request.header_bytes("Referer");
        let version = request.version().to_string();
        let method = request.method();
        let fields: [Option<&[u8]>; FIELDS] = [
            Some(method.as_str().as_bytes()),
            Some(&target[..shortened(target)]),
            Some(version.as_bytes()),
            request.host().map(str::as_bytes).filter(|_| form.is_json()),
            referer.map(|url| &url[..shortened(url)]).filter(|_| form.has_agents()),
            request.header_bytes("User-Agent").filter(|_| form.has_agents()),
        ];
        let mut text = Vec::with_capacity(fields.iter().flatten().map(|field| field.len()).sum());
        let ends = fields.map(|field| {
            form.escape(field?, &mut text);
            Some(text.len())
        });
        Entry {
            form,
            began: Instant::now(),
            unix_seconds: bast::time::coarse_unix_seconds(),
            peer: request.peer(),
            text,
            ends,
        }
    }

    fn line(&self, sent: &Sent<'_>) -> Vec<u8> {
        let mut from = 0;
        let fields = self.ends.map(|end| {
            let end = end?;
            let field = &self.text[from..end];
            from = end;
            Some(field)
        });
        let line = Line {
            fields,
            unix_seconds: self.unix_seconds,
            peer: self.peer,
            user: sent.extensions().get().map(User::as_str),
            request_id: sent.extensions().get().map(RequestId::as_str),
            route: sent.route(),
            status: sent.status(),
            body_bytes: sent.body_bytes(),
            is_whole: sent.is_whole(),
            duration: self.began.elapsed(),
        };
        line.compose(self.form)
    }
}

#[cfg(test)]
mod tests;
